"""Line protocol built by the column says just what an obvious loop would say of each reading."""

import re
from collections.abc import Mapping
from math import isfinite

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from history.chunk import Chunk
from history.lines import EARLIEST, LATEST, QUALITY, READINGS, Layout, jurisdiction, lines
from ingest.readings import BAD, GOOD, UNCERTAIN, Readings
from registry.model import Cell, Registry
from tests.build import CELLS, PointSpec, city_registry, code, make_registry

NAN = float("nan")
NOON = 1_763_900_000_000_000

Key = tuple[str, str, str, str, str, int]
"""Cell, measurement, enterprise, unit, point, time."""


def chunk(registry: Registry, *rows: tuple[int, int, float, int]) -> Chunk:
    """Of (row, time, value, quality)."""
    row, time, value, quality = zip(*rows, strict=True) if rows else ((), (), (), ())
    readings = Readings(
        np.array(row, np.int32),
        np.array(time, np.int64),
        np.array(value, np.float64),
        np.array(quality, np.uint8),
    )
    return Chunk(1, 2, registry, readings, np.zeros(len(rows), np.int64), NOON)


def told(registry: Registry, layout: Layout, rows: Chunk) -> dict[Key, float]:
    """What must be in InfluxDB, read off one by one."""
    found: dict[Key, float] = {}
    points, readings = registry.points, rows.readings
    for row, time, value, quality in zip(
        readings.row.tolist(), readings.time.tolist(), readings.value, readings.quality, strict=True
    ):
        if row in layout.unwritable or not EARLIEST <= time <= LATEST:
            continue
        enterprise = registry.gateways[points.gateway[row]].enterprise
        place = jurisdiction(registry, enterprise, layout.level), enterprise, points.unit[row], points.id[row]
        keys = {measurement: (place[0], measurement, *place[1:], time) for measurement in (READINGS, QUALITY)}
        for key in keys.values():
            found.pop(key, None)
        if not isfinite(value):
            quality = BAD
        if quality != BAD:
            found[keys[READINGS]] = float(value)
        if quality != GOOD:
            found[keys[QUALITY]] = int(quality)
    return found


def parsed(registry: Registry, layout: Layout, rows: Chunk) -> dict[Key, float]:
    """What is written, as InfluxDB reads it (models/points.go); nothing in it twice, each line's fields once."""
    found: dict[Key, float] = {}
    series: set[tuple[str, ...]] = set()
    for part in lines(rows, layout):
        counts = {READINGS: 0, QUALITY: 0}
        assert part.body.endswith(b"\n")
        for line in part.body.decode().removesuffix("\n").split("\n"):
            head, fields, time = split(line, " ")
            measurement, *tags = split(head, ",")
            tag = {unescaped(key): unescaped(value) for key, value in (split(one, "=") for one in tags)}
            assert list(tag) == (["enterprise", "unit"] if "unit" in tag else ["enterprise"])
            assert (part.cell, head, time) not in series, "one line for all of an enterprise, unit and time"
            series.add((part.cell, head, time))
            for key, value in (split(one, "=") for one in split(fields, ",")):
                place = part.cell, measurement, tag["enterprise"], tag.get("unit", "")
                integer = re.fullmatch(r"([12])i", value)
                assert (integer is not None) is (measurement == QUALITY)
                full = (*place, unescaped(key), int(time))
                assert full not in found
                found[full] = int(integer[1]) if integer else float(value)
                counts[measurement] += 1
        assert counts == {READINGS: part.values, QUALITY: part.qualities}
    return found


def split(text: str, at: str) -> list[str]:
    return re.split(rf"(?<!\\){at}", text)


def unescaped(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text)


def site(by_enterprise: Mapping[str, list[tuple[str, str]]], cell_of: Mapping[str, str]) -> Registry:
    """Points (id, unit) by enterprise."""
    cells = (*CELLS, Cell("district-2", "西海区", "district", "city"), Cell("port", "港", "zone", ""))
    points = {
        enterprise: [PointSpec(id=id, unit=unit) for id, unit in points]
        for enterprise, points in by_enterprise.items()
    }
    return make_registry(points, cells=cells, cell_of=dict(cell_of))


ODD = site(
    {
        code(1): [
            ("TI-1", ""),
            ("温度,一", "反应 装置"),
            ("a=b c", "U,1"),
            ("back\\slash", "x\\y"),
            ("#1", "U,1"),
        ],
        code(2): [("TI-1", ""), ('"', "U=1"), ("_time", "U=1")],
        code(3): [("TI-1", "U-1"), ("last\\", "U-1"), ("time", "U-1"), ("fine", "bad\\"), ('x\\"y', "")],
        code(4): [("PI-1", "")],
    },
    {code(1): "village-1", code(2): "district-2", code(3): "village-1", code(4): "port"},
)
LAYOUT = Layout(ODD, "district")

values = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.decimals(-20_000, 20_000, places=2).map(float),
    st.decimals(-1, 1, places=5).map(float),
    st.sampled_from([0.0, -0.0, 0.5, -0.5, 9999.9999, 10_000.0, 1e21, 5e-324, 1.7976931348623157e308]),
)
times = st.one_of(
    st.sampled_from([NOON, NOON + 1]),
    st.integers(NOON - 5, NOON + 5),
    st.integers(-(2**62), 2**62),
    st.sampled_from([EARLIEST - 1, EARLIEST, LATEST, LATEST + 1]),
)
rows = st.tuples(
    st.integers(0, len(ODD.points) - 1), times, values, st.sampled_from([GOOD, GOOD, UNCERTAIN, BAD])
).map(lambda one: (one[0], one[1], NAN if one[3] == BAD else one[2], one[3]))


@given(st.lists(rows, max_size=40))
def test_lines_say_what_a_loop_over_the_readings_says(some: list[tuple[int, int, float, int]]) -> None:
    given = chunk(ODD, *some)
    assert parsed(ODD, LAYOUT, given) == told(ODD, LAYOUT, given)


def test_a_city_in_the_order_in_which_it_comes_and_in_any_other() -> None:
    registry = city_registry(60, 20)
    layout = Layout(registry, "district")
    random = np.random.default_rng(7)
    count = len(registry.points)
    row = np.tile(np.arange(count, dtype=np.int32), 3)
    time = NOON + np.repeat(np.arange(3), count) * 1_000_000 + row // 20
    value = random.uniform(-20, 120, len(row)).round(2)
    quality = random.choice([GOOD, UNCERTAIN, BAD], len(row), p=[0.9, 0.05, 0.05]).astype(np.uint8)
    value[quality == BAD] = NAN
    for order in (np.arange(len(row)), random.permutation(len(row))):
        readings = Readings(row[order], time[order], value[order], quality[order])
        given = Chunk(1, 2, registry, readings, time, NOON)
        assert parsed(registry, layout, given) == told(registry, layout, given)
        assert [part.cell for part in lines(given, layout)] == ["district-1", "district-2"]


def test_a_wide_line() -> None:
    registry = make_registry([PointSpec(id="TI-1"), PointSpec(id="TI-2"), PointSpec(id="PI-1", unit="R-1")])
    given = chunk(
        registry,
        *[(0, NOON, 81.25, GOOD), (2, NOON, 1e-7, UNCERTAIN), (1, NOON, -0.5, GOOD), (1, NOON + 1, NAN, BAD)],
    )
    [part] = lines(given, Layout(registry, "district"))
    assert (part.cell, part.values, part.qualities) == ("district-1", 3, 2)
    assert part.body.decode().splitlines() == [
        f"readings,enterprise={code(1)} TI-1=81.25,TI-2=-0.5 {NOON}",
        f"readings,enterprise={code(1)},unit=R-1 PI-1=1e-7 {NOON}",
        f"quality,enterprise={code(1)},unit=R-1 PI-1=1i {NOON}",
        f"quality,enterprise={code(1)} TI-2=2i {NOON + 1}",
    ]


def test_the_last_of_several_is_written_and_a_bad_one_takes_the_value_away() -> None:
    registry = make_registry([PointSpec(id="A"), PointSpec(id="B")])
    given = chunk(
        registry,
        *[(0, NOON, 1.0, GOOD), (1, NOON, NAN, BAD), (0, NOON, NAN, BAD), (1, NOON, 2.0, GOOD)],
    )
    [part] = lines(given, Layout(registry, "district"))
    assert part.body.decode() == (
        f"readings,enterprise={code(1)} B=2 {NOON}\nquality,enterprise={code(1)} A=2i {NOON}\n"
    )


def test_infinity_is_bad_quality() -> None:
    registry = make_registry([PointSpec(id="A")])
    given = chunk(registry, (0, NOON, float("inf"), GOOD), (0, NOON + 1, -float("inf"), UNCERTAIN))
    [part] = lines(given, Layout(registry, "district"))
    assert (part.values, part.qualities) == (0, 2)
    assert b"inf" not in part.body


def test_nothing_of_nothing() -> None:
    assert lines(chunk(ODD), LAYOUT) == []


def test_what_the_protocol_cannot_name_is_left_out_with_a_reason() -> None:
    left_out = {ODD.points.id[row]: why for row, why in LAYOUT.unwritable.items()}
    assert set(left_out) == {"last\\", "time", "fine", 'x\\"y'}
    assert "no field of the name" in left_out["time"]
    assert "backslash" in left_out["last\\"]
    some = [(row, NOON, 1.0, GOOD) for row in LAYOUT.unwritable]
    assert lines(chunk(ODD, *some), LAYOUT) == []


@pytest.mark.parametrize(
    ("enterprise", "level", "cell"),
    [
        (code(1), "district", "district-1"),
        (code(1), "town", "town-1"),
        (code(2), "town", "city"),  # it lies in a district, and in no town
        (code(4), "district", "port"),
        (code(1), "city", "city"),
    ],
)
def test_a_jurisdiction_is_the_cell_of_its_level_else_the_topmost(
    enterprise: str, level: str, cell: str
) -> None:
    assert jurisdiction(ODD, enterprise, level) == cell
