"""Tests of rules from the file in which an operator wrote them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isfinite, nan
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field

from registry import credit, fact_source
from registry.checks import Raw, check
from registry.clock import DAY, SECOND
from registry.compile import compile_folder, compile_source
from registry.files import Data, FileReader, Listed, Place, YamlFile, spell
from registry.mistakes import Mistake, Mistakes, RegistryErrors
from registry.model import FOREVER, Facts, Registry
from registry.source import POINT_COLUMNS, Column, duration, wrong
from streams import names, rulebook_file
from streams.configuration import Configuration
from streams.rule_test import Case, Expected, Step
from streams.rulebook import Rulebook
from streams.rulebook_file import Duration, Entry, Number, Span, Text

SHIPPED = "shipped"
"""The word for the rulebook that Fenghuo ships, where a file could be named."""

GRID: Data = [
    {
        "id": "city",
        "name": "city",
        "level": "city",
        "children": [
            {
                "id": "district",
                "name": "district",
                "level": "district",
                "children": [
                    {
                        "id": "town",
                        "name": "town",
                        "level": "town",
                        "children": [
                            {"id": "village", "name": "village", "level": "village"},
                            {"id": "village-2", "name": "village-2", "level": "village"},
                        ],
                    }
                ],
            }
        ],
    }
]
"""Where the enterprises of a test lie, unless it has a grid of its own."""


def rulebook(named: str, beside: Path = Path()) -> Rulebook:
    """The rulebook of this name: "shipped", a file or a folder. Raises RegistryErrors."""
    if named == SHIPPED:
        return rulebook_file.shipped()
    if not (beside / named).exists():
        raise RegistryErrors([Mistake(named, 0, "", "is not there", f"a file, a folder, or {SHIPPED}")])
    return rulebook_file.read(beside / named)


def read(path: Path, judged_by: Rulebook | None = None) -> list[Case]:
    """The tests of a file.

    Args:
        judged_by: instead of the rulebook that the file names.

    Raises:
        RegistryErrors: every mistake of the file, and of the registry and rulebook that it names.
    """
    mistakes = Mistakes()
    document = FileReader(path.parent, mistakes).yaml(path.name, "a mapping with the key tests")
    entry = rulebook_file.validated(TestsEntry, document, mistakes) if document else None
    if document is None or entry is None:
        raise RegistryErrors(mistakes.found)
    rules = judged_by or rulebook(entry.rulebook, path.parent)
    cases = []
    for number, test in enumerate(entry.tests):
        case = _Reader(document, ("tests", number), path.parent, mistakes).case(entry, test, rules)
        if case is not None:
            cases.append(case)
    if mistakes.found:
        raise RegistryErrors(mistakes.found)
    return cases


# ---- entries ---------------------------------------------------------------------------------------


def moment(value: object) -> int:
    """µs UTC of a text of ISO 8601 with its zone. Raises PydanticCustomError, a ValueError, for anything else."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise wrong(f"is {value!r}", "a time with its zone, such as 2026-03-02T10:00:00+08:00")
    return (found - datetime.fromisoformat("1970-01-01T00:00:00+00:00")) // timedelta(microseconds=1)


Moment: TypeAlias = Annotated[int, BeforeValidator(moment, json_schema_input_type=str)]
Row: TypeAlias = dict[str, str]
"""A row of a CSV file of the registry, by column."""


class PlantEntry(Entry):
    """An enterprise."""

    id: Text
    cell: Text = "village"
    name: Text = ""


class GroupEntry(Entry):
    enterprise: Text = ""
    id: Text
    tolerance: Text
    delay: Text = "0"


class FactEntry(Entry):
    """A fact as if the registry's records said it."""

    rule: rulebook_file.Rule
    subject: Text
    enterprise: Annotated[Text, Field(description="the first if left out; - where it is a whole cell's")] = ""
    record: Text = ""
    name: Text = ""
    kind: Text = ""
    unit: Text = ""
    level: Text = ""
    clause: Text = ""
    engineering_unit: Text = ""
    value: Number = nan
    limit: Number = nan
    begins: Annotated[
        Duration, Field(alias="from", description="since the start; from before it if left out")
    ] = -DAY
    ends: Annotated[Duration, Field(alias="to", description="it goes on if left out")] = FOREVER


