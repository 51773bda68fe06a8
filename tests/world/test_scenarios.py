"""Every scenario through the real processes: what was told of is what docs/scenarios.md says, and no more."""

import re
from pathlib import Path

import pytest

from simulators.score import markdown
from tests.servers import needs_mosquitto
from tests.world.world import SCENARIOS, core, whole

PAGE = Path(__file__).parents[2] / "docs" / "scenarios.md"
NAMES = sorted(path.stem for path in SCENARIOS.glob("*.yaml"))
BIG = {"city-hour", "quiet-month"}
"""Too long for once more through the core."""


def explained(name: str) -> set[str]:
    """What the page says was not as it should be: "missed leak of L1", "false silent of point:TI-1"."""
    return set(re.findall(rf"^- `{name}`: ([^:]+):", PAGE.read_text("utf-8"), re.MULTILINE))


def test_the_page_tells_of_every_scenario() -> None:
    told = set(re.findall(r"^\| `?([a-z-]+)`? \|", PAGE.read_text("utf-8"), re.MULTILINE)) - {"scenario"}
    assert told >= set(NAMES)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.mosquitto
@needs_mosquitto
@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_told_of_as_the_page_says(name: str, tmp_path: Path) -> None:
    with whole(name, tmp_path / "whole") as world:
        world.to_the_end()
        score, same = world.score(), world.same()
    found = {
        f"{d.outcome.replace('_', ' ')} {d.hazard} of {d.unit or d.subject}"
        for d in score.dangers
        if d.outcome != "detected"
    }
    found |= {f"{a.verdict} {a.rule} of {a.subject}" for a in score.alerts if a.verdict in ("early", "false")}
    assert found == explained(name)
    row = markdown([score]).splitlines()[-1]
    assert row in PAGE.read_text("utf-8"), "the table's row is as it was"
    if name not in BIG:
        (tmp_path / "core").mkdir()
        with core(name, tmp_path / "core") as world:
            world.to_the_end()
            assert world.same() == same, "the whole says what its pure core says"


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.mosquitto
@needs_mosquitto
@pytest.mark.parametrize("name", ["toxic-leak", "clock-mad", "power-cut-flood"])
def test_twice_and_with_the_product_killed_it_is_the_same(name: str, tmp_path: Path) -> None:
    with whole(name, tmp_path / "once") as world:
        world.to_the_end()
        once = world.same()
    with whole(name, tmp_path / "again") as world:
        start, lasts = world.city.scenario.start, world.city.scenario.lasts
        for part, point in enumerate(("acknowledged", "stepped", "judged", "acknowledged", "judged"), 1):
            world.simulation.until(start + lasts * part // 6)
            world.kill("serving" if part == 3 else "judge", at=point)
        world.to_the_end()
        assert world.same() == once
