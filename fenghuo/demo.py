"""The demo's run: the story of two plants through a whole Fenghuo, moment by simulated moment.

One alert is confirmed by the plant's operator after three simulated minutes (or by whoever watches);
nobody answers the other, so that it climbs to the city. What must have come of it is checked at the end.
"""

from collections import Counter
from pathlib import Path

import msgspec

from alerting.alert import Alert, Answer, Notice, Role
from fenghuo import status
from fenghuo.simulation import Simulation, Whole, whole
from registry.clock import SECOND
from simulators import scenario_file
from simulators.city import City
from simulators.instruments import GOOD
from simulators.scenario import Words
from streams.finding import Tier

STORY = Path(__file__).parents[1] / "examples" / "scenarios" / "demo.yaml"
REACTOR, MINE = "chem", "mine"
"""The two enterprises, by their ids in the scenario."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo prints with --json. Latencies are milliseconds of real time."""

    simulated_seconds: int
    speed: float
    messages: int
    readings: int
    findings: int
    dead_letters: int
    alerts: dict[str, int]  # by "tier condition answer", e.g. "II active unconfirmed"
    notices: dict[str, int]  # by role and state, e.g. "asked delivered"
    rings: int
    highest_rung: int
    round_ms: status.Latency
    missing: tuple[str, ...]  # what must have happened and has not


class Demo:
    """The story, told a moment at a time by ``tick``; use in a ``with``."""

    def __init__(self, folder: Path, start: int) -> None:
        story = scenario_file.read(STORY).model_copy(update={"start": start})
        self.city = City(story, STORY.stem)
        self.product: Whole = whole(self.city, folder, STORY.parent / story.registry)
        self.rehearsal = self.product.rehearsal
        self.seconds = 0
        self.published = 0
        self.values: dict[str, dict[str, float]] = {}  # by credit code and point
        self.alerts: list[Alert] = []
        self.notices: list[Notice] = []
        self.events: list[tuple[int, Words]] = []  # (second, what happens)
        self._simulation = Simulation(self.city, self.product)
        self._moments = self._simulation.moments()

    def __enter__(self) -> "Demo":
        self.product.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.product.__exit__(None, None, None)

    @property
    def operator(self) -> str:
        """The person who answers for the reactor's plant."""
        plant = self.city.codes[REACTOR]
        return next(duty.person for duty in self.rehearsal.registry.duty if duty.place == plant)

    def tick(self) -> bool:
        """The next moment of the story, with all that comes of it; False when it is over."""
        moment = next(self._moments, None)
        if moment is None:
            return False
        before, start = self.seconds, self.city.scenario.start
        self.seconds = (moment.time - start) // SECOND
        readout = moment.readout
        for point, value, state in zip(self.city.points, readout.values, readout.state, strict=True):
            self.values.setdefault(point.code, {})[point.id] = float(value)
            self.published += int(state == GOOD)
        self.events += [
            (event.at // SECOND, event.note)
            for event in self.city.scenario.timeline
            if event.note and before < event.at // SECOND <= self.seconds
        ]
        self.look()
        return True

    def look(self) -> None:
        """Read what there is to show."""
        self.alerts = self.rehearsal.alerts()
        self.notices = [notice for alert in self.alerts for notice in self.rehearsal.notices(alert.id)]

    def confirm(self) -> str:
        """The reactor's operator confirms all that they were asked; returns what came of it."""
        answered = 0
        for alert in self._of(REACTOR):
            if alert.answer is Answer.UNCONFIRMED and not alert.closed:
                self.rehearsal.answer("confirm", alert.id, self.operator)
                answered += 1
        self.look()
        return f"{answered} alerts confirmed by {self.operator}" if answered else "nothing to confirm"

    def _of(self, enterprise: str) -> list[Alert]:
        return [alert for alert in self.alerts if alert.enterprise == self.city.codes[enterprise]]

    def summary(self, speed: float) -> Summary:
        """Count, and say what is missing of what must have happened."""
        self.rehearsal.settle_notices()
        self.rehearsal.settle_status()
        self.look()
        said = self.rehearsal.said()
        rings = self.rehearsal.rings()
        expected = {
            "every reading published is judged": said.readings == self.published,
            "no dead letters": not said.dead,
            "an alert of tier III or worse at the reactor is confirmed and acted on": any(
                alert.tier >= Tier.III and alert.answer is Answer.ACTED for alert in self._of(REACTOR)
            ),
            "the methane alert of tier II is asked of the city, and nobody has answered": any(
                alert.tier >= Tier.II and alert.rung == 4 and alert.answer is Answer.UNCONFIRMED
                for alert in self._of(MINE)
            ),
            "operator asked and district told in the same instant": all(
                self._same_instant(alert) for alert in self.alerts if alert.tier >= Tier.III
            ),
            "every notice has rung a phone": {notice.id for notice in self.notices}
            == {ring["id"] for ring in rings},
            "nothing rang twice unmarked": len({ring["id"] for ring in rings})
            == sum(not ring["repeat"] for ring in rings),
        }
        states = Counter(
            f"{alert.tier.name} {'closed' if alert.closed else alert.condition} {alert.answer}"
            for alert in self.alerts
        )
        return Summary(
            simulated_seconds=self.seconds,
            speed=round(speed, 1),
            messages=said.messages,
            readings=said.readings,
            findings=said.findings,
            dead_letters=sum(said.dead.values()),
            alerts=dict(sorted(states.items())),
            notices=dict(sorted(Counter(f"{n.role} {n.state}" for n in self.notices).items())),
            rings=len(rings),
            highest_rung=max((alert.rung for alert in self.alerts), default=0),
            round_ms=said.round_ms,
            missing=tuple(what for what, holds in expected.items() if not holds),
        )

    def _same_instant(self, alert: Alert) -> bool:
        """Whether every step that told someone asked someone at the same moment, and one such there was."""
        told = [n for n in self.notices if n.alert == alert.id and n.role is Role.TOLD]
        asked = {(n.step, n.created) for n in self.notices if n.alert == alert.id and n.role is Role.ASKED}
        return bool(told) and all((notice.step, notice.created) in asked for notice in told)
