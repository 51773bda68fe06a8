"""Registry folders written for a test: so many enterprises with so many gas points, and people who answer for them."""

from pathlib import Path

import yaml

from tests.build import code

POINT_COLUMNS = (
    "enterprise,gateway,point,kind,engineering_unit,range_low,range_high,H,H_reset,HH,HH_reset,interval"
)


def write_registry(
    folder: Path, *, enterprises: int = 5, points: int = 4, interval: str = "", confirm_within: str = "5min"
) -> list[str]:
    """Write a registry and return the credit codes. Point P1 ... of each has H 25 (reset 20) and HH 50 (reset 45)."""
    codes = [code(number) for number in range(1, enterprises + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    grid = {"id": "city", "name": "海州市", "level": "city"}
    grid["children"] = [{"id": "east", "name": "东海区", "level": "district"}]
    tier = {"confirm_within": confirm_within, "told_level": "district", "top_level": "city"}
    _write(folder / "registry.yaml", {"grid": [grid], "escalation": {"II": tier}})
    people = ["east-duty", "city-duty", "admin", *(f"operator-{c}" for c in codes)]
    _write(
        folder / "people.yaml",
        [
            {"id": person, "name": person, "contacts": [{"channel": "phone", "address": person}]}
            for person in people
        ],
    )
    places = {"east": "east-duty", "city": "city-duty", "system": "admin"} | {
        c: f"operator-{c}" for c in codes
    }
    _write(folder / "duty.yaml", [{"place": place, "person": person} for place, person in places.items()])
    _write(
        folder / "enterprises.yaml",
        [
            {"code": c, "name": f"第{n}厂", "cell": "east", "gateways": ["gw1"]}
            for n, c in enumerate(codes, 1)
        ],
    )
    rows = [
        f"{c},gw1,P{number},combustible_gas,%LEL,0,100,25,20,50,45,{interval}"
        for c in codes
        for number in range(1, points + 1)
    ]
    (folder / "points.csv").write_text("\n".join([POINT_COLUMNS, *rows, ""]), "utf-8")
    return codes


def _write(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
