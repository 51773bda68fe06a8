"""The historian of a cluster on a real Kafka, PostgreSQL and InfluxDB: whatever dies, every reading is there once."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from deploy.dev.services import InfluxDb, Kafka, Postgres
from fenghuo import cluster_historian as role
from fenghuo.__main__ import app
from fenghuo.cluster_historian import ClusterHistorian, Place
from fenghuo.settings import History, Influx, Settings
from history.chunk import Chunk, chunk
from history.influx_access import BY_HOUR, Access
from ingest.broker import free_port
from ingest.readings import Readings, Round
from ingest.topics import Entry, Topics, decode, encode
from registry import slots
from registry.clock import HOUR
from registry.model import Registry
from tests import clusters
from tests.build import Cell, PointSpec, code, make_registry
from tests.phones import until
from tests.servers import new_organisation, running
from tests.test_history_influx import (
    BEGIN,
    appended,
    by_hand,
    counted,
    prepared,
    rolled,
    some,
    stored,
    totals,
    write,
)

pytestmark = [pytest.mark.kafka, pytest.mark.postgresql, pytest.mark.influxdb]

CODES = [code(number) for number in range(1, 9)]


def registry_of(*points: str) -> Registry:
    """Of eight enterprises with these points each: half of a slot's in a district of its own, half in one of both."""
    city = Cell("city", "海州市", "city", "")
    districts = (Cell(f"district-{which}", f"{which} 区", "district", "city") for which in ("0", "1", "both"))
    return make_registry(
        {enterprise: [PointSpec(id=id) for id in points] for enterprise in CODES},
        cells=(city, *districts),
        cell_of={enterprise: _cell(enterprise) for enterprise in CODES},
        version=f"of-{len(points)}",
    )


def _cell(enterprise: str) -> str:
    slot = slots.slot_of(enterprise, 2)
    own = [code for code in CODES if slots.slot_of(code, 2) == slot]
    return f"district-{slot if own.index(enterprise) < len(own) / 2 else 'both'}"


FIRST = registry_of("TI-1", "TI-2")
NEXT = registry_of("LI-1", "TI-1", "TI-2")  # the same rows are other points


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role, "GATHER", 0.1)
    monkeypatch.setattr(role, "TOLD", 0.1)
    monkeypatch.setattr("fenghuo.retry.FIRST", 0.1)
    monkeypatch.setattr("fenghuo.retry.LONGEST", 0.4)


