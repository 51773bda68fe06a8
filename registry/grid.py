"""The grid of cells and the escalation over it: one tree, and every level that is called within reach."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from registry.files import Data, Document, Place, Table, Where, mappings, spell, text
from registry.mistakes import Mistakes, spot
from registry.source import IN_THE_ENTERPRISE, NOBODY, TIERS, EscalationEntry, Known, Tier

_ESCALATION: TypeAdapter[dict[Tier, EscalationEntry]] = TypeAdapter(dict[Tier, EscalationEntry])


@dataclass(frozen=True, slots=True)
class SourceCell:
    """A cell of the grid, from registry.yaml or cells.csv; "" where a text is missing."""

    id: str
    name: str
    level: str
    parent: str
    file: str
    line: int
    within: str = ""  # the entry of registry.yaml that it is: "grid[0].children[2]"

    def where(self, field: str) -> Where:
        """What people are told of this field."""
        return self.file, self.line, f"{self.within}.{field}" if self.within else field


def tree(document: Document | None) -> Iterator[SourceCell]:
    """The cells of the nested grid in registry.yaml, as far as they can be made out."""
    if document is not None and isinstance(document.data, dict):
        yield from _branch(document, document.data.get("grid", ""), ("grid",), "")


def _branch(document: Document, data: Data, place: Place, parent: str) -> Iterator[SourceCell]:
    for inner, entry in mappings(data):
        here = (*place, *inner)
        id_, name, level = (text(entry.get(key)) for key in ("id", "name", "level"))
        if id_:
            file, line, _ = document.where((*here, "id"))
            yield SourceCell(id_, name, level, parent, file, line, spell(here))
        yield from _branch(document, entry.get("children", ""), (*here, "children"), id_)


def rows(table: Table) -> Iterator[SourceCell]:
    """The cells of cells.csv."""
    columns = (table.columns[name] for name in ("id", "name", "level", "parent"))
    for (file, line), *texts in zip(table.places, *columns, strict=True):
        id_, name, level, parent = (cell.strip() for cell in texts)
        if id_:
            yield SourceCell(id_, name, level, parent, file, line)


def chain(cell: SourceCell, by_id: Mapping[str, SourceCell]) -> tuple[list[SourceCell], bool]:
    """The cell and those above it, and whether they go in a circle."""
    cells, seen = [cell], {cell.id}
    while (parent := by_id.get(cells[-1].parent)) is not None:
        if parent.id in seen:
            return cells, True
        cells.append(parent)
        seen.add(parent.id)
    return cells, False


def check_tree(cells: Sequence[SourceCell], mistakes: Mistakes) -> dict[str, SourceCell]:
    """The cells by id. Each must be there once, in no circle, and of another level than those above it."""
    by_id: dict[str, SourceCell] = {}
    for cell in cells:
        if cell.id in by_id:
            before = by_id[cell.id]
            problem = f"{cell.id!r} is at {spot(before.file, before.line)} too"
            mistakes.add(*cell.where("id"), problem, "every cell once")
        by_id.setdefault(cell.id, cell)
    in_a_circle: set[str] = set()
    for cell in by_id.values():
        above, circle = chain(cell, by_id)
        if circle and above[-1].parent == cell.id and cell.id not in in_a_circle:
            in_a_circle |= {other.id for other in above}
            path = " → ".join([*(other.id for other in above), cell.id])
            mistakes.add(*cell.where("parent"), f"goes in a circle: {path}", "a tree")
        elif not circle and cell.level and cell.level in (other.level for other in above[1:]):
            problem = f"is {cell.level!r}, like a cell above it"
            mistakes.add(*cell.where("level"), problem, "another level than all above it")
    roots = [cell for cell in by_id.values() if not cell.parent and cell.level]
    for root in roots:
        if root.level != roots[0].level:
            problem = f"is {root.level!r} at the top, where {roots[0].id!r} is {roots[0].level!r}"
            mistakes.add(*root.where("level"), problem, "one level for all cells at the top")
    return by_id


def escalation(
    document: Document, cells: Sequence[SourceCell], known: Known, mistakes: Mistakes
) -> dict[str, EscalationEntry] | None:
    """Escalation of every tier with its levels filled in; None if what is given cannot be understood.

    Unless told otherwise the district is told, III climbs to it, II and I to the top, and IV stays in
    the enterprise (design section 7).
    """
    given: Any = document.data.get("escalation", {}) if isinstance(document.data, dict) else {}
    try:
        by_tier = _ESCALATION.validate_python(given, context=known)
    except ValidationError:
        return None  # said already, where all of registry.yaml was validated
    top = next((cell.level for cell in cells if not cell.parent), "")
    usual = {"I": ("district", top), "II": ("district", top), "III": ("district", "district")}
    levels = sorted({cell.level for cell in cells if cell.level})
    filled: dict[str, EscalationEntry] = {}
    for tier in TIERS:
        entry = by_tier.get(tier, EscalationEntry())
        told_usually, top_usually = usual.get(tier, (NOBODY, IN_THE_ENTERPRISE))
        keys = {"told_level": (told_usually, NOBODY), "top_level": (top_usually, IN_THE_ENTERPRISE)}
        update = {}
        for key, (usually, none) in keys.items():
            chosen = getattr(entry, key) or usually
            if chosen not in levels and chosen != none:
                given_or_not = f"is {chosen!r}" if getattr(entry, key) else "is not given"
                problem = f"{given_or_not}, and no cell has the level {chosen!r}"
                place = ("escalation", tier, key)
                mistakes.add(*document.where(place), problem, f"one of {', '.join(levels)} or {none}")
            update[key] = "" if chosen == none else chosen
        filled[tier] = entry.model_copy(update=update)
    return filled


def check_reach(
    enterprises: Document,
    by_id: Mapping[str, SourceCell],
    escalation: Mapping[str, EscalationEntry],
    mistakes: Mistakes,
) -> None:
    """Every level that is told or climbed to must lie above every enterprise, or a call would find nobody."""
    needed = {level for entry in escalation.values() for level in (entry.told_level, entry.top_level)}
    called = sorted(level for level in needed & {cell.level for cell in by_id.values()} if level)
    for place, entry in mappings(enterprises.data):
        cell = by_id.get(text(entry.get("cell")))
        if cell is None:
            continue
        above = {cell.level for cell in chain(cell, by_id)[0]}
        for level in called:
            if level not in above:
                mistakes.add(
                    *enterprises.where((*place, "cell")),
                    f"lies below no cell of level {level!r}, which escalation calls",
                    f"a cell within one of level {level!r}",
                )
