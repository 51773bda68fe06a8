"""Records: a registry in pieces, each with its kind, its key and the texts that a file would hold."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import msgspec
from pydantic_core import PydanticCustomError

from registry import credit, fact_source
from registry.checks import Raw
from registry.files import Data, Document, Listed, Place, Table, Where, mappings, spell, text
from registry.mistakes import Mistakes
from registry.source import CELL_COLUMNS, ENTERPRISE_COLUMNS, POINT_COLUMNS, Column, area

Body: TypeAlias = dict[str, Data]

SETTINGS = "registry"
"""The key of the one record of kind settings."""

_TOGETHER = 4096
"""Rows that are put into columns at once."""

_decoder = msgspec.json.Decoder(dict[str, Any])


class Record(NamedTuple):
    kind: str
    key: str  # "" where what it is made of is missing
    enterprise: str  # credit code; "" of what belongs to none
    body: Body


@dataclass
class Named(Document):
    """The data of one record."""

    name: str
    data: Data

    def where(self, place: Place) -> Where:
        return self.name, 0, spell(place)


def kinds() -> tuple[str, ...]:
    """All kinds of record, those that others refer to first."""
    return ("settings", "cell", "person", "duty", "enterprise", "point", *fact_source.TABLES)


def columns(kind: str) -> Mapping[str, Column] | None:
    """The columns of a kind that is a table; None of one that is a list of entries."""
    if kind in fact_source.TABLES:
        return fact_source.TABLES[kind].columns
    return {"cell": CELL_COLUMNS, "point": POINT_COLUMNS}.get(kind)


def record(kind: str, body: Body) -> Record:
    """The record that this is by what it says; what says nothing is left out."""
    if kind == "settings":
        return Record(kind, SETTINGS, "", body)
    said = {name: value for name, value in body.items() if value not in ("", [], {})}
    if kind == "cell" and not isinstance(said.get("area", ""), str):
        said["area"] = _geojson(said["area"])
    names = key_fields(kind)
    parts = [text(said.get(name)) for name in names]
    whole = all(part or not names[name] for name, part in zip(names, parts, strict=True))
    key = _between(kind).join(filter(None, parts) if kind == "duty" else parts) if whole else ""
    return Record(kind, key, owner(kind, key), said)


@cache
def key_fields(kind: str) -> Mapping[str, bool]:
    """The fields that a key is made of, in this order, and whether each of them must be said."""
    if kind in fact_source.TABLES:
        table = fact_source.TABLES[kind]
        return {name: table.columns[name].required for name in table.key}
    return _KEYS[kind]


_KEYS: Mapping[str, Mapping[str, bool]] = {
    "settings": {},
    "cell": {"id": True},
    "person": {"id": True},
    "duty": {"place": True, "person": True, "hours": False, "weekdays": False},
    "enterprise": {"code": True},
    "point": {"enterprise": True, "point": True},
}


def missing_of_key(found: Record, key: str) -> dict[str, str]:
    """What the record does not say itself of the fields that its key is made of, and what the key says of each."""
    names = key_fields(found.kind)
    said = dict(zip(names, key.split(_between(found.kind)), strict=False))
    return {name: said.get(name, "") for name in names if names[name] and not text(found.body.get(name))}


def _between(kind: str) -> str:
    """What is between the parts of a key."""
    return " " if kind == "duty" else "/"


def _geojson(nested: Data) -> str:
    """A nested geometry as the text that is kept of it; what is none is told where it is checked."""
    try:
        return area(nested)
    except PydanticCustomError:
        return msgspec.json.encode(nested).decode()


def owner(kind: str, key: str) -> str:
    """The enterprise that a record of this key belongs to; "" if to none."""
    first = key.partition(_between(kind))[0]
    if kind == "duty":
        return first if credit.check(first) is None else ""
    known = kind in _KEYS or kind in fact_source.TABLES
    return first if known and next(iter(key_fields(kind)), "") in ("enterprise", "code") else ""


def encode(body: Body) -> str:
    """The body as JSON; equal bodies are equal."""
    return msgspec.json.encode(body, order="sorted").decode()


def decode(body: str) -> Body:
    """The body of this JSON."""
    return _decoder.decode(body)


def split(raw: Raw) -> Iterator[Record]:
    """The records of these texts, in the order of kinds; of an enterprise those that follow each other may vary."""
    if raw.settings is not None and isinstance(raw.settings.data, dict):
        yield record("settings", {key: data for key, data in raw.settings.data.items() if key != "grid"})
        yield from _cells(raw.settings.data.get("grid", ""), "")
    yield from _rows("cell", raw.cells)
    for kind, parts in (("person", raw.people), ("duty", raw.duty), ("enterprise", raw.enterprises)):
        for part in parts:
            yield from (record(kind, entry) for _, entry in mappings(part.data))
    yield from _rows("point", raw.points)
    for stem, table in raw.records.items():
        yield from _rows(stem, table)


def _cells(data: Data, parent: str) -> Iterator[Record]:
    """The nested grid, a record for each cell."""
    for _, entry in mappings(data):
        flat = {key: value for key, value in entry.items() if key != "children"}
        yield record("cell", {**flat, "parent": parent})
        yield from _cells(entry.get("children", ""), text(entry.get("id")))


def _rows(kind: str, table: Table) -> Iterator[Record]:
    names = list(table.columns)
    for cells in zip(*table.columns.values(), strict=True):
        said = {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell}
        yield record(kind, said)


def gather(records: Iterable[Record], mistakes: Mistakes) -> Raw:
    """The texts of records, each in the place that says which it is."""
    raw = Raw(settings=Named(f"settings {SETTINGS}", {}))
    lists = {kind: Listed([], []) for kind in ("person", "duty", "enterprise")}
    raw.people, raw.duty, raw.enterprises = [lists["person"]], [lists["duty"]], [lists["enterprise"]]
    tables = {"cell": raw.cells, "point": raw.points, **raw.records}
    waiting: dict[str, list[Body]] = {kind: [] for kind in tables}
    for kind, key, _, body in records:
        name = f"{kind} {key}"
        if kind == "settings":
            raw.settings = Named(name, body)
        elif kind in lists:
            lists[kind].data.append(body)
            lists[kind].places.append((name, 0))
        else:
            table = tables[kind]
            _only_texts(body, table.columns, name, mistakes)
            table.places.append((name, 0))
            waiting[kind].append(body)
            if len(waiting[kind]) == _TOGETHER:
                table.extend(waiting[kind])
                waiting[kind] = []
    for kind, bodies in waiting.items():
        tables[kind].extend(bodies)
    return raw


def _only_texts(body: Body, known: Mapping[str, object], name: str, mistakes: Mistakes) -> None:
    if not body.keys() <= known.keys():
        for column in body.keys() - known:
            mistakes.add(name, 0, column, "unknown column", f"one of {', '.join(known)}")
    for column, value in body.items():
        if not isinstance(value, str):
            mistakes.add(name, 0, column, "is no text", "a text")


def joined(stored: Raw, folder: Raw) -> Raw:
    """Both as one; of the settings, the folder's."""
    for mine, other in (
        (stored.cells, folder.cells),
        (stored.points, folder.points),
        *((stored.records[stem], table) for stem, table in folder.records.items()),
    ):
        for name, cells in mine.columns.items():
            cells.extend(other.columns[name])
        mine.places.extend(other.places)
    return Raw(
        folder.settings or stored.settings,
        [*stored.people, *folder.people],
        [*stored.duty, *folder.duty],
        [*stored.enterprises, *folder.enterprises],
        stored.cells,
        stored.points,
        stored.records,
        folder.unread,
    )


