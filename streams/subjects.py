"""Subjects: what the rows of an engine's state stand for, by name, and where they are in another version."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from registry.model import Gateway, Group, Holding, Registry, Section
from streams.sieve import Index

Name = tuple[str, str]
"""Enterprise and id."""


def points(registry: Registry, rows: Iterable[int] | None = None) -> list[Name]:
    """All points, or those of some rows."""
    if rows is not None:
        gateway, id = registry.points.gateway, registry.points.id
        return [(registry.gateways[gateway[row]].enterprise, id[row]) for row in rows]
    gateways = registry.points.gateway.tolist()
    return [
        (registry.gateways[gateway].enterprise, point)
        for gateway, point in zip(gateways, registry.points.id, strict=True)
    ]


def others(registry: Registry) -> dict[str, list[Name]]:
    """All subjects that are no points, by kind."""
    kinds: dict[str, Sequence[Gateway | Group | Section | Holding]] = {
        "gateway": registry.gateways,
        "group": registry.groups,
        "section": registry.sections,
        "holding": registry.holdings,
    }
    return {kind: [(one.enterprise, one.id) for one in all_of_it] for kind, all_of_it in kinds.items()}


def homes(registry: Registry) -> NDArray[np.str_]:
    """Id of every point's gateway."""
    return np.array([gateway.id for gateway in registry.gateways], np.str_)[registry.points.gateway]


def circles(registry: Registry) -> NDArray[np.str_]:
    """Id of every point's group, "" where it has none."""
    return np.array([*(group.id for group in registry.groups), ""], np.str_)[registry.points.group]


def match(old: list[Name], new: list[Name]) -> tuple[Index, Index]:
    """Where what is in both is in the new, and in the old."""
    place = {name: index for index, name in enumerate(old)}
    pairs = [(here, place[name]) for here, name in enumerate(new) if name in place]
    here, there = np.array(pairs, np.intp).reshape(-1, 2).T
    return here, there
