"""The historian of a cluster: readings of Kafka into InfluxDB; any number of historians.

A partition of the readings is a slot, which has a thread and a home of its own. Kafka is told how far a slot has come
only once all before that is stored, and beside it which version and term held there, so that whoever goes on knows
whose rows it reads. What was stored and not told is written once more, which doubles nothing. See docs/cluster.md.
"""

import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import OperationalError
from typing import NamedTuple, cast

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from fenghuo import prepared, status, topics
from fenghuo.anchor import shared_anchor
from fenghuo.historian import Versions
from fenghuo.offsets import Offsets
from fenghuo.retry import Retry
from fenghuo.settings import Cluster, Settings
from fenghuo.topics import KafkaAway
from history.chunk import chunk
from history.home import Home, HomeAway
from history.influx import InfluxHome
from history.influx_access import Access
from history.source import READINGS
from ingest.readings import Round
from ingest.topics import Entry, Headers, Topics, decode
from registry import shared_versions
from registry.clock import SystemClock, stopwatch
from registry.database import DatabaseError, open_database
from registry.model import Registry
from registry.slots import part
from registry.versions import BrokenVersion, NoSuchVersion

BATCH = 2_000
"""Records taken from Kafka at a time."""

LOOK = 0.1
"""Seconds of real time for which Kafka is waited for."""

GATHER = 1.0
"""Seconds of real time in which a slot's rounds are gathered into one chunk, unless it is full before."""

FULL = 8 << 20
"""Bytes of records that wait for a slot's thread at which no more are taken: Kafka keeps them."""

HOUSEKEEPING = 0.25
"""Seconds of real time between two commits to Kafka."""

TOLD = 1.0
"""Seconds of real time between two words on how it is."""

LEAVING = 5.0
"""Seconds that a historian that ends waits for Kafka to let it go."""

ENDING = 1.0
"""Seconds that are waited for what slots are just storing when they are given up."""

ASKING = 1.0
"""Seconds for an answer of Kafka that is wanted between two polls."""

COUNTERS = {
    "readings": "Readings written; what was written twice, twice.",
    "refused": "Values and qualities that InfluxDB would not take.",
    "expired": "Lines older than InfluxDB keeps.",
    "unwritable": "Readings of points that InfluxDB cannot name.",
    "left_out": "Readings of which it is not known whose they are: no version was read before.",
    "unread": "Records that could not be read.",
    "stale": "Records of an owner that had lost the slot.",
    "lost": "Records that Kafka no longer had when they were wanted.",
    "away": "Requests that InfluxDB did not answer, or not then.",
    "missed": "Hours that InfluxDB's tasks have not rolled up.",
    "rolled_up": "Hours that were rolled up once more.",
    "not_rolled_up": "Attempts at that which failed.",
    "forgotten": "Hours that are not rolled up once more, since too many wait.",
}
"""What is counted, and what of."""

Whose = Callable[[], Collection[str]]
"""What says of which enterprises the readings are a slot's."""

CANNOT = (HomeAway, DatabaseError, NoSuchVersion, BrokenVersion, OSError, OperationalError)

log = structlog.get_logger()


class SlotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a slot is. time: arrival of the newest that is stored, µs."""

    behind: int  # records behind the newest
    time: int
    version: str  # in force there, "" if it is not known
    problem: str  # why it takes nothing, "" if it does


class HistorianStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a historian is. Counts are since its start; times are µs."""

    pid: int
    number: int  # how many times this process has said so
    name: str
    time: int
    started: int
    slots: dict[int, SlotStatus]  # that it has just now
    counts: dict[str, int]  # COUNTERS says what of
    problem: str  # why it does not work as it should, "" if it does


