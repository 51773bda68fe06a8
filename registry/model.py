"""The registry in its frozen, compiled form: what the engines, the desk and the API read."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LL, L, H, HH = 0, 1, 2, 3
"""Columns of a point's four limits."""

LEVELS = ("LL", "L", "H", "HH")


@dataclass(frozen=True, slots=True)
class Cell:
    """A node of the grid. ``level`` is the configuration's own name of its depth, e.g. "district"."""

    id: str
    name: str
    level: str
    parent: str  # "" for a root


@dataclass(frozen=True, slots=True)
class Enterprise:
    code: str  # unified social credit code, 18 characters (GB 32100)
    name: str
    cell: str
    units: tuple[tuple[str, str], ...] = ()  # (id, name)


@dataclass(frozen=True, slots=True)
class Gateway:
    enterprise: str
    id: str


@dataclass(frozen=True, slots=True)
class Contact:
    channel: str  # name of a channel: "webhook", "phone"
    address: str  # what that channel calls: a URL, a number


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    name: str
    language: str  # "zh" or "en"
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Duty:
    """A person answers for a place: an enterprise (as its operator), a cell (as duty officer), or
    the system itself (as administrator), always or within hours of the registry's calendar day.

    start, end: minutes after local midnight; end may be before start (a night shift);
    both 0 is round the clock. weekdays: 0 is Monday; a night shift belongs to the day it starts on.
    """

    place: str  # credit code, cell id, or "system"
    person: str
    start: int = 0
    end: int = 0
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)


@dataclass(frozen=True, slots=True)
class Escalation:
    """How one tier is called. Times in µs.

    told_level: the grid level whose duty officer is told at t = 0 ("" for nobody).
    top_level: the highest grid level that the ladder climbs to ("" stays in the enterprise).
    """

    confirm_within: int
    action_within: int
    again_after: int  # still active so long after the action (or after the top rung stayed silent): ask again
    told_level: str
    top_level: str


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """All points of the shard, a row each; an enterprise's rows are contiguous, a gateway's within it too.

    n rows; limits are [n, 4] in the order LL, L, H, HH, NaN where there is none.
    Times are µs; 0 means "no such rule".
    """

    id: tuple[str, ...]
    name: tuple[str, ...]
    kind: tuple[str, ...]  # "temperature", "combustible_gas", "toxic_gas", "methane" ...
    engineering_unit: tuple[str, ...]
    unit: tuple[str, ...]  # the production unit that it belongs to, "" if none
    place: tuple[str, ...]
    video: tuple[str, ...]  # link to the live video of the place, "" if none
    clause: tuple[str, ...]  # the clause its limits come from, "" if none
    gateway: NDArray[np.int32]  # [n] index into Registry.gateways
    range_low: NDArray[np.float64]  # [n] physical range, NaN if not given
    range_high: NDArray[np.float64]
    limit: NDArray[np.float64]  # [n, 4]
    reset: NDArray[np.float64]  # [n, 4] the value at which a limit is over: below it for H, above it for L
    on_delay: NDArray[np.int64]  # [n, 4]
    off_delay: NDArray[np.int64]  # [n, 4]
    interval: NDArray[np.int64]  # [n] longest time between two readings before it is silent
    rate: NDArray[np.float64]  # [n] largest change, engineering units a second; NaN if no such rule
    rate_over: NDArray[np.int64]  # [n] the shortest time over which a rate is taken
    stuck_after: NDArray[np.int64]  # [n]
    stuck_within: NDArray[np.float64]  # [n] a change up to this is no change
    group: NDArray[np.int32]  # [n] index into Registry.groups, -1 if none

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True)
class Group:
    """Redundant points that should agree."""

    enterprise: str
    id: str
    tolerance: float
    delay: int  # µs of event time


@dataclass(frozen=True, eq=False)
class Registry:
    """One version of who and what exists. ``version`` is derived from the source: equal sources are equal."""

    version: str
    time_zone: str
    cells: dict[str, Cell]
    enterprises: dict[str, Enterprise]
    gateways: tuple[Gateway, ...]
    points: Points
    groups: tuple[Group, ...]
    people: dict[str, Person]
    duty: tuple[Duty, ...]
    escalation: dict[str, Escalation]  # by tier: "I", "II", "III", "IV"

    @cached_property
    def rows(self) -> dict[str, dict[str, int]]:
        """Point row by enterprise code and point id."""
        rows: dict[str, dict[str, int]] = {code: {} for code in self.enterprises}
        enterprise = [gateway.enterprise for gateway in self.gateways]
        gateways = self.points.gateway.tolist()
        for row, (point, gateway) in enumerate(zip(self.points.id, gateways, strict=True)):
            rows[enterprise[gateway]][point] = row
        return rows

    @cached_property
    def gateway_index(self) -> dict[tuple[str, str], int]:
        """Index of a gateway by enterprise code and gateway id."""
        return {(g.enterprise, g.id): i for i, g in enumerate(self.gateways)}

    def ancestors(self, cell: str) -> tuple[Cell, ...]:
        """The cell itself, then its parents up to the root."""
        chain = []
        while cell:
            chain.append(self.cells[cell])
            cell = self.cells[cell].parent
        return tuple(chain)
