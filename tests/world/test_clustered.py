"""The same scenario gives the same alerts on both runtimes: the core alone, and a cluster of real roles and servers."""

from pathlib import Path

import pytest

from deploy.dev.services import Kafka, Postgres
from tests.servers import needs_mosquitto
from tests.world.world import SCENARIOS, clustered, expected

pytestmark = [pytest.mark.kafka, pytest.mark.postgresql, pytest.mark.mosquitto, needs_mosquitto]

SHORT = ("mine-fan-stop", "power-cut-flood", "tanker-fire")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=[] if path.stem in SHORT else [pytest.mark.long])
        for path in sorted(SCENARIOS.glob("*.yaml"))
    ],
)
def test_the_same_alerts_on_a_cluster(name: str, tmp_path: Path, kafka: Kafka, postgres: Postgres) -> None:
    with clustered(name, tmp_path / "cluster", kafka, postgres) as world:
        world.to_the_end()
        assert world.same() == expected(name)
