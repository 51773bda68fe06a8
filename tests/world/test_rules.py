"""Each compound rule through the running `fenghuo serve`: from records and MQTT readings to the alert and its text.

The stories are the data tests that ship with the rules (examples/rules): here they happen to the real processes.
"""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerting.alert import Alert, Role
from fenghuo import rule_tests
from fenghuo.rehearsal import Rehearsal
from registry.clock import SECOND
from streams.finding import Finding
from streams.rule_test import Case, rings, rounds, run
from tests.servers import needs_mosquitto

SHIPPED = Path(__file__).parents[2] / "examples" / "rules" / "shipped.yaml"
STORIES: dict[str, Any] = yaml.load(SHIPPED.read_text("utf-8"), yaml.BaseLoader)
CASES = {case.name: case for case in rule_tests.read(SHIPPED)}
SHORT = {
    "a vessel falls overdue at midnight while a tank's level says that ammonia is over its permitted quantity",
    "two detectors of one unit confirm each other",
    "gas at level 2 in two enterprises of neighbouring villages",
}
"""The others are long: each starts all processes."""


def write_registry(folder: Path, given: dict[str, Any], case: Case) -> None:
    """The registry of a story as its users would write it, with somebody on duty everywhere."""
    folder.mkdir(parents=True)
    plants = given.get("enterprises") or [{"id": "plant"}]
    codes = dict(zip([plant["id"] for plant in plants], case.configuration.registry.enterprises, strict=True))
    first = next(iter(codes))
    tables: dict[str, list[dict[str, str]]] = {"points": given.get("points", []), **given.get("records", {})}
    units: dict[str, set[str]] = {id: set() for id in codes}
    for stem, rows in tables.items():
        rows = [dict(row) for row in rows]
        for row in rows:
            plant = row.get("enterprise", first)
            if stem != "warnings":
                units[plant] |= {row["unit"]} if row.get("unit") else set()
                row["enterprise"] = codes[plant]
            if stem == "points":
                row["gateway"] = "gw1"
        with (folder / f"{stem}.csv").open("w", encoding="utf-8", newline="") as file:
            columns = dict.fromkeys(column for row in rows for column in row)
            writer = csv.DictWriter(
                file, columns or ["enterprise", "gateway", "point", "kind", "engineering_unit"]
            )
            writer.writeheader()
            writer.writerows(rows)
    cells = case.configuration.registry.cells
    places = [*codes.values(), *cells, "system"]
    contents: dict[str, Any] = {
        "registry": {"grid": rule_tests.GRID},
        "people": [
            {"id": f"at-{p}", "name": p, "contacts": [{"channel": "phone", "address": p}]} for p in places
        ],
        "duty": [{"place": place, "person": f"at-{place}"} for place in places],
        "enterprises": [
            {
                "code": codes[plant["id"]],
                "name": plant["id"],
                "cell": plant.get("cell", "village"),
                "gateways": ["gw1"],
                "units": [{"id": unit, "name": unit} for unit in sorted(units[plant["id"]])],
            }
            for plant in plants
        ],
    }
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")


def test_the_short_stories_are_there() -> None:
    assert CASES.keys() >= SHORT


@pytest.mark.mosquitto
@needs_mosquitto
@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in CASES]
)
def test_a_story_of_the_rules_happens_to_the_real_processes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    story = next(test for test in STORIES["tests"] if test["name"] == name)
    write_registry(tmp_path / "registry", story.get("given") or STORIES["given"], case)
    points = case.configuration.registry.points
    gateways = case.configuration.registry.gateways
    with Rehearsal(tmp_path, tmp_path / "registry", case.start - SECOND) as running:
        for time, values in rounds(case, listens=False):
            running.step(time)
            by_plant: dict[str, dict[str, float]] = {}
            for row, value in values.items():
                of = by_plant.setdefault(gateways[points.gateway[row]].enterprise, {})
                of[points.id[row]] = value
            for plant, sent in by_plant.items():
                running.publish(plant, "gw1", time, sent)
            running.settle()
        running.settle_notices()
        rang = [alert for alert in running.alerts() if alert.enterprise or alert.cell]
        assert_as_expected(case, rang)
        for alert in rang:
            if alert.rule.startswith("compound."):
                asked = [notice for notice in running.notices(alert.id) if notice.role is Role.ASKED]
                assert asked, "somebody was asked"
                why = alert.basis.why["zh"].rstrip("。")
                assert why in asked[-1].text
                assert alert.clause in asked[-1].text
                assert all(
                    ground.subject.partition(":")[2] in asked[-1].text for ground in alert.basis.grounds
                )


def assert_as_expected(case: Case, rang: list[Alert]) -> None:
    """Exactly the alerts of what rings in the pure rules, to which `fenghuo rules test` holds the story: each raised
    when it first rang, and as bad as it came to be."""
    expected: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in run(case):
        if rings(finding):
            expected.setdefault((finding.rule, finding.enterprise, finding.subject), []).append(finding)
    assert {(alert.rule, alert.enterprise, alert.subject) for alert in rang} == expected.keys()
    assert len(rang) == len(expected)
    for alert in rang:
        found = expected[alert.rule, alert.enterprise, alert.subject]
        assert alert.raised == found[0].arrival
        assert alert.tier == max(finding.tier or 0 for finding in found)
        assert alert.level == found[-1].level
