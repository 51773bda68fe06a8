"""Registries made in memory, for tests and benches that need one quickly."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from registry import credit
from registry.clock import MINUTE, SECOND
from registry.model import (
    FOREVER,
    LEVELS,
    Cell,
    Contact,
    Duty,
    Enterprise,
    Escalation,
    Facts,
    Gateway,
    Group,
    Person,
    Points,
    Registry,
)
from streams.finding import Tier
from streams.rulebook import Rulebook, Template

NAN = float("nan")
Four = int | Mapping[str, int]
"""One delay for all four limits, or by limit: {"H": 5 * SECOND}."""


@dataclass(frozen=True, kw_only=True)
class PointSpec:
    """One point. Limits and resets are NaN and times 0 (µs) where there is no such rule.

    A reset left out is the limit itself.
    """

    id: str
    gateway: str = "gw1"
    name: str = ""
    kind: str = "temperature"
    engineering_unit: str = "°C"
    unit: str = ""
    place: str = ""
    video: str = ""
    clause: str = ""
    range_low: float = NAN
    range_high: float = NAN
    LL: float = NAN
    L: float = NAN
    H: float = NAN
    HH: float = NAN
    LL_reset: float = NAN
    L_reset: float = NAN
    H_reset: float = NAN
    HH_reset: float = NAN
    on_delay: Four = 0
    off_delay: Four = 0
    interval: int = 0
    rate: float = NAN
    rate_over: int = 0
    stuck_after: int = 0
    stuck_within: float = 0.0
    alarm_state: float = NAN
    state_delay: int = 0
    ahead: int = 0
    ahead_over: int = 0
    group: str = ""
    template: str = ""


def code(number: int) -> str:
    """A valid credit code, another for each number 0–9999."""
    return credit.complete(f"91370200MA{number:04d}XX0")


ESCALATION = {
    "I": Escalation(5 * MINUTE, 30 * MINUTE, 30 * MINUTE, "district", "city"),
    "II": Escalation(5 * MINUTE, 30 * MINUTE, 30 * MINUTE, "district", "city"),
    "III": Escalation(5 * MINUTE, 30 * MINUTE, 30 * MINUTE, "district", "district"),
    "IV": Escalation(5 * MINUTE, 30 * MINUTE, 30 * MINUTE, "", ""),
}

ALWAYS_IV = (
    *("clock", "gateway.offline", "silent", "bad_quality", "range", "rate", "stuck", "disagreement"),
    *("state", "time_to_limit", "suspected", "chemical.overstored"),
)
GASES = ("combustible_gas", "methane", "toxic_gas")
RULEBOOK = Rulebook(
    tiers={
        **{"LL": Tier.III, "L": Tier.IV, "H": Tier.IV, "HH": Tier.III, "confirmed": Tier.I},
        **dict.fromkeys(ALWAYS_IV, Tier.IV),
    },
    templates={gas: Template(name=gas, kind=gas, tiers={"HH": Tier.II}) for gas in GASES},
)
"""Default tiers (design section 7); templates that give nothing."""

CELLS = (
    Cell("city", "海州市", "city", ""),
    Cell("district-1", "东海区", "district", "city"),
    Cell("town-1", "港口镇", "town", "district-1"),
    Cell("village-1", "港东村", "village", "town-1"),
)
"""city → district-1 → town-1 → village-1."""


def make_registry(
    points: Sequence[PointSpec] | Mapping[str, Sequence[PointSpec]],
    *,
    groups: Iterable[Group] = (),
    cells: Iterable[Cell] = CELLS,
    cell_of: Mapping[str, str] | None = None,
    duty: Iterable[Duty] | None = None,
    people: Iterable[Person] | None = None,
    escalation: Mapping[str, Escalation] = ESCALATION,
    time_zone: str = "Asia/Shanghai",
    version: str = "test-1",
) -> Registry:
    """A registry of one enterprise ``code(1)`` with these points, or of several by credit code.

    An enterprise lies in ``cell_of[code]``, else in the last of the cells. People and duty, if not given:
    a person "operator-CODE" for each enterprise, "duty-CELL" for each cell and "admin" for the system,
    each on duty round the clock, with a contact on channel "phone" whose address is the person's id.
    """
    by_code = points if isinstance(points, Mapping) else {code(1): points}
    cells = tuple(cells)
    cell_of = cell_of or {}
    enterprises = {}
    for number, (enterprise, specs) in enumerate(by_code.items(), 1):
        units = tuple((unit, f"装置 {unit}") for unit in sorted({s.unit for s in specs if s.unit}))
        enterprises[enterprise] = Enterprise(
            enterprise, f"企业 {number}", cell_of.get(enterprise, cells[-1].id), units
        )
    gateways = {
        key: index
        for index, key in enumerate(
            dict.fromkeys(
                (enterprise, spec.gateway) for enterprise, specs in by_code.items() for spec in specs
            )
        )
    }
    groups = tuple(groups)
    group_index = {(group.enterprise, group.id): index for index, group in enumerate(groups)}
    rows = sorted(
        (
            (gateways[enterprise, spec.gateway], enterprise, spec)
            for enterprise, specs in by_code.items()
            for spec in specs
        ),
        key=lambda row: row[0],
    )
    specs = [spec for _, _, spec in rows]
    if people is None:
        people = [
            *(_person(f"operator-{enterprise}", f"{e.name} 值班员") for enterprise, e in enterprises.items()),
            *(_person(f"duty-{cell.id}", f"{cell.name} 值班员") for cell in cells),
            _person("admin", "系统管理员"),
        ]
        if duty is None:
            duty = [
                *(Duty(enterprise, f"operator-{enterprise}") for enterprise in enterprises),
                *(Duty(cell.id, f"duty-{cell.id}") for cell in cells),
                Duty("system", "admin"),
            ]
    return Registry(
        version=version,
        time_zone=time_zone,
        cells={cell.id: cell for cell in cells},
        enterprises=enterprises,
        gateways=tuple(Gateway(enterprise, gateway) for enterprise, gateway in gateways),
        points=Points(
            id=tuple(s.id for s in specs),
            name=tuple(s.name or s.id for s in specs),
            kind=tuple(s.kind for s in specs),
            engineering_unit=tuple(s.engineering_unit for s in specs),
            unit=tuple(s.unit for s in specs),
            place=tuple(s.place for s in specs),
            video=tuple(s.video for s in specs),
            clause=tuple(s.clause for s in specs),
            template=tuple(s.template for s in specs),
            gateway=np.array([gateway for gateway, _, _ in rows], np.int32),
            range_low=np.array([s.range_low for s in specs], np.float64),
            range_high=np.array([s.range_high for s in specs], np.float64),
            limit=_four([[s.LL, s.L, s.H, s.HH] for s in specs], np.float64),
            reset=_four([_resets(s) for s in specs], np.float64),
            on_delay=_four([_delays(s.on_delay) for s in specs], np.int64),
            off_delay=_four([_delays(s.off_delay) for s in specs], np.int64),
            interval=np.array([s.interval for s in specs], np.int64),
            rate=np.array([s.rate for s in specs], np.float64),
            rate_over=np.array([s.rate_over for s in specs], np.int64),
            stuck_after=np.array([s.stuck_after for s in specs], np.int64),
            stuck_within=np.array([s.stuck_within for s in specs], np.float64),
            alarm_state=np.array([s.alarm_state for s in specs], np.float64),
            state_delay=np.array([s.state_delay for s in specs], np.int64),
            ahead=np.array([s.ahead for s in specs], np.int64),
            ahead_over=np.array([s.ahead_over for s in specs], np.int64),
            group=np.array(
                [group_index[enterprise, s.group] if s.group else -1 for _, enterprise, s in rows], np.int32
            ),
        ),
        groups=groups,
        people={person.id: person for person in people},
        duty=tuple(duty or ()),
        escalation=dict(escalation),
    )


def city_registry(enterprises: int = 503, points: int = 200, *, version: str = "city-1") -> Registry:
    """A whole city: a district per 50 enterprises, a town per 10, each enterprise one gateway "gw1".

    Every point "P-0001" … has LL 10, L 20, H 80, HH 90 (resets 12, 22, 78, 88), on-delay 2 s,
    off-delay 5 s, a range of 0–100 and an interval of 10 s.
    """
    specs = [
        PointSpec(
            id=f"P-{number:04d}",
            range_low=0.0,
            range_high=100.0,
            LL=10.0,
            L=20.0,
            H=80.0,
            HH=90.0,
            LL_reset=12.0,
            L_reset=22.0,
            H_reset=78.0,
            HH_reset=88.0,
            on_delay=2 * SECOND,
            off_delay=5 * SECOND,
            interval=10 * SECOND,
        )
        for number in range(1, points + 1)
    ]
    codes = [code(number) for number in range(1, enterprises + 1)]
    towns = {enterprise: index // 10 + 1 for index, enterprise in enumerate(codes)}
    last_town = max(towns.values())
    cells = [
        Cell("city", "海州市", "city", ""),
        *(
            Cell(f"district-{district}", f"{district} 区", "district", "city")
            for district in range(1, (last_town - 1) // 5 + 2)
        ),
        *(
            Cell(f"town-{town}", f"{town} 镇", "town", f"district-{(town - 1) // 5 + 1}")
            for town in range(1, last_town + 1)
        ),
    ]
    return make_registry(
        dict.fromkeys(codes, specs),
        cells=cells,
        cell_of={enterprise: f"town-{town}" for enterprise, town in towns.items()},
        version=version,
    )


def _person(id: str, name: str) -> Person:
    return Person(id, name, "zh", (Contact("phone", id),))


def _resets(spec: PointSpec) -> list[float]:
    limits = [getattr(spec, level) for level in LEVELS]
    resets = [getattr(spec, f"{level}_reset") for level in LEVELS]
    return [limit if np.isnan(reset) else reset for limit, reset in zip(limits, resets, strict=True)]


def _delays(delay: Four) -> list[int]:
    return [delay] * 4 if isinstance(delay, int) else [delay.get(level, 0) for level in LEVELS]


def _four(rows: ArrayLike, dtype: type) -> "np.ndarray":
    return np.array(rows, dtype).reshape(-1, 4)


def make_facts(*rows: tuple[str, str, str, int], enterprise: str = "") -> Facts:
    """Facts of one enterprise, ``code(1)`` if none is given, that last: (rule, subject, kind, begins in µs)."""
    rows = tuple(sorted(rows))
    n = len(rows)
    return Facts(
        rule=tuple(row[0] for row in rows),
        enterprise=(enterprise or code(1),) * n,
        subject=tuple(row[1] for row in rows),
        record=tuple(f"record of {row[1]}" for row in rows),
        name=("",) * n,
        kind=tuple(row[2] for row in rows),
        unit=("",) * n,
        level=("",) * n,
        clause=("",) * n,
        engineering_unit=("",) * n,
        begins=np.array([row[3] for row in rows], np.int64),
        ends=np.full(n, FOREVER),
        value=np.full(n, np.nan),
        limit=np.full(n, np.nan),
    )