# ---- enterprises.csv -------------------------------------------------------------------------------


def enterprises_of(table: Table) -> Listed:
    """The entries that the rows of enterprises.csv stand for."""
    rows = zip(*table.columns.values(), strict=True)
    names = list(table.columns)
    return Listed([_entry(dict(zip(names, row, strict=True))) for row in rows], table.places)


def enterprise_row(body: Body) -> dict[str, str] | None:
    """The row of enterprises.csv that stands for this entry; None if none does."""
    row = {name: text(body.get(name)) for name in ENTERPRISE_COLUMNS}
    gateways = body.get("gateways", [])
    row["gateways"] = " ".join(map(str, gateways)) if isinstance(gateways, list) else ""
    for name, (left, rest) in _PAIRS.items():
        row[name] = ";".join(
            f"{text(item.get(left))}={' '.join(text(item.get(part)) for part in rest).strip()}"
            for _, item in mappings(body.get(name, ""))
        )
    return row if record("enterprise", _entry(row)).body == body else None


_PAIRS = {
    "units": ("id", ("name",)),
    "responsible": ("role", ("person",)),
    "groups": ("id", ("tolerance", "delay")),
}
"""Columns of enterprises.csv that hold a list: what is before the = and what after it."""


def _entry(row: Mapping[str, str]) -> Body:
    entry: Body = {name: cell.strip() for name, cell in row.items() if cell.strip()}
    if row["gateways"].strip():
        entry["gateways"] = [*row["gateways"].split()]
    for name, (left, rest) in _PAIRS.items():
        if row[name].strip():
            entry[name] = [_pair(item.strip(), left, rest) for item in row[name].split(";") if item.strip()]
    return entry


def _pair(item: str, left: str, rest: tuple[str, ...]) -> Body:
    first, _, second = item.partition("=")
    values = second.split(" ", len(rest) - 1)
    return {
        name: value
        for name, value in chain([(left, first.strip())], zip(rest, values, strict=False))
        if value
    }
