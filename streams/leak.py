"""Leak: a section of a pipeline into which more flows than out of it and into its line pack.

Over a window the leak is inflow - outflow - line pack * change of the mean pressure. A wave needs a while from end to
end (length / wave speed); so the flows are the mean of the window and of that one wave earlier, and each pressure the
mean over one wave: then the balance is that of the characteristics (E. B. Wylie, V. L. Streeter, "Fluid Transients in
Systems"), and a change of the pump does not look like a leak but for its friction. All is taken from integrals at the
steps of a grid of time, so that the four points may be heard at different times and intervals.

What a section shows on ordinary days, its bias and its spread, is learnt from itself. A leak is found where it is at
least ``leak`` of the usual flow and several times the spread beyond the bias.

It is confirmed by the pressures: they lose less between the ends than the inflow alone explains, and more than the
outflow alone, as only a leak in between does. How much less says where: behind the leak the smaller flow loses less
(friction goes with the flow to the power of 1.8). A flow meter that is wrong puts it at one of the ends.

Left open by the contract, and decided so: a value between two known readings is on the line between them, if they are
no further apart than half the window; otherwise the window begins anew. Unknown by a bad value or silence of one of
its points at once, it is known again when the next balance is.
"""

from math import hypot

import numpy as np

from ingest.readings import Times, Values
from registry.clock import HOUR, MINUTE, SECOND
from registry.model import Registry, Section
from streams.episodes import LEAK, Book, ends
from streams.finding import Phase
from streams.sieve import Index
from streams.state import NEVER, Rows

STEPS = 12
"""Steps of the grid in a window."""
KEPT = 3 * STEPS + 1
"""So many are kept of each point: the window, a wave (no longer than it), and as much as one may lag behind another."""
BEYOND = 6.0
"""A leak is so many times the spread beyond the bias."""
CLEARLY = 4.0
"""It is inside the section if it is so many sigma from either end."""
PACK_UNSURE = 0.2
"""How far line pack may be wrong: this share of its change is explained by it."""
LEARN = 30 * MINUTE
"""Time constant by which bias and spread follow."""
FORGET = 24 * HOUR
"""Time constant by which the usual flow falls to a lower one."""
FRICTION = 1.8
"""Pressure is lost with the flow to this power: turbulent flow in a smooth pipe (H. Blasius: 1.75; a rough one: 2)."""

ABSURD = 1e100
"""A flow that is none; beyond it arithmetic fails."""

_IN, _OUT = 0, 1
_BIAS, _SPREAD, _USUAL, _LOSS, _LOSS_SPREAD = range(5)


