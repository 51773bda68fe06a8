"""An atmospheric gasoline tank in its bund: filled, drawn, overfilled, leaking; and the vapour of what is spilled.

The tank has the size and the filling rate of tank 912 at Buncefield (Buncefield Major Incident Investigation
Board, The Buncefield Incident 11 December 2005, final report, 2008: 25 m wide, 550 m³/h): a fixed roof over
an internal floating deck, so that breathing is next to nothing. A leak is an orifice at the bottom
(Torricelli). The pool it makes is 10 mm deep on concrete until the bund is covered (CPR 14E "Yellow Book",
ch. 3). It evaporates with the mass transfer coefficient of D. Mackay, R. S. Matsugu, Can. J. Chem. Eng. 51
(1973) 434, at the temperature at which evaporation takes what air, sun and ground bring. Vapour pressure of
RVP 10 gasoline: US EPA AP-42, ch. 7.1. The wind carries the vapour out of the bund, which is one stirred box;
a detector near the drain sees more of it, one across the bund less and later.

What is left out: fresh gasoline loses its light ends first, so an old pool gives off less than here; an
overflow that falls as spray gives off more; the bund never overflows and nothing burns.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats, Hazard, Input, Inputs, Kind, Signal, stage, towards, wander

DAY = 86400.0
GRAVITY = 9.81  # m/s²
GAS = 8.314  # J/(mol K)
ATMOSPHERE = 101325.0  # Pa

DENSITY = 740.0  # kg/m³, GB 17930 allows 720-775 at 20 °C
HEAT_CAPACITY = 2100.0  # J/(kg K)
VAPORISATION = 3.4e5  # J/kg; gasoline as a whole, order of magnitude
VAPOUR_MASS = 0.066  # kg/mol, AP-42 table 7.1-2, RVP 10
LEL = 0.014  # share of the air's volume
SCHMIDT = 2.0  # air's viscosity over the diffusivity of C5-C6 in it

WAITS_TO_RECEIVE, RECEIVES, WAITS_TO_DELIVER, DELIVERS = range(4)
"""What a tank does, in turn."""


@dataclass(frozen=True, slots=True)
class Design:
    """The tank, its bund and the weather over it. Sizes of the bund's air are orders of magnitude."""

    diameter: float | Floats = 25.0  # m
    height: float | Floats = 14.3  # m to the overflow, 100 % of level
    receiving: float | Floats = 550.0  # m³/h
    delivering: float | Floats = 300.0  # m³/h
    full: tuple[float, float] = (70.0, 78.0)  # % at which a delivery into the tank is stopped
    empty: tuple[float, float] = (20.0, 30.0)  # % at which loading from the tank is stopped
    waits: tuple[float, float] = (3600.0, 4 * 3600.0)  # s between the two
    bore: float | Floats = 0.1  # m, the drain: the largest leak
    discharge: float | Floats = 0.61  # of a sharp-edged orifice
    bund: float | Floats = 60.0  # m, the side of a square
    depth: float | Floats = 0.01  # m of a pool that can still spread
    layer: float | Floats = 2.0  # m of air over the bund that the vapour mixes with
    shelter: float | Floats = 0.3  # share of the wind that reaches that layer
    near: float | Floats = 3.0  # what the first detector sees of the bund's mean
    far: float | Floats = 0.6  # and the second
    passage: float = 60.0  # s by which the second is later
    warmth: float | Floats = 3.0e2  # W/m² that sun and ground give a cold pool
    air: float | Floats = 293.15  # K, the day's mean
    swing: float | Floats = 5.0  # K from it to the warmest and coldest hour
    begins: float | Floats = 8 * 3600.0  # s after midnight when the simulation starts
    wind: float | Floats = 3.0  # m/s at 10 m


@dataclass(frozen=True, slots=True)
class Tank:
    """The state, each [n].

    volume, pool: m³ of liquid in the tank and in the bund. temperature: K of the liquid. phase: what it does;
    left: s still to wait; target: m³ at which this phase ends. inflow, outflow: m³/h during the last step;
    evaporation: kg/s during the last step. vapour: kg/m³, the bund's mean; across: the same as it reaches the
    second detector. clock: s since midnight. The rest wander, in standard deviations: pumps, weather (warmth),
    breeze, and the gusts at each detector.
    """

    volume: Floats
    pool: Floats
    temperature: Floats
    phase: NDArray[np.int64]
    left: Floats
    target: Floats
    inflow: Floats
    outflow: Floats
    evaporation: Floats
    vapour: Floats
    across: Floats
    clock: Floats
    pumps: Floats
    weather: Floats
    breeze: Floats
    gust: Floats
    other_gust: Floats


