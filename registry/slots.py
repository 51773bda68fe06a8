"""Slots: a registry dealt out by enterprise, so that each part is heard and judged by a process of its own; pure."""

from collections.abc import Collection, Iterable
from dataclasses import fields, replace
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from registry.model import Facts, Holding, Points, Registry, Section

Rows = NDArray[np.int32]

_ENDS = ("flow_in", "flow_out", "pressure_in", "pressure_out")

C = TypeVar("C", Points, Facts)


def slot_of(enterprise: str, slots: int) -> int:
    """The slot that an enterprise is in, 0 to ``slots`` - 1: CRC-32 of its code, as of zlib and RFC 1952.

    It is the same in every version of Python and on every machine, which ``hash`` is not. What belongs to no
    enterprise ("") is in slot 0.
    """
    return crc32(enterprise.encode()) % slots


def part(registry: Registry, slot: int, slots: int, like: Registry | None = None) -> Registry:
    """The registry with only the enterprises of a slot, all indices being into what is left, in the same order.

    It has the version of the whole, and all cells, people, duties and rungs; facts of whole cells are in slot 0. Its
    arrays are its own and read-only.

    Args:
        like: an earlier part of this slot; where its facts say the same, they are the very same object, which spares
            whoever has judged them from looking through them again.
    """
    own = _of_slot(registry.enterprises, slot, slots)
    gateways = _places(own, (gateway.enterprise for gateway in registry.gateways))
    groups = _places(own, (group.enterprise for group in registry.groups))
    which = _rows(registry, gateways)
    points = _taken(registry.points, which)
    row = _new_places(which, len(registry.points)).tolist()
    gateway = _new_places(gateways, len(registry.gateways))[points.gateway]
    group = _new_places(groups, len(registry.groups))[points.group]
    return replace(
        registry,
        enterprises={code: found for code, found in registry.enterprises.items() if code in own},
        gateways=tuple(registry.gateways[index] for index in gateways.tolist()),
        points=replace(points, gateway=_frozen(gateway), group=_frozen(group)),
        groups=tuple(registry.groups[index] for index in groups.tolist()),
        sections=tuple(_section(one, row) for one in registry.sections if one.enterprise in own),
        holdings=tuple(_holding(one, row) for one in registry.holdings if one.enterprise in own),
        facts=_facts(registry.facts, slot, slots, like.facts if like is not None else None),
    )


def rows(registry: Registry, slot: int, slots: int) -> Rows:
    """For each point row of the slot's part, its row in the whole registry."""
    own = _of_slot(registry.enterprises, slot, slots)
    return _rows(registry, _places(own, (gateway.enterprise for gateway in registry.gateways)))


def _of_slot(enterprises: Iterable[str], slot: int, slots: int) -> set[str]:
    return {code for code in enterprises if slot_of(code, slots) == slot}


def _rows(registry: Registry, gateways: Rows) -> Rows:
    """The rows of the points behind these gateways."""
    is_own = np.zeros(len(registry.gateways), np.bool_)
    is_own[gateways] = True
    return np.flatnonzero(is_own[registry.points.gateway]).astype(np.int32)


def _places(own: Collection[str], enterprises: Iterable[str]) -> Rows:
    """Where in a column of enterprises its own stand."""
    return np.array([place for place, code in enumerate(enterprises) if code in own], np.int32)


def _new_places(kept: Rows, count: int) -> Rows:
    """For each of ``count`` old places its new one, -1 if it is not kept; one more at the end, so that -1 stays."""
    places = np.full(count + 1, -1, np.int32)
    places[kept] = np.arange(len(kept), dtype=np.int32)
    return places


def _section(section: Section, row: list[int]) -> Section:
    ends: dict[str, Any] = {name: row[getattr(section, name)] for name in _ENDS}
    return replace(section, **ends)


def _holding(holding: Holding, row: list[int]) -> Holding:
    return replace(holding, tanks=tuple(replace(tank, row=row[tank.row]) for tank in holding.tanks))


def _facts(facts: Facts, slot: int, slots: int, like: Facts | None) -> Facts:
    which = _places(_of_slot(set(facts.enterprise), slot, slots), facts.enterprise)
    found = replace(_taken(facts, which), digest="")  # that of the whole is not the part's
    return like if like is not None and _same(like, found) else found


def _same(one: Facts, other: Facts) -> bool:
    return all(
        np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
        if isinstance(left, np.ndarray)
        else left == right
        for left, right in (
            (getattr(one, field.name), getattr(other, field.name))
            for field in fields(Facts)
            if field.name != "digest"
        )
    )


def _taken(columns: C, which: Rows) -> C:
    """These rows of all columns."""
    places = which.tolist()
    taken: dict[str, Any] = {}
    for field in fields(columns):
        column = getattr(columns, field.name)
        if isinstance(column, np.ndarray):
            taken[field.name] = _frozen(column[which])
        elif isinstance(column, tuple):
            taken[field.name] = tuple([column[place] for place in places])
    return replace(columns, **taken)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array
