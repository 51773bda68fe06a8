"""From a registry as text, wherever it lay, to its checked values, or everything that is wrong with it at once."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from registry import fact_source, grid
from registry.files import Data, Document, Joined, Place, Table, mappings, text
from registry.grid import SourceCell
from registry.mistakes import Mistakes, spot
from registry.point_checks import PointChecks
from registry.source import (
    CELL_COLUMNS,
    POINT_COLUMNS,
    Column,
    DutyEntry,
    EnterpriseEntry,
    EscalationEntry,
    Known,
    Parts,
    PersonEntry,
    RegistryEntry,
)
from registry.wording import worded

T = TypeVar("T")


@dataclass
class Raw:
    """All texts of a registry: of a folder, of the database, or of both together.

    A kind of which something could not be read is in ``unread``: of what is missing there nothing is said.
    """

    settings: Document | None = None  # registry.yaml, with its grid or without
    people: list[Document] = field(default_factory=list)  # lists, as are the next two
    duty: list[Document] = field(default_factory=list)
    enterprises: list[Document] = field(default_factory=list)
    cells: Table = field(default_factory=lambda: empty(CELL_COLUMNS))
    points: Table = field(default_factory=lambda: empty(POINT_COLUMNS))
    records: dict[str, Table] = field(
        default_factory=lambda: {stem: empty(kind.columns) for stem, kind in fact_source.TABLES.items()}
    )
    unread: set[str] = field(default_factory=set)
    left_out: set[tuple[str, int]] = field(default_factory=set)  # places of rows that could not be read


@dataclass(frozen=True, slots=True)
class Source:
    """A registry without a mistake, as its texts say it. Points and records are columns of equal length."""

    registry: RegistryEntry
    cells: Sequence[SourceCell]
    people: Sequence[PersonEntry]
    duty: Sequence[DutyEntry]
    enterprises: Sequence[EnterpriseEntry]
    points: Mapping[str, Sequence[Any]]
    escalation: Mapping[str, EscalationEntry]  # of every tier, its levels filled in
    records: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)  # by stem of the file
    edit: str = ""  # who made the newest edit in it, and why


def spliced(source: Source, codes: Collection[str], newer: Source, *, shared: bool) -> Source:
    """The source, but of these enterprises what the newer one says.

    Args:
        shared: of people, and of the duties that belong to no enterprise, too.
    """
    known = {entry.code for entry in source.enterprises}

    def new(owner: str) -> bool:
        return owner in codes or (shared and owner not in known)

    def columns(old: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> Mapping[str, Any]:
        if "enterprise" not in old:
            return now
        kept = [code not in codes for code in old["enterprise"]]
        added = [code in codes for code in now["enterprise"]]
        return {name: [*compress(old[name], kept), *compress(now[name], added)] for name in old}

    return replace(
        source,
        people=newer.people if shared else source.people,
        duty=[entry for entry in source.duty if not new(entry.place)]
        + [entry for entry in newer.duty if new(entry.place)],
        enterprises=[entry for entry in source.enterprises if entry.code not in codes]
        + [entry for entry in newer.enterprises if entry.code in codes],
        points=columns(source.points, newer.points),
        records={stem: columns(source.records[stem], newer.records[stem]) for stem in source.records},
    )


def empty(columns: Iterable[str]) -> Table:
    """A table without rows."""
    return Table({name: [] for name in columns})


def check(raw: Raw, mistakes: Mistakes) -> Source | None:
    """The checked values; None if there are mistakes, now or from before.

    First it is gathered what may be referred to, then every value is judged by its model, then what only
    several of them together can show. What one step cannot understand is left out of the later ones, so
    that one mistake is not reported as several.
    """
    people, enterprises = Joined(raw.people), Joined(raw.enterprises)
    cells = [*grid.tree(raw.settings), *grid.rows(raw.cells)]
    cells_read = raw.unread.isdisjoint(("settings", "cell"))
    known = Known()
    if cells_read:
        known.cells = frozenset(cell.id for cell in cells)
        known.levels = frozenset(cell.level for cell in cells if cell.level)
    if "person" not in raw.unread:
        known.people = {
            text(entry.get("id")): bool(entry.get("contacts")) for _, entry in mappings(people.data)
        }
    if "enterprise" not in raw.unread:
        known.enterprises = {
            text(entry.get("code")): _parts(entry) for _, entry in mappings(enterprises.data)
        }

    settings = _validated(RegistryEntry, raw.settings, known, mistakes) if raw.settings else None
    person_entries = _validated_lists(list[PersonEntry], raw.people, known, mistakes)
    duty_entries = _validated_lists(list[DutyEntry], raw.duty, known, mistakes)
    enterprise_entries = _validated_lists(list[EnterpriseEntry], raw.enterprises, known, mistakes)
    _values(raw.cells, CELL_COLUMNS, known, mistakes)
    point_values = _values(raw.points, POINT_COLUMNS, known, mistakes)
    record_values = {
        stem: _values(table, fact_source.TABLES[stem].columns, known, mistakes)
        for stem, table in raw.records.items()
    }

    calls = None
    if raw.settings is not None and cells_read:
        if not cells:
            mistakes.add(*raw.settings.where(("grid",)), "is missing", "a value")
        by_id = grid.check_tree(cells, mistakes)
        calls = grid.escalation(raw.settings, cells, known, mistakes)
        if calls is not None:
            grid.check_reach(enterprises, by_id, calls, mistakes)
    _once(people, _field(people.data, "id"), mistakes)
    for place, entry in mappings(people.data):
        _once(people, _contacts(entry, place), mistakes)
    points = PointChecks(raw.points, point_values, mistakes)
    points.unique()
    points.limits()
    points.rules()
    _once(enterprises, _field(enterprises.data, "code"), mistakes)
    for place, entry in mappings(enterprises.data):
        if "gateways" in entry:
            _once(enterprises, _gateways(entry, place), mistakes)
        for part in ("units", "groups"):
            if part in entry:
                _once(enterprises, _field(entry[part], "id", (*place, part)), mistakes)
    if known.enterprises is not None:
        points.references(known.enterprises)
        if "point" not in raw.unread:
            points.groups(enterprises)
    for stem, table in raw.records.items():
        _unique(table, record_values[stem], fact_source.TABLES[stem].key, mistakes)
    if raw.unread.isdisjoint(("enterprise", "point")):
        names = (point_values[name] for name in ("enterprise", "point", "kind", "engineering_unit"))
        there = {(code, point): (kind, unit) for code, point, kind, unit in zip(*names, strict=True)}
        fact_source.check(raw.records, record_values, known.enterprises or {}, there, mistakes)

    if mistakes.found or settings is None or calls is None:
        return None
    return Source(
        settings,
        cells,
        person_entries,
        duty_entries,
        enterprise_entries,
        point_values,
        calls,
        record_values,
    )


def _validated_lists(
    type_: type[list[T]], parts: Sequence[Document], known: Known, mistakes: Mistakes
) -> list[T]:
    return [entry for part in parts for entry in _validated(type_, part, known, mistakes) or ()]


def _validated(type_: type[T], document: Document, known: Known, mistakes: Mistakes) -> T | None:
    """The document as this model, or None and a mistake for each thing that is wrong."""
    try:
        return TypeAdapter(type_).validate_python(document.data, context=known)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place = tuple(part for part in detail["loc"] if part != "[key]")
            mistakes.add(*document.where(place), *worded(detail, type_))
        return None


def _values(
    table: Table, columns: Mapping[str, Column], known: Known, mistakes: Mistakes
) -> dict[str, list[Any]]:
    """The columns as values. Each distinct text is judged once; a bad one counts as not given."""
    values = {}
    for name, column in columns.items():
        meaning: dict[str, Any] = {}
        bad: dict[str, tuple[str, str]] = {}
        for cell in set(table.columns[name]):
            meaning[cell] = column.default
            if cell.strip():
                try:
                    meaning[cell] = column.adapter.validate_python(cell.strip(), context=known)
                except ValidationError as error:
                    bad[cell] = worded(error.errors(include_url=False)[0], column.type)
            elif column.required:
                bad[cell] = "is empty", "a value"
        for (file, line), cell in zip(table.places, table.columns[name], strict=True) if bad else ():
            if cell in bad:
                mistakes.add(file, line, name, *bad[cell])
        values[name] = [meaning[cell] for cell in table.columns[name]]
    return values


def _unique(
    table: Table, values: Mapping[str, Sequence[Any]], key: Sequence[str], mistakes: Mistakes
) -> None:
    """No two records have the same key; what is wrong in itself has none."""
    first: dict[tuple[Any, ...], int] = {}
    for row, own in enumerate(zip(*(values[name] for name in key), strict=True)):
        before = first.setdefault(own, row)
        if before != row and None not in own:
            problem = f"{own[-1]!r} is at {spot(*table.places[before])} too"
            mistakes.add(*table.places[row], key[-1], problem, "every one once")


def _field(data: Data, key: str, around: Place = ()) -> list[tuple[Place, str]]:
    return [((*around, *place, key), text(entry.get(key))) for place, entry in mappings(data)]


def _gateways(entry: Mapping[str, Data], place: Place) -> list[tuple[Place, str]]:
    given = entry.get("gateways")
    names = given if isinstance(given, list) else []
    return [((*place, "gateways", index), text(name)) for index, name in enumerate(names)]


def _contacts(entry: Mapping[str, Data], place: Place) -> list[tuple[Place, str]]:
    return [
        ((*place, "contacts", *index), f"{text(contact.get('channel'))} {text(contact.get('address'))}")
        for index, contact in mappings(entry.get("contacts", ""))
    ]


def _once(document: Document, items: Iterable[tuple[Place, str]], mistakes: Mistakes) -> None:
    first: dict[str, Place] = {}
    for place, value in items:
        if value in first:
            file, line, _ = document.where(place)
            before = document.where(first[value])
            where = f"on line {before[1]}" if line and before[0] == file else f"at {spot(*before[:2])}"
            mistakes.add(*document.where(place), f"{value!r} is {where} too", "every one once")
        elif value:
            first[value] = place


def _parts(entry: Mapping[str, Data]) -> Parts:
    return Parts(
        frozenset([name for _, name in _gateways(entry, ())]) if "gateways" in entry else _NONE,
        *(
            frozenset([name for _, name in _field(entry[part], "id")]) if part in entry else _NONE
            for part in ("units", "groups")
        ),
    )


_NONE: frozenset[str] = frozenset()