class GivenEntry(Entry):
    """A small registry."""

    grid: Annotated[Any, Field(description="as in registry.yaml")] = None
    enterprises: list[PlantEntry] = Field(default_factory=list)
    groups: list[GroupEntry] = Field(default_factory=list)
    points: list[Row] = Field(default_factory=list, description="rows of points.csv")
    records: dict[str, list[Row]] = Field(
        default_factory=dict, description="rows of equipment.csv, permits.csv ..., by the name of the file"
    )
    facts: list[FactEntry] = Field(default_factory=list)


class ExpectedEntry(Entry):
    at: Duration
    rule: Text
    subject: Text | None = None
    enterprise: Text | None = None
    phase: (
        Literal["begun", "worsened", "eased", "ended", "unknown", "resumed", "corrected", "withdrawn"] | None
    ) = None
    level: Text | None = None
    tier: Literal["I", "II", "III", "IV", "none"] | None = None
    value: Number | None = None


class TestEntry(Entry):
    name: Text
    registry: Annotated[Text, Field(description="a registry folder beside this file")] = ""
    given: GivenEntry | None = None
    at: Annotated[Moment, Field(description="when it begins")] = moment("2026-03-02T10:00:00+08:00")
    every: Annotated[Span, Field(description="a value is sent again so often until the next")] = 10 * SECOND
    lasts: Span | None = None
    readings: list[Row] = Field(default_factory=list)
    expect: Annotated[
        list[ExpectedEntry] | None,
        Field(description="exactly what rings: it has a tier, and begins or gets worse"),
    ] = None
    findings: Annotated[
        list[ExpectedEntry] | None, Field(description="exactly all findings, in every phase")
    ] = None


class TestsEntry(Entry):
    """Tests of a rulebook."""

    rulebook: Annotated[Text, Field(description="a file or folder beside this file; shipped: our own")] = (
        SHIPPED
    )
    registry: Annotated[Text, Field(description="for tests that name none and are given none")] = ""
    given: GivenEntry | None = None
    tests: Annotated[list[TestEntry], Field(min_length=1)]


# ---- from entries to cases -------------------------------------------------------------------------


