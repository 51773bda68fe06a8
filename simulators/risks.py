"""Risks that no single plant shows: when the plants and the calendar together made a danger."""

from collections.abc import Iterator

import msgspec

from simulators.physics import Physics, Truth
from simulators.scenario import Risk
from simulators.truth import Danger, Tier


def dangers(physics: Physics, codes: dict[str, str], end: int) -> Iterator[Danger]:
    """The times at which each of the scenario's risks held, by the physics and the records' own dates.

    Args:
        codes: credit codes by the enterprises' ids. end: of the scenario, µs.
    """
    risks = physics.scenario.risks
    if not risks:
        return
    since: dict[str, int] = {}
    spells: dict[str, list[tuple[int, int | None]]] = {risk.id: [] for risk in risks}
    for truth in physics.run():
        if truth.time >= end:
            break
        for risk in risks:
            if _holds(risk, truth, physics):
                since.setdefault(risk.id, truth.time)
            elif risk.id in since:
                spells[risk.id].append((since.pop(risk.id), truth.time))
    for id, begin in since.items():
        spells[id].append((begin, None))
    for risk in risks:
        for count, (begin, ended) in enumerate(spells[risk.id], 1):
            latest = begin + risk.within
            yield Danger(
                id=f"{codes[risk.enterprise]}/{risk.id}/{count}",
                enterprise=codes[risk.enterprise],
                unit="",
                hazard=risk.id,
                zh=risk.title.zh,
                en=risk.title.en,
                tier=msgspec.convert(risk.tier, Tier),
                points=tuple(risk.points),
                earliest=begin,
                danger=begin,
                latest=latest if ended is None else min(latest, ended),
                ended=ended,
                why="So long after both records hold an alert is of use, as the scenario says.",
            )


def _holds(risk: Risk, truth: Truth, physics: Physics) -> bool:
    if truth.time < risk.begins or (risk.ends is not None and truth.time >= risk.ends):
        return False
    units = {(unit.enterprise, unit.id): unit for unit in physics.units}
    for holds in risk.while_:
        unit = units[risk.enterprise, holds.unit]
        if truth.signals[unit.kind][holds.signal][unit.index] < holds.above:
            return False
    return True
