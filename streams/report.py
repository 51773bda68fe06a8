"""Report: what a worker tells of one round, a record of the topic `findings`; and the newest values of a slot."""

import msgspec
import zstandard

from streams.finding import Finding


class Report(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a shard found in one round; without findings, a mark that it has come so far.

    source: "readings/3", the partition of readings that was judged; "compound/0", the compound rules of a partition of
        findings (this one), which follow what they stand on. offset: of the record that gave it, in that partition
        (of compound rules: of `findings`): a report that is told again is known by it.
    time: the engine's, arrival, µs. asked: see ingest.topics.Entry; all asked before is told.
    version, edition: of registry and rulebook, where they took force in this round; else "" and 0.
    """

    source: str
    offset: int
    time: int
    findings: tuple[Finding, ...] = ()
    asked: int = 0
    version: str = ""
    edition: int = 0


class Newest(msgspec.Struct, frozen=True, array_like=True):
    """The newest values of a slot's points, in the order of registry.slots.part: arrays as their raw bytes."""

    version: str
    time: int
    newest: bytes  # int64, µs, NEVER if none
    value: bytes  # float64, NaN if none or unknown
    quality: bytes  # uint8


_report, _newest = msgspec.msgpack.Decoder(Report).decode, msgspec.msgpack.Decoder(Newest).decode


def encode(report: Report) -> bytes:
    return msgspec.msgpack.encode(report)


def decode(blob: bytes) -> Report:
    """Undo :func:`encode`. Raises ValueError (msgspec's)."""
    return _report(blob)


def encode_newest(newest: Newest) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(newest))


def decode_newest(blob: bytes) -> Newest:
    """Undo :func:`encode_newest`. Raises ValueError."""
    try:
        return _newest(zstandard.ZstdDecompressor().decompress(blob))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
