"""The desk of a cluster: findings of Kafka into alerts in PostgreSQL, and their deadlines; any number of desks.

A turn takes what has arrived, absorbs it in one transaction, and only then lets Kafka know how far it has come: what a
killed desk had not committed is told again to the next one, and the database knows what it has. Deadlines go on while
Kafka is away; while the database is, findings wait in their order. See docs/cluster.md.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from alerting.desk import DatabaseBusy, DatabaseUnwritable, Desk, note_sources
from console.metrics import quantiles
from fenghuo import prepared, status, topics
from fenghuo.anchor import shared_anchor
from fenghuo.clock_socket import ControlledClock
from fenghuo.offsets import Offsets
from fenghuo.settings import Cluster, Settings
from fenghuo.topics import KafkaAway
from fenghuo.version_follower import VersionFollower
from ingest.topics import Topics
from registry.clock import Clock, SystemClock, stopwatch
from registry.database import STANDING, open_database
from registry.model import Registry
from streams import report
from streams.finding import Finding, Phase
from streams.report import Report
from streams.system_findings import SystemFindings

BATCH = 2_000
"""Reports taken from Kafka at a time."""

ROUND = 500
"""Findings from which on a transaction is full: in a flood the first are not to wait for the last."""

LARGE = 2_000
"""Findings that one transaction takes at most, though one report may have more: PostgreSQL gives up a desk that thinks
about them too long."""

MANY = 50_000
"""Reports and findings that wait for the database at which no more are taken: Kafka keeps them."""

HOUSEKEEPING = 0.25
"""Seconds of real time between two looks at the deadlines that others may have moved, and two commits to Kafka."""

RETRY = 0.05
"""Seconds of real time before a database that did not take a round is asked again."""

STEP = 0.005
"""Seconds of real time that a desk on a stepped clock waits for Kafka: a step does not wake it."""

LEAVING = 5.0
"""Seconds that a desk that ends waits for Kafka to let it go."""

BUSY = 1.0
"""Seconds that a desk waits for what another holds."""

log = structlog.get_logger()


class DeskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a desk is. Counts are since its start; times are µs."""

    pid: int
    number: int  # how many times this process has said so
    name: str
    time: int
    started: int
    version: str
    partitions: dict[int, int]  # its partitions of the findings: how many records behind the newest
    reports: int
    findings: int
    rounds: int
    raised: int  # alerts
    ignored: int  # messages that the database had already
    gaps: int  # messages before which some are missing
    late: int  # steps taken more than 2 s after they were due
    unread: int  # records that could not be read
    refused: int  # findings that the database would not take
    waiting: int  # findings that the database has not taken yet
    desk_busy: int  # rounds that the database did not take at once
    problem: str  # why it does not work as it should, "" if it does
    alert_ms: status.Latency  # from the time of a finding that begins to its commit
    round_ms: status.Latency  # of a round's transaction


@dataclass(slots=True)
class _Partition:
    """What was heard of a partition of the findings, in its order, and is not in the database yet."""

    next: int | None = None  # offset of the record that should come next; None if any may
    waiting: deque[tuple[int, Report]] = field(default_factory=deque)  # with their offsets
    done: int | None = None  # offset of the newest report that the database has
    committed: int | None = None  # what Kafka was told to go on from
    marked: int | None = None  # offset of the newest report of the compound rules that the database has
    asked: int = 0  # of the compound rules, the newest that the database has
    time: int = 0  # of the compound rules, the newest heard, µs


