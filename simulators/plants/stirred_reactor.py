"""A stirred tank reactor with a cooling jacket, whose temperature runs away when the coolant fails.

Contents: the exothermic first-order reactor A → B of D. E. Seborg, T. F. Edgar, D. A. Mellichamp,
F. J. Doyle, "Process Dynamics and Control", section 2.4.6 and table 2.3 (operating point 350 K,
0.5 mol/L, coolant 300 K). The jacket's own energy balance is that of W. L. Luyben, "Process Modeling,
Simulation and Control for Chemical Engineers", section 3.6 (perfectly mixed jacket), sized here so that
it sits at 300 K with 15 °C cooling water at the operating point. The operating point is unstable without
its temperature controller, which is therefore part of the plant.

What is left out: a relief valve that has lifted stops the pressure but carries off no heat, and nothing
decomposes; after the harm is done the course of the temperature means little. The wandering of the feed is
of an order of magnitude that flow and strength controllers leave, not from the sources.
"""

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats, Hazard, Input, Inputs, Kind, Signal, stage, wander

SCAN = 1.0
"""Seconds between two looks of the temperature controller; shorter steps make it look as often as they come."""

CALM_STEP = 1.0
"""The longest Runge-Kutta step in seconds below HOT: a fifth of the jacket's time constant at the operating point."""

HOT = 360.0
"""K above which a unit takes steps of HOT_STEP seconds, since the reaction feeds itself within a second."""

HOT_STEP = 0.1

FASTEST = 300.0
"""1/min, the cap of the rate constant. Reached at 453 K, when the relief valve has long lifted; conversion is then
99.7 % and more speed changes nothing but the cost."""


@dataclass(frozen=True, slots=True)
class Design:
    """What the vessel is and what goes in. Litres, minutes, kelvin, moles, grams and joules, as in the source."""

    volume: float | Floats = 100.0  # L
    feed: float | Floats = 100.0  # L/min
    feed_temperature: float | Floats = 350.0  # K
    feed_concentration: float | Floats = 1.0  # mol/L
    density: float | Floats = 1000.0  # g/L
    heat_capacity: float | Floats = 0.239  # J/(g K)
    reaction_heat: float | Floats = 5.0e4  # J/mol set free
    activation: float | Floats = 8750.0  # K, E/R
    frequency: float | Floats = 7.2e10  # 1/min
    exchange: float | Floats = 5.0e4  # J/(min K), UA
    jacket_volume: float | Floats = 5.0  # L
    coolant: float | Floats = 49.84  # L/min at the operating point
    coolant_temperature: float | Floats = 288.0  # K
    coolant_capacity: float | Floats = 4180.0  # J/(L K)
    set_point: float | Floats = 350.0  # K
    gain: float | Floats = 25.0  # L/min of coolant for each K too much
    valve: float | Floats = 3.0  # the cooling valve's full opening, as a multiple of `coolant`
    relief: float | Floats = 1.0  # MPa gauge at which the relief valve lifts


@dataclass(frozen=True, slots=True)
class Reactor:
    """The state, each [n]: concentration of A in mol/L, temperatures of contents and jacket in K, and by how
    much the feed is stronger (mol/L) and warmer (K) than it should be."""

    concentration: Floats
    temperature: Floats
    jacket: Floats
    stronger: Floats
    warmer: Floats


BENCHMARK = Design()


def start(design: Design, n: int, random: Generator) -> Reactor:
    """The published operating point, with a feed that wanders already."""
    return Reactor(
        concentration=np.full(n, 0.5),
        temperature=np.full(n, 350.0),
        jacket=np.full(n, 300.0),
        stronger=_STRENGTH * random.standard_normal(n),
        warmer=_WARMTH * random.standard_normal(n),
    )


