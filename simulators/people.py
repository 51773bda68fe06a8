"""Simulated duty officers: who hears a ring, and what they do about it and when, drawn from one seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal

SECOND = 1_000_000
"""µs; all times here are µs since 1970-01-01 UTC, all durations seconds."""

Verb = Literal["confirm", "take-over", "act", ""]
Line = Literal["free", "busy", "off"]

KEYS: Mapping[str, str] = {"confirm": "1", "take-over": "2", "act": "3"}
"""The key that a phone's menu would want for each verb."""

WRONG_KEYS = "4567890*#"

NOTES: Mapping[str, str] = {
    "confirm": "收到，马上处理 / got it, on my way",
    "take-over": "由我接手 / I take it over",
    "act": "已到现场处置，情况受控 / dealt with on site, under control",
}

NOTICED_AFTER = (3.0, 10.0)
"""Seconds until somebody who pressed a wrong key tries again: from, to."""

BUSY_FOR = 60.0
"""Seconds for which a line is either busy or not; a call in the next such slot may get through."""

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one person answers.

    after, spread: seconds from hearing a ring to the answer, so much sooner or later. does: what they do, in this
    order. act_after: seconds from the answer before it to "act". misses: chance that a ring is not heard. busy:
    chance that the line is busy in a slot of BUSY_FOR. wrong_key: chance of a wrong key first. away:
    [begin, end) in µs in which they hear nothing. offline: [begin, end) in µs in which their network is lost: no
    ring reaches them, no answer leaves them. Who is only told does nothing.

    Raises:
        ValueError: a chance that is none, a negative time, a window that ends before it begins, an unknown verb.
    """

    after: float = 60.0
    spread: float = 20.0
    does: tuple[str, ...] = ("confirm",)
    act_after: float = 600.0
    misses: float = 0.0
    busy: float = 0.0
    wrong_key: float = 0.0
    away: tuple[tuple[int, int], ...] = ()
    offline: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for name in ("misses", "busy", "wrong_key"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a chance from 0 to 1, not {getattr(self, name)}")
        for name in ("after", "spread", "act_after"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is so many seconds, not {getattr(self, name)}")
        for begin, end in (*self.away, *self.offline):
            if end < begin:
                raise ValueError(f"a window ends before it begins: {begin} to {end}")
        for verb in self.does:
            if verb not in KEYS:
                raise ValueError(f"nobody can {verb!r}; they can {', '.join(KEYS)}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person does at a time.

    at: µs. verb: "confirm", "take-over" or "act"; "" for a wrong key, which means nothing to anybody. note: the
    words with it, never empty but for a wrong key. key: what they press on a phone.
    """

    at: int
    person: str
    alert: str
    verb: Verb
    note: str
    key: str


class People:
    """All persons, and what they remember: which alerts they have confirmed, and which they are dealing with.

    Each draw depends on the seed and on the ring's id alone. Rings are to be told in the order of time.

    Args:
        behaviours: by person id; who is not in it hears every ring and does nothing.
    """

    def __init__(self, behaviours: Mapping[str, Behaviour], seed: int) -> None:
        self._behaviours = dict(behaviours)
        self._seed = seed
        self._confirmed: dict[
            tuple[str, str], int
        ] = {}  # (person, alert) → µs of the newest answer that left
        self._acted: dict[tuple[str, str], int] = {}

    def heard(self, ring: Mapping[str, Any], now: int) -> Sequence[Answer]:
        """What the person will do because of this ring at ``now``, in the order of time; often nothing.

        A person who has confirmed an alert, or is about to, does not confirm it again because of a notice that was
        written before they did: a later one means that the alert has changed.

        Args:
            ring: `id`, `alert`, `role`, `person` and `created` (ISO 8601) of the notice's JSON; more is ignored.
        """
        person, alert = str(ring["person"]), str(ring["alert"])
        behaviour = self._behaviours.get(person)
        if behaviour is None:
            return ()
        random = Random(f"{self._seed}/ring/{ring['id']}")
        # All are drawn, used or not, so that no setting shifts the draws of another.
        missed, wrong = random.random(), random.random()
        sooner, noticed = random.uniform(-1, 1), random.uniform(*NOTICED_AFTER)
        wrong_key = random.choice(WRONG_KEYS)
        if _within(behaviour.away, now) or _within(behaviour.offline, now) or missed < behaviour.misses:
            return ()
        does = () if ring["role"] == "told" else behaviour.does
        before = self._confirmed.get((person, alert))
        if before is not None and _created(ring) <= before:
            return ()
        answers = []
        at = now + _us(max(behaviour.after + sooner * behaviour.spread, 0.0))
        if does and wrong < behaviour.wrong_key:
            answers.append(Answer(at, person, alert, "", "", wrong_key))
            at += _us(noticed)
        for number, verb in enumerate(does):
            if verb == "act":
                at += _us(behaviour.act_after)
                if now < self._acted.get((person, alert), now):
                    continue  # they are at it already
            elif number:
                at += _us(noticed)
            answers.append(Answer(at, person, alert, _verb(verb), NOTES[verb], KEYS[verb]))
        answers = [answer for answer in answers if not _within(behaviour.offline, answer.at)]
        for answer in answers:
            if answer.verb == "act":
                self._acted[person, alert] = answer.at
            elif answer.verb:
                self._confirmed[person, alert] = answer.at
        return answers

    def line(self, person: str, now: int) -> Line:
        """What a call to this person meets at ``now``: "off" without a network, or "busy", or "free".

        Busy is drawn anew for every slot of BUSY_FOR seconds: a product that tries again gets through some
        time.
        """
        behaviour = self._behaviours.get(person)
        if behaviour is None:
            return "free"
        if _within(behaviour.offline, now):
            return "off"
        draw = Random(f"{self._seed}/line/{person}/{now // _us(BUSY_FOR)}").random()
        return "busy" if draw < behaviour.busy else "free"


def _verb(text: str) -> Verb:
    verbs: dict[str, Verb] = {"confirm": "confirm", "take-over": "take-over", "act": "act"}
    return verbs[text]


def _us(seconds: float) -> int:
    return round(seconds * SECOND)


def _within(windows: Sequence[tuple[int, int]], time: int) -> bool:
    return any(begin <= time < end for begin, end in windows)


def _created(ring: Mapping[str, Any]) -> int:
    """µs at which the notice was written."""
    return (datetime.fromisoformat(str(ring["created"])) - _EPOCH) // timedelta(microseconds=1)
