"""InfluxDB as a home of history, on a real server: what was appended is there to the reading, whatever happened."""

import csv
import io
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from os import kill
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from influxdb_client.client.influxdb_client import InfluxDBClient
from structlog.testing import capture_logs
from typer.testing import CliRunner

from deploy.dev.services import InfluxDb
from fenghuo.__main__ import app
from history import influx, influx_upkeep
from history.chunk import Chunk
from history.home import HomeAway
from history.influx import InfluxHome
from history.influx_access import BY_HOUR, BY_MINUTE, Access
from history.influx_notes import Late, Notes, Refusal, Refused, refusals, refused
from history.influx_rollup import BY, STATS, joined
from history.influx_setup import Days, SetupError, cells, set_up
from history.lines import EARLIEST, LATEST, Layout, Lines, lines
from ingest.readings import BAD, GOOD, UNCERTAIN, Readings
from registry import slots, versions
from registry.clock import DAY, HOUR, MINUTE, SECOND
from registry.model import Cell, Registry
from tests.build import city_registry, code
from tests.servers import new_organisation, running
from tests.test_history_lines import ODD, Key, chunk, told

NOW = time.time_ns() // 1000
BEGIN = NOW // HOUR * HOUR - 3 * HOUR
"""Of what is written, µs: some hours ago, for a server's tasks and retentions know what time it is."""

DAYS = Days(400, 1100, 0)


class Clock:
    """Of a home: it says what it is told. That of the readings, so that nothing is late."""

    def __init__(self, time: int) -> None:
        self.time = time

    def now(self) -> int:
        return self.time


@pytest.fixture
def access(influxdb: InfluxDb, tmp_path: Path) -> Access:
    """An organisation with the buckets of ``ODD``."""
    return prepared(influxdb, new_organisation(influxdb), tmp_path)


_prepared: list[Access] = []


@pytest.fixture(autouse=True)
def no_task_stays() -> Iterator[None]:
    """Tasks would run every five minutes, while other tests do."""
    yield
    while _prepared:
        access = _prepared.pop()
        with suppress(httpx.ConnectError):  # a server of the test's own
            for task in tasks(access):
                api(access, "PATCH", f"/tasks/{task['id']}", json={"status": "inactive"})


def prepared(
    server: InfluxDb, organisation: str, folder: Path, registry: Registry = ODD, **more: Any
) -> Access:
    access = Access(server.url, organisation, server.token, timeout=more.pop("timeout", 30.0), **more)
    _prepared.append(access)
    for _ in set_up(access, cells(registry, access.level), DAYS, folder / "grafana"):
        pass
    return access


@pytest.fixture
def home(access: Access, tmp_path: Path) -> Iterator[InfluxHome]:
    made = InfluxHome(access, tmp_path, Clock(BEGIN))
    yield made
    made.close()


def some(number: int, registry: Registry = ODD, at: int = BEGIN, readings: int = 300) -> Chunk:
    """The chunk of this number: a second of random readings of all qualities; no point and time is in two chunks."""
    random = np.random.default_rng(number)
    row = random.integers(0, len(registry.points), readings).astype(np.int32)
    quality = random.choice([GOOD, UNCERTAIN, BAD], readings, p=[0.8, 0.1, 0.1]).astype(np.uint8)
    value = np.where(quality == BAD, np.nan, random.uniform(-100, 100, readings).round(3))
    time = at + number * SECOND + random.integers(0, 5, readings) * 1000 + 7
    return Chunk(number, number, registry, Readings(row, time, value, quality), time, int(time.max()))


def query(access: Access, flux: str, timeout: float = 60) -> list[dict[str, str]]:
    """Rows, as text."""
    answer = httpx.post(
        f"{access.url}/api/v2/query",
        params={"org": access.organisation},
        json={"query": flux, "dialect": {"header": True, "annotations": []}},
        headers={"Authorization": f"Token {access.token}"},
        timeout=timeout,
    )
    answer.raise_for_status()
    found = []
    for table in answer.text.replace("\r\n", "\n").split("\n\n"):
        found += list(csv.DictReader(io.StringIO(table)))
    return found


def moment(text: str) -> int:
    """µs of a time that Flux wrote."""
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


def stored(access: Access, registry: Registry = ODD) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for cell in cells(registry, access.level):
        for row in query(access, f'from(bucket: "{access.bucket(cell)}") |> range(start: 0)'):
            place = cell, row["_measurement"], row["enterprise"], row.get("unit", "")
            key = (*place, row["_field"], moment(row["_time"]))
            assert key not in found
            found[key] = float(row["_value"])
    return found


def appended(chunks: Sequence[Chunk], registry: Registry = ODD) -> dict[Key, float]:
    layout = Layout(registry, "district")
    return {key: value for one in chunks for key, value in told(registry, layout, one).items()}


def totals(chunks: Iterable[Chunk], registry: Registry) -> tuple[int, int]:
    """Distinct points and times that can be written: those with a value, and those that are bad."""
    layout = Layout(registry, "district")
    writable = np.array([row not in layout.unwritable for row in range(len(registry.points))])
    values = bad = 0
    for one in chunks:
        row, when = one.readings.row[::-1].astype(np.int64), one.readings.time[::-1]
        _, last = np.unique(row * 10**12 + when - when.min(), return_index=True)
        quality = one.readings.quality[::-1][last[writable[row[last]]]]
        values += int(np.count_nonzero(quality != BAD))
        bad += int(np.count_nonzero(quality == BAD))
    return values, bad


def api(access: Access, method: str, path: str, **more: Any) -> httpx.Response:
    rights = {"Authorization": f"Token {access.token}"}
    answer = httpx.request(method, f"{access.url}/api/v2{path}", headers=rights, timeout=30, **more)
    return answer.raise_for_status()


def write(access: Access, bucket: str, *lines: str) -> None:
    place = {"org": access.organisation, "bucket": bucket, "precision": "us"}
    api(access, "POST", "/write", params=place, content="\n".join(lines).encode())


