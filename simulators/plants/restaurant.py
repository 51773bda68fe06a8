"""A restaurant's kitchen on LPG cylinders: gas that collects near the floor, and burners that make carbon monoxide.

Gas in the kitchen is a mass balance of two well-mixed layers: LPG is heavier than air, enters the floor layer, is
stirred up into the rest of the room, and leaves with the hood's draught and through doors. Two layers, and the flows
between them, are engineering orders of magnitude, not measurements. Their equation is linear and solved exactly over
a step.

A leak is an orifice on the vapour side of the cylinders. Its flow is that of the ideal-gas nozzle, choked or not
(D. A. Crowl, J. F. Louvar, "Chemical Process Safety", flow of gases through holes), under the mixture's vapour
pressure (Raoult's law; Antoine constants of B. E. Poling, J. M. Prausnitz, J. P. O'Connell, "The Properties of
Gases and Liquids", 5th ed., appendix A). What evaporates cools the liquid, so that a large leak throttles itself.
The mixture keeps its composition, though in truth propane leaves first.

Flammability: NFPA 325, propane 2.1 %, n-butane 1.9 % by volume, mixed by Le Chatelier's rule. Carbon monoxide in
the blood: Haldane's ratio, approached as a first-order lag (R. F. Coburn, R. E. Forster, P. B. Kane, J. Clin.
Invest. 44 (1965) 1899, made linear). Cylinders: YSP118 of GB 5842, 118 L, 49.5 kg of gas, 47 kg empty. Sizes of the
room, of its air flows and of the day's cooking are engineering orders of magnitude.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats, Hazard, Input, Inputs, Kind, Signal, stage, towards, wander

Size = float | Floats
"""One for all units, or one for each, [n]."""

HOUR = 3600.0
DAY = 86_400.0

MOLAR_MASS = 0.0511
"""kg/mol of half propane, half butane by moles."""
GAS_CONSTANT = 8.314  # J/(mol K)
ATMOSPHERE = 1.01325e5  # Pa
ADIABATIC = 1.11
"""Ratio of specific heats of the vapour; propane 1.13, butane 1.09."""
LEL_VOLUME = 1 / (0.5 / 0.021 + 0.5 / 0.019)
"""Share of volume at the lower explosive limit."""
LEL = LEL_VOLUME * MOLAR_MASS / 0.024055
"""kg/m³ at the lower explosive limit, at 20 °C."""


@dataclass(frozen=True, slots=True)
class Design:
    """The kitchen and its cylinders."""

    begins: Size = 8 * HOUR  # s after midnight at the start
    volume: Size = 90.0  # m³
    floor_share: Size = 0.18  # of the volume, the layer below half a metre
    stirring: Size = 250.0  # m³/h between the layers without the hood
    hood: Size = 3000.0  # m³/h while it runs
    infiltration: Size = 150.0  # m³/h through gaps
    doorway: Size = 3000.0  # m³/h more with doors and windows wide open
    burners: Size = 4.0  # kg/h of gas, all burners full
    ignition_loss: Size = 0.01  # share of what is burnt that escapes before it lights
    fill: Size = 99.0  # kg in two full cylinders
    tare: Size = 94.0  # kg of two empty cylinders
    exchange_at: Size = 8.0  # kg left
    exchange_puff: Size = 0.005  # kg that escapes from the hose at an exchange
    wall: Size = 30.0  # W/K from the room to the liquid, both cylinders
    latent_heat: Size = 3.75e5  # J/kg
    liquid_heat: Size = 2500.0  # J/(kg K)
    steel_heat: Size = 480.0  # J/(kg K)
    co_yield: Size = 4.0  # g of carbon monoxide for each kg burnt by a clean flame
    co_yield_starved: Size = 150.0  # g/kg by a flame that gets too little air
    capture: Size = 0.9  # share of the fumes that the hood catches at once
    load_spread: Size = 0.15  # of the cooking, relative
    weather_spread: Size = 3.0  # °C


@dataclass(frozen=True, slots=True)
class Kitchen:
    """The state, each [n].

    time: s since midnight of the first day. content: kg of gas in the cylinders. cylinder: °C of the liquid.
    floor, above: kg of unburnt gas in the two layers. co: g of carbon monoxide in the room. cohb: % of a cook's
    haemoglobin bound by it. load, weather: what cooking (relative) and the outdoors (°C) depart from usual.
    burnt, vented, brought: kg since the start, burnt, carried outdoors, and in full cylinders brought less what was
    taken back in old ones.
    """

    time: Floats
    content: Floats
    cylinder: Floats
    floor: Floats
    above: Floats
    co: Floats
    cohb: Floats
    load: Floats
    weather: Floats
    burnt: Floats
    vented: Floats
    brought: Floats


def vapour_pressure(celsius: Floats) -> Floats:
    """Pa, absolute, over liquid of half propane and half butane."""
    t = np.clip(celsius, -60.0, 90.0)
    propane = 10 ** (3.92828 - 803.997 / (t + 247.04))
    butane = 10 ** (3.93266 - 935.773 / (t + 238.789))
    return 0.5e5 * (propane + butane)


def nozzle(celsius: Floats) -> Floats:
    """Mass flow through an orifice of unit area and discharge, kg/(m² s), from the cylinder into the room."""
    pressure = vapour_pressure(celsius)
    k = ADIABATIC
    choked = (2 / (k + 1)) ** (k / (k - 1))
    ratio = np.clip(ATMOSPHERE / pressure, choked, 1.0)  # below the critical ratio it flows no faster
    shape = 2 * k / (k - 1) * (ratio ** (2 / k) - ratio ** ((k + 1) / k))
    return pressure * np.sqrt(shape * MOLAR_MASS / (GAS_CONSTANT * (celsius + 273.15)))


AT_20 = float(nozzle(np.array(20.0)))
"""The nozzle's flow at the temperature for which a leak is given."""


