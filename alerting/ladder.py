"""The ladder: which places an alert is called at, rung by rung, and who is on duty there at a given time."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from alerting.lifecycle import SYSTEM, Policy
from registry.clock import MINUTE
from registry.model import Duty, Escalation, Person, Registry
from streams.finding import Tier

DEFAULT = Escalation(
    confirm_within=5 * MINUTE, action_within=30 * MINUTE, again_after=30 * MINUTE, told_level="", top_level=""
)
"""For a tier of which the registry says nothing."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Ladder:
    """Whom the registry names for an alert. Pure: the time is an argument.

    The registry's checks hold that every level that escalation calls lies above every enterprise.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._zone = ZoneInfo(registry.time_zone)
        self._duty: dict[str, list[Duty]] = {}
        for duty in registry.duty:
            self._duty.setdefault(duty.place, []).append(duty)
        self._moment = lru_cache(maxsize=1)(self._local)
        self._people = lru_cache(maxsize=10_000)(self._on_duty_in)
        self._rungs = lru_cache(maxsize=10_000)(self._places)

    def policy(self, enterprise: str, cell: str, tier: Tier, now: int) -> Policy:
        """How an alert of this enterprise, cell and tier is called at ``now`` (µs)."""
        rule = self.registry.escalation.get(tier.name, DEFAULT)
        places, told = self._rungs(enterprise, cell, tier)
        confirm_within = rule.confirm_within if rule.confirm_within > 0 else DEFAULT.confirm_within
        return Policy(
            confirm_within=confirm_within,
            action_within=max(0, rule.action_within),
            again_after=rule.again_after if rule.again_after > 0 else confirm_within,
            told=told,
            places=places,
            manned=tuple(bool(self.on_duty(place, now)) for place in places),
            reaches=self.reaches,
        )

    def on_duty(self, place: str, now: int) -> tuple[Person, ...]:
        """Who answers for a place (credit code, cell id or "system") at ``now`` (µs), in the rota's order.

        Each once, and only those with a contact; nobody on duty, or no such place, is an empty tuple.
        """
        return self._people(place, *self._moment(now // MINUTE))

    def person(self, id: str) -> Person | None:
        """The person; None if the registry does not have them."""
        return self.registry.people.get(id)

    def reaches(self, id: str) -> bool:
        """Whether the registry has the person, and a contact of theirs."""
        person = self.person(id)
        return person is not None and bool(person.contacts)

    def _local(self, minute: int) -> tuple[int, int]:
        """Weekday (0 is Monday) and minute after midnight, in the registry's time zone."""
        local = (EPOCH + timedelta(minutes=minute)).astimezone(self._zone)
        return local.weekday(), local.hour * 60 + local.minute

    def _on_duty_in(self, place: str, weekday: int, minute: int) -> tuple[Person, ...]:
        """Without those who cannot be reached at all: they would leave the rung silent."""
        on_duty: dict[str, Person] = {}
        for duty in self._duty.get(place, ()):
            person = self.registry.people.get(duty.person)
            if person and person.contacts and covers(duty, weekday, minute):
                on_duty[person.id] = person
        return tuple(on_duty.values())

    def _places(self, enterprise: str, cell: str, tier: Tier) -> tuple[tuple[str, ...], str]:
        """The rungs from 0 up, and the place that is told at t = 0 ("" for none).

        An alert of no enterprise is a cell's, whose duty officer is rung 0, or the system's own.
        """
        above = self.registry.ancestors(cell) if cell in self.registry.cells else ()
        if not enterprise and not above:
            return (SYSTEM,), ""
        rule = self.registry.escalation.get(tier.name, DEFAULT)
        rungs = [enterprise] if enterprise else []
        for node in above if rule.top_level or not enterprise else ():
            rungs.append(node.id)
            if node.level == rule.top_level or not rule.top_level:
                break
        told = next((node.id for node in above if node.level == rule.told_level), "")
        return tuple(rungs), told if told != rungs[0] else ""


def covers(duty: Duty, weekday: int, minute: int) -> bool:
    """Whether the duty holds at this minute of this weekday; a night shift belongs to the day it starts on."""
    if duty.start < duty.end:
        return weekday in duty.weekdays and duty.start <= minute < duty.end
    if minute >= duty.start:
        return weekday in duty.weekdays
    return minute < duty.end and (weekday - 1) % 7 in duty.weekdays
