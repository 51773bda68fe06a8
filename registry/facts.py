"""From the records of a registry to the facts that they make true, each a stretch of time; pure.

A day is of the registry's time zone: what holds to the end of a day is over at 00:00 of the next. What a record
says of a day (an inspection, a settled penalty) holds from 00:00 of that day. Nothing here knows what day it is.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from math import isinf, isnan
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from registry import inspection, major_hazard, stock
from registry.equipment import equipment_facts
from registry.model import FOREVER, Facts

Columns = Mapping[str, Sequence[Any]]
Key = tuple[str, str]
"""An enterprise, and the id of what it has."""

PENALTY_MONTHS = 12
"""A penalty of which nobody says when it was settled counts for a year."""

STANDARD = "GB 18218-2018"

ALWAYS = 0
"""When something begins of which no record says when, µs."""

NAN = float("nan")

_TEXTS = (
    "rule",
    "enterprise",
    "subject",
    "record",
    "name",
    "kind",
    "unit",
    "level",
    "clause",
    "engineering_unit",
)
_TIMES = ("begins", "ends")
_NUMBERS = ("value", "limit")

_Row = tuple[str, str, str, str, str, str, str, str, str, str, int, int, float, float]
"""As the fields of Facts."""


def facts(
    records: Mapping[str, Columns],
    time_zone: str,
    units: Mapping[Key, str] | None = None,
    cells: Mapping[str, str] | None = None,
) -> Facts:
    """All that the records make true, at any time.

    Args:
        records: checked columns by stem of their file and name; a file may be left out.
        units: names of the production units, by enterprise and id. cells: names of the cells, by id.
    """
    others = _Records(records, time_zone, units or {}, cells or {}).facts()
    equipment = equipment_facts(
        records.get("equipment", {}),
        records.get("inspections", {}),
        inspection.in_force(records.get("intervals", {})),
        ZoneInfo(time_zone),
    )
    place = bisect_left(others.rule, "equipment.")
    both: dict[str, Any] = {}
    for name in _TEXTS:
        own = getattr(others, name)
        both[name] = (*own[:place], *getattr(equipment, name), *own[place:])
    for name in _TIMES + _NUMBERS:
        own = getattr(others, name)
        both[name] = np.concatenate([own[:place], getattr(equipment, name), own[place:]])
        both[name].setflags(write=False)
    return Facts(**both)


class _Records:
    """The records that are few, row by row."""

    def __init__(
        self,
        records: Mapping[str, Columns],
        time_zone: str,
        units: Mapping[Key, str],
        cells: Mapping[str, str],
    ) -> None:
        self._records, self._zone, self._units, self._cells = records, ZoneInfo(time_zone), units, cells
        self._midnights: dict[date, int] = {}

    def facts(self) -> Facts:
        found = (
            *(self._inspections, self._licences, self._permits, self._chemicals, self._major_hazards),
            *(self._hazards, self._penalties, self._certificates, self._warnings),
        )
        rows = sorted(row for part in found for row in part() if row[10] < row[11])
        if not rows:
            return Facts.none()
        columns: dict[str, Any] = dict(zip(_TEXTS + _TIMES + _NUMBERS, zip(*rows, strict=True), strict=True))
        columns |= {name: np.array(columns[name], np.int64) for name in _TIMES}
        columns |= {name: np.array(columns[name], np.float64) for name in _NUMBERS}
        return Facts(**columns)

    def _inspections(self) -> Iterator[_Row]:
        """Those of the enterprise: failed, until one of the same kind and department is passed on a later day."""
        names = ("enterprise", "kind", "department", "date", "result", "id", "name", "equipment")
        rows = [row for row in self._rows("inspections", *names) if not row[7]]
        passed: dict[tuple[str, str, str], list[date]] = {}
        for *chain, day, result, _, _, _ in sorted(rows, key=lambda row: row[3]):
            if result != "failed":
                passed.setdefault((chain[0], chain[1], chain[2]), []).append(day)
        for enterprise, kind, department, day, result, id_, name, _ in rows:
            if result == "failed":
                days = passed.get((enterprise, kind, department), [])
                after = bisect_right(days, day)
                ends = self._day(days[after]) if after < len(days) else FOREVER
                times = (self._day(day), ends)
                yield _row("inspection.failed", enterprise, "inspection", id_, name, *times, kind=kind)

    def _licences(self) -> Iterator[_Row]:
        names = ("enterprise", "id", "name", "kind", "unit", "expires", "ended", "clause")
        for enterprise, id_, name, kind, unit, expires, ended, clause in self._rows("licences", *names):
            if expires is not None:
                of = {"kind": kind, "unit": unit, "clause": clause}
                times = (self._day_after(expires), self._end(ended))
                yield _row("licence.expired", enterprise, "licence", id_, name, *times, **of)

    def _permits(self) -> Iterator[_Row]:
        names = ("enterprise", "id", "name", "kind", "unit", "from", "to", "clause")
        for enterprise, id_, name, kind, unit, begins, ends, clause in self._rows("permits", *names):
            of = {"kind": kind, "unit": unit, "clause": clause}
            times = (self._instant(begins), self._instant(ends))
            yield _row(f"permit.{kind}", enterprise, "permit", id_, name, *times, **of)

    def _chemicals(self) -> Iterator[_Row]:
        """What is stored, and what was declared to be too much; of what lies in tanks, the engine knows that."""
        names = ("enterprise", "id", "name", "cas", "unit", "permitted", "declared", "declared_on", "clause")
        in_tanks = set(self._rows("tanks", "enterprise", "chemical"))
        for enterprise, id_, name, cas, unit, permitted, declared, day, clause in self._rows(
            "chemicals", *names
        ):
            live = (enterprise, id_) in in_tanks
            begins = ALWAYS if day is None or live else self._day(day)
            of = {"kind": cas, "unit": unit, "clause": clause, "engineering_unit": "t", "limit": permitted}
            subject = (enterprise, "chemical", id_, name, begins, FOREVER)
            if live or declared != 0:
                yield _row("chemical.stored", *subject, **of, value=NAN if live else declared)
            if not live and declared > permitted:
                yield _row("chemical.overstored", *subject, **of, value=declared)

    def _major_hazards(self) -> Iterator[_Row]:
        """A unit is one whose design maxima come to S >= 1. What has no unit is together one, the enterprise."""
        judged = major_hazard_units(self._records)
        registered = _by_unit(self._records, "registered_on")
        for (enterprise, unit), judgement in judged.items():
            if judgement.level is not None:
                day = registered.get((enterprise, unit)) or registered.get((enterprise, ""))
                name = self._units.get((enterprise, unit), "")
                yield _row(
                    "unit.major_hazard",
                    enterprise,
                    *(("unit", unit, name) if unit else ("enterprise", enterprise, "")),
                    ALWAYS if day is None else self._day(day),
                    FOREVER,
                    unit=unit,
                    level=str(judgement.level),
                    clause=STANDARD,
                    value=judgement.r,
                )

    def _hazards(self) -> Iterator[_Row]:
        names = ("enterprise", "id", "name", "kind", "unit", "deadline", "closed", "clause")
        for enterprise, id_, name, kind, unit, deadline, closed, clause in self._rows("hazards", *names):
            of = {"kind": kind, "unit": unit, "clause": clause}
            times = (self._day_after(deadline), self._end(closed))
            yield _row("hazard.overdue", enterprise, "hazard", id_, name, *times, **of)

    def _penalties(self) -> Iterator[_Row]:
        names = ("enterprise", "id", "name", "department", "date", "settled", "clause")
        for enterprise, id_, name, department, day, settled, clause in self._rows("penalties", *names):
            if settled is None:
                year = inspection.add_months(np.array([day], "M8[D]"), PENALTY_MONTHS)
                settled = year.tolist()[0]
            of = {"kind": department, "clause": clause}
            times = (self._day(day), self._day(settled))
            yield _row("penalty", enterprise, "penalty", id_, name, *times, **of)

    def _certificates(self) -> Iterator[_Row]:
        names = ("enterprise", "id", "name", "kind", "holder", "expires", "ended", "clause")
        for enterprise, id_, name, kind, holder, expires, ended, clause in self._rows("certificates", *names):
            if expires is not None:
                times = (self._day_after(expires), self._end(ended))
                of = {"kind": kind, "clause": clause}
                yield _row(
                    "certificate.expired", enterprise, "certificate", id_, name or holder, *times, **of
                )

    def _warnings(self) -> Iterator[_Row]:
        names = ("cell", "id", "name", "kind", "level", "from", "to", "clause")
        for cell, id_, name, kind, level, begins, ends, clause in self._rows("warnings", *names):
            of = {"kind": kind, "level": level, "clause": clause, "record": id_}
            times = (self._instant(begins), self._instant(ends))
            yield _row(f"warning.{kind}", "", "cell", cell, name or self._cells.get(cell, ""), *times, **of)

    def _rows(self, stem: str, *names: str) -> Iterator[Any]:
        return _rows(self._records, stem, *names)

    def _day(self, day: date) -> int:
        """When it begins, µs."""
        begins = self._midnights.get(day)
        if begins is None:
            begins = self._midnights[day] = inspection.midnight(day, self._zone)
        return begins

    def _day_after(self, day: date) -> int:
        return self._day(day + timedelta(days=1))

    def _end(self, day: date | None) -> int:
        return FOREVER if day is None else self._day(day)

    def _instant(self, when: datetime) -> int:
        return inspection.instant(when, self._zone)


def major_hazard_units(records: Mapping[str, Columns]) -> dict[Key, major_hazard.Judgement]:
    """S, R and level of every unit with hazardous chemicals, by enterprise and unit ("" for what has none).

    q is the chemical's ``maximum``; where it is left out, what its tanks hold when full and what is declared beside
    them, or what is permitted if that is more. People whom nobody has counted are taken to be the most.
    """
    full: dict[Key, float] = {}
    tanks = zip(
        _rows(records, "tanks", "enterprise", "chemical"),
        stock.vessels(records.get("tanks", {})),
        strict=True,
    )
    for key, vessel in tanks:
        capacity = stock.capacity(vessel)
        full[key] = full.get(key, 0.0) + (0.0 if isnan(capacity) else capacity)
    people = _by_unit(records, "people")
    units: dict[Key, list[tuple[float, float, float]]] = {}
    names = (
        "enterprise",
        "id",
        "name",
        "cas",
        "unit",
        "category",
        "critical",
        "maximum",
        "permitted",
        "declared",
    )
    for enterprise, id_, name, cas, unit, symbols, critical, maximum, permitted, declared in sorted(
        _rows(records, "chemicals", *names), key=lambda row: row[:2]
    ):
        measure = major_hazard.measure(cas, name or id_, symbols)
        if isinf(critical) or (measure is None and isnan(critical)):
            continue
        assert measure is not None  # fact_source.check demands a category of these,
        assert measure.beta is not None  # and of those that table 3 does not name
        largest = measure.critical if isnan(critical) else critical
        held = full.get((enterprise, id_), 0.0) + (0.0 if isnan(declared) else declared)
        q = maximum if not isnan(maximum) else max(held, 0.0 if isnan(permitted) else permitted)
        units.setdefault((enterprise, unit), []).append((q, largest, measure.beta))
    return {
        key: major_hazard.judge(of, people.get(key, people.get((key[0], ""), major_hazard.MOST_PEOPLE)))
        for key, of in units.items()
    }


def _by_unit(records: Mapping[str, Columns], column: str) -> dict[Key, Any]:
    rows = _rows(records, "major_hazard_units", "enterprise", "unit", column)
    return {(enterprise, unit): value for enterprise, unit, value in rows}


def _rows(records: Mapping[str, Columns], stem: str, *names: str) -> Iterator[Any]:
    columns = records.get(stem)
    return zip(*(columns[name] for name in names), strict=True) if columns else iter(())


def _row(
    rule: str,
    enterprise: str,
    what: str,
    id_: str,
    name: str,
    begins: int,
    ends: int,
    *,
    record: str = "",
    kind: str = "",
    unit: str = "",
    level: str = "",
    clause: str = "",
    engineering_unit: str = "",
    value: float = NAN,
    limit: float = NAN,
) -> _Row:
    texts = (f"{what}:{id_}", record or id_, name or id_, kind, unit, level, clause, engineering_unit)
    return (rule, enterprise, *texts, begins, ends, value, limit)
