"""The desk of a cluster on a real Kafka and PostgreSQL: whatever dies, every finding is one alert."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from sqlalchemy import text

from alerting import store
from alerting.alert import Alert, Step
from alerting.desk import Desk, note_sources, sources
from alerting.tables import upgrade
from deploy.dev.services import Kafka, Postgres
from fenghuo import desk as role
from fenghuo.clock_socket import ControlledClock, Stepper
from fenghuo.desk import ClusterDesk
from fenghuo.prepared import TablesOld
from fenghuo.settings import Settings
from fenghuo.topics import TopicsUnfit
from fenghuo.version_follower import VersionFollower
from ingest.broker import free_port
from ingest.topics import Topics
from registry.clock import MINUTE, SECOND, Clock, SystemClock
from registry.database import open_database, reading, writing
from registry.model import Escalation, Registry
from streams import report
from streams.finding import Finding, Phase, Tier, finding_id
from streams.report import Report
from tests import clusters
from tests.build import ESCALATION, PointSpec, code, make_registry
from tests.phones import until
from tests.servers import new_database

pytestmark = [pytest.mark.kafka, pytest.mark.postgresql]
REGISTRY = make_registry([PointSpec(id="TI-1", H=80.0)])
T = 1_795_334_400 * SECOND


def finding(
    place: int, phase: Phase = Phase.BEGUN, seq: int = 1, time: int = 0, since: int = 0, **more: Any
) -> Finding:
    """Of the point of this number."""
    time = time or SystemClock().now()
    fields: dict[str, Any] = {"tier": Tier.III, "level": "HH", "value": 91.0, "limit": 90.0} | more
    subject = f"point:{place}"
    return Finding(
        id=finding_id("limit.high", code(1), subject, since or place),
        seq=seq,
        rule="limit.high",
        enterprise=code(1),
        subject=subject,
        phase=phase,
        since=since or place,
        time=time,
        arrival=time,
        **fields,
    )


class House:
    """A cluster's findings, which the test writes, and desks that are turned by hand."""

    def __init__(self, settings: Settings) -> None:
        assert settings.cluster is not None
        self.settings = settings
        self.cluster = settings.cluster
        self.topics = Topics(self.cluster.topics)
        self.engine = open_database(settings.desk_database)
        self.producer = Producer({"bootstrap.servers": self.cluster.kafka, "linger.ms": 0})
        self.desks: dict[str, ClusterDesk] = {}
        self._offset = 0

    def tell(self, *findings: Finding, partition: int = 0, source: str = "readings/0", **more: Any) -> None:
        """A report of these findings."""
        self._offset += 1
        time = more.pop("time", 0) or SystemClock().now()
        self.write(
            report.encode(Report(source=source, offset=self._offset, time=time, findings=findings, **more)),
            partition,
        )

    def write(self, record: bytes, partition: int = 0) -> None:
        self.producer.produce(self.topics.findings, record, partition=partition)
        assert self.producer.flush(10) == 0

    def open(self, name: str = "1", clock: Clock | None = None) -> ClusterDesk:
        follower = VersionFollower(open_database(self.settings.desk_database), self.settings.versions)
        assert follower.wait(10) is not None
        desk = ClusterDesk(self.settings, self.cluster, name, clock or SystemClock(), follower)
        self.desks[name] = desk
        return desk

    def turn(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Turn all desks until the condition holds."""

        def turned() -> object:
            for desk in self.desks.values():
                desk.turn()
            return condition()

        until(turned, seconds)

    def close(self, name: str = "1") -> None:
        self.desks.pop(name).close()

    def alerts(self) -> list[Alert]:
        with reading(self.engine) as connection:
            return store.alerts(connection, store.Scope(system=True), limit=10_000)[::-1]

    def rules(self) -> list[str]:
        return [alert.rule for alert in self.alerts()]

    def steps(self, alert: str) -> list[Step]:
        with reading(self.engine) as connection:
            return store.steps(connection, store.Scope(system=True), alert)

    def committed(self, partition: int = 0) -> int:
        consumer = Consumer({"bootstrap.servers": self.cluster.kafka, "group.id": self.topics.desk})
        [place] = consumer.committed([TopicPartition(self.topics.findings, partition)], timeout=10)
        consumer.close()
        return place.offset

    def status(self, name: str = "1") -> dict[str, Any]:
        return json.loads((self.settings.data / f"desk-{name}.json").read_bytes())


@contextmanager
def house_of(
    kafka: Kafka, postgres: Postgres, folder: Path, registry: Registry = REGISTRY, **more: Any
) -> Iterator[House]:
    with clusters.settings_of(kafka, postgres, folder, **more) as settings:
        clusters.publish(settings, registry)
        house = House(settings)
        with ExitStack() as stack:
            stack.callback(house.engine.dispose)
            try:
                yield house
            finally:
                for name in list(house.desks):
                    house.close(name)


@pytest.fixture
def house(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> Iterator[House]:
    with house_of(kafka, postgres, tmp_path, shards=2) as house:
        yield house


def test_findings_become_alerts_and_then_kafka_is_told(house: House) -> None:
    house.tell(finding(1), finding(2), time=T)
    house.tell(finding(1), finding(3), partition=1, source="compound/1", time=T + 1)
    desk = house.open()
    house.turn(lambda: len(house.alerts()) == 3)
    house.turn(lambda: sources(house.engine) == {"readings/0": T, "compound/1": T + 1})
    house.turn(lambda: house.status()["findings"] == 4)
    said = house.status()
    assert (said["ignored"], said["raised"], said["waiting"], said["problem"]) == (1, 3, 0, "")
    assert said["partitions"] == {"0": 0, "1": 0}
    assert 0 < desk.said.alert_ms.p50 < 20_000
    house.close()
    assert (house.committed(0), house.committed(1)) == (1, 1)
    house.open("2")
    house.tell(finding(1, Phase.ENDED, 2))
    house.turn(lambda: any(alert.ended for alert in house.alerts()))
    assert house.desks["2"].said.ignored == 0, "what is committed is not heard again"


def test_a_desk_that_dies_between_database_and_kafka_changes_nothing(house: House) -> None:
    house.tell(finding(1), finding(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusterDesk, "_commit", lambda *_, **__: None)
        house.open("1")
        house.turn(lambda: len(house.alerts()) == 2)
        house.close("1")
    assert house.committed() < 0
    desk = house.open("2")
    house.turn(lambda: desk._counts["ignored"] == 2)
    assert [len(house.steps(alert.id)) for alert in house.alerts()] == [1, 1]


def test_what_cannot_be_read_or_taken_is_told_and_stops_nothing(house: House) -> None:
    house.open()
    house.write(b"\xc1 nonsense")
    house.tell(finding(1), finding(2, unit="a\0b"), finding(3))
    house.write(b"")
    house.tell(finding(4))
    house.turn(lambda: len(house.alerts()) >= 5)
    assert sorted(alert.subject for alert in house.alerts()) == [
        *("point:1", "point:3", "point:4"),
        *("shard:0", "system"),
    ]
    desk = house.desks["1"]
    assert (desk._counts["unread"], desk._counts["refused"]) == (2, 1)
    [shard] = [alert for alert in house.alerts() if alert.subject == "shard:0"]
    assert (shard.rule, shard.tier) == ("system.engine", Tier.II)


def test_records_that_kafka_has_lost_are_told(house: House) -> None:
    desk = house.open()
    house.tell(finding(1))
    house.turn(lambda: len(house.alerts()) == 1)
    desk._partitions[0].next = -3  # as if retention had been quicker than us
    house.tell(finding(2))
    house.turn(lambda: len(house.alerts()) == 3)
    [lost] = [alert for alert in house.alerts() if alert.rule == "system.lost"]
    assert lost.evidence == ("findings 0: -3–0",)


def test_while_the_database_is_away_findings_wait_and_kafka_keeps_what_is_too_much(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "BUSY", 0.05)
    monkeypatch.setattr(role, "MANY", 6)
    monkeypatch.setattr(role, "BATCH", 2)
    desk = house.open()
    house.turn(lambda: desk._partitions)
    with writing(house.engine) as connection:
        connection.execute(text("LOCK TABLE findings IN ACCESS EXCLUSIVE MODE"))
        for number in range(1, 31):
            house.tell(finding(number))
        house.turn(lambda: desk._paused)
        house.turn(lambda: house.status()["problem"])
        waits = [number for one in desk._partitions.values() for number, _ in one.waiting]
        assert waits == list(range(len(waits)))
        assert len(waits) < 20
        assert house.committed() < 0
    house.turn(lambda: len(house.alerts()) == 30)
    assert [alert.subject for alert in house.alerts()] == [f"point:{number}" for number in range(1, 31)]
    house.turn(lambda: house.status()["problem"] == "")


def test_what_was_paused_goes_on_though_the_partitions_were_shared_anew_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = house.open()
    house.turn(lambda: len(desk._partitions) == 2)
    with monkeypatch.context() as patch:
        patch.setattr(role, "MANY", 0)
        house.turn(lambda: desk._paused)
        desk._assign(desk._consumer, [])  # another desk came or went: ours stay, paused as they are
    house.tell(finding(1))
    house.turn(lambda: len(house.alerts()) == 1, 5)


def test_a_report_of_very_many_findings_is_taken_in_several_transactions(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "LARGE", 4)
    desk = house.open()
    house.tell(*(finding(number) for number in range(1, 11)))
    house.turn(lambda: len(house.alerts()) == 10)
    assert (desk._counts["rounds"], desk._counts["findings"]) == (3, 10)


def test_a_finding_of_a_clock_that_is_ahead_brings_no_deadline_forward(house: House) -> None:
    desk = Desk(house.engine, REGISTRY)
    now = SystemClock().now()
    desk.round([finding(1, time=now)], None, now)
    desk.round([finding(1, Phase.WORSENED, 2, time=now + 600 * SECOND)], None, now + 1)
    [alert] = house.alerts()
    assert [step.event for step in house.steps(alert.id)] == ["begun", "worsened"]


def test_deadlines_go_on_without_kafka(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> None:
    soon = {**ESCALATION, "III": Escalation(SECOND // 5, MINUTE, MINUTE, "district", "district")}
    registry = make_registry([PointSpec(id="TI-1", H=80.0)], escalation=soon)
    with house_of(kafka, postgres, tmp_path, registry) as house:
        Desk(house.engine, registry).round([finding(1)], None, SystemClock().now())
        away = f"127.0.0.1:{free_port()}"
        house.cluster = house.cluster.model_copy(update={"kafka": away})
        desk = house.open()
        [alert] = house.alerts()
        house.turn(lambda: len(house.steps(alert.id)) >= 3)  # a slow machine may take several at once
        first, second, *_ = house.steps(alert.id)
        assert (second.event, second.time - first.time >= SECOND // 5) == ("confirm_due", True)
        house.turn(lambda: desk.said.problem)
        assert second.late == 0


def test_two_desks_share_the_partitions_and_take_over_from_each_other(house: House) -> None:
    one, two = house.open("1"), house.open("2")
    house.turn(lambda: len(one._partitions) == len(two._partitions) == 1)
    for number in range(1, 41):
        house.tell(finding(number), partition=number % 2)
    house.turn(lambda: len(house.alerts()) == 40)
    assert min(one._counts["findings"], two._counts["findings"]) > 0
    house.close("1")
    for number in range(1, 41):
        house.tell(finding(number, Phase.ENDED, 2), partition=number % 2)
    house.turn(lambda: all(alert.ended for alert in house.alerts()))
    assert (two._counts["ignored"], two._counts["gaps"]) == (0, 0)


def test_a_killed_desk_loses_and_doubles_nothing(house: House) -> None:
    house.settings.save(house.settings.data / "run.json")
    command = [sys.executable, "-m", "fenghuo", "desk", str(house.settings.data / "run.json")]
    killed = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        for number in range(1, 301):
            house.tell(finding(number), partition=number % 2)
            if number == 150:
                until(lambda: len(house.alerts()) > 20)
                killed.send_signal(signal.SIGKILL)
    finally:
        killed.kill()
        killed.communicate()
    assert len(house.alerts()) < 300
    house.open()
    house.turn(lambda: len(house.alerts()) == 300)
    assert {len(house.steps(alert.id)) for alert in house.alerts()} == {1}


@contextmanager
def on(stepper: Stepper, name: str) -> Iterator[ControlledClock]:
    """A clock that hangs on the stepper, which has to let it in."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(ControlledClock, stepper.address, name)
        until(lambda: stepper.hear(0.01) or coming.done())
    clock = coming.result()
    yield clock
    clock._socket.close()


def test_on_a_stepped_clock_what_leaps_is_done_in_its_order(
    kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    with (
        Stepper(T) as stepper,
        ExitStack() as stack,
        house_of(kafka, postgres, tmp_path, clock=stepper.address, shards=2) as house,
    ):
        house.open(clock=stack.enter_context(on(stepper, "desk-1")))
        stepper.step(T + 600 * SECOND)
        number = 2

        def mark(partition: int, seconds: int, asked: int = 0) -> None:
            time = T + seconds * SECOND
            house.tell(source=f"compound/{partition}", partition=partition, time=time, asked=asked)

        house.tell(finding(1, time=T + 10 * SECOND), time=T + 10 * SECOND)
        for seconds in (10, 200, 400):
            mark(0, seconds)
        house.tell(finding(1, Phase.ENDED, 2, time=T + 500 * SECOND), time=T + 500 * SECOND)
        mark(0, 500)
        mark(0, 600, asked=number)
        for seconds in (10, 200):
            mark(1, seconds)
        house.turn(lambda: len(house.alerts()) == 1)
        mark(1, 400)
        house.turn(lambda: len(house.steps(house.alerts()[0].id)) == 2)
        assert not stepper.at_rest(["desk-1"]), "one partition has yet to come so far"
        assert house.alerts()[0].ended == 0
        mark(1, 600, asked=number)
        house.turn(lambda: stepper.at_rest(["desk-1"]))
        [alert] = house.alerts()
        assert [(step.event, (step.time - T) // SECOND, step.late) for step in house.steps(alert.id)] == [
            ("begun", 10, 0),
            ("confirm_due", 400, 90 * SECOND),  # the first mark after it
            ("ended", 500, 0),
        ]
        house.close()
        house.open("2", clock=stack.enter_context(on(stepper, "desk-2")))
        house.turn(lambda: stepper.at_rest(["desk-2"]))
        assert len(house.steps(alert.id)) == 3


def test_a_new_version_is_followed_without_a_pause(house: House) -> None:
    desk = house.open()
    renamed = make_registry([PointSpec(id="1", name="反应釜", H=80.0)], version="test-2")
    clusters.publish(house.settings, renamed)
    house.turn(lambda: desk._registry.version.startswith("test-2"))
    house.tell(finding(1))
    house.turn(lambda: house.alerts())
    with reading(house.engine) as connection:
        sent = store.notices(connection, store.Scope(system=True), house.alerts()[0].id)
    assert "反应釜" in sent[0].text


def test_it_begins_only_where_all_is_prepared(house: House, postgres: Postgres) -> None:
    stop = threading.Event()
    with new_database(postgres, upgrade) as url:  # with the desk's tables, and no other
        place = house.cluster.database.url.rpartition("/")[0] + "/" + url.rpartition("/")[2]
        database = house.cluster.database.model_copy(update={"url": place})
        empty = house.cluster.model_copy(update={"database": database})
        with pytest.raises(TablesOld, match="fenghuo prepare"):
            role.start(house.settings, empty, "1", stop)
    with pytest.raises(TopicsUnfit, match="has 2 partitions"):
        role.start(house.settings, house.cluster.model_copy(update={"shards": 3}), "1", stop)


# -- what desks do together on one database -----------------------------------------------------------


def test_two_findings_of_one_subject_at_once_are_one_alert(postgres: Postgres) -> None:
    """Without taking turns, both desks see no alert to join."""
    with new_database(postgres, clusters.upgrade) as url:
        engines = [open_database(url) for _ in range(2)]
        desks = [Desk(engine, REGISTRY) for engine in engines]
        barrier = threading.Barrier(2)

        def tell(which: int, number: int) -> None:
            barrier.wait(10)
            now = T + number * SECOND
            desks[which].round([finding(number, time=now, since=now + which)], None, now)

        with ThreadPoolExecutor(2) as pool:
            for number in range(1, 31):
                list(pool.map(tell, (0, 1), (number, number)))
        with reading(engines[0]) as connection:
            found = store.alerts(connection, store.Scope(system=True), limit=1000)
        for engine in engines:
            engine.dispose()
    assert len(found) == 30


def test_how_far_a_source_has_come_only_rises(postgres: Postgres) -> None:
    with new_database(postgres, clusters.upgrade) as url:
        engine = open_database(url)
        note_sources(engine, {"readings/0": 5, "readings/1": 7})
        note_sources(engine, {"readings/0": 3, "readings/1": 8, "compound/0": 1})
        assert sources(engine) == {"readings/0": 5, "readings/1": 8, "compound/0": 1}
        engine.dispose()
