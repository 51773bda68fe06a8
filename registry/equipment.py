"""The facts of special equipment: due soon, overdue, failed; vectorised, because a city has 300,000 pieces."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from registry.inspection import Days, Interval, Intervals, add_months, due, midnights
from registry.model import FOREVER, Facts

DUE_BEFORE = np.timedelta64(30, "D")
"""An inspection is to be asked for in the month before the last one runs out (特种设备安全监察条例 art. 28)."""

LAW = "特种设备安全法 art. 40; 特种设备安全监察条例 art. 28"
UNSURE = "(未核实 unverified)"

NEXT = "next"
"""Of what sort the inspection is that a piece's own ``next`` speaks of: any."""

_DAY = np.timedelta64(1, "D")
_FIRST, _NEVER = np.datetime64("0001-01-01"), np.datetime64("9999-12-31")

Columns = Mapping[str, Sequence[Any]]
Ints = NDArray[np.int64]
T = TypeVar("T", bound=Hashable)


def equipment_facts(pieces: Columns, inspections: Columns, intervals: Intervals, zone: ZoneInfo) -> Facts:
    """The facts of all equipment, sorted as Facts are.

    An inspection that was passed (conditionally too) holds to the end of its last day: ``next`` where it is given,
    else by the intervals; the next passed one of the same sort takes its place. Where none is passed yet, ``next`` of
    the piece says to which day it is good, else the first intervals from the day it was put into service.
    A failed inspection changes none of that; it is a fact until, on a later day, one of its sort is passed.
    Of two passed on one day, that which holds shorter counts.

    Args:
        pieces, inspections: checked columns of equipment.csv and inspections.csv; {} where there are none.
    """
    if not pieces or not pieces["id"]:
        return Facts.none()
    all_ = _Equipment(pieces, inspections, intervals)
    valid, failed = all_.valid, all_.failed
    rules = (
        ("equipment.due", valid, np.maximum(valid.last - DUE_BEFORE, valid.day), valid.last + _DAY),
        ("equipment.failed", failed, failed.day, failed.ends),
        ("equipment.overdue", valid, valid.last + _DAY, valid.ends),
    )
    subjects = [f"equipment:{id_}" for id_ in pieces["id"]]
    found: dict[str, list[str]] = {}
    begun, ended = [], []
    for rule, of, begins, ends in rules:
        ends = np.minimum(np.minimum(ends, of.ends), all_.out[of.piece])
        rows = np.flatnonzero(begins < ends)
        rows = rows[np.lexsort((all_.order[of.record[rows]], all_.place[of.piece[rows]]))]
        piece, clause = of.piece[rows].tolist(), of.clause[rows].tolist()
        columns = {
            "rule": [rule] * len(rows),
            "enterprise": [pieces["enterprise"][i] for i in piece],
            "subject": [subjects[i] for i in piece],
            "record": [all_.records[i] for i in of.record[rows].tolist()],
            "name": [pieces["name"][i] or pieces["id"][i] for i in piece],
            "kind": [pieces["kind"][i] for i in piece],
            "unit": [pieces["unit"][i] for i in piece],
            "level": [all_.sorts[i] for i in of.sort[rows].tolist()],
            "clause": [pieces["clause"][i] or all_.clauses[j] for i, j in zip(piece, clause, strict=True)],
            "engineering_unit": [""] * len(rows),
        }
        for name, column in columns.items():
            found.setdefault(name, []).extend(column)
        begun.append(midnights(begins[rows], zone))
        ended.append(np.full(len(rows), FOREVER))
        known = ends[rows] < _NEVER
        ended[-1][known] = midnights(ends[rows][known], zone)
    nothing = np.full(len(found["rule"]), np.nan)
    texts: dict[str, Any] = {name: tuple(column) for name, column in found.items()}
    return Facts(
        **texts, begins=np.concatenate(begun), ends=np.concatenate(ended), value=nothing, limit=nothing
    )


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Stretches of days, n rows; what is no day is an index."""

    piece: Ints
    record: Ints
    sort: Ints  # of inspection
    clause: Ints
    day: Days  # when the record was made
    last: Days  # the last day on which it holds
    ends: Days  # the day on which another takes its place, _NEVER if none does

    def __getitem__(self, rows: NDArray[np.int64]) -> "_Stretches":
        return _Stretches(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def together(parts: Sequence["_Stretches"]) -> "_Stretches":
        names = [field.name for field in fields(_Stretches)]
        return _Stretches(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class _Equipment:
    """The equipment and its inspections, as arrays over both.

    ``records``: ids of the inspections, then of what holds before any was passed: the piece and a sort. ``order``
    and ``place``: where records and pieces stand among their like, so that nothing hangs on the order of the files.
    """

    def __init__(self, pieces: Columns, inspections: Columns, intervals: Intervals) -> None:
        self._ids, self._intervals = pieces["id"], intervals
        keys = list(zip(pieces["enterprise"], pieces["id"], strict=True))
        self.place = _ranks(keys)
        self._profiles, self._profile = _coded(list(zip(pieces["kind"], pieces["grade"], strict=True)))
        self._in_service, self._next = _days(pieces["in_service"]), _days(pieces["next"])
        out = _days(pieces["out_of_service"])
        self.out = np.where(np.isnat(out), _NEVER, out)

        names = ("enterprise", "equipment", "id", "kind", "date", "next", "result")
        every = zip(*(inspections[name] for name in names), strict=True) if inspections else ()
        rows = [row for row in every if row[1]]
        index = {key: row for row, key in enumerate(keys)}
        self._piece = np.array([index[row[:2]] for row in rows], np.int64)
        own = [name for profile in self._profiles for name in intervals.inspections(*profile)]
        self.sorts, sort = _coded([NEXT, *own, *(row[3] for row in rows)])
        self._sort = sort[1 + len(own) :]
        self._day, self._until = _days([row[4] for row in rows]), _days([row[5] for row in rows])
        self._passed = np.array([row[6] != "failed" for row in rows], np.bool_)

        self.records: list[str] = [row[2] for row in rows]
        self.clauses = [LAW]
        stretches = _Stretches.together([self._inspected(), *self._from_the_start()])
        self.order = _ranks(self.records)
        self.valid = self._replaced(stretches)
        self.failed = self._failed()

    def _inspected(self) -> _Stretches:
        """How long each passed inspection holds."""
        rows = np.flatnonzero(self._passed)
        piece, sort = self._piece[rows], self._sort[rows]
        distinct, which = np.unique(self._profile[piece] * len(self.sorts) + sort, return_inverse=True)
        intervals = [
            self._intervals.find(self._profiles[profile][0], self._profiles[profile][1], self.sorts[code])
            for profile, code in (divmod(both, len(self.sorts)) for both in distinct.tolist())
        ]
        clauses = np.array([self._clause(interval) for interval in intervals], np.int64)
        by_table = due(self._day[rows], self._in_service[piece], intervals, which)
        until = self._until[rows]
        said = ~np.isnat(until)
        last = np.where(said, until, by_table)
        clause = np.where(said, 0, clauses[which])
        return _Stretches(piece, rows, sort, clause, self._day[rows], last, np.full(len(rows), _NEVER))

    def _from_the_start(self) -> list[_Stretches]:
        """How long each piece is good before any inspection: by its own word, else by the intervals."""
        said = np.flatnonzero(~np.isnat(self._next))
        untold = np.isnat(self._next) & ~np.isnat(self._in_service)
        found = [self._start(said, NEXT, self._next[said], None)]
        for profile, (kind, grade) in enumerate(self._profiles):
            pieces = np.flatnonzero(untold & (self._profile == profile))
            for sort in self._intervals.inspections(kind, grade):
                interval = self._intervals.find(kind, grade, sort)
                if interval is not None and interval.first_months is not None:
                    last = add_months(self._in_service[pieces], interval.first_months)
                    found.append(self._start(pieces, sort, last, interval))
        return found

    def _start(self, pieces: Ints, sort: str, last: Days, interval: Interval | None) -> _Stretches:
        n, first = len(pieces), len(self.records)
        self.records += [f"{self._ids[piece]}/{sort}" for piece in pieces.tolist()]
        sorts, clauses = np.full(n, self.sorts.index(sort)), np.full(n, self._clause(interval))
        return _Stretches(
            pieces, first + np.arange(n), sorts, clauses, np.full(n, _FIRST), last, np.full(n, _NEVER)
        )

    def _replaced(self, stretches: _Stretches) -> _Stretches:
        """Each with the day on which the next of its piece and sort takes its place."""
        of = stretches
        # of two on one day, the one that holds shorter comes last
        order = np.lexsort((self.order[of.record], -of.last.astype(np.int64), of.day, of.sort, of.piece))
        of = of[order]
        ends = np.full(len(order), _NEVER)
        follows = np.flatnonzero((of.piece[1:] == of.piece[:-1]) & (of.sort[1:] == of.sort[:-1]))
        ends[follows] = of.day[follows + 1]
        any_ = np.full(len(self._ids), _NEVER.astype(np.int64))
        np.minimum.at(any_, self._piece[self._passed], self._day[self._passed].astype(np.int64))
        own = of.sort == self.sorts.index(NEXT)
        ends[own] = np.minimum(ends[own], any_[of.piece[own]].astype("M8[D]"))
        begins = self._in_service[of.piece]
        day = np.where(of.day > _FIRST, of.day, np.where(np.isnat(begins), _FIRST, begins))
        known = np.flatnonzero(~np.isnat(of.last))  # the others never run out, as far as the tables know
        return replace(of, day=day, ends=ends)[known]

    def _failed(self) -> _Stretches:
        """Each failed inspection, to the day of the next passed one of its piece and sort."""
        chain = self._piece * len(self.sorts) + self._sort
        moment = chain * _SPAN + (self._day - _FIRST).astype(np.int64)
        passed = np.sort(moment[self._passed])
        rows = np.flatnonzero(~self._passed)
        after = np.searchsorted(passed, moment[rows], "right")
        cured = np.flatnonzero(after < len(passed))
        cured = cured[passed[after[cured]] // _SPAN == chain[rows[cured]]]
        day, ends = self._day[rows], np.full(len(rows), _NEVER)
        ends[cured] = _FIRST + passed[after[cured]] % _SPAN * _DAY
        return _Stretches(
            self._piece[rows], rows, self._sort[rows], np.zeros(len(rows), np.int64), day, day, ends
        )

    def _clause(self, interval: Interval | None) -> int:
        """Index of the clause by which it is due: the law's, with the interval's own."""
        clause = LAW
        if interval is not None:
            clause = f"{LAW}; {interval.clause}{UNSURE if interval.unsure else ''}"
        if clause not in self.clauses:
            self.clauses.append(clause)
        return self.clauses.index(clause)


_SPAN = 2**23
"""More days than there are between any two."""


def _days(values: Sequence[date | None]) -> Days:
    distinct, which = _coded(values)
    return np.array(distinct, "M8[D]")[which]


def _ranks(values: Sequence[Any]) -> Ints:
    """Of each value, its place among all when they are sorted."""
    ranks = np.empty(len(values), np.int64)
    ranks[sorted(range(len(values)), key=values.__getitem__)] = np.arange(len(values))
    return ranks


def _coded(values: Sequence[T]) -> tuple[list[T], Ints]:
    """The distinct values, and which of them each is."""
    codes = {value: code for code, value in enumerate(dict.fromkeys(values))}
    return list(codes), np.array([codes[value] for value in values], np.int64)
