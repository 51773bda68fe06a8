"""What was true in a simulated city: the dangers, from when to when, and where nothing at all should ring.

All times are µs UTC. An interval holds its beginning and not its end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulators.plant import Hazard, Stage

SECOND = 1_000_000
MINUTE = 60 * SECOND

APART = 10 * MINUTE
"""Two times of a hazard's being visible with less between them are one."""

EARLY = 10 * MINUTE
"""So long before a danger could be known an alert of its points may come and be called early, not false."""

GRACE = 5 * MINUTE
"""So long after a danger or disturbance is over an alert may still come of it: delays, and evidence that is late."""

Tier = Literal["I", "II", "III", "IV"]


class Danger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time at which people must act, and what of it they can see.

    points: ids of the points that show it, of its enterprise; none where only the alerts of its gateway do.
    gateway: "" or the id of the gateway whose own alerts show it.
    earliest: the first moment at which anybody with perfect instruments could know.
    danger: from when people must act. latest: the last moment at which an alert is of use.
    ended: when it was over in fact, None if it was not. harm: when harm would have come had nobody acted.
    in_time: False where that is sooner than people could have acted, from the first moment at which anybody could
    know: then they can only be warned, and ``latest`` is the harm itself or the end before it.
    why: how ``latest`` was derived, a sentence.

    Raises ValueError if it ends, or an alert is no more of use, before anybody could know of it.
    """

    id: str
    enterprise: str  # credit code
    unit: str
    hazard: str  # of the unit's kind, or of a device: "blind.frozen", "blind.dead", "blind.gateway" ...
    zh: str
    en: str
    tier: Tier
    points: tuple[str, ...]
    gateway: str = ""
    earliest: int
    danger: int
    latest: int
    ended: int | None = None
    harm: int | None = None
    in_time: bool = True
    why: str

    def __post_init__(self) -> None:
        later = (self.danger, self.latest, self.ended, self.harm)
        if any(time < self.earliest for time in later if time is not None):
            raise ValueError(f"danger {self.id} could be known only after it happened")


class Stretch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A disturbance that is neither danger nor quiet: alerts of its points or gateway are excused."""

    enterprise: str
    points: tuple[str, ...]
    gateway: str = ""
    begin: int
    end: int
    why: str


class Truth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was true from ``begin`` to ``end`` of one run of a scenario with one seed.

    enterprises: the credit codes of all that there are, the quiet ones too.

    Raises ValueError if two dangers have one id, or one lies outside the run or its enterprises.
    """

    scenario: str
    seed: int
    begin: int
    end: int
    enterprises: tuple[str, ...]
    dangers: tuple[Danger, ...]
    excused: tuple[Stretch, ...]

    def __post_init__(self) -> None:
        if len({danger.id for danger in self.dangers}) < len(self.dangers):
            raise ValueError("two dangers have the same id")
        for danger in self.dangers:
            if not self.begin <= danger.earliest < self.end:
                raise ValueError(f"danger {danger.id} is not between the run's begin and end")
        parts: list[Danger | Stretch] = [*self.dangers, *self.excused]
        if unknown := {part.enterprise for part in parts} - set(self.enterprises):
            raise ValueError(f"these are not among the enterprises: {', '.join(sorted(unknown))}")


def encode(truth: Truth) -> bytes:
    """The truth as JSON, a field a line."""
    return msgspec.json.format(msgspec.json.encode(truth)) + b"\n"


def decode(text: bytes) -> Truth:
    """The truth of that JSON. Raises msgspec.ValidationError for what is no truth, an unknown field too."""
    return msgspec.json.decode(text, type=Truth)


def heard(truth: Truth, part: Danger | Stretch) -> tuple[int, int]:
    """From when to when an alert raised may come of this danger or disturbance."""
    if isinstance(part, Stretch):
        return part.begin, part.end + GRACE
    return part.earliest, (truth.end if part.ended is None else part.ended) + GRACE


def quiet(truth: Truth, enterprise: str) -> list[tuple[int, int]]:
    """The intervals of the run, in order, in which nothing at all of this enterprise should ring."""
    busy = [heard(truth, part) for part in truth.excused if part.enterprise == enterprise]
    for danger in truth.dangers:
        if danger.enterprise == enterprise:
            begin, end = heard(truth, danger)
            busy.append((begin - EARLY, end))
    free, since = [], truth.begin
    for begin, end in sorted(busy):
        if begin > since:
            free.append((since, min(begin, truth.end)))
        since = max(since, end)
    if since < truth.end:
        free.append((since, truth.end))
    return free


class Watcher:
    """Keeps the stages of a kind's hazards in one run: for every unit the moments at which they changed.

    Args:
        hazards: their names. n: how many units there are.
    """

    def __init__(self, hazards: Iterable[str], n: int) -> None:
        self._last = {hazard: np.zeros(n, np.int8) for hazard in hazards}
        self._changes: dict[str, list[tuple[int, NDArray[np.intp], NDArray[np.int8]]]]
        self._changes = {hazard: [] for hazard in self._last}
        self._time: int | None = None

    def tell(self, time: int, stages: Mapping[str, NDArray[np.int8]]) -> None:
        """The Stage of every hazard, each [n], from this moment on; before the first it was SAFE.

        Raises ValueError if the moment is not after the last, or an array has not one value a unit; KeyError
        if a hazard is missing.
        """
        if self._time is not None and time <= self._time:
            raise ValueError(f"{time} is not after {self._time}")
        self._time = time
        for hazard, last in self._last.items():
            now = stages[hazard]
            if now.shape != last.shape:
                raise ValueError(f"{hazard} has the shape {now.shape}, expected {last.shape}")
            changed = np.flatnonzero(now != last)
            if changed.size:
                last[changed] = now[changed]
                self._changes[hazard].append((time, changed, last[changed]))

    def changes(self, hazard: str) -> dict[int, list[tuple[int, int]]]:
        """By the number of every unit that was ever not SAFE: (time, Stage from then on), in order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for time, units, stages in self._changes[hazard]:
            for unit, stage in zip(units.tolist(), stages.tolist(), strict=True):
                found.setdefault(unit, []).append((time, stage))
        return found