def cooking(time: Floats) -> Floats:
    """Share of the burners that burn at this time of the day: prepared from nine, lunch, supper, out at nine."""
    hour = time % DAY / HOUR
    lunch = 0.8 * np.exp(-0.5 * ((hour - 12.0) / 0.75) ** 2)
    supper = 0.85 * np.exp(-0.5 * ((hour - 18.5) / 1.0) ** 2)
    return np.where((hour >= 9) & (hour < 21), 0.15 + lunch + supper, 0.0)


def staffed(time: Floats) -> NDArray[np.bool_]:
    """Whether people work in the kitchen; the hood runs then."""
    hour = time % DAY / HOUR
    return (hour >= 8.5) & (hour < 21.5)


def surroundings(design: Design, state: Kitchen, inputs: Inputs) -> Floats:
    """°C in the room where the cylinders stand."""
    outdoors = inputs["outdoors"] + state.weather
    swing = 2.0 * np.cos(2 * np.pi * (state.time / DAY - 15 / 24))
    return 20 + 0.6 * (outdoors - 20) + swing


def start(design: Design, n: int, random: Generator) -> Kitchen:
    """Kitchens in which no gas hangs, the cylinders somewhere between full and nearly empty."""
    fill, reserve = np.broadcast_to(design.fill, n), np.broadcast_to(design.exchange_at, n)
    return Kitchen(
        time=np.full(n, design.begins),
        content=random.uniform(reserve, fill),
        cylinder=np.full(n, 20.0),
        floor=np.zeros(n),
        above=np.zeros(n),
        co=np.zeros(n),
        cohb=np.ones(n),  # of one who has not smoked
        load=random.normal(0, design.load_spread, n),
        weather=random.normal(0, design.weather_spread, n),
        burnt=np.zeros(n),
        vented=np.zeros(n),
        brought=np.zeros(n),
    )


