"""Writes the registry of a load's fleet: a city whose every enterprise has the same gateway, points and limits."""

from pathlib import Path
from typing import Any

import yaml

from simulators.packets import Fleet

INTERVAL = "1min"
"""A point is silent after so long; the fleet reads its points more often."""

MARGIN = 2.0
"""So far inside its limit a value has to be for the limit to be over."""

COLUMNS = (
    "enterprise,gateway,point,kind,engineering_unit,range_low,range_high,"
    "LL,L,H,HH,LL_reset,L_reset,H_reset,HH_reset,on_delay,off_delay,interval"
)


def write(folder: Path, fleet: Fleet) -> None:
    """Write the folder; made if missing. A town per 10 enterprises, a district per 5 towns, someone on duty for
    each; everyone's telephone at the simulated exchange is their id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    towns = (len(fleet.enterprises) - 1) // 10 + 1
    districts = (towns - 1) // 5 + 1
    cells = [f"district-{number}" for number in range(1, districts + 1)]
    cells += [f"town-{number}" for number in range(1, towns + 1)]
    city = {"id": "haizhou", "name": "海州市", "level": "city"}
    _yaml(folder / "registry.yaml", {"time_zone": "Asia/Shanghai", "grid": [city]})
    rows = [f"district-{number},{number} 区,district,haizhou" for number in range(1, districts + 1)]
    rows += [
        f"town-{number},{number} 镇,town,district-{(number - 1) // 5 + 1}" for number in range(1, towns + 1)
    ]
    _csv(folder / "cells.csv", "id,name,level,parent", rows)
    people = {code: f"operator-{code}" for code in fleet.enterprises}
    people |= {cell: f"duty-{cell}" for cell in ("haizhou", *cells)} | {"system": "admin"}
    _yaml(
        folder / "people.yaml",
        [
            {"id": person, "name": person, "contacts": [{"channel": "phone", "address": person}]}
            for person in people.values()
        ],
    )
    _yaml(folder / "duty.yaml", [{"place": place, "person": person} for place, person in people.items()])
    _yaml(
        folder / "enterprises.yaml",
        [
            {
                "code": code,
                "name": f"第{number}厂",
                "cell": f"town-{(number - 1) // 10 + 1}",
                "gateways": [fleet.gateway],
            }
            for number, code in enumerate(fleet.enterprises, 1)
        ],
    )
    limits = fleet.limits
    levels = (limits.LL, limits.L, limits.H, limits.HH)
    resets = (limits.LL + MARGIN, limits.L + MARGIN, limits.H - MARGIN, limits.HH - MARGIN)
    judged = ",".join(f"{value:g}" for value in (*levels, *resets))
    delays = f"{limits.on_delay // 1000}ms,{limits.off_delay // 1000}ms"
    _csv(
        folder / "points.csv",
        COLUMNS,
        [
            f"{code},{fleet.gateway},{point},temperature,°C,0,100,{judged},{delays},{INTERVAL}"
            for code in fleet.enterprises
            for point in fleet.points
        ],
    )


def _yaml(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), "utf-8")


def _csv(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join((header, *rows, "")), "utf-8")
