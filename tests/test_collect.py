"""The cluster's collector on real servers: nothing acknowledged is lost or read twice, whoever dies, wakes or joins."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy
import structlog
import yaml
from confluent_kafka import Consumer, TopicPartition
from structlog.testing import capture_logs

from alerting import tables
from deploy.dev.services import Kafka, Postgres
from fenghuo import collect as collecting_module
from fenghuo import collect_slot, collect_status, takeover
from fenghuo.clock_socket import Stepper
from fenghuo.collect import Collect
from fenghuo.collect_slot import pieces
from fenghuo.collect_status import CollectStatus
from fenghuo.record_writer import RecordWriter
from fenghuo.settings import Broker, Settings
from fenghuo.takeover import UNDELIVERED
from ingest import leases
from ingest.broker import Mosquitto, slot_accounts
from ingest.readings import DeadLetter, GatewayStatus, Readings, Round
from ingest.topics import Entry, Topics, decode, encode
from registry import versions
from registry.clock import HOUR, MINUTE, SECOND, SystemClock, stopwatch
from registry.database import open_database, reading
from registry.model import Registry
from registry.slots import part, slot_of
from tests.build import PointSpec, code, make_registry
from tests.clusters import publish, settings_of
from tests.servers import PASSWORD, User, mosquitto, needs_mosquitto, new_topic, publisher, running

pytestmark = [pytest.mark.kafka, pytest.mark.postgresql, pytest.mark.mosquitto, needs_mosquitto]

WITHIN = 30.0  # seconds for anything that must happen
CODES = [code(number) for number in range(1, 7)]
NOW = 1_795_248_000 * SECOND
SLOTS = 2


def registry_of(codes: Sequence[str] = CODES, version: str = "r1") -> Registry:
    return make_registry({one: [PointSpec(id="A"), PointSpec(id="B")] for one in codes}, version=version)


REGISTRY = registry_of()


@dataclass
class House:
    """Servers with a cluster's topics, tables, accounts and registry; and a gateway that may speak for all."""

    settings: Settings
    broker: Mosquitto
    gateway: User
    folder: Path
    sent: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def collect(self, name: str = "a") -> Collect:
        cluster, broker = self.settings.cluster, self.settings.broker
        assert cluster is not None
        assert broker is not None
        return Collect(self.settings, cluster, broker, name)

    def process(self, name: str) -> subprocess.Popen[bytes]:
        file = self.folder / "cluster.yaml"
        file.write_text(yaml.safe_dump(json.loads(self.settings.model_dump_json())), "utf-8")
        command = "import typer; from fenghuo.commands.collect import collect; typer.run(collect)"
        with (self.folder / f"{name}.log").open("ab") as log:
            one = subprocess.Popen(
                [sys.executable, "-c", command, str(file), "--name", name], stdout=log, stderr=log
            )
        self.processes.append(one)
        return one

    def said(self, name: str) -> CollectStatus | None:
        return collect_status.read(collect_status.path(self.settings.data, name))

    def listens(self, name: str) -> bool:
        """Whether it hears all slots: what is sent for one that was never heard is kept by no broker."""
        said = self.said(name)
        return said is not None and len(said.slots) == SLOTS and said.listening

    def publish(self, count: int, codes: Sequence[str] = CODES) -> list[float]:
        """So many messages of a reading each, numbered on and on, of each enterprise in turn."""
        values = [float(self.sent + number) for number in range(1, count + 1)]
        self.sent += count
        messages = [(topic(codes[int(value) % len(codes)]), one_reading(value)) for value in values]
        assert self.gateway.publish_all(messages) <= {0, 16}, "16: nobody hears it"
        return values

    def records(self, name: str = "readings", slot: int | None = None) -> list[list[tuple[int, Entry]]]:
        """All that is in a topic's partitions, each in its order, with offsets."""
        every = range(SLOTS) if slot is None else (slot,)
        return [
            [(record.offset() or 0, decode(record.value() or b"", record.headers())) for record in whole]
            for whole in (self.raw(name, one) for one in every)
        ]

    def raw(self, name: str, slot: int) -> list:
        assert self.settings.cluster is not None
        topics = Topics(self.settings.cluster.topics)
        consumer = Consumer({"bootstrap.servers": self.settings.cluster.kafka, "group.id": "test"})
        place = TopicPartition(getattr(topics, name), slot, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([place])
        found: list = []
        while len(found) < end:
            found += consumer.consume(end - len(found), timeout=1.0)
        consumer.close()
        return found

    def read(self) -> list[float]:
        """The values that readers take, slot after slot, in their order."""
        return [value for slot in range(SLOTS) for value in self.read_of(slot)]

    def read_of(self, slot: int) -> list[float]:
        values: list[float] = []
        term = time = 0
        for _, entry in self.records(slot=slot)[0]:
            if entry.term < term:
                continue
            term = entry.term
            assert entry.round.time >= time
            time = entry.round.time
            values += entry.round.readings.value.tolist()
        return values


def topic(enterprise: str) -> str:
    return f"fenghuo/v1/{enterprise}/gw1/readings"


def one_reading(value: float) -> bytes:
    return json.dumps({"time": "2026-11-21T08:00:00Z", "readings": {"A": value}}).encode()


@contextmanager
def house(kafka: Kafka, postgres: Postgres, folder: Path, **more: object) -> Iterator[House]:
    with ExitStack() as stack:
        clock = str(more.pop("clock", ""))
        settings = stack.enter_context(
            settings_of(kafka, postgres, folder, slots=SLOTS, lease=2.0, clock=clock, **more)
        )
        server = stack.enter_context(mosquitto(folder, [], publisher(), *slot_accounts(PASSWORD, SLOTS)))
        (folder / "mqtt-password").write_text(PASSWORD, "utf-8")
        broker = Broker(url=f"mqtt://127.0.0.1:{server.port}", password_file=folder / "mqtt-password")
        publish(settings, REGISTRY)
        gateway = stack.enter_context(User(server, "publisher"))
        made = House(settings.model_copy(update={"broker": broker}), server, gateway, folder)
        try:
            yield made
        finally:
            for process in made.processes:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait(WITHIN)


@pytest.fixture
def at(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> Iterator[House]:
    with house(kafka, postgres, tmp_path) as made:
        yield made


@contextmanager
def collecting(house: House, name: str = "a") -> Iterator[Collect]:
    collect = house.collect(name)
    try:
        yield collect
    finally:
        collect.stop()
        collect.run()


def test_one_that_the_broker_does_not_let_in_takes_no_slot_and_says_so(at: House) -> None:
    with collecting(at, "a") as one:
        turn_until(lambda: hears(one), one)
        (at.folder / "mqtt-password").write_text("wrong", "utf-8")
        other = at.process("b")
        assert other.wait(WITHIN) == 2
        turn_until(lambda: hears(one), one)
    said = " ".join((at.folder / "b.log").read_text("utf-8").split())
    assert "broker.user and broker.password_file: the broker does not let collector in" in said
    assert "slot_taken_over" not in said


def turn_until(done: Callable[[], bool], *every: Collect) -> None:
    deadline = stopwatch() + WITHIN
    while not done():
        assert stopwatch() < deadline, [(one.slots, one._held, one._writer.problem) for one in every]
        for one in every:
            one.turn()


def hears(collect: Collect, count: int = SLOTS) -> bool:
    slots = collect.slots.values()
    return len(slots) == count and all(slot.listening(0) for slot in slots)


def acknowledged(*every: Collect) -> int:
    return sum(slot.counts["messages"] for one in every for slot in one.slots.values())


def until(done: Callable[[], bool]) -> None:
    deadline = stopwatch() + WITHIN
    while not done():
        assert stopwatch() < deadline
        select.select([], [], [], 0.02)


def in_their_order(house: House, values: Sequence[float]) -> None:
    """Every value is read once, each slot's in the order in which they were sent."""
    for slot in range(SLOTS):
        of_slot = [v for v in values if slot_of(CODES[int(v) % len(CODES)], SLOTS) == slot]
        assert house.read_of(slot) == of_slot


def test_readings_arrive_in_order_in_their_slots_partition_with_marks_versions_and_dead_letters(
    at: House,
) -> None:
    with collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        values = at.publish(40)
        assert at.gateway.publish(topic(CODES[0]), b"rubbish") == 0
        turn_until(lambda: acknowledged(collect) >= 41, collect)
        began = stopwatch()
        turn_until(lambda: stopwatch() > began + 1.0, collect)
    in_their_order(at, values)
    for slot, records in enumerate(at.records()):
        assert [offset for offset, _ in records] == list(range(len(records)))
        assert {entry.term for _, entry in records} == {1}
        first = records[0][1]
        assert (first.round.version, first.edition) == (collect._whole.version, 1)
        assert not first.round.listening
        marks = [e.round for _, e in records if not len(e.round.readings) and e.round.version is None]
        assert 4 <= len([mark for mark in marks if mark.time > marks[-1].time - SECOND]) <= 7
        assert marks[-1].listening
        registry = part(REGISTRY, slot, SLOTS)
        rows = [row for _, entry in records for row in entry.round.readings.row.tolist()]
        assert {registry.points.id[row] for row in rows} == {"A"}
    letters = [
        msgspec.msgpack.decode(one.value(), type=DeadLetter)
        for slot in range(SLOTS)
        for one in at.raw("dead", slot)
    ]
    assert [(letter.reason, letter.topic) for letter in letters] == [("not_json", topic(CODES[0]))]
    said = at.said("a")
    assert said is not None
    assert (said.messages, said.readings, said.dead, said.undelivered) == (41, 40, {"not_json": 1}, 0)


def test_who_joins_gets_its_share_and_who_leaves_gives_it_back_and_nothing_is_lost_or_doubled(
    at: House,
) -> None:
    with collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        values = at.publish(20)
        with collecting(at, "b") as other:

            def shared() -> bool:
                nonlocal values
                if at.sent < 400:
                    values += at.publish(4)
                return hears(collect, 1) and hears(other, 1)

            turn_until(shared, collect, other)
            values += at.publish(20)
            turn_until(lambda: len(at.read()) >= len(values), collect, other)
        values += at.publish(20)
        turn_until(lambda: hears(collect), collect)
        turn_until(lambda: len(at.read()) >= len(values), collect)
    in_their_order(at, values)


def test_a_killed_ones_slots_are_taken_over_with_all_that_was_published_meanwhile(at: House) -> None:
    victim = at.process("victim")
    until(lambda: at.listens("victim"))
    values = at.publish(100)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(WITHIN)
    values += at.publish(100)
    with collecting(at, "heir") as heir:
        turn_until(lambda: len(at.read()) >= len(values) and hears(heir), heir)
        assert all(slot.term == 2 for slot in heir.slots.values())
    in_their_order(at, values)


@pytest.mark.long
def test_who_was_frozen_and_wakes_up_writes_nothing_that_is_read(at: House) -> None:
    sleeper = at.process("sleeper")
    until(lambda: at.listens("sleeper"))
    values = at.publish(50)
    until(lambda: (said := at.said("sleeper")) is not None and said.messages == 50)
    sleeper.send_signal(signal.SIGSTOP)
    values += at.publish(50)  # they are in its sockets
    with collecting(at, "heir") as heir:
        turn_until(lambda: len(at.read()) >= len(values) and hears(heir), heir)
        sleeper.send_signal(signal.SIGCONT)
        values += at.publish(50)
        log = at.folder / "sleeper.log"
        turn_until(lambda: log.read_text("utf-8").count('"slot_taken_away"') == SLOTS, heir)
        values += at.publish(50)
        turn_until(lambda: len(at.read()) >= len(values), heir)
        assert any(
            entry.term < earlier.term
            for records in at.records()
            for (_, earlier), (_, entry) in pairwise(records)
        ), "it did write what nobody reads: else this shows nothing"
    in_their_order(at, values)


def intrude(at: House, slot: int, term: int, values: int = 1, ahead: int = 0) -> None:
    """Somebody else writes into a slot's partition."""
    assert at.settings.cluster is not None
    written: list[int] = []
    writer = RecordWriter(at.settings.cluster.kafka, lambda: None)
    for _ in range(values):
        entry = Entry(Round(SystemClock().now() + ahead), term)
        assert writer.write(Topics(at.settings.cluster.topics).readings, slot, *encode(entry), written.append)
    until(lambda: writer.deliver() >= 0 and len(written) == values)
    writer.close()


def test_records_of_an_owner_of_before_between_ours_stop_nothing(at: House) -> None:
    intrude(at, 0, 3)  # of another database: its terms begin anew
    with collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        assert collect.slots[0].term == 4
        values = at.publish(20)
        intrude(at, 0, 2)
        values += at.publish(20)
        turn_until(lambda: acknowledged(collect) >= 40, collect)
    in_their_order(at, values)


def test_nothing_is_acknowledged_behind_a_record_of_a_later_owner(at: House) -> None:
    with collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        slot = collect.slots[0]
        intrude(at, 0, 7)
        values = at.publish(60)
        turn_until(lambda: collect.slots.get(0) is not slot, collect)
        assert slot.lost
        assert slot.counts["messages"] == 0, "its records are not read"
        turn_until(lambda: hears(collect) and len(at.read()) >= len(values), collect)
        assert collect.slots[0].term == 8
    in_their_order(at, values)


def test_a_new_version_takes_force_in_every_slot_and_its_enterprises_are_heard(at: House) -> None:
    new = [code(number) for number in range(7, 13)]
    with collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        values = at.publish(12)
        turn_until(lambda: acknowledged(collect) >= 12, collect)
        wider = registry_of([*CODES[1:], *new], "r2")
        publish(at.settings, wider)
        turn_until(
            lambda: all(slot.edition == 2 for slot in collect.slots.values()) and hears(collect), collect
        )
        more = at.publish(60, new)
        at.publish(1, [CODES[0]])  # it is gone
        turn_until(lambda: acknowledged(collect) >= 72, collect)
    for slot, records in enumerate(at.records()):
        editions = [entry.edition for _, entry in records if entry.round.version]
        assert list(dict.fromkeys(editions)) == [1, 2]
        registry = part(wider, slot, SLOTS)
        places = [n for n, (_, entry) in enumerate(records) if entry.edition == 2]
        heard = [
            (registry.gateways[registry.points.gateway[row]].enterprise, value)
            for _, entry in records[places[0] :]
            for row, value in zip(entry.round.readings.row, entry.round.readings.value, strict=True)
        ]
        assert heard == [(new[int(v) % 6], v) for v in more if slot_of(new[int(v) % 6], SLOTS) == slot]
    assert len(at.read()) == len(values) + len(more)


def findings(at: House) -> dict[tuple[str, str], str]:
    """The newest phase of each finding about the system."""
    database = open_database(at.settings.desk_database)
    table = tables.findings.c
    with reading(database) as connection:
        rows = connection.execute(sqlalchemy.select(table.rule, table.subject, table.phase)).all()
    database.dispose()
    return {(rule, subject): phase for rule, subject, phase in rows}


def test_a_broker_that_is_gone_or_has_forgotten_us_is_told(
    at: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {f"slot:{slot}" for slot in range(SLOTS)}
    with collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        monkeypatch.setattr(collect_slot, "DEAF", 0.5)
        at.gateway.close()
        at.broker.stop()
        turn_until(lambda: findings(at) == {("system.broker", slot): "begun" for slot in both}, collect)
        (at.broker.folder / "mosquitto.db").unlink()
        at.broker.start()
        turn_until(lambda: hears(collect), collect)
        gone = {("system.broker", slot): "ended" for slot in both}
        lost = {("system.lost", slot): "ended" for slot in both}
        turn_until(lambda: findings(at) == gone | lost, collect)


def test_without_its_database_it_goes_on_and_comes_back_to_the_broker_by_itself(
    kafka: Kafka, tmp_path: Path
) -> None:
    with (
        running(lambda folder: Postgres(folder, lasting=False)) as own,
        house(kafka, own, tmp_path) as at,
        collecting(at) as collect,
    ):
        turn_until(lambda: hears(collect), collect)
        own.stop()
        turn_until(lambda: bool(collect._database_away), collect)
        values = at.publish(20)
        turn_until(lambda: acknowledged(collect) >= 20, collect)
        at.gateway.close()
        at.broker.stop()
        turn_until(lambda: not any(slot.collector.connected for slot in collect.slots.values()), collect)
        at.broker.start()
        turn_until(lambda: hears(collect), collect)  # Kafka says that the slots are ours
        with User(at.broker, "publisher") as gateway:
            at.gateway = gateway
            values += at.publish(20)
            turn_until(lambda: acknowledged(collect) >= 40, collect)
        own.start()
        turn_until(lambda: not collect._database_away, collect)
        assert {slot.term for slot in collect.slots.values()} == {1}
        in_their_order(at, values)


def test_while_kafka_stands_still_nothing_is_acknowledged_and_then_all_of_it(
    at: House, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting_module, "AWAY", 0.5)
    monkeypatch.setattr(collecting_module, "log", structlog.get_logger())
    with capture_logs() as logs, collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        assert kafka.pid is not None
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            values = at.publish(40)
            slots = collect.slots.values()
            turn_until(lambda: all(slot.oldest(stopwatch()) > 0.5 for slot in slots), collect)
            assert sum(slot.collector._unacknowledged for slot in slots) == 40
            turn_until(lambda: all(slot.oldest(stopwatch()) > 1.0 for slot in slots), collect)
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        turn_until(lambda: acknowledged(collect) >= 40, collect)
        began = stopwatch()
        turn_until(lambda: stopwatch() > began + 0.5, collect)
    in_their_order(at, values)
    said = [(log["event"], log.get("why", "")) for log in logs if "kafka" in log["event"]]
    assert [event for event, _ in said] == ["kafka_away", "kafka_back"]
    assert said[0][1].startswith(f"cluster.kafka: {kafka.servers}: ")


@contextmanager
def database_of(at: House) -> Iterator[sqlalchemy.Engine]:
    database = open_database(at.settings.desk_database)
    yield database
    database.dispose()


def marks_of(at: House, slot: int) -> list[int]:
    """The times of the slot's records."""
    return [entry.round.time for _, entry in at.records(slot=slot)[0]]


def test_time_goes_on_at_normal_speed_behind_an_owner_whose_clock_was_ahead(at: House) -> None:
    intrude(at, 0, 3, ahead=HOUR)
    with collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        began = len(marks_of(at, 0))
        turn_until(lambda: len(marks_of(at, 0)) >= began + 5, collect)
        times = marks_of(at, 0)[began:]
        assert times[-1] - times[0] > SECOND // 2, "five marks a second"
        assert HOUR - MINUTE < collect.slots[0].time - SystemClock().now() <= HOUR
        assert collect.slots[1].time <= SystemClock().now()
        turn_until(lambda: findings(at) == {("system.clock", "slot:0"): "begun"}, collect)


def test_who_has_a_wrong_clock_says_so_and_takes_nothing_while_another_can(
    at: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_of(at) as database, collecting(at) as collect:
        leases.keep(database, "other", SLOTS, 60.0)
        right = collect._clock.now
        monkeypatch.setattr(collect._clock, "now", lambda: right() - 10 * SECOND)
        turn_until(lambda: findings(at) == {("system.clock", "collector:a"): "begun"}, collect)
        leases.release(database, "other", range(SLOTS))
        looked = collect._looked_at
        turn_until(lambda: collect._looked_at > looked + 0.6, collect)
        assert collect._held.terms == {}
        assert leases.keep(database, "other", SLOTS, 60.0).terms.keys() == {0, 1}, "all of them are its share"
        leases.leave(database, "other")
        monkeypatch.undo()
        turn_until(lambda: hears(collect), collect)
        turn_until(lambda: findings(at) == {("system.clock", "collector:a"): "ended"}, collect)


def test_who_was_cut_off_from_the_database_gives_the_others_time_to_come_back(at: House) -> None:
    with database_of(at) as database, collecting(at) as collect:
        leases.keep(database, "other", SLOTS, 1.0)
        turn_until(lambda: collect._looked_at > 0, collect)
        threading.Event().wait(1.3)  # nobody reaches the database
        looked = collect._looked_at
        turn_until(lambda: collect._looked_at > looked + 1, collect)
        assert collect._held.terms == {}
        assert leases.keep(database, "other", SLOTS, 1.0).terms == {0: 1, 1: 1}
        turn_until(lambda: hears(collect), collect)  # it did not come again


def test_a_slot_is_not_gained_with_an_older_version_and_an_unfit_one_is_told(
    at: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, may, unfit = versions.load, threading.Event(), True

    def load_late(folder: Path, version: str, like: Registry | None = None) -> Registry:
        if like is not None:
            assert may.wait(WITHIN)
            if unfit:
                raise versions.BrokenVersion("unfit")
        return load(folder, version, like)

    monkeypatch.setattr(versions, "load", load_late)
    with database_of(at) as database, collecting(at) as collect:
        leases.keep(database, "other", SLOTS, 60.0)
        turn_until(lambda: collect._looked_at > 0, collect)
        publish(at.settings, registry_of(version="r2"))
        turn_until(lambda: collect._load_edition == 2, collect)
        leases.leave(database, "other")
        turn_until(lambda: len(collect._held.terms) == SLOTS, collect)
        for _ in range(3):
            collect.turn()
        assert not collect._gaining, "the other may have put edition 2 in force"
        may.set()
        turn_until(lambda: hears(collect), collect)
        assert collect._edition == 1, "there is no other"
        turn_until(lambda: findings(at) == {("system.configuration", "collector:a"): "begun"}, collect)
        unfit = False
        publish(at.settings, registry_of(version="r3"))
        turn_until(lambda: findings(at) == {("system.configuration", "collector:a"): "ended"}, collect)
        assert collect._edition == 3


@pytest.mark.long
def test_without_kafka_nothing_is_acknowledged_and_then_everything_arrives_once(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting_module, "STUCK", 0.5)
    with running(Kafka) as own, house(own, postgres, tmp_path) as at, collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        values = at.publish(20)
        turn_until(lambda: acknowledged(collect) >= 20, collect)
        own.stop()
        for _ in range(2 * UNDELIVERED):
            values += at.publish(4)
            collect.turn()
        turn_until(lambda: findings(at) == {("system.journal", "kafka:a"): "begun"}, collect)
        turn_until(lambda: not any(slot.taking for slot in collect.slots.values()), collect)
        assert acknowledged(collect) == 20
        assert not any(slot.listening(0) for slot in collect.slots.values())
        own.start()
        turn_until(lambda: acknowledged(collect) >= len(values), collect)
        turn_until(lambda: findings(at) == {("system.journal", "kafka:a"): "ended"}, collect)
        assert not sum(collect.slots[0].dropped.values())
        in_their_order(at, values)


def test_under_a_stepped_clock_all_partitions_advance_at_the_same_times(
    kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    with (
        Stepper(NOW) as stepper,
        house(kafka, postgres, tmp_path, clock=stepper.address) as at,
        ThreadPoolExecutor(1) as beside,
    ):
        making = beside.submit(at.collect)
        until(lambda: bool(stepper.names) and making.done())
        collect = making.result()
        try:

            def rest() -> None:
                turn_until(lambda: stepper.at_rest(["collect-a"]), collect)

            rest()
            values = at.publish(12)
            stepper.step(NOW + 3 * SECOND + SECOND // 2)
            rest()
            assert sorted(at.read()) == values
            publish(at.settings, registry_of(version="r2"))
            values += at.publish(12)
            stepper.step(NOW + 3 * SECOND + SECOND // 2)
            rest()
            assert sorted(at.read()) == values
        finally:
            collect.stop()
            collect.run()
        for records in at.records():
            marks = [
                (entry.round.time - NOW, entry.asked, entry.round.listening)
                for _, entry in records
                if not len(entry.round.readings) and not entry.round.version
            ]
            first = marks[0][1]
            ticks = [SECOND, 2 * SECOND, 3 * SECOND, 3 * SECOND + SECOND // 2]
            assert marks == [
                (0, first, True),
                *((time, first, True) for time in ticks),
                (ticks[-1], first + 1, True),
                (ticks[-1], first + 2, True),
            ]
            asked = [entry.asked for _, entry in records]
            versions = [place for place, (_, entry) in enumerate(records) if entry.edition == 2]
            assert asked.index(first + 2) > versions[0], "what was published before it was asked is in force"


def test_once_a_minute_of_its_time_a_mark_says_the_version_in_force_again(
    at: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect_slot, "REPEAT", SECOND)
    with collecting(at) as collect:
        turn_until(lambda: hears(collect), collect)
        began = stopwatch()
        turn_until(lambda: stopwatch() > began + 2.5, collect)
    for [records] in (at.records(slot=slot) for slot in range(SLOTS)):
        said = [entry for _, entry in records if entry.round.version]
        assert {(entry.round.version, entry.edition) for entry in said} == {(said[0].round.version, 1)}
        seconds = [entry.round.time // SECOND for entry in said]
        assert len(seconds) >= 3
        assert len({*seconds}) == len(seconds)
        assert all(later - earlier >= SECOND // 10 for earlier, later in pairwise(e.round.time for e in said))


class TestTakeOver:
    def test_what_a_lost_owner_wrote_is_not_among_what_is_known(self) -> None:
        old, stale, new = b"old-----", b"stale---", b"new-----"
        chunk = [(1, old), (2, new), (1, stale), (2, b"")]
        assert takeover._read([chunk], lead=0) == [old, new]
        assert takeover._read([[(1, old), (2, new)], [(1, stale), (2, old + new)]], lead=1) == [old, new]

    def test_it_looks_back_far_enough_and_no_further(self, kafka: Kafka) -> None:
        topic = new_topic(kafka)
        written: list[int] = []
        writer = RecordWriter(kafka.servers, lambda: None)
        digests = [b"%08d" % number for number in range(1200)]
        for digest in digests:
            value, headers = encode(Entry(Round(NOW, digests=digest), 1))
            assert writer.write(topic, 0, value, headers, written.append)
        until(lambda: writer.deliver() >= 0 and len(written) == len(digests))
        with ThreadPoolExecutor(1) as beside:

            def first(time: int) -> Entry:
                return Entry(Round(time + 1), 2)

            taking = beside.submit(
                takeover.take_over, kafka.servers, topic, 0, writer, first, 100, threading.Event()
            )
            until(lambda: writer.deliver() >= 0 and taking.done())
        writer.close()
        taken = taking.result()
        assert (taken.offset, taken.time) == (1200, NOW)
        assert taken.digests == digests[-takeover.CHUNK :], "200 are wanted; one chunk more is for the terms"


def test_a_large_round_is_cut_and_its_digests_come_last() -> None:
    count = 2 * collect_slot.READINGS + 1
    readings = Readings(
        np.arange(count, dtype=np.int32),
        np.full(count, NOW),
        np.zeros(count),
        np.zeros(count, np.uint8),
    )
    whole = Round(NOW, status=(GatewayStatus(0, True),), readings=readings, digests=b"12345678")
    cut = list(pieces(whole))
    assert [(len(one.readings), len(one.status), len(one.digests)) for one in cut] == [
        (collect_slot.READINGS, 1, 0),
        (collect_slot.READINGS, 0, 0),
        (1, 0, 8),
    ]
    assert np.concatenate([one.readings.row for one in cut]).tolist() == readings.row.tolist()
