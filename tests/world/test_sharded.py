"""However the core is cut into slots and shards, and whatever of it dies, a scenario gives the same alerts."""

import random
from pathlib import Path

import pytest

from streams.point_shard import Layout
from tests.world.world import SCENARIOS, expected, sharded

SHORT = ("power-cut-flood", "reactor-runaway", "tanker-fire")
TOO_LONG = (
    "city-hour",
    "quiet-month",
)  # in the pure core they tell no more than the others, and take an hour


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=[] if path.stem in SHORT else [pytest.mark.long])
        for path in sorted(SCENARIOS.glob("*.yaml"))
        if path.stem not in TOO_LONG
    ],
)
@pytest.mark.parametrize("slots", [1, 5])
def test_the_same_alerts_however_it_is_cut(name: str, slots: int, tmp_path: Path) -> None:
    fate = random.Random(slots)
    with sharded(name, tmp_path, Layout(slots, 1, "city"), fate) as world:
        world.to_the_end()
        assert world.same() == expected(name)
