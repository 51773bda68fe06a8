"""The demo's run: the story of two plants through a whole Fenghuo, step by simulated step.

One alert is confirmed by the plant's operator after three simulated minutes (or by whoever watches);
nobody answers the other, so that it climbs to the city. What must have come of it is checked at the end.
"""

from collections import Counter
from pathlib import Path

import msgspec

from alerting.alert import Alert, Answer, Notice, Role
from fenghuo import status
from fenghuo.rehearsal import Rehearsal
from registry.clock import SECOND
from simulators import demo_story
from streams.finding import Tier

CONFIRM_AFTER = 180 * SECOND
"""When the simulated operator confirms the reactor's alert, if nobody at the keyboard has."""

STEP = 2.0
"""Simulated seconds between two readings of a point."""

LEAP = 8.0
"""Simulated seconds between two readings at most: within the interval that the registry allows."""

SAVED = 300
"""Simulated second by which the reactor is safe again and the operator records what was done."""


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
    """The story, told a step at a time by ``tick``."""

    def __init__(self, folder: Path, registry_folder: Path, start: int) -> None:
        self.rehearsal = Rehearsal(folder, registry_folder, start)
        self.start = start
        self.seconds = 0
        self.published = 0
        self.messages = 0
        self.values: dict[tuple[str, str], dict[str, float]] = {}
        self.alerts: list[Alert] = []
        self.notices: list[Notice] = []
        self.events: list[demo_story.Event] = []
        self._story = demo_story.story(step=STEP)

    @property
    def operator(self) -> str:
        """The person who answers for the reactor's plant."""
        plant = demo_story.CHEMICAL_PLANT[0]
        return next(duty.person for duty in self.rehearsal.registry.duty if duty.place == plant)

    def tick(self, until: float = 0.0) -> None:
        """A few more seconds of the story: what the plants measure, then what falls due.

        On a machine that is behind, the readings up to simulated second ``until`` come less often, as
        devices may send them; so the story keeps its pace.
        """
        before = self.seconds
        seconds, self.values = next(self._story)
        while seconds + STEP <= min(until, before + LEAP):
            seconds, self.values = next(self._story)
        self.seconds = int(seconds)
        time = self.start + self.seconds * SECOND
        if time > self.rehearsal.now:
            self.rehearsal.step(time)
        for (enterprise, gateway), values in self.values.items():
            self.rehearsal.publish(enterprise, gateway, time, values)
            self.messages += 1
            self.published += len(values)
        self.rehearsal.settle()
        self.events += [event for event in demo_story.EVENTS if before < event.at <= seconds]
        self.look()
        self._operate(time)

    def look(self) -> None:
        """Read what there is to show."""
        self.alerts = self.rehearsal.alerts()
        self.notices = [notice for alert in self.alerts for notice in self.rehearsal.notices(alert.id)]

    def confirm(self) -> str:
        """The reactor's operator confirms all that they were asked; returns what came of it."""
        answered = 0
        for alert in self._mine():
            if alert.answer is Answer.UNCONFIRMED and not alert.closed:
                self.rehearsal.answer("confirm", alert.id, self.operator)
                answered += 1
        self.look()
        return f"{answered} alerts confirmed by {self.operator}" if answered else "nothing to confirm"

    def _mine(self) -> list[Alert]:
        return [alert for alert in self.alerts if alert.enterprise == demo_story.CHEMICAL_PLANT[0]]

    def _operate(self, now: int) -> None:
        """The simulated operator: confirms after three minutes, and says what was done once it is."""
        for alert in self._mine():
            if alert.closed:
                continue
            if alert.answer is Answer.UNCONFIRMED and now - alert.raised >= CONFIRM_AFTER:
                self.rehearsal.answer("confirm", alert.id, self.operator)
            elif alert.answer is Answer.CONFIRMED and self.seconds >= SAVED:
                self.rehearsal.answer(
                    "act", alert.id, self.operator, "停止进料，投用应急冷却 / feed stopped, cooled"
                )

    def summary(self, speed: float) -> Summary:
        """Count, and say what is missing of what must have happened."""
        self.rehearsal.settle_notices()
        self.rehearsal.settle_status()
        self.look()
        said = status.read(self.rehearsal.data / "judge.json")
        assert said is not None, "the judge was waited for"
        rings = self.rehearsal.rings()
        expected = {
            "every reading published is judged": said.readings == self.published,
            "no dead letters": not said.dead,
            "an alert of tier III or worse at the reactor is confirmed and acted on": any(
                alert.tier >= Tier.III and alert.answer is Answer.ACTED for alert in self._mine()
            ),
            "the methane alert of tier II is asked of the city, and nobody has answered": any(
                alert.tier >= Tier.II and alert.rung == 4 and alert.answer is Answer.UNCONFIRMED
                for alert in self.alerts
                if alert.enterprise == demo_story.COAL_MINE[0]
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
