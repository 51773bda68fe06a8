"""A real mine's methane through the real processes: the alerts must be those that plain lines find in the file."""

import csv
from pathlib import Path

import pytest

from fenghuo.rehearsal import Rehearsal
from registry.clock import MINUTE, SECOND
from simulators import recording
from streams.finding import Tier
from tests.servers import needs_mosquitto

MINE = Path(__file__).parent / "data" / "mine"
RECORDING = Path(__file__).parents[2] / "shared" / "data" / "longwall_methane.csv"

pytestmark = [
    pytest.mark.mosquitto,
    needs_mosquitto,
    pytest.mark.skipif(
        not RECORDING.exists(), reason="the recording is not part of the project and not here"
    ),
]

Episode = tuple[str, int, int, Tier]  # point, begun, ended (0: never), worst tier


def expected(rows: list[dict[str, str]], start: int) -> tuple[list[Episode], dict[str, int]]:
    """AQ 1029 by hand: alarm at >= 1.0 (IV), power cut at >= 1.5 (II), both over below 1.0;
    an episode that begins within 10 minutes of the end of the last one is the same alert."""
    episodes: list[Episode] = []
    rises = {"1.0": 0, "1.5": 0}
    for column, point in (("MM31_methane_pct", "MM31"), ("MM116_methane_pct", "MM116")):
        found: list[list[int]] = []
        active, before = False, float(rows[0][column])
        for row in rows:
            time, value = start + int(row["second"]) * SECOND, float(row[column])
            if point == "MM116":
                rises["1.0"] += before < 1.0 <= value
                rises["1.5"] += before < 1.5 <= value
            if not active and value >= 1.0:
                active = True
                if found and time - found[-1][1] <= 10 * MINUTE:
                    found[-1][1] = 0
                else:
                    found.append([time, 0, Tier.IV])
            if active and value >= 1.5:
                found[-1][2] = Tier.II
            if active and value < 1.0:
                active = False
                found[-1][1] = time
            before = value
        episodes += [(point, begun, ended, Tier(tier)) for begun, ended, tier in found]
    return sorted(episodes, key=lambda episode: (episode[1], episode[0])), rises


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1500, id="first-half-day"),
        pytest.param(None, id="all", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_alerts_equal_the_episodes_in_the_file(
    tmp_path: Path, count: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = recording.read_map(MINE / "map.yaml")
    batches = list(recording.read(RECORDING, columns))[:count]
    with RECORDING.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:count]
    start = batches[0][0]

    with Rehearsal(tmp_path, MINE / "registry", start) as mine:
        for time, values in batches:
            if time > mine.now:
                mine.step(time)
            mine.publish(columns.enterprise, columns.gateway, time, values)
            mine.settle()
        alerts = [
            (a.subject.removeprefix("point:"), a.raised, a.ended, a.tier)
            for a in mine.alerts()
            if a.rule == "limit.high" and a.subject in ("point:MM31", "point:MM116")
        ]

    episodes, rises = expected(rows, start)
    with capsys.disabled():
        print(
            f"\n{len(batches)} rows: MM116 rises through 1.0 {rises['1.0']}, through 1.5 {rises['1.5']}; ",
            end="",
        )
        print(f"{len(episodes)} alerts expected, {len(alerts)} raised")
    assert rises["1.0"] > 0
    assert episodes
    if count is None:
        assert rises == {"1.0": 139, "1.5": 20}
    assert alerts == episodes
