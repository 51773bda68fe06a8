"""What the dashboards are shown in tests: two districts, readings of their plants, and alerts that the desk made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sqlalchemy import Engine

from alerting.desk import Desk, note_sources
from dashboards import access
from dashboards.jurisdictions import SYSTEM, Jurisdiction, jurisdictions
from history.chunk import chunk
from history.influx import InfluxHome
from history.influx_access import Access
from history.influx_rollup import BY, again
from history.influx_setup import Days, cells, set_up
from ingest.readings import BAD, GOOD, UNCERTAIN, Readings, Round
from registry.clock import HOUR, MINUTE, SECOND, SystemClock
from registry.compile import compile_source
from registry.exchange import import_folder
from registry.model import Registry
from registry.store import RegistryStore
from streams.finding import Finding, Phase, Tier, finding_id
from tests.build import code

CHEMICALS, GAS, MINE, NEIGHBOUR, BARE = (code(number) for number in range(1, 6))
"""Three plants of Donghai, one of Beishan; and of Donghai another mine, which has the name of the first and hardly an
instrument. Nanshan has no enterprise."""

SECRETS = ("13900001234", "0532-secret-note")
"""A person's number, and a note with another: never to be read by Grafana."""

POINTS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    CHEMICALS: (
        ("TI-1101", "temperature", "R1"),
        ("PI-1101", "pressure", "R1"),
        ("GD-1", "combustible_gas", ""),
    ),
    GAS: (
        ("FI-in", "flow", ""),
        ("FI-out", "flow", ""),
        ("PI-1", "pressure", ""),
        ("GD-1", "combustible_gas", ""),
        ("XV-1", "valve", ""),
    ),
    MINE: (
        ("CH4-1", "methane", "face"),
        ("CH4-2", "methane", "face"),
        ("V-1", "air_velocity", "face"),
        ("CO-1", "toxic_gas", "face"),
        ("D-1", "dust", ""),
        ("T-1", "temperature", ""),
        ("DP-1", "air_pressure", ""),
        ("FAN-1", "fan", ""),
        ("P-1", "people_count", ""),
    ),
    NEIGHBOUR: (("TI-9", "temperature", "R9"),),
    BARE: (("CH4-9", "methane", ""),),
}
"""Of each enterprise: point, kind, production unit."""


@dataclass(frozen=True)
class World:
    """now: µs; whom: the jurisdictions; secrets: the folder of their passwords and tokens."""

    now: int
    registry: Registry
    database: Engine
    influx: Access
    whom: Mapping[str, Jurisdiction]
    secrets: Path


def build(database: Engine, influx: Access, folder: Path) -> World:
    """Fill a database that has its tables, and an organisation of InfluxDB."""
    now = SystemClock().now()
    store = RegistryStore(database)
    write_registry(folder / "registry")
    import_folder(store, folder / "registry", who="test", why="test", now=now)
    registry = compile_source(store.load())
    whom = {one.id: one for one in (*jurisdictions(registry, influx.level), SYSTEM)}
    access.grant(database, list(whom.values()), folder / "grafana")
    list(set_up(influx, cells(registry, influx.level), Days(0, 0, 0), folder / "grafana"))
    write_readings(registry, influx, folder, now)
    write_alerts(Desk(database, registry), now)
    note_sources(database, {"readings/0": now, "compound/0": now - SECOND})
    return World(now, registry, database, influx, whom, folder / "grafana")


# ---- who exists ------------------------------------------------------------------------------------


