"""Packing: a Round as one compact, self-checking blob, and back, bit for bit.

Layout: a format byte, then one zstd frame (level 1, with content checksum) around a MessagePack array.
Each column is reduced to integers whose span is small (rows and times by their differences, decimal
values such as 81.2 by their digits), stored in the fewest bits that hold the span, plane by plane: first
the lowest bit of all, then the next, so that zstd finds the planes that hardly change. Where more than 16
bits are needed, the planes are of bytes: as small and much quicker.
"""

import threading
from typing import Any

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from ingest.readings import GatewayStatus, Readings, Round, Values

FORMAT = 1
"""First byte of a blob. A new layout takes the next number; unpack goes on reading the old ones."""

LIMIT = 512 << 20
"""Most bytes that a round may have before compression: some 25 million readings of the worst kind."""

Integers = NDArray[np.int64]


class PackError(ValueError):
    """The blob is truncated, altered, or of a format that this version cannot read."""


class _Column(msgspec.Struct, array_like=True, frozen=True):
    """Integers ``low + unsigned(width bits)``; width 0 means that all of them are ``low``."""

    width: int
    low: int
    planes: bytes


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    """A Round on the way into its blob. ``row0`` and ``time0`` are where the differences start."""

    time: int
    listening: bool
    version: str | None
    gateways: tuple[int, ...]
    online: tuple[bool, ...]
    digests: bytes
    count: int
    row0: int = 0
    time0: int = 0
    rows: _Column | None = None
    times: _Column | None = None
    qualities: _Column | None = None
    values: _Column | None = None
    scale: int = -1  # value = integer / 10**scale; -1: the integer is the float's bits
    odd_places: bytes = b""  # uint32: values that are not such a decimal, e.g. NaN and -0.0
    odd_bits: bytes = b""  # int64: their bits


