"""Community gas networks: a regulator feeds low-pressure pipes and homes, and a leak fills a room.

One unit is a regulator station, the low-pressure pipes behind it taken as one volume, the homes' demand, and two
spaces in a row: the one where gas may come in (a cellar, a valve room) and the one that it breathes out into.

Balance of the pipes: d(line pack)/dt = inflow - demand - leak, with line pack = volume * (atmosphere + gauge) /
atmosphere at one temperature (ideal gas), and demand and leak through orifices at low pressure, so both go with
the square root of the gauge pressure (e.g. S. Mokhatab, W. Poe, "Handbook of Natural Gas Transmission and
Processing"; R. H. Perry, "Chemical Engineers' Handbook", section on orifices). The regulator is a spring-loaded one:
its outlet droops in proportion to the flow until it is fully open; fully open its flow goes with the absolute inlet
pressure (choked). It has no shut-off of its own: whatever fails it stays failed.
Balance of a space: volume * d(c)/dt = gas in - outflow * c, well mixed, with the gas itself displacing air.

All gas volumes are m³ at the pipes' temperature and atmospheric pressure. Sizes are order-of-magnitude engineering
values for some 1,500 homes with gas boilers; the methane's lower explosive limit is 5 % by volume.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats, Hazard, Input, Inputs, Kind, Signal, stage, wander

ATMOSPHERE = 101.325
"""kPa."""
LEL_PERCENT = 100 / 0.05
"""%LEL of a gas-in-air share of 1."""
DAY = 86400.0


@dataclass(frozen=True)
class Design:
    """What a unit is. Each field is a number or [n]."""

    pipes: float | Floats = 60.0  # m³, volume of the low-pressure pipes
    set_point: float | Floats = 2.6  # kPa gauge, outlet at no flow
    droop: float | Floats = 0.3  # kPa from no flow to fully open
    capacity: float | Floats = 700.0  # m³/h fully open at the usual inlet pressure
    inlet: float | Floats = 0.30  # MPa gauge
    inlet_swing: float | Floats = 0.02  # MPa less at the city's highest demand
    nominal: float | Floats = 2.5  # kPa gauge, where demand and leak are what they are called
    cooking: float | Floats = 90.0  # m³/h, scale of the demand for kitchens and bathrooms
    heating: float | Floats = 120.0  # m³/h, mean demand of boilers on a winter day
    winter: float | Floats = 1.0  # share of the boilers that run: 1 in winter, 0 in summer
    begins: float | Floats = 0.0  # s of the day when the simulation starts
    room: float | Floats = 60.0  # m³, the space where gas may come in
    room_air: float | Floats = 30.0  # m³/h of fresh air through it
    hall: float | Floats = 150.0  # m³, the space that the room breathes out into
    hall_air: float | Floats = 90.0  # m³/h of further fresh air there
    trace: float | Floats = 0.006  # m³/h of gas that ordinary use lets out in the room; part of the demand
    people: float | Floats = 0.10  # spread of the logarithm of demand, over minutes
    wind: float | Floats = 0.12  # spread of the logarithm of both air flows, over an hour
    habits: float | Floats = 0.25  # spread of the logarithm of the trace, over an hour
    hunting: float | Floats = 0.012  # kPa, spread of the regulator's set point, over half a minute
    supply: float | Floats = 0.006  # MPa, spread of the inlet pressure, over hours


@dataclass(frozen=True, slots=True)
class Network:
    """The state, each [n].

    clock: s of the day. pressure: kPa gauge in the pipes. inlet: MPa gauge. room, hall: gas as a share of the air.
    flow, demand, leak: m³/h, means over the last step. people, wind, habits (logarithms), hunting (kPa), supply
    (MPa): departures of the ordinary day from its mean.
    """

    clock: Floats
    pressure: Floats
    inlet: Floats
    room: Floats
    hall: Floats
    flow: Floats
    demand: Floats
    leak: Floats
    people: Floats
    wind: Floats
    habits: Floats
    hunting: Floats
    supply: Floats


def start(design: Design, n: int, random: Generator) -> Network:
    """n networks at rest at the hour ``design.begins``."""
    noise = random.standard_normal((5, n))
    clock = np.zeros(n) + design.begins
    demand = _wanted(design, clock) * np.exp(design.people * noise[0])
    room = design.trace / (np.zeros(n) + design.room_air)
    hall = room * design.room_air / (design.room_air + np.asarray(design.hall_air))
    return Network(
        clock=clock,
        pressure=design.set_point - design.droop * demand / design.capacity,
        inlet=np.zeros(n) + design.inlet,
        room=room,
        hall=hall,
        flow=demand,
        demand=demand,
        leak=np.zeros(n),
        people=design.people * noise[0],
        wind=design.wind * noise[1],
        habits=design.habits * noise[2],
        hunting=design.hunting * noise[3],
        supply=design.supply * noise[4],
    )


def step(design: Design, state: Network, dt: float, inputs: Inputs, random: Generator) -> Network:
    """The networks ``dt`` seconds later (0.1 to 60 s). Raises ValueError where time does not go forward.

    Implicit in the pressure, whose balance is solved exactly, so that the flows and the line pack agree over any dt.
    """
    if dt <= 0:
        raise ValueError("time goes forward")
    noise = random.standard_normal((5, state.clock.size))
    people = wander(state.people, design.people, dt, 600, noise[0])
    wind = wander(state.wind, design.wind, dt, 3600, noise[1])
    habits = wander(state.habits, design.habits, dt, 3600, noise[2])
    hunting = wander(state.hunting, design.hunting, dt, 30, noise[3])
    supply = wander(state.supply, design.supply, dt, 3 * 3600, noise[4])
    clock = (state.clock + dt) % DAY

    inlet = design.inlet - design.inlet_swing * _kitchens(clock) / 2.3 + supply
    wanted = _wanted(design, clock) * np.exp(people) * inputs["demand"]
    set_point = design.set_point * (1 + inputs["regulator_over"]) + hunting
    choked = (inlet * 1000 + ATMOSPHERE) / (np.asarray(design.inlet) * 1000 + ATMOSPHERE)
    open_flow = design.capacity * inputs["regulator"] * choked
    pressure = _balance(design, state.pressure, dt, set_point, open_flow, wanted + inputs["leak"])

    drive = np.sqrt(pressure / design.nominal)
    demand, leak = wanted * drive, inputs["leak"] * drive
    packed = design.pipes * (pressure - state.pressure) / ATMOSPHERE
    flow = np.maximum(0.0, demand + leak + packed * 3600 / dt)

    let_in = leak * inputs["leak_into_space"] + design.trace * np.exp(habits)
    air = design.room_air * np.exp(wind) * inputs["ventilation"]
    room, out = _space(state.room, let_in, air + let_in, design.room, dt)
    past = air + let_in + design.hall_air * np.exp(wind) * inputs["ventilation"]
    hall, _ = _space(state.hall, out, past, design.hall, dt)
    return Network(
        clock, pressure, inlet, room, hall, flow, demand, leak, people, wind, habits, hunting, supply
    )


def measure(design: Design, state: Network, inputs: Inputs) -> dict[str, Floats]:
    """Every signal, each [n]."""
    return {
        "outlet_pressure": state.pressure,
        "inlet_pressure": state.inlet,
        "flow": state.flow,
        "gas": state.room * LEL_PERCENT,
        "gas_2": state.hall * LEL_PERCENT,
    }


def stages(design: Design, state: Network, inputs: Inputs) -> dict[str, NDArray[np.int8]]:
    """The Stage of each hazard, each int8 [n]."""
    gas = np.maximum(state.room, state.hall) * LEL_PERCENT
    pressure = state.pressure
    return {
        "flammable_gas": stage(gas >= 3, gas >= 20, gas >= 100),
        "over_pressure": stage(pressure >= 2.75, pressure >= 3.0, pressure >= 10.0),
        "pressure_lost": stage(pressure < 2.1, pressure < 1.0, pressure < 0.3),
    }


def line_pack(design: Design, state: Network) -> Floats:
    """m³ of gas in the pipes, [n]."""
    return np.asarray(design.pipes * (ATMOSPHERE + state.pressure) / ATMOSPHERE)


def _balance(
    design: Design, before: Floats, dt: float, set_point: Floats, open_flow: Floats, drawn: Floats
) -> Floats:
    """kPa gauge at the end of the step: pack(p) - pack(before) = dt * (regulator(p) - drawn * sqrt(p / nominal)).

    The left side rises with p and the right side falls, so there is one root; the regulator is shut, regulating or
    fully open, and in each of these the balance is a quadratic in sqrt(p).
    """
    stiff = design.pipes * 3600 / (ATMOSPHERE * dt)  # m³/h for each kPa that the pipes gain in the step
    loss = drawn / np.sqrt(design.nominal)
    slope = open_flow / design.droop

    def root(a: float | Floats, b: Floats) -> Floats:
        """p with a p + loss sqrt(p) = b."""
        return np.asarray(((np.sqrt(loss * loss + 4 * a * b) - loss) / (2 * a)) ** 2)

    held = stiff * before
    regulating = root(stiff + slope, held + slope * set_point)
    shut = root(stiff, held)
    full = root(stiff, held + open_flow)
    return np.where(
        regulating > set_point, shut, np.where(regulating < set_point - design.droop, full, regulating)
    )


def _space(
    share: Floats, gas_in: Floats, through: Floats, volume: float | Floats, dt: float
) -> tuple[Floats, Floats]:
    """The gas share ``dt`` seconds later, and the gas (m³/h, mean over the step) that went out meanwhile.

    gas_in, through: m³/h of gas that comes in and of air and gas that pass through, both held.
    """
    passed = through * dt / 3600 / volume
    rest = gas_in / through
    later = rest + (share - rest) * np.exp(-passed)
    return later, gas_in - volume * (later - share) * 3600 / dt


def _kitchens(clock: Floats) -> Floats:
    """Demand for cooking and washing over the day, about 0.3 at night and 2.3 in the evening."""
    hour = clock / 3600
    peaks = [np.exp(-0.5 * ((hour - at + 12) % 24 - 12) ** 2) for at in (7.0, 12.0, 18.5)]
    return np.asarray(0.3 + peaks[0] + 1.6 * peaks[1] + 2.0 * peaks[2])


def _wanted(design: Design, clock: Floats) -> Floats:
    """m³/h that the homes draw at the nominal pressure, but for chance; boilers burn most before dawn."""
    cold = 1 + 0.25 * np.cos(2 * np.pi * (clock / 3600 - 4) / 24)
    return np.asarray(design.cooking * _kitchens(clock) + design.heating * design.winter * cold)


KIND = Kind(
    name="gas_network",
    design=Design(),
    signals=(
        Signal("outlet_pressure", "kPa", 2.2, 2.7, "gauge pressure in the low-pressure pipes"),
        Signal("inlet_pressure", "MPa", 0.23, 0.35, "gauge pressure before the regulator"),
        Signal("flow", "m3/h", 40.0, 600.0, "through the regulator"),
        Signal("gas", "%LEL", 0.0, 2.0, "in the room where gas may come in"),
        Signal("gas_2", "%LEL", 0.0, 1.0, "in the hall that the room breathes out into"),
    ),
    inputs=(
        Input("leak", 0.0, 0.0, 200.0, "m³/h that leaks at the nominal pressure"),
        Input(
            "leak_into_space",
            1.0,
            0.0,
            1.0,
            "share of the leak that comes into the room; the rest is outdoors",
        ),
        Input("regulator", 1.0, 0.0, 1.0, "share of its capacity; 0 shut: failed, or closed by people"),
        Input(
            "regulator_over", 0.0, 0.0, 5.0, "outlet pressure held too high by this share: the seat is worn"
        ),
        Input(
            "ventilation",
            1.0,
            0.05,
            20.0,
            "air through both spaces as a share of the ordinary; large: opened",
        ),
        Input("demand", 1.0, 0.0, 4.0, "demand of the homes as a share of the ordinary"),
    ),
    hazards=(
        Hazard(
            "flammable_gas",
            "可燃气体积聚",
            "flammable gas builds up",
            "II",
            ("gas", "gas_2", "flow"),
            600.0,
            "visible 3 %LEL: above every value of an ordinary month; danger 20 %LEL: GB 50028-2006 3.2.3, the share "
            "at which leaked gas must be noticed at the latest; harm 100 %LEL: the air can explode",
        ),
        Hazard(
            "over_pressure",
            "出口超压",
            "outlet pressure too high",
            "III",
            ("outlet_pressure",),
            300.0,
            "visible 2.75 kPa: above every value of an ordinary month; danger 3.0 kPa: GB/T 13611, highest pressure "
            "that 12T appliances are tested at; harm 10 kPa: GB 50028-2006 10.2.1, low-pressure homes stay below",
        ),
        Hazard(
            "pressure_lost",
            "低压断供",
            "pressure lost",
            "III",
            ("outlet_pressure", "flow"),
            600.0,
            "visible 2.1 kPa: below every value of an ordinary month; danger 1.0 kPa: GB/T 13611, lowest pressure "
            "that 12T appliances are tested at; harm 0.3 kPa: flames are out (chosen value)",
        ),
    ),
    start=start,
    step=step,
    measure=measure,
    stages=stages,
)
