"""The embedded history: what it costs to write, how much it takes, and how fast charts are drawn from it.

Process data: a reading a second, each point's walking in tenths about its own level. By exception: when it has moved by
its deadband, in hundredths.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from os import times
from pathlib import Path
from statistics import median

import numpy as np

from history import catalogue, parquet_file
from history.block import Block, RollUp, block, rolled_up
from history.catalogue import BY_HOUR, BY_MINUTE, FINISHED, READINGS, Catalogue, File
from history.chunk import Chunk
from history.reader import Reader
from history.store import SETTLE, ParquetHome
from ingest.readings import Readings
from registry.clock import DAY, HOUR, MINUTE, SECOND, stopwatch
from tests.build import city_registry, code

BEGUN = 1_767_225_600 * SECOND  # 2026-01-01 UTC
POINTS = 200


def run(quick: bool = False) -> dict[str, float]:
    """Figures by name. Raises AssertionError where what is read is not what was written."""
    disk = Path("build")  # not the usual place of temporary files, which may be memory
    disk.mkdir(exist_ok=True)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=disk) as place:
        figures |= _written(Path(place), seconds=60 if quick else 300)
    with tempfile.TemporaryDirectory(dir=disk) as place:
        figures |= _sizes(Path(place))
    with tempfile.TemporaryDirectory(dir=disk) as place:
        figures |= _charts(Path(place), others=20 if quick else 502, days=30 if quick else 365)
    return figures


def _written(folder: Path, seconds: int) -> dict[str, float]:
    """A city at its load: taken, flushed, joined, and the hour finished."""
    registry = city_registry(503, POINTS)
    count = len(registry.points)
    dice = np.random.default_rng(1)
    level = dice.integers(0, 2000, count)
    row, quality = np.arange(count, dtype=np.int32), np.zeros(count, np.uint8)
    home = ParquetHome(folder)
    begun, used = stopwatch(), _used()
    for second in range(seconds):
        level += dice.integers(-2, 3, count)
        now = BEGUN + second * SECOND
        readings = Readings(row, np.full(count, now), level / 10, quality)
        home.append(Chunk(second + 1, second + 1, registry, readings, np.full(count, now + 20_000), now))
        if second % 8 == 7:
            home.maintain()
    home.flush()
    taken, taking = stopwatch() - begun, _used() - used
    begun, used = stopwatch(), _used()
    end = BEGUN + HOUR + SETTLE
    home.append(Chunk(seconds + 1, seconds + 1, registry, Readings.empty(), np.empty(0, np.int64), end))
    while home.maintain():
        pass
    finished, finishing = stopwatch() - begun, _used() - used
    written = count * seconds
    rows, _ = catalogue.size(folder)
    assert rows == written
    home.close()
    return {
        "written: readings/s": written / taken,
        "written: CPU s/million": taking / written * 1e6,
        "finished: readings/s": written / finished,
        "finished: CPU s/million": finishing / written * 1e6,
        "a city's load: share of a core": (taking + finishing) / written * count,
    }


def _sizes(folder: Path) -> dict[str, float]:
    """Bytes that a reading takes, in a finished hour with its roll-ups."""
    figures = {}
    for name, hour in (("process data", _hour(0)), ("by exception", _by_exception())):
        held = parquet_file.write_block(folder / "readings.parquet", hour)
        rolled = sum(
            parquet_file.write_roll_up(folder / f"{step}.parquet", rolled_up(hour, step))
            for step in (MINUTE, HOUR)
        )
        figures[f"bytes/reading, {name}"] = held / len(hour)
        figures[f"bytes/reading of roll-ups, {name}"] = rolled / len(hour)
    return figures


def _charts(folder: Path, others: int, days: int) -> dict[str, float]:
    """One point of one enterprise, a year of which and a last day are there; then beside a city's other enterprises."""
    its = Catalogue(folder)
    for hour in range(24):
        _put(its, READINGS, code(0), BEGUN + (days - 1) * DAY + hour * HOUR, _hour(hour + (days - 1) * 24))
    month = BEGUN
    while month < BEGUN + days * DAY:
        following = int(
            (np.datetime64(month, "us").astype("datetime64[M]") + 1).astype("datetime64[us]").astype(np.int64)
        )
        last = min(int(following), BEGUN + days * DAY)
        for kind, step, points in ((BY_HOUR, HOUR, POINTS), (BY_MINUTE, MINUTE, 20)):
            _put(its, kind, code(0), month, _rolled(points, month, last, step))
        month = int(following)
    end = BEGUN + days * DAY
    figures = {}
    for beside in (0, others):
        for number in range(1, beside + 1):
            for hour in range(24):
                _put(its, READINGS, code(number), end - DAY + hour * HOUR, _small(end - DAY + hour * HOUR))
        reader = Reader(folder)
        for name, begin, width in (
            ("an hour, readings", end - HOUR, 1000),
            ("a day, readings", end - DAY, 2000),
            ("a day, roll-ups", end - DAY, 1000),
            ("a month, roll-ups", end - 30 * DAY, 1000),
            ("a year, roll-ups", end - days * DAY, 1000),
        ):
            question = partial(reader.courses, code(0), ["P10"], begin, end, width)
            figures[f"chart of {name}, beside {beside}: ms"] = _milliseconds(question)
        reader.close()
    its.close()
    return figures


