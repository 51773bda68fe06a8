"""The point engine: takes rounds, gives findings; pure, for all points of a shard at once.

It is equal to judging the readings one by one in their order (tests/model holds it to that). A batch first
passes the sieve, which finds the few readings that can change the state of a limit; those are judged one by one,
the others only leave their last value. Rate, stuck and disagreement work on whole batches and cost nothing
where no point has them. What each rule does is said in docs/point-rules.md.
"""

from dataclasses import dataclass
from math import isfinite, nan

import msgspec
import numpy as np

from ingest.readings import GatewayStatus, Qualities, Readings, Round, Times, Values
from registry.model import Registry
from streams import subjects
from streams.discrete import Discrete
from streams.episodes import (
    BAD_QUALITY,
    CLOCK,
    CLOSED,
    HIGH,
    LOW,
    OPEN,
    RANGE,
    RATE,
    SILENT,
    STATE,
    STUCK,
    TIME_TO_LIMIT,
    Book,
    kind_of,
)
from streams.finding import Finding
from streams.hold import Hold
from streams.leak import Leak
from streams.limits import Limits
from streams.order import AHEAD, Order, Verdict
from streams.physical_range import PhysicalRange
from streams.rate import Rate
from streams.redundancy import Redundancy
from streams.rulebook import Rulebook
from streams.sieve import Index, Sieve
from streams.silence import Silence
from streams.state import Packed, Rows
from streams.stock import Stock
from streams.stuck import Stuck
from streams.time_to_limit import TimeToLimit

FORMAT = 5
"""Of a snapshot; a change of any stage's state raises it."""


class SnapshotError(ValueError):
    """A snapshot that cannot be restored: torn, of another format, or of another registry version."""


@dataclass(slots=True)
class Counts:
    """What became of the readings, since this engine was made."""

    judged: int = 0
    late: int = 0
    duplicate: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    format: int
    version: str
    now: int
    listening: bool
    listened: int
    gap: tuple[int, int]
    deaf: tuple[int, int]
    rows: dict[str, dict[str, Packed]]
    open: list[tuple[str, int, Finding]]
    gone: list[tuple[str, str, str, int]]
    held: dict[str, list[Finding]]


