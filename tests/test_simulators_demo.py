"""The demo's plants do what the demo shows, at limits that its registry sets."""

from itertools import islice
from pathlib import Path

import pytest

from registry.compile import compile_folder
from registry.model import HH, H
from simulators.demo_story import CHEMICAL_PLANT, COAL_MINE, EVENTS, conditions, story

FOLDER = Path(__file__).parents[1] / "examples" / "demo" / "registry"


def test_its_registry_has_no_mistakes_and_knows_every_point():
    registry = compile_folder(FOLDER)
    for gateway, values in next(story())[1].items():
        index = registry.gateway_index[gateway]
        points = {p for p, g in zip(registry.points.id, registry.points.gateway, strict=True) if g == index}
        assert points == values.keys()
    on_duty = {duty.place for duty in registry.duty}
    for enterprise in registry.enterprises.values():
        assert enterprise.code in on_duty
        assert [cell.level for cell in registry.ancestors(enterprise.cell)] == [
            "village",
            "town",
            "district",
            "city",
        ]
        assert {cell.id for cell in registry.ancestors(enterprise.cell)} <= on_duty


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_reactor_runs_away_and_is_saved_and_methane_stays(seed: int):
    registry = compile_folder(FOLDER)
    told = list(islice(story(seed=seed), 1600))

    def first(gateway: tuple[str, str], point: str, level: int) -> float:
        limit = registry.points.limit[registry.rows[gateway[0]][point], level]
        return next(t for t, values in told if values[gateway][point] >= limit)

    assert 20 < first(CHEMICAL_PLANT, "TI-1101", H) < first(CHEMICAL_PLANT, "TI-1101", HH) < 60
    assert told[-1][1][CHEMICAL_PLANT]["TI-1101"] < 87
    assert 25 < first(COAL_MINE, "MM116", H) < first(COAL_MINE, "MM116", HH) < 120
    assert all(values[COAL_MINE]["MM116"] >= 1.0 for t, values in told if t > 120)


def test_every_value_is_within_its_instruments_range():
    registry = compile_folder(FOLDER)
    for _, by_gateway in islice(story(), 1600):
        for (enterprise, _), values in by_gateway.items():
            for point, value in values.items():
                row = registry.rows[enterprise][point]
                assert registry.points.range_low[row] <= value <= registry.points.range_high[row]


def test_one_seed_is_one_story():
    assert list(islice(story(seed=3), 200)) == list(islice(story(seed=3), 200))


def test_events_are_told_when_they_happen():
    assert conditions(0).cooling == conditions(0).ventilation == 1.0
    for event in EVENTS:
        assert conditions(event.at) != conditions(event.at + 3)
