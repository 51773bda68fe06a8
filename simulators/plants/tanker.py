"""A road tanker of liquefied ammonia that goes to and fro: its tank may be heated, leak, or roll over.

The tank holds liquid and vapour in equilibrium: vapour pressure by Antoine's equation (D. R. Stull, Ind. Eng. Chem.
39 (1947) 517, as in the NIST Chemistry WebBook, 239.6 K to 371.5 K), liquid density as a straight line through
610 kg/m³ at 20 °C and 563 kg/m³ at 50 °C, heat capacity and latent heat as constants (NIST, 20 °C). One temperature
stands for liquid, vapour and shell. It is a first-order lag towards what air, sun, fire and spray make it, less what
boils off. The relief valve is API 520's: it begins at the set pressure and is wide open 10 % above; its mean flow in
a step is found implicitly, so that a fire under an almost empty tank stays stable. A leak is liquid through a hole:
flow as the root of the pressure. What the tank loses in strength by fire is not modelled: it does not burst.

Toxic cloud: a Gaussian plume on the ground with G. A. Briggs's open-country spreads of class D (F. A. Gifford,
Nuclear Safety 17 (1976) 68), wind 3 m/s; dense-gas effects are left out. Rolling over: the static rollover
threshold, the lateral acceleration in g at which the inner wheels lift (C. B. Winkler, R. D. Ervin, UMTRI-99-19);
41 % of tank trucks tested had one below 0.35 g (J. R. Billing, J. D. Patten, "An assessment of tank truck roll
stability"). Sizes of tank, route and driving are engineering orders of magnitude; the route is invented.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats, Hazard, Input, Inputs, Kind, Signal, stage, towards, wander

Size = float | Floats
"""One for all units, or one for each, [n]."""

HOUR = 3600.0
DAY = 86_400.0

GRAVITY = 9.81  # m/s²
ATMOSPHERE = 0.101325  # MPa
MOLAR_MASS = 0.017031  # kg/mol
GAS_CONSTANT = 8.314e-6  # MPa m³/(mol K)
COMPRESSIBILITY = 0.9  # of the saturated vapour near 20 °C
LIQUID_HEAT = 4750.0  # J/(kg K)
STEEL_HEAT = 480.0  # J/(kg K)
LATENT_HEAT = 1.19e6  # J/kg
BOILING = -33.3  # °C at one atmosphere
FLAME = 1100.0  # °C
IDLH = 360.0
"""mg/m³ of ammonia that is immediately dangerous to life and health."""

KM = np.array([0.0, 1.5, 3.5, 6.0, 6.8, 38.0, 58.0, 58.6, 64.0, 65.0])
"""Kilometres of the road's knots: loading terminal, traffic light, ramps, rest area, the plant that is supplied."""
LATITUDE = np.array([36.022, 36.030, 36.047, 36.066, 36.071, 36.290, 36.452, 36.457, 36.489, 36.495])
LONGITUDE = np.array(
    [120.205, 120.191, 120.183, 120.171, 120.165, 119.962, 119.870, 119.866, 119.823, 119.814]
)
STAY = np.array([5400.0, 0, 45, 0, 0, 1200, 0, 0, 0, 5400])
"""Seconds that the tanker stands at each knot; 0: it passes."""
LIMIT = np.array([30.0, 50, 50, 40, 80, 80, 40, 60, 20])
"""km/h that the road allows between two knots."""
RADIUS = np.array([200.0, 400, 400, 110, 1500, 1500, 100, 350, 100])
"""Metres of the tightest curve between two knots."""
BRAKING = 1.0  # m/s² of a driver who sees a bend or a stop ahead
HARD_BRAKING = 3.0  # m/s² at most
GAINING = 0.5  # m/s² of a loaded lorry
LONGEST = 5.0  # s of one stretch of driving that is computed at once
HELD = 10.0  # s at most in which the leak flows as at their beginning


