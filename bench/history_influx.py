"""History in InfluxDB: how fast lines are built, how fast a real server takes them, and what that costs it and us.

A city, 503 enterprises of 200 points once a second, values with one or two decimals. What the server has is counted by
itself and held against what was sent; where they differ there is no figure.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from threading import Event
from time import process_time
from typing import Any

import numpy as np

from deploy.dev.services import InfluxDb
from fenghuo.rehearsal import processor
from history.chunk import Chunk
from history.influx import InfluxHome
from history.influx_access import Access
from history.influx_reader import InfluxReader
from history.influx_rollup import BY, again
from history.influx_setup import Days, cells, set_up
from history.lines import Layout, lines
from ingest.readings import Readings, Times
from registry.clock import HOUR, MINUTE, SECOND, SystemClock, stopwatch
from registry.model import Registry
from tests.build import city_registry
from tests.servers import running

EACH = 200
"""Points of an enterprise; all have one time stamp."""

AT_ONCE = 2
"""Seconds of the city in a chunk, about as many as history/source.py gives."""

ROLLED_UP = 5 * MINUTE


class WrongCount(Exception):
    """The server has other readings than were sent."""


def run(quick: bool = False) -> dict[str, Any]:
    """Readings a second and CPU seconds, medians of several runs, each with a server of its own."""
    registry = city_registry()
    os.environ["INFLUXD_STORAGE_CACHE_SNAPSHOT_WRITE_COLD_DURATION"] = (
        "1s"  # else there are no files to be measured
    )
    seconds, runs = (60, 2) if quick else (300, 5)
    taken = [_written(registry, seconds) for _ in range(runs)]
    built = {
        "lines, M readings/s": _built(registry, "as they come"),
        "lines, any order, M readings/s": _built(registry, "any order"),
        "lines, a time for each reading, M readings/s": _built(registry, "alone"),
    }
    return built | {name: median(one[name] for one in taken) for name in taken[0]}


def _built(registry: Registry, how: str) -> float:
    layout = Layout(registry, "district")
    chunk = next(_chunks(registry, AT_ONCE, 0, how))
    took = []
    for _ in range(31):
        begun = stopwatch()
        lines(chunk, layout)
        took.append(stopwatch() - begun)
    return len(chunk) / median(took) / 1e6


def _written(registry: Registry, seconds: int) -> dict[str, float]:
    now = SystemClock().now()
    begin = now // HOUR * HOUR - HOUR
    with running(InfluxDb) as server, tempfile.TemporaryDirectory() as folder:
        access = Access(server.url, server.ORGANISATION, server.token, timeout=60)
        for _ in set_up(access, cells(registry, access.level), Days(400, 1100, 0), Path(folder)):
            pass
        assert server.pid is not None
        home = InfluxHome(access, Path(folder), SystemClock())
        home.append(next(_chunks(registry, AT_ONCE, begin - MINUTE)))  # series are made once
        took = ours = 0.0
        theirs = processor(server.pid)
        for chunk in _chunks(registry, seconds, begin):
            begun, used = stopwatch(), process_time()
            home.append(chunk)
            took, ours = took + stopwatch() - begun, ours + process_time() - used
        theirs = processor(server.pid) - theirs
        sent = seconds * len(registry.points)
        written = home.counts["bytes"] / home.counts["readings"]
        home.close()
        if (stored := _stored(access, registry, begin)) != sent:
            raise WrongCount(f"{stored} of {sent}")
        size = _on_disk(server.folder / "engine")
        rolled_up = _rolled_up(access, registry, begin, server.pid)
        charted = _charted(access, registry, begin, begin + seconds * SECOND)
    count, city = sent / 1e6, len(registry.points) / 1e6
    rolling = rolled_up * len(cells(registry, access.level)) / (ROLLED_UP / SECOND)
    return {
        "written, M readings/s": count / took,
        "CPU s per M readings, ours": ours / count,
        "CPU s per M readings, influxd": theirs / count,
        "a city: cores, ours": ours / count * city,
        "a city: cores, influxd": theirs / count * city,
        "a city: cores, influxd, roll-ups by minute": rolling,
        "chart of all this time of one point, ms": charted,
        "line bytes per reading": written,
        "disk bytes per reading": size / sent,
    }


def _chunks(registry: Registry, seconds: int, begin: int, how: str = "as they come") -> Iterator[Chunk]:
    random = np.random.default_rng(1)
    count = len(registry.points)
    level = random.integers(0, 20_000, count)
    decimals = np.where(random.random(count) < 0.5, 10, 1)
    row = np.arange(count, dtype=np.int32)
    for first in range(0, seconds, AT_ONCE):
        parts = []
        for second in range(first, min(first + AT_ONCE, seconds)):
            level = level + random.integers(-20, 21, count)
            own = row if how == "alone" else row // EACH * EACH
            time: Times = begin + second * SECOND + own.astype(np.int64) * 7
            value = level // decimals * decimals / 100
            parts.append(Readings(row, time, value, np.zeros(count, np.uint8)))
        readings = Readings.joined(parts)
        if how == "any order":
            order = random.permutation(len(readings))
            columns = (readings.row, readings.time, readings.value, readings.quality)
            readings = Readings(*(column[order] for column in columns))
        yield Chunk(first, first, registry, readings, readings.time, int(readings.time.max()))


def _stored(access: Access, registry: Registry, begin: int) -> int:
    count = 0
    with access.client(600) as client:
        for cell in cells(registry, access.level):
            readings = f'from(bucket: "{access.bucket(cell)}") |> range(start: {begin // SECOND})'
            flux = f"{readings} |> count() |> group() |> sum()"
            count += sum(row["_value"] for table in client.query_api().query(flux) for row in table)
    return count


def _on_disk(engine: Path) -> int:
    """Bytes of the files in which readings are, once all are in them."""
    pause = Event()
    while sum(file.stat().st_size for file in (engine / "wal").rglob("*.wal")):
        pause.wait(1)
    return sum(file.stat().st_size for file in (engine / "data").rglob("*.tsm"))


def _charted(access: Access, registry: Registry, begin: int, end: int) -> float:
    """Milliseconds for a point's readings, as the API asks for them, from a bucket with all others of its district."""
    reader, took = InfluxReader(access, lambda: registry, SystemClock()), []
    code, rows = next(iter(registry.rows.items()))
    for point in list(rows)[:9]:
        begun = stopwatch()
        reader.courses(code, [point], begin, end, 1000)
        took.append(stopwatch() - begun)
    reader.close()
    return median(took) * 1000


def _rolled_up(access: Access, registry: Registry, begin: int, pid: int) -> float:
    """CPU seconds of the server for five minutes of one cell."""
    first = cells(registry, access.level)[0]
    before = processor(pid)
    with access.client(600) as client:
        client.query_api().query(again(access, first, BY[0], begin, begin + ROLLED_UP))
    return processor(pid) - before
