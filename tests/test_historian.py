"""The historian of `fenghuo serve`: history is the journal, to the reading, whatever died; and says when it is not."""

import random
from collections import Counter
from pathlib import Path

import pytest

from deploy.dev.services import InfluxDb
from fenghuo import historian_status
from fenghuo.historian_status import HomeStatus
from fenghuo.rehearsal import Rehearsal
from fenghuo.settings import Influx
from history import catalogue
from history.catalogue import BY_HOUR
from history.influx_setup import Days, set_up
from history.reader import Reader
from ingest import journal
from registry import versions
from registry.clock import HOUR, MINUTE, SECOND, SystemClock
from registry.store import Change
from tests.folders import write_registry
from tests.servers import needs_mosquitto, new_organisation
from tests.servers import running as running_server

pytestmark = [pytest.mark.mosquitto, needs_mosquitto]

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


def test_history_is_the_journal_to_the_reading_whatever_is_killed(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=2, points=3)
    draw = random.Random(7)
    options = {"history": {"embedded": True}}
    with Rehearsal(tmp_path, tmp_path / "registry", START, **options) as running:
        for minute in range(150):
            if minute % 50 == 20:
                running.kill("historian")
            if minute == 70:
                point = {"enterprise": codes[0], "point": "A0", "gateway": "gw1", "kind": "temperature"}
                point["engineering_unit"] = "°C"
                running.edit_registry([Change("point", f"{codes[0]}/A0", point)])
            for code in codes:
                values = {f"P{number}": round(draw.uniform(0, 20), 1) for number in (1, 2, 3)}
                if minute > 70 and code == codes[0]:
                    values["A0"] = float(minute)
                running.publish(code, "gw1", START + minute * MINUTE, values)
            running.step(START + (minute + 1) * MINUTE)
        running.kill("historian")
        let_it_catch_up(running)
        said = journaled(running)
        assert len(said) == 150 * 6 + 79
        assert kept(running) == said
        rolled = catalogue.listed(running.data / "history", codes[0], 0, FAR, BY_HOUR)
        assert rolled
        course = (
            Reader(running.data / "history")
            .courses(codes[0], ["A0"], START, START + 3 * HOUR, 3)
            .points["A0"]
        )
        assert course.count.tolist() == [49, 30]
        assert course.greatest.tolist() == [119.0, 149.0]


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
            for minute in range(60):
                if minute == 20:
                    let_it_catch_up(running, "influxdb")
                    server.kill()
                if minute == 40:
                    running.kill("historian")
                    running.wait_for(
                        "its word", lambda: bool((said := status(running, "influxdb")) and said.problem)
                    )
                    server.start()
                for code in codes:
                    values = {f"P{number}": minute / 2 + number for number in (1, 2, 3)}
                    running.publish(code, "gw1", running.now, values)
                running.step(running.now + MINUTE)
            for home in ("influxdb", "parquet"):
                let_it_catch_up(running, home)
            said = journaled(running)
            assert len(said) == 60 * 6
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
