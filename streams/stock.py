"""Stock: a chemical of which the tanks hold more than is permitted, by their levels or weights.

Left open by the contract, and decided so:
- Beyond its table a tank holds what the end of the table says.
- What the known tanks hold may be too much already; that it is not, is known only where every tank is.
- A tank that became silent, or whose gateway went offline, or that is new, is known again by its next known reading.
- Tanks are heard at different times: what all of them hold is said of the latest time heard of any of them.

Every tank has a value up to which it may rise without all of its holding's tanks together coming to what is permitted;
so most readings only leave their value.
"""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from ingest.readings import Times, Values
from registry.model import Holding, Registry, Tank
from streams.episodes import CLOSED, OVERSTORED, Book
from streams.sieve import Index
from streams.state import NEVER, Rows

OVER_BELOW = 0.99
"""It is over below this share of what is permitted."""

_SLACK = 1 - 1e-9  # sums of the same in another order differ by less


class Stock:
    """State of the points that say what a tank holds, in the order of ``points``."""

    def __init__(self, registry: Registry) -> None:
        self._id = registry.points.id
        self._holdings = registry.holdings
        self.points: list[int] = sorted({tank.row for holding in self._holdings for tank in holding.tanks})
        self.has = np.zeros(len(registry.points), np.bool_)
        self.has[self.points] = True
        self._slot = np.zeros(len(registry.points), np.intp)
        self._slot[self.points] = np.arange(len(self.points))
        self._site: NDArray[np.intp] = np.zeros(
            len(self.points), np.intp
        )  # the first holding of its enterprise
        self._of: list[list[tuple[int, int]]] = [
            [] for _ in self.points
        ]  # holdings, and which of their tanks
        first: dict[str, int] = {}
        for number, holding in enumerate(self._holdings):
            for tank, slot in enumerate(self._slots(holding)):
                self._site[slot] = first.setdefault(holding.enterprise, number)
                self._of[slot].append((number, tank))
        self.rows = Rows(len(self.points), time=np.int64(NEVER), value=np.float64(np.nan))
        self._time: Times = self.rows["time"]
        self._value: Values = self.rows["value"]
        self._band = np.full(len(self.points), -np.inf)
        self._most = [[-np.inf] * len(holding.tanks) for holding in self._holdings]

    def judge(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        """Readings in order, NaN where unknown; place is their number in the round."""
        mine = self.has[row]
        if not mine.any():
            return
        place, slot, time, value = place[mine], self._slot[row[mine]], time[mine], value[mine]
        quiet = value <= self._band[slot]
        if not quiet.all():  # what is said names the other tanks as they were then: all of the site in order
            quiet = ~np.isin(self._site[slot], self._site[slot[~quiet]])
        self._time[slot[quiet]], self._value[slot[quiet]] = time[quiet], value[quiet]
        for i in np.flatnonzero(~quiet).tolist():
            book.place = int(place[i])
            at = int(slot[i])
            self._time[at], self._value[at] = time[i], value[i]
            for number, _ in self._of[at]:
                heard = max(int(self._time[other]) for other in self._slots(self._holdings[number]))
                self._evaluate(number, heard, book)

    def forget(self, rows: Index, time: int, book: Book) -> None:
        """These points are not known any more, by silence noticed at this time."""
        slots = self._slot[rows[self.has[rows]]]
        self._value[slots] = np.nan
        for number in sorted({number for slot in slots.tolist() for number, _ in self._of[slot]}):
            self._evaluate(number, time, book)

    def reckon(self, book: Book) -> None:
        """Find anew how far each tank may rise (after a change of state from outside)."""
        for number in range(len(self._holdings)):
            self._allow(number, book)

    def _evaluate(self, number: int, time: int, book: Book) -> None:
        holding = self._holdings[number]
        held = self._held(holding)
        total = holding.declared + sum(mass for mass in held if mass == mass)
        over = total >= holding.permitted
        if over or all(mass == mass for mass in held):
            book.known(OVERSTORED, number, time, total)
            is_open = book.flag[OVERSTORED][number] != CLOSED
            if over and not is_open:
                evidence = [
                    f"{self._id[tank.row]} {mass:g} t"
                    for tank, mass in zip(holding.tanks, held, strict=True)
                    if mass == mass
                ]
                limit, unit = holding.permitted, "t"
                book.begin(
                    OVERSTORED,
                    number,
                    time,
                    time,
                    value=total,
                    limit=limit,
                    unit=unit,
                    evidence=tuple(evidence),
                )
            elif is_open and total < OVER_BELOW * holding.permitted:
                book.end(OVERSTORED, number, time, total)
        else:
            book.unknown(OVERSTORED, number, time)
        self._allow(number, book)

    def _allow(self, number: int, book: Book) -> None:
        """Share what may still come among the tanks of a holding; none where it is open."""
        holding = self._holdings[number]
        held = [mass if mass == mass else 0.0 for mass in self._held(holding)]
        room = holding.permitted * _SLACK - holding.declared - sum(held)
        if room <= 0 or book.flag[OVERSTORED][number] != CLOSED:
            self._most[number] = [-np.inf] * len(held)
        else:
            shares = [mass + room / len(held) for mass in held]
            self._most[number] = [_below(*pair) for pair in zip(holding.tanks, shares, strict=True)]
        for slot in self._slots(holding):
            self._band[slot] = min(self._most[other][tank] for other, tank in self._of[slot])

    def _slots(self, holding: Holding) -> list[int]:
        return [int(self._slot[tank.row]) for tank in holding.tanks]

    def _held(self, holding: Holding) -> list[float]:
        """What each tank holds, t; NaN where it is not known."""
        return [
            _mass(tank, float(self._value[slot]))
            for slot, tank in zip(self._slots(holding), holding.tanks, strict=True)
        ]


def _mass(tank: Tank, value: float) -> float:
    if value != value:
        return value
    values, masses = tank.value, tank.mass
    if value <= values[0]:
        return masses[0]
    if value >= values[-1]:
        return masses[-1]
    at = bisect_right(values, value)
    share = (value - values[at - 1]) / (values[at] - values[at - 1])
    return masses[at - 1] + share * (masses[at] - masses[at - 1])


def _below(tank: Tank, most: float) -> float:
    """A value up to which the tank holds no more than ``most`` t; -inf if there is none."""
    if tank.mass[0] > most:
        return -np.inf
    for at in range(1, len(tank.value)):
        if tank.mass[at] > most:
            share = _SLACK * (most - tank.mass[at - 1]) / (tank.mass[at] - tank.mass[at - 1])
            return tank.value[at - 1] + share * (tank.value[at] - tank.value[at - 1])
    return np.inf