@dataclass
class _Reader:
    """Makes one test of a file; what is wrong is told with its line."""

    document: YamlFile
    place: Place
    folder: Path
    mistakes: Mistakes

    def case(self, file: TestsEntry, test: TestEntry, rules: Rulebook) -> Case | None:
        if test.expect is None and test.findings is None:
            self._add((), "expects nothing", "expect or findings, [] where nothing may come")
            return None
        before = len(self.mistakes.found)
        codes: dict[str, str] = {}
        registry: Registry | None = None
        if test.given is None and (test.registry or (file.given is None and file.registry)):
            registry = self._folder(test.registry or file.registry)
        else:
            given = test.given or file.given or GivenEntry()
            around = (*self.place, "given") if test.given else ("given",)
            codes = _codes(given)
            registry = self._given(given, around, codes, test.at)
        if registry is None:
            return None
        steps = list(self._steps(test, registry, codes))
        expected = {
            name: None if entries is None else [self._expected(entry, codes) for entry in entries]
            for name, entries in (("expect", test.expect), ("findings", test.findings))
        }
        if len(self.mistakes.found) > before:
            return None
        last = [step.at for step in steps] + [one.at for of in expected.values() for one in of or ()]
        return Case(
            name=test.name,
            configuration=Configuration.of(registry, rules),
            start=test.at,
            every=test.every,
            lasts=test.lasts or max(last, default=0) + test.every,
            steps=steps,
            expect=expected["expect"],
            findings=expected["findings"],
        )

    def _folder(self, named: str) -> Registry | None:
        try:
            return compile_folder(self.folder / named)
        except RegistryErrors as error:
            for one in error.mistakes:
                self.mistakes.add(f"{named}/{one.file}", one.line, one.field, one.problem, one.expected)
            return None

    def _given(
        self, given: GivenEntry, place: Place, codes: Mapping[str, str], start: int
    ) -> Registry | None:
        """The registry that the test gives, through the same checks as any other."""
        document, mistakes = self.document, Mistakes()
        raw = Raw(settings=YamlFile(document.file, {"grid": given.grid or GRID}, {(): document.line(place)}))
        rows: dict[str, list[Row]] = {"points": given.points, **given.records}
        units: dict[str, dict[str, None]] = {code: {} for code in codes.values()}
        gateways: dict[str, dict[str, None]] = {code: {"gw1": None} for code in codes.values()}
        for stem, of in rows.items():
            part = (*place, "points") if stem == "points" else (*place, "records", stem)
            columns = _columns(stem)
            if columns is None:
                known = tuple(fact_source.TABLES)
                self._add_at(part, "there are no such records", names.expected(stem, known))
                continue
            table = raw.points if stem == "points" else raw.records[stem]
            for number, row in enumerate(of):
                row = self._row(row, (*part, number), columns, codes)
                code = row.get("enterprise", "")
                if code in units:
                    units[code] |= {row["unit"]: None} if row.get("unit") else {}
                    gateways[code] |= {row["gateway"]: None} if row.get("gateway") else {}
                table.places.append((document.file, document.line((*part, number))))
                table.extend([{**row}])
        for fact in given.facts:
            code = codes.get(fact.enterprise, next(iter(codes.values())))
            units[code] |= {fact.unit: None} if fact.unit else {}
        raw.enterprises = [self._enterprises(given, place, codes, units, gateways)]
        source = check(raw, mistakes)
        self.mistakes.found += mistakes.found
        if source is None:
            return None
        registry = compile_source(source)
        return replace(registry, facts=_with(registry.facts, self._facts(given, place, codes), start))

    def _row(self, row: Row, place: Place, columns: Mapping[str, object], codes: Mapping[str, str]) -> Row:
        """A row with the code of its enterprise, and what a test need not say of a point."""
        for column in row:
            if column not in columns:
                self._add_at((*place, column), "unknown column", names.expected(column, tuple(columns)))
        known = {name: value for name, value in row.items() if name in columns}
        if "enterprise" in columns:
            named = row.get("enterprise", next(iter(codes)))
            if named not in codes:
                self._add_at((*place, "enterprise"), f"is {named!r}", names.expected(named, tuple(codes)))
            known["enterprise"] = codes.get(named, next(iter(codes.values())))
        if "gateway" in columns:
            known.setdefault("gateway", "gw1")
        return known

    def _enterprises(
        self,
        given: GivenEntry,
        place: Place,
        codes: Mapping[str, str],
        units: Mapping[str, Iterable[str]],
        gateways: Mapping[str, Iterable[str]],
    ) -> Listed:
        entries: list[Data] = []
        plants = given.enterprises or [PlantEntry(id="plant")]
        for number, plant in enumerate(plants):
            code = codes[plant.id]
            if plant.id in [one.id for one in plants[:number]]:
                self._add_at(
                    (*place, "enterprises", number), f"{plant.id!r} is there twice", "every one once"
                )
            groups: list[Data] = [
                {"id": group.id, "tolerance": group.tolerance, "delay": group.delay}
                for group in given.groups
                if codes.get(group.enterprise, next(iter(codes.values()))) == code
            ]
            entries.append(
                {
                    "code": code,
                    "name": plant.name or plant.id,
                    "cell": plant.cell,
                    "gateways": [*gateways[code]],
                    "units": [{"id": unit, "name": unit} for unit in units[code]],
                    "groups": groups,
                }
            )
        lines = [self.document.line((*place, "enterprises", number)) for number in range(len(entries))]
        return Listed(entries, [(self.document.file, line) for line in lines])

    def _facts(
        self, given: GivenEntry, place: Place, codes: Mapping[str, str]
    ) -> Iterator[tuple[FactEntry, str, str]]:
        """Each with the code of its enterprise and its record."""
        for number, fact in enumerate(given.facts):
            around = (*place, "facts", number)
            if names.NAMES[fact.rule].of != "record":
                self._add_at(
                    (*around, "rule"), f"{fact.rule} is found in readings", "a fact of the registry's records"
                )
            if fact.enterprise not in (*codes, "", "-"):
                self._add_at(
                    (*around, "enterprise"), f"is {fact.enterprise!r}", f"one of {', '.join(codes)}, or -"
                )
            code = "" if fact.enterprise == "-" else codes.get(fact.enterprise, next(iter(codes.values())))
            yield fact, code, fact.record or f"given-{number + 1}"

    def _steps(self, test: TestEntry, registry: Registry, codes: Mapping[str, str]) -> Iterator[Step]:
        """What is sent when; ``at`` may be left out in the first."""
        rows = {
            **{
                f"{code}/{point}": row
                for code, points in registry.rows.items()
                for point, row in points.items()
            },
            **{
                f"{id}/{point}": row
                for id, code in codes.items()
                for point, row in registry.rows[code].items()
            },
        }
        alone: dict[str, list[int]] = {}
        for points in registry.rows.values():
            for point, row in points.items():
                alone.setdefault(point, []).append(row)
        rows |= {point: of[0] for point, of in alone.items() if len(of) == 1}
        for number, entry in enumerate(test.readings):
            place = ("readings", number)
            at, values = 0, dict[int, float | None]()
            for key, value in entry.items():
                if key == "at":
                    at = self._duration((*place, key), value)
                elif key not in rows:
                    problem = "is a point of several enterprises" if key in alone else "unknown point"
                    expected = f"ENTERPRISE/{key}" if key in alone else names.expected(key, tuple(rows))
                    self._add((*place, key), problem, expected)
                else:
                    values[rows[key]] = self._value((*place, key), value)
            yield Step(at, values)

    def _duration(self, place: Place, value: str) -> int:
        try:
            return duration(value)
        except ValueError:
            self._add(place, f"is {value!r}", "a time since the start, such as 30s or 2min")
            return 0

    def _value(self, place: Place, value: str) -> float | None:
        if value in ("bad", "silent"):
            return nan if value == "bad" else None
        try:
            number = float(value)
        except ValueError:
            number = nan
        if not isfinite(number) or "_" in value:
            self._add(place, f"is {value!r}", "a number, bad, or silent")
        return number

    def _expected(self, entry: ExpectedEntry, codes: Mapping[str, str]) -> Expected:
        code = codes.get(entry.enterprise, entry.enterprise) if entry.enterprise else None
        return Expected(
            entry.at, entry.rule, entry.subject, code, entry.phase, entry.level, entry.tier, entry.value
        )

    def _add(self, place: Place, problem: str, expected: str) -> None:
        self._add_at((*self.place, *place), problem, expected)

    def _add_at(self, place: Place, problem: str, expected: str) -> None:
        self.mistakes.add(self.document.file, self.document.line(place), spell(place), problem, expected)


