"""Writes the registry that a scenario needs, as its users would write it: a folder of YAML and CSV."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from simulators.points import GROUP, Point, credit_codes
from simulators.scenario import CELLS, Scenario, copies, villages

GRID = {
    "id": "haizhou",
    "name": "海州市",
    "level": "city",
    "children": [
        {
            "id": district,
            "name": district_name,
            "level": "district",
            "children": [
                {
                    "id": town,
                    "name": town_name,
                    "level": "town",
                    "children": [{"id": village, "name": village_name, "level": "village"}],
                }
            ],
        }
        for district, district_name, town, town_name, village, village_name in (
            ("donghai", "东海区", "gangkou", "港口镇", "gangdong", "港东村"),
            ("beishan", "北山区", "shitan", "石炭镇", "jingkou", "井口村"),
        )
    ],
}


def operator(enterprise: str) -> str:
    """The person who answers for an enterprise, by its id in the scenario."""
    return f"{enterprise}-operator"


def duty(cell: str) -> str:
    """The person who answers for a cell."""
    return f"{cell}-duty"


def write(folder: Path, scenario: Scenario, points: Sequence[Point]) -> None:
    """Write the folder anew. Everyone's telephone at the simulated exchange is their id."""
    folder.mkdir(parents=True, exist_ok=True)
    codes = credit_codes(scenario)
    further = villages(scenario.villages)
    _yaml(folder / "registry.yaml", {"time_zone": "Asia/Shanghai", "grid": [GRID]})
    (folder / "cells.csv").unlink(missing_ok=True)
    if further:
        rows = [
            {"id": v, "name": f"{number}号社区", "level": "village", "parent": "gangkou"}
            for number, v in enumerate(further, 1)
        ]
        _csv(folder / "cells.csv", rows)
    places = {code: operator(id) for id, code in codes.items()}
    places |= {cell: duty(cell) for cell in (*CELLS, *further)}
    people = [
        {"id": person, "name": person, "contacts": [{"channel": "phone", "address": person}]}
        for person in (*places.values(), "admin")
    ]
    _yaml(folder / "people.yaml", people)
    _yaml(
        folder / "duty.yaml",
        [{"place": place, "person": person} for place, person in {**places, "system": "admin"}.items()],
    )
    _yaml(folder / "enterprises.yaml", _enterprises(scenario, codes, points))
    _csv(
        folder / "points.csv",
        [{c: text for c, text in point.columns.items() if c not in GROUP} for point in points],
    )
    for name, records in _records(scenario, codes).items():
        _csv(folder / f"{name}.csv", records)


def _records(scenario: Scenario, codes: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    """The rows of the registry's other files, by file; each copy of an enterprise has its own."""
    files: dict[str, list[dict[str, str]]] = {}
    for enterprise in scenario.enterprises:
        for name, records in enterprise.records.items():
            rows = files.setdefault(name, [])
            rows += [{"enterprise": codes[id], **row} for id in copies(enterprise) for row in records]
    return files


def _enterprises(scenario: Scenario, codes: dict[str, str], points: Sequence[Point]) -> list[dict[str, Any]]:
    groups: dict[str, dict[str, dict[str, str]]] = {}
    for point in points:
        if group := point.columns.get("group"):
            settings = {key: point.columns[f"group_{key}"] for key in ("tolerance", "delay")}
            groups.setdefault(point.enterprise, {})[group] = {"id": group, **settings}
    return [
        {
            "code": codes[id],
            "name": enterprise.name.replace("{n}", str(number)),
            "cell": enterprise.cells[number - 1],
            "gateways": list(enterprise.gateways),
            "units": [
                {"id": unit, "name": plant.title.replace("{unit}", unit)}
                for plant in enterprise.plants
                for unit in plant.units
            ],
            "groups": list(groups.get(id, {}).values()),
        }
        for enterprise in scenario.enterprises
        for number, id in enumerate(copies(enterprise), 1)
    ]


def _yaml(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), "utf-8")


def _csv(path: Path, rows: Iterable[dict[str, str]]) -> None:
    rows = list(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)))
        writer.writeheader()
        writer.writerows(rows)