class Place(NamedTuple):
    """A place in a partition, and what holds there, as Kafka keeps it for whoever goes on.

    offset: of the record that comes next, below 0 where none was ever committed. version: "" if it is not known.
    """

    offset: int
    term: int = 0
    version: str = ""

    @classmethod
    def of(cls, held: TopicPartition) -> "Place":
        """What was committed; term and version are not known where somebody else has set the offset."""
        term, _, version = (held.metadata or "").partition(" ")
        return cls(held.offset, int(term), version) if term.isdigit() else cls(held.offset)

    def on(self, topic: str, partition: int) -> TopicPartition:
        """To be committed."""
        return TopicPartition(topic, partition, self.offset, f"{self.term} {self.version}")


class Slot(threading.Thread):
    """A partition of the readings on its way into its home: a thread that takes what it is given, in its order.

    Args:
        open_home: raises CANNOT. load: the slot's part of a version. Raises CANNOT.

    ``place``: all before it is stored; None until it has begun. ``counts``: what its home does not count.
    """

    def __init__(
        self, number: int, open_home: Callable[[Whose], Home], load: Callable[[str], Registry]
    ) -> None:
        super().__init__(name=f"slot-{number}", daemon=True)
        self.number = number
        self.place: Place | None = None
        self.problem = ""
        self.time = 0
        self.counts: Counter[str] = Counter()
        self.committed: Place | None = None  # these three belong to whoever gives the records
        self.paused: bool | None = None  # not known
        self.behind = 0
        self._open, self._load = open_home, load
        self._records: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._given = self._taken = 0
        self._ended = threading.Event()
        self._home: Home | None = None
        self._registry: Registry | None = None
        self._retry = Retry()
        self._next = -1
        self._term = self._arrived = 0
        self._version = ""
        self._rounds: list[tuple[int, Round]] = []  # gathered, under the version in force; not stored yet
        self._coming: str | None = None  # the version that takes force after them, "" for none that is known
        self._ahead: Message | None = None  # read after that

    def begin(self, place: Place) -> None:
        """Start: the next record is that of this place."""
        self.place = self.committed = place
        self._next, self._term, self._version = place
        self.start()

    def give(self, record: Message) -> None:
        self._given += _size(record)
        self._records.put(record)

    @property
    def waiting(self) -> int:
        """Bytes that were given and are not taken yet."""
        return self._given - self._taken

    def end(self) -> None:
        """Stop at the next chance: what is not stored yet is read again by the next."""
        self._ended.set()
        self._records.put(None)

    def count(self, name: str) -> int:
        return self.counts[name] + (self._home.counts.get(name, 0) if self._home is not None else 0)

    def run(self) -> None:
        """Until it is told to end. Whatever fails holds up this slot only, and is tried again."""
        while not self._ended.is_set():
            try:
                self._step()
            except CANNOT as error:
                self._fails(str(error) or type(error).__name__)
            except Exception as error:
                log.exception("history_failed", slot=self.number)
                self._fails(f"{type(error).__name__}: the log says more")  # its own words might hold a secret
            else:
                if self.problem:
                    log.info("history_takes_again", slot=self.number)
                self.problem = ""
                self._retry.done()
        if self._home is not None:
            self._home.close()

    def _fails(self, why: str) -> None:
        if not self.problem:
            log.error("history_does_not_take", slot=self.number, why=why)
        self.problem = why
        self._retry.wait(self._ended)

    def _own(self) -> Collection[str]:
        """The enterprises whose readings are this slot's; none while no version is known."""
        return self._registry.enterprises if self._registry is not None else ()

    def _step(self) -> None:
        """Store what has come, then put in force what comes after it. Raises CANNOT: the next step does the same."""
        if self._home is None:
            self._home = self._open(self._own)
        if self._registry is None and self._version:
            self._registry = self._load(self._version)
        is_all = False
        if not self._rounds and self._coming is None:
            is_all = self._gather()
        if self._ended.is_set():
            return
        if self._rounds and self._registry is not None:
            self._home.append(chunk(self._registry, self._rounds))
            self._rounds = []
        if self._coming is not None:
            self._registry = self._load(self._coming) if self._coming else None
            self._version, self._coming = self._coming, None
        self.time = self._arrived
        self.place = Place(self._next, self._term, self._version)
        if is_all:
            self._home.maintain()

    def _gather(self) -> bool:
        """Take rounds of the version in force until they fill a chunk; whether there are no more just now."""
        until = stopwatch() + GATHER
        count = 0
        while count < READINGS:
            record = self._taken_next(until - stopwatch())
            if record is None:
                return True
            offset = record.offset()
            if offset is None or offset < self._next:
                continue
            if 0 <= self._next < offset:
                log.error("history_lost", slot=self.number, first=self._next, last=offset - 1)
                self.counts["lost"] += offset - self._next
                self._next, self._coming, self._ahead = offset, "", record  # another version may be in force
                return False
            self._ahead = record  # should reading it fail
            entry = self._read(record)
            self._next, self._ahead = offset + 1, None
            if entry is None:
                continue
            round_ = entry.round
            self._arrived = max(self._arrived, round_.time)
            if round_.version not in (None, self._version):
                self._coming = round_.version
                return False
            if len(round_.readings):
                self._rounds.append((offset, replace(round_, time=self._arrived)))
                count += len(round_.readings)
        return False

    def _taken_next(self, seconds: float) -> Message | None:
        """The next record; None if none comes so soon, or at the end."""
        record, self._ahead = self._ahead, None
        if record is None:
            try:
                record = self._records.get(timeout=max(0.0, seconds))
            except queue.Empty:
                return None
            if record is not None:
                self._taken += _size(record)
        return record

    def _read(self, record: Message) -> Entry | None:
        """None for what is not to be stored."""
        try:
            entry = decode(record.value() or b"", cast(Headers | None, record.headers()))
        except (ValueError, TypeError) as error:  # a header may have no value
            self._unread(record, str(error))
            return None
        if entry.term < self._term:
            self.counts["stale"] += 1
            return None
        self._term = entry.term
        row = entry.round.readings.row
        if not len(row) or entry.round.version not in (None, self._version):
            return entry
        if self._registry is None:
            if not self.counts["left_out"]:
                log.error("readings_left_out", slot=self.number, offset=record.offset(), why="no version yet")
            self.counts["left_out"] += len(row)
            return None
        if row.min() < 0 or row.max() >= len(self._registry.points):
            self._unread(record, f"version {self._version} has no row {row.max()}")
            return None
        return entry

    def _unread(self, record: Message, why: str) -> None:
        self.counts["unread"] += 1
        log.error("record_not_read", slot=self.number, offset=record.offset(), why=why)