def step(design: Design, state: Kitchen, dt: float, inputs: Inputs, random: Generator) -> Kitchen:
    """The kitchens ``dt`` seconds later."""
    n = len(state.time)
    middle = state.time + dt / 2
    lit = np.clip(cooking(middle) * (1 + state.load), 0, 1)
    burning = (1 - inputs["flame_out"]) * lit * design.burners / HOUR
    leaking = inputs["leak"] / HOUR * nozzle(state.cylinder) / AT_20
    escaping = leaking + inputs["flame_out"] * design.burners / HOUR + design.ignition_loss * burning
    wanted = inputs["valve"] * (burning + escaping) * dt
    given = np.minimum(wanted, state.content)  # an empty cylinder gives nothing
    open_share = np.where(wanted > 0, inputs["valve"] * given / np.maximum(wanted, 1e-300), 0.0)
    burning, escaping = burning * open_share, escaping * open_share

    hood = staffed(middle) * inputs["hood"] * design.hood / HOUR
    outside = (design.infiltration + inputs["door"] * design.doorway) / HOUR
    floor, above, vented = _layers(design, state, dt, escaping, hood, outside)
    air = (hood + outside) / design.volume
    co, cohb = _carbon_monoxide(design, state, dt, inputs, burning, hood, air)

    content = state.content - given
    cylinder = _cooled(design, state, dt, inputs, burning + escaping)
    change = (
        (content < design.exchange_at)
        & staffed(middle)
        & (inputs["valve"] > 0.5)
        & (floor < 0.25 * LEL * design.floor_share * design.volume)  # nobody works in a cloud of gas
    )
    puff = np.where(change, design.exchange_puff, 0.0)
    return Kitchen(
        time=state.time + dt,
        content=np.where(change, design.fill - puff, content),
        cylinder=np.where(change, surroundings(design, state, inputs), cylinder),
        floor=floor + puff,
        above=above,
        co=co,
        cohb=cohb,
        load=wander(state.load, design.load_spread, dt, 1200.0, random.standard_normal(n)),
        weather=wander(state.weather, design.weather_spread, dt, 2 * DAY, random.standard_normal(n)),
        burnt=state.burnt + burning * dt,
        vented=state.vented + vented,
        brought=state.brought + np.where(change, design.fill - content, 0.0),
    )


def measure(design: Design, state: Kitchen, inputs: Inputs) -> dict[str, Floats]:
    """Every signal."""
    return {
        "gas": concentrations(design, state)[0],
        "cylinder_weight": state.content + design.tare,
        "cylinder_temperature": state.cylinder,
        "co": 1000 * state.co / design.volume,
    }


def concentrations(design: Design, state: Kitchen) -> tuple[Floats, Floats]:
    """%LEL in the layer at the floor and in the rest of the room."""
    floor = state.floor / (design.floor_share * design.volume)
    above = state.above / ((1 - design.floor_share) * design.volume)
    return np.maximum(floor, 0) / LEL * 100, np.maximum(above, 0) / LEL * 100


def stages(design: Design, state: Kitchen, inputs: Inputs) -> dict[str, NDArray[np.int8]]:
    """The Stage of every hazard."""
    gas = np.maximum(*concentrations(design, state))
    co = 1000 * state.co / design.volume
    return {
        "flammable_gas": stage(gas >= 4, gas >= 25, gas >= 100),
        "carbon_monoxide": stage(co >= 10, co >= 35, state.cohb >= 25),
    }


def _layers(
    design: Design, state: Kitchen, dt: float, source: Floats, hood: Floats, outside: Size
) -> tuple[Floats, Floats, Floats]:
    """Gas in both layers after ``dt`` and what left the room meanwhile, kg: the exact solution.

    floor' = source - a floor + d above; above' = b floor - c above. The hood draws air in at the floor.
    """
    low, high = design.floor_share * design.volume, (1 - design.floor_share) * design.volume
    stirring = design.stirring / HOUR
    gaps_low, gaps_high = outside * design.floor_share / low, outside * (1 - design.floor_share) / high
    b, d = (hood + stirring) / low, stirring / high
    a, c = b + gaps_low, d + hood / high + gaps_high
    determinant = a * c - b * d
    steady_low, steady_high = c * source / determinant, b * source / determinant
    x, y = state.floor - steady_low, state.above - steady_high
    mean, half = (a + c) / 2, np.sqrt(((a - c) / 2) ** 2 + b * d)
    slow, fast = np.exp((half - mean) * dt), np.exp(-(half + mean) * dt)
    even, odd = (slow + fast) / 2, (slow - fast) / 2 / half
    x_after = even * x + odd * ((mean - a) * x + d * y)
    y_after = even * y + odd * (b * x + (mean - c) * y)
    x_gone, y_gone = x - x_after, y - y_after
    low_seconds = steady_low * dt + (c * x_gone + d * y_gone) / determinant  # kg s spent in each layer
    high_seconds = steady_high * dt + (b * x_gone + a * y_gone) / determinant
    vented = gaps_low * low_seconds + (hood / high + gaps_high) * high_seconds
    return steady_low + x_after, steady_high + y_after, vented