def _columns(stem: str) -> Mapping[str, Column] | None:
    """The columns of a CSV file of the registry; None if there is no such file."""
    if stem == "points":
        return POINT_COLUMNS
    return fact_source.TABLES[stem].columns if stem in fact_source.TABLES else None


def _codes(given: GivenEntry) -> dict[str, str]:
    """A credit code for each enterprise, by its id in the file."""
    plants = [plant.id for plant in given.enterprises] or ["plant"]
    return {plant: credit.complete(f"91370200MA{number:04d}XX0") for number, plant in enumerate(plants, 1)}


def _with(facts: Facts, given: Iterable[tuple[FactEntry, str, str]], start: int) -> Facts:
    """The registry's facts and those that a test gives, in their order."""
    texts = (
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
    numbers = {"begins": np.int64, "ends": np.int64, "value": np.float64, "limit": np.float64}
    rows: list[tuple[Any, ...]] = [
        (
            *(getattr(facts, name)[row] for name in texts),
            *(getattr(facts, name)[row].item() for name in numbers),
        )
        for row in range(len(facts))
    ]
    for fact, code, record in given:
        ends = fact.ends if fact.ends == FOREVER else start + fact.ends
        name = fact.name or fact.subject.partition(":")[2]
        of = (name, fact.kind, fact.unit, fact.level, fact.clause, fact.engineering_unit)
        times = (start + fact.begins, ends, fact.value, fact.limit)
        rows.append((fact.rule, code, fact.subject, record, *of, *times))
    if not rows:
        return facts
    columns: dict[str, Any] = dict(
        zip((*texts, *numbers), zip(*sorted(rows, key=lambda row: row[:4]), strict=True), strict=True)
    )
    columns |= {name: np.array(columns[name], type_) for name, type_ in numbers.items()}
    return Facts(**columns)