def _size(record: Message) -> int:
    """Bytes of it, about."""
    return 100 + len(record.value() or b"")


class Parts:
    """Slots' parts of registries by version; what this machine lacks is fetched. For several threads."""

    def __init__(self, database: Engine, folder: Path, slots: int) -> None:
        self._database, self._folder, self._slots = database, folder, slots
        self._versions = Versions(folder)

    def of(self, slot: int, version: str) -> Registry:
        """Raises DatabaseError, NoSuchVersion, BrokenVersion, OSError."""
        shared_versions.fetch(self._database, self._folder, version)
        return part(self._versions.load(version), slot, self._slots)


class ClusterHistorian:
    """Everything that one historian holds; ``turn`` is its whole life. Close it after use.

    Args:
        access: to InfluxDB. name: of this historian, another for each on this machine.
    """

    def __init__(self, settings: Settings, cluster: Cluster, access: Access, name: str) -> None:
        self._path = settings.data / f"historian-{name}.json"
        self._folder = settings.data / f"history-{name}"
        self._cluster, self._access, self._name = cluster, access, name
        self._clock = SystemClock(shared_anchor())
        self._started = self._clock.now()
        self._database = open_database(cluster.database.address)
        self._parts = Parts(self._database, settings.versions, cluster.slots)
        self._slots: dict[int, Slot] = {}
        self._gone: Counter[str] = Counter()  # counts of slots that others have now
        self._kafka_fails = ""
        self._next_house = self._next_status = 0.0
        self._told = 0
        names = Topics(cluster.topics)
        self._topic = names.readings
        self._offsets = Offsets(self._forget)
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.kafka,
                "group.id": names.history,
                "client.id": f"fenghuo-historian-{name}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1500,
                "partition.assignment.strategy": "cooperative-sticky",
                "queued.max.messages.kbytes": FULL >> 10,  # of each partition; larger records come singly
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
                "error_cb": self._kafka_erred,
                "on_commit": self._offsets.noted,
            }
        )
        self._consumer.subscribe([self._topic], self._assign, self._revoke, self._lose)
        self.said = self._status()

    def run(self, stop: threading.Event) -> None:
        """Turn until told to stop."""
        while not stop.is_set():
            self.turn()

    def turn(self) -> None:
        """Hand out what has arrived, and tell Kafka what is stored."""
        self._hear()
        watch = stopwatch()
        if watch >= self._next_house:
            self._next_house = watch + HOUSEKEEPING
            self._begin()
            self._commit(self._slots)
        self._hold()
        if watch >= self._next_status:
            self._next_status = watch + TOLD
            self._look()
            self._tell()

    def close(self) -> None:
        """Tell Kafka how far all is stored, and leave its group; one that is away is not waited for."""
        self._end(self._slots)
        leaving = threading.Thread(target=self._consumer.close, name="leaving", daemon=True)  # which revokes
        leaving.start()
        leaving.join(LEAVING)
        if leaving.is_alive():
            log.warning("kafka_not_left", why="it does not answer; others take over after the session's end")
        self._tell()
        self._database.dispose()

    # -- from Kafka ----------------------------------------------------------------------------

    def _hear(self) -> None:
        for record in self._consumer.consume(BATCH, LOOK):
            if error := record.error():
                self._kafka_erred(error)
                continue
            self._kafka_works()
            number = record.partition()
            if number in self._slots:  # else it is another's by now
                self._slots[number].give(record)

    def _hold(self) -> None:
        """Let Kafka keep what slots cannot take."""
        for number, one in self._slots.items():
            hold = bool(one.problem) or one.waiting > (0 if one.paused else FULL)
            if hold != one.paused:
                act = self._consumer.pause if hold else self._consumer.resume
                act([TopicPartition(self._topic, number)])
                one.paused = hold

    def _kafka_erred(self, error: KafkaError) -> None:
        if not self._kafka_fails:
            log.error("kafka_away", why=prepared.kafka_away(self._cluster, error.str()))
        self._kafka_fails = error.str()

    def _kafka_works(self) -> None:
        if self._kafka_fails:
            log.info("kafka_back")
        self._kafka_fails = ""

    def _assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for number in (one.partition for one in partitions):
            open_home, load = partial(self._open_home, number), partial(self._parts.of, number)
            self._slots[number] = Slot(number, open_home, load)
        if partitions:
            log.info("slots_assigned", slots=sorted(self._slots))

    def _open_home(self, slot: int, whose: Whose) -> Home:
        return InfluxHome(self._access, self._folder / f"slot-{slot}", self._clock, whose=whose)

    def _begin(self) -> None:
        """Have new slots begin, once Kafka says from where: without that, nobody knows whose rows come."""
        new = [
            TopicPartition(self._topic, number) for number, one in self._slots.items() if one.place is None
        ]
        if not new:
            return
        try:
            held = self._consumer.committed(new, timeout=ASKING)
        except KafkaException as error:
            self._kafka_erred(error.args[0])
            return
        for one in held:
            if one.error is None:
                self._kafka_works()
                self._slots[one.partition].begin(Place.of(one))
            else:
                self._kafka_erred(one.error)

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Others go on from what is stored."""
        numbers = [one.partition for one in partitions]
        self._end(numbers)
        self._commit(numbers, wait=True)
        self._lose(consumer, partitions)

    def _lose(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [one.partition for one in partitions if one.partition in self._slots]
        self._end(numbers)
        for number in numbers:
            one = self._slots.pop(number)
            self._gone.update({name: one.count(name) for name in COUNTERS})
        if numbers:
            log.info("slots_given_up", slots=sorted(numbers))

    def _end(self, numbers: Iterable[int]) -> None:
        ending = [self._slots[number] for number in numbers if number in self._slots]
        for one in ending:
            one.end()
        until = stopwatch() + ENDING
        for one in ending:
            if one.ident is not None:
                one.join(max(0.0, until - stopwatch()))

    def _commit(self, numbers: Iterable[int], *, wait: bool = False) -> None:
        offsets = []
        for one in [self._slots[number] for number in numbers if number in self._slots]:
            place = one.place
            if place is not None and place.offset >= 0 and place != one.committed:
                one.committed = place
                offsets.append(place.on(self._topic, one.number))
        self._offsets.tell(self._consumer, offsets, wait=wait)

    def _forget(self, number: int) -> None:
        if (ours := self._slots.get(number)) is not None:
            ours.committed = None

    # -- how it is -----------------------------------------------------------------------------

    def _tell(self) -> None:
        """Status, for others to read; a disk that cannot take it stops nothing else."""
        self._told += 1
        self.said = self._status()
        try:
            status.write(self._path, self.said)
        except OSError as error:
            log.error("status_not_written", why=str(error))

    def _status(self) -> HistorianStatus:
        mine = list(self._slots.values())  # of which one that leaves takes some away meanwhile
        return HistorianStatus(
            pid=os.getpid(),
            number=self._told,
            name=self._name,
            time=self._clock.now(),
            started=self._started,
            slots={
                one.number: SlotStatus(
                    behind=one.behind,
                    time=one.time,
                    version=one.place.version if one.place is not None else "",
                    problem=one.problem,
                )
                for one in mine
            },
            counts={name: self._gone[name] + sum(one.count(name) for one in mine) for name in COUNTERS},
            problem=next((one.problem for one in mine if one.problem), self._kafka_fails),
        )

    def _look(self) -> None:
        """How many records Kafka has and InfluxDB has not, as far as is known; for paused slots Kafka is asked."""
        asks = True
        for one in self._slots.values():
            ask = bool(one.paused) and asks
            try:
                known = self._consumer.get_watermark_offsets(
                    TopicPartition(self._topic, one.number), timeout=ASKING, cached=not ask
                )
            except KafkaException as error:
                self._kafka_erred(error.args[0])
                asks = False
                continue
            if ask:
                self._kafka_works()
            if known and one.place is not None:
                one.behind = max(0, known[1] - max(known[0], one.place.offset))


def start(
    settings: Settings, cluster: Cluster, access: Access, name: str, stop: threading.Event
) -> ClusterHistorian | None:
    """A historian, once the topics are there; None if it was stopped before. Raises TopicsUnfit, OSError."""
    away = False
    while not stop.is_set():
        try:
            topics.require(cluster)
        except KafkaAway as error:
            if not away:
                log.error("kafka_away", why=prepared.kafka_away(cluster, error))
            away = True
            stop.wait(prepared.LOOK)
        else:
            if away:
                log.info("kafka_back")
            return ClusterHistorian(settings, cluster, access, name)
    return None


class Scrape(Collector):
    """What Prometheus reads of a historian; as it said of itself last."""

    def __init__(self, said: Callable[[], HistorianStatus]) -> None:
        self._said = said

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand."""
        return ()

    def collect(self) -> Iterator[Metric]:
        said = self._said()
        for name, words in COUNTERS.items():
            yield CounterMetricFamily(f"fenghuo_historian_{name}", words, value=said.counts[name])
        yield GaugeMetricFamily("fenghuo_historian_up", "1 if it works as it should.", not said.problem)
        lag = GaugeMetricFamily("fenghuo_historian_lag", "Records behind the newest.", labels=["partition"])
        takes = GaugeMetricFamily("fenghuo_historian_takes", "1 if a slot is stored.", labels=["partition"])
        for number, one in sorted(said.slots.items()):
            lag.add_metric([str(number)], one.behind)
            takes.add_metric([str(number)], not one.problem)
        yield lag
        yield takes