def tasks(access: Access, name: str | None = None) -> list[dict[str, str]]:
    of = {"org": access.organisation, "limit": 500} | ({"name": name} if name else {})
    found: list[dict[str, str]] = api(access, "GET", "/tasks", params=of).json()["tasks"]
    return found


def maintained(home: InfluxHome) -> None:
    while home.maintain():
        pass


# -- written -----------------------------------------------------------------------------------------


@pytest.mark.influxdb
def test_what_was_appended_is_there_to_the_reading_and_twice_is_once(
    access: Access, home: InfluxHome, tmp_path: Path
) -> None:
    chunks = [some(number) for number in range(1, 4)]
    for one in chunks:
        home.append(one)
    expected = appended(chunks)
    assert stored(access) == expected
    assert counted(access, ODD) == totals(chunks, ODD)
    assert (home.position, home.taken) == (3, 3)

    for one in chunks[1:]:
        home.append(one)
    assert stored(access) == expected
    counts = home.counts
    assert counts["readings"] == 5 * 300
    left_out = Layout(ODD, "district").unwritable
    rows = [row for one in (*chunks, *chunks[1:]) for row in one.readings.row.tolist()]
    assert counts["unwritable"] == sum(row in left_out for row in rows) > 0
    assert not counts["refused"]
    home.close()
    again = InfluxHome(access, tmp_path, Clock(BEGIN))
    assert again.position == 3
    again.close()
    elsewhere = InfluxHome(replace(access, prefix="other-"), tmp_path, Clock(BEGIN))
    assert elsewhere.position == 0, "other buckets have nothing yet"
    elsewhere.close()


@pytest.mark.influxdb
@pytest.mark.parametrize("gzip", [False, True])
def test_many_small_requests_say_the_same_as_one(
    access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gzip: bool
) -> None:
    monkeypatch.setattr(influx, "REQUEST", 500)
    home = InfluxHome(replace(access, gzip=gzip), tmp_path / "notes", Clock(BEGIN))
    home.append(some(1))
    assert home.counts["requests"] > 5
    assert home.counts["bytes"] < 500 * home.counts["requests"]
    assert stored(access) == appended([some(1)])
    home.close()


def test_requests_are_whole_lines_and_longer_than_allowed_only_for_a_single_one() -> None:
    body = b"".join(b"x" * length + b"\n" for length in (10, 20, 600, 5, 300, 190, 3))
    parts = list(influx._requests(body * 40_000))
    assert b"".join(parts) == body * 40_000
    assert all(part.endswith(b"\n") and len(part) <= influx.REQUEST for part in parts)
    assert min(map(len, parts[:-1])) > influx.REQUEST - 601
    assert list(influx._requests(b"")) == [b""]


@pytest.mark.influxdb
def test_parts_of_one_version_for_different_slots_are_told_apart(access: Access, home: InfluxHome) -> None:
    parts = [slots.part(ODD, slot, 2) for slot in range(2)]
    assert all(len(part.points) for part in parts)
    chunks = [(part, some(number, part)) for number, part in enumerate(parts)]
    for _, one in chunks:
        home.append(one)
    expected = {key: value for part, one in chunks for key, value in appended([one], part).items()}
    assert stored(access) == expected


# -- refused -----------------------------------------------------------------------------------------


def wide(number: int, times: Sequence[int], points: int = 40) -> tuple[Registry, Chunk]:
    registry = city_registry(1, points)
    rows = [(row, time, float(row), GOOD) for time in times for row in range(points)]
    return registry, replace(chunk(registry, *rows), first=number, last=number)


@pytest.mark.influxdb
def test_a_type_conflict_costs_the_field_and_not_its_neighbours(influxdb: InfluxDb, tmp_path: Path) -> None:
    times = [BEGIN + number * SECOND for number in range(5)]
    registry, given = wide(1, times)
    access = prepared(influxdb, new_organisation(influxdb), tmp_path, registry)
    write(access, "fenghuo-district-1", f"readings,enterprise={code(9)} P-0007=1i,P-0040=1i {BEGIN}")
    home = InfluxHome(access, tmp_path, Clock(BEGIN))
    home.append(given)
    expected = appended([given], registry)
    lost = {key for key in expected if key[4] in ("P-0007", "P-0040")}
    found = {key: value for key, value in stored(access, registry).items() if key[2] != code(9)}
    assert found == {key: value for key, value in expected.items() if key not in lost}
    assert home.counts["refused"] == len(lost) == 10
    assert home.position == 1
    noted = refusals(tmp_path / "influx.sqlite")
    assert {(one.bucket, one.line.decode()) for one in noted} == {
        ("fenghuo-district-1", f"readings,enterprise={code(1)} {point}={value} {time}\n")
        for point, value in (("P-0007", 6), ("P-0040", 39))
        for time in times
    }
    assert all("field type conflict" in one.reason and one.time == BEGIN for one in noted)
    home.append(given)
    assert len(refusals(tmp_path / "influx.sqlite")) == 10, "the same, once"
    home.close()


@pytest.mark.influxdb
def test_a_conflict_of_many_enterprises_is_found_in_a_few_requests(
    influxdb: InfluxDb, tmp_path: Path
) -> None:
    registry = city_registry(50, 20)
    access = prepared(influxdb, new_organisation(influxdb), tmp_path, registry)
    write(access, "fenghuo-district-1", f"readings,enterprise={code(99)} P-0003=1i {BEGIN}")
    given = chunk(registry, *[(row, BEGIN, float(row), GOOD) for row in range(len(registry.points))])
    home = InfluxHome(access, tmp_path, Clock(BEGIN))
    home.append(given)
    assert (home.counts["refused"], home.counts["requests"]) == (50, 3)
    assert len(stored(access, registry)) == 50 * 19 + 1
    home.close()