class Leak:
    """State by section: of each end its integral on the grid, and what was learnt."""

    def __init__(self, registry: Registry) -> None:
        points, self._sections = registry.points, registry.sections
        self._unit = points.engineering_unit
        self.has = np.zeros(len(points), np.bool_)
        self._of: dict[int, list[tuple[int, int]]] = {}  # sections and ends that a point serves
        for number, section in enumerate(self._sections):
            for end, row in enumerate(ends(section)):
                if row >= 0:
                    self._of.setdefault(row, []).append((number, end))
        self.has[list(self._of)] = True
        self._made_of = [
            (section.over, *(points.id[row] if row >= 0 else "" for row in ends(section)))
            for section in self._sections
        ]
        self.rows = Rows(
            len(self._sections),
            time=np.full(4, NEVER),
            value=np.full(4, np.nan),
            sum=np.zeros(4),
            step=np.full((4, KEPT), NEVER),
            grid=np.zeros((4, KEPT)),
            done=np.int64(NEVER),
            learnt=np.full(5, np.nan),
        )
        self._time: Times = self.rows["time"]  # of the last known reading
        self._value: Values = self.rows["value"]
        self._sum: Values = self.rows["sum"]  # integral of the value until then, in seconds
        self._step: Times = self.rows["step"]  # number of the grid's step, in a ring
        self._grid: Values = self.rows["grid"]  # the integral there
        self._done: Times = self.rows["done"]  # the last step that was judged
        self._learnt: Values = self.rows["learnt"]

    def judge(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        """Readings in order, NaN where unknown; place is their number in the round."""
        mine = np.flatnonzero(self.has[row])
        for at, i, t, v in zip(
            place[mine].tolist(), row[mine].tolist(), time[mine].tolist(), value[mine].tolist(), strict=True
        ):
            book.place = at
            for number, end in self._of[i]:
                if v != v:
                    book.unknown(LEAK, number, t)
                else:
                    self._extend(number, end, t, v)
                    self._advance(number, book)

    def forget(self, rows: Index, time: int, book: Book) -> None:
        """These points are not known any more, by silence noticed at this time."""
        for number in sorted({number for row in rows.tolist() for number, _ in self._of.get(row, ())}):
            book.unknown(LEAK, number, time)

    def renew(self, old: "Leak", here: Index, there: Index) -> None:
        """Sections that have other points or another window than they had begin anew (after a carry)."""
        for new, before in zip(here.tolist(), there.tolist(), strict=True):
            if self._made_of[new] != old._made_of[before]:
                self.rows.clear(new)

    def _extend(self, number: int, end: int, time: int, value: float) -> None:
        """Carry the integral of one end on to a reading, and keep what it is at the steps between."""
        section = self._sections[number]
        step, last, before = _step(section), int(self._time[number, end]), float(self._value[number, end])
        if time == last:
            return
        self._time[number, end], self._value[number, end] = time, value
        if last == NEVER or not 0 <= time - last <= section.over // 2:
            self._step[number, end] = NEVER
            self._sum[number, end] = 0.0
            return
        total = float(self._sum[number, end])
        for k in range(last // step + 1, time // step + 1):
            part = k * step - last
            there = before + (value - before) * (part / (time - last))
            self._step[number, end, k % KEPT] = k
            self._grid[number, end, k % KEPT] = total + (before + there) / 2 * (part / SECOND)
        self._sum[number, end] = total + (before + value) / 2 * ((time - last) / SECOND)

    def _advance(self, number: int, book: Book) -> None:
        """Judge the steps that all ends have come to."""
        section = self._sections[number]
        used = [end for end, row in enumerate(ends(section)) if row >= 0]
        newest = min(int(self._time[number, end]) for end in used)
        if newest == NEVER:
            return
        last, common = int(self._done[number]), newest // _step(section)
        for k in range(max(last + 1, common - KEPT), common + 1):
            self._judge(number, used, k, book)
        self._done[number] = max(last, common)

    def _judge(self, number: int, used: list[int], k: int, book: Book) -> None:
        section = self._sections[number]
        wave = _wave(section)
        steps = (k, k - wave, k - STEPS, k - STEPS - wave)
        if any(int(self._step[number, end, s % KEPT]) != s for end in used for s in steps):
            return
        at = [[float(self._grid[number, end, s % KEPT]) for s in steps] for end in range(4)]
        flow_in, flow_out, pack = balance(section, at)
        if not max(abs(flow_in), abs(flow_out), abs(pack)) < ABSURD:
            return
        learnt: list[float] = self._learnt[number].tolist()
        if learnt[_SPREAD] != learnt[_SPREAD]:
            learnt[:_LOSS] = [0.0, section.leak / 2, 0.0]
        usual = max(flow_in, flow_out, learnt[_USUAL] * (1 - _step(section) / FORGET))
        learnt[_USUAL] = usual
        if usual > 0:
            share = (flow_in - flow_out - pack) / usual - learnt[_BIAS]
            least = max(section.leak, BEYOND * learnt[_SPREAD]) + PACK_UNSURE * abs(pack) / usual
            loss = self._loss(section, at, flow_in)
            self._tell(number, k * _step(section), share, least, loss, learnt, book)
            if share < least / 2:
                _learn(learnt, section, share, loss)
        self._learnt[number] = learnt

    def _loss(self, section: Section, at: list[list[float]], flow_in: float) -> float:
        """Pressure lost between the ends for each inflow to its power; NaN where that says nothing."""
        if section.pressure_in < 0 or section.pressure_out < 0 or flow_in <= 0:
            return np.nan
        lost = ((at[2][0] - at[2][2]) - (at[3][0] - at[3][2])) / (section.over / SECOND)
        return lost / flow_in**FRICTION if lost > 0 else np.nan

    def _tell(
        self,
        number: int,
        time: int,
        share: float,
        least: float,
        loss: float,
        learnt: list[float],
        book: Book,
    ) -> None:
        section = self._sections[number]
        value = round(100 * share, 2)
        book.known(LEAK, number, time, value)
        last = book.open.get((LEAK, number))
        if last is not None and share < least / 2:
            book.end(LEAK, number, time, value)
        elif share >= least or last is not None:
            place, unsure = _place(share, loss, learnt)
            inside = CLEARLY * unsure < place < 1 - CLEARLY * unsure
            level = "confirmed" if inside else "suspected"
            evidence: tuple[str, ...] = (f"{share * learnt[_USUAL]:.3g} {self._unit[section.flow_in]}",)
            if inside:
                evidence += (f"{place * section.length:.0f} m ± {2 * unsure * section.length:.0f} m",)
            limit = 100 * section.leak
            if last is None:
                book.begin(
                    LEAK,
                    number,
                    time,
                    time,
                    value=value,
                    limit=limit,
                    level=level,
                    unit="%",
                    evidence=evidence,
                )
            elif inside and last.level == "suspected":
                book.change(LEAK, number, Phase.WORSENED, time, value, limit, level, evidence=evidence)


def balance(section: Section, at: list[list[float]]) -> tuple[float, float, float]:
    """Inflow, outflow and growth of the line pack, a quantity an hour, over the window.

    at: of each end its integral now, a wave ago, a window ago, and a window and a wave ago.
    """
    flows = [((now - then) + (soon - late)) / 2 for now, soon, then, late in at[: _OUT + 1]]
    wave = _wave(section) * _step(section) / SECOND
    given = [end for end in (2, 3) if ends(section)[end] >= 0]
    grown = [((at[end][0] - at[end][1]) - (at[end][2] - at[end][3])) / wave for end in given]
    pack = section.line_pack * sum(grown) / len(given) / (section.over / HOUR) if given else 0.0
    return flows[_IN] / (section.over / SECOND), flows[_OUT] / (section.over / SECOND), pack


def _step(section: Section) -> int:
    return -(-section.over // STEPS)


def _wave(section: Section) -> int:
    """Steps that a wave needs from end to end, at least one."""
    return min(max(round(section.length / section.wave_speed * SECOND / _step(section)), 1), STEPS)


def _learn(learnt: list[float], section: Section, share: float, loss: float) -> None:
    """Follow slowly; what is far off counts no more than what is just unusual."""
    weight = min(_step(section) / LEARN, 1.0)
    spread = learnt[_SPREAD]
    bias = learnt[_BIAS] + weight * min(max(share, -2 * spread), 2 * spread)
    learnt[_BIAS] = min(max(bias, -section.leak / 2), section.leak / 2)
    learnt[_SPREAD] = max(spread + weight * (1.25 * min(abs(share), 3 * spread) - spread), section.leak / 20)
    if loss == loss:
        if learnt[_LOSS] != learnt[_LOSS]:
            learnt[_LOSS], learnt[_LOSS_SPREAD] = loss, section.leak
        off, spread = loss / learnt[_LOSS] - 1, learnt[_LOSS_SPREAD]
        learnt[_LOSS] *= 1 + weight * min(max(off, -2 * spread), 2 * spread)
        learnt[_LOSS_SPREAD] = max(
            spread + weight * (1.25 * min(abs(off), 3 * spread) - spread), section.leak / 20
        )


def _place(share: float, loss: float, learnt: list[float]) -> tuple[float, float]:
    """Where the leak is, as a share of the length from the inlet, and one sigma of that."""
    less = 1 - loss / learnt[_LOSS]
    behind = less / (FRICTION * share)
    unsure = hypot(learnt[_LOSS_SPREAD], FRICTION * learnt[_SPREAD] * behind) / (FRICTION * share)
    return 1 - behind, unsure
