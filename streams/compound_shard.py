"""The compound rules of a cluster's cells: one partition of the findings, judged in the order of arrival times; pure.

What the workers tell of different slots comes in any order. So that it is judged as one machine would have judged it,
each time waits until all slots have come so far: a mark five times a second says how far. A slot that stands still
holds up nobody for more than ``patience``; what it tells later counts from then on.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec
import structlog

from registry.clock import SECOND
from streams.compound import CompoundEngine
from streams.configuration import Configuration
from streams.engine import SnapshotError
from streams.finding import Finding
from streams.report import Report
from streams.state import NEVER
from streams.system_findings import SystemFindings

FORMAT = 1
"""Of a state."""

EVERY = SECOND
"""A mark is told when so much time has passed since the last one."""

log = structlog.get_logger()


class State(msgspec.Struct, frozen=True, array_like=True):
    """All that a shard was at ``offset``. engine: empty before any version."""

    format: int
    offset: int
    now: int
    told: int
    asked: int
    version: str
    epoch: str
    editions: dict[str, tuple[int, str]]
    times: dict[str, int]
    offsets: dict[str, int]
    answered: dict[str, int]
    waiting: list[Report]
    engine: bytes

    @property
    def versions(self) -> set[str]:
        """Those that have to be in hand to restore it."""
        taken = {version for _, version in self.editions.values()}
        return {self.version, *taken, *(report.version for report in self.waiting)} - {""}


_decode = msgspec.msgpack.Decoder(State).decode


def open_state(blob: bytes) -> State:
    """Raises ValueError where it is none, or of another format."""
    state = _decode(blob)
    if state.format != FORMAT:
        raise ValueError(f"a compound shard's state of format {state.format}; expected {FORMAT}")
    return state


class CompoundShard:
    """The compound rules of one partition of findings, and how far they have come.

    Not for several threads. shard: its partition. sources: partitions of readings, which all tell it how far they are.
    patience: µs. ``offset``: of the newest record taken, -1 at first. ``counts``: reports that were repeated.
    """

    def __init__(self, shard: int, sources: int, patience: int) -> None:
        self.shard, self.source = shard, f"compound/{shard}"
        self.offset = -1
        self.counts: Counter[str] = Counter()
        self._sources, self._patience = sources, patience
        self._system = SystemFindings(subject=f"shard:{shard}")
        self._now = self._told = NEVER
        self._asked = 0
        self._editions: dict[str, tuple[int, str]] = {}  # by source: what took force there last
        self._owed: list[Finding] = []  # told with the next record
        self._epoch: str | None = None
        self._engine: CompoundEngine | None = None
        self._times: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        self._answered: dict[str, int] = {}
        self._waiting: list[Report] = []
        self._coming: dict[str, Configuration] = {}

    @property
    def version(self) -> str:
        return self._engine.registry.version if self._engine is not None else ""

    def needs(self, report: Report) -> str:
        """The version that has to be in hand when this is taken; "" if none."""
        return "" if report.version in {"", self.version, *self._coming} else report.version

    def take(self, report: Report, offset: int, coming: Configuration | None = None) -> list[Report]:
        """What a report gives, in the order of time; a mark at last, where one is due.

        coming: what ``needs`` asked for. Raises ValueError where it is not that.
        """
        if offset <= self.offset:
            self.counts["repeated"] += 1
            return []
        if self._epoch is None:
            self._epoch = f" after {offset}" if offset else ""
        elif offset != self.offset + 1:
            why = f"findings/{self.shard}: offsets {self.offset + 1}–{offset - 1}"
            self._owed += self._system.once("system.lost", max(self._now, 0), why, since=self.offset + 1)
        wanted = self.needs(report)
        if wanted:
            if coming is None or coming.registry.version != wanted:
                raise ValueError(f"version {wanted} is not in hand")
            self._coming[wanted] = coming
        self.offset = offset
        source = report.source
        if source == self.source:
            return []
        if report.offset <= self._offsets.get(source, -1):
            self.counts["repeated"] += 1
            return []
        self._offsets[source] = report.offset
        self._times[source] = max(report.time, self._times.get(source, NEVER))
        self._answered[source] = max(report.asked, self._answered.get(source, 0))
        if report.findings or report.version:
            self._waiting.append(report)
        told = self._advance()
        return told + self._mark()

    def unreadable(self, offset: int, why: str) -> list[Report]:
        """Pass over a record that nobody can read; it is told."""
        if offset <= self.offset:
            return []
        self.offset = offset
        now = max(self._now, 0)
        found = self._system.once(
            "system.engine", now, f"{self.source}, offset {offset}: {why}", since=offset
        )
        return [self._report(now, found)]

    def _advance(self) -> list[Report]:
        """Judge all that was waited for, up to where everybody has come."""
        times = self._times.values()
        now = max(times) - self._patience
        if len(times) == self._sources:
            now = max(now, min(times))
        if now < self._now:
            return []
        self._waiting.sort(key=attrgetter("time", "source", "offset"))
        due = [report for report in self._waiting if report.time <= now]
        del self._waiting[: len(due)]
        told: list[Report] = []
        for time, together in groupby(due, attrgetter("time")):
            told += self._judge(list(together), max(time, self._now))
        if self._now < now:
            told += self._judge((), now)
        return told

    def _judge(self, together: Sequence[Report], now: int) -> list[Report]:
        self._now = now
        found, self._owed = self._owed, []
        findings = [finding for report in together for finding in report.findings]
        for report in together:
            if report.version:
                found += self._take_version(report, now)
        if self._engine is None:
            self.counts["early"] += len(findings)
            self._owed = found
            return []
        try:
            found += self._engine.apply(findings, now)
        except Exception as error:  # as in guard.evaluate: told, and what comes next goes on
            log.exception("compound_not_judged", time=now)
            found += self._failed(error, now)
        return [self._report(now, found)] if found else []

    def _take_version(self, report: Report, now: int) -> list[Finding]:
        """The highest edition that is in force in any slot now: a database set up anew begins to count again."""
        self._editions[report.source] = report.edition, report.version
        _, version = max(self._editions.values())
        coming = self._coming.get(version)
        if coming is None or version == self.version:
            return []
        if self._engine is not None:
            self._coming[self.version] = Configuration(self._engine.registry, self._engine.rulebook)
        found = self._put_in_force(coming, now)
        named = {one for _, one in self._editions.values()} | {one.version for one in self._waiting}
        self._coming = {one: its for one, its in self._coming.items() if one in named - {self.version}}
        return found

    def _put_in_force(self, coming: Configuration, now: int) -> list[Finding]:
        registry, rulebook = coming
        if self._engine is None:
            self._engine = CompoundEngine(registry, rulebook, now, self._epoch or "")
            return []
        was, before = (self._engine.registry, self._engine.rulebook), self._engine.snapshot()
        try:
            return self._engine.reconfigure(registry, rulebook, now)
        except Exception as error:  # as in guard.reconfigure: what was in force stays
            log.exception("version_not_in_force", version=registry.version, time=now)
            self._engine = CompoundEngine.restore(*was, before)
            return self._failed(error, now)

    def _failed(self, error: Exception, now: int) -> list[Finding]:
        why = f"{self.source}: {type(error).__name__}: {error}"
        return self._system.once("system.engine", now, why, since=now)

    def _mark(self) -> list[Report]:
        """How far we are, where somebody waits for that, or has not heard it for long."""
        if self._engine is None:
            return []  # else it would look as if it judged
        asked = min(self._answered.values()) if len(self._answered) == self._sources else 0
        if asked <= self._asked and self._now - self._told < EVERY:
            return []
        self._asked, self._told = max(asked, self._asked), self._now
        return [self._report(self._now, (), self._asked)]

    def _report(self, time: int, findings: Iterable[Finding], asked: int = 0) -> Report:
        return Report(
            source=self.source, offset=self.offset, time=time, findings=tuple(findings), asked=asked
        )

    def snapshot(self) -> bytes:
        """All state, for :meth:`restore`."""
        state = State(
            format=FORMAT,
            offset=self.offset,
            now=self._now,
            told=self._told,
            asked=self._asked,
            version=self.version,
            editions=self._editions,
            epoch=self._epoch or "",
            times=self._times,
            offsets=self._offsets,
            answered=self._answered,
            waiting=self._waiting,
            engine=self._engine.snapshot() if self._engine is not None else b"",
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def restore(
        cls, shard: int, sources: int, patience: int, state: State, versions: dict[str, Configuration]
    ) -> "CompoundShard":
        """The shard as it was. versions: those that the state names.

        Where the engine's part cannot be read (of another Fenghuo), it begins anew from there, and tells that.
        """
        fresh = cls(shard, sources, patience)
        epoch = state.epoch
        if state.version:
            try:
                fresh._engine = CompoundEngine.restore(*versions[state.version], state.engine)
            except SnapshotError as error:
                log.error("state_unusable", source=fresh.source, why=str(error))
                epoch = f" after {state.offset}"
                fresh._engine = CompoundEngine(*versions[state.version], state.now, epoch)
                why = f"{fresh.source}: what was open at offset {state.offset} is not known any more: {error}"
                fresh._owed = fresh._system.once("system.lost", state.now, why, since=state.offset)
        fresh.offset, fresh._now, fresh._told = state.offset, state.now, state.told
        fresh._asked, fresh._editions, fresh._epoch = state.asked, state.editions, epoch
        fresh._times, fresh._offsets, fresh._answered = state.times, state.offsets, state.answered
        fresh._waiting = state.waiting
        fresh._coming = {version: versions[version] for version in state.versions - {state.version}}
        return fresh