def _milliseconds(question: Callable[[], object]) -> float:
    question()
    spent = []
    for _ in range(9):
        begun = stopwatch()
        question()
        spent.append((stopwatch() - begun) * 1000)
    return median(spent)


def _put(its: Catalogue, kind: str, enterprise: str, span: int, what: Block | RollUp) -> None:
    [id] = its.begin([(kind, enterprise, span, FINISHED)])
    file = File(
        id, kind, enterprise, span, FINISHED, int(what.time.min()), int(what.time.max()), len(what), 0
    )
    path = file.path(its.folder)
    if isinstance(what, Block):
        parquet_file.write_block(path, what)
    else:
        parquet_file.write_roll_up(path, what)
    its.put([file], position=1, time=file.last)


def _hour(number: int) -> Block:
    """An hour of process data."""
    dice = np.random.default_rng(number)
    size = POINTS * 3600
    walk = np.cumsum(dice.integers(-2, 3, (POINTS, 3600)), axis=1) + dice.integers(0, 2000, (POINTS, 1))
    time = np.tile(BEGUN + number * HOUR + np.arange(3600) * SECOND, POINTS)
    delay = np.tile(dice.integers(1_000, 20_000, 3600), POINTS)
    points = np.repeat(np.arange(POINTS, dtype=np.int32), 3600)
    return block(_ids(POINTS), points, time, walk.ravel() / 10, np.zeros(size, np.uint8), time + delay)


def _by_exception() -> Block:
    """An hour of points that are looked at each second, and sent when they have moved by 0.5 or not for a minute."""
    dice = np.random.default_rng(7)
    delay = dice.integers(1_000, 20_000, 3600)
    codes, seconds, values = [], [], []
    for point in range(POINTS):
        walk = np.round(500 + np.cumsum(dice.normal(0, 0.1, 3600)), 2)
        sent, at = walk[0], 0
        for second, value in enumerate(walk.tolist()):
            if abs(value - sent) >= 0.5 or second - at >= 60:
                sent, at = value, second
                codes.append(point)
                seconds.append(second)
                values.append(value)
    second = np.array(seconds)
    time = BEGUN + second * SECOND
    code, value = np.array(codes, np.int32), np.array(values)
    return block(_ids(POINTS), code, time, value, np.zeros(len(time), np.uint8), time + delay[second])


def _small(begin: int) -> Block:
    """An hour of an enterprise with one point, a reading a minute: what counts is that it has files."""
    time = begin + np.arange(60) * MINUTE
    return block(["P10"], np.zeros(60, np.int32), time, np.arange(60) / 10, np.zeros(60, np.uint8), time)


def _rolled(points: int, begin: int, end: int, step: int) -> RollUp:
    """Roll-ups of so many points, P10 among them."""
    dice = np.random.default_rng(begin // step)
    time = np.tile(np.arange(begin, end, step), points)
    size = len(time)
    mean = np.round(dice.normal(50, 5, size), 3)
    ids = sorted(_ids(POINTS))[:points]
    return RollUp(
        points=tuple(ids),
        code=np.repeat(np.arange(points, dtype=np.int32), size // points),
        time=time,
        least=np.round(mean - 1, 1),
        greatest=np.round(mean + 1, 1),
        mean=mean,
        last=np.round(mean, 1),
        last_time=time + step - SECOND,
        count=np.full(size, step // SECOND),
        bad=np.zeros(size, np.int64),
        quality=np.zeros(size, np.uint8),
    )


def _ids(count: int) -> list[str]:
    return [f"P{number}" for number in range(1, count + 1)]


def _used() -> float:
    spent = times()
    return spent.user + spent.system
