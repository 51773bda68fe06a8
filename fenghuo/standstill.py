"""Which of a cluster's slots and shards have stood still, by how far the desk has absorbed each; pure."""

from collections.abc import Mapping
from typing import NamedTuple

DEAD = 30.0
"""Seconds of real time without a step forward after which a source stands still."""

ALIKE = 5.0
"""Seconds by which sources that stop together may seem to stop apart."""


class Illness(NamedTuple):
    """Why something does not work, "" if it does, None while that is not known; since when, µs, 0: since now."""

    why: str | None
    since: int = 0


class Standstill:
    """Looks at the times that the desk notes of each source.

    Args:
        slots, shards: how many there are of each. watch: seconds of real time, now.
    """

    def __init__(self, slots: int, shards: int, watch: float) -> None:
        self._subjects = {
            **{f"readings/{number}": f"slot:{number}" for number in range(slots)},
            **{f"compound/{number}": f"shard:{number}" for number in range(shards)},
        }
        self._risen = dict.fromkeys(self._subjects, watch)  # when it was last seen to
        self._looked = watch
        self._times: dict[str, int] | None = None
        self._came: set[str] = set()  # seen to come forward since the start

    def look(self, times: Mapping[str, int], watch: float) -> dict[str, Illness]:
        """How each is, by subject: "slot:3", "shard:0", and "system": all of them stand still.

        While all do, there is one thing to mend, and nothing is said of each.

        Args:
            times: of each source, µs. watch: seconds of real time, now.
        """
        if (unseen := watch - self._looked) > ALIKE:  # we could not look: that says nothing of them
            self._risen = {source: last + unseen for source, last in self._risen.items()}
        self._looked = watch
        now = {source: times.get(source, 0) for source in self._subjects}
        if self._times is not None:
            risen = {source for source, time in now.items() if time > self._times[source]}
            self._risen |= dict.fromkeys(risen, watch)
            self._came |= risen
        self._times = now
        quiet = {source for source, last in self._risen.items() if watch - last > DEAD}
        if quiet and all(watch - last > DEAD - ALIKE for last in self._risen.values()):
            why = f"no slot has come forward for {DEAD:.0f} s: collectors, workers or desks do not run"
            return {"system": Illness(why, max(now.values()))}
        found = {"system": Illness("" if self._came else None)}
        for source, subject in self._subjects.items():
            if source in quiet:
                why = f"{source} has not come forward for {DEAD:.0f} s, though others have"
                found[subject] = Illness(why, now[source])
            else:
                found[subject] = Illness("" if source in self._came else None)
        return found