@dataclass(frozen=True, slots=True)
class Design:
    """The vehicle and its tank."""

    begins: Size = 8 * HOUR  # s after midnight at the start
    volume: Size = 25.0  # m³
    full: Size = 13_000.0  # kg when loaded
    heel: Size = 600.0  # kg that stay when it is unloaded
    pump: Size = 3.5  # kg/s, loading and unloading
    loaded_at: Size = 18.0  # °C of what is loaded
    steel: Size = 10_000.0  # kg of shell
    air: Size = 600.0  # W/K from shell to air
    spray: Size = 40_000.0  # W/K more under water monitors
    sun: Size = 2500.0  # W that a white tank takes up at noon
    relief_set: Size = 2.1  # MPa
    relief_flow: Size = 4.0  # kg/s with the relief valve wide open
    cruise: Size = 0.93  # of the limit that a careful driver drives
    threshold: Size = 0.35  # g at which the wheels lift
    roll: Size = 6.0  # degrees for each g of lateral acceleration
    seals: Size = 0.5  # mg/m³ of ammonia in the valve box from sound seals
    weather_spread: Size = 2.5  # °C
    camber_spread: Size = 0.8  # degrees


@dataclass(frozen=True, slots=True)
class Tanker:
    """The state, each [n].

    time: s since midnight of the first day. position: m from the loading terminal along the road. heading: 1
    outward, -1 homeward. speed: m/s. staying: s that it still stands where it stopped. mass: kg of ammonia in the
    tank. temperature: °C. box: mg/m³ in the valve box. rolled: 1 when it lies on its side. cruise, weather, camber,
    seals, wind: what driving (of the limit), air (°C), road (degrees), seals (mg/m³) and wind (m/s) depart from
    usual. leaked, relieved, loaded: kg since the start; loaded is less what was unloaded.
    """

    time: Floats
    position: Floats
    heading: Floats
    speed: Floats
    staying: Floats
    mass: Floats
    temperature: Floats
    box: Floats
    rolled: Floats
    cruise: Floats
    weather: Floats
    camber: Floats
    seals: Floats
    wind: Floats
    leaked: Floats
    relieved: Floats
    loaded: Floats


def vapour_pressure(celsius: Floats) -> Floats:
    """MPa, absolute, over liquid ammonia; beyond the critical point as at it."""
    kelvin = np.clip(celsius, -60.0, 132.0) + 273.15
    return 0.1 * 10 ** (4.86886 - 1113.928 / (kelvin - 10.409))


def gas_mass(design: Design, pressure: Floats | float, celsius: Floats) -> Floats:
    """kg of vapour that fill the whole tank at this pressure, MPa absolute."""
    return pressure * MOLAR_MASS * design.volume / (COMPRESSIBILITY * GAS_CONSTANT * (celsius + 273.15))


def tank_pressure(design: Design, mass: Floats, celsius: Floats) -> Floats:
    """MPa gauge: the vapour pressure while there is liquid, that of a gas when there is none."""
    saturated = vapour_pressure(celsius)
    return np.minimum(saturated, mass / gas_mass(design, 1.0, celsius)) - ATMOSPHERE


def liquid_density(celsius: Floats) -> Floats:
    """kg/m³."""
    return 610 - 1.57 * (np.clip(celsius, -60.0, 110.0) - 20)


def level(design: Design, state: Tanker) -> Floats:
    """% of the tank's volume that is liquid."""
    gas = gas_mass(design, vapour_pressure(state.temperature), state.temperature)
    dense = liquid_density(state.temperature) * design.volume
    return np.clip(100 * (state.mass - gas) / (dense - gas), 0, 100)


def start(design: Design, n: int, random: Generator) -> Tanker:
    """Tankers anywhere on the road, full on the way out and empty on the way home."""
    heading = random.choice(np.array([-1.0, 1.0]), n)
    zero = np.zeros(n)
    return Tanker(
        time=np.full(n, design.begins),
        position=random.uniform(0, 1000 * KM[-1], n),
        heading=heading,
        speed=zero,
        staying=zero,
        mass=np.where(heading > 0, design.full, design.heel),
        temperature=random.normal(20.0, 2.0, n),
        box=np.full(n, design.seals),
        rolled=zero,
        cruise=random.normal(0, 0.03, n),
        weather=random.normal(0, design.weather_spread, n),
        camber=random.normal(0, design.camber_spread, n),
        seals=random.normal(0, 0.1, n),
        wind=random.normal(0, 0.8, n),
        leaked=zero,
        relieved=zero,
        loaded=zero,
    )


