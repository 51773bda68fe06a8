"""Facts: what the registry's records say begins and ends by the calendar, and is corrected by edits.

A fact is a stretch of time (registry.model.Facts). Its finding's id is minted from the record that makes it true,
so it is the same finding however often the registry is compiled. None has a tier: by itself it rings nobody. Time
is arrival time, since that is the calendar's.

Where an edit says that an open fact is over already, or never was, or is otherwise, it is told as CORRECTED with
the edit as its trace, and ENDED follows if it is over. Where it says that an ended fact goes on, RESUMED follows.
A stretch that was over before it could be told is not told.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.readings import Times
from registry.clock import DAY
from registry.model import FOREVER, Registry
from streams.finding import Finding, Phase, finding_id

BATCH = 1000
"""Facts told at once: those of a whole city may fall due in one moment, and nobody's alert is to wait for them."""

KEPT = 400 * DAY
"""So long after its end (µs) it is remembered how many messages a fact has had."""

Key = tuple[str, str, str, str]
"""Rule, enterprise, subject and record of a fact."""


class State(msgspec.Struct, frozen=True):
    epoch: str
    now: int
    open: list[tuple[Key, Finding]]
    ended: list[tuple[Key, Finding]]
    corrected: list[tuple[Key, tuple[str, ...]]]