class ClusterDesk:
    """Everything that one desk holds; ``turn`` is its whole life. Close it after use.

    Args:
        name: of this desk, another for each on this machine.
    """

    def __init__(
        self, settings: Settings, cluster: Cluster, name: str, clock: Clock, follower: VersionFollower
    ) -> None:
        registry = follower.registry
        if registry is None:
            raise ValueError("a desk needs a registry to begin with")
        self._registry: Registry = registry
        self._path = settings.data / f"desk-{name}.json"
        self._cluster = cluster
        self._name = name
        self._clock = clock
        self._stepped = bool(settings.clock)
        self._follower = follower
        self._database = open_database(cluster.database.address, busy=BUSY, thinking=STANDING)
        self._desk = Desk(self._database, registry)
        self._partitions: dict[int, _Partition] = {}
        self._assigned = False
        self._paused: bool | None = False  # None: some of the partitions may be
        self._checked = False
        self._deadline: int | None = None
        self._looked_for: int | None = None
        self._database_fails = self._kafka_fails = ""
        self._next_house = self._next_status = self._next_look = 0.0
        self._sources: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._counts = dict.fromkeys(
            ("status", "reports", "findings", "rounds", "raised", "ignored", "gaps", "late"), 0
        )
        self._counts |= dict.fromkeys(("unread", "refused", "busy"), 0)
        self._alert_ms, self._round_ms = status.Samples(), status.Samples()
        self._started = clock.now()
        self._topic = Topics(cluster.topics).findings
        self._offsets = Offsets(self._forget)
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.kafka,
                "group.id": Topics(cluster.topics).desk,
                "client.id": f"fenghuo-desk-{name}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1500,
                "partition.assignment.strategy": "cooperative-sticky",
                "fetch.wait.max.ms": 50,  # what Kafka has is sent at once; this is how long it waits where it has none
                "fetch.queue.backoff.ms": 20,
                "fetch.message.max.bytes": topics.LARGEST,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
                "error_cb": self._kafka_erred,
                "on_commit": self._offsets.noted,
            }
        )
        self._consumer.subscribe([self._topic], self._assign, self._revoke, self._lose)
        self.said = self._status()

    # -- the loop ------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Turn until told to stop. Raises TopicsUnfit, ClockLost."""
        while not stop.is_set():
            self.turn()

    def close(self) -> None:
        """Tell Kafka how far the database is, and leave its group; one that is away is not waited for."""
        leaving = threading.Thread(target=self._consumer.close, name="leaving", daemon=True)  # which revokes
        leaving.start()
        leaving.join(LEAVING)
        if leaving.is_alive():
            log.warning("kafka_not_left", why="it does not answer; others take over after the session's end")
        self._tell()
        self._database.dispose()
        self._follower.close()

    def turn(self) -> None:
        """Wait until there is something to do, then do all of it."""
        self._hear(self._rest())
        self._clock.poll()
        self._follow()
        if self._looked_for != self._clock.asked if self._stepped else stopwatch() >= self._next_look:
            self._look_at_deadlines()
        if self._stepped:
            self._catch_up()
        else:
            share = ROUND // max(1, len(self._partitions))
            counts = {number: _first(one.waiting, share) for number, one in self._partitions.items()}
            now = self._clock.now()
            if any(counts.values()) or self._is_due(now):
                self._absorb(counts, now)
        self._keep_house()
        if self._stepped and self._is_at_rest():
            self._clock.rest()

    def _rest(self) -> float:
        """Seconds for which Kafka is waited for."""
        if self._stepped:
            return STEP
        if self._database_fails:
            return RETRY
        if any(one.waiting for one in self._partitions.values()):
            return 0.0
        due = self._clock.timeout(self._deadline) if self._deadline is not None else None
        return HOUSEKEEPING if due is None else min(due, HOUSEKEEPING)

    def _is_due(self, now: int) -> bool:
        return self._deadline is not None and self._deadline <= now

    def _look_at_deadlines(self) -> None:
        """Answers of people, and other desks, move them too."""
        self._next_look = stopwatch() + HOUSEKEEPING
        try:
            self._deadline = self._desk.next_deadline()
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._fails(error)
        else:
            self._looked_for = self._clock.asked
            self._works()

    def _follow(self) -> None:
        newest = self._follower.registry
        if newest is not None and newest is not self._registry:
            self._registry = newest
            self._desk.set_registry(newest)

    # -- from Kafka ----------------------------------------------------------------------------

    def _hear(self, seconds: float) -> None:
        """Take what has arrived; wait for the first so long."""
        waiting = (heard for one in self._partitions.values() for _, heard in one.waiting)
        full = sum(1 + len(heard.findings) for heard in waiting) >= MANY
        if full != self._paused:
            (self._consumer.pause if full else self._consumer.resume)(self._consumer.assignment())
            self._paused = full
        first = self._consumer.poll(seconds)
        if first is None:
            return
        for message in (first, *self._consumer.consume(BATCH - 1, 0)):
            if error := message.error():
                self._kafka_erred(error)
            else:
                if self._kafka_fails:
                    log.info("kafka_back")
                self._kafka_fails = ""
                self._take(message)

    def _take(self, message: Message) -> None:
        number, offset, value = message.partition(), message.offset(), message.value()
        if number is None or offset is None or number not in self._partitions:
            return  # it is another desk's by now, which will be told it
        one = self._partitions[number]
        if one.next is not None and offset > one.next:
            self._say(one, offset, message, "system.lost", f"findings {number}: {one.next}–{offset - 1}")
        one.next = offset + 1
        try:
            heard = report.decode(value or b"")
        except ValueError as error:
            self._counts["unread"] += 1
            log.error("report_not_read", partition=number, offset=offset, why=str(error))
            self._say(one, offset, message, "system.engine", f"findings {number}, {offset}: {error}")
            return
        self._counts["reports"] += 1
        one.waiting.append((offset, heard))
        if heard.source.startswith("compound/"):
            one.time = max(one.time, heard.time)

    def _say(self, one: _Partition, offset: int, message: Message, rule: str, why: str) -> None:
        """A finding of our own in place of a record; it is the same one whenever the record is read again."""
        since = message.timestamp()[1] * 1000
        found = SystemFindings(subject=f"shard:{message.partition()}").once(rule, since, why)
        one.waiting.append(
            (offset, Report(source="", offset=offset, time=self._clock.now(), findings=tuple(found)))
        )

    def _kafka_erred(self, error: KafkaError) -> None:
        if not self._kafka_fails:
            log.error("kafka_away", why=prepared.kafka_away(self._cluster, error.str()))
        self._kafka_fails = error.str()

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions and not self._checked:
            try:
                topics.require(self._cluster)
                self._checked = True
            except KafkaAway as error:
                log.error("topics_not_looked_at", why=str(error))  # the next time will do
        try:
            held = consumer.committed(partitions, timeout=5.0) if partitions else []
        except KafkaException as error:
            log.error("offsets_not_read", why=str(error))  # a gap in front of the first record goes unnoticed
            held = []
        committed = {one.partition: one.offset for one in held if one.offset >= 0}
        for one in partitions:
            known = committed.get(one.partition)
            self._partitions[one.partition] = _Partition(next=known, committed=known)
        self._assigned = True
        self._paused = None  # the new ones are not, the old ones as before
        if partitions:
            log.info("partitions_assigned", partitions=sorted(self._partitions))

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Others go on from what the database has; what it has not is told to them again."""
        self._commit([one.partition for one in partitions], wait=True)
        self._lose(consumer, partitions)

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._partitions.pop(one.partition, None)
        if partitions:
            log.info("partitions_given_up", partitions=sorted(one.partition for one in partitions))

    def _commit(self, numbers: Iterable[int], *, wait: bool = False) -> None:
        """Tell Kafka how far the database has come. On a stepped clock, from the newest report of the compound rules
        on: a desk that is started again has to hear once more how far all is told."""
        offsets = []
        for number in numbers:
            one = self._partitions.get(number)
            if one is None or one.done is None:
                continue
            on = one.marked if self._stepped else one.done + 1
            if on is not None and on != one.committed:
                one.committed = on
                offsets.append(TopicPartition(self._topic, number, on))
        self._offsets.tell(self._consumer, offsets, wait=wait)

    def _forget(self, number: int) -> None:
        if (ours := self._partitions.get(number)) is not None:
            ours.committed = None

    # -- to the database -----------------------------------------------------------------------

    def _catch_up(self) -> None:
        """On a stepped clock: a round at each time of the compound rules, in its order, once all partitions have come
        so far; so that what leapt is done as if it had not."""
        if not self._partitions:
            return
        frontier = min(one.time for one in self._partitions.values())
        times = {
            heard.time
            for one in self._partitions.values()
            for _, heard in one.waiting
            if heard.source.startswith("compound/") and heard.time <= frontier
        }
        for now in sorted(times):
            counts = {number: _until(one.waiting, now) for number, one in self._partitions.items()}
            if not self._absorb(counts, now):
                return
            self._look_at_deadlines()
        if frontier and self._is_due(frontier):  # what people's answers brought
            self._absorb({}, frontier)
            self._look_at_deadlines()

    def _absorb(self, counts: dict[int, int], now: int) -> bool:
        """The first so many waiting reports of each partition to the database, with what is due by now; or nothing of
        it. Whether it was taken."""
        taken = [
            (self._partitions[number], [self._partitions[number].waiting[place] for place in range(count)])
            for number, count in counts.items()
        ]
        findings = [finding for _, reports in taken for _, heard in reports for finding in heard.findings]
        try:
            if findings or self._is_due(now):
                for begin in range(0, max(1, len(findings)), LARGE):
                    self._round(findings[begin : begin + LARGE], now)
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._counts["busy"] += 1
            self._fails(error)
            return False
        committed = self._clock.now()
        for finding in findings:
            if finding.phase is Phase.BEGUN and not finding.late:
                self._alert_ms.add((committed - finding.time) / 1000)
        for one, reports in taken:
            for offset, heard in reports:
                one.waiting.popleft()
                one.done = offset
                if heard.source.startswith("compound/"):
                    one.asked, one.marked = max(one.asked, heard.asked), offset
                if heard.source:
                    self._sources[heard.source] = max(self._sources.get(heard.source, 0), heard.time)
        return True

    def _round(self, findings: Sequence[Finding], now: int) -> None:
        """One transaction; a finding that the database cannot take takes no other along. Raises as Desk.round."""
        begun = stopwatch()
        try:
            work = self._desk.round(findings, None, now)
        except (DatabaseBusy, DatabaseUnwritable):
            raise
        except Exception as error:
            log.exception("round_not_taken", findings=len(findings))
            self._desk.round((), None, now)  # if that fails too, it is none of the findings
            if len(findings) > 1:
                for finding in findings:
                    self._round((finding,), now)
                return
            self._refuse(findings[0], error, now)
            return
        self._round_ms.add((stopwatch() - begun) * 1000)
        counts = self._counts
        counts["rounds"] += 1
        counts["findings"] += len(findings)
        counts["raised"] += work.raised
        counts["ignored"] += work.ignored
        counts["gaps"] += work.gaps
        counts["late"] += work.late
        self._deadline = None  # the next one is minutes away: looked up when nobody waits for it
        self._works()

    def _refuse(self, finding: Finding, error: Exception, now: int) -> None:
        self._counts["refused"] += 1
        log.error("finding_not_taken", finding=repr(finding)[:1000], why=str(error))
        what = f"{finding.rule!r} {finding.enterprise!r} {finding.subject!r}: {type(error).__name__}"
        told = SystemFindings().once("system.engine", now, what, since=finding.arrival)
        self._desk.round(told, None, now)

    def _fails(self, error: DatabaseBusy | DatabaseUnwritable) -> None:
        if not self._database_fails:
            log.error("desk_does_not_take", why=str(error))
        self._database_fails = str(error)

    def _works(self) -> None:
        if self._database_fails:
            log.info("desk_takes_again")
        self._database_fails = ""

    def _is_at_rest(self) -> bool:
        asked = self._clock.asked
        waits = self._is_due(self._clock.now()) and bool(self._partitions)
        return (
            self._assigned
            and not self._database_fails
            and not waits
            and all(one.asked >= asked for one in self._partitions.values())
        )

    # -- the house -------------------------------------------------------------------------------

    def _keep_house(self) -> None:
        """What is done now and then: commits to Kafka, how far the sources have come, our own status."""
        watch = stopwatch()
        if watch < self._next_house:
            return
        self._next_house = watch + HOUSEKEEPING
        self._commit(list(self._partitions))
        if watch >= self._next_status:
            self._next_status = watch + 1
            self._note_sources()
            self._tell()

    def _note_sources(self) -> None:
        risen = {source: time for source, time in self._sources.items() if time > self._noted.get(source, 0)}
        if not risen or self._database_fails:
            return
        try:
            note_sources(self._database, risen)
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._fails(error)
        else:
            self._noted |= risen

    def _tell(self) -> None:
        """Status, for others to read; a disk that cannot take it stops nothing else."""
        self._counts["status"] += 1
        self.said = self._status()
        try:
            status.write(self._path, self.said)
        except OSError as error:
            log.error("status_not_written", why=str(error))

    def _status(self) -> DeskStatus:
        counts = self._counts
        return DeskStatus(
            pid=os.getpid(),
            number=counts["status"],
            name=self._name,
            time=self._clock.now(),
            started=self._started,
            version=self._registry.version,
            partitions={number: self._behind(number, one) for number, one in self._partitions.items()},
            reports=counts["reports"],
            findings=counts["findings"],
            rounds=counts["rounds"],
            raised=counts["raised"],
            ignored=counts["ignored"],
            gaps=counts["gaps"],
            late=counts["late"],
            unread=counts["unread"],
            refused=counts["refused"],
            waiting=sum(len(r.findings) for one in self._partitions.values() for _, r in one.waiting),
            desk_busy=counts["busy"],
            problem=self._database_fails or self._kafka_fails or self._follower.why,
            alert_ms=self._alert_ms.latency(),
            round_ms=self._round_ms.latency(),
        )

    def _behind(self, number: int, one: _Partition) -> int:
        """Records that Kafka has, as far as we know, and the database has not."""
        known = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)
        upto = one.done + 1 if one.done is not None else one.next
        return max(0, known[1] - upto) if known and upto is not None else 0


def _first(waiting: Iterable[tuple[int, Report]], most: int) -> int:
    """How many reports there are up to the one with which their findings reach ``most``."""
    count = findings = 0
    for _, heard in waiting:
        count += 1
        findings += len(heard.findings)
        if findings >= most:
            break
    return count


def _until(waiting: Iterable[tuple[int, Report]], time: int) -> int:
    """How many reports there are up to the newest of the compound rules at this time or before."""
    count = 0
    for place, (_, heard) in enumerate(waiting, 1):
        if heard.source.startswith("compound/"):
            if heard.time > time:
                break
            count = place
    return count


def start(settings: Settings, cluster: Cluster, name: str, stop: threading.Event) -> ClusterDesk | None:
    """A desk, once all is there that it needs; None if it was stopped before. Raises as prepared.follower."""
    following = prepared.follower(settings, cluster, stop)
    if following is None:
        return None
    try:
        clock: Clock = SystemClock(shared_anchor())
        if settings.clock:
            clock = ControlledClock(settings.clock, f"desk-{name}")
        return ClusterDesk(settings, cluster, name, clock, following)
    except BaseException:
        following.close()
        raise


class Scrape(Collector):
    """What Prometheus reads of a desk; as it said of itself last."""

    def __init__(self, said: Callable[[], DeskStatus]) -> None:
        self._said = said

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand."""
        return ()

    def collect(self) -> Iterator[Metric]:
        said = self._said()
        for name, words in COUNTERS.items():
            yield CounterMetricFamily(f"fenghuo_desk_{name}", words, value=getattr(said, name))
        yield GaugeMetricFamily("fenghuo_desk_waiting", "Findings that wait for the database.", said.waiting)
        yield GaugeMetricFamily("fenghuo_desk_up", "1 if it works as it should.", not said.problem)
        lag = GaugeMetricFamily("fenghuo_desk_lag", "Records behind the newest.", labels=["partition"])
        for number, behind in sorted(said.partitions.items()):
            lag.add_metric([str(number)], behind)
        yield lag
        yield quantiles(
            "fenghuo_desk_alert_latency_seconds", "From a finding's time to its commit.", said.alert_ms
        )
        yield quantiles(
            "fenghuo_desk_round_latency_seconds", "Of a transaction of findings and deadlines.", said.round_ms
        )


COUNTERS = {
    "reports": "Reports heard.",
    "findings": "Messages of findings absorbed.",
    "rounds": "Transactions of findings and deadlines.",
    "raised": "New alerts.",
    "ignored": "Messages that the database had already.",
    "gaps": "Messages before which some are missing.",
    "late": "Steps taken more than 2 s after they were due.",
    "unread": "Records that could not be read.",
    "refused": "Findings that the database would not take.",
    "desk_busy": "Rounds that the database did not take at once.",
}
