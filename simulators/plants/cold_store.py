"""An ammonia cold store: a room kept at -20 ℃, its refrigerating plant, and ammonia in the machine room's air.

Room: heat comes through walls, an open door and from work inside, and goes to the coolers and into the outer
layer of the goods. Coolers boil ammonia; a screw compressor holds the evaporating temperature; an evaporative
condenser gives the heat to the weather (lumped heat balances; W. F. Stoecker, Industrial Refrigeration
Handbook, ch. 2-8). Pressures are ammonia's vapour pressure (Antoine constants after D. R. Stull, 1947, in the
NIST Chemistry WebBook). Sizes are those of a store with some hundred tonnes at its surface, order of magnitude.

Machine room: the two boxes of occupational hygiene, air around the source and the rest of the room (M. Nicas,
Am. Ind. Hyg. Assoc. J. 57 (1996) 542), solved exactly. Ventilation as GB 50072-2021, 9.3.1: four changes an
hour at least, in an emergency 183 m³/h for each m² and 34 000 m³/h at least.

What is left out: defrosting, freezing heat (goods are frozen or nearly so throughout), liquid that does not
flash, and ammonia's own fire limits: it poisons at a thousandth of what burns.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats, Hazard, Input, Inputs, Kind, Signal, stage, wander

DAY = 86400.0
STEP = 10.0
"""The longest step in seconds of the heat balances; the quickest of them has a time constant of a minute."""

LATENT = 1.30e6  # J/kg of ammonia, -30 to -10 ℃
AMMONIA_MASS = 0.01703  # kg/mol
AMMONIA_DENSITY = 0.70  # kg/m³ as a gas in the room
GAS = 8.314  # J/(mol K)


@dataclass(frozen=True, slots=True)
class Design:
    """The room, its plant and the machine room. Watts, joules, kelvin, metres, seconds unless said."""

    set_point: float | Floats = 253.15  # K of the room
    wall: float | Floats = 400.0  # W/K
    door: float | Floats = 1500.0  # W/K through the door when it stands open
    inside: float | Floats = 8.0e3  # W of fans and lamps
    work: float | Floats = 6.0e3  # W of people, trucks and traffic at the busiest hour
    room: float | Floats = 2.5e7  # J/K of air, coolers and inner cladding
    goods: float | Floats = 2.0e8  # J/K of the outer 100 t
    contact: float | Floats = 3.0e3  # W/K between the goods and the air
    coolers: float | Floats = 1.5e4  # W/K, all open
    receiver: float | Floats = 6.0e6  # J/K of the low-pressure side
    condensers: float | Floats = 8.0e3  # W/K
    high_side: float | Floats = 3.0e6  # J/K
    evaporating: float | Floats = 244.15  # K that the compressor holds
    swept: float | Floats = 0.094  # m³/s that the compressor takes in at full load
    efficiency: float | Floats = 0.55  # of Carnot's
    air: float | Floats = 293.15  # K outside, the day's mean
    swing: float | Floats = 5.0  # K from it to the warmest and coldest hour
    begins: float | Floats = 8 * 3600.0  # s after midnight when the simulation starts
    wet: float | Floats = 3.0  # K by which the wet bulb is lower; it swings half as much
    charge: float | Floats = 2000.0  # kg of ammonia
    volume: float | Floats = 600.0  # m³ of the machine room
    around: float | Floats = 60.0  # m³ of it around the compressors
    usual_changes: float | Floats = 6.0  # 1/h
    emergency_flow: float | Floats = 34000.0 / 3600  # m³/s
    draught: float | Floats = 0.05  # m³/s through cracks, with all fans still
    weep: float | Floats = 0.8e-6  # kg/s from shaft seals, always


@dataclass(frozen=True, slots=True)
class Store:
    """The state, each [n].

    room, goods, evaporating, condensing: K. charge: kg of ammonia in the plant. near, far: kg/m³ of it in the
    air around the compressors and in the rest of the machine room. clock: s since midnight. The rest wander, in
    standard deviations: weather (warmth), traffic (heat inside), seals (weeping) and the swirls of air at each
    detector.
    """

    room: Floats
    goods: Floats
    evaporating: Floats
    condensing: Floats
    charge: Floats
    near: Floats
    far: Floats
    clock: Floats
    weather: Floats
    traffic: Floats
    seals: Floats
    swirl: Floats
    other_swirl: Floats


def start(design: Design, n: int, random: Generator) -> Store:
    """Eight in the morning, the plant at rest."""
    zero = np.zeros(n)
    state = Store(
        room=design.set_point + zero,
        goods=design.set_point - 0.1 + zero,
        evaporating=design.evaporating - 0.5 + zero,
        condensing=design.air + 3.0 + zero,
        charge=design.charge + zero,
        near=zero,
        far=zero,
        clock=np.zeros(n) + design.begins,
        weather=random.standard_normal(n),
        traffic=random.standard_normal(n),
        seals=random.standard_normal(n),
        swirl=random.standard_normal(n),
        other_swirl=random.standard_normal(n),
    )
    changed = design.usual_changes * design.volume / 3600 + design.draught
    background = _weep(design, state) / changed
    return replace(state, near=background * 1.4, far=background)


def step(design: Design, state: Store, dt: float, inputs: Inputs, random: Generator) -> Store:
    """The state dt seconds later: heat by the midpoint rule, air exactly. Raises ValueError if dt <= 0."""
    if dt <= 0:
        raise ValueError("time goes forward")
    noise = random.standard_normal((5, len(state.clock)))
    state = replace(
        state,
        clock=(state.clock + dt) % DAY,
        weather=wander(state.weather, 1.0, dt, 2 * DAY, noise[0]),
        traffic=wander(state.traffic, 1.0, dt, 1800.0, noise[1]),
        seals=wander(state.seals, 1.0, dt, 6 * 3600.0, noise[2]),
        swirl=wander(state.swirl, 1.0, dt, 45.0, noise[3]),
        other_swirl=wander(state.other_swirl, 1.0, dt, 45.0, noise[4]),
    )
    parts = math.ceil(dt / STEP - 1e-9)
    outside = _outside(design, state, inputs)
    y = (state.room, state.goods, state.evaporating, state.condensing)
    for _ in range(parts):
        h = dt / parts
        middle = _ahead(y, _slopes(design, heat_flows(design, y, outside, inputs)), h / 2)
        y = _ahead(y, _slopes(design, heat_flows(design, middle, outside, inputs)), h)
    state = replace(state, room=y[0], goods=y[1], evaporating=y[2], condensing=y[3])
    return _machine_room(design, state, dt, inputs)


def measure(design: Design, state: Store, inputs: Inputs) -> dict[str, Floats]:
    """Every signal; pressures are above the atmosphere's."""
    return {
        "room_temperature": state.room - 273.15,
        "suction_pressure": (vapour_pressure(state.evaporating) - 101325.0) / 1e6,
        "discharge_pressure": (vapour_pressure(state.condensing) - 101325.0) / 1e6,
        "ammonia_1": 1e6 * state.near * np.exp(0.15 * state.swirl),
        "ammonia_2": 1e6 * state.far * np.exp(0.15 * state.other_swirl),
    }


