"""Sections of an oil pipeline: pump, thirty kilometres of pipe, a valve at the end, and what a leak sends both ways.

Water-hammer equations by the method of characteristics on a grid where a wave crosses one cell in one tick
(E. B. Wylie, V. L. Streeter, "Fluid Transients in Systems"). Kept is the pair of waves in each cell: what travels
with the flow and against it, in Pa, so that pressure is their sum and flow their difference over the pipe's
impedance. In this form whatever enters a node leaves it but for the leak, and friction takes from one wave what it
gives to the other: the volume in the pipe (line pack) changes by inflow - outflow - leak and nothing else.
Friction is Darcy-Weisbach with the factor of S. E. Haaland (J. Fluids Eng. 105, 1983), laminar below its crossing.
The leak is an orifice: it goes with the square root of the pressure where it is. Flat country, one oil, one
temperature; a column that tears off is not in the model.

Sizes are order-of-magnitude engineering values of a DN400 line for light crude or products at 500 m³/h; a wave
speed of 1,000 m/s is usual for oil in steel pipe (Wylie and Streeter's elastic pipe formula).
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats, Hazard, Input, Inputs, Kind, Signal, stage, towards, wander

CELLS = 30
MIDDLE = CELLS // 2
"""The node of the valve station half-way; node 0 is the inlet, node CELLS the outlet."""
MPA = 1e6


@dataclass(frozen=True)
class Design:
    """What a section is. Each field is a number or [n]; a wave must need equally long for the length of every unit."""

    length: float | Floats = 30000.0  # m
    wave_speed: float | Floats = 1000.0  # m/s
    diameter: float | Floats = 0.39  # m inside
    roughness: float | Floats = 5e-5  # m
    density: float | Floats = 850.0  # kg/m³
    viscosity: float | Floats = 1e-5  # m²/s
    flow: float | Floats = 500.0  # m³/h as designed
    pump_head: float | Floats = 1.70  # MPa gauge at full speed and no flow, suction included
    pump_loss: float | Floats = 0.35  # MPa less at the designed flow
    valve_loss: float | Floats = 0.30  # MPa over the outlet valve at the designed flow
    back: float | Floats = 0.10  # MPa gauge behind the outlet valve
    inlet: float | Floats = (
        1.35  # MPa gauge at the designed flow; with outlet, only says how big a leak's hole is
    )
    outlet: float | Floats = 0.40  # MPa gauge at the designed flow
    rated: float | Floats = 1.80  # MPa gauge, design pressure of the pipe
    run_up: float | Floats = 60.0  # s, time constant of the pump's speed
    stroke: float | Floats = 20.0  # s, time constant of the outlet valve
    between_orders: float | Floats = 6 * 3600.0  # s, mean time between two set-points of the pump
    lowest_order: float | Floats = 0.95  # share of full speed; set-points lie between this and full speed
    ripple: float | Floats = 0.001  # spread of the pump's speed, over half a minute
    takers: float | Floats = 0.02  # spread of the outlet valve's opening, over half an hour


@dataclass(frozen=True, slots=True)
class Section:
    """The state, each [n] but for the waves.

    onward, back: Pa, the waves with and against the flow in each cell, [n, CELLS]. owed: s that have passed since the
    waves last moved, the same for all units. order: the pump's set-point, speed and opening: where pump and outlet
    valve are (shares). ripple, takers: departures of the ordinary day. entered, delivered, lost: m³ since the start;
    lost is that of the present leak. age: s since it began. flow_in, flow_out: m³/h. pressure_in, pressure_middle,
    pressure_out: MPa gauge.
    """

    onward: Floats
    back: Floats
    owed: Floats
    order: Floats
    speed: Floats
    opening: Floats
    ripple: Floats
    takers: Floats
    entered: Floats
    delivered: Floats
    lost: Floats
    age: Floats
    flow_in: Floats
    flow_out: Floats
    pressure_in: Floats
    pressure_middle: Floats
    pressure_out: Floats


def start(design: Design, n: int, random: Generator) -> Section:
    """n sections in steady flow."""
    order = _order(design, random.random(n))
    low, high = np.zeros(n), np.full(n, 3 * np.max(design.flow) / 3600)
    pump, valve = _pump(design), _valve(design)
    for _ in range(60):  # bisection: what drives falls and what brakes rises with the flow
        flow = (low + high) / 2
        spare = (
            design.pump_head * MPA * order**2
            - design.back * MPA
            - (pump + 1 / valve**2) * flow**2
            - CELLS * _friction(design, flow) * flow**2
        )
        low, high = np.where(spare > 0, flow, low), np.where(spare > 0, high, flow)
    drop = _friction(design, flow) * flow**2
    first = design.pump_head * MPA * order**2 - pump * flow**2
    pressure = first[:, None] - drop[:, None] * (np.arange(CELLS) + 0.5)
    wave = _impedance(design) * flow
    last = first - CELLS * drop
    return Section(
        onward=(pressure + wave[:, None] - drop[:, None] / 2) / 2,
        back=(pressure - wave[:, None] + drop[:, None] / 2) / 2,
        owed=np.zeros(n),
        order=order,
        speed=order,
        opening=np.ones(n),
        ripple=np.zeros(n),
        takers=np.zeros(n),
        entered=np.zeros(n),
        delivered=np.zeros(n),
        lost=np.zeros(n),
        age=np.zeros(n),
        flow_in=flow * 3600,
        flow_out=flow * 3600,
        pressure_in=first / MPA,
        pressure_middle=(first + last) / 2 / MPA,
        pressure_out=last / MPA,
    )


def step(design: Design, state: Section, dt: float, inputs: Inputs, random: Generator) -> Section:
    """The sections ``dt`` seconds later (0.1 to 60 s).

    Raises:
        ValueError: time does not go forward, or the units' waves do not need equally long from end to end.

    The waves move in whole ticks; what is left of dt is kept for the next step.
    """
    if dt <= 0:
        raise ValueError("time goes forward")
    n = state.owed.size
    noise, chance = random.standard_normal((2, n)), random.random((2, n))
    ripple = wander(state.ripple, design.ripple, dt, 30, noise[0])
    takers = wander(state.takers, design.takers, dt, 1800, noise[1])
    ordered = chance[0] < 1 - np.exp(-dt / np.asarray(design.between_orders))
    order = np.where(ordered, _order(design, chance[1]), state.order)

    tick = _tick(design)
    owed = state.owed + dt
    ticks = int(np.floor(owed[0] / tick + 1e-9))
    leaking = inputs["leak"] > 0
    age = np.where(leaking, state.age + dt, 0.0)
    lost = np.where(leaking, state.lost, 0.0)
    onward, back, speed, opening = state.onward, state.back, state.speed, state.opening
    entered, delivered = state.entered, state.delivered
    flow_in, flow_out = state.flow_in, state.flow_out
    ends = state.pressure_in, state.pressure_middle, state.pressure_out

    impedance = _impedance(design)
    pump, valve = _pump(design), _valve(design)
    units, node = np.arange(n), np.clip(np.rint(inputs["leak_at"] * CELLS).astype(int), 1, CELLS - 1)
    hole = _hole(design, inputs["leak"], node / CELLS)
    for _ in range(ticks):
        speed = towards(speed, inputs["pump"] * order, tick, design.run_up)
        opening = towards(opening, inputs["valve"], tick, design.stroke)
        head = design.pump_head * MPA * (speed * (1 + ripple)) ** 2
        arriving = back[:, 0]
        inflow = _positive_root(pump, impedance, head - 2 * arriving)  # a check valve lets nothing back
        reaching = onward[:, -1]
        through = (opening * (1 + takers) * valve) ** 2
        spare = np.maximum(0.0, 2 * reaching - design.back * MPA)
        held = impedance * through
        outflow = np.maximum(0.0, np.sqrt(held**2 + 4 * through * spare) - held) / 2

        meeting = np.maximum(0.0, onward[units, node - 1] + back[units, node])
        slope = impedance * hole / 4
        leak = hole * (np.sqrt(slope**2 + meeting) - slope)
        taken = impedance * leak / 2
        middle = onward[:, MIDDLE - 1] + back[:, MIDDLE] - np.where(node == MIDDLE, taken, 0.0)
        first = 2 * arriving + impedance * inflow
        last = 2 * reaching - impedance * outflow

        onward = np.concatenate(((first - arriving)[:, None], onward[:, :-1]), axis=1)
        back = np.concatenate((back[:, 1:], (last - reaching)[:, None]), axis=1)
        onward[units, node] -= taken
        back[units, node - 1] -= taken
        passing = (onward - back) / _column(impedance)
        brake = _friction(design, passing, column=True) * np.abs(passing)
        # the flow that friction acts on is the mean of before and after, hence the denominator
        half = brake * passing / (1 + brake / _column(impedance)) / 2
        onward -= half
        back += half

        entered = entered + inflow * tick
        delivered = delivered + outflow * tick
        lost = lost + leak * tick
        flow_in, flow_out = inflow * 3600, outflow * 3600
        ends = first / MPA, middle / MPA, last / MPA
    owed = owed - ticks * tick
    return Section(
        onward,
        back,
        owed,
        order,
        speed,
        opening,
        ripple,
        takers,
        entered,
        delivered,
        lost,
        age,
        flow_in,
        flow_out,
        *ends,
    )


def measure(design: Design, state: Section, inputs: Inputs) -> dict[str, Floats]:
    """Every signal, each [n]; no pressure is below a vacuum."""
    return {
        "flow_in": state.flow_in,
        "flow_out": state.flow_out,
        "pressure_in": np.maximum(-0.1, state.pressure_in),
        "pressure_middle": np.maximum(-0.1, state.pressure_middle),
        "pressure_out": np.maximum(-0.1, state.pressure_out),
    }


def stages(design: Design, state: Section, inputs: Inputs) -> dict[str, NDArray[np.int8]]:
    """The Stage of each hazard, each int8 [n]."""
    nearer = np.minimum(inputs["leak_at"], 1 - inputs["leak_at"]) * design.length
    heard = state.age * design.wave_speed >= nearer
    highest = np.maximum(np.maximum(state.pressure_in, state.pressure_out), state.pressure_middle)
    rated = np.asarray(design.rated)
    return {
        "leak": stage(heard & (state.lost >= 0.1), heard & (state.lost >= 1.0), heard & (state.lost >= 10.0)),
        "over_pressure": stage(highest >= 0.92 * rated, highest >= rated, highest >= 1.1 * rated),
    }


def line_pack(design: Design, state: Section) -> Floats:
    """m³ (at no pressure) that the pipe holds beyond its own volume because of the pressure in it, [n]."""
    tick = _tick(design)
    return np.asarray((state.onward + state.back).sum(axis=1) * tick / _impedance(design))


def _tick(design: Design) -> float:
    """s that a wave needs for one cell."""
    ticks = np.asarray(design.length) / design.wave_speed / CELLS
    if np.ptp(ticks) > 0:
        raise ValueError("a wave needs equally long from end to end in all sections of a run")
    return float(ticks.max())


def _area(design: Design) -> float | Floats:
    return np.pi / 4 * np.asarray(design.diameter) ** 2


def _impedance(design: Design) -> Floats:
    """Pa for each m³/s of a wave."""
    return np.asarray(design.density * design.wave_speed / _area(design))


def _pump(design: Design) -> Floats:
    """Pa lost in the pump for each (m³/s)²."""
    return np.asarray(design.pump_loss * MPA / (np.asarray(design.flow) / 3600) ** 2)


def _valve(design: Design) -> Floats:
    """m³/s for each square root of a Pa over the open outlet valve."""
    return np.asarray(np.asarray(design.flow) / 3600 / np.sqrt(np.asarray(design.valve_loss) * MPA))


def _hole(design: Design, leak: Floats, place: Floats) -> Floats:
    """m³/s for each square root of a Pa at the place, so that the leak is its share at the designed pressure."""
    usual = (design.inlet + (np.asarray(design.outlet) - design.inlet) * place) * MPA
    return np.asarray(leak * np.asarray(design.flow) / 3600 / np.sqrt(usual))


def _friction(design: Design, flow: Floats, *, column: bool = False) -> Floats:
    """Pa over one cell for each (m³/s)², at this flow (m³/s); [n], or [n, k] if ``column``."""
    factor_of = _column if column else np.asarray
    diameter, area = factor_of(design.diameter), factor_of(_area(design))
    reynolds = np.maximum(1.0, np.abs(flow) * (diameter / (area * factor_of(design.viscosity))))
    rough = (factor_of(design.roughness) / diameter / 3.7) ** 1.11
    factor = np.maximum(1 / np.square(1.8 * np.log10(6.9 / reynolds + rough)), 64 / reynolds)
    cell = factor_of(design.length) / CELLS
    return np.asarray(factor * (factor_of(design.density) * cell / (2 * diameter * area**2)))


def _positive_root(square: Floats, linear: Floats, constant: Floats) -> Floats:
    """x of square x² + linear x = constant, 0 where constant is below 0."""
    return np.asarray((np.sqrt(linear**2 + 4 * square * np.maximum(0.0, constant)) - linear) / (2 * square))


def _order(design: Design, chance: Floats) -> Floats:
    """A set-point of the pump for each chance of 0 to 1."""
    return np.asarray(design.lowest_order + (1 - np.asarray(design.lowest_order)) * chance)


def _column(value: float | Floats) -> Floats:
    return np.reshape(np.asarray(value, dtype=float), (-1, 1))


KIND = Kind(
    name="pipeline",
    design=Design(),
    signals=(
        Signal("flow_in", "m3/h", 440.0, 530.0, "into the section"),
        Signal("flow_out", "m3/h", 440.0, 530.0, "out of the section"),
        Signal("pressure_in", "MPa", 1.15, 1.45, "gauge pressure after the pump"),
        Signal("pressure_middle", "MPa", 0.7, 1.0, "gauge pressure at the valve station half-way"),
        Signal("pressure_out", "MPa", 0.3, 0.5, "gauge pressure before the outlet valve"),
    ),
    inputs=(
        Input("leak", 0.0, 0.0, 1.0, "share of the designed flow that leaks at the designed pressure"),
        Input("leak_at", 0.5, 0.0, 1.0, "where, as a share of the length from the inlet"),
        Input("pump", 1.0, 0.0, 1.1, "share of the ordered speed; 0 stopped"),
        Input("valve", 1.0, 0.0, 1.5, "opening of the outlet valve as a share of the ordinary; 0 closed"),
    ),
    hazards=(
        Hazard(
            "leak",
            "管道泄漏",
            "oil leaks from the pipeline",
            "I",
            ("flow_out", "flow_in", "pressure_out", "pressure_in", "pressure_middle"),
            600.0,
            "visible: its wave has come to the nearer end and 0.1 m³ are lost, ten times what balance and line pack "
            "from three perfect stations differ by on an ordinary day; danger 1 m³: the spill from which CONCAWE "
            "counts for cross-country pipelines; harm 10 m³: reaches ground and water (chosen value)",
        ),
        Hazard(
            "over_pressure",
            "管道超压",
            "pipeline pressure too high",
            "III",
            ("pressure_in", "pressure_middle", "pressure_out"),
            120.0,
            "visible 0.92 of the design pressure: above every value of an ordinary month; danger: the design "
            "pressure; harm 1.1 of it: GB 50253 and ASME B31.4, the most that a surge may reach",
        ),
    ),
    start=start,
    step=step,
    measure=measure,
    stages=stages,
)
