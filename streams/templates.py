"""Templates: what a kind of point is judged by, given to the points that leave it out themselves."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.mistakes import Mistake
from registry.model import LEVELS, Points, Registry
from streams.rulebook import Rulebook, Template
from streams.sieve import Index

_PAIRS = (("rate", "rate_over"), ("stuck_after", "stuck_within"), ("ahead", "ahead_over"))
_STATE = ("alarm_state", "state_delay")
_DELAYS = ("on_delay", "off_delay")
_ARRAYS = ("limit", "reset", *_DELAYS, "interval", *sum(_PAIRS, ()), *_STATE)

GIVEN = frozenset(
    {
        *LEVELS,
        *(f"{level}_reset" for level in LEVELS),
        *_DELAYS,
        *(f"{level}_{delay}" for level in LEVELS for delay in _DELAYS),
        "interval",
        *sum(_PAIRS, ()),
        *_STATE,
    }
)
"""The columns of points.csv that a template may give."""


def effective(registry: Registry, rulebook: Rulebook) -> Registry:
    """The registry as the engine judges it: what its points leave out is given by their templates.

    A point's own word stands. What goes together is given together: limits, their resets and their clause only to
    a point that has no limit at all; rate and rate_over; stuck_after and stuck_within; ahead and ahead_over;
    alarm_state and state_delay; on-delays and off-delays each to a point that has none. What is measured in the
    engineering unit is given only where that is the template's. A template that the rulebook does not have for
    their kind counts as none: see strangers. The arrays of the registry stay as they are.
    """
    points = registry.points
    if any(points.template):
        known = {(template.name, template.kind) for template in rulebook.templates.values()}
        pairs = zip(points.template, points.kind, strict=True)
        named = tuple(name if (name, kind) in known else "" for name, kind in pairs)
        registry = replace(registry, points=(points := replace(points, template=named)))
    giving = {name: template for name, template in rulebook.templates.items() if template.given}
    rows: dict[str, list[int]] = {name: [] for name in giving}
    for row, name in enumerate(map(_template, points.template, points.kind)):
        if name in rows:
            rows[name].append(row)
    if not any(rows.values()):
        return registry
    arrays = {name: getattr(points, name).copy() for name in _ARRAYS}
    clause = list(points.clause)
    for name, template in giving.items():
        if rows[name]:
            _give(points, np.array(rows[name], np.intp), template, arrays, clause)
    for array in arrays.values():
        array.setflags(write=False)
    return replace(registry, points=replace(points, **arrays, clause=tuple(clause)))


def strangers(registry: Registry, rulebook: Rulebook) -> list[Mistake]:
    """A mistake for each template that points name and the rulebook does not have for their kind: such points are
    judged as others of their kind."""
    points = registry.points
    first: dict[tuple[str, str], int] = {}
    for row, pair in enumerate(zip(points.template, points.kind, strict=True)):
        first.setdefault(pair, row)
    found = []
    for (name, kind), row in first.items():
        template = rulebook.templates.get(name)
        if not name or (template is not None and template.kind == kind):
            continue
        of = f"point {registry.gateways[points.gateway[row]].enterprise}/{points.id[row]}"
        there = ", ".join(sorted(t.name for t in rulebook.templates.values() if t.kind == kind)) or "none"
        problem = f"is {name!r}, which the rulebook does not have for {kind}"
        found.append(Mistake(of, 0, "template", problem, f"one of its templates for {kind}: {there}"))
    return found


def _template(template: str, kind: str) -> str:
    return template or kind


def _give(
    points: Points, rows: Index, template: Template, arrays: Mapping[str, NDArray[Any]], clause: list[str]
) -> None:
    given, unit = template.given, template.engineering_unit
    measured = rows[np.array([points.engineering_unit[row] == unit for row in rows], np.bool_)]
    if any(level in given for level in LEVELS):
        mine = measured[np.isnan(points.limit[measured]).all(axis=1)]
        limits = [given.get(level, np.nan) for level in LEVELS]
        arrays["limit"][mine] = limits
        arrays["reset"][mine] = [
            given.get(f"{level}_reset", limit) for level, limit in zip(LEVELS, limits, strict=True)
        ]
        for row in mine.tolist():
            clause[row] = clause[row] or template.clause
    for delay in _DELAYS:
        own: NDArray[np.int64] = getattr(points, delay)
        mine = rows[(own[rows] == 0).all(axis=1)]
        usual = given.get(delay, 0)
        arrays[delay][mine] = [int(given.get(f"{level}_{delay}", usual)) for level in LEVELS]
    if "interval" in given:
        _fill(arrays, rows[points.interval[rows] == 0], given, ("interval",))
    if "rate" in given:
        _fill(arrays, measured[np.isnan(points.rate[measured])], given, ("rate", "rate_over"))
    if "stuck_after" in given:
        mine = measured if "stuck_within" in given else rows
        _fill(arrays, mine[points.stuck_after[mine] == 0], given, ("stuck_after", "stuck_within"))
    if "ahead" in given:
        _fill(arrays, rows[points.ahead[rows] == 0], given, ("ahead", "ahead_over"))
    if "alarm_state" in given:
        _fill(arrays, rows[np.isnan(points.alarm_state[rows])], given, _STATE)


def _fill(
    arrays: Mapping[str, NDArray[Any]], rows: Index, given: Mapping[str, float], columns: tuple[str, ...]
) -> None:
    for column in columns:
        arrays[column][rows] = given.get(column, 0)