def step(design: Design, state: Reactor, dt: float, inputs: Inputs, random: Generator) -> Reactor:
    """The state dt seconds later. Runge-Kutta of fourth order, its step chosen for each unit by its own
    temperature, so that a unit's course does not depend on its neighbours. Raises ValueError if dt < 0."""
    if dt < 0:
        raise ValueError("time does not flow backwards")
    noise = random.standard_normal((2, len(state.temperature)))
    state = replace(
        state,
        stronger=wander(state.stronger, _STRENGTH, dt, 600.0, noise[0]),
        warmer=wander(state.warmer, _WARMTH, dt, 900.0, noise[1]),
    )
    rates = _rates(design, state, inputs)
    y = (state.concentration, state.temperature, state.jacket)
    scans = math.ceil(dt / SCAN - 1e-9)
    for _ in range(scans):
        flow = _coolant(design, y[1], inputs) / design.jacket_volume
        y = _scan(y, dt / scans, replace(rates, flow=flow))
    return replace(state, concentration=y[0], temperature=y[1], jacket=y[2])


def coolant_flow(design: Design, state: Reactor, inputs: Inputs) -> Floats:
    """L/min of water through the jacket: what the controller's valve lets in, and the emergency water."""
    return _coolant(design, state.temperature, inputs)


def valve_position(design: Design, state: Reactor) -> Floats:
    """How far the controller has opened the cooling valve, %. Water that is missing behind it opens it further."""
    return 100.0 * _opening(design, state.temperature)


def heat_balance(design: Design, state: Reactor, inputs: Inputs) -> dict[str, Floats]:
    """The flows of heat in J/min: reaction and feed into the contents, wall into the jacket, coolant out of it,
    and, as "capacity", what a jacket at rest would take if all the water that there is ran through it."""
    per_litre = design.density * design.heat_capacity
    exchange = _exchange(design, inputs)
    coolant = coolant_flow(design, state, inputs) * design.coolant_capacity
    most = (inputs["cooling"] * design.valve + inputs["emergency"]) * design.coolant * design.coolant_capacity
    warmer = state.temperature - design.coolant_temperature
    return {
        "reaction": design.reaction_heat * design.volume * _constant(design, state) * state.concentration,
        "feed": inputs["feed"]
        * design.feed
        * per_litre
        * (_feed_temperature(design, state, inputs) - state.temperature),
        "wall": exchange * (state.temperature - state.jacket),
        "coolant": coolant * (state.jacket - design.coolant_temperature),
        "capacity": exchange * most / np.maximum(exchange + most, 1e-9) * warmer,
    }


def measure(design: Design, state: Reactor, inputs: Inputs) -> dict[str, Floats]:
    """Every signal. Pressure is a nitrogen blanket of 0.2 MPa (absolute, at 350 K) and the vapour of water over
    it (August-Roche-Magnus; close enough beyond 100 °C for a vessel that has no real solvent), until the
    relief valve lifts. Level is the overflow's at 350 K and swells by 0.05 % of itself for each K."""
    return {
        "temperature": state.temperature - 273.15,
        "pressure": np.minimum(_pressure(state.temperature), design.relief),
        "level": 70.0 * (1 + 5.0e-4 * (state.temperature - 350.0)),
        "coolant_flow": coolant_flow(design, state, inputs),
        "cooling_valve": valve_position(design, state),
        "jacket_temperature": state.jacket - 273.15,
        "concentration": state.concentration,
    }


def stages(design: Design, state: Reactor, inputs: Inputs) -> dict[str, NDArray[np.int8]]:
    """How far each hazard has come; its `source` says why these are the bounds."""
    hotter = state.temperature - design.set_point
    heat = heat_balance(design, state, inputs)
    flow = coolant_flow(design, state, inputs)
    unusual = (hotter > 0) & ((flow < _FLOW[0]) | (flow > _FLOW[1]))
    lifted = _pressure(state.temperature) >= design.relief
    rising = heat["reaction"] + heat["feed"] > heat["wall"]
    beyond = heat["reaction"] + heat["feed"] > heat["capacity"]
    return {
        "over_temperature": stage(hotter > 1.0, state.temperature > 373.15, lifted),
        "runaway": stage((hotter > 1.0) | unusual, (hotter > 3.0) & rising & beyond, lifted),
    }