class FactEngine:
    """The facts of one registry version, and which of them are told. ``now`` is arrival time, µs.

    ``epoch``: where what was told before is lost, what tells the ids from now on from those of then.
    """

    def __init__(self, registry: Registry, now: int, epoch: str = "") -> None:
        self.registry, self.now = registry, now
        self._epoch = epoch
        self._open: dict[Key, Finding] = {}
        self._ended: dict[Key, Finding] = {}  # the last message of each
        self._corrected: dict[
            Key, tuple[str, ...]
        ] = {}  # by which edit, what is open and not told to be changed
        self._index(registry)
        self._schedule()

    def advance(self, now: int) -> list[Finding]:
        """What is true and was not told, and what has ended, by ``now``: in the order of time, BATCH at most.

        What is left comes with the next call. Raises ValueError where time goes back.
        """
        if now < self.now:
            raise ValueError(f"time goes back from {self.now} to {now}")
        self.now = now
        self._note_begun()
        told: list[Finding] = []
        while self._corrected and len(told) < BATCH:
            key = next(iter(self._corrected))
            told += self._correct(key, self._corrected.pop(key))
        while self._is_due() and len(told) < BATCH:
            row, begins = int(self._row[self._next]), bool(self._begins[self._next])
            self._next += 1
            told += self._begin(row) if begins else self._end(row)
        return told

    def next_deadline(self) -> int | None:
        """The time before which :meth:`advance` gives nothing; None if time alone can bring nothing."""
        if self._corrected or self._is_due():
            return self.now + 1
        return int(self._when[self._next]) if self._next < len(self._when) else None

    def reconfigure(self, registry: Registry, now: int) -> list[Finding]:
        """From ``now`` on, the facts are those of another version."""
        told = self.advance(now)
        self._ended = {key: last for key, last in self._ended.items() if now - last.arrival < KEPT}
        if registry.facts is self.registry.facts:
            self.registry = registry
            return told
        due = {key for key in self._open if not self._is_true(key)}  # by the calendar, and not told yet
        self._index(registry)
        for key, finding in self._open.items():
            if self._is_true(key):
                changed = self._says(key) != _said(finding)
            else:
                changed = key not in due or key not in self._rows
            if changed:
                self._corrected.setdefault(key, self._trace())
        self._schedule()
        return told or self.advance(now)

    def snapshot(self) -> bytes:
        """All state, for :meth:`restore`."""
        open, ended = list(self._open.items()), list(self._ended.items())
        return msgspec.msgpack.encode(
            State(self._epoch, self.now, open, ended, list(self._corrected.items()))
        )

    @classmethod
    def restore(cls, registry: Registry, blob: bytes) -> "FactEngine":
        """The engine as it was. ``registry`` is the version it had. Raises ValueError for what is no snapshot."""
        state = msgspec.msgpack.decode(blob, type=State)
        engine = cls(registry, state.now, state.epoch)
        engine._open, engine._ended = dict(state.open), dict(state.ended)
        engine._corrected = dict(state.corrected)
        engine._schedule()
        return engine

    def _index(self, registry: Registry) -> None:
        """Take another version, and find the rows that have begun."""
        self.registry = registry
        begins = registry.facts.begins
        self._rows: dict[Key, int] = {}  # of what has begun
        self._coming = np.argsort(begins, kind="stable")
        self._comes = begins[self._coming]
        self._begun = 0
        self._note_begun()

    def _note_begun(self) -> None:
        upto = int(np.searchsorted(self._comes, self.now, side="right"))
        for row in self._coming[self._begun : upto].tolist():
            self._rows[self._key(row)] = row
        self._begun = max(self._begun, upto)

    def _key(self, row: int) -> Key:
        facts = self.registry.facts
        return facts.rule[row], facts.enterprise[row], facts.subject[row], facts.record[row]

    def _schedule(self) -> None:
        """What is to be told from now on, and when: it follows from the registry, the time and what is told."""
        facts, rows = self.registry.facts, self._rows
        is_open = np.zeros(len(facts), np.bool_)
        is_open[[rows[key] for key in self._open if key in rows]] = True
        begins = ~is_open & (facts.ends > self.now)
        ends = (begins | is_open) & (facts.ends < FOREVER)
        # what a correction ends is not ended once more by the calendar
        ends[[rows[key] for key in self._corrected if key in rows and not self._is_true(key)]] = False
        first, last = np.flatnonzero(begins), np.flatnonzero(ends)
        row: NDArray[np.intp] = np.concatenate([last, first])
        when: Times = np.concatenate([facts.ends[last], facts.begins[first]])
        order = np.argsort(when, kind="stable")  # at one time, what ends is told first
        self._row, self._when, self._begins = row[order], when[order], order >= len(last)
        self._next = 0

    def _is_due(self) -> bool:
        """Whether something can be told now; what was over before it could be told is passed over."""
        while self._next < len(self._when) and self._when[self._next] <= self.now:
            row = int(self._row[self._next])
            begins, is_open = bool(self._begins[self._next]), self._key(row) in self._open
            if is_open is not begins and not (begins and self.registry.facts.ends[row] <= self.now):
                return True
            self._next += 1
        return False

    def _is_true(self, key: Key) -> bool:
        row = self._rows.get(key)
        return row is not None and bool(self.registry.facts.ends[row] > self.now)

    def _begin(self, row: int) -> list[Finding]:
        facts = self.registry.facts
        key = self._key(row)
        begins, last = int(facts.begins[row]), self._ended.pop(key, None)
        if last is not None and begins > last.arrival:  # it was put off, and now it is so
            self._open[key] = self._next_of(last, Phase.BEGUN, begins, **self._says(key), evidence=())
            return [self._open[key]]
        if last is not None:
            corrected = self._next_of(
                last, Phase.CORRECTED, self.now, **self._says(key), evidence=self._trace()
            )
            resumed = self._next_of(corrected, Phase.RESUMED, self.now)
            self._open[key] = resumed
            return [corrected, resumed]
        rule, enterprise, subject, record = key
        finding = Finding(
            id=finding_id(rule, enterprise, subject, record + self._epoch),
            seq=1,
            rule=rule,
            enterprise=enterprise,
            subject=subject,
            phase=Phase.BEGUN,
            time=begins,
            arrival=self.now,
            version=self.registry.version,
            **self._says(key),
        )
        self._open[key] = finding
        return [finding]

    def _end(self, row: int) -> list[Finding]:
        return [self._over(self._key(row), int(self.registry.facts.ends[row]))]

    def _correct(self, key: Key, trace: tuple[str, ...]) -> list[Finding]:
        finding = self._open[key]
        if self._is_true(key):
            says = self._says(key)
            self._open[key] = self._next_of(finding, Phase.CORRECTED, self.now, **says, evidence=trace)
            return [self._open[key]]
        self._open[key] = corrected = self._next_of(finding, Phase.CORRECTED, self.now, evidence=trace)
        row = self._rows.get(key)  # none: it never was
        return [
            corrected,
            self._over(key, finding.since if row is None else int(self.registry.facts.ends[row])),
        ]

    def _over(self, key: Key, time: int) -> Finding:
        last = self._next_of(self._open.pop(key), Phase.ENDED, time)
        self._ended[key] = last
        return last

    def _next_of(self, last: Finding, phase: Phase, time: int, **changes: Any) -> Finding:
        return msgspec.structs.replace(
            last,
            seq=last.seq + 1,
            phase=phase,
            time=time,
            arrival=self.now,
            version=self.registry.version,
            **changes,
        )

    def _trace(self) -> tuple[str, ...]:
        return (self.registry.edit or self.registry.version,)

    def _says(self, key: Key) -> dict[str, Any]:
        """What the registry says of a fact that it has, as fields of its finding."""
        facts, row = self.registry.facts, self._rows[key]
        value, limit, unit = float(facts.value[row]), float(facts.limit[row]), facts.unit[row]
        return {
            "since": int(facts.begins[row]),
            "level": facts.level[row],
            "value": value if value == value else None,
            "limit": limit if limit == limit else None,
            "unit": facts.engineering_unit[row],
            "clause": facts.clause[row],
            "name": facts.name[row],
            "kind": facts.kind[row],
            "within": (f"unit:{unit}",) if unit else (),
        }


_SAID = ("since", "level", "value", "limit", "unit", "clause", "name", "kind", "within")


def _said(finding: Finding) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in _SAID}