class _Zstd(threading.local):
    """Compressor and decompressor: costly to make, and not to be shared between threads."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd = _Zstd()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode

_UNSIGNED: dict[int, np.dtype[Any]] = {n: np.dtype(f"<u{n}") for n in (1, 2, 4, 8)}
_TENS = np.array([[10.0**n] for n in range(7)])
_SAMPLE = 64


def pack(round_: Round) -> bytes:
    """The round as a blob.

    Raises:
        ValueError: the round is larger than LIMIT.
    """
    readings = round_.readings
    count = len(readings)
    status = round_.status
    head = (
        round_.time,
        round_.listening,
        round_.version,
        tuple(s.gateway for s in status),
        tuple(s.online for s in status),
        round_.digests,
        count,
    )
    if count:
        row = readings.row.astype(np.int64)
        time = readings.time
        scale, values, odd_places, odd_bits = _decimals(readings.value)
        packed = _Packed(
            *head,
            int(row[0]),
            int(time[0]),
            _column(row[1:] - row[:-1]),
            _column(time[1:] - time[:-1]),
            _column(readings.quality.astype(np.int64)),
            _column(values),
            scale,
            odd_places,
            odd_bits,
        )
    else:
        packed = _Packed(*head)
    body = _encode(packed)
    if len(body) > LIMIT:
        raise ValueError(f"a round of {count} readings is too large to journal; split it")
    return b"%c%b" % (FORMAT, _zstd.compress(body))


def unpack(blob: bytes) -> Round:
    """The round that was packed.

    Raises:
        PackError: the blob is truncated, altered, or of a format that this version cannot read.
    """
    packed = _open(blob)
    status = tuple(map(GatewayStatus, packed.gateways, packed.online))
    try:
        readings = _readings(packed)
    except (ValueError, IndexError) as error:
        raise PackError(f"the columns of the round do not fit together: {error}") from error
    return Round(packed.time, packed.listening, packed.version, status, readings, packed.digests)


def digests(blob: bytes) -> bytes:
    """Only the message digests of a packed round: quicker than unpack. Raises PackError likewise."""
    return _open(blob).digests


def _open(blob: bytes) -> _Packed:
    if not blob or blob[0] != FORMAT:
        found = f"format {blob[0]}" if blob else "nothing"
        raise PackError(f"expected a packed round of format {FORMAT}, found {found}")
    frame = memoryview(blob)[1:]
    try:
        size = zstandard.get_frame_parameters(frame).content_size
        if size > LIMIT:
            raise PackError("the blob is altered: it claims an impossible size")
        return _decode(_zstd.decompress(frame, allow_extra_data=False))
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise PackError(f"the blob is truncated or altered: {error}") from error


def _readings(packed: _Packed) -> Readings:
    count = packed.count
    rows, times, qualities, values = packed.rows, packed.times, packed.qualities, packed.values
    if rows is None or times is None or qualities is None or values is None:
        return Readings.empty()
    integers = _integers(values, count)
    if packed.scale < 0:
        value = integers.view(np.float64)
    else:
        value = integers / _TENS[packed.scale, 0]
        if packed.odd_places:
            value.view(np.int64)[np.frombuffer(packed.odd_places, "<u4")] = np.frombuffer(
                packed.odd_bits, "<i8"
            )
    return Readings(
        _running(packed.row0, _integers(rows, count - 1)).astype(np.int32),
        _running(packed.time0, _integers(times, count - 1)),
        value,
        _integers(qualities, count).astype(np.uint8),
    )


def _decimals(value: Values) -> tuple[int, Integers, bytes, bytes]:
    """The values as integers / 10**scale, with the few that are not so apart; or as their bits, scale -1.

    Decided on a sample; what does not come back bit for bit is kept apart, so it is exact in any case.
    """
    bits = value.view(np.int64)
    sample = value[:: max(1, len(value) // _SAMPLE)]
    with np.errstate(invalid="ignore", over="ignore"):
        fits = np.count_nonzero(np.rint(sample * _TENS) / _TENS == sample, axis=1)
        scale = int(fits.argmax())
        if fits[scale] * 4 < len(sample) * 3:
            return -1, bits, b"", b""
        ten = _TENS[scale, 0]
        integers = np.rint(value * ten).astype(np.int64)
    odd = np.flatnonzero((integers / ten).view(np.int64) != bits)
    if not len(odd):
        return scale, integers, b"", b""
    if len(odd) * 2 > len(value):
        return -1, bits, b"", b""
    integers[odd] = 0
    return scale, integers, odd.astype("<u4").tobytes(), bits[odd].astype("<i8").tobytes()


def _column(integers: Integers) -> _Column:
    if not len(integers):
        return _Column(0, 0, b"")
    low, high = int(integers.min()), int(integers.max())
    width = (high - low).bit_length()
    if width == 0:
        return _Column(0, low, b"")
    if width > 32:
        return _Column(64, 0, _octets(integers, 8).tobytes())
    if width > 16:
        return _Column(32, low, _octets(integers - low, 4).tobytes())
    bits = np.unpackbits(_octets(integers - low, (width + 7) // 8), axis=0, bitorder="little")[:width]
    return _Column(width, low, np.packbits(bits, axis=1).tobytes())


def _octets(integers: Integers, size: int) -> NDArray[np.uint8]:
    """The low ``size`` bytes of the integers as planes, the lowest first: shape (size, len)."""
    return integers.astype(_UNSIGNED[size]).view(np.uint8).reshape(-1, size).T


def _integers(column: _Column, count: int) -> Integers:
    width = column.width
    if width == 0:
        return np.full(count, column.low, np.int64)
    octets = np.frombuffer(column.planes, np.uint8).reshape(width if width <= 16 else width // 8, -1)
    if width <= 16:
        octets = np.packbits(np.unpackbits(octets, axis=1, count=count), axis=0, bitorder="little")
    unsigned = np.ascontiguousarray(octets.T).view(_UNSIGNED[len(octets)])
    integers: Integers = unsigned.reshape(count).astype(np.int64)
    if column.low:
        integers += column.low
    return integers


def _running(first: int, differences: Integers) -> Integers:
    """The sums of the differences from ``first`` on; they may wrap around, as the differences did."""
    total = np.empty(len(differences) + 1, np.int64)
    total[0] = first
    total[1:] = differences
    return total.cumsum()