def start(design: Design, n: int, random: Generator) -> Tank:
    """Eight in the morning, each tank somewhere in its turns."""
    phase = random.integers(0, 4, n)
    share = random.random(n)
    low, high = design.empty[1], design.full[0]
    percent = np.select(
        [phase == WAITS_TO_RECEIVE, phase == WAITS_TO_DELIVER],
        [low - 5.0 * share, high + 5.0 * share],
        low + (high - low) * share,
    )
    zero = np.zeros(n)
    state = Tank(
        volume=percent / 100.0 * capacity(design) + zero,
        pool=zero,
        temperature=design.air + random.standard_normal(n),
        phase=phase,
        left=zero,
        target=zero,
        inflow=zero,
        outflow=zero,
        evaporation=zero,
        vapour=zero,
        across=zero,
        clock=np.zeros(n) + design.begins,
        pumps=random.standard_normal(n),
        weather=random.standard_normal(n),
        breeze=random.standard_normal(n),
        gust=random.standard_normal(n),
        other_gust=random.standard_normal(n),
    )
    return _begin(design, state, np.full(n, True), random)


def capacity(design: Design) -> float | Floats:
    """m³ up to the overflow."""
    return math.pi / 4 * design.diameter**2 * design.height


def step(design: Design, state: Tank, dt: float, inputs: Inputs, random: Generator) -> Tank:
    """The state dt seconds later. What comes in is at the end in the tank, gone by the outlet, in the pool or
    evaporated, exactly. Raises ValueError if dt <= 0."""
    if dt <= 0:
        raise ValueError("time goes forward")
    state = _weather(state, dt, random)
    state = _turns(design, state, dt, random)
    state, lost = _liquid(design, state, dt, inputs)
    return _bund(design, state, dt, lost, inputs)


def measure(design: Design, state: Tank, inputs: Inputs) -> dict[str, Floats]:
    """Every signal. Packings and vents always give off a little vapour, and gusts blow it to and fro."""
    near, far = lel(design, state)
    return {
        "level": 100.0 * state.volume / capacity(design),
        "inflow": state.inflow,
        "outflow": state.outflow,
        "temperature": state.temperature - 273.15,
        "vapour_1": (near + 0.4) * np.exp(0.25 * state.gust),
        "vapour_2": (far + 0.4) * np.exp(0.25 * state.other_gust),
    }


def stages(design: Design, state: Tank, inputs: Inputs) -> dict[str, NDArray[np.int8]]:
    """How far each hazard has come; its `source` says why these are the bounds."""
    room = capacity(design) - state.volume
    level = 100.0 * state.volume / capacity(design)
    worst = np.maximum(*lel(design, state))
    return {
        "overfill": stage(level > _NORMAL[1], room < 0.5 * design.receiving, room <= 0.0),
        "flammable_vapour": stage(worst > 5.0, worst > 25.0, worst > 100.0),
    }


def lel(design: Design, state: Tank) -> tuple[Floats, Floats]:
    """%LEL that the pool's vapour makes at the two detectors' places, over some minutes' gusts."""
    limit = LEL * VAPOUR_MASS * ATMOSPHERE / (GAS * _air(design, state))
    return 100.0 * design.near * state.vapour / limit, 100.0 * design.far * state.across / limit


def evaporation_flux(design: Design, state: Tank) -> Floats:
    """kg/(m² s) of a pool under this wind and air."""
    air = _air(design, state)
    width = np.sqrt(np.maximum(_spread(design, state.pool), 1.0) * 4 / math.pi)
    transfer: Floats = 0.00482 * _wind(design, state) ** 0.78 * width**-0.11 * SCHMIDT**-0.67
    exchange = 1200.0 * 1.7 * transfer  # W/(m² K): Chilton-Colburn, 1200 J/(m³ K) of air, Lewis number 2.2
    pool = air
    for _ in range(4):  # Newton from the warm side, where it converges without overshoot
        gives = VAPORISATION * transfer * _saturated(pool, air)
        excess = exchange * (air - pool) + design.warmth - gives
        pool = np.minimum(pool + excess / (exchange + gives * _STEEPNESS / pool**2), air)
    return transfer * _saturated(pool, air)