@pytest.mark.influxdb
def test_what_conflicts_in_one_shard_only_is_stored_in_the_other(influxdb: InfluxDb, tmp_path: Path) -> None:
    week = 8 * DAY  # the server has a shard for each week
    registry, given = wide(1, [BEGIN - week, BEGIN], 3)
    access = prepared(influxdb, new_organisation(influxdb), tmp_path, registry)
    write(access, "fenghuo-district-1", f"readings,enterprise={code(9)} P-0002=1i {BEGIN}")
    home = InfluxHome(access, tmp_path, Clock(BEGIN))
    home.append(given)
    found = {(key[4], key[5]) for key in stored(access, registry) if key[2] == code(1)}
    all = {(point, time) for point in registry.points.id for time in (BEGIN - week, BEGIN)}
    assert found == all - {("P-0002", BEGIN)}
    [noted] = refusals(tmp_path / "influx.sqlite")
    assert noted.line.decode().endswith(f" P-0002=1 {BEGIN}\n")
    home.close()


@pytest.mark.influxdb
def test_a_line_that_cannot_be_read_costs_none_of_the_others(
    access: Access, home: InfluxHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_rubbish(*given: Any) -> list[Lines]:
        return [replace(one, body=b"what?\n" + one.body + b"readings x=,y=1 7\n") for one in lines(*given)]

    monkeypatch.setattr(influx, "lines", with_rubbish)
    home.append(some(1))
    assert stored(access) == appended([some(1)])
    noted = refusals(tmp_path / "influx.sqlite")
    assert len(noted) == 6
    assert {one.line for one in noted} == {b"what?\n", b"readings x= 7\n"}
    assert all("400: unable to parse" in one.reason for one in noted)


@pytest.mark.influxdb
def test_the_earliest_and_the_latest_time_are_stored_and_none_beyond(
    access: Access, home: InfluxHome, tmp_path: Path
) -> None:
    assert len(setup(access, tmp_path / "grafana", Days(0, 0, 0))) == 6, "kept for ever"
    good = chunk(ODD, (0, LATEST, 1.0, GOOD), (1, EARLIEST, 2.0, GOOD))
    beyond = chunk(ODD, (0, LATEST + 1, 3.0, GOOD), (1, EARLIEST - 1, 4.0, GOOD), (0, 2**62, 5.0, GOOD))
    home.append(replace(good, readings=Readings.joined([beyond.readings, good.readings])))
    assert (home.counts["refused"], home.counts["unwritable"], home.counts["requests"]) == (0, 3, 1)
    for when, value in ((LATEST, "1"), (EARLIEST, "2")):
        stretch = f"start: time(v: {when * 1000}), stop: time(v: {when * 1000 + 1})"
        [row] = query(access, f'from(bucket: "fenghuo-district-1") |> range({stretch})')
        assert row["_value"] == value


@pytest.mark.influxdb
def test_where_very_much_is_refused_it_is_not_looked_for_for_ever(
    influxdb: InfluxDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influx, "SEARCH", 10)
    registry, given = wide(1, [BEGIN + number * SECOND for number in range(20)])
    access = prepared(influxdb, new_organisation(influxdb), tmp_path, registry)
    conflict = ",".join(f"{point}=1i" for point in registry.points.id)
    write(access, "fenghuo-district-1", f"readings,enterprise={code(9)} {conflict} {BEGIN}")
    home = InfluxHome(access, tmp_path, Clock(BEGIN))
    home.append(given)
    assert home.counts["refused"] == 20 * 40
    assert home.counts["requests"] <= 12
    assert home.position == 1
    home.close()
    noted = refusals(tmp_path / "influx.sqlite", 1000)
    assert {int(one.line.split()[-1]) for one in noted} == set(given.readings.time.tolist())
    assert sum(one.fields for one in noted) == 20 * 40
    assert refused(tmp_path / "influx.sqlite") == Refused(len(noted), 20 * 40, noted[0])


@pytest.mark.influxdb
def test_what_is_older_than_the_bucket_keeps_is_counted_and_no_more(
    access: Access, home: InfluxHome, tmp_path: Path
) -> None:
    setup(access, tmp_path / "grafana", Days(2, 2, 2))
    old, new = some(1, at=NOW - 3 * DAY), some(1)
    both = Readings.joined([old.readings, new.readings])
    home.append(replace(new, readings=both))
    assert stored(access) == appended([new])
    assert home.counts["expired"] > 0
    assert home.counts["refused"] == 0
    assert home.counts["requests"] <= 3


# -- away --------------------------------------------------------------------------------------------


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The URL of an HTTP server that is no InfluxDB."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"Client sent an HTTP request to an HTTPS server.\n"),
        (413, b"<html><center><h1>413 Request Entity Too Large</h1></center></html>"),
        (422, b'{"message": "no"}'),
    ],
)
def test_only_influxdb_itself_can_refuse_a_reading(tmp_path: Path, status: int, body: bytes) -> None:
    with answering(status, body) as url:
        home = InfluxHome(Access(url, "fenghuo", "token"), tmp_path, Clock(BEGIN))
        with pytest.raises(HomeAway, match=rf"does not answer as an InfluxDB 2 does.*influx\.url.*{status}:"):
            home.append(some(1))
    assert (home.position, home.counts["refused"], home.counts["requests"]) == (0, 0, 1)
    assert refused(tmp_path / "influx.sqlite") is None
    home.close()


@pytest.mark.influxdb
def test_a_bucket_that_is_missing_is_named_and_the_others_are_written_once(
    access: Access, home: InfluxHome, tmp_path: Path
) -> None:
    place = {"org": access.organisation, "name": "fenghuo-port"}
    [bucket] = api(access, "GET", "/buckets", params=place).json()["buckets"]
    api(access, "DELETE", f"/buckets/{bucket['id']}")
    for tried in (3, 4):
        with pytest.raises(HomeAway, match='bucket "fenghuo-port" not found: `fenghuo history setup` makes'):
            home.append(some(1))
        assert home.counts["requests"] == tried
    setup(access, tmp_path / "grafana")
    home.append(some(2))
    home.append(some(1))
    assert home.counts["requests"] == 4 + 3 + 3, "another chunk came between"
    assert stored(access) == appended([some(1), some(2)])