@dataclass(frozen=True, slots=True)
class _Rates:
    """The coefficients of the three balances, 1/min and K; each a number or [n]."""

    through: Floats  # feed / volume
    strength: Floats  # mol/L of the feed
    warmth: Floats  # K of the feed
    frequency: float | Floats
    activation: float | Floats
    rise: float | Floats  # K for each mol/L that reacts
    lost: Floats  # wall, as the contents feel it
    gained: Floats  # wall, as the jacket feels it
    water: float | Floats  # K of the coolant that comes in
    flow: Floats  # coolant / jacket volume

    def of(self, units: NDArray[np.bool_]) -> "_Rates":
        """The coefficients of these units."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _Rates(
            **{k: v[units] if isinstance(v, np.ndarray) and v.ndim else v for k, v in values.items()}
        )


_Y = tuple[Floats, Floats, Floats]

_STRENGTH, _WARMTH = 0.002, 0.15
"""1 sigma of the feed's concentration in mol/L and of its temperature in K, wandering over 10 and 15 minutes."""

_FLOW = (42.0, 58.0)
"""L/min of coolant that an ordinary day stays between."""


def _rates(design: Design, state: Reactor, inputs: Inputs) -> _Rates:
    exchange = _exchange(design, inputs)
    per_litre = design.density * design.heat_capacity
    return _Rates(
        through=inputs["feed"] * design.feed / design.volume,
        strength=design.feed_concentration + state.stronger,
        warmth=_feed_temperature(design, state, inputs),
        frequency=design.frequency,
        activation=design.activation,
        rise=design.reaction_heat / per_litre,
        lost=exchange / (design.volume * per_litre),
        gained=exchange / (design.jacket_volume * design.coolant_capacity),
        water=design.coolant_temperature,
        flow=np.zeros_like(exchange),
    )


def _exchange(design: Design, inputs: Inputs) -> Floats:
    return design.exchange * (1.0 - inputs["fouling"])


def _feed_temperature(design: Design, state: Reactor, inputs: Inputs) -> Floats:
    return design.feed_temperature + state.warmer + inputs["feed_temperature_offset"]


def _coolant(design: Design, temperature: Floats, inputs: Inputs) -> Floats:
    through = _opening(design, temperature) * design.valve * design.coolant
    return inputs["cooling"] * through + inputs["emergency"] * design.coolant


def _opening(design: Design, temperature: Floats) -> Floats:
    """Of the cooling valve, 0 to 1: in proportion to how much too warm it is, around the operating point's flow."""
    wanted = design.coolant + design.gain * (temperature - design.set_point)
    return np.clip(wanted / (design.valve * design.coolant), 0.0, 1.0)


def _pressure(temperature: Floats) -> Floats:
    """MPa gauge, were there no relief valve."""
    celsius = temperature - 273.15
    vapour = 610.94e-6 * np.exp(17.625 * celsius / (celsius + 243.04))
    return 0.2 * temperature / 350.0 + vapour - 0.1013


def _constant(design: Design, state: Reactor) -> Floats:
    return np.minimum(design.frequency * np.exp(-design.activation / state.temperature), FASTEST)


def _scan(y: _Y, seconds: float, rates: _Rates) -> _Y:
    hot = y[1] > HOT
    if not hot.any():
        return _integrate(y, seconds, CALM_STEP, rates)
    if hot.all():
        return _integrate(y, seconds, HOT_STEP, rates)
    calm = ~hot
    cool = _integrate((y[0][calm], y[1][calm], y[2][calm]), seconds, CALM_STEP, rates.of(calm))
    warm = _integrate((y[0][hot], y[1][hot], y[2][hot]), seconds, HOT_STEP, rates.of(hot))
    after = np.empty((3, len(hot)))
    after[:, calm] = cool
    after[:, hot] = warm
    return after[0], after[1], after[2]


