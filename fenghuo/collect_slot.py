"""One slot that we own: its messages into its partition of the readings, and, once durable, acknowledged.

Whether it is still ours is seen without any clock: while only we write, our records have one offset after another.
Where there is a gap, somebody else has written, and nothing more is acknowledged before it is known who.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import structlog
from confluent_kafka import KafkaException

from fenghuo.record_writer import RecordWriter
from fenghuo.takeover import UNDELIVERED, Taken
from ingest.assemble import MEMORY, Assembler
from ingest.collector import Collector, Message
from ingest.readings import DeadLetter, Readings, Round
from ingest.topics import Entry, Topics, encode
from registry.clock import MINUTE, SECOND, stopwatch
from registry.model import Registry
from streams.finding import Finding
from streams.system_findings import SystemFindings

READINGS = 50_000
"""In a record at most: a worker should not have to take a minute's readings in one piece."""

GATHER = 0.002
"""Seconds of real time between two rounds of a slot: what comes meanwhile shares the next one's record."""

DEAF = 30.0
"""Seconds of real time without hearing the broker after which an administrator is told."""

REPEAT = MINUTE
"""A slot's first time mark in each of these says the version in force again, for a reader that has lost it, µs."""

AHEAD = 5 * SECOND
"""How far the times of a partition may be ahead of this machine's clock before it is a finding, µs."""

log = structlog.get_logger()

GapCheck = Callable[[int, int], Future[bool]]
"""Told first and end of some offsets: whether one of those records is of a later owner."""


@dataclass(slots=True, eq=False)
class _Sent:
    """What becomes durable together."""

    since: float  # stopwatch
    records: int = 0  # that are not durable yet
    messages: Sequence[Message] = ()
    readings: int = 0
    dead: Sequence[DeadLetter] = ()


