"""Packing a round: it comes back bit for bit, and a blob that was touched says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.pack import FORMAT, PackError, digests, pack, unpack
from ingest.readings import GatewayStatus, Readings, Round

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
DECIMALS = st.integers(-40_000, 40_000).map(lambda n: n / 10)
FLOATS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 5e-324, -1.7976931348623157e308, 1e22])
BITS = INT64  # any float at all, with every NaN payload
QUALITIES = st.integers(0, 255)


def same(a: Round, b: Round) -> bool:
    return (a.time, a.listening, a.version, a.status, a.digests) == (
        b.time,
        b.listening,
        b.version,
        b.status,
        b.digests,
    ) and all(
        x.dtype == y.dtype and x.tobytes() == y.tobytes()
        for x, y in (
            (a.readings.row, b.readings.row),
            (a.readings.time, b.readings.time),
            (a.readings.value, b.readings.value),
            (a.readings.quality, b.readings.quality),
        )
    )


@st.composite
def columns(draw: st.DrawFn) -> Readings:
    """Readings whose columns are each of one of the kinds that packing treats differently."""
    count = draw(st.integers(0, 80))

    def column(element: st.SearchStrategy[int] | st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(element, min_size=count, max_size=count))

    start = draw(INT32)
    row = (
        np.arange(start, start + count).astype(np.int32)
        if draw(st.booleans())
        else np.array(column(INT32), np.int32)
    )
    span = draw(st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**62]))
    time = column(st.integers(-span, span)) if draw(st.booleans()) else column(INT64)
    kind = draw(st.sampled_from(["decimal", "float", "bits", "mixed"]))
    if kind == "bits":
        value = np.array(column(BITS), np.int64).view(np.float64)
    else:
        element = {"decimal": DECIMALS, "float": FLOATS, "mixed": DECIMALS | DECIMALS | FLOATS}[kind]
        value = np.array(column(element), np.float64)
    quality = column(QUALITIES if draw(st.booleans()) else st.just(0))
    return Readings(row, np.array(time, np.int64), value, np.array(quality, np.uint8))


ROUNDS = st.builds(
    Round,
    INT64,
    st.booleans(),
    st.none() | st.text(max_size=20),
    st.lists(st.builds(GatewayStatus, INT32, st.booleans()), max_size=4).map(tuple),
    columns(),
    st.binary(max_size=40),
)


@given(ROUNDS)
def test_what_is_packed_comes_back_bit_for_bit(round_: Round) -> None:
    blob = pack(round_)
    assert blob[0] == FORMAT
    assert same(unpack(blob), round_)
    assert digests(blob) == round_.digests


def messages(count: int, points: int = 200, *, seed: int = 1) -> Round:
    """Row-ordered messages of one time each, values in tenths; some bad, one -0.0."""
    random = np.random.default_rng(seed)
    total = count * points
    value = np.round(random.uniform(0, 200, total), 1)
    quality = np.zeros(total, np.uint8)
    bad = random.random(total) < 0.01
    quality[bad] = 2
    value[bad] = np.nan
    value[total // 2] = -0.0
    time = 1_790_000_000_000_000 + np.repeat(random.integers(0, 1000, count) * 1000, points)
    readings = Readings(np.arange(total, dtype=np.int32), time, value, quality)
    return Round(1_790_000_001_000_000, readings=readings, digests=bytes(8 * count))


@pytest.mark.parametrize("count", [1, 10, 100])
def test_usual_messages_take_less_than_two_bytes_a_reading(count: int) -> None:
    round_ = messages(count)
    blob = pack(round_)
    assert same(unpack(blob), round_)
    assert len(blob) < 2 * len(round_.readings)


def test_a_nan_keeps_its_payload_among_decimals() -> None:
    value = np.array([0.1, 0.2, 0.3, 0.4] * 10)
    value.view(np.int64)[3] = 0x7FF8_DEAD_BEEF_0001
    count = len(value)
    readings = Readings(
        np.zeros(count, np.int32), np.zeros(count, np.int64), value, np.zeros(count, np.uint8)
    )
    back = unpack(pack(Round(0, readings=readings))).readings.value
    assert back.view(np.int64)[3] == 0x7FF8_DEAD_BEEF_0001


def test_arrays_that_are_views_are_packed_as_what_they_show() -> None:
    every_other = slice(None, None, 2)
    whole = messages(2).readings
    part = Readings(
        whole.row[every_other], whole.time[every_other], whole.value[every_other], whole.quality[every_other]
    )
    assert same(unpack(pack(Round(0, readings=part))), Round(0, readings=part))


@given(st.sampled_from([Round(7), messages(1, 50)]), st.data())
def test_a_truncated_blob_is_an_error(round_: Round, data: st.DataObject) -> None:
    blob = pack(round_)
    with pytest.raises(PackError):
        unpack(blob[: data.draw(st.integers(0, len(blob) - 1))])


@given(st.sampled_from([Round(7), messages(1, 50)]), st.data())
def test_an_altered_blob_is_an_error_or_the_same_round(round_: Round, data: st.DataObject) -> None:
    blob = bytearray(pack(round_))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    try:
        back = unpack(bytes(blob))
    except PackError:
        return
    assert same(back, round_)  # one bit of a zstd frame's head means nothing


@given(st.binary(max_size=60))
def test_anything_else_is_an_error(blob: bytes) -> None:
    for candidate in (blob, bytes([FORMAT]) + blob):
        with pytest.raises(PackError):
            unpack(candidate)


def test_appended_bytes_are_an_error() -> None:
    with pytest.raises(PackError):
        unpack(pack(Round(7)) + b"\0")


def test_a_format_of_the_future_is_named() -> None:
    with pytest.raises(PackError, match="format 9"):
        unpack(b"\x09" + pack(Round(7))[1:])