class House:
    """A cluster's readings, which the test writes as collectors do, and historians that are turned by hand."""

    def __init__(self, settings: Settings, access: Access) -> None:
        assert settings.cluster is not None
        self.settings, self.cluster, self.access = settings, settings.cluster, access
        self.topic = Topics(self.cluster.topics).readings
        self.producer = Producer({"bootstrap.servers": self.cluster.kafka, "linger.ms": 0, "log_level": 0})
        group = Topics(self.cluster.topics).history  # which it never joins
        self._looks = Consumer({"bootstrap.servers": self.cluster.kafka, "group.id": group})
        self._partitions = [TopicPartition(self.topic, slot) for slot in range(2)]
        self.historians: dict[str, ClusterHistorian] = {}
        self.expected: dict[Any, float] = {}
        self.chunks: list[Any] = []
        self._parts: dict[int, Registry] = {}
        self._number = 0

    def publish(self, registry: Registry, partitions: tuple[int, ...] = (0, 1), term: int = 1) -> str:
        """Have a version in force in these slots from here on."""
        version, edition = clusters.publish(self.settings, registry)
        for slot in partitions:
            self.write(slot, Entry(Round(BEGIN, version=version), term, edition))
            self._parts[slot] = slots.part(registry, slot, 2)
        return version

    def tell(self, slot: int, rounds: int = 1, *, term: int = 1, arrives: bool = True) -> None:
        """Rounds of random readings, and a time mark after each; whether they have to be in InfluxDB in the end."""
        for _ in range(rounds):
            self._number += 1
            one = some(self._number, self._parts[slot])
            self.write(slot, Entry(Round(one.time, readings=one.readings), term))
            self.write(slot, Entry(Round(one.time), term))
            if arrives:
                self.expected |= appended([one], self._parts[slot])
                self.chunks.append(one)

    def write(self, slot: int, entry: Entry) -> None:
        self.raw(slot, *encode(entry))

    def raw(self, slot: int, value: bytes, headers: Any = None) -> None:
        self.producer.produce(self.topic, value, partition=slot, headers=headers)
        assert self.producer.flush(10) == 0

    def open(self, name: str = "1") -> ClusterHistorian:
        made = ClusterHistorian(self.settings, self.cluster, self.access, name)
        self.historians[name] = made
        return made

    def turn(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Turn all historians until the condition holds."""

        def turned() -> object:
            for one in self.historians.values():
                one.turn()
            return condition()

        until(turned, seconds)

    def close(self, name: str = "1") -> ClusterHistorian:
        gone = self.historians.pop(name)
        gone.close()
        return gone

    def committed(self) -> list[Place]:
        """Of each slot."""
        return [Place.of(one) for one in self._looks.committed(self._partitions, timeout=10)]

    def ends(self) -> list[int]:
        """Offsets behind the newest records."""
        found = [self._looks.get_watermark_offsets(one, 10) for one in self._partitions]
        return [one[1] for one in found if one]

    def all_is_committed(self) -> bool:
        return [place.offset for place in self.committed()] == self.ends()

    def stored(self, registry: Registry = NEXT) -> dict[Any, float]:
        return stored(self.access, registry)

    def has_coordinator(self) -> bool:
        """Whether Kafka has found who keeps the group's offsets: a new one takes a moment."""
        try:
            return bool(self.committed())
        except KafkaException:
            return False

    def status(self, name: str = "1") -> dict[str, Any]:
        path = self.settings.data / f"historian-{name}.json"
        return json.loads(path.read_bytes())


@contextmanager
def house_of(
    kafka: Kafka, postgres: Postgres, influxdb: InfluxDb, folder: Path, organisation: str = "", **more: Any
) -> Iterator[House]:
    organisation = organisation or new_organisation(influxdb)
    influx = Influx(url=influxdb.url, organisation=organisation, token_file=influxdb.token_file, timeout=5)
    access = prepared(influxdb, organisation, folder, more.pop("registry", NEXT))
    with clusters.settings_of(kafka, postgres, folder) as settings:
        house = House(settings.model_copy(update={"history": History(influx=influx)}), access)
        until(house.has_coordinator)
        try:
            yield house
        finally:
            for name in list(house.historians):
                house.close(name)
            house._looks.close()


@pytest.fixture
def house(kafka: Kafka, postgres: Postgres, influxdb: InfluxDb, tmp_path: Path) -> Iterator[House]:
    with house_of(kafka, postgres, influxdb, tmp_path) as house:
        yield house


def test_readings_of_two_slots_and_two_versions_arrive_to_the_reading(house: House) -> None:
    house.publish(FIRST)
    for slot in (0, 1, 0):
        house.tell(slot, 2)
    version = house.publish(NEXT)
    for slot in (0, 1):
        house.tell(slot)
    historian = house.open()
    house.turn(house.all_is_committed)
    assert house.stored() == house.expected
    assert {key[0] for key in house.expected} == {"district-0", "district-1", "district-both"}
    assert {place.version for place in house.committed()} == {version}

    def stand() -> tuple[Any, ...]:
        said = house.status()
        slots = said["slots"].values()
        return said["counts"], said["problem"], [(one["behind"], one["version"]) for one in slots]

    counts = {**dict.fromkeys(role.COUNTERS, 0), "readings": 8 * 300}
    house.turn(lambda: stand() == (counts, "", [(0, version), (0, version)]))
    collected = CollectorRegistry()
    collected.register(role.Scrape(lambda: historian.said))
    page = generate_latest(collected).decode()
    assert "fenghuo_historian_readings_total 2400.0" in page
    assert 'fenghuo_historian_lag{partition="1"} 0.0' in page

    house.close()
    house.tell(0)
    house.open("2")
    house.turn(house.all_is_committed)
    assert house.stored() == house.expected, "the version was known where it went on"
    assert house.historians["2"].said.counts["left_out"] == 0


def test_what_was_stored_and_not_committed_is_stored_again_and_doubles_nothing(house: House) -> None:
    house.publish(FIRST)
    house.tell(0, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusterHistorian, "_commit", lambda *_, **__: None)
        house.open()
        house.turn(lambda: len(house.stored()) == len(house.expected))
        house.close()
    assert [place.offset < 0 for place in house.committed()] == [True, True]
    again = house.open("2")
    house.turn(house.all_is_committed)
    house.turn(lambda: again.said.counts["readings"] >= 2 * 300)
    assert house.stored() == house.expected


def test_a_killed_process_loses_and_doubles_nothing(house: House) -> None:
    run = house.settings.data / "run.json"
    house.settings.save(run)
    command = [sys.executable, "-m", "fenghuo", "historian", str(run)]
    house.publish(FIRST)
    house.tell(0, 4)
    house.tell(1, 4)
    killed = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        until(lambda: min(place.offset for place in house.committed()) > 0, 60)
        house.publish(NEXT)
        for number in range(20):
            house.tell(number % 2, 2)
            if number == 15:
                killed.send_signal(signal.SIGKILL)
    finally:
        killed.kill()
        killed.communicate()
    assert not house.all_is_committed()
    second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        until(house.all_is_committed, 60)
        second.terminate()
        _, said = second.communicate(timeout=30)
    finally:
        second.kill()
    assert second.returncode == 0
    assert [json.loads(line)["event"] for line in said.splitlines()][-1] == "role_ended"
    assert house.stored() == house.expected
    assert counted(house.access, NEXT) == totals(house.chunks, NEXT)


def test_while_influxdb_is_away_nothing_is_committed_and_then_all_arrives(
    kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    with (
        running(InfluxDb) as server,
        house_of(kafka, postgres, server, tmp_path, server.ORGANISATION) as house,
    ):
        house.publish(FIRST)
        house.tell(0)
        historian = house.open()
        house.turn(house.all_is_committed)
        before = house.committed()
        server.stop()
        house.tell(0, 5)
        house.publish(NEXT)
        house.tell(0, 5)
        house.turn(lambda: "history.influx.url" in historian.said.problem)
        house.tell(0)
        house.turn(lambda: historian.said.slots[0].behind == house.ends()[0] - before[0].offset)
        assert house.committed()[0] == before[0]
        assert historian._slots[0].paused
        server.start()
        house.turn(house.all_is_committed)
        assert house.stored() == house.expected
        house.turn(lambda: not historian.said.problem)
        assert historian.said.counts["away"] > 0


def test_one_slot_that_is_not_taken_holds_up_no_other(house: House) -> None:
    bucket = "fenghuo-district-1"
    buckets = f"{house.access.url}/api/v2/buckets"
    rights = {"Authorization": f"Token {house.access.token}"}
    [found] = httpx.get(
        buckets, params={"name": bucket, "org": house.access.organisation}, headers=rights
    ).json()["buckets"]
    httpx.delete(f"{buckets}/{found['id']}", headers=rights).raise_for_status()
    house.publish(FIRST)
    house.tell(1)
    historian = house.open()
    house.turn(lambda: f'"{bucket}" not found' in historian.said.problem)
    house.tell(0, 3)
    house.turn(lambda: house.committed()[0].offset == house.ends()[0])
    assert house.committed()[1].offset <= 1, "what comes before the readings at most"
    assert (historian.said.slots[0].problem, bool(historian.said.slots[1].problem)) == ("", True)
    again = {key: found[key] for key in ("name", "orgID", "retentionRules")}
    httpx.post(buckets, json=again, headers=rights).raise_for_status()
    house.turn(house.all_is_committed)
    assert house.stored() == house.expected


def test_what_nobody_foresaw_stops_one_slot_only_and_is_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_well = False

    def fails(registry: Registry, rounds: Sequence[tuple[int, Round]]) -> Chunk:
        if not is_well and registry.enterprises == house._parts[1].enterprises:
            raise LookupError("nobody foresaw it")
        return chunk(registry, rounds)

    monkeypatch.setattr(role, "chunk", fails)
    house.publish(FIRST)
    house.tell(1)
    house.tell(0, 3)
    historian = house.open()
    house.turn(lambda: historian.said.problem == "LookupError: the log says more")
    house.turn(lambda: house.committed()[0].offset == house.ends()[0])
    assert house.committed()[1].offset <= 1, "what comes before the readings at most"
    assert [bool(one.problem) for _, one in sorted(historian.said.slots.items())] == [False, True]
    is_well = True
    house.turn(house.all_is_committed)
    assert house.stored() == house.expected


def test_a_record_over_which_it_fails_is_read_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def fails(*given: Any) -> Entry:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise LookupError("nobody foresaw it")
        return decode(*given)

    monkeypatch.setattr(role, "decode", fails)
    house.publish(FIRST)
    house.tell(0, 3)
    house.open()
    house.turn(house.all_is_committed)
    assert house.stored() == house.expected
    assert calls > 9


def test_an_hour_is_rolled_up_again_for_the_enterprises_of_the_slot_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have the rest of the cell: each does its own."""
    monkeypatch.setattr("history.influx_upkeep.SETTLE", 0)
    [other] = [code for code in CODES if slots.slot_of(code, 2) == 1 and _cell(code) == "district-both"]
    write(house.access, "fenghuo-district-both", f"readings,enterprise={other} TI-1=1 {BEGIN}")
    house.publish(FIRST)
    house.tell(0, 2)  # measured hours ago
    historian = house.open()
    house.turn(lambda: historian.said.counts["rolled_up"] == 2)
    by_hour = by_hand(house.chunks, house._parts[0], HOUR, BEGIN, BEGIN + HOUR)
    assert rolled(house.access, BY_HOUR, NEXT) == pytest.approx(by_hour)
    assert {_cell(key[1]) for key in by_hour} == {"district-0", "district-both"}


def test_what_kafka_did_not_note_of_one_slot_is_told_to_it_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_long = True  # than Kafka takes

    def on(place: Place, topic: str, partition: int) -> TopicPartition:
        more = " " * 5000 if partition == 0 and is_long else ""
        return TopicPartition(topic, partition, place.offset, f"{place.term} {place.version}{more}")

    monkeypatch.setattr(Place, "on", on)
    house.publish(FIRST)
    house.tell(0)
    house.tell(1)
    house.open()
    with capture_logs() as logs:
        house.turn(lambda: house.committed()[1].offset == house.ends()[1])
        house.turn(lambda: "offsets_not_committed" in [log["event"] for log in logs])
    assert house.committed()[0].offset < 0
    is_long = False
    house.turn(house.all_is_committed)


def test_one_that_ends_while_it_has_slots_still_says_how_it_was(house: House) -> None:
    """As where Kafka is away, so that nobody takes them back."""
    house.publish(FIRST, (0,))
    historian = house.open()
    house.turn(lambda: house.committed()[0].offset == 1)
    historian._lose = lambda *_: None  # type: ignore[method-assign]
    told = house.status()["number"]
    house.close()
    assert (house.status()["number"], len(house.status()["slots"])) == (told + 1, 2)


def test_what_is_not_to_be_stored_is_counted_and_stops_nothing(house: House) -> None:
    house._parts[0] = slots.part(FIRST, 0, 2)
    house.tell(0, arrives=False)  # before any version
    house.publish(FIRST)
    house.tell(0, term=2)
    house.tell(0, 2, term=1, arrives=False)
    house.raw(0, b"\xc1 nonsense")
    house.raw(0, encode(Entry(Round(BEGIN), 2))[0], [("term", None)])
    wide = Readings(np.array([99], np.int32), np.array([BEGIN]), np.array([1.0]), np.zeros(1, np.uint8))
    house.write(0, Entry(Round(BEGIN, readings=wide), 2))
    house.tell(0, term=2)
    historian = house.open()
    house.turn(house.all_is_committed)
    assert house.stored() == house.expected
    house.turn(lambda: historian.said.counts["unread"] == 3)
    counts = historian.said.counts
    found = tuple(counts[name] for name in ("left_out", "stale", "readings", "lost"))
    assert found == (300, 4, 2 * 300, 0)
    house.close()
    house.tell(0, arrives=False)
    house.tell(0, term=2)
    again = house.open("2")
    house.turn(house.all_is_committed)
    house.turn(lambda: again.said.counts["stale"] == 2)
    assert house.stored() == house.expected, "the term was known where it went on"


def test_after_what_kafka_no_longer_had_nothing_is_stored_until_its_version_is_said(house: House) -> None:
    house.publish(FIRST)
    house.tell(0)
    house.open()
    house.turn(house.all_is_committed)
    house.close()
    place = house.committed()[0].offset
    house.publish(NEXT)
    house.tell(0, 2, arrives=False)
    admin = AdminClient({"bootstrap.servers": house.cluster.kafka})
    [done] = admin.delete_records([TopicPartition(house.topic, 0, place + 3)]).values()
    done.result(10)
    house.publish(NEXT)
    house.tell(0)
    historian = house.open("2")
    house.turn(house.all_is_committed)
    house.turn(lambda: historian.said.counts["readings"])
    assert house.stored() == house.expected
    assert (historian.said.counts["lost"], historian.said.counts["left_out"]) == (3, 300)


def test_two_share_the_slots_and_one_that_ends_hands_over(house: House) -> None:
    house.publish(FIRST)
    one, two = house.open("1"), house.open("2")
    house.turn(lambda: len(one.said.slots) == len(two.said.slots) == 1)
    for _ in range(3):
        house.tell(0)
        house.tell(1)
    house.turn(house.all_is_committed)
    house.turn(lambda: min(each.said.counts["readings"] for each in (one, two)) >= 3 * 300)
    house.close("1")
    for _ in range(3):
        house.tell(0)
        house.tell(1)
    house.turn(house.all_is_committed)
    house.turn(lambda: two.said.counts["readings"] >= 9 * 300)
    assert (two.said.counts["left_out"], two.said.counts["lost"]) == (0, 0)
    assert house.stored() == house.expected


def test_a_version_that_cannot_be_had_is_waited_for(house: House) -> None:
    version = house.publish(FIRST, (0,))
    house.tell(0)
    with pytest.MonkeyPatch.context() as patch:
        away = house.cluster.database.model_copy(
            update={"url": f"postgresql://nobody@127.0.0.1:{free_port()}/x"}
        )
        patch.setattr(house, "cluster", house.cluster.model_copy(update={"database": away}))
        historian = house.open()
    house.turn(lambda: historian.said.problem)
    assert house.committed()[0].offset < 0
    compiled = house.settings.data.parent / "compiled"
    house.settings.versions.mkdir()
    for path in compiled.glob("*.r*"):
        (house.settings.versions / path.name).write_bytes(path.read_bytes())
    house.turn(lambda: house.committed()[0].offset == house.ends()[0])
    assert house.stored(FIRST) == house.expected
    assert house.committed()[0] == Place(3, 1, version)


# -- settings ------------------------------------------------------------------------------------------


CLUSTER = {"kafka": "127.0.0.1:9", "database": {"url": "postgresql://nobody@127.0.0.1:9/x"}}
INFLUX = {"influx": {"url": "http://127.0.0.1:9"}}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"history": INFLUX}, "cluster: it is missing"),
        ({"cluster": CLUSTER}, "history.influx: it is missing; see docs/settings.md"),
        (
            {"cluster": CLUSTER, "history": {"influx": {"url": "http://127.0.0.1:9", "token_file": "none"}}},
            "history.influx.token_file: [Errno 2] No such file",
        ),
    ],
)
def test_what_is_missing_of_the_settings_is_said_in_a_line(
    tmp_path: Path, said: dict[str, Any], why: str
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(json.dumps({"data": "data", **said}), "utf-8")
    ended = CliRunner().invoke(app, ["historian", str(file)])
    assert ended.exit_code == 2
    assert f"{file}: {why}" in ended.output
    assert len(ended.output.splitlines()) == 1


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fenghuo.extras.find_spec", lambda name: name != "influxdb_client" or None)
    file = tmp_path / "cluster.yaml"
    file.write_text(json.dumps({"data": "data", "cluster": CLUSTER, "history": INFLUX}), "utf-8")
    ended = CliRunner().invoke(app, ["historian", str(file)])
    assert ended.exit_code == 2
    assert "history.influx: influxdb_client missing; to get it: pip install 'fenghuo[influx]'" in ended.output