def _carbon_monoxide(
    design: Design, state: Kitchen, dt: float, inputs: Inputs, burning: Floats, hood: Floats, air: Floats
) -> tuple[Floats, Floats]:
    """Grams in the room and % bound in the blood after ``dt``."""
    per_kg = design.co_yield + inputs["starved"] * (design.co_yield_starved - design.co_yield)
    caught = design.capture * hood / (design.hood / HOUR)
    steady = burning * per_kg * (1 - caught) / air
    co = towards(state.co, steady, dt, 1 / air)
    pressure = state.co / design.volume / 1.165e-3 * 1e-6 * ATMOSPHERE  # 1 ppm is 1.165 mg/m³ at 20 °C
    ratio = 220 * pressure / 1.33e4  # Haldane's constant, over the oxygen in the alveoli
    cohb = towards(state.cohb, 1 + 99 * ratio / (1 + ratio), dt, 9000.0)
    return co, cohb


def _cooled(design: Design, state: Kitchen, dt: float, inputs: Inputs, evaporating: Floats) -> Floats:
    """°C of the liquid after ``dt`` with this much evaporating, kg/s."""
    capacity = state.content * design.liquid_heat + design.tare * design.steel_heat
    steady = surroundings(design, state, inputs) - design.latent_heat * evaporating / design.wall
    return towards(state.cylinder, steady, dt, capacity / design.wall)


KIND = Kind(
    name="restaurant",
    design=Design(),
    signals=(
        Signal("gas", "%LEL", 0, 3, "unburnt gas 0.3 m above the floor"),
        Signal("cylinder_weight", "kg", 101, 194, "both cylinders on their scale, with what is in them"),
        Signal("cylinder_temperature", "°C", -5, 40, "the liquid in the cylinders"),
        Signal("co", "mg/m³", 0, 8, "carbon monoxide in the room"),
    ),
    inputs=(
        Input("leak", 0, 0, 20, "kg/h that a hole before the regulator lets out at 20 °C"),
        Input("flame_out", 0, 0, 1, "share of the burners that are open without a flame"),
        Input("starved", 0, 0, 1, "share of the flames that get too little air"),
        Input("hood", 1, 0, 1, "share of its air that the hood moves in working hours"),
        Input("door", 0, 0, 1, "how far doors and windows stand open"),
        Input("valve", 1, 0, 1, "the cylinder valves: 1 open, 0 shut"),
        Input("outdoors", 22, -20, 42, "°C outdoors"),
    ),
    hazards=(
        Hazard(
            "flammable_gas",
            "可燃气体积聚",
            "flammable gas collects",
            "II",
            ("gas", "cylinder_weight"),
            300,
            "NFPA 325: lower explosive limit of propane 2.1 %, of n-butane 1.9 %; 25 % of it is where work stops "
            "(NFPA 69: ventilation keeps below it); 4 % is above what ignitions and "
            "exchanges leave on an ordinary day; at 100 % a spark burns the room",
        ),
        Hazard(
            "carbon_monoxide",
            "一氧化碳中毒",
            "carbon monoxide poisoning",
            "II",
            ("co",),
            900,
            "WHO guidelines for indoor air quality (2010): 10 mg/m³ over eight hours, 35 mg/m³ for one hour at most; "
            "25 % carboxyhaemoglobin is severe poisoning (headache, collapse) in clinical texts",
        ),
    ),
    start=start,
    step=step,
    measure=measure,
    stages=stages,
)
