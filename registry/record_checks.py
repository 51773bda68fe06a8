"""The checks of records that look at several columns or files."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from registry import inspection, major_hazard, stock
from registry.files import Table
from registry.inspection import OTHER, PERIODIC
from registry.mistakes import Mistakes, spot
from registry.source import Parts

_ORDERS = (
    ("equipment", "in_service", "out_of_service"),
    ("inspections", "date", "next"),
    ("licences", "issued", "expires"),
    ("licences", "issued", "ended"),
    ("hazards", "found", "deadline"),
    ("hazards", "found", "closed"),
    ("penalties", "date", "settled"),
)
"""Days of which the second may not be before the first."""

_SPANS = ("permits", "warnings")
"""Files whose rows last from ... to."""

_NEEDED = {
    "upright_cylinder": ("diameter", "height", "density"),
    "lying_cylinder": ("diameter", "length", "density"),
    "sphere": ("diameter", "density"),
    "scale": ("scale",),
    "weight": (),
}


class RecordChecks:
    """The rows of all record files: their texts and places, and their columns as values."""

    def __init__(
        self,
        tables: Mapping[str, Table],
        values: Mapping[str, Mapping[str, Sequence[Any]]],
        enterprises: Mapping[str, Parts],
        points: Mapping[tuple[str, str], tuple[str, str]],
        mistakes: Mistakes,
    ) -> None:
        self.tables = tables
        self.values = values
        self.parts = enterprises
        self.points = points
        self.mistakes = mistakes
        own = values["intervals"]
        whole = all(None not in own[column] for column in ("kind", "months", "clause", "source"))
        self.intervals = inspection.in_force(own if whole else {})

    def units(self) -> None:
        """A unit is one of the row's enterprise."""
        for stem, columns in self.values.items():
            for row, (enterprise, unit) in enumerate(
                zip(columns["enterprise"], columns["unit"], strict=True) if "unit" in columns else ()
            ):
                if unit and enterprise in self.parts and unit not in self.parts[enterprise].units:
                    there = ", ".join(sorted(self.parts[enterprise].units))
                    expected = f"one of {there}" if there else "none: the enterprise has no units"
                    self._add(stem, row, "unit", f"is {unit!r}, which its enterprise does not have", expected)

    def orders(self) -> None:
        """What ends does not end before it begins."""
        for stem, first, last in _ORDERS:
            for row, (begins, ends) in enumerate(self._rows(stem, first, last)):
                if begins is not None and ends is not None and ends < begins:
                    self._add(stem, row, last, f"{ends} is before {first} {begins}", f"a day from {first} on")
        for stem in _SPANS:
            for row, (begins, ends) in enumerate(self._rows(stem, "from", "to")):
                if begins is None or ends is None:
                    continue
                if (begins.tzinfo is None) != (ends.tzinfo is None):
                    self._add(stem, row, "to", "has a zone and from has none, or the other way", "both alike")
                elif ends <= begins:
                    self._add(stem, row, "to", f"{ends} is not after from {begins}", "a later time")

    def equipment(self) -> None:
        """Of every piece it can be known when it is due."""
        inspected = {
            (enterprise, equipment)
            for enterprise, equipment, result in self._rows(
                "inspections", "enterprise", "equipment", "result"
            )
            if result != "failed"
        }
        kinds = self.intervals.kinds | {OTHER}
        grades = {kind: self.intervals.grades(kind) for kind in kinds}
        from_start = {
            kind: any(
                interval is not None and interval.first_months is not None
                for name in self.intervals.inspections(kind, "")
                if (interval := self.intervals.find(kind, "", name))
            )
            for kind in kinds
        }
        rows = self._rows("equipment", "enterprise", "id", "kind", "grade", "in_service", "next")
        for row, (enterprise, id_, kind, grade, in_service, next_) in enumerate(rows):
            if kind is None:
                continue
            if kind not in kinds:
                self._add("equipment", row, "kind", f"is {kind!r}", f"one of {', '.join(sorted(kinds))}")
                continue
            if grade and grade not in grades[kind]:
                known = ", ".join(grades[kind])
                expected = f"one of {known}" if known else f"none: {kind} has no grades"
                self._add("equipment", row, "grade", f"is {grade!r}", expected)
            if next_ is None and (enterprise, id_) not in inspected:
                if in_service is None and not self._given("equipment", row, "in_service", "next"):
                    problem, expected = "is missing", "next or in_service, for what was never inspected"
                    self._add("equipment", row, "next", problem, expected)
                elif in_service is not None and not from_start[kind]:
                    expected = f"next: no interval says when {kind} is first inspected"
                    self._add("equipment", row, "next", "is missing", expected)

    def inspections(self) -> None:
        """They are of equipment that is there, and of a sort that has an interval or says when the next is."""
        equipment = {
            (enterprise, id_): (kind, grade)
            for enterprise, id_, kind, grade in self._rows("equipment", "enterprise", "id", "kind", "grade")
        }
        known = self.intervals.kinds | {OTHER}
        rows = self._rows("inspections", "enterprise", "equipment", "kind", "result", "next")
        for row, (enterprise, id_, sort, result, next_) in enumerate(rows):
            if not id_ or enterprise is None:
                continue
            if (enterprise, id_) not in equipment:
                problem = f"is {id_!r}, which equipment.csv does not have for its enterprise"
                self._add("inspections", row, "equipment", problem, "the id of its equipment, or nothing")
                continue
            kind, grade = equipment[enterprise, id_]
            if kind not in known or result is None or self.intervals.find(kind, grade, sort):
                continue
            sorts = ", ".join(self.intervals.inspections(kind, grade))
            if sorts and sort == PERIODIC:  # most likely it was only left out
                self._add("inspections", row, "kind", f"is {sort!r} for {kind}", f"one of {sorts}")
            elif result != "failed" and next_ is None and not self._given("inspections", row, "next"):
                problem = f"is {sort!r}, which has no interval for {kind}, and next is empty"
                expected = f"one of {sorts}, or next" if sorts else "next"
                self._add("inspections", row, "kind", problem, expected)

    def pipelines(self) -> None:
        """Flows and pressures are points of the enterprise, of the right kind, and two of them alike."""
        for of, kind in (("flow", "flow"), ("pressure", "pressure")):
            ends = (f"{of}_in", f"{of}_out")
            for row, (enterprise, *ids) in enumerate(self._rows("pipelines", "enterprise", *ends)):
                found = [
                    self._point("pipelines", row, end, enterprise, id_, (kind,))
                    for end, id_ in zip(ends, ids, strict=True)
                ]
                if ids[0] and ids[0] == ids[1]:
                    self._add("pipelines", row, ends[1], f"is {ids[1]!r}, as {ends[0]} is", "another point")
                elif found[0] and found[1] and found[0] != found[1]:
                    problem = f"is in {found[1]}, {ends[0]} in {found[0]}"
                    self._add("pipelines", row, ends[1], problem, "one engineering unit")
                elif of == "pressure" and bool(ids[0]) != bool(ids[1]):
                    self._add(
                        "pipelines", row, ends[not ids[1]], "is given or left out alone", "both or none"
                    )
        for row, (leak,) in enumerate(self._rows("pipelines", "leak")):
            if leak >= 1:
                self._add("pipelines", row, "leak", f"is {leak:g}", "a share of the flow, below 1")

    def chemicals(self) -> None:
        """What GB 18218 speaks of can be weighed, by a quantity that is known, and a declaration has its day."""
        tanks: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for enterprise, chemical, tank, shape in self._rows("tanks", "enterprise", "chemical", "id", "shape"):
            tanks.setdefault((enterprise, chemical), []).append((tank, shape))
        names = ("enterprise", "name", "id", "cas", "category", "critical", "declared", "declared_on")
        for row, (enterprise, name, id_, cas, symbols, critical, declared, day) in enumerate(
            self._rows("chemicals", *names)
        ):
            measure = major_hazard.measure(cas, name or id_ or "", symbols)
            weighed = critical == critical or measure is not None  # not NaN
            unread = self._given("chemicals", row, "category") and not symbols
            if (
                weighed
                and critical != float("inf")
                and not unread
                and (measure is None or measure.beta is None)
            ):
                expected = "its symbols of GB 18218-2018 table 2 (which give beta), or none in critical"
                self._add("chemicals", row, "category", "is missing", expected)
            if weighed and critical != float("inf") and not self._given("chemicals", row, "maximum"):
                self._maximum(row, tanks.get((enterprise, id_), []))
            if declared == declared and day is None and not self._given("chemicals", row, "declared_on"):
                self._add("chemicals", row, "declared_on", "is missing", "the day of the declaration")
            if day is not None and declared != declared and not self._given("chemicals", row, "declared"):
                self._add("chemicals", row, "declared", "is missing", "tonnes, as declared_on is given")

    def _maximum(self, row: int, tanks: Sequence[tuple[str, str]]) -> None:
        """Without a design maximum something else tells it: q of GB 18218 is never 0 for want of a figure."""
        weights = ", ".join(id_ for id_, shape in tanks if shape == "weight")
        expected = "the design maximum in t (GB 18218-2018, 4.2.2)"
        if weights:
            self._add(
                "chemicals",
                row,
                "maximum",
                "is missing",
                f"{expected}: a weight says none, as that of {weights}",
            )
        elif not tanks and not self._given("chemicals", row, "permitted", "declared"):
            self._add("chemicals", row, "maximum", "is missing", f"{expected}, or permitted, or declared")

    def tanks(self) -> None:
        """A tank has its chemical, its point and all that its shape needs."""
        chemicals = set(self._rows("chemicals", "enterprise", "id"))
        columns = ("enterprise", "chemical", "point", "shape", "diameter", "head_depth")
        seen: dict[tuple[str, str], int] = {}
        for row, (enterprise, chemical, point, shape, diameter, depth) in enumerate(
            self._rows("tanks", *columns)
        ):
            if enterprise is None:
                continue
            if chemical and (enterprise, chemical) not in chemicals:
                problem = f"is {chemical!r}, which chemicals.csv does not have for its enterprise"
                self._add("tanks", row, "chemical", problem, "the id of a chemical")
            if point and seen.setdefault((enterprise, point), row) != row:
                before = spot(*self.tables["tanks"].places[seen[enterprise, point]])
                self._add("tanks", row, "point", f"{point!r} is at {before} too", "every point once")
            if shape is None:
                continue
            kinds = {"weight": ("weight",), "scale": ("level", "weight", "pressure", "other")}
            unit = self._point("tanks", row, "point", enterprise, point, kinds.get(shape, ("level",)))
            units = [*stock.WEIGHTS] if shape == "weight" else [*stock.LENGTHS, "%"]
            if unit and shape != "scale" and unit not in units:
                problem = f"{point!r} is in {unit}"
                self._add("tanks", row, "point", problem, f"a point in one of {', '.join(units)}")
            for column in ("diameter", "height", "length", "density", "scale"):
                given = self._given("tanks", row, column)
                if column in _NEEDED[shape] and not given:
                    self._add("tanks", row, column, "is empty", f"a value: {shape} needs it")
                elif given and column not in _NEEDED[shape]:
                    self._add("tanks", row, column, "is given", f"nothing: {shape} does not have it")
            if depth and shape != "lying_cylinder":
                problem = f"is {depth:g}"
                self._add("tanks", row, "head_depth", problem, "nothing: only a lying_cylinder has it")
            elif depth > diameter / 2:
                expected = "half the diameter at most"
                self._add("tanks", row, "head_depth", f"is {depth:g} of a diameter of {diameter:g}", expected)

    def permits(self) -> None:
        """A permit names points of its enterprise."""
        for row, (enterprise, points) in enumerate(self._rows("permits", "enterprise", "points")):
            for point in points if enterprise is not None else ():
                self._point("permits", row, "points", enterprise, point, ())

    def _point(
        self,
        stem: str,
        row: int,
        column: str,
        enterprise: str | None,
        id_: str | None,
        kinds: Collection[str],
    ) -> str:
        """The point's engineering unit; "", and a mistake, if it is not there or not of these kinds."""
        if not id_ or enterprise is None:
            return ""
        if (enterprise, id_) not in self.points:
            problem = f"is {id_!r}, which is no point of its enterprise"
            self._add(stem, row, column, problem, "the id of a point of the same enterprise")
            return ""
        kind, unit = self.points[enterprise, id_]
        if kinds and kind not in kinds:
            self._add(
                stem, row, column, f"is {id_!r}, of kind {kind}", f"a point of kind {' or '.join(kinds)}"
            )
            return ""
        return unit

    def _rows(self, stem: str, *columns: str) -> Any:
        return zip(*(self.values[stem][name] for name in columns), strict=True)

    def _given(self, stem: str, row: int, *columns: str) -> bool:
        """Whether any of these cells says something, whether or not it can be understood."""
        return any(self.tables[stem].columns[name][row].strip() for name in columns)

    def _add(self, stem: str, row: int, column: str, problem: str, expected: str) -> None:
        file, line = self.tables[stem].places[row]
        self.mistakes.add(file, line, column, problem, expected)
