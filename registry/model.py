"""The registry in its frozen, compiled form: what the engines, the desk and the API read."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LL, L, H, HH = 0, 1, 2, 3
"""Columns of a point's four limits."""

LEVELS = ("LL", "L", "H", "HH")

FOREVER = 2**63 - 1
"""A time that never comes, µs."""


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
    template: tuple[str, ...]  # the rulebook's template that judges it, "" for that of its kind
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
    alarm_state: NDArray[
        np.float64
    ]  # [n] the value of a discrete point that is an alarm; NaN if no such rule
    state_delay: NDArray[np.int64]  # [n] how long it must hold
    ahead: NDArray[np.int64]  # [n] told so long before a limit will be reached
    ahead_over: NDArray[np.int64]  # [n] the time over which the slope is taken
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


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a pipeline whose flows should balance. Rows are of the enterprise's own points."""

    enterprise: str
    id: str
    name: str
    flow_in: int  # point row; both flows in the same engineering unit, a quantity an hour
    flow_out: int
    pressure_in: int  # point row, -1 if none; both in the same engineering unit
    pressure_out: int
    line_pack: float  # quantity by which the content grows for each engineering unit of mean pressure
    length: float  # m
    wave_speed: float  # m/s, of a pressure wave in it
    leak: float  # the smallest leak that is told, as a share of the flow
    over: int  # µs, over which the balance is taken


@dataclass(frozen=True, slots=True)
class Tank:
    """How much of a substance a level or weight says there is: tonnes, by linear interpolation.

    value: rising, in the point's engineering unit; mass: t, of the same length (2 or more). So any shape of
    vessel is a table; registry.stock makes it from the geometry.
    """

    row: int  # point row
    value: tuple[float, ...]
    mass: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """A hazardous chemical of a unit whose stock is computed live from its tanks."""

    enterprise: str
    id: str
    name: str
    unit: str  # production unit, "" if none
    cas: str
    permitted: float  # t
    declared: float  # t, of what lies in no tank
    tanks: tuple[Tank, ...]
    clause: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What the registry's records say, each as a stretch of time; n rows, each (rule, enterprise, subject,
    record) once, sorted by these.

    A fact is true from ``begins`` until before ``ends`` (µs, FOREVER if nothing ends it). record: id of the
    record that makes it so, from which the finding's id is minted.
    """

    rule: tuple[str, ...]  # "equipment.overdue", "licence.expired", "permit.hot_work" ...
    enterprise: tuple[str, ...]  # "" where it concerns a whole cell
    subject: tuple[str, ...]  # "equipment:V-101", "cell:haizhou" ...
    record: tuple[str, ...]
    name: tuple[str, ...]  # what people call the subject
    kind: tuple[str, ...]  # of equipment, permit, licence ...; CAS number of a chemical
    unit: tuple[str, ...]  # production unit, "" if none
    level: tuple[str, ...]
    clause: tuple[str, ...]
    engineering_unit: tuple[str, ...]
    begins: NDArray[np.int64]  # [n]
    ends: NDArray[np.int64]  # [n]
    value: NDArray[np.float64]  # [n], NaN if none
    limit: NDArray[np.float64]  # [n], NaN if none
    digest: str = ""  # equal facts have equal ones; "" if it was not worked out

    def __len__(self) -> int:
        return len(self.rule)

    @staticmethod
    def none() -> "Facts":
        times, numbers = np.empty(0, np.int64), np.empty(0, np.float64)
        return Facts((), (), (), (), (), (), (), (), (), (), times, times, numbers, numbers)


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
    sections: tuple[Section, ...] = ()
    holdings: tuple[Holding, ...] = ()
    facts: Facts = field(default_factory=Facts.none)
    edit: str = ""  # who made the newest edit in it, and why: the trace of what it corrects

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
