"""InfluxDB's answers are those of the files, which keep the same readings: charts at any width, exports, hours."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.dev.services import InfluxDb
from history.catalogue import BY_HOUR, BY_MINUTE, READINGS
from history.chunk import Chunk
from history.course import Course, HistoryReader
from history.home import HomeAway
from history.influx import InfluxHome
from history.influx_access import Access
from history.influx_reader import InfluxReader
from history.influx_rollup import BY, again
from history.influx_setup import cells
from history.lines import Layout
from history.reader import Reader
from history.store import ParquetHome
from ingest.readings import BAD, GOOD, UNCERTAIN, Readings
from registry.clock import HOUR, MINUTE, SECOND
from tests.servers import new_organisation
from tests.test_history_influx import BEGIN, Clock, prepared, query
from tests.test_history_lines import ODD

TOLD = BEGIN + 2 * HOUR
"""Up to here, µs, there are readings."""

ROLLED = BEGIN + HOUR
"""Up to here there are roll-ups by hour, and five minutes more by minute, as the tasks would have made them at NOW."""

NOW = ROLLED + 9 * MINUTE

BY_CODE = {code: list(rows) for code, rows in ODD.rows.items()}
UNWRITABLE = {ODD.points.id[row] for row in Layout(ODD, "district").unwritable}


def told() -> Iterator[Chunk]:
    """A chunk for each five minutes, of all points and qualities; no point has a time twice."""
    random = np.random.default_rng(5)
    for number, at in enumerate(range(BEGIN, TOLD, 5 * MINUTE), 1):
        row = np.repeat(
            random.permutation(len(ODD.points)).astype(np.int32), random.integers(0, 30, len(ODD.points))
        )
        count = len(row)
        quality = random.choice([GOOD, UNCERTAIN, BAD], count, p=[0.8, 0.1, 0.1]).astype(np.uint8)
        value = np.where(quality == BAD, np.nan, random.uniform(-100, 100, count).round(3))
        time = at + np.arange(count) * 700_001
        yield Chunk(number, number, ODD, Readings(row, time, value, quality), time, int(time[-1]))


@pytest.fixture(scope="module")
def access(influxdb: InfluxDb, tmp_path_factory: pytest.TempPathFactory) -> Access:
    """An organisation that has it all, with roll-ups up to ROLLED."""
    folder = tmp_path_factory.mktemp("influx")
    access = prepared(influxdb, new_organisation(influxdb), folder)
    home = InfluxHome(access, folder, Clock(BEGIN))
    for one in told():
        home.append(one)
    home.close()
    for cell in cells(ODD, access.level):
        for roll_up, until in zip(BY, (ROLLED + 5 * MINUTE, ROLLED), strict=True):
            query(access, again(access, cell, roll_up, BEGIN, until))
    return access


@pytest.fixture(scope="module")
def asked(access: Access) -> Iterator[InfluxReader]:
    reader = InfluxReader(access, lambda: ODD, Clock(NOW))
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HistoryReader]:
    folder = tmp_path_factory.mktemp("files")
    home = ParquetHome(folder)
    for one in told():
        home.append(one)
    home.flush()
    while home.maintain():
        pass
    reader = Reader(folder)
    yield reader
    reader.close()
    home.close()


def in_stretches(course: Course, begin: int, step: int) -> dict[str, list[float]]:
    """Where the two differ in what they call a stretch's time, its number stands for it."""
    columns = {name: getattr(course, name).tolist() for name in Course.__slots__}
    return columns | {"time": ((course.time - begin) // step).tolist()}


@pytest.mark.influxdb
@settings(max_examples=60)
@given(
    code=st.sampled_from(sorted(BY_CODE)),
    first=st.integers(BEGIN - HOUR, TOLD),
    length=st.integers(1, 3 * HOUR),
    width=st.one_of(st.integers(1, 5), st.integers(1, 4000)),
)
def test_a_chart_is_that_of_the_files(
    asked: InfluxReader, files: HistoryReader, code: str, first: int, length: int, width: int
) -> None:
    points = [point for point in BY_CODE[code] if point not in UNWRITABLE]
    mine = asked.courses(code, points, first, first + length, width)
    theirs = files.courses(code, points, first, first + length, width)
    assert (mine.kind, mine.begin, mine.end, mine.step) == (
        theirs.kind,
        theirs.begin,
        theirs.end,
        theirs.step,
    )
    for point, course in theirs.points.items():
        wanted = in_stretches(course, theirs.begin, theirs.step)
        assert in_stretches(mine.points[point], mine.begin, mine.step) == {
            name: pytest.approx(values, nan_ok=True) for name, values in wanted.items()
        }


@pytest.mark.influxdb
def test_roll_ups_are_read_where_there_are_some_and_readings_of_what_is_newer(
    access: Access, asked: InfluxReader
) -> None:
    code, [point, *_] = next(iter(BY_CODE.items()))
    for width, kind in ((2, BY_HOUR), (60, BY_MINUTE), (4000, READINGS)):
        assert asked.courses(code, [point], BEGIN, TOLD, width).kind == kind
    nothing_rolled = InfluxReader(replace(access, prefix="no-"), lambda: ODD, Clock(NOW))
    with pytest.raises(HomeAway, match="history setup"):
        nothing_rolled.courses(code, [point], BEGIN, TOLD, 60)
    early = InfluxReader(access, lambda: ODD, Clock(TOLD + 2 * HOUR))  # as if all had been rolled up
    hours = early.courses(code, [point], BEGIN, TOLD, 2).points[point]
    assert hours.count[0] > 100
    assert hours.count[1] == 0, "it takes the roll-ups, and of the second hour there are none"
    for reader in (nothing_rolled, early):
        reader.close()


@pytest.mark.influxdb
def test_readings_are_taken_away_as_they_are_in_the_files_without_arrivals(
    asked: InfluxReader, files: HistoryReader
) -> None:
    for code, points in BY_CODE.items():
        known = [point for point in points if point not in UNWRITABLE]
        span = BEGIN + 7 * SECOND, BEGIN + HOUR
        mine, theirs = asked.readings(code, known, *span), files.readings(code, known, *span)
        assert mine.schema == theirs.schema
        assert mine.column("arrival").null_count == len(mine) == len(theirs)
        for name in ("point", "time", "quality"):
            assert mine.column(name).to_pylist() == theirs.column(name).to_pylist()
        np.testing.assert_array_equal(mine.column("value").to_numpy(), theirs.column("value").to_numpy())
        assert asked.hours(code, 0, 1 << 60) == files.hours(code, 0, 1 << 60) == [BEGIN, BEGIN + HOUR]
        assert asked.hours(code, BEGIN + HOUR, TOLD) == [BEGIN + HOUR]


@pytest.mark.influxdb
def test_of_many_points_and_of_none_and_of_times_that_it_does_not_know(asked: InfluxReader) -> None:
    code, points = next(iter(BY_CODE.items()))
    strangers = [f'x"{number}${{points}}' for number in range(500)]
    assert len(asked.readings(code, [*strangers, points[0]], BEGIN, TOLD)) > 100
    courses = asked.courses(code, [*strangers, points[0]], BEGIN, TOLD, 1).points
    assert [len(course) for course in courses.values()] == [*[0] * 500, 1]
    for begin, end in ((TOLD, TOLD + 1), (1 << 59, 1 << 60), (0, 1)):
        assert not len(asked.readings(code, points, begin, end))
        assert not asked.hours(code, begin, end)
        assert not any(map(len, asked.courses(code, points, begin, end, 10).points.values()))


def test_one_that_is_away_says_so(tmp_path: Path) -> None:
    reader = InfluxReader(Access("http://127.0.0.1:9", "o", "secret"), lambda: ODD, Clock(NOW))
    code, points = next(iter(BY_CODE.items()))
    for ask in (
        lambda: reader.courses(code, points, BEGIN, TOLD, 10),
        lambda: reader.readings(code, points, BEGIN, TOLD),
        lambda: reader.hours(code, BEGIN, TOLD),
    ):
        with pytest.raises(HomeAway, match=r"cannot be reached: see `history\.influx\.url`"):
            ask()
    reader.close()