def step(design: Design, state: Tanker, dt: float, inputs: Inputs, random: Generator) -> Tanker:
    """The tankers ``dt`` seconds later."""
    draws = random.standard_normal((5, len(state.time)))
    position, heading, speed, staying, rolled = _driven(design, state, dt, inputs)
    tank = state
    pieces = math.ceil(dt / HELD)
    for _ in range(pieces):
        tank = _tank(design, tank, dt / pieces, inputs)
    return replace(
        tank,
        time=state.time + dt,
        position=position,
        heading=heading,
        speed=speed,
        staying=staying,
        rolled=rolled,
        cruise=wander(state.cruise, 0.03, dt, 300.0, draws[0]),
        weather=wander(state.weather, design.weather_spread, dt, 2 * DAY, draws[1]),
        camber=wander(state.camber, design.camber_spread, dt, 30.0, draws[2]),
        seals=wander(state.seals, 0.1, dt, HOUR, draws[3]),
        wind=wander(state.wind, 0.8, dt, 600.0, draws[4]),
    )


def _tank(design: Design, state: Tanker, dt: float, inputs: Inputs) -> Tanker:
    """Tank and valve box after ``dt``, in which the leak flows as at its beginning and nothing drives."""
    pumped = _pumped(design, state, dt)
    mass = state.mass + pumped
    capacity = mass * LIQUID_HEAT + design.steel * STEEL_HEAT
    warmed = np.maximum(pumped, 0) * LIQUID_HEAT / capacity * (design.loaded_at - state.temperature)
    temperature = state.temperature + warmed
    # Nothing flows out of a tank that holds no more than air would.
    spare = np.maximum(mass - gas_mass(design, ATMOSPHERE, temperature), 0)
    leaked = np.minimum(leak_flow(design, state, inputs) * dt, spare)
    temperature, relieved = _heated(design, state, dt, inputs, temperature, mass, leaked, spare - leaked)
    return replace(
        state,
        time=state.time + dt,
        staying=np.maximum(state.staying - dt, 0),
        mass=mass - leaked - relieved,
        temperature=temperature,
        box=towards(state.box, _box_target(design, state, inputs, leaked / dt), dt, 8.0),
        leaked=state.leaked + leaked,
        relieved=state.relieved + relieved,
        loaded=state.loaded + pumped,
    )


def measure(design: Design, state: Tanker, inputs: Inputs) -> dict[str, Floats]:
    """Every signal."""
    leaning = inputs["tilt"] + design.roll * lateral(state, _segment(state)) + state.camber
    return {
        "speed": 3.6 * state.speed,
        "pressure": tank_pressure(design, state.mass, state.temperature),
        "temperature": state.temperature,
        "level": level(design, state),
        "gas": state.box,
        "inclination": np.where(state.rolled > 0, 90.0, leaning),
        "latitude": np.interp(state.position / 1000, KM, LATITUDE),
        "longitude": np.interp(state.position / 1000, KM, LONGITUDE),
    }


def stages(design: Design, state: Tanker, inputs: Inputs) -> dict[str, NDArray[np.int8]]:
    """The Stage of every hazard."""
    pressure = tank_pressure(design, state.mass, state.temperature)
    leak = leak_flow(design, state, inputs)
    warming, soon = _soon(design, state, inputs)
    near, far = concentration(leak, 20.0), concentration(leak, 100.0)
    now = roll_share(design, state, inputs)
    fast, coming = _ahead(design, state)
    return {
        "tank_pressure": stage(
            (pressure >= 1.5) | warming,
            (pressure >= 0.9 * design.relief_set) | soon,
            pressure >= design.relief_set,
        ),
        "toxic_leak": stage(near >= 3, near >= 30, far >= IDLH),
        "roll_over": stage((now >= 0.5) | fast, (now >= 0.75) | (fast & (coming >= 0.75)), state.rolled > 0),
    }


