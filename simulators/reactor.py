"""A stirred tank reactor with a cooling jacket, whose temperature runs away when the coolant fails.

Contents: the exothermic first-order reactor A → B of D. E. Seborg, T. F. Edgar, D. A. Mellichamp,
F. J. Doyle, "Process Dynamics and Control", section 2.4.6 and table 2.3 (operating point 350 K,
0.5 mol/L, coolant 300 K). The jacket's own energy balance is that of W. L. Luyben, "Process Modeling,
Simulation and Control for Chemical Engineers", section 3.6 (perfectly mixed jacket), sized here so that
it sits at 300 K with 15 °C cooling water at the operating point.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random


@dataclass(frozen=True, slots=True)
class Design:
    """What the vessel is and what goes in. Litres, minutes, kelvin, moles, grams and joules, as in the source."""

    volume: float = 100.0  # L
    feed: float = 100.0  # L/min
    feed_temperature: float = 350.0  # K
    feed_concentration: float = 1.0  # mol/L
    density: float = 1000.0  # g/L
    heat_capacity: float = 0.239  # J/(g K)
    reaction_heat: float = 5.0e4  # J/mol set free
    activation: float = 8750.0  # K, E/R
    frequency: float = 7.2e10  # 1/min
    exchange: float = 5.0e4  # J/(min K), UA
    jacket_volume: float = 5.0  # L
    coolant: float = 49.84  # L/min at the operating point
    coolant_temperature: float = 288.0  # K
    coolant_capacity: float = 4180.0  # J/(L K)
    set_point: float = 350.0  # K


@dataclass(frozen=True, slots=True)
class Reactor:
    """The state: concentration of A in mol/L, temperatures of contents and jacket in K."""

    concentration: float = 0.5
    temperature: float = 350.0
    jacket: float = 300.0


BENCHMARK = Design()


def step(
    state: Reactor, dt: float, coolant: float, *, feed: float | None = None, design: Design = BENCHMARK
) -> Reactor:
    """The state ``dt`` seconds later, with this much coolant and feed flowing (L/min) meanwhile.

    Runge-Kutta of fourth order; its step is held to a quarter of the reaction's time constant, which
    shrinks from a minute to milliseconds as the contents heat up.
    """
    if dt < 0 or coolant < 0:
        raise ValueError("neither time nor coolant flows backwards")
    inflow = design.feed if feed is None else feed
    y = (state.concentration, state.temperature, state.jacket)
    left = dt / 60.0
    while left > 0:
        h = min(left, 0.1 / 60.0, 0.25 / _rate_constant(y[1], design))
        k1 = _slopes(y, coolant, inflow, design)
        k2 = _slopes(_ahead(y, k1, h / 2), coolant, inflow, design)
        k3 = _slopes(_ahead(y, k2, h / 2), coolant, inflow, design)
        k4 = _slopes(_ahead(y, k3, h), coolant, inflow, design)
        y = (
            y[0] + h / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0]),
            y[1] + h / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1]),
            y[2] + h / 6 * (k1[2] + 2 * k2[2] + 2 * k3[2] + k4[2]),
        )
        left -= h
    return Reactor(*y)


def controlled(state: Reactor, *, available: float = 1.0, design: Design = BENCHMARK) -> float:
    """The coolant flow (L/min) that the temperature controller opens its valve for.

    Without it the operating point is unstable. available: share of the cooling water that is there.
    """
    gain = 25.0  # L/min for each K too much
    wanted = design.coolant + gain * (state.temperature - design.set_point)
    return available * min(max(wanted, 0.0), 3 * design.coolant)


def heat_balance(
    state: Reactor, coolant: float, *, feed: float | None = None, design: Design = BENCHMARK
) -> Mapping[str, float]:
    """The flows of heat in J/min: reaction and feed into the contents, wall into the jacket, coolant out of it."""
    inflow = design.feed if feed is None else feed
    per_litre = design.density * design.heat_capacity
    return {
        "reaction": design.reaction_heat
        * design.volume
        * _rate_constant(state.temperature, design)
        * state.concentration,
        "feed": inflow * per_litre * (design.feed_temperature - state.temperature),
        "wall": design.exchange * (state.temperature - state.jacket),
        "coolant": coolant * design.coolant_capacity * (state.jacket - design.coolant_temperature),
    }


def measure(state: Reactor, coolant: float, noise: Random) -> dict[str, float]:
    """What the instruments say: TI in °C, PI in MPa gauge, LI in %, FI in L/min; each with its own noise.

    Pressure is a nitrogen blanket of 0.2 MPa (absolute, at 350 K) and the vapour of water over it
    (August-Roche-Magnus form up to 100 °C is close enough beyond, for a vessel that has no real solvent),
    until the relief valve lifts at 1.0 MPa.
    """
    celsius = state.temperature - 273.15
    vapour = 610.94e-6 * math.exp(17.625 * celsius / (celsius + 243.04))
    pressure = min(1.0, 0.2 * state.temperature / 350.0 + vapour - 0.1013)
    level = 70.0 * (1 + 5.0e-4 * (state.temperature - 350.0))
    return {
        "TI-1101": round(celsius + noise.gauss(0, 0.08), 2),
        "TI-1102": round(celsius + 0.15 + noise.gauss(0, 0.08), 2),
        "PI-1101": round(pressure + noise.gauss(0, 0.001), 4),
        "LI-1101": round(level + noise.gauss(0, 0.05), 2),
        "FI-1101": round(max(0.0, coolant + noise.gauss(0, 0.2)), 2),
    }


def adiabatic(design: Design = BENCHMARK) -> Design:
    """The same vessel closed and with a wall that passes no heat: its energy can only change form."""
    return replace(design, feed=0.0, exchange=0.0)


def _rate_constant(temperature: float, design: Design) -> float:
    return design.frequency * math.exp(-design.activation / temperature)


def _slopes(
    y: tuple[float, float, float], coolant: float, feed: float, design: Design
) -> tuple[float, float, float]:
    concentration, temperature, jacket = y
    state = Reactor(concentration, temperature, jacket)
    heat = heat_balance(state, coolant, feed=feed, design=design)
    reacted = _rate_constant(temperature, design) * concentration
    contents = design.volume * design.density * design.heat_capacity
    shell = design.jacket_volume * design.coolant_capacity
    return (
        feed / design.volume * (design.feed_concentration - concentration) - reacted,
        (heat["feed"] + heat["reaction"] - heat["wall"]) / contents,
        (heat["wall"] - heat["coolant"]) / shell,
    )


def _ahead(
    y: tuple[float, float, float], slope: tuple[float, float, float], h: float
) -> tuple[float, float, float]:
    return (y[0] + h * slope[0], y[1] + h * slope[1], y[2] + h * slope[2])
