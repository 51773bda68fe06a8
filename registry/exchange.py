"""A folder into the registry's database, as one audited edit, and the registry out into a folder."""

import csv
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from registry.checks import Raw, check
from registry.files import Listed, Place, Table, YamlFile, text
from registry.folder import read_files
from registry.mistakes import Mistake, Mistakes, RegistryErrors
from registry.records import (
    Body,
    Record,
    columns,
    decode,
    encode,
    enterprise_row,
    gather,
    joined,
    kinds,
    split,
)
from registry.source import ENTERPRISE_COLUMNS, DutyEntry, EnterpriseEntry, Entry, PersonEntry, RegistryEntry
from registry.store import Difference, Edit, Editing, Look, RegistryStore

Told = Callable[[str, int, int], None]
"""Is told how far it has come: the step, how much of it is done, and of how much (0: not known)."""

Stored: TypeAlias = Mapping[tuple[str, str], tuple[str, str]]
"""Enterprise and body, as JSON, of records, by kind and key."""

_Dumper: Any = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    edit: Edit | None  # None: all was so already
    added: int
    changed: int
    removed: int
    skipped: tuple[Mistake, ...]  # for these, rows and entries were left out


def silent(step: str, done: int, of: int) -> None:
    """Tells nobody."""


def import_folder(
    store: RegistryStore,
    folder: Path,
    *,
    who: str,
    why: str,
    now: int,
    origin: str = "import",
    replace: bool = False,
    skip_bad: bool = False,
    told: Told = silent,
) -> Imported:
    """Bring what a folder says into the database.

    Args:
        replace: what the folder does not name is removed, and it must be a whole registry. If not, what it
            does not name stays, and any of its files may be missing.
        skip_bad: rows and entries with mistakes are left out, and then what refers to them, until nothing is
            wrong. What the database has of them stays.

    Raises:
        RegistryErrors: the folder, or what would come of it, is no registry; nothing was done. All mistakes;
            with ``skip_bad`` those that cannot be helped by leaving something out.
        ValueError: both ``replace`` and ``skip_bad``: what is wrong in the folder would be removed.
    """
    if replace and skip_bad:
        raise ValueError("what is skipped cannot replace anything: ask for one of the two")
    told("read", 0, 0)
    reading = Mistakes()
    raw = read_files(folder, reading, some=not replace)

    def judged(look: Look) -> tuple[list[Difference], Sequence[Mistake]]:
        before = look.bodies()
        told("check", 0, 0)
        left, skipped = _judged(before, raw, reading.found, replace=replace, skip_bad=skip_bad)
        told("compare", 0, 0)
        return _differences(before, left, remove=replace), skipped

    def written(editing: Editing, outcome: tuple[list[Difference], Sequence[Mistake]]) -> Imported:
        differences, skipped = outcome
        edit = editing.write(
            differences,
            who=who,
            why=why,
            now=now,
            origin=origin,
            told=lambda done: told("write", done, len(differences)),
        )
        added = sum(one.old is None for one in differences)
        removed = sum(one.new is None for one in differences)
        return Imported(edit, added, len(differences) - added - removed, removed, tuple(skipped))

    return store.change(judged, written)


def differs(store: RegistryStore, folder: Path) -> bool:
    """Whether the folder says anything else than the database. Raises RegistryErrors if it cannot be read."""
    mistakes = Mistakes()
    records = split(read_files(folder, mistakes))
    if mistakes.found:
        raise RegistryErrors(mistakes.found)
    with store.looking() as look:
        before = look.bodies()
    return bool(_differences(before, records, remove=True))


def _judged(
    before: Stored, raw: Raw, unreadable: Sequence[Mistake], *, replace: bool, skip_bad: bool
) -> tuple[Collection[Record], Sequence[Mistake]]:
    """The records of a folder that has no mistake beside what stays; and what was left out for that."""
    mistakes = Mistakes()
    mistakes.found += unreadable
    skipped: list[Mistake] = []
    while True:
        records = {(found.kind, found.key): found for found in split(raw)}
        staying = [] if replace else _staying(before, records.keys())
        if check(joined(gather(staying, mistakes), raw), mistakes) is not None:
            return records.values(), RegistryErrors(skipped).mistakes
        if not skip_bad:
            raise RegistryErrors(mistakes.found)
        raw = _without(raw, mistakes.found)
        skipped += mistakes.found
        mistakes = Mistakes()


def _staying(before: Stored, named: Collection[tuple[str, str]]) -> Iterable[Record]:
    for (kind, key), (enterprise, body) in before.items():
        if (kind, key) not in named:
            yield Record(kind, key, enterprise, decode(body))


