"""Where a finding counts for a compound rule: in a part of an enterprise, an enterprise, a cell, or all within one."""

from registry.model import Registry
from streams.compound_state import Place
from streams.finding import Finding

CELL = "cell:"
NEIGHBOURS = "neighbours"

_MEASURED = ("point:", "gateway:", "group:", "pipeline:")
_DEVICES = (*_MEASURED, "unit:")
"""Subjects that are somewhere, also where the registry does not say where."""


def places_of(registry: Registry, scope: str, finding: Finding) -> tuple[Place, ...]:
    """Where it counts for rules of this scope: the places themselves, or one that they lie in; () if nowhere.

    A finding of a cell, or of a whole enterprise, counts in all narrower places within.
    """
    cell = finding.subject.removeprefix(CELL) if finding.subject.startswith(CELL) else ""
    if is_wide(scope):
        enterprise = registry.enterprises.get(finding.enterprise)
        home = cell or (enterprise.cell if enterprise else "")
        if home not in registry.cells:
            return ()
        outers = registry.ancestors(home)
        if scope == NEIGHBOURS and not cell:
            return (("", CELL + outers[:2][-1].id),)
        for outer in outers:
            if outer.level == scope.removeprefix(CELL):
                return (("", CELL + outer.id),)
    if cell:
        return (("", finding.subject),) if cell in registry.cells else ()
    if not finding.enterprise or is_wide(scope):
        return ()
    whole = finding.enterprise, ""
    if scope == "enterprise":
        return (whole,)
    parts = sorted({part for part in (finding.subject, *finding.within) if part.startswith(scope + ":")})
    if parts:
        return tuple((finding.enterprise, part) for part in parts)
    wide = not finding.within and not finding.subject.startswith(_DEVICES)
    return (whole,) if wide else ()


def is_place(registry: Registry, scope: str, place: Place) -> bool:
    """Whether rules of this scope are judged in such a place, rather than in what lies within it."""
    enterprise, part = place
    if scope == NEIGHBOURS:
        return not enterprise and is_known(registry, place)
    if scope.startswith(CELL):
        cell = registry.cells.get(part.removeprefix(CELL)) if not enterprise else None
        return cell is not None and cell.level == scope.removeprefix(CELL)
    if scope == "enterprise":
        return bool(enterprise) and not part
    return part.startswith(scope + ":")


def is_measured(finding: Finding) -> bool:
    """Whether devices found it, whose news can be late, and not records or people."""
    return finding.subject.startswith(_MEASURED)


def is_wide(scope: str) -> bool:
    """Whether places of this scope are cells."""
    return scope == NEIGHBOURS or scope.startswith(CELL)


def is_known(registry: Registry, place: Place) -> bool:
    """Whether a cell is (still) there; an enterprise and its parts always are."""
    enterprise, part = place
    return bool(enterprise) or part.removeprefix(CELL) in registry.cells


def around(registry: Registry, place: Place) -> tuple[Place, ...]:
    """The place itself, its enterprise, and the cells that it lies in, from the inside out."""
    enterprise, part = place
    if enterprise:
        inner = [place, (enterprise, "")] if part else [place]
        known = registry.enterprises.get(enterprise)
        cells = registry.ancestors(known.cell) if known else ()
    else:
        inner = []
        cells = registry.ancestors(part.removeprefix(CELL)) if is_known(registry, place) else ()
    return (*inner, *(("", CELL + cell.id) for cell in cells))


def subject_of(registry: Registry, place: Place) -> tuple[str, str, str]:
    """Enterprise, subject and name of what is found in a place."""
    enterprise, part = place
    known = registry.enterprises.get(enterprise)
    if not enterprise:
        return "", part, registry.cells[part.removeprefix(CELL)].name
    if not part:
        return enterprise, f"enterprise:{enterprise}", known.name if known else ""
    units = dict(known.units) if known else {}
    return enterprise, part, units.get(part.removeprefix("unit:"), "") if part.startswith("unit:") else ""
