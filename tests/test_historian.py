"""The historian of `fenghuo serve`: history is the journal, to the reading, whatever died; and says when it is not."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from deploy.dev.services import InfluxDb
from fenghuo import historian_status, settings
from fenghuo.commands import doctor
from fenghuo.historian import Reading as HomeReading
from fenghuo.historian_status import HistorianStatus, HomeStatus
from fenghuo.rehearsal import Rehearsal
from fenghuo.retry import LONGEST, Retry
from fenghuo.settings import Influx
from fenghuo.status import write as write_status
from history import catalogue
from history.catalogue import BY_HOUR
from history.home import Home
from history.influx import InfluxHome
from history.influx_access import Access
from history.influx_notes import Notes
from history.influx_setup import Days, cells, set_up
from history.reader import Reader
from history.source import end
from history.store import ParquetHome
from ingest import journal
from ingest.journal import Journal
from ingest.readings import Readings, Round
from registry import versions
from registry.clock import HOUR, MINUTE, SECOND, SystemClock
from registry.store import Change
from tests.build import city_registry
from tests.folders import write_registry
from tests.phones import until
from tests.servers import needs_mosquitto, new_organisation
from tests.servers import running as running_server


def with_a_broker(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.mosquitto(needs_mosquitto(test))


START = 1_767_225_600 * SECOND
FAR = 1 << 62

Reading = tuple[str, str, int, float, int, int]


def journaled(running: Rehearsal) -> Counter[Reading]:
    """Every reading of the journal: enterprise, point, time, value, quality, arrival."""
    found: Counter[Reading] = Counter()
    for _, round_ in journal.read(running.data / "journal", 0):
        if round_.version is not None:
            registry = versions.load(running.data / "versions", round_.version)
        one = round_.readings
        for row, *said in zip(
            *(a.tolist() for a in (one.row, one.time, one.value, one.quality)), strict=True
        ):
            enterprise = registry.gateways[registry.points.gateway[row]].enterprise
            found[enterprise, registry.points.id[row], *said, round_.time] += 1
    return found


def kept(running: Rehearsal) -> Counter[Reading]:
    """Every reading of history, likewise."""
    found: Counter[Reading] = Counter()
    reader = Reader(running.data / "history")
    for enterprise, rows in running.registry.rows.items():
        table = reader.readings(enterprise, list(rows), 0, FAR).to_pydict()
        found.update((enterprise, *row) for row in zip(*table.values(), strict=True))
    reader.close()
    return found


def let_it_catch_up(running: Rehearsal, home: str = "parquet") -> None:
    """Until all that was published is durable in a home of history."""
    running.settle()
    running.settle_status()
    wanted = running.said().offset
    while (said := status(running, home)) is None or said.position < wanted:
        running.step(running.now + MINUTE)  # time alone makes durable what waits
        running.wait_for("history", lambda: _time(running, home) >= running.now - SECOND)


def status(running: Rehearsal, home: str) -> HomeStatus | None:
    said = historian_status.read(running.data / "history.json")
    return said.homes[home] if said else None


def _time(running: Rehearsal, home: str) -> int:
    said = status(running, home)
    return said.time if said else 0


@with_a_broker
def test_history_is_the_journal_to_the_reading_whatever_is_killed(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=2, points=3)
    draw = random.Random(7)
    options = {"history": {"embedded": True}}
    with Rehearsal(tmp_path, tmp_path / "registry", START, **options) as running:
        for minute in range(0, 150, 3):
            if minute in (21, 72):
                running.kill("historian")
            if minute == 72:
                point = {"enterprise": codes[0], "point": "A0", "gateway": "gw1", "kind": "temperature"}
                point["engineering_unit"] = "°C"
                running.edit_registry([Change("point", f"{codes[0]}/A0", point)])
            for code in codes:
                values = {f"P{number}": round(draw.uniform(0, 20), 1) for number in (1, 2, 3)}
                if minute >= 72 and code == codes[0]:
                    values["A0"] = float(minute)
                running.publish(code, "gw1", START + minute * MINUTE, values)
            running.step(START + (minute + 3) * MINUTE)
        running.kill("historian")
        let_it_catch_up(running)
        said = journaled(running)
        assert len(said) == 50 * 6 + 26
        assert kept(running) == said
        rolled = catalogue.listed(running.data / "history", codes[0], 0, FAR, BY_HOUR)
        assert rolled
        course = (
            Reader(running.data / "history")
            .courses(codes[0], ["A0"], START, START + 3 * HOUR, 3)
            .points["A0"]
        )
        assert course.count.tolist() == [16, 10]
        assert course.greatest.tolist() == [117.0, 147.0]


@with_a_broker
def test_history_that_cannot_be_written_says_so_and_catches_up(tmp_path: Path) -> None:
    [code] = write_registry(tmp_path / "registry", enterprises=1, points=1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "history").write_text("in the way")
    options = {"history": {"embedded": True}}
    with Rehearsal(tmp_path, tmp_path / "registry", START, **options) as running:
        running.publish(code, "gw1", START, {"P1": 60.0})
        running.step(START + MINUTE)
        running.settle()
        assert [alert.rule for alert in running.alerts()] == ["limit.high"]
        running.wait_for("its word", lambda: "history_does_not_take" in running.log_tail(200))
        (tmp_path / "data" / "history").unlink()
        let_it_catch_up(running)
        assert kept(running) == journaled(running)


@with_a_broker
@pytest.mark.influxdb
def test_an_influxdb_that_was_away_gets_what_it_missed_and_nothing_twice(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=2, points=3)
    start = SystemClock().now() // HOUR * HOUR - 3 * HOUR  # it keeps nothing that is too old for its buckets
    with running_server(InfluxDb) as server:
        organisation = new_organisation(server)
        (tmp_path / "influx.token").write_text(server.token)
        place = {
            "url": server.url,
            "organisation": organisation,
            "token_file": str(tmp_path / "influx.token"),
        }
        access = Influx.model_validate(place).access
        for _ in set_up(access, ["east"], Days(400, 1100, 0), tmp_path / "grafana"):
            pass
        options = {"history": {"embedded": True, "influx": place}}
        with Rehearsal(tmp_path, tmp_path / "registry", start, **options) as running:
            for number in range(15):
                if number == 5:
                    let_it_catch_up(running, "influxdb")
                    server.kill()
                if number == 10:
                    running.kill("historian")
                    running.wait_for(
                        "its word", lambda: bool((said := status(running, "influxdb")) and said.problem)
                    )
                    server.start()
                for code in codes:
                    values = {f"P{point}": number * 2 + point for point in (1, 2, 3)}
                    running.publish(code, "gw1", running.now, values)
                running.step(running.now + 4 * MINUTE)
            for home in ("influxdb", "parquet"):
                let_it_catch_up(running, home)
            said = journaled(running)
            assert len(said) == 15 * 6
            assert kept(running) == said
            query = """
                from(bucket: "fenghuo-east") |> range(start: 0)
                |> filter(fn: (r) => r._measurement == "readings") |> group()"""
            with access.client() as client:
                [table] = client.query_api().query(query)
            stored = Counter(
                (one["enterprise"], one["_field"], round(one["_time"].timestamp() * SECOND), one["_value"])
                for one in table.records
            )
            assert stored == Counter({reading[:4]: 1 for reading in said})


# -- one home, and its way through the journal ---------------------------------------------------------

CITY = city_registry(1, 3)
LATELY = SystemClock().now() // HOUR * HOUR - 5 * HOUR


def append(folder: Path, hour: int, rounds: int) -> None:
    """Rounds of a reading each to the journal, in the file of this hour; the version is said first."""
    with Journal(folder / "journal", reserve=0) as made:
        newest = end(folder / "journal")
        said = [] if newest else [Round(LATELY, version=CITY.version)]
        for number in range(rounds):
            at = LATELY + hour * HOUR + (newest + number) * SECOND
            row, quality = np.zeros(1, np.int32), np.zeros(1, np.uint8)
            said.append(Round(at, readings=Readings(row, np.array([at]), np.ones(1), quality)))
        made.append(said)


def reading(folder: Path, open_home: Callable[[], Home]) -> HomeReading:
    return HomeReading("home", open_home, folder / "journal", lambda _: CITY)


@contextmanager
def running(one: HomeReading) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def access(influxdb: InfluxDb) -> Access:
    """Of an organisation without any bucket."""
    return Access(influxdb.url, new_organisation(influxdb), influxdb.token, timeout=30.0)


@pytest.mark.influxdb
def test_what_the_journal_no_longer_has_is_counted_once_and_what_history_has_is_said_while_it_is_away(
    access: Access, tmp_path: Path
) -> None:
    for hour, rounds in enumerate((9, 90, 1)):
        append(tmp_path, hour, rounds)
    sorted((tmp_path / "journal").glob("*.sqlite"))[1].unlink()
    notes = Notes(tmp_path / "influx.sqlite", access.place)
    notes.put(10)
    notes.close()
    homes: list[InfluxHome] = []

    def opened() -> Home:
        homes.append(InfluxHome(access, tmp_path, SystemClock()))
        return homes[-1]

    one = reading(tmp_path, opened)
    with running(one):
        until(lambda: homes and homes[0].counts["away"] == 3)
        said = one.status()
        assert (said.position, said.lost, "history setup" in said.problem) == (10, 0, True)
        for _ in set_up(access, cells(CITY, access.level), Days(400, 1100, 0), tmp_path / "grafana"):
            pass
        until(lambda: one.status().position == 101)
    said = one.status()
    assert (said.lost, said.problem, said.counts["readings"], len(homes)) == (90, "", 1, 1)


def test_between_two_works_of_its_own_a_home_is_given_what_has_come(tmp_path: Path) -> None:
    """Even if they never end; and once it is told to stop it does no further one."""
    stop = threading.Event()
    stands = []

    class Busy(ParquetHome):
        def maintain(self) -> bool:
            super().maintain()
            stands.append((self.taken, end(tmp_path / "journal")))
            append(tmp_path, 0, 1)
            if len(stands) == 12:
                stop.set()
            return True

    append(tmp_path, 0, 5)
    reading(tmp_path, lambda: Busy(tmp_path / "history")).run(stop)
    assert stands == [(6 + number, 6 + number) for number in range(12)]


@pytest.mark.influxdb
def test_what_nobody_foresaw_is_said_without_its_words_which_may_hold_a_secret(
    access: Access, tmp_path: Path
) -> None:
    append(tmp_path, 0, 1)
    bad = replace(access, token="\ufeffSECRET")
    one = reading(tmp_path, lambda: InfluxHome(bad, tmp_path, SystemClock()))
    with capture_logs() as logs, running(one):
        until(lambda: one.status().problem)
    assert one.status().problem == "UnicodeEncodeError: the log says more"
    assert [log["event"] for log in logs][:2] == ["history_failed", "history_does_not_take"]
    assert "SECRET" not in str(logs)


def test_the_doctor_says_how_much_influxdb_refused_and_where_it_is_kept(tmp_path: Path) -> None:
    chosen = settings.make(
        data=tmp_path, history={"embedded": False, "influx": {"url": "http://127.0.0.1:9"}}
    )
    now = SystemClock().now()
    for counts, verdict in (({"refused": 0}, doctor.GOOD), ({"refused": 1_200}, doctor.DOUBTFUL)):
        home = HomeStatus(position=1, time=now, problem="", lost=0, counts=counts)
        write_status(chosen.history_status, HistorianStatus(pid=1, number=1, homes={"influxdb": home}))
        [found] = [one for one in doctor.examine(chosen, now) if one.what == "history"]
        assert found.verdict == verdict
    assert "InfluxDB refused 1,200 fields" in found.said
    assert str(tmp_path / "history" / "influx.sqlite") in found.said


def test_what_fails_is_tried_again_soon_and_then_less_often() -> None:
    waits = []

    class Noted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return False

    retry, stop = Retry(), Noted()
    for _ in range(7):
        retry.wait(stop)
    retry.done()
    retry.wait(stop)
    assert waits == [0.25, 0.5, 1, 2, 4, LONGEST, LONGEST, 0.25]