def write_registry(folder: Path) -> None:
    folder.mkdir()

    def cell(id: str, name: str, level: str, *children: dict[str, Any]) -> dict[str, Any]:
        return {"id": id, "name": name, "level": level, "children": list(children)}

    grid = cell(
        "haizhou",
        "海州市",
        "city",
        cell("donghai", "东海区", "district", cell("gangkou", "港口镇", "town")),
        cell("beishan", "北山区", "district", cell("beigang", "港口镇", "town")),
        cell("nanshan", "南山区", "district"),
    )
    slow = {"confirm_within": "2h"}
    quick = {"confirm_within": "3min", "action_within": "5min", "again_after": "4min"}
    named = {
        CHEMICALS: "安海化工",
        GAS: "东海燃气",
        MINE: "港口煤矿",
        NEIGHBOUR: "北山化工",
        BARE: "港口煤矿",
    }
    places = {CHEMICALS: "gangkou", GAS: "donghai", MINE: "gangkou", NEIGHBOUR: "beishan", BARE: "gangkou"}
    people = {"li": "李明", "wang": "王芳"}
    files: dict[str, Any] = {
        "registry.yaml": {"grid": [grid], "escalation": {"I": slow, "III": quick}},
        "people.yaml": [
            {"id": id, "name": name, "contacts": [{"channel": "phone", "address": SECRETS[0]}]}
            for id, name in people.items()
        ],
        "duty.yaml": [{"place": place, "person": "li"} for place in (*named, "donghai", "beishan", "system")],
        "enterprises.yaml": [
            {
                "code": code,
                "name": name,
                "cell": places[code],
                "gateways": ["gw1"],
                "units": [
                    {"id": unit, "name": f"装置 {unit}"}
                    for unit in sorted({u for *_, u in POINTS[code] if u})
                ],
            }
            for code, name in named.items()
        ],
    }
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    rows = [
        f"{code},gw1,{point},{kind} {point},{kind},1,{unit},0,1000,200,300"
        for code, points in POINTS.items()
        for point, kind, unit in points
    ]
    head = "enterprise,gateway,point,name,kind,engineering_unit,unit,range_low,range_high,H,HH"
    (folder / "points.csv").write_text("\n".join([head, *rows, ""]), "utf-8")
    (folder / "pipelines.csv").write_text(
        f"enterprise,id,name,flow_in,flow_out,length,wave_speed\n{GAS},S1,一号管段,FI-in,FI-out,12000,1000\n",
        "utf-8",
    )


# ---- what was measured -----------------------------------------------------------------------------


