"""Reading a registry folder: either all of it, checked, or everything that is wrong with it at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from registry import grid
from registry.files import Data, Document, FileReader, Place, Table, mappings, spell, text
from registry.grid import SourceCell
from registry.mistakes import Mistakes, RegistryErrors
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

FILES = ("registry.yaml", "people.yaml", "duty.yaml", "enterprises.yaml", "points.csv", "cells.csv", "points")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """A registry folder without a mistake, as its files say it. Points are columns of equal length."""

    registry: RegistryEntry
    cells: Sequence[SourceCell]
    people: Sequence[PersonEntry]
    duty: Sequence[DutyEntry]
    enterprises: Sequence[EnterpriseEntry]
    points: Mapping[str, Sequence[Any]]
    escalation: Mapping[str, EscalationEntry]  # of every tier, its levels filled in


def read(folder: Path) -> Source:
    """Read and check a registry folder (docs/registry.md). Raises RegistryErrors with every mistake.

    First all files are read as text, then it is gathered what may be referred to, then every value is
    judged by its model, then what only several of them together can show. What one step cannot
    understand is left out of the later ones, so that one mistake is not reported as several.
    """
    mistakes = Mistakes()
    files = FileReader(folder, mistakes)
    if not _strangers(folder, mistakes):
        raise RegistryErrors(mistakes.found)
    registry = files.yaml("registry.yaml", "the grid of cells")
    people = files.yaml("people.yaml", "a list of people")
    duty = files.yaml("duty.yaml", "a list of who is on duty where")
    enterprises = files.yaml("enterprises.yaml", "a list of enterprises")
    cell_rows, cells_read = _table(files, CELL_COLUMNS, _present(folder, "cells.csv"))
    point_files = [*_present(folder, "points.csv"), *_present(folder / "points", "*.csv", "points/")]
    point_rows, points_read = _table(files, POINT_COLUMNS, point_files or ["points.csv"])
    cells = [*grid.tree(registry), *grid.rows(cell_rows)]

    known = Known()
    if registry is not None and cells_read:
        known.cells = frozenset(cell.id for cell in cells)
        known.levels = frozenset(cell.level for cell in cells if cell.level)
    if people is not None:
        known.people = {
            text(entry.get("id")): bool(entry.get("contacts")) for _, entry in mappings(people.data)
        }
    if enterprises is not None:
        known.enterprises = {
            text(entry.get("code")): _parts(entry) for _, entry in mappings(enterprises.data)
        }

    registry_entry = _validated(RegistryEntry, registry, known, mistakes)
    person_entries = _validated(list[PersonEntry], people, known, mistakes)
    duty_entries = _validated(list[DutyEntry], duty, known, mistakes)
    enterprise_entries = _validated(list[EnterpriseEntry], enterprises, known, mistakes)
    _values(cell_rows, CELL_COLUMNS, known, mistakes)
    point_values = _values(point_rows, POINT_COLUMNS, known, mistakes)

    calls = None
    if registry is not None and cells_read:
        by_id = grid.check_tree(cells, mistakes)
        calls = grid.escalation(registry, cells, known, mistakes)
        if enterprises is not None and calls is not None:
            grid.check_reach(enterprises, by_id, calls, mistakes)
    if people is not None:
        _once(people, _field(people.data, "id"), mistakes)
        for place, entry in mappings(people.data):
            _once(people, _contacts(entry, place), mistakes)
    points = PointChecks(point_rows, point_values, mistakes)
    points.unique()
    points.limits()
    points.rules()
    if enterprises is not None:
        _once(enterprises, _field(enterprises.data, "code"), mistakes)
        for place, entry in mappings(enterprises.data):
            _once(enterprises, _gateways(entry, place), mistakes)
            _once(enterprises, _field(entry.get("units", ""), "id", (*place, "units")), mistakes)
            _once(enterprises, _field(entry.get("groups", ""), "id", (*place, "groups")), mistakes)
        points.references(known.enterprises or {})
        if points_read:
            points.groups(enterprises)

    if (
        mistakes.found
        or registry_entry is None
        or person_entries is None
        or duty_entries is None
        or enterprise_entries is None
        or calls is None
    ):
        raise RegistryErrors(mistakes.found)
    return Source(
        registry_entry, cells, person_entries, duty_entries, enterprise_entries, point_values, calls
    )


def _strangers(folder: Path, mistakes: Mistakes) -> bool:
    """A file whose name is nearly one of ours would be passed over in silence. Whether the folder is one."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        mistakes.add(str(folder), 1, "", f"cannot be read: {error.strerror}", "a folder")
        return False
    for name in names:
        likely = get_close_matches(name.lower(), FILES, 1, 0.85)
        if likely and name not in FILES and not _aside(name):
            mistakes.add(name, 1, "", "is not read", f"the name {likely[0]}, or one unlike it")
    points = folder / "points"
    if points.exists() and not points.is_dir():
        mistakes.add("points", 1, "", "is not read", "a folder of CSV files")
    for path in sorted(points.iterdir()) if points.is_dir() else ():
        if not path.name.endswith(".csv") and not _aside(path.name):
            mistakes.add(f"points/{path.name}", 1, "", "is not read", "a name that ends with .csv")
    return True


def _aside(name: str) -> bool:
    """What editors and office programs leave beside a file."""
    return name.startswith((".", "~$")) or name.endswith(("~", ".bak"))


def _present(folder: Path, pattern: str, prefix: str = "") -> list[str]:
    return [f"{prefix}{path.name}" for path in sorted(folder.glob(pattern)) if not _aside(path.name)]


def _table(files: FileReader, columns: Mapping[str, Column], names: Sequence[str]) -> tuple[Table, bool]:
    """All rows of these files, and whether none had to be left out."""
    table = Table({name: [] for name in columns})
    required = [name for name, column in columns.items() if column.required]
    read = [files.csv(table, name, required) for name in names]
    return table, all(read)


def _validated(type_: type[T], document: Document | None, known: Known, mistakes: Mistakes) -> T | None:
    """The document as this model, or None and a mistake for each thing that is wrong."""
    if document is None or not document.lines:
        return None
    try:
        return TypeAdapter(type_).validate_python(document.data, context=known)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place = tuple(part for part in detail["loc"] if part != "[key]")
            mistakes.add(document.file, document.line(place), spell(place), *worded(detail, type_))
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
            problem = f"{value!r} is on line {document.line(first[value])} too"
            mistakes.add(document.file, document.line(place), spell(place), problem, "every one once")
        elif value:
            first[value] = place


def _parts(entry: Mapping[str, Data]) -> Parts:
    return Parts(
        frozenset(name for _, name in _gateways(entry, ())),
        frozenset(name for _, name in _field(entry.get("units", ""), "id")),
        frozenset(name for _, name in _field(entry.get("groups", ""), "id")),
    )