def leak_flow(design: Design, state: Tanker, inputs: Inputs) -> Floats:
    """kg/s out of the hole."""
    pressure = np.maximum(tank_pressure(design, state.mass, state.temperature), 0)
    return inputs["leak"] / 60 * np.sqrt(pressure / AT_20)


AT_20 = float(vapour_pressure(np.array(20.0))) - ATMOSPHERE
"""MPa gauge at the temperature for which a leak is given."""


def concentration(flow: Floats, distance: float) -> Floats:
    """mg/m³ on the axis of the plume so many metres downwind, kg/s leaking."""
    wide = 0.08 * distance / math.sqrt(1 + 0.0001 * distance)
    high = 0.06 * distance / math.sqrt(1 + 0.0015 * distance)
    return 1e6 * flow / (math.pi * 3.0 * wide * high)


def lateral(state: Tanker, segment: NDArray[np.int64]) -> Floats:
    """Lateral acceleration in the tightest curve of a segment, g, at the present speed."""
    return state.speed**2 / (RADIUS[segment] * GRAVITY)


def roll_share(design: Design, state: Tanker, inputs: Inputs) -> Floats:
    """How much of its rollover threshold the tanker uses; it falls at 1."""
    return _share(design, lateral(state, _segment(state)), inputs)


def _share(design: Design, acceleration: Floats, inputs: Inputs) -> Floats:
    return (acceleration + np.tan(np.radians(np.minimum(np.abs(inputs["tilt"]), 80.0)))) / design.threshold


def _segment(state: Tanker) -> NDArray[np.int64]:
    """The stretch of road that the tanker is on; at a knot the one that it leaves by."""
    return _on(state.position, state.heading)


def _on(position: Floats, heading: Floats) -> NDArray[np.int64]:
    right = np.searchsorted(1000 * KM, position, side="right") - 1
    left = np.searchsorted(1000 * KM, position, side="left") - 1
    return np.clip(np.where(heading > 0, right, left), 0, len(LIMIT) - 1)


def _ahead(design: Design, state: Tanker) -> tuple[NDArray[np.bool_], Floats]:
    """Whether it is faster than any careful driver, and the share of the threshold that the next bend would take."""
    segment = _segment(state)
    outward = state.heading > 0
    knot = np.where(outward, segment + 1, segment)
    following = np.clip(segment + np.where(outward, 1, -1), 0, len(LIMIT) - 1)
    close = np.abs(1000 * KM[knot] - state.position) < 2000
    fast = 3.6 * state.speed > 1.15 * LIMIT[segment]
    return fast, np.where(close, lateral(state, following) / design.threshold, 0.0)