def test_what_cannot_be_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OverflowError):
        InfluxHome(Access("http://127.0.0.1:9", "", "", timeout=float("inf")), tmp_path, Clock(BEGIN))
    assert not list(tmp_path.iterdir())


@pytest.mark.influxdb
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"token": "secret-that-is-wrong"},
            r"refuses the token.*history\.influx\.token_file.*FENGHUO_INFLUX_TOKEN",
        ),
        ({"organisation": "nobody"}, r'"nobody" not found.*history\.influx\.organisation'),
        ({"prefix": "no-"}, r'bucket "no-district-1" not found.*fenghuo history setup'),
        ({"url": "http://127.0.0.1:9"}, r"cannot be reached.*history\.influx\.url"),
    ],
)
def test_what_is_set_wrongly_is_said_and_nothing_is_taken(
    access: Access, tmp_path: Path, change: dict[str, str], why: str
) -> None:
    home = InfluxHome(replace(access, **change), tmp_path / "notes", Clock(BEGIN))
    with pytest.raises(HomeAway, match=why) as raised:
        home.append(some(1))
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(replace(access, **change))
    assert (home.position, home.counts["away"]) == (0, 1)
    home.close()


class Writer(threading.Thread):
    """Appends one chunk after the other, each until it is taken, as whoever reads the journal does."""

    def __init__(
        self, access: Access, folder: Path, chunks: Iterator[Chunk], clock: Clock | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.taken: list[Chunk] = []
        self.problems: list[str] = []
        self.stop = threading.Event()
        self._access, self._folder, self._chunks = access, folder, chunks
        self._clock = clock or Clock(BEGIN)
        self._failed: BaseException | None = None
        self._moved = threading.Condition()

    def run(self) -> None:
        try:
            self._write()
        except BaseException as error:
            self._failed = error
            raise
        finally:
            with self._moved:
                self._moved.notify_all()

    def _write(self) -> None:
        home = InfluxHome(self._access, self._folder, self._clock)
        while not self.stop.is_set():
            one = next(self._chunks)
            while True:
                try:
                    home.append(one)
                    break
                except HomeAway as error:
                    assert home.position == one.last - 1
                    with self._moved:
                        self.problems.append(str(error))
                        self._moved.notify_all()
                    self.stop.wait(0.05)
            assert home.position == one.last
            with self._moved:
                self.taken.append(one)
                self._moved.notify_all()
        home.close()

    def until(self, condition: Callable[[], bool]) -> None:
        with self._moved:
            assert self._moved.wait_for(lambda: self._failed is not None or condition(), 600)
        assert self._failed is None

    def more(self, chunks: int = 3) -> None:
        """Wait until so many more are taken."""
        wanted = len(self.taken) + chunks
        self.until(lambda: len(self.taken) >= wanted)

    def fails(self, saying: str) -> None:
        """Wait for a new problem that says so; the request under way may break off in another way first."""
        before = len(self.problems)
        self.until(lambda: any(saying in problem for problem in self.problems[before:]))

    def end(self) -> None:
        self.stop.set()
        self.join(60)
        assert self._failed is None


CITY = city_registry(60, 20)


def endless(registry: Registry, readings: int) -> Iterator[Chunk]:
    for number in count(1):
        yield some(number, registry, readings=readings)


def counted(access: Access, registry: Registry) -> tuple[int, int]:
    """Readings and bad qualities that are stored, as the server counts them."""
    found = [0, 0]
    for cell in cells(registry, access.level):
        raw = f'from(bucket: "{access.bucket(cell)}") |> range(start: 0)'
        for place, which in enumerate(('"readings"', '"quality" and r._value == 2')):
            flux = f"{raw} |> filter(fn: (r) => r._measurement == {which}) |> count() |> group() |> sum()"
            found[place] += sum(int(row["_value"]) for row in query(access, flux, 300))
    return found[0], found[1]


@pytest.mark.influxdb
def test_killed_stopped_and_away_while_it_is_written_to_it_has_all_in_the_end(tmp_path: Path) -> None:
    with running(InfluxDb) as server:
        access = prepared(server, server.ORGANISATION, tmp_path, CITY, timeout=1.0)
        late = BEGIN + 2 * HOUR
        writer = Writer(access, tmp_path, endless(CITY, 4_000), Clock(late))
        writer.start()
        for _ in range(2):
            writer.more()
            server.kill()
            writer.fails("history.influx.url")
            server.start()
        writer.more()
        assert server.pid is not None
        kill(server.pid, signal.SIGSTOP)
        writer.fails("does not answer in time")
        kill(server.pid, signal.SIGCONT)
        writer.more()
        server.stop()
        writer.fails("cannot be reached")
        server.start()
        writer.more()
        writer.end()
        assert stored(access, CITY) == appended(writer.taken, CITY)
        assert counted(access, CITY) == totals(writer.taken, CITY)
        home = InfluxHome(access, tmp_path, Clock(late + 10 * MINUTE))
        maintained(home)
        home.close()
        assert rolled(access, BY_HOUR, CITY) == pytest.approx(
            by_hand(writer.taken, CITY, HOUR, BEGIN, BEGIN + HOUR)
        )


@pytest.mark.long
@pytest.mark.influxdb
@pytest.mark.timeout(900)
def test_two_minutes_away_under_load_and_killed_again_and_again(tmp_path: Path) -> None:
    registry = city_registry(503, 20)
    with running(InfluxDb) as server:
        access = prepared(server, server.ORGANISATION, tmp_path, registry, timeout=5.0)
        due = threading.Semaphore(0)  # a city's load: ten a second come up, whether they are taken or not
        pause, came = threading.Event(), 0

        def paced() -> Iterator[Chunk]:
            for one in endless(registry, 10_000):
                due.acquire()
                yield one

        def load(seconds: float) -> None:
            nonlocal came
            for _ in range(int(seconds * 10)):
                came += 1
                due.release()
                pause.wait(0.1)

        writer = Writer(access, tmp_path, paced())
        writer.start()
        load(3)
        server.stop()
        load(120)
        assert "cannot be reached" in writer.problems[-1]
        server.start()
        for number in range(20):
            load(1)
            server.kill()
            load(0.1 * number)
            server.start()
        writer.until(lambda: len(writer.taken) == came)
        writer.stop.set()
        due.release()
        writer.end()
        assert counted(access, registry) == totals(writer.taken, registry)


# -- roll-ups ----------------------------------------------------------------------------------------


def rolled(access: Access, of: str, registry: Registry) -> dict[tuple[str, ...], float]:
    """By stat, enterprise, unit, point and time."""
    found: dict[tuple[str, ...], float] = {}
    for cell in cells(registry, access.level):
        for row in query(access, f'from(bucket: "{access.bucket(cell, of)}") |> range(start: 0)'):
            assert row["_measurement"] == "readings"
            unit = row.get("unit", "")
            key = (row["stat"], row["enterprise"], unit, row["_field"], str(moment(row["_time"])))
            assert key not in found
            found[key] = float(row["_value"])
    return found


def by_hand(
    chunks: Sequence[Chunk], registry: Registry, window: int, first: int, after: int
) -> dict[tuple[str, ...], float]:
    """The same of what was appended in [first, after)."""
    values: dict[tuple[str, ...], dict[int, float]] = {}
    for (_, measurement, enterprise, unit, point, when), value in appended(chunks, registry).items():
        if measurement == "readings" and first <= when < after:
            values.setdefault((enterprise, unit, point, str(when // window * window)), {})[when] = value
    found = {}
    for key, by_time in values.items():
        all = np.array([by_time[when] for when in sorted(by_time)])
        stats = {"min": all.min(), "max": all.max(), "mean": all.mean(), "sum": all.sum()}
        stats |= {"last": all[-1], "count": len(all)}
        found |= {(stat, *key): float(stats[stat]) for stat in STATS}
    return found


def minutes(count: int, registry: Registry = ODD) -> list[Chunk]:
    """A chunk every ten seconds."""
    return [some(number * 10, registry) for number in range(count * 6)]


def run_tasks(access: Access, *wanted: tuple[str, int], ends: Sequence[str] = ("success",)) -> None:
    """Run each (name, as at this time, µs), and wait for their ends, which are to be these."""
    rights = {"Authorization": f"Token {access.token}"}
    with httpx.Client(base_url=f"{access.url}/api/v2", headers=rights, timeout=30) as client:
        ids = {name: one["id"] for name in {name for name, _ in wanted} for one in tasks(access, name)}
        waiting = []
        for name, until in wanted:
            runs = f"/tasks/{ids[name]}/runs"
            when = datetime.fromtimestamp(until / SECOND, UTC).isoformat()
            made = client.post(runs, json={"scheduledFor": when}).raise_for_status()
            waiting.append(f"{runs}/{made.json()['id']}")
        for _ in range(600):
            found = {
                run: client.get(run).json().get("status") for run in waiting
            }  # none while it is put away
            assert "failed" in ends or "failed" not in found.values(), found
            waiting = [run for run, status in found.items() if status not in ends]
            if not waiting:
                return
            threading.Event().wait(0.05)
        raise AssertionError(f"still {found}")


def hour_of_tasks(access: Access, cell: str, hour: int) -> list[tuple[str, int]]:
    """All runs that roll up an hour of a cell."""
    ends = ((one, hour + end) for one in BY for end in range(one.every, HOUR + 1, one.every))
    return [(access.bucket(cell, one.of), end) for one, end in ends]


@pytest.mark.influxdb
def test_the_tasks_roll_up_what_numpy_rolls_up(access: Access, home: InfluxHome) -> None:
    chunks = minutes(7)
    for one in chunks:
        home.append(one)
    places = cells(ODD, "district")
    by_minute_tasks = [(access.bucket(cell, BY_MINUTE), BEGIN + 5 * MINUTE) for cell in places]
    run_tasks(access, *by_minute_tasks, *((access.bucket(cell, BY_HOUR), BEGIN + HOUR) for cell in places))
    by_minute = by_hand(chunks, ODD, MINUTE, BEGIN, BEGIN + 5 * MINUTE)
    assert rolled(access, BY_MINUTE, ODD) == pytest.approx(by_minute)
    by_hour = by_hand(chunks, ODD, HOUR, BEGIN, BEGIN + HOUR)
    assert rolled(access, BY_HOUR, ODD) == pytest.approx(by_hour)
    assert {key[0] for key in by_minute} == set(STATS)


@pytest.mark.influxdb
def test_what_came_late_is_rolled_up_again_when_it_has_settled(access: Access, tmp_path: Path) -> None:
    """Of the hour that is not over, as far as the tasks have come."""
    clock = Clock(BEGIN + HOUR + 20 * MINUTE)
    home = InfluxHome(access, tmp_path, clock)
    late = [some(at * 60) for at in (0, 1, 30, 59, 61, 72)]
    in_time = [some(at * 60) for at in (79, 84, 86)]
    for one in late:
        home.append(one)
    assert not home.maintain(), "more of it may be on its way"
    home.close()
    home = InfluxHome(access, tmp_path, clock)
    for one in in_time:
        clock.time = int(one.readings.time.max()) + SECOND
        home.append(one)
    clock.time = BEGIN + HOUR + 30 * MINUTE
    maintained(home)
    all = late + in_time
    by_minute = by_hand(all, ODD, MINUTE, BEGIN, BEGIN + 85 * MINUTE)
    assert rolled(access, BY_MINUTE, ODD) == pytest.approx(by_minute)
    assert rolled(access, BY_HOUR, ODD) == pytest.approx(by_hand(all, ODD, HOUR, BEGIN, BEGIN + HOUR))
    assert (home.counts["rolled_up"], home.counts["not_rolled_up"]) == (6, 0)  # two hours of three cells
    home.close()


@pytest.mark.influxdb
def test_what_comes_in_time_is_left_to_the_tasks(access: Access, tmp_path: Path) -> None:
    clock = Clock(BEGIN)
    home = InfluxHome(access, tmp_path, clock)
    for number in range(0, 1200, 100):
        clock.time = BEGIN + (number + 30) * SECOND
        home.append(some(number))
    clock.time += HOUR
    assert not home.maintain()
    home.close()


@pytest.mark.influxdb
def test_what_cannot_be_rolled_up_waits_for_its_turn_again(access: Access, tmp_path: Path) -> None:
    clock = Clock(BEGIN + 2 * HOUR)
    home = InfluxHome(access, tmp_path, clock)
    home.append(some(1))
    clock.time += 10 * MINUTE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influx_upkeep, "again", lambda *_: 'from(bucket: "nothing") |> range(start: -1h)')
        for _ in range(5):
            assert not home.maintain(), "writing comes before another attempt"
    assert (home.counts["not_rolled_up"], home.counts["rolled_up"]) == (3, 0)
    assert not rolled(access, BY_MINUTE, ODD)
    clock.time += 10 * MINUTE
    maintained(home)
    assert home.counts["rolled_up"] == 3
    assert rolled(access, BY_MINUTE, ODD) == pytest.approx(by_hand([some(1)], ODD, MINUTE, BEGIN, NOW))
    home.close()


@pytest.mark.influxdb
def test_what_the_tasks_have_missed_is_rolled_up_again(access: Access, tmp_path: Path) -> None:
    """Runs that failed, over what somebody else wrote, and runs that never were, for the server was down; of one cell
    all have done theirs."""
    hour = BEGIN + HOUR
    clock = Clock(hour + 20 * MINUTE)
    home = InfluxHome(access, tmp_path, clock)
    chunks = [some(at * 60) for at in (80, 89, 119)]
    for one in chunks:
        clock.time = int(one.readings.time.max()) + SECOND
        home.append(one)
        assert not home.maintain(), "of the time before it began it knows nothing"
    odd, strange = f"readings,enterprise={code(2)}", {"NOTE", "N 1", "OLD"}
    write(access, "fenghuo-district-2", f'{odd} NOTE="text" {hour + 1}', f"{odd} N\\ 1=7i {hour + 1}")
    write(access, "fenghuo-district-2", f'{odd} OLD="text" {hour - DAY}')
    run_tasks(access, *hour_of_tasks(access, "port", hour))
    run_tasks(access, *hour_of_tasks(access, "district-2", hour), ends=("success", "failed"))

    def made(of: str) -> dict[tuple[str, ...], float]:
        """Of what is ours: a run that fails may have counted first what it cannot roll up."""
        return {key: value for key, value in rolled(access, of, ODD).items() if key[3] not in strange}

    assert code(1) not in {key[1] for key in made(BY_HOUR)}
    clock.time = hour + HOUR + 8 * MINUTE
    assert not home.maintain(), "the last of them may run yet"
    home.close()
    clock.time = hour + HOUR + 20 * MINUTE
    home = InfluxHome(access, tmp_path, clock)
    home.append(chunk(ODD))
    by_minute = access.bucket("district-1", BY_MINUTE)
    [task] = tasks(access, by_minute)
    api(access, "DELETE", f"/tasks/{task['id']}")
    with capture_logs() as logs:
        assert home.maintain()
    assert home.counts["missed"] == 2, "an hour of two cells"
    told = [(one["event"], one.get("task")) for one in logs]
    assert ("influx_task_not_seen", by_minute) in told
    assert {event for event, _ in told} == {
        "influx_task_not_seen",
        "influx_runs_missed",
        "influx_clock_differs",
    }
    clock.time += 10 * MINUTE
    with capture_logs() as logs:
        maintained(home)
    named = [(one["bucket"], set(one["fields"])) for one in logs if one["event"] == "influx_foreign_fields"]
    assert named == [("fenghuo-district-2", strange)]
    assert home.counts["not_rolled_up"] == 0
    assert made(BY_HOUR) == pytest.approx(by_hand(chunks, ODD, HOUR, hour, hour + HOUR))
    assert made(BY_MINUTE) == pytest.approx(by_hand(chunks, ODD, MINUTE, hour, hour + HOUR))
    home.close()


@pytest.mark.influxdb
def test_a_server_that_hangs_does_not_hold_up_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(BEGIN + 2 * HOUR)
    with running(InfluxDb) as server:
        access = prepared(server, server.ORGANISATION, tmp_path)
        home = InfluxHome(access, tmp_path, clock)
        home.append(some(1))
        assert not home.maintain()
        assert server.pid is not None
        kill(server.pid, signal.SIGSTOP)
        monkeypatch.setattr(influx_upkeep, "QUERY", 0.3)
        clock.time += HOUR
        for times in (1, 2):
            clock.time += 10 * MINUTE
            for _ in range(5):
                assert not home.maintain()
            assert (home.counts["not_looked"], home.counts["not_rolled_up"]) == (times, times)
        monkeypatch.undo()
        kill(server.pid, signal.SIGCONT)
        clock.time += 20 * MINUTE
        maintained(home)
        assert home.counts["rolled_up"] == 3
        home.close()


@pytest.mark.influxdb
def test_a_slot_rolls_up_its_own_enterprises_and_leaves_the_position_to_kafka(
    access: Access, tmp_path: Path
) -> None:
    clock = Clock(BEGIN + 2 * HOUR)
    own: list[str] = []
    home = InfluxHome(access, tmp_path, clock, lambda: own)
    home.append(some(1))
    home.close()
    home = InfluxHome(access, tmp_path, clock, lambda: own)
    assert home.position == 0
    clock.time += 10 * MINUTE
    assert not home.maintain(), "whose, is not known yet"
    own += [code(1), code(2), code(9)]
    maintained(home)
    assert home.counts["rolled_up"] == 3
    whole = by_hand([some(1)], ODD, MINUTE, BEGIN, NOW)
    part = {key: value for key, value in whole.items() if key[1] in own}
    assert len(part) < len(whole)
    assert rolled(access, BY_MINUTE, ODD) == pytest.approx(part)
    home.close()


def test_very_many_conditions_are_not_nested_deeply() -> None:
    told = joined("or", [f"r.enterprise == {number}" for number in range(1000)])
    assert told.count(" or ") == 999
    assert max(told[:at].count("(") - told[:at].count(")") for at in range(0, len(told), 7)) <= 10
    assert joined("and", ["one"]) == "one"


@pytest.mark.influxdb
@pytest.mark.parametrize("ahead", [0, -40, 40])
def test_clocks_that_differ_are_told(access: Access, tmp_path: Path, ahead: int) -> None:
    clock = Clock(time.time_ns() // 1000 + ahead * SECOND)
    home = InfluxHome(access, tmp_path, clock)
    home.append(some(1))
    with closing(Notes(tmp_path / "influx.sqlite", access.place)) as notes:
        notes.look(clock.time // HOUR * HOUR - 2 * HOUR)
    with capture_logs() as logs:
        assert home.maintain()
    told = [one["seconds"] > 0 for one in logs if one["event"] == "influx_clock_differs"]
    assert told == ([ahead > 0] if ahead else [])
    home.close()


@pytest.mark.influxdb
def test_hours_for_which_there_is_no_room_are_counted(
    access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("history.influx_notes.LATE", 1)
    home = InfluxHome(access, tmp_path, Clock(BEGIN + 2 * HOUR))
    with capture_logs() as logs:
        home.append(some(1))
    assert home.counts["forgotten"] == 2
    assert [one["hours"] for one in logs if one["event"] == "influx_hours_forgotten"] == [2]
    home.append(some(1))
    assert home.counts["forgotten"] == 4, "it is noted once, the others still lack room"
    home.close()


@pytest.mark.parametrize("roll_up", BY)
def test_what_is_written_before_a_task_runs_is_not_late_for_it(roll_up: Any) -> None:
    end = 10 * roll_up.every  # a window's task runs this long after its end
    runs = end + roll_up.offset
    assert roll_up.too_late(runs - MINUTE) <= end - roll_up.every
    assert roll_up.too_late(runs) == end


# -- notes -------------------------------------------------------------------------------------------


def test_notes_that_are_damaged_are_put_aside_and_all_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "influx.sqlite"
    notes = Notes(path, "here")
    notes.put(7, [], [Late("c", 0, 0)])
    notes.close()
    path.write_bytes(b"rubbish" * 1000)
    notes = Notes(path, "here")
    assert (notes.position, notes.late()) == (0, None)
    assert (tmp_path / "influx.damaged").exists()
    notes.put(8)
    notes.close()
    notes = Notes(path, "here")
    assert notes.position == 8
    notes.close()


def test_notes_of_another_version_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "influx.sqlite"
    Notes(path, "here").close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(sqlite3.OperationalError, match="another version of Fenghuo: move it away"):
        Notes(path, "here")


def test_refusals_are_all_counted_and_the_newest_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("history.influx_notes.KEPT", 5)
    assert refusals(tmp_path / "influx.sqlite") == []
    notes = Notes(tmp_path / "influx.sqlite", "here")
    assert refused(tmp_path / "influx.sqlite") is None
    lines = [
        b"same" + b"x" * 1500 + b"%d" % (number // 4) + b"x" * 1500 + b" %d\n" % number for number in range(8)
    ]
    for number, line in enumerate(lines):
        notes.put(number, [Refusal(number, "b", line, f"why {number}", 3)])
    notes.put(9, [Refusal(9, "b", lines[7], "why", 3)])  # after a crash, once more
    notes.put(9, [Refusal(9, "b", lines[7].replace(b"1", b"2"), "why 9", 3)])  # which differs in its middle
    found = refusals(tmp_path / "influx.sqlite")
    assert [one.time for one in found] == [9, 7, 6, 5, 4]
    assert refused(tmp_path / "influx.sqlite") == Refused(5, 9 * 3, found[0])
    assert found[0].reason == "why 9"
    assert all(one.line.startswith(b"samex") and len(one.line) < 1200 for one in found)
    assert [one.line.split()[-1] for one in found] == [b"7", b"7", b"6", b"5", b"4"]
    notes.close()


def test_late_hours_are_so_many_at_most_and_the_longest_waiting_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("history.influx_notes.LATE", 3)
    notes = Notes(tmp_path / "influx.sqlite", "here")
    assert notes.put(1, late=[Late("b", 5, 20), Late("a", 5, 20), Late("a", 9, 10), Late("a", 7, 30)]) == 1
    assert notes.put(2, late=[Late("a", 9, 99)]) == 0
    assert notes.late() == Late("a", 9, 10)
    notes.wait(Late("a", 9, 10), 50)
    assert notes.late() == Late("a", 5, 20)
    notes.rolled_up(Late("a", 5, 20))
    assert notes.look(77, [Late("c", 1, 1), Late("c", 2, 2)]) == 1
    for one in (Late("c", 1, 1), Late("b", 5, 20), Late("a", 9, 50)):
        assert notes.late() == one
        notes.rolled_up(one)
    assert (notes.late(), notes.looked, notes.position) == (None, 77, 2)
    notes.close()
    elsewhere = Notes(tmp_path / "influx.sqlite", "elsewhere")
    assert (elsewhere.looked, elsewhere.position) == (0, 0)
    elsewhere.close()


# -- setup -------------------------------------------------------------------------------------------


def setup(access: Access, folder: Path, days: Days = DAYS, **how: bool) -> list[str]:
    return list(set_up(access, cells(ODD, access.level), days, folder, **how))


@pytest.mark.influxdb
def test_setup_makes_what_is_missing_mends_what_is_otherwise_and_else_does_nothing(
    influxdb: InfluxDb, tmp_path: Path
) -> None:
    access = Access(influxdb.url, new_organisation(influxdb), influxdb.token)
    missing = setup(access, tmp_path, dry=True)
    assert len(missing) == 3 * (3 + 2 + 1)
    assert not list(tmp_path.iterdir())
    assert len(setup(access, tmp_path)) == len(missing)
    assert setup(access, tmp_path) == setup(access, tmp_path, dry=True) == []

    shorter = Days(2, 90, 0)
    change = "bucket fenghuo-port: keeps 2 days instead of 400 days"
    assert change in setup(access, tmp_path, shorter, dry=True)
    assert change in setup(access, tmp_path, shorter)
    assert setup(access, tmp_path, shorter) == []

    rights = {"Authorization": f"Token {access.token}"}
    with httpx.Client(base_url=f"{access.url}/api/v2", headers=rights, timeout=30) as client:
        name = "fenghuo-port-1m"
        [task] = client.get("/tasks", params={"org": access.organisation, "name": name}).json()["tasks"]
        client.patch(f"/tasks/{task['id']}", json={"status": "inactive"}).raise_for_status()
    assert setup(access, tmp_path, shorter, dry=True) == [f"task {name}: is not as it should be"]
    assert setup(access, tmp_path, shorter) == [f"task {name}: set right"]
    assert setup(access, tmp_path, shorter) == []

    path = tmp_path / "influx-port.token"
    before = path.read_text("utf-8")
    path.unlink()
    assert setup(access, tmp_path, shorter) == [f"token {path}: made; reads the buckets of port"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        query(replace(access, token=before), "buckets()")


@pytest.mark.influxdb
def test_a_token_for_grafana_reads_its_cell_and_nothing_else(
    access: Access, home: InfluxHome, tmp_path: Path
) -> None:
    home.append(some(1))
    read = replace(access, token=(tmp_path / "grafana" / "influx-port.token").read_text("utf-8"))
    assert query(read, 'from(bucket: "fenghuo-port") |> range(start: 0)')
    for bucket in ("fenghuo-port-1m", "fenghuo-port-1h"):
        query(read, f'from(bucket: "{bucket}") |> range(start: 0)')
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        query(read, 'from(bucket: "fenghuo-district-1") |> range(start: 0)')
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        write(read, "fenghuo-port", f"readings,enterprise={code(1)} x=1 {BEGIN}")


@pytest.mark.influxdb
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"token": "wrong"}, "refuses the token"),
        ({"organisation": "nobody"}, '"nobody" not found'),
        ({"url": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_setup_says_what_is_set_wrongly(
    influxdb: InfluxDb, tmp_path: Path, change: dict[str, str], why: str
) -> None:
    access = Access(influxdb.url, influxdb.ORGANISATION, influxdb.token)
    with pytest.raises(SetupError, match=why):
        setup(replace(access, **change), tmp_path)


@pytest.mark.influxdb
def test_a_token_that_may_not_see_the_organisation_cannot_set_it_up(access: Access, tmp_path: Path) -> None:
    only_reads = (tmp_path / "grafana" / "influx-port.token").read_text()
    with pytest.raises(
        SetupError, match=r"does not show this token the organisation .* all-access token"
    ) as it:
        setup(replace(access, token=only_reads), tmp_path)
    assert only_reads not in str(it.value)


@pytest.mark.influxdb
@pytest.mark.parametrize("version", ["1.8.10", "v3.2.0"])
def test_another_influxdb_is_not_set_up(
    influxdb: InfluxDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(InfluxDBClient, "version", lambda _: version)
    access = Access(influxdb.url, new_organisation(influxdb), influxdb.token)
    with pytest.raises(SetupError, match=f"is InfluxDB {version}, but 2 is needed"):
        setup(access, tmp_path)


@pytest.mark.parametrize("id", ["port-1m", "port-1h"])
def test_a_cell_whose_bucket_would_be_taken_for_roll_ups_is_refused(id: str) -> None:
    taken = replace(ODD, cells=ODD.cells | {id: Cell(id, "港", "district", "city")})
    with pytest.raises(SetupError, match=f"cell '{id}' cannot have a bucket.*-1m or -1h"):
        cells(taken, "district")


def test_a_level_that_the_grid_does_not_have_is_said_with_those_it_has() -> None:
    with pytest.raises(
        SetupError, match="'distrikt', but the grid has the levels city, district, town, village, zone"
    ):
        cells(ODD, "distrikt")


@pytest.mark.influxdb
def test_the_command(influxdb: InfluxDb, tmp_path: Path) -> None:
    versions.save(tmp_path / "data" / "versions", ODD)
    versions.want(tmp_path / "data" / "versions", ODD.version)
    file = tmp_path / "fenghuo.yaml"
    given = {"url": influxdb.url, "organisation": new_organisation(influxdb)}

    def run(*more: str, **environment: str) -> tuple[int, str]:
        file.write_text(yaml.safe_dump({"data": "data", "history": {"influx": given}}), "utf-8")
        ran = CliRunner().invoke(app, ["history", "setup", str(file), *more], env=environment)
        return ran.exit_code, " ".join(ran.stderr.split())

    missing = "history.influx.token_file: it is missing, and FENGHUO_INFLUX_TOKEN too"
    assert run() == (1, f"{file}: {missing}")
    assert run(FENGHUO_INFLUX_TOKEN="another") == (
        1,
        f"{file}: {influxdb.url} refuses the token: it is read from `history.influx.token_file`, or "
        "from FENGHUO_INFLUX_TOKEN (401: unauthorized access)",
    )
    status, text = run("--dry-run", FENGHUO_INFLUX_TOKEN=influxdb.token)
    assert (status, text.endswith("nothing of this was done")) == (0, True)
    given["token_file"] = str(influxdb.token_file)
    status, text = run()
    assert status == 0
    assert "bucket fenghuo-district-1-1h: made, keeps for ever" in text
    assert (tmp_path / "data" / "grafana" / "influx-district-1.token").exists()
    assert run() == (0, "nothing to do: all is there for 3 cells")
    given["level"] = "parish"
    assert "the grid has the levels city, district" in run()[1]
    given["url"] = "influx.example:8086"
    assert run() == (
        2,
        f"{file}: history.influx.url: expected http://HOST:PORT or https://HOST:PORT; the token "
        "belongs in a `token_file` or in FENGHUO_INFLUX_TOKEN",
    )