class PointEngine:
    """The rules of all points of one registry version and rulebook, and their state.

    Not for several threads. Times are µs; ``now`` is the arrival time at the engine's place in the journal. The
    registry's version names the rulebook too: a snapshot is restored by it, and findings carry it.
    """

    def __init__(self, registry: Registry, now: int, rulebook: Rulebook) -> None:
        self.counts = Counts()
        self._hold = Hold()
        self._found: list[Finding] = []
        self._build(registry, rulebook, now)
        self._prepare()

    @property
    def now(self) -> int:
        return self._silence.now

    @property
    def newest(self) -> Times:
        """By row: time of the newest judged reading, NEVER if none. Not to be written to; likewise:"""
        return self._order.newest

    @property
    def value(self) -> Values:
        """By row: last judged value, NaN if none or unknown."""
        return self._order.value

    @property
    def quality(self) -> Qualities:
        """By row: quality of the last judged value, BAD if none."""
        return self._order.quality

    def apply(self, round: Round) -> list[Finding]:
        """Judge one round: the passing of time, then gateways' status, then readings.

        A round that brings a new version is for :meth:`reconfigure`. Raises ValueError where the round is
        earlier than one before. Should anything else be raised, call :meth:`salvage`.
        """
        self._advance(round.time, round.listening)
        if round.status:
            for self._book.place, status in enumerate(round.status):
                self._status(status)
            self._collect()
        if len(round.readings):
            self._judge(round.readings)
            self._collect()
        return self._hand_out()

    def advance(self, now: int, listening: bool = True) -> list[Finding]:
        """Let time pass until ``now``. Raises ValueError where that is earlier than before."""
        self._advance(now, listening)
        return self._hand_out()

    def salvage(self) -> list[Finding]:
        """What a round gave before it failed, once; the rest of it is left out, and the next round can come.

        What is said of these findings later goes on from here, so they have to be told like any others.
        """
        self._collect()
        self._prepare()  # the failure came between a change of state and what follows from it
        return self._hand_out()

    def next_deadline(self) -> int | None:
        """Arrival time before which :meth:`advance` gives nothing; None if time alone can bring nothing."""
        if self._hold.held:
            return self.now + 1
        return self._silence.next_deadline()

    def _advance(self, now: int, listening: bool) -> None:
        silence = self._silence
        if now < silence.now:
            raise ValueError(f"time goes back from {silence.now} to {now}")
        if now > silence.now:
            self._found += self._hold.release()
        silence.elapse(now, listening)
        self._book.arrival, self._book.place = now, 0
        lost = silence.notice(self._book)
        if len(lost):
            self._forget(lost)
        self._collect()

    def _collect(self) -> None:
        self._found += self._hold.filter(self._book.take(), self._silence.deaf)

    def _hand_out(self) -> list[Finding]:
        found, self._found = self._found, []
        return found

    def _judge(self, readings: Readings) -> None:
        row, time, value, quality = (
            readings.row.astype(np.intp),
            readings.time,
            readings.value,
            readings.quality,
        )
        quiet = self._sieve.quiet(row, time, value, self._order.newest, self.now + AHEAD)
        if quiet.all():
            self._leave(row, time, value, quality)
            places = np.arange(len(row))
        else:
            self._leave(row[quiet], time[quiet], value[quiet], quality[quiet])
            odd = np.flatnonzero(~quiet)
            time, value = time.copy(), value.copy()
            entries = zip(
                odd.tolist(),
                row[odd].tolist(),
                time[odd].tolist(),
                value[odd].tolist(),
                quality[odd].tolist(),
                strict=True,
            )
            for entry in entries:
                judged = self._one(*entry)
                if judged is not None:
                    place = entry[0]
                    quiet[place] = True
                    time[place], value[place] = judged
            places = np.flatnonzero(quiet)
        self.counts.judged += len(places)
        if self._batch_rules:
            for rule in self._batch_rules:
                rule.judge(places, row[places], time[places], value[places], self._book)

    def _leave(self, row: Index, time: Times, value: Values, quality: Qualities) -> None:
        """Keep the last values of readings that change nothing else (of a repeated row, the last one stays)."""
        order = self._order
        order.newest[row] = time
        order.value[row] = value
        order.quality[row] = quality
        silence = self._silence
        silence.heard[row] = silence.known[row] = silence.listened

    def _one(self, place: int, row: int, time: int, value: float, quality: int) -> tuple[int, float] | None:
        """One reading through all rules of single readings: its judged time, and its value where it is known."""
        book, order = self._book, self._order
        book.place = place
        if not isfinite(value):
            value = nan
        verdict, time = order.judge(row, time, value, self.now, book)
        if verdict is Verdict.DUPLICATE:
            self.counts.duplicate += 1
            return None
        self._silence.hear(row, value == value, book)
        judged = None
        if verdict is Verdict.LATE:
            self.counts.late += 1
            self._limits.late(row, time, value, book)
        else:
            order.value[row], order.quality[row] = value, quality
            out = self._range.judge(row, time, value, book)
            self._limits.judge(row, time, value, out, book)
            judged = time, nan if out else value
        unsure = value != value or order.troubled(row)
        if unsure or self._range.troubled(row, book) or self._limits.troubled(row, book):
            self._sieve.watch(row)
        else:
            low, high, until = self._limits.band(row)
            self._sieve.set(row, max(low, self._range.low[row]), min(high, self._range.high[row]), until)
        return judged

    def _status(self, status: GatewayStatus) -> None:
        if status.online:
            self._silence.online(status.gateway, self._book)
        else:
            self._forget(self._silence.go_offline(status.gateway, self._book))

    def _forget(self, rows: Index) -> None:
        """Silence: nobody can know any more what the open findings of these points say."""
        book, now = self._book, self.now
        self._sieve.watch(rows)
        for rule in (RANGE, LOW, HIGH, RATE, STUCK, STATE, TIME_TO_LIMIT):
            for row in rows[book.flag[rule][rows] == OPEN].tolist():
                book.unknown(rule, row, now)
        if self._redundancy.has.any():
            self._redundancy.forget(rows, now, book)
        self._leak.forget(rows, now, book)
        if self._stock.points:
            self._stock.forget(rows, now, book)

    def reconfigure(
        self, registry: Registry, rulebook: Rulebook, now: int, listening: bool = True
    ) -> list[Finding]:
        """From ``now`` on judge by another version; state goes with enterprise code and point, gateway or group id.

        What is no more ends its findings as WITHDRAWN, or EASED where only the worse limit is gone. What has another
        tier now is WORSENED or EASED.
        """
        findings = self.advance(now, listening) + self._hold.release()
        old, book, silence = self.registry, self._book, self._silence
        rows, intervals, names, leak = self._rows(), silence.has, self._names(), self._leak
        self._build(registry, rulebook, now)
        matches = {kind: subjects.match(names[kind], new) for kind, new in self._names().items()}
        for (name, kind), array in self._rows().items():
            array.carry(rows[name, kind], *matches[kind])
        here, there = matches["point"]
        anew = self._silence.has.copy()
        anew[here[intervals[there]]] = False
        self._silence.resume(silence, anew)
        self._order.trust(here[subjects.homes(registry)[here] != subjects.homes(old)[there]])
        self._redundancy.part(here[subjects.circles(registry)[here] != subjects.circles(old)[there]])
        self._leak.renew(leak, *matches["section"])
        for stage in (self._limits, self._rate, self._stuck, self._discrete):
            stage.prune()
        self._book.arrival = now
        for rule, index in self._book.carry(book, matches):
            self._withdraw(rule, index, now)
            if (rule, index) in self._book.open:
                self._book.revise(rule, index, now)
        self._prepare()
        return findings + self._book.take()

    def _withdraw(self, rule: str, index: int, now: int) -> None:
        """Say of an open finding, whose subject still is, if its rule or limit is no more."""
        has = {
            SILENT: self._silence.has,
            BAD_QUALITY: self._silence.has,
            RANGE: self._range.has,
            RATE: self._rate.has,
            STUCK: self._stuck.has,
            STATE: self._discrete.has,
        }
        if rule in (LOW, HIGH):
            self._limits.withdraw(rule, index, now, self._book)
        elif rule == TIME_TO_LIMIT:
            self._time_to_limit.withdraw(index, now, self._book)
        elif (rule in has and not has[rule][index]) or (rule == CLOCK and not self._order.faulty(index)):
            self._book.withdraw(rule, index, now)

    def snapshot(self) -> bytes:
        """All state, for :meth:`restore`; taken between rounds."""
        silence = self._silence
        return msgspec.msgpack.encode(
            Snapshot(
                format=FORMAT,
                version=self.registry.version,
                now=silence.now,
                listening=silence.listening,
                listened=silence.listened,
                gap=silence.gap,
                deaf=silence.deaf,
                rows={name: rows.pack() for (name, _), rows in self._rows().items()},
                open=[(*key, self._book.open[key]) for key in sorted(self._book.open)],
                gone=[(*key, self._book.gone[key]) for key in sorted(self._book.gone)],
                held=self._hold.held,
            )
        )

    @classmethod
    def restore(cls, registry: Registry, rulebook: Rulebook, blob: bytes) -> "PointEngine":
        """The engine as it was. Registry and rulebook are those it had (then reconfigure); else SnapshotError."""
        try:
            snapshot = msgspec.msgpack.decode(blob, type=Snapshot)
            if snapshot.format != FORMAT or snapshot.version != registry.version:
                raise SnapshotError(f"format {snapshot.format}, version {snapshot.version}")
            engine = cls(registry, snapshot.now, rulebook)
            for (name, _), rows in engine._rows().items():
                rows.load(snapshot.rows[name])
        except (LookupError, ValueError) as error:  # undecodable, or arrays of another size
            raise SnapshotError(f"not a snapshot of this registry: {error}") from error
        engine._book.load(snapshot.open)
        engine._book.gone = {(rule, code, subject): minted for rule, code, subject, minted in snapshot.gone}
        engine._hold.held = snapshot.held
        engine._order.count()
        silence = engine._silence
        silence.listening, silence.listened = snapshot.listening, snapshot.listened
        silence.gap, silence.deaf = snapshot.gap, snapshot.deaf
        engine._prepare()
        return engine

    def _build(self, registry: Registry, rulebook: Rulebook, now: int) -> None:
        self.registry = registry
        self._book = Book(registry, rulebook)
        self._order = Order(registry)
        self._limits = Limits(registry)
        self._range = PhysicalRange(registry)
        self._rate = Rate(registry)
        self._stuck = Stuck(registry)
        self._discrete = Discrete(registry)
        self._time_to_limit = TimeToLimit(registry)
        self._redundancy = Redundancy(registry)
        self._leak = Leak(registry)
        self._stock = Stock(registry)
        self._silence = Silence(registry, now)
        rules = (
            self._rate,
            self._stuck,
            self._discrete,
            self._time_to_limit,
            self._redundancy,
            self._leak,
            self._stock,
        )
        self._batch_rules = [rule for rule in rules if rule.has.any()]

    def _prepare(self) -> None:
        """Make anew what follows from the state: the sieve, and when the next point becomes silent."""
        self._silence.reckon(self._book)
        self._stock.reckon(self._book)
        limits, sensor = self._limits, self._range
        self._sieve = Sieve(np.maximum(limits.low, sensor.low), np.minimum(limits.high, sensor.high))
        watched = limits.moving() | self._order.all_troubled()
        watched |= self._silence.unheard(self._book) | self._silence.valueless(self._book)
        for rule in (RANGE, LOW, HIGH):
            watched |= self._book.flag[rule] != CLOSED
        self._sieve.watch(np.flatnonzero(watched))

    def _rows(self) -> dict[tuple[str, str], Rows]:
        """All state that is kept in rows, by name and by what a row is."""
        rows = {
            ("order", "point"): self._order.rows,
            ("limits", "point"): self._limits.rows,
            ("rate", "point"): self._rate.rows,
            ("stuck", "point"): self._stuck.rows,
            ("discrete", "point"): self._discrete.rows,
            ("time to limit", "forecast"): self._time_to_limit.rows,
            ("members", "point"): self._redundancy.rows,
            ("groups", "group"): self._redundancy.groups,
            ("sections", "section"): self._leak.rows,
            ("tanks", "tank"): self._stock.rows,
            ("silence", "point"): self._silence.rows,
            ("gateways", "gateway"): self._silence.gateways,
        }
        return rows | {(f"book {rule}", kind_of(rule)): rows for rule, rows in self._book.rows.items()}

    def _names(self) -> dict[str, list[subjects.Name]]:
        """By what a row of the state is: which one each is."""
        names = {"point": subjects.points(self.registry), **subjects.others(self.registry)}
        for kind, stage in (("forecast", self._time_to_limit), ("tank", self._stock)):
            names[kind] = subjects.points(self.registry, stage.points)
        return names
