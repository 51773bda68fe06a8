"""The same scenario gives the same alerts on both runtimes: the core alone, and a cluster of real roles and servers."""

from pathlib import Path

import pytest

from deploy.dev.services import Kafka, Postgres
from registry.clock import SECOND
from tests.servers import needs_mosquitto
from tests.world.world import SCENARIOS, city, clustered, core, expected

pytestmark = [pytest.mark.kafka, pytest.mark.postgresql, pytest.mark.mosquitto, needs_mosquitto]

SHORT = {"mine-fan-stop": "10:16", "power-cut-flood": "18:35", "reactor-unanswered": "10:09"}
"""Until which time these are told in `make test`: alerts are raised by limits, trends and compound rules, and climb."""


@pytest.mark.parametrize("name", SHORT)
def test_the_same_alerts_on_a_cluster_so_far(
    name: str, tmp_path: Path, kafka: Kafka, postgres: Postgres
) -> None:
    (tmp_path / "core").mkdir()
    with core(name, tmp_path / "core") as world:
        world.until(SHORT[name])
        so_far = world.same()
    assert so_far
    with clustered(name, tmp_path / "cluster", kafka, postgres) as world:
        world.until(SHORT[name])
        assert world.same() == so_far


GATHERED = 5.0
"""Seconds between two deliveries of the network in what follows: a moment in a cluster costs twenty times what it costs
the core. Fewer than any point is silent for."""

EXACT = {"city-hour"}
"""Here detectors chatter, so that it matters to what rings when into which rounds readings are cut: nothing is held."""

DAY = 86_400 * SECOND


@pytest.mark.long
@pytest.mark.timeout(7200)  # a quiet month is 43,200 minutes
@pytest.mark.parametrize("name", sorted(path.stem for path in SCENARIOS.glob("*.yaml")))
def test_the_same_alerts_on_a_cluster(name: str, tmp_path: Path, kafka: Kafka, postgres: Postgres) -> None:
    told = city(name).scenario
    gathered = GATHERED if told.step < GATHERED * SECOND and name not in EXACT else 0.0
    slots = 1 if told.lasts > DAY else 3  # each second is a mark in each slot
    with (
        clustered(name, tmp_path / "cluster", kafka, postgres, slots=slots) as world,
        world.gathering(gathered),
    ):
        world.to_the_end()
        assert world.same() == expected(name, gathered)