def stages(design: Design, state: Store, inputs: Inputs) -> dict[str, NDArray[np.int8]]:
    """How far each hazard has come; its `source` says why these are the bounds."""
    worst = 1e6 * np.maximum(state.near, state.far)
    goods = state.goods - 273.15
    suction = (vapour_pressure(state.evaporating) - 101325.0) / 1e6
    visible = (state.room - 273.15 > _ROOM[1]) | (goods > _ROOM[1]) | (suction > _SUCTION[1])
    return {
        "toxic_ammonia": stage(worst > 10.0, worst > 30.0, worst > 360.0),
        "warm_store": stage(visible, goods > -15.0, goods > -10.0),
    }


def vapour_pressure(temperature: Floats) -> Floats:
    """Pa of ammonia that boils at this temperature in K, 230 K to 370 K."""
    return 1e5 * np.exp(math.log(10.0) * (4.86886 - 1113.928 / (temperature - 10.409)))


@dataclass(frozen=True, slots=True)
class Outside:
    """What the heat balances are held to during a step: K of the air and its wet bulb, W brought into the room
    by what is done there, W/K through walls and door, and the share of the compressor's capacity that is left."""

    air: Floats
    wet: Floats
    inside: Floats
    shell: Floats
    compressor: Floats


def heat_flows(design: Design, y: "_Y", outside: Outside, inputs: Inputs) -> dict[str, Floats]:
    """W, by what they are: into the room, from it into the goods, from it into the coolers, from these into the
    compressor, the compressor's own power, and out of the condensers."""
    room, goods, evaporating, condensing = y
    opened = np.clip((room - design.set_point) / 2.0 + 0.5, 0.0, 1.0)
    load = np.clip((evaporating - design.evaporating) / 2.0 + 0.5, 0.0, 1.0)
    suction = vapour_pressure(evaporating) * AMMONIA_MASS / (GAS * evaporating)  # kg/m³
    taken = outside.compressor * load * design.swept * suction * LATENT
    lift = np.maximum(condensing - evaporating, 5.0)
    return {
        "in": outside.shell * (outside.air - room) + outside.inside,
        "goods": design.contact * (room - goods),
        "coolers": opened * design.coolers * (room - evaporating),
        "compressor": taken,
        "power": taken * lift / (design.efficiency * evaporating),
        "condensers": design.condensers * (condensing - outside.wet),
    }