def write_readings(registry: Registry, influx: Access, folder: Path, now: int) -> None:
    """Of every point a value each 30 s for three hours, some of them uncertain or bad, and their roll-ups."""
    count = len(registry.points)
    begin = now - 3 * HOUR
    times = np.arange(begin, now, 30 * SECOND, dtype=np.int64)
    row = np.tile(np.arange(count, dtype=np.int32), len(times))
    time = np.repeat(times, count)
    value = 100 + 20 * np.sin(time / HOUR) + row
    quality = np.full(len(row), GOOD, np.uint8)
    quality[::50], quality[7::90] = UNCERTAIN, BAD
    value[quality == BAD] = np.nan
    home = InfluxHome(influx, folder, SystemClock())
    home.append(chunk(registry, [(1, Round(now, True, readings=Readings(row, time, value, quality)))]))
    home.close()
    with influx.client(60) as client:
        for cell in cells(registry, influx.level):
            if cell == "nanshan":
                continue
            for roll_up in BY:
                flux = again(influx, cell, roll_up, begin // HOUR * HOUR, now // HOUR * HOUR)
                written = client.query_api().query(flux)
                assert any(record.get_value() for table in written for record in table.records), cell


# ---- what the desk made of it ----------------------------------------------------------------------


def finding(
    enterprise: str,
    subject: str,
    since: int,
    phase: Phase = Phase.BEGUN,
    seq: int = 1,
    *,
    time: int = 0,
    rule: str = "limit.high",
    tier: Tier | None = Tier.III,
    **more: Any,
) -> Finding:
    given = {"level": "HH", "value": 312.5, "limit": 300.0, "unit": "1"} | more
    return Finding(
        id=finding_id(rule, enterprise, subject, since),
        seq=seq,
        rule=rule,
        enterprise=enterprise,
        subject=subject,
        phase=phase,
        since=since,
        time=time or since,
        arrival=time or since,
        tier=tier,
        **given,
    )


def write_alerts(desk: Desk, now: int) -> None:
    """Findings in the order of their arrival, to a desk that turns each time one comes, and once more now."""
    events = sorted(told(now), key=lambda one: one.arrival)
    answered = now - 9 * MINUTE
    before = [one for one in events if one.arrival < answered]
    for number, one in enumerate(before, 1):
        desk.round([one], number, one.arrival)
    for point in ("LATE", "ACTED"):
        desk.confirm(told_of(point, now), "li", answered, SECRETS[1])
    for point in ("LASTING", "OVER"):
        desk.act(told_of(point, now), "li", answered, SECRETS[1])
    for enterprise, (_, tier_two) in STORIES.items():
        desk.take_over(
            finding_id("rate", enterprise, tier_two, now - 40 * MINUTE), "wang", answered, SECRETS[1]
        )
    desk.round(events[len(before) :], len(events), now - 2 * MINUTE)
    desk.confirm(told_of("LATE", now), "li", now - MINUTE, SECRETS[1])
    desk.act(told_of("ACTED", now), "li", now - MINUTE, SECRETS[1])
    desk.round([], len(events) + 1, now)


def told_of(point: str, now: int) -> str:
    """The alert of a point that missed its deadline to confirm, half an hour ago.

    LATE was then confirmed, missed the one to act four minutes ago, and was confirmed once more; ACTED too, and was
    acted. LASTING was acted, and was not over five minutes ago; OVER too, and was soon after. WORSE got worse.
    """
    return finding_id("limit.high", CHEMICALS, f"point:{point}", now - 30 * MINUTE)


STORIES = {
    CHEMICALS: ("point:TI-1101", "point:GD-1"),
    GAS: ("point:PI-1", "point:GD-1"),
    MINE: ("point:CH4-1", "point:CO-1"),
    NEIGHBOUR: ("point:TI-9", "unit:R9"),
}
"""Two subjects of the alerts of each enterprise that has some."""


def told(now: int) -> Iterator[Finding]:
    for enterprise, (first, second) in STORIES.items():
        yield finding(enterprise, first, now - 20 * MINUTE, tier=Tier.I, rule="range")
        yield finding(enterprise, second, now - 40 * MINUTE, tier=Tier.II, rule="rate")
        yield finding(enterprise, first, now - 10 * MINUTE, tier=Tier.III)
        yield finding(enterprise, first, now - 50 * MINUTE, tier=Tier.IV, rule="stuck")
        yield finding(enterprise, second, now - 30 * HOUR, tier=Tier.III)  # it stands
        yield finding(enterprise, second, now - 30 * MINUTE, rule="bad_quality", tier=Tier.IV)
        yield finding(
            enterprise,
            second,
            now - 30 * MINUTE,
            Phase.UNKNOWN,
            2,
            time=now - 29 * MINUTE,
            rule="bad_quality",
            tier=Tier.IV,
        )
        yield finding(enterprise, "gateway:gw1", now - HOUR, rule="gateway.offline", tier=Tier.IV)
        yield finding(enterprise, "gateway:gw1", now - HOUR, rule="clock", tier=None)
        yield finding(
            enterprise, "equipment:V-1", now - HOUR, rule="equipment.overdue", tier=None, name="压力容器"
        )
        yield finding(enterprise, first, now - 2 * HOUR, Phase.ENDED, late=True)
    began = now - 30 * MINUTE
    for point in ("LATE", "ACTED", "LASTING", "OVER", "WORSE"):
        yield finding(CHEMICALS, f"point:{point}", began)
    worse = now - 2 * MINUTE
    yield finding(CHEMICALS, "point:OVER", began, Phase.ENDED, 2, time=now - 3 * MINUTE)
    yield finding(CHEMICALS, "point:WORSE", began, Phase.WORSENED, 2, time=worse, tier=Tier.II)
    flood = now // (10 * MINUTE) * 10 * MINUTE - 6 * HOUR
    for number in range(14):
        yield finding(CHEMICALS, f"point:F-{number}", flood + number * 20 * SECOND, rule="rate", tier=Tier.IV)
    for number in range(3):  # it comes and goes within a minute
        since = now - 5 * HOUR + number * 20 * SECOND
        yield finding(CHEMICALS, "point:CHATTER", since, tier=Tier.IV)
        yield finding(
            CHEMICALS, "point:CHATTER", since, Phase.ENDED, 2, time=since + 10 * SECOND, tier=Tier.IV
        )
    yield finding(
        GAS,
        "pipeline:S1",
        now - 25 * MINUTE,
        rule="leak",
        level="confirmed",
        tier=Tier.I,
        evidence=("0.8 m³/h", "1.2 km"),
    )
    why = {"zh": "暴雨中有多家重大危险源", "en": "major hazards in a storm"}
    for cell in ("donghai", "beishan"):
        yield finding("", f"cell:{cell}", now - 35 * MINUTE, rule="compound.storm", tier=Tier.II, why=why)
    yield finding("", "system", now - 15 * MINUTE, rule="system.judge", tier=Tier.II)
