"""The serving role of a cluster: what stands still is told, and current values are served, from real servers."""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from structlog.testing import capture_logs

from alerting import store
from alerting.desk import DatabaseBusy, Desk, note_sources
from console import tokens
from console.api import create_app
from console.scope import Scope
from deploy.dev.services import Kafka, Postgres
from fenghuo import cluster_serving
from fenghuo.cluster_serving import ClusterServing
from fenghuo.history_watch import STUCK, Place, Progress
from fenghuo.settings import History, Influx, Settings
from fenghuo.standstill import DEAD, Standstill
from fenghuo.version_follower import VersionFollower
from ingest.last_values import LastValues
from ingest.topics import Topics
from registry import slots
from registry.clock import SECOND, SystemClock, stopwatch
from registry.database import open_database, reading
from registry.model import Registry
from streams.finding import Tier
from streams.report import Newest, encode_newest
from streams.system_findings import SystemFindings
from tests import clusters
from tests.build import PointSpec, code, make_registry
from tests.phones import until
from tests.test_console_api import served

NOW = 1_795_334_400 * SECOND
SLOTS = 2
EVERYTHING = store.Scope(system=True)


# -- what stands still --------------------------------------------------------------------------------


class Watched:
    """Sources whose times the test moves; an hour of watching costs nothing."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.standstill = Standstill(2, 1, 0.0)
        self.times = {"readings/0": NOW, "readings/1": NOW, "compound/0": NOW}

    def ill(self, seconds: int, *moving: str) -> dict[str, str | None]:
        """Of what is not well, why, after so many seconds in which these moved."""
        for _ in range(seconds):
            self.seconds += 1
            self.times |= {source: self.times[source] + SECOND for source in moving}
            found = self.standstill.look(self.times, self.seconds)
        return {subject: ill.why for subject, ill in found.items() if ill.why != ""}


ALL = ("readings/0", "readings/1", "compound/0")


def test_what_was_never_seen_to_move_is_not_known_until_it_stands_still() -> None:
    watched = Watched()
    assert set(watched.ill(2, "readings/0").items()) == {("slot:1", None), ("shard:0", None)}
    assert set(watched.ill(int(DEAD), "readings/0", "compound/0")) == {"slot:1"}


def test_what_could_not_be_looked_at_did_not_stand_still() -> None:
    watched = Watched()
    assert watched.ill(10, *ALL) == {}
    watched.seconds += 10 * DEAD  # the database was away
    assert watched.ill(1 + int(DEAD)) == {}
    assert list(watched.ill(1)) == ["system"]


def test_one_slot_that_stands_still_is_told_and_well_again_when_it_moves() -> None:
    watched = Watched()
    assert watched.ill(10, *ALL) == {}
    assert watched.ill(int(DEAD), "readings/0", "compound/0") == {}
    ill = watched.ill(1, "readings/0", "compound/0")
    assert list(ill) == ["slot:1"]
    assert "readings/1" in (ill["slot:1"] or "")
    assert watched.standstill.look(watched.times, watched.seconds)["slot:1"].since == NOW + 10 * SECOND
    assert watched.ill(1, *ALL) == {}


def test_all_that_stand_still_are_one_thing_to_mend() -> None:
    watched = Watched()
    watched.ill(3, *ALL)
    watched.ill(2, "readings/1")  # its last word came a little later
    assert list(watched.ill(int(DEAD) - 1)) == ["system"]
    assert watched.ill(1, *ALL) == {}


def test_a_slot_whose_history_stands_still_is_told_and_one_that_has_all_is_not() -> None:
    progress, watch = Progress(2, 0.0), 0.0

    def look(seconds: float, **has: int) -> str | None:
        nonlocal watch
        for _ in range(round(seconds / 30)):
            watch += 30
            said = progress.look({0: Place(has["zero"], 100), 1: Place(has["one"], 100)}, watch)
        return said

    assert look(30, zero=-1, one=100) is None, "of the first nothing is known yet"
    assert look(STUCK - 30, zero=-1, one=100) is None
    assert look(30, zero=-1, one=100) == "no historian has come forward in slots 0 for 10 min"
    assert look(30, zero=50, one=100) == ""
    assert look(STUCK, zero=50, one=100) == ""
    watch += 10 * STUCK  # Kafka was away
    assert look(30, zero=50, one=100) == ""
    assert look(30, zero=50, one=100) == "no historian has come forward in slots 0 for 10 min"
    assert look(30, zero=51, one=100) == ""


# -- on real servers -----------------------------------------------------------------------------------


class House:
    def __init__(self, settings: Settings) -> None:
        assert settings.cluster is not None
        self.settings, self.cluster = settings, settings.cluster
        self.watch = 0.0
        self.servings: list[ClusterServing] = []
        self.producer = Producer({"bootstrap.servers": self.cluster.kafka})
        self.engine = open_database(settings.desk_database)

    def start(self) -> ClusterServing:
        folder = self.settings.data / str(len(self.servings))  # of its own
        folder.mkdir(exist_ok=True)
        settings = self.settings.model_copy(update={"data": folder})
        follower = VersionFollower(open_database(settings.desk_database), settings.versions)
        registry = follower.wait(10)
        assert registry is not None
        serving = ClusterServing(settings, self.cluster, SystemClock(), follower, registry)
        serving._standstill = Standstill(self.cluster.slots, self.cluster.shards, self.watch)
        self.servings.append(serving)
        return serving

    def look(self, seconds: float, **times: int) -> None:
        """These sources have come so far; all look, for so many seconds."""
        note_sources(self.engine, {source.replace("_", "/"): time for source, time in times.items()})
        looks = max(1, math.ceil(seconds))
        for _ in range(looks):
            self.watch += seconds / looks
            for serving in self.servings:
                serving.watch_judge(self.watch)

    def values(self, registry: Registry, slot: int, time: int, first: float) -> None:
        """A worker's word of a slot's points: each the next value."""
        count = len(slots.rows(registry, slot, SLOTS))
        newest = Newest(
            registry.version,
            time,
            np.full(count, time).tobytes(),
            (first + np.arange(count, dtype=np.float64)).tobytes(),
            bytes(count),
        )
        self.producer.produce(
            Topics(self.cluster.topics).values, encode_newest(newest), key=b"%d" % slot, partition=slot
        )
        assert self.producer.flush(10) == 0

    @contextmanager
    def client(self, serving: ClusterServing) -> Iterator[httpx.Client]:
        token = tokens.create(
            self.engine, name="test", scope=Scope.parse("system"), person="", now=SystemClock().now()
        )
        with served(create_app(serving.dependencies())) as client:
            client.headers["Authorization"] = f"Bearer {token}"
            yield client

    def close(self) -> None:
        for serving in self.servings:
            serving.close()
        self.engine.dispose()


ENTERPRISES = sorted((code(number) for number in range(1, 6)), key=lambda c: slots.slot_of(c, SLOTS))
POINTS = {enterprise: [PointSpec(id=f"T-{n}", H=80.0) for n in range(3)] for enterprise in ENTERPRISES[::2]}
REGISTRY = make_registry(POINTS)
assert {slots.slot_of(enterprise, SLOTS) for enterprise in POINTS} == {0, 1}


@pytest.fixture
def house(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> Iterator[House]:
    with clusters.settings_of(kafka, postgres, tmp_path, slots=SLOTS) as settings:
        clusters.publish(settings, REGISTRY)
        house = House(settings)
        yield house
        house.close()


@pytest.mark.kafka
@pytest.mark.postgresql
def test_a_slot_that_stands_still_is_one_alert_whoever_watches(house: House) -> None:
    first, second = house.start(), house.start()
    with house.client(first) as client:
        assert client.get("/api/v1/ready").status_code == 503
        house.look(1, readings_0=NOW, readings_1=NOW, compound_0=NOW)
        for number in range(1, 4):
            house.look(1, readings_0=NOW + number, readings_1=NOW + number, compound_0=NOW + number)
        assert client.get("/api/v1/ready").status_code == 200
        for number in range(4, 10):
            house.look(10, readings_0=NOW + number, compound_0=NOW + number)
        [alert] = _alerts(house)
        assert (alert.rule, alert.subject, alert.since, alert.ended) == ("system.judge", "slot:1", NOW + 3, 0)
        assert "readings/1" in client.get("/api/v1/ready").json()["error"]["message"]
        metrics = client.get("/metrics").text
        assert 'fenghuo_source_time_seconds{source="readings/1"} ' in metrics
        assert "fenghuo_cluster_judges 0.0" in metrics
        house.servings.remove(second)
        second.close()
        third = house.start()  # it finds the finding open
        assert third is not None
        house.look(1, readings_0=NOW + 20, readings_1=NOW + 20, compound_0=NOW + 20)
        [alert] = _alerts(house)
        assert alert.ended > 0
        answer = client.get("/api/v1/dead-letters")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_here")


@pytest.mark.kafka
@pytest.mark.postgresql
def test_a_slot_that_does_not_hear_the_broker_is_not_ready(house: House) -> None:
    serving = house.start()
    desk, told = Desk(house.engine, REGISTRY), SystemFindings(subject="slot:1")
    with house.client(serving) as client:

        def ready(second: int) -> str:
            house.look(1, readings_0=NOW + second, readings_1=NOW + second, compound_0=NOW + second)
            answer = client.get("/api/v1/ready")
            return "" if answer.is_success else answer.json()["error"]["message"]

        ready(0)
        assert ready(1) == ""
        desk.round(told.begin("system.broker", NOW, "connection refused"), None, NOW)
        assert ready(2) == "slot:1 does not hear the broker: connection refused"
        desk.round(told.end("system.broker", NOW + 1), None, NOW + 1)
        assert ready(3) == ""


@pytest.mark.kafka
@pytest.mark.postgresql
def test_an_administrator_is_told_of_readings_that_no_historian_takes(house: House) -> None:
    influx = Influx(url="http://127.0.0.1:9", token_file=house.settings.data / "influx.token")
    (house.settings.data / "influx.token").write_text("secret")
    house.settings = house.settings.model_copy(update={"history": History(influx=influx)})
    serving, names = house.start(), Topics(house.cluster.topics)
    for slot in range(SLOTS):
        house.producer.produce(names.readings, b"", partition=slot)
    assert house.producer.flush(10) == 0

    watch = stopwatch() + 1

    def look(seconds: float) -> None:
        nonlocal watch
        for _ in range(int(seconds / 30)):
            watch += 30
            serving.watch_history(watch)

    look(STUCK - 30)
    assert _alerts(house) == []
    look(60)
    [alert] = _alerts(house)
    assert (alert.rule, alert.tier, alert.ended) == ("system.history", Tier.III, 0)
    historian = Consumer({"bootstrap.servers": house.cluster.kafka, "group.id": names.history})
    taken = [TopicPartition(names.readings, slot, 1) for slot in range(SLOTS)]
    historian.commit(offsets=taken, asynchronous=False)
    historian.close()
    look(60)
    [alert] = _alerts(house)
    assert alert.ended > 0
    with house.client(serving) as client:
        path = f"/api/v1/enterprises/{ENTERPRISES[0]}/history"
        answer = client.get(path, params={"point": "T-0", "begin": NOW, "end": NOW + SECOND})
        assert answer.json()["error"]["code"] == "history_away", "it is asked of InfluxDB"


@pytest.mark.kafka
@pytest.mark.postgresql
def test_a_database_that_goes_away_is_said_once_and_when_it_is_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = house.start()
    monkeypatch.setattr(cluster_serving, "log", structlog.get_logger())
    with capture_logs() as logs, monkeypatch.context() as away:

        def fail(_: object) -> dict[str, int]:
            raise DatabaseBusy(f"gone, {next(times)}")

        times = itertools.count()
        away.setattr(cluster_serving, "sources", fail)
        for _ in range(3):
            serving.watch_judge(0.0)
    with capture_logs() as back:
        for _ in range(2):
            serving.watch_judge(0.0)
    assert [log["event"] for log in (*logs, *back)] == ["sources_not_read", "sources_read_again"]


@pytest.mark.kafka
@pytest.mark.postgresql
def test_current_values_are_those_of_all_slots(house: House) -> None:
    house.values(REGISTRY, 0, NOW, 1.0)
    serving = house.start()
    with house.client(serving) as client:
        version = serving.registry.version
        both = make_registry(POINTS, version=version)
        house.values(both, 0, NOW, 10.0)
        house.values(both, 1, NOW + 1, 50.0)
        house.values(both, 1, NOW - 1, 0.0)  # of a worker that had lost it

        def shown() -> dict[str, list[float | None]]:
            found = {}
            for enterprise in POINTS:
                answer = client.get(f"/api/v1/enterprises/{enterprise}/values")
                items = answer.json().get("items", [])
                found[enterprise] = [item["value"] for item in items]
            return found

        wanted: dict[str, list[float | None]] = {}
        following = {0: 10.0, 1: 50.0}
        for enterprise in POINTS:
            slot = slots.slot_of(enterprise, SLOTS)
            wanted[enterprise] = [following[slot] + place for place in range(3)]
            following[slot] += 3
        until(lambda: shown() == wanted)

        renamed = make_registry({**POINTS, ENTERPRISES[1]: [PointSpec(id="NEW", H=1.0)]}, version="test-2")
        clusters.publish(house.settings, renamed)
        until(lambda: serving._follower.registry is not serving.registry)
        serving.follow_registry()
        answer = client.get(f"/api/v1/enterprises/{ENTERPRISES[1]}/values")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_now")
        named = make_registry(
            {**POINTS, ENTERPRISES[1]: [PointSpec(id="NEW", H=1.0)]}, version=serving.registry.version
        )
        house.values(named, 0, NOW + 2, 70.0)
        house.values(named, 1, NOW + 2, 90.0)
        until(lambda: client.get(f"/api/v1/enterprises/{ENTERPRISES[1]}/values").status_code == 200)


@pytest.mark.kafka
@pytest.mark.postgresql
def test_values_that_do_not_fit_and_a_kafka_that_fails_stop_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = house.start()
    keeper, version = serving._values, serving.registry.version
    count = len(slots.rows(REGISTRY, 0, SLOTS))
    good = (np.full(count, NOW).tobytes(), bytes(8 * count), bytes(count))
    for place, array in enumerate(good):
        arrays = list(good)
        arrays[place] = array[:-1]
        topic, newest = Topics(house.cluster.topics).values, Newest(version, NOW, *arrays)
        house.producer.produce(topic, encode_newest(newest), key=b"0", partition=0)
        assert house.producer.flush(10) == 0
        until(lambda place=place: keeper.unread == place + 1)
    hear = keeper._hear
    fails = iter((KafkaException(KafkaError(KafkaError._FAIL)), IndexError("row")))

    def failing() -> None:
        for error in fails:
            raise error
        hear()

    monkeypatch.setattr(keeper, "_hear", failing)
    until(lambda: keeper.failed == 2)
    house.values(serving.registry, 0, NOW - 1, 10.0)  # older than what did not fit
    until(lambda: _newest_of(serving) == 10.0)


def _newest_of(serving: ClusterServing) -> float:
    with LastValues.open(serving.settings.values) as values:
        return float(values.read().value[slots.rows(REGISTRY, 0, SLOTS)[0]])


def _alerts(house: House) -> list[store.Alert]:
    with reading(house.engine) as connection:
        return store.alerts(connection, EVERYTHING)