_Y = tuple[Floats, Floats, Floats, Floats]

_ROOM = (-21.3, -19.4)
"""℃ that the room stays between while nothing is wrong."""
_SUCTION = (0.005, 0.04)
"""MPa gauge: the ordinary swing of the suction pressure."""


def _outside(design: Design, state: Store, inputs: Inputs) -> Outside:
    sun = np.sin(2 * math.pi * (state.clock / DAY - 9 / 24))
    warmer = design.swing * sun + 2.0 * np.clip(state.weather, -4.0, 4.0)
    busy = 0.5 + 0.5 * np.sin(2 * math.pi * (state.clock / DAY - 8 / 24))
    # what is left of the charge feeds the coolers until two thirds are gone
    fed = np.clip(state.charge / (0.3 * design.charge), 0.0, 1.0)
    return Outside(
        air=design.air + warmer,
        wet=design.air - design.wet + 0.5 * warmer,
        inside=design.inside + design.work * busy + 1.5e3 * np.clip(state.traffic, -4.0, 4.0),
        shell=design.wall + design.door * inputs["door"],
        compressor=inputs["compressor"] * fed,
    )


def _slopes(design: Design, flows: dict[str, Floats]) -> _Y:
    return (
        (flows["in"] - flows["goods"] - flows["coolers"]) / design.room,
        flows["goods"] / design.goods,
        (flows["coolers"] - flows["compressor"]) / design.receiver,
        (flows["compressor"] + flows["power"] - flows["condensers"]) / design.high_side,
    )


def _ahead(y: _Y, slope: _Y, h: float) -> _Y:
    return (y[0] + h * slope[0], y[1] + h * slope[1], y[2] + h * slope[2], y[3] + h * slope[3])


def _weep(design: Design, state: Store) -> Floats:
    """kg/s of ammonia that the seals always let by."""
    return design.weep * np.exp(0.25 * state.seals)