def _driven(
    design: Design, state: Tanker, dt: float, inputs: Inputs
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Position, heading, speed, stay and roll-over after ``dt``.

    The driver keeps to the limit, brakes in time for a slower stretch or a stop, stays there and goes on; at
    either end he turns round. All by the factor of his haste.
    """
    position, heading, speed, staying = state.position, state.heading, state.speed, state.staying
    haste = inputs["speed_factor"] * np.clip(design.cruise + state.cruise, 0.8, 1.02) / 3.6
    rolled = np.where(inputs["righted"] >= 0.5, 0.0, state.rolled)
    pieces = math.ceil(dt / LONGEST)
    h = dt / pieces
    for _ in range(pieces):
        segment = _on(position, heading)
        outward = heading > 0
        knot = np.where(outward, segment + 1, segment)
        following = np.clip(segment + np.where(outward, 1, -1), 0, len(LIMIT) - 1)
        stop = STAY[knot] > 0
        left = np.abs(1000 * KM[knot] - position)
        staying = np.maximum(staying - h, 0)
        free = (staying <= 0) & (rolled <= 0)
        beyond = np.where(stop, 0.0, LIMIT[following] * haste)
        in_time = np.sqrt(beyond**2 + 2 * BRAKING * np.maximum(left - speed * h, 0))
        wanted = np.where(free, np.minimum(LIMIT[segment] * haste, in_time), 0.0)
        after = speed + np.clip(wanted - speed, -HARD_BRAKING * h, GAINING * h)
        moved = np.where(free, (speed + after) / 2 * h, 0.0)
        arrived = free & stop & (moved >= left - 2.0)
        speed = np.where(arrived | ~free, 0.0, after)
        position = np.where(arrived, 1000 * KM[knot], position + heading * moved)
        staying = np.where(arrived, STAY[knot], staying)
        end = (knot == 0) | (knot == len(LIMIT))
        heading = np.where(arrived & end, -heading, heading)
        here = speed**2 / (RADIUS[_on(position, heading)] * GRAVITY)
        rolled = np.where(_share(design, here, inputs) >= 1, 1.0, rolled)
        speed = np.where(rolled > 0, 0.0, speed)
    return position, heading, speed, staying, rolled


def _pumped(design: Design, state: Tanker, dt: float) -> Floats:
    """kg loaded (below 0: unloaded) while it stands at an end of the road."""
    stands = (state.staying > 0) & (state.rolled <= 0)
    most = design.pump * np.minimum(dt, state.staying)
    loading = np.clip(design.full - state.mass, 0, most)
    unloading = np.clip(state.mass - design.heel, 0, most)
    home, there = state.position <= 0, state.position >= 1000 * KM[-1]
    return np.where(stands & home, loading, np.where(stands & there, -unloading, 0.0))


def _heated(
    design: Design,
    state: Tanker,
    dt: float,
    inputs: Inputs,
    temperature: Floats,
    mass: Floats,
    leaked: Floats,
    spare: Floats,
) -> tuple[Floats, Floats]:
    """°C after ``dt``, and kg that the relief valve let out of the ``spare`` meanwhile."""
    # The room that leaked liquid leaves fills with vapour.
    vapour = gas_mass(design, vapour_pressure(temperature), temperature) / design.volume
    boiling = leaked / dt * vapour / liquid_density(temperature)
    conductance, steady = _warmth(design, state, state.time + dt / 2, inputs)
    steady = steady - LATENT_HEAT * boiling / conductance
    capacity = np.maximum(mass - leaked, 0) * LIQUID_HEAT + design.steel * STEEL_HEAT
    kept = np.exp(-dt * conductance / capacity)
    closed = steady + (temperature - steady) * kept
    lifts = np.maximum(temperature, closed) > RELIEF_BELOW
    if not lifts.any():
        return closed, np.zeros_like(closed)

    def opening(flow: Floats) -> Floats:
        """kg/s that the valve passes at the end of a step in which it passed ``flow`` on the mean."""
        cooled = closed - (1 - kept) * LATENT_HEAT * flow / conductance
        excess = tank_pressure(design, mass - leaked - flow * dt, cooled) / design.relief_set - 1
        return design.relief_flow * np.clip(excess / 0.1, 0, 1)

    low, high = np.zeros_like(closed), np.minimum(design.relief_flow, spare / dt)
    for _ in range(40):  # the more it passes, the less it is open: one flow agrees with itself
        guess = (low + high) / 2
        more = opening(guess) > guess
        low, high = np.where(more, guess, low), np.where(more, high, guess)
    flow = np.where(lifts, low, 0.0)
    return closed - (1 - kept) * LATENT_HEAT * flow / conductance, flow * dt


def _warmth(design: Design, state: Tanker, time: Floats, inputs: Inputs) -> tuple[Floats, Floats]:
    """W/K between the tank and all that warms or cools it, and the °C at which they would leave it."""
    outdoors = inputs["outdoors"] + state.weather + 4 * np.cos(2 * np.pi * (time / DAY - 15 / 24))
    sun = design.sun * np.maximum(np.cos(2 * np.pi * (time / DAY - 0.5)), 0)
    fire = 1000 * inputs["heat"] / (FLAME - 25)  # so that no tank becomes hotter than the flame
    convection = design.air + inputs["spray"] * design.spray
    conductance = convection + fire
    return conductance, (convection * outdoors + sun + fire * FLAME) / conductance


def _soon(design: Design, state: Tanker, inputs: Inputs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether it warms faster than any weather or loading makes it, and whether it will lift the relief valve
    within half an hour if it goes on so."""
    conductance, steady = _warmth(design, state, state.time, inputs)
    capacity = state.mass * LIQUID_HEAT + design.steel * STEEL_HEAT
    rate = (steady - state.temperature) * conductance / capacity
    later = steady + (state.temperature - steady) * np.exp(-1800 * conductance / capacity)
    lifts_at = 1113.928 / (4.86886 - np.log10(10 * (design.relief_set + ATMOSPHERE))) + 10.409 - 273.15
    fast = (rate >= 3e-3) & (steady >= 45)
    return fast, fast & (later >= lifts_at)


RELIEF_BELOW = 40.0
"""°C: no relief valve of any sensible design lifts below."""


def _box_target(design: Design, state: Tanker, inputs: Inputs, leaking: Floats) -> Floats:
    """mg/m³ towards which the valve box goes: what flashes off the leak, thinned by the air that passes."""
    flash = np.clip(LIQUID_HEAT * (state.temperature - BOILING) / LATENT_HEAT, 0, 1)
    air = 0.03 + 0.01 * (np.maximum(3.0 + state.wind, 1.0) + state.speed)  # m³/s
    thinned = 1e6 * flash * leaking / (air + flash * leaking / 0.72)  # 0.72 kg/m³: pure vapour
    return np.maximum(design.seals + state.seals, 0) + thinned


KIND = Kind(
    name="tanker",
    design=Design(),
    signals=(
        Signal("speed", "km/h", 0, 83, "over the ground"),
        Signal("pressure", "MPa", 0.3, 1.45, "gauge, in the vapour space"),
        Signal("temperature", "°C", 2, 40, "the liquid"),
        Signal("level", "%", 1, 91, "of the tank's volume that is liquid"),
        Signal("gas", "mg/m³", 0, 2, "ammonia in the valve box"),
        Signal("inclination", "°", -6, 6, "of the tank to its side"),
        Signal("latitude", "°", float(LATITUDE.min()), float(LATITUDE.max()), "WGS 84, north"),
        Signal("longitude", "°", float(LONGITUDE.min()), float(LONGITUDE.max()), "WGS 84, east"),
    ),
    inputs=(
        Input("leak", 0, 0, 200, "kg/min of liquid that a hole at the valve lets out at 20 °C"),
        Input("heat", 0, 0, 3000, "kW that a fire beside it gives a cold tank"),
        Input("spray", 0, 0, 1, "share of the water monitors that cool the tank"),
        Input("speed_factor", 1, 0, 2, "how much faster than the limits the driver drives; 0: he stops"),
        Input("tilt", 0, -90, 90, "degrees that road, ditch or collision lean it to its side"),
        Input("righted", 0, 0, 1, "1: a crane sets it upright and it can drive again"),
        Input("outdoors", 22, -20, 42, "°C of the air"),
    ),
    hazards=(
        Hazard(
            "tank_pressure",
            "罐体超压",
            "pressure in the tank",
            "I",
            ("pressure", "temperature"),
            900,
            "1.5 MPa is ammonia at 41 °C, which air and sun do not reach; the relief valve lifts at its set pressure, "
            "above the vapour pressure at 50 °C (1.93 MPa) for which such tanks are designed, and lets ammonia out "
            "beside the road; 11 K an hour is more than weather does; people must act when half an hour is left",
        ),
        Hazard(
            "toxic_leak",
            "液氨泄漏",
            "ammonia leaks",
            "II",
            ("gas", "level", "pressure"),
            600,
            "ammonia on the plume's axis: odour threshold about 3 mg/m³ at 20 m (AIHA); GBZ 2.1 PC-STEL 30 mg/m³ at "
            "20 m; IDLH 360 mg/m³ (as in GB/T 50493-2019 annex) at 100 m, where other people are",
        ),
        Hazard(
            "roll_over",
            "侧翻",
            "roll-over",
            "II",
            ("speed", "inclination"),
            60,
            "static rollover threshold 0.35 g (UMTRI-99-19; Billing and Patten): half of it is beyond any careful "
            "driving, three quarters (now, or in the next bend within 2 km if it goes on so fast) leaves no margin "
            "for the liquid's slosh, at the whole it falls",
        ),
    ),
    start=start,
    step=step,
    measure=measure,
    stages=stages,
)