def _integrate(y: _Y, seconds: float, longest: float, rates: _Rates) -> _Y:
    parts = math.ceil(seconds / longest - 1e-9)
    h = seconds / parts / 60.0
    for _ in range(parts):
        a = _slopes(y, rates)
        b = _slopes(_ahead(y, a, h / 2), rates)
        c = _slopes(_ahead(y, b, h / 2), rates)
        d = _slopes(_ahead(y, c, h), rates)
        y = (
            y[0] + h / 6 * (a[0] + 2 * (b[0] + c[0]) + d[0]),
            y[1] + h / 6 * (a[1] + 2 * (b[1] + c[1]) + d[1]),
            y[2] + h / 6 * (a[2] + 2 * (b[2] + c[2]) + d[2]),
        )
    return y


def _slopes(y: _Y, rates: _Rates) -> _Y:
    concentration, temperature, jacket = y
    reacted = np.minimum(rates.frequency * np.exp(-rates.activation / temperature), FASTEST) * concentration
    wall = temperature - jacket
    return (
        rates.through * (rates.strength - concentration) - reacted,
        rates.through * (rates.warmth - temperature) + rates.rise * reacted - rates.lost * wall,
        rates.gained * wall - rates.flow * (jacket - rates.water),
    )


def _ahead(y: _Y, slope: _Y, h: float) -> _Y:
    return (y[0] + h * slope[0], y[1] + h * slope[1], y[2] + h * slope[2])


KIND = Kind(
    name="stirred_reactor",
    design=BENCHMARK,
    signals=(
        Signal("temperature", "℃", 75.8, 77.9, "temperature of the contents"),
        Signal("pressure", "MPa", 0.130, 0.152, "gauge pressure over the contents"),
        Signal("level", "%", 69.9, 70.1, "level of the contents"),
        Signal("coolant_flow", "L/min", *_FLOW, "cooling water through the jacket"),
        Signal("cooling_valve", "%", 28.0, 39.0, "how far the controller has opened the cooling valve"),
        Signal("jacket_temperature", "℃", 20.0, 36.0, "temperature of the jacket's water"),
        Signal("concentration", "mol/L", 0.45, 0.55, "reactant that has not reacted"),
    ),
    inputs=(
        Input(
            "cooling", 1.0, 0.0, 1.0, "share of the cooling water that is there for the controller's valve"
        ),
        Input("feed", 1.0, 0.0, 1.2, "share of the designed feed; 0 is what people do who stop the reaction"),
        Input(
            "emergency", 0.0, 0.0, 3.0, "water let in past the controller, as a share of the designed coolant"
        ),
        Input("fouling", 0.0, 0.0, 0.9, "share of the wall's heat exchange that deposits have taken"),
        Input("feed_temperature_offset", 0.0, -30.0, 30.0, "by how many K the feed's heater is wrong"),
    ),
    hazards=(
        Hazard(
            "over_temperature",
            "反应釜超温",
            "Reactor over-temperature",
            "III",
            ("temperature", "pressure"),
            60.0,
            "VISIBLE: 1 K above the set-point, seven times the ordinary swing. DANGER: 100 °C, where the contents' "
            "vapour alone is at atmospheric pressure, so that what escapes flashes. HARM: the relief valve lifts "
            "at 1.0 MPa gauge.",
        ),
        Hazard(
            "runaway",
            "反应失控",
            "Thermal runaway",
            "I",
            ("temperature", "coolant_flow", "cooling_valve", "pressure"),
            120.0,
            "N. N. Semenov, Z. Phys. 48 (1928) 571; F. Stoessel, Thermal Safety of Chemical Processes, ch. 2 and 5. "
            "VISIBLE: the temperature is 1 K above its set-point, or above it while the coolant's flow is unusual. "
            "DANGER: more than 3 K above the set-point, rising, and reaction and feed bring more heat than the "
            "jacket takes with all the cooling that is there: no return unless something is changed. HARM: the "
            "relief valve lifts.",
        ),
    ),
    start=start,
    step=step,
    measure=measure,
    stages=stages,
)