def _machine_room(design: Design, state: Store, dt: float, inputs: Inputs) -> Store:
    """The air after dt: the ammonia that came out pushes as much air before it, and fresh air dilutes the rest."""
    released = np.minimum((inputs["leak"] / 60 + _weep(design, state)) * dt, state.charge)
    gas = released / dt / AMMONIA_DENSITY  # m³/s
    fresh = ventilation_flow(design, inputs)
    mixing = 2.0 + 0.5 * fresh  # m³/s between the two boxes, order of magnitude
    small, large = design.around, design.volume - design.around
    # near' = -a near + b far + gas at full strength; far' = c near - d far
    a, b = (mixing + gas) / small, mixing / small
    c, d = (mixing + gas) / large, (mixing + fresh + gas) / large
    far = AMMONIA_DENSITY * gas / (fresh + gas)
    near = (AMMONIA_DENSITY * gas + mixing * far) / (mixing + gas)
    middle, spread = -(a + d) / 2, np.sqrt((a - d) ** 2 / 4 + b * c)
    slow, fast = np.exp((middle + spread) * dt), np.exp((middle - spread) * dt)
    even, odd = (slow + fast) / 2, (slow - fast) / (2 * spread)
    x, y = state.near - near, state.far - far
    return replace(
        state,
        charge=state.charge - released,
        near=near + even * x + odd * ((-a - middle) * x + b * y),
        far=far + even * y + odd * (c * x + (-d - middle) * y),
    )


def ventilation_flow(design: Design, inputs: Inputs) -> Floats:
    """m³/s of fresh air into the machine room."""
    usual = inputs["ventilation"] * design.usual_changes * design.volume / 3600
    return design.draught + usual + inputs["emergency_ventilation"] * design.emergency_flow


KIND = Kind(
    name="cold_store",
    design=Design(),
    signals=(
        Signal("room_temperature", "℃", *_ROOM, "air of the cold room"),
        Signal(
            "suction_pressure",
            "MPa",
            *_SUCTION,
            "gauge pressure of the ammonia that the compressor takes in",
        ),
        Signal("discharge_pressure", "MPa", 0.5, 1.2, "gauge pressure of the ammonia in the condensers"),
        Signal("ammonia_1", "mg/m³", 0.0, 8.0, "ammonia in the air beside the compressors"),
        Signal("ammonia_2", "mg/m³", 0.0, 8.0, "ammonia at the machine room's exhaust"),
    ),
    inputs=(
        Input("compressor", 1.0, 0.0, 1.0, "share of the compressor's capacity that is there"),
        Input("door", 0.0, 0.0, 1.0, "share of the cold room's door that stands open"),
        Input("leak", 0.0, 0.0, 5.0, "kg/min of ammonia that escapes into the machine room as gas"),
        Input("ventilation", 1.0, 0.0, 2.0, "share of the machine room's usual ventilation"),
        Input("emergency_ventilation", 0.0, 0.0, 1.0, "share of the emergency fans that run"),
    ),
    hazards=(
        Hazard(
            "toxic_ammonia",
            "氨气泄漏",
            "Ammonia release",
            "II",
            ("ammonia_1", "ammonia_2"),
            600.0,
            "VISIBLE: 10 mg/m³, more than what seals give off and well above the odour threshold. DANGER: 30 mg/m³, "
            "the short-term exposure limit of GBZ 2.1. HARM: 360 mg/m³, immediately dangerous to life or health "
            "(GB/T 50493-2019, annex).",
        ),
        Hazard(
            "warm_store",
            "冷库升温",
            "Cold store too warm",
            "IV",
            ("room_temperature", "suction_pressure", "discharge_pressure"),
            3600.0,
            "CAC/RCP 8-1976: quick frozen food is kept at -18 °C and not let above -15 °C. VISIBLE: air, goods or "
            "suction pressure beyond the ordinary swing. DANGER: goods above -15 °C. HARM: goods above -10 °C, where "
            "moulds begin to grow.",
        ),
    ),
    start=start,
    step=step,
    measure=measure,
    stages=stages,
)