def _differences(before: Stored, records: Iterable[Record], *, remove: bool) -> list[Difference]:
    """What must change so that these records are there, and with ``remove`` no others."""
    differences = []
    named = set()
    for kind, key, enterprise, body in records:
        new = encode(body)
        named.add((kind, key))
        _, old = before.get((kind, key), ("", None))
        if old != new:
            differences.append(Difference(kind, key, enterprise, old, new))
    if remove:
        differences += [
            Difference(*name, enterprise, old, None)
            for name, (enterprise, old) in before.items()
            if name not in named
        ]
    return differences


# ---- leaving out -----------------------------------------------------------------------------------


def _without(raw: Raw, mistakes: Sequence[Mistake]) -> Raw:
    """The texts without the rows and entries that have these mistakes.

    Raises RegistryErrors with those that are of no row or entry of the folder.
    """
    lists = [*raw.people, *raw.duty, *raw.enterprises]
    files = [document for document in (*lists, raw.settings) if isinstance(document, YamlFile)]
    entries: dict[str, set[Place]] = {file.file: set() for file in files}
    lines = {file.file: file.lines for file in files}
    tables = [raw.cells, raw.points, *raw.records.values()]
    rows = {place for table in tables for place in table.places} | raw.left_out
    rows.update(place for part in lists if isinstance(part, Listed) for place in part.places)
    out: set[tuple[str, int]] = set()
    rest = []
    for mistake in mistakes:
        if entry := _entry(mistake.field, lines.get(mistake.file, {})):
            entries[mistake.file].add(entry)
        elif (mistake.file, mistake.line) in rows:
            out.add((mistake.file, mistake.line))
        else:
            rest.append(mistake)
    if rest:
        raise RegistryErrors(rest)

    def table_left(table: Table) -> Table:
        return table.kept([place not in out for place in table.places])

    def left(part: Any) -> Any:
        if isinstance(part, YamlFile):
            return part.without(entries[part.file]) if entries[part.file] else part
        if isinstance(part, Listed):
            kept = [index for index, place in enumerate(part.places) if place not in out]
            return Listed([part.data[index] for index in kept], [part.places[index] for index in kept])
        return part

    return Raw(
        settings=left(raw.settings),
        people=[left(part) for part in raw.people],
        duty=[left(part) for part in raw.duty],
        enterprises=[left(part) for part in raw.enterprises],
        cells=table_left(raw.cells),
        points=table_left(raw.points),
        records={stem: table_left(table) for stem, table in raw.records.items()},
    )


def _entry(field: str, lines: Collection[Place]) -> Place:
    """The innermost item of a list around this field of a YAML file; () if it lies in none."""
    place: Place = tuple(
        int(index) if index else key for index, key in re.findall(r"\[([0-9]+)\]|([^.\[\]]+)", field)
    )
    while place and not (isinstance(place[-1], int) and place in lines):
        place = place[:-1]
    return place


# ---- export ----------------------------------------------------------------------------------------


def export_folder(store: RegistryStore, folder: Path) -> None:
    """Write a folder that imports to the same registry.

    Raises FileExistsError if there is anything in it already, or OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name a folder that is new")
    bodies: dict[str, list[Body]] = {kind: [] for kind in kinds()}
    with store.looking() as look:
        for (kind, _), (_, stored) in sorted(look.bodies().items()):
            bodies[kind].append(decode(stored))
    [settings] = bodies["settings"] or [{}]
    _write_yaml(folder / "registry.yaml", _in_order(settings, RegistryEntry))
    _write_yaml(folder / "people.yaml", [_in_order(body, PersonEntry) for body in bodies["person"]])
    _write_yaml(folder / "duty.yaml", [_in_order(body, DutyEntry) for body in bodies["duty"]])
    entries, rows = [], []
    for body in bodies["enterprise"]:
        row = enterprise_row(body)
        if row is not None:
            rows.append(row)
        else:
            entries.append(_in_order(body, EnterpriseEntry))
    _write_yaml(folder / "enterprises.yaml", entries)
    _write_csv(folder / "enterprises.csv", ENTERPRISE_COLUMNS, rows, ())
    for kind in kinds():
        if known := columns(kind):
            stem = {"cell": "cells", "point": "points"}.get(kind, kind)
            needed = [name for name, column in known.items() if column.required] if kind == "point" else ()
            _write_csv(folder / f"{stem}.csv", known, bodies[kind], needed)


def _in_order(body: Body, entry: type[Entry]) -> Body:
    """The fields in the order in which people write them."""
    return {name: body[name] for name in entry.model_fields if name in body}


def _write_yaml(path: Path, content: Body | Sequence[Body]) -> None:
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file, _Dumper, allow_unicode=True, sort_keys=False, width=10_000)


def _write_csv(path: Path, known: Iterable[str], rows: Sequence[Any], needed: Collection[str]) -> None:
    """The columns that some row says something in; no file where there is nothing to write."""
    said: set[str] = {*needed}
    for row in rows:
        said.update(name for name, cell in row.items() if cell)
    header = [name for name in known if name in said]
    if not header:
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([text(row.get(name)) for name in header] for row in rows)