@dataclass(frozen=True, slots=True)
class Unit:
    """What the dangers of a unit say of it. points: by the hazard's name, the ids of those that show it."""

    enterprise: str
    unit: str
    points: Mapping[str, tuple[str, ...]]


def derived(
    hazards: Sequence[Hazard], units: Sequence[Unit], actual: Watcher, unaided: Watcher, end: int
) -> tuple[tuple[Danger, ...], tuple[Stretch, ...]]:
    """The dangers of a kind's units, and the disturbances that are excused.

    Args:
        units: in the order of the arrays that the watchers were told.
        actual: watched what happened. unaided: watched the run with the same seed in which nobody acted; where
            nobody did, the same watcher.
        end: of the scenario.
    """
    dangers: list[Danger] = []
    excused: list[Stretch] = []
    for hazard in hazards:
        else_ = {unit: _spells(changes) for unit, changes in unaided.changes(hazard.name).items()}
        for number, changes in sorted(actual.changes(hazard.name).items()):
            unit = units[number]
            points = unit.points[hazard.name]
            for count, spell in enumerate(_spells(changes), 1):
                begin, why = spell.begin, f"{hazard.name} could be seen and receded before people had to act"
                same = [other for other in else_.get(number, []) if other.overlaps(spell)]
                if spell.danger is None:
                    spell.averted(same)
                if spell.danger is not None:
                    dangers.append(_danger(hazard, unit, count, spell, same, end))
                    if spell.calm is None:
                        continue
                    begin, why = spell.calm, f"{hazard.name} was over and could still be seen"
                until = end if spell.end is None else spell.end
                if begin < until:
                    excused.append(
                        Stretch(enterprise=unit.enterprise, points=points, begin=begin, end=until, why=why)
                    )
    return (
        tuple(sorted(dangers, key=lambda danger: (danger.earliest, danger.id))),
        tuple(sorted(excused, key=lambda stretch: (stretch.begin, stretch.enterprise, stretch.points))),
    )


@dataclass(slots=True)
class _Spell:
    """One time of being visible. None: it was not, or is not yet.

    danger: the first moment of at least DANGER; calm: the end of the last. harm: the first moment of HARM.
    """

    begin: int
    end: int | None = None
    danger: int | None = None
    calm: int | None = None
    harm: int | None = None

    def averted(self, unaided: Sequence["_Spell"]) -> None:
        """Where nobody acted people would have had to: so it was a danger, and was over when it receded."""
        came = [other.danger for other in unaided if other.danger is not None]
        if came:
            self.danger, self.calm = max(self.begin, min(came)), self.end

    def overlaps(self, other: "_Spell") -> bool:
        return (self.end is None or self.end > other.begin) and (other.end is None or other.end > self.begin)


def _spells(changes: Iterable[tuple[int, int]]) -> list[_Spell]:
    """The times at which one hazard of one unit was visible; those that are hardly apart are one."""
    spells: list[_Spell] = []
    for time, stage in changes:
        last = spells[-1] if spells else None
        if stage >= Stage.VISIBLE and (last is None or (last.end is not None and time - last.end >= APART)):
            last = _Spell(time)
            spells.append(last)
        if last is None:
            continue
        if stage >= Stage.VISIBLE:
            last.end = None
        elif last.end is None:
            last.end = time
        if stage >= Stage.DANGER:
            last.danger, last.calm = time if last.danger is None else last.danger, None
        elif last.danger is not None and last.calm is None:
            last.calm = time
        if stage >= Stage.HARM and last.harm is None:
            last.harm = time
    return spells


def _danger(
    hazard: Hazard, unit: Unit, count: int, spell: _Spell, unaided: Sequence[_Spell], end: int
) -> Danger:
    """The danger that a spell was, by what the same spell was where nobody acted."""
    assert spell.danger is not None
    came = [other.harm for other in unaided if other.harm is not None and other.harm >= spell.begin]
    harm = min(came, default=spell.harm)
    needed = f"{hazard.response / 60:g} min that people need"
    in_time = True
    if harm is None:
        lasting = [other for other in (*unaided, spell) if other.danger is not None]
        latest = max(end if other.calm is None else other.calm for other in lasting)
        why = "No harm would have come: an alert is of use as long as the danger lasts where nobody acts."
    else:
        latest = harm - round(hazard.response * SECOND)
        why = f"The moment at which harm would have come had nobody acted, less the {needed}."
        if latest < spell.begin:
            latest, in_time = harm, False
            why = f"Harm came sooner than the {needed}: nobody could have been told in time, only warned."
    if spell.calm is not None and spell.calm < latest:
        latest = spell.calm
        why = "The end of the danger: an alert is of no more use."
    return Danger(
        id=f"{unit.enterprise}/{unit.unit}/{hazard.name}/{count}",
        enterprise=unit.enterprise,
        unit=unit.unit,
        hazard=hazard.name,
        zh=hazard.zh,
        en=hazard.en,
        tier=msgspec.convert(hazard.tier, Tier),
        points=unit.points[hazard.name],
        earliest=spell.begin,
        danger=spell.danger,
        latest=latest,
        ended=spell.calm,
        harm=harm,
        in_time=in_time,
        why=why,
    )