class Slot:
    """A slot from when its partition is ours until it is given up or lost.

    Args:
        number, term: which, and under which term we have it.
        taken: what was found at the take-over. now: by our clock; where it is behind what was found, the slot's time
            goes on from that at normal speed.
        registry: the part of it that is the slot's. edition: of its version.
        collector: its session; not connected yet.
        gap: looks, in another thread, who wrote between our records.
        opened: findings about the system that are open.

    ``counts`` and ``dead`` count what has become durable.
    """

    def __init__(
        self,
        number: int,
        term: int,
        taken: Taken,
        registry: Registry,
        edition: int,
        now: int,
        *,
        collector: Collector,
        writer: RecordWriter,
        topics: Topics,
        gap: GapCheck,
        in_flight: int,
        opened: Sequence[Finding] = (),
    ) -> None:
        self.number, self.term, self.edition = number, term, edition
        self.collector = collector
        self.lost = False  # nothing is acknowledged any more
        self.closing = False
        self._close_by = float("inf")
        self.counts: Counter[str] = Counter()
        self.dead: Counter[str] = Counter()
        self._shift = max(0, taken.time - now)
        self.time = now + self._shift
        self._said = self.time // REPEAT  # when the version in force was last said
        self.version = registry.version
        remembered = max(MEMORY, 2 * in_flight)  # the broker sends again at most what is in flight
        self._assembler = Assembler(registry, taken.digests, memory=remembered)
        self._writer, self._topics, self._look_into = writer, topics, gap
        self._system = SystemFindings(opened, f"slot:{number}")
        self._next = taken.offset + 1
        self._gap: Future[bool] | None = None
        self._gap_ends = 0
        self._held: deque[tuple[_Sent, int]] = deque()  # durable, behind the gap
        self._outbox: deque[Callable[[], bool]] = deque()  # for which the writer had no room
        self._sent: deque[_Sent] = deque()
        self._round_at = float("-inf")
        self._heard_at = stopwatch()
        self._yielded_at: float | None = None
        self._was_connected = False
        self._had_session = bool(taken.digests)

    # -- what the owner's loop asks --------------------------------------------------------------

    @property
    def undelivered(self) -> int:
        """Steps of ours that are not wholly durable, or not known to be ours."""
        return len(self._sent)

    @property
    def taking(self) -> bool:
        """Whether more may come in; what may not stays at the broker."""
        return not (self.closing or self.lost or self._outbox) and len(self._sent) < UNDELIVERED

    def listening(self, now: int) -> bool:
        """Whether a point that is not heard now is really silent."""
        return self.taking and self.collector.listening(now)

    def give_up(self, by: float) -> None:
        """Take nothing more; what is under way may become durable until then (stopwatch)."""
        self.closing, self._close_by = True, by

    def given_up(self, at: float) -> bool:
        """Whether nothing of it is under way any more, or there is no more time to wait."""
        return self.closing and (not self._sent or at >= self._close_by)

    def rest(self, at: float) -> float:
        """Seconds until more is to be taken: what comes so soon after a round waits for others."""
        return max(0.0, self._round_at + GATHER - at)

    def oldest(self, at: float) -> float:
        """For how many seconds the oldest of what is not durable has waited."""
        return at - self._sent[0].since if self._sent else 0.0

    @property
    def dropped(self) -> Counter[str]:
        """Messages that the broker sent again although they had come."""
        return self._assembler.dropped

    def service(self) -> None:
        """Do what input and output are due."""
        self.collector.service()
        if not self.collector.yielded:
            self._yielded_at = None
        elif self._yielded_at is None:
            self._yielded_at = stopwatch()

    def confirmed(self, since: float) -> None:
        """The slot was ours at a moment after then (stopwatch): if nobody had taken its session by then, it is ours.

        Whoever takes a slot over has it in the database, and has written its first record, before it connects.
        """
        if self._yielded_at is not None and since > self._yielded_at:
            self.collector.resume()

    # -- writing ---------------------------------------------------------------------------------

    def take(self, now: int, at: float) -> None:
        """What has arrived, on its way to Kafka."""
        messages = self.collector.take()
        if not messages:
            return
        self._round_at = at
        self._pass(now)
        rounds, dead = self._assembler.assemble(messages, self.time, listening=self.listening(now))
        rounds = [piece for round_ in rounds for piece in pieces(round_)]
        sent = _Sent(
            at, messages=messages, readings=sum(len(round_.readings) for round_ in rounds), dead=dead
        )
        self._sent.append(sent)
        for round_ in rounds:
            self._write(sent, Entry(round_, self.term))
        for letter in dead:
            self._write_dead(sent, letter)

    def mark(self, now: int, at: float, *, listening: bool, asked: int = 0) -> None:
        """A time mark; now and then with the version in force, which takes no force anew."""
        self._pass(now)
        round_, edition = Round(self.time, listening), 0
        if self.time // REPEAT != self._said:
            self._said = self.time // REPEAT
            round_, edition = replace(round_, version=self.version), self.edition
        self._write(self._begin(at), Entry(round_, self.term, edition, asked))

    def put_in_force(self, registry: Registry, edition: int, now: int) -> None:
        """From here on, messages are read by this part of another version."""
        self._pass(now)
        round_ = Round(self.time, self.listening(now), version=registry.version)
        self._write(self._begin(stopwatch()), Entry(round_, self.term, edition))
        self._assembler.set_registry(registry)
        self.collector.set_enterprises(registry.enterprises)
        self.version, self.edition = registry.version, edition

    def flush(self) -> None:
        """Hand over to the writer what it had no room for."""
        while self._outbox and self._outbox[0]():
            self._outbox.popleft()

    def settle(self) -> None:
        """Go on behind a gap, once it is known who wrote there; ``lost`` if that is the next owner."""
        if self._gap is None or not self._gap.done():
            return
        looked, self._gap = self._gap, None
        try:
            self.lost = looked.result()
        except KafkaException as error:
            log.warning("gap_not_read", slot=self.number, why=str(error))
            self._gap = self._look_into(self._next, self._gap_ends)
            return
        if self.lost:
            log.warning("slot_lost", slot=self.number, term=self.term, why="another collector writes it")
            return
        log.warning("stale_records", slot=self.number, first=self._next, end=self._gap_ends)
        self._next = self._gap_ends
        held, self._held = self._held, deque()
        for sent, offset in held:
            self._durable(sent, offset)
        self._acknowledge()

    def _pass(self, now: int) -> None:
        self.time = max(self.time, now + self._shift)

    def _begin(self, at: float) -> _Sent:
        sent = _Sent(at)
        self._sent.append(sent)
        return sent

    def _write(self, sent: _Sent, entry: Entry) -> None:
        self._put(sent, self._topics.readings, *encode(entry), partial(self._durable, sent))

    def _write_dead(self, sent: _Sent, letter: DeadLetter) -> None:
        self._put(sent, self._topics.dead, msgspec.msgpack.encode(letter), [], partial(self._told, sent))

    def _put(
        self,
        sent: _Sent,
        topic: str,
        value: bytes,
        headers: list[tuple[str, bytes]],
        done: Callable[[int], None],
    ) -> None:
        sent.records += 1
        write = partial(self._writer.write, topic, self.number, value, headers, done)
        if self._outbox or not write():
            self._outbox.append(write)

    # -- what has become durable -----------------------------------------------------------------

    def _durable(self, sent: _Sent, offset: int) -> None:
        if self._gap is None and offset > self._next:
            self._gap_ends = offset
            self._gap = self._look_into(self._next, offset)
        if self._gap is not None or self.lost:
            self._held.append((sent, offset))
            return
        self._next = offset + 1
        self._told(sent, offset)

    def _told(self, sent: _Sent, _offset: int) -> None:
        sent.records -= 1
        self._acknowledge()

    def _acknowledge(self) -> None:
        """In the order of arrival, which is binding (MQTT 5, 4.6)."""
        while self._sent and not self._sent[0].records and not self.lost:
            sent = self._sent.popleft()
            self.confirmed(sent.since)
            if not sent.messages:
                continue
            self.collector.acknowledge(sent.messages)
            self.counts["messages"] += len(sent.messages)
            self.counts["readings"] += sent.readings
            self.counts["rounds"] += 1
            for letter in sent.dead:
                self.dead[letter.reason] += letter.count

    # -- its health ------------------------------------------------------------------------------

    def health(self, now: int, at: float) -> list[Finding]:
        """What there is to say of it, now and then."""
        collector = self.collector
        found: list[Finding] = []
        if anew := collector.counts["connected_anew"]:
            if self._had_session or anew > 1:
                forgotten = "the broker has forgotten our session: what it held for us is lost"
                found += self._system.once("system.lost", now, forgotten)
            self._had_session = True
            collector.counts["connected_anew"] = 0
        self._had_session |= collector.connected
        if collector.connected != self._was_connected:
            self._was_connected = collector.connected
            if collector.connected:
                log.info("broker_connected", slot=self.number)
            else:
                log.warning("broker_lost", slot=self.number, why=collector.problem)
        why: str | None = None
        if collector.listening(now):
            self._heard_at, why = at, ""
        elif at - self._heard_at >= DEAF:
            why = collector.problem or "what the broker holds for us comes faster than it can be taken"
        ahead = self.time - now
        late = ""
        if ahead > AHEAD:
            late = f"what was written last is {ahead // SECOND} s ahead of our clock; time goes on from there"
        found += self._system.holds("system.clock", now, late)
        return found + self._system.holds("system.broker", now, why)


def pieces(round_: Round) -> Iterator[Round]:
    """A round in pieces of at most so many readings; its digests come with the last one, when all is there."""
    count = len(round_.readings)
    if count <= READINGS:
        yield round_
        return
    all_of = round_.readings
    for start in range(0, count, READINGS):
        part = slice(start, start + READINGS)
        readings = Readings(all_of.row[part], all_of.time[part], all_of.value[part], all_of.quality[part])
        yield replace(
            round_,
            status=round_.status if start == 0 else (),
            readings=readings,
            digests=round_.digests if start + READINGS >= count else b"",
        )
