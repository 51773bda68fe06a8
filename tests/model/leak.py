"""The balance of a pipeline section said plainly: from all readings of its ends, with nothing kept but them."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from registry.clock import HOUR, MINUTE, SECOND
from registry.model import Section

N = 12  # steps of the grid in a window
KEPT = 37  # steps that are remembered of each end


class Said(NamedTuple):
    """What one balance says. share: of the usual flow that leaks beyond the bias; least: from which it is told."""

    time: int
    share: float
    least: float
    level: str
    evidence: tuple[str, ...]


@dataclass
class SectionModel:
    made_of: tuple
    ends: dict[int, list[tuple[int, float]]] = field(default_factory=dict)  # known readings without a gap
    done: int | None = None
    bias: float = 0.0
    spread: float | None = None
    usual: float = 0.0
    loss: float | None = None
    loss_spread: float = 0.0

    def hear(self, section: Section, end: int, time: int, value: float) -> list[int]:
        """A known reading; the steps that can be judged now."""
        readings = self.ends.setdefault(end, [])
        if readings and time == readings[-1][0]:
            return []
        if readings and not 0 <= time - readings[-1][0] <= section.over // 2:
            readings.clear()
        readings.append((time, value))
        if any(not self.ends.get(end) for end in used(section)):
            return []
        common = min(self.ends[end][-1][0] for end in used(section)) // step(section)
        first = common - KEPT if self.done is None else max(self.done + 1, common - KEPT)
        self.done = max(common, common if self.done is None else self.done)
        return [k for k in range(first, common + 1) if self.covered(section, k)]

    def covered(self, section: Section, k: int) -> bool:
        oldest = k - N - wave(section)
        ends = [self.ends[end] for end in used(section)]
        starts = all(readings[0][0] < oldest * step(section) for readings in ends)
        return starts and all(readings[-1][0] // step(section) - oldest < KEPT for readings in ends)

    def integral(self, end: int, until: int) -> float:
        """In seconds, since the first reading; the value between two readings is on the line between them."""
        total, (before, value) = 0.0, self.ends[end][0]
        for time, after in self.ends[end][1:]:
            if time > until:
                there = value + (after - value) * ((until - before) / (time - before))
                return total + (value + there) / 2 * ((until - before) / SECOND)
            total += (value + after) / 2 * ((time - before) / SECOND)
            before, value = time, after
        return total

    def judge(self, section: Section, k: int, unit: str) -> Said | None:
        d, w = step(section), wave(section)

        def moved(end: int, a: int, b: int) -> float:
            return self.integral(end, b * d) - self.integral(end, a * d)

        def pressure(end: int, at: int) -> float:
            return moved(end, at - w, at)

        window = section.over / SECOND
        into, out = ((moved(end, k - N, k) + moved(end, k - w - N, k - w)) / 2 / window for end in (0, 1))
        grown = [
            (pressure(end, k) - pressure(end, k - N)) / (w * d / SECOND) for end in used(section) if end > 1
        ]
        pack = 0.0
        if grown:
            pack = section.line_pack * sum(grown) / len(grown) / (section.over / HOUR)
        if not max(abs(into), abs(out), abs(pack)) < 1e100:
            return None
        if self.spread is None:
            self.spread = section.leak / 2
        self.usual = max(into, out, self.usual * (1 - d / (24 * HOUR)))
        if self.usual <= 0:
            return None
        share = (into - out - pack) / self.usual - self.bias
        least = max(section.leak, 6 * self.spread) + 0.2 * abs(pack) / self.usual
        loss = None
        if {2, 3} <= set(used(section)) and into > 0:
            lost = (moved(2, k - N, k) - moved(3, k - N, k)) / window
            loss = lost / into**1.8 if lost > 0 else None
        level, evidence = "suspected", (f"{share * self.usual:.3g} {unit}",)
        if loss is not None and self.loss is not None and share > 0:
            behind = (1 - loss / self.loss) / (1.8 * share)
            place, sigma = (
                1 - behind,
                math.hypot(self.loss_spread, 1.8 * self.spread * behind) / (1.8 * share),
            )
            if 4 * sigma < place < 1 - 4 * sigma:
                level = "confirmed"
                evidence += (f"{place * section.length:.0f} m ± {2 * sigma * section.length:.0f} m",)
        if share < least / 2:  # then it is closed, or closes now
            self.learn(section, share, loss)
        return Said(k * d, share, least, level, evidence)

    def learn(self, section: Section, share: float, loss: float | None) -> None:
        weight = min(step(section) / (30 * MINUTE), 1)
        assert self.spread is not None
        s = self.spread
        self.bias += weight * min(max(share, -2 * s), 2 * s)
        self.bias = min(max(self.bias, -section.leak / 2), section.leak / 2)
        self.spread = max(s + weight * (1.25 * min(abs(share), 3 * s) - s), section.leak / 20)
        if loss is None:
            return
        if self.loss is None:
            self.loss, self.loss_spread = loss, section.leak
        off, s = loss / self.loss - 1, self.loss_spread
        self.loss *= 1 + weight * min(max(off, -2 * s), 2 * s)
        self.loss_spread = max(s + weight * (1.25 * min(abs(off), 3 * s) - s), section.leak / 20)


def used(section: Section) -> list[int]:
    """0 inflow, 1 outflow, 2 and 3 the pressures there are."""
    given = (section.pressure_in, section.pressure_out)
    return [0, 1, *(2 + n for n, row in enumerate(given) if row >= 0)]


def step(section: Section) -> int:
    return math.ceil(section.over / N)


def wave(section: Section) -> int:
    """Steps of the grid that a wave needs from end to end."""
    steps = round(section.length / section.wave_speed * SECOND / step(section))
    return 1 if steps < 1 else min(steps, N)