def _turns(design: Design, state: Tank, dt: float, random: Generator) -> Tank:
    """Who has waited long enough, or has reached its level, goes on to what comes next."""
    left = state.left - dt
    waits = (state.phase == WAITS_TO_RECEIVE) | (state.phase == WAITS_TO_DELIVER)
    done = np.select(
        [waits, state.phase == RECEIVES],
        [left <= 0, state.volume >= state.target],
        state.volume <= state.target,
    )
    return _begin(design, replace(state, phase=(state.phase + done) % 4, left=left), done, random)


def _begin(design: Design, state: Tank, which: NDArray[np.bool_], random: Generator) -> Tank:
    """These units draw how long their phase is."""
    share = random.random(len(which))
    waiting = design.waits[0] + (design.waits[1] - design.waits[0]) * share
    full = design.full[0] + (design.full[1] - design.full[0]) * share
    empty = design.empty[0] + (design.empty[1] - design.empty[0]) * share
    target = np.where(state.phase == RECEIVES, full, empty) / 100.0 * capacity(design)
    return replace(
        state, left=np.where(which, waiting, state.left), target=np.where(which, target, state.target)
    )


def _liquid(design: Design, state: Tank, dt: float, inputs: Inputs) -> tuple[Tank, Floats]:
    """The tank after dt, and the m³ that it lost to the bund meanwhile."""
    area = math.pi / 4 * design.diameter**2
    opened = (inputs["inlet_stuck"] >= 0.5) | (state.phase == RECEIVES)
    rate = (1 + 0.01 * state.pumps) * design.receiving * inputs["inflow"]
    inflow = np.where(opened & (inputs["shutoff"] < 0.5), rate, 0.0)
    filled = state.volume + inflow * dt / 3600
    hole = inputs["leak"] * math.pi / 4 * design.bore**2
    root = np.sqrt(filled / area)
    fall = np.minimum(design.discharge * hole / area * math.sqrt(GRAVITY / 2) * dt, root)
    leaked = np.minimum(area * fall * (2 * root - fall), filled)
    # a tank that takes in gives nothing out
    wanted = np.where((state.phase == DELIVERS) & (inflow == 0), design.delivering * inputs["outflow"], 0.0)
    drawn = np.minimum(wanted * dt / 3600, filled - leaked)
    left = filled - leaked - drawn
    volume = np.minimum(left, capacity(design))
    lost = leaked + (left - volume)
    surface = 2 * area + math.pi * design.diameter * design.height
    inert = (
        np.maximum(state.volume, 50.0) * DENSITY * HEAT_CAPACITY / (5.0 * surface)
    )  # s; 5 W/(m² K), painted steel
    temperature = state.temperature + (design.air - state.temperature) * (filled - state.volume) / np.maximum(
        filled, 1e-9
    )
    air = _air(design, state)
    return replace(
        state,
        volume=volume,
        temperature=towards(temperature, air, dt, inert),
        inflow=inflow,
        outflow=drawn * 3600 / dt,
    ), lost


def _bund(design: Design, state: Tank, dt: float, lost: Floats, inputs: Inputs) -> Tank:
    """The pool, which gains what was lost and evaporates, and the vapour over it."""
    source = lost / dt
    held = np.maximum(state.pool + lost, 1e-12)
    flux = evaporation_flux(design, state) * (1.0 - inputs["foam"])
    share = flux * _spread(design, held) / (DENSITY * held)  # 1/s of the pool that evaporates
    kept = np.exp(-share * dt)
    grown = np.where(share > 1e-9, -np.expm1(-share * dt) / np.maximum(share, 1e-9), dt)  # s
    pool = state.pool * kept + source * grown
    evaporation = (state.pool + lost - pool) * DENSITY / dt
    away = design.shelter * _wind(design, state) / design.bund  # 1/s
    settled = evaporation / (away * design.bund**2 * design.layer)
    vapour = towards(state.vapour, settled, dt, 1 / away)
    across = towards(state.across, vapour, dt, design.passage)
    return replace(state, pool=pool, evaporation=evaporation, vapour=vapour, across=across)


def _weather(state: Tank, dt: float, random: Generator) -> Tank:
    noise = random.standard_normal((5, len(state.clock)))
    return replace(
        state,
        clock=(state.clock + dt) % DAY,
        pumps=wander(state.pumps, 1.0, dt, 600.0, noise[0]),
        weather=wander(state.weather, 1.0, dt, 2 * DAY, noise[1]),
        breeze=wander(state.breeze, 1.0, dt, 1800.0, noise[2]),
        gust=wander(state.gust, 1.0, dt, 60.0, noise[3]),
        other_gust=wander(state.other_gust, 1.0, dt, 60.0, noise[4]),
    )


def _air(design: Design, state: Tank) -> Floats:
    """K; warmest at three in the afternoon."""
    hour = np.sin(2 * math.pi * (state.clock / DAY - 9 / 24))
    return design.air + design.swing * hour + 2.0 * np.clip(state.weather, -4.0, 4.0)


def _wind(design: Design, state: Tank) -> Floats:
    """m/s at 10 m."""
    return np.clip(design.wind * np.exp(0.35 * state.breeze), 0.5, 20.0)


def _spread(design: Design, pool: Floats) -> Floats:
    """m² that so many m³ cover: as thin as they can, within the bund and beside the tank."""
    return np.minimum(pool / design.depth, design.bund**2 - math.pi / 4 * design.diameter**2)


_STEEPNESS = 5237.3 / 1.8
"""K: the vapour pressure's logarithm falls by so much for each 1/K; AP-42 has it in degrees Rankine."""


def _saturated(pool: Floats, air: Floats) -> Floats:
    """kg/m³ over a pool of this temperature."""
    pressure = 6894.76 * np.exp(11.724 - _STEEPNESS / pool)
    return pressure * VAPOUR_MASS / (GAS * air)


_NORMAL = (17.0, 81.0)
"""% of level that filling and drawing stay between."""

KIND = Kind(
    name="tank_farm",
    design=Design(),
    signals=(
        Signal("level", "%", *_NORMAL, "liquid level, 100 % at the overflow"),
        Signal("inflow", "m³/h", 0.0, 600.0, "what is pumped into the tank"),
        Signal("outflow", "m³/h", 0.0, 310.0, "what is drawn from it for loading"),
        Signal("temperature", "℃", 10.0, 30.0, "temperature of the liquid"),
        Signal("vapour_1", "%LEL", 0.0, 3.0, "gasoline vapour in the bund beside the drain"),
        Signal("vapour_2", "%LEL", 0.0, 3.0, "gasoline vapour across the bund"),
    ),
    inputs=(
        Input("inflow", 1.0, 0.0, 2.0, "share of the usual rate of the pump that fills the tank"),
        Input("outflow", 1.0, 0.0, 1.5, "share of the usual rate of loading"),
        Input("inlet_stuck", 0.0, 0.0, 1.0, "1: the inlet valve stands open and does not close"),
        Input(
            "leak", 0.0, 0.0, 1.0, "leak at the bottom, as a share of the drain's area; 0.01 is a 10 mm hole"
        ),
        Input("shutoff", 0.0, 0.0, 1.0, "1: people have shut the emergency valve in the inlet"),
        Input("foam", 0.0, 0.0, 1.0, "share of the pool that people have covered with foam"),
    ),
    hazards=(
        Hazard(
            "overfill",
            "储罐满溢",
            "Tank overfill",
            "III",
            ("level", "inflow"),
            900.0,
            "API 2350: between the high-high level and the overflow there must be time to respond, 45 to 15 minutes by "
            "category. VISIBLE: above the level at which filling is always stopped. DANGER: less room than half an "
            "hour of filling needs. HARM: it overflows.",
        ),
        Hazard(
            "flammable_vapour",
            "可燃蒸气积聚",
            "Flammable vapour",
            "II",
            ("vapour_1", "vapour_2"),
            600.0,
            "VISIBLE: 5 %LEL at a detector, twice what vents and packings give. DANGER: 25 %LEL as a mean of minutes, "
            "where work stops (NFPA 69: ventilation keeps below it); peaks are twice the mean then, and nearer to the "
            "pool it burns already. HARM: 100 %LEL: a flammable cloud that fills the bund. LEL of gasoline: 1.4 % by "
            "volume (NFPA 325).",
        ),
    ),
    start=start,
    step=step,
    measure=measure,
    stages=stages,
)
