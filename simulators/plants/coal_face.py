"""Methane at longwall faces: the seam breathes, cutting frees more, and the ventilation carries it away.

The shape is the usual one for a longwall: a mixed stretch of the face whose air is exchanged, so that in the
steady state concentration = methane release / air flow. Release has a part that desorbs from the seam and changes
over hours, a part that the shearer frees at once and a part that broken coal goes on giving off for hours; falling
air pressure frees more. The sizes are fitted by eye to means, spreads and correlation times of the public longwall
recording of M. Sikora, L. Wrobel, A. Gudys (30-second means; MM116 0.96 % while cutting and 0.69 % otherwise);
nothing of the recording itself is in here. That recording's face (gassiness 1) reaches 1.0 % thirty times a day.

What happens without a fan is not in the recording: natural draught and run-down are order-of-magnitude engineering
values.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats, Hazard, Input, Inputs, Kind, Signal, stage, towards, wander

CUTTING, SHORT_PAUSE, LONG_PAUSE = 0, 1, 2
LOWER_EXPLOSIVE_LIMIT = 5.0
"""% methane in air."""
STOP_WORK = 1.0
"""% methane."""
LEAST_AIR = 0.25
"""m/s."""
PARTS = 10.0
"""s: the air flow is held for no longer than that while the methane is carried along."""


@dataclass(frozen=True)
class Design:
    """What the face is. Each field is a number or [n].

    Methane is counted in % by volume of the designed air flow, so that a release of 1 with the air as designed gives
    1 % at the face. The four spreads and `weather` are standard deviations of the departures from the mean.
    """

    gassiness: float | Floats = (
        0.35  # release as a share of the recorded face's, which is 1; the default is drained
    )
    air: float | Floats = 2.3  # m/s at the face as designed
    natural: float | Floats = 0.05  # share of the designed air that moves without the fan
    run_down: float | Floats = 90.0  # s, time constant of the air after the fan stops or starts
    mixing: float | Floats = 40.0  # s, volume of the mixed stretch / designed air flow
    return_mixing: float | Floats = 150.0  # s, the same of the way to the return's sensor
    pressure: float | Floats = 1073.4  # hPa underground
    at_rest: float | Floats = 0.56  # % released while nobody has cut for long
    freed: float | Floats = 0.27  # % more at once from cutting
    broken: float | Floats = 0.48  # % more from broken coal, after hours of cutting
    seam: float | Floats = 0.22  # %, over hours
    eddies: float | Floats = 0.06  # %, over minutes
    leak: float | Floats = 0.05  # %, what reaches the return by other ways, over hours
    draught: float | Floats = 0.13  # m/s, over hours
    weather: float | Floats = 3.6  # hPa, over a day
    cut: float | Floats = 660.0  # s, mean time of cutting
    short_pause: float | Floats = 180.0  # s, mean of four pauses in five
    long_pause: float | Floats = 6600.0  # s, mean of the fifth


@dataclass(frozen=True, slots=True)
class Face:
    """The state, each [n]. Methane in % by volume; the rest are departures from their mean, or shares of 1.

    at_face, in_return: methane where the sensors hang. air: share of the designed air flow. freed, broken: how far
    the shearer's fresh gas and the broken coal's gas have built up (0–1). seam, eddies: methane that the seam (hours)
    and the air's swirls (minutes) add, %. leak: what reaches the return by other ways, %. draught: m/s on the air at
    the face. weather: hPa on the air pressure. turn: CUTTING, SHORT_PAUSE or LONG_PAUSE, what the crew means to do.
    cutting: 1 while the shearer runs.
    """

    at_face: Floats
    in_return: Floats
    air: Floats
    freed: Floats
    broken: Floats
    seam: Floats
    eddies: Floats
    leak: Floats
    draught: Floats
    weather: Floats
    turn: NDArray[np.int8]
    cutting: Floats


def start(design: Design, n: int, random: Generator) -> Face:
    """n faces somewhere in an ordinary shift."""
    noise = random.standard_normal((4, n))
    share = np.broadcast_to(np.asarray(design.gassiness, dtype=float), (n,))
    turn = random.choice(3, n, p=(0.31, 0.07, 0.62)).astype(np.int8)
    return Face(
        at_face=0.7 * share,
        in_return=0.33 * share,
        air=np.ones(n),
        freed=(turn == CUTTING).astype(float),
        broken=np.full(n, 0.3),
        seam=design.seam * noise[0],
        eddies=np.zeros(n),
        leak=design.leak * noise[1],
        draught=design.draught * noise[2],
        weather=design.weather * noise[3],
        turn=turn,
        cutting=(turn == CUTTING).astype(float),
    )


def step(design: Design, face: Face, dt: float, inputs: Inputs, random: Generator) -> Face:
    """The faces ``dt`` seconds later (0.1 to 60 s). Raises ValueError where time does not go forward."""
    if dt <= 0:
        raise ValueError("time goes forward")
    noise = random.standard_normal((5, face.air.size))
    seam = wander(face.seam, design.seam, dt, 7 * 3600, noise[0])
    eddies = wander(face.eddies, design.eddies, dt, 270, noise[1])
    leak = wander(face.leak, design.leak, dt, 4 * 3600, noise[2])
    draught = wander(face.draught, design.draught, dt, 3 * 3600, noise[3])
    weather = wander(face.weather, design.weather, dt, 24 * 3600, noise[4])
    turn = _next_turn(design, face.turn, dt, random.random(face.air.size))
    cutting = (turn == CUTTING) * inputs["cutting_allowed"]
    freed = towards(face.freed, cutting, dt, 240)
    broken = towards(face.broken, cutting, dt, 3 * 3600)

    free = design.at_rest + design.freed * freed + design.broken * broken + seam + eddies - 0.02 * weather
    release = np.maximum(0.2, free) * design.gassiness * inputs["inflow"]
    blown = np.maximum(design.natural, inputs["ventilation"] * inputs["fan"])
    gusts = 1 + draught / design.air
    elsewhere = design.gassiness * (0.05 + leak)
    air, at_face, in_return = face.air, face.at_face, face.in_return
    parts = int(np.ceil(dt / PARTS))
    for _ in range(parts):
        air_before, face_before = air, at_face
        air = towards(air, blown, dt / parts, design.run_down)
        # the gas that is set free leaves with the air, so no place ever holds more than 100 %
        exchanged = (air_before + air) / 2 * gusts + release / 100
        at_face = towards(at_face, release / exchanged, dt / parts, design.mixing / exchanged)
        reaching = np.maximum(0.0, elsewhere + 0.405 * (face_before + at_face) / 2)
        in_return = towards(in_return, reaching, dt / parts, design.return_mixing / exchanged)
    return Face(
        at_face,
        in_return,
        air,
        freed,
        broken,
        seam,
        eddies,
        leak,
        draught,
        weather,
        turn,
        cutting.astype(float),
    )


def measure(design: Design, face: Face, inputs: Inputs) -> dict[str, Floats]:
    """Every signal, each [n]."""
    moving = face.air * (design.air + face.draught)
    return {
        "methane_face": face.at_face,
        "methane_return": face.in_return,
        "air_face": moving,
        "air_return": 0.8 * moving,
        "air_pressure": design.pressure + face.weather,
        "cutting": face.cutting,
    }


def stages(design: Design, face: Face, inputs: Inputs) -> dict[str, NDArray[np.int8]]:
    """The Stage of both hazards, each int8 [n]. The harm of lost ventilation is the methane's."""
    worst = np.maximum(face.at_face, face.in_return)
    air = face.air * (design.air + face.draught)
    return {
        "methane": stage(worst >= 0.9, worst >= STOP_WORK, worst >= LOWER_EXPLOSIVE_LIMIT),
        "ventilation_lost": stage(air < 1.6, air < LEAST_AIR, np.zeros(air.size, dtype=bool)),
    }


def _next_turn(design: Design, turn: NDArray[np.int8], dt: float, chance: Floats) -> NDArray[np.int8]:
    """Cutting and pausing without end: a Markov chain, of which a step sees one change at most."""
    pausing = np.where(turn == SHORT_PAUSE, design.short_pause, design.long_pause)
    mean = np.where(turn == CUTTING, design.cut, pausing)
    leaves = 1 - np.exp(-dt / mean)
    pause = np.where(chance < 0.2 * leaves, LONG_PAUSE, SHORT_PAUSE)
    then = np.where(turn == CUTTING, pause, CUTTING)
    return np.where(chance < leaves, then, turn).astype(np.int8)


KIND = Kind(
    name="coal_face",
    design=Design(),
    signals=(
        Signal("methane_face", "%CH4", 0.0, 0.9, "methane at the face (T1), of a drained face as by default"),
        Signal("methane_return", "%CH4", 0.0, 0.6, "methane in the return airway (T2), of a drained face"),
        Signal("air_face", "m/s", 1.6, 3.0, "air velocity at the face"),
        Signal("air_return", "m/s", 1.28, 2.4, "air velocity in the return airway"),
        Signal("air_pressure", "hPa", 1052.0, 1095.0, "air pressure underground"),
        Signal("cutting", "1", 0.0, 1.0, "1 while the shearer runs"),
    ),
    inputs=(
        Input("ventilation", 1.0, 0.05, 1.3, "share of the designed air flow that the airways let through"),
        Input("fan", 1.0, 0.0, 1.0, "1 runs, 0 stopped: the air runs down to the natural draught"),
        Input("inflow", 1.0, 0.3, 30.0, "methane release as a share of the ordinary; large for an outburst"),
        Input("cutting_allowed", 1.0, 0.0, 1.0, "0: the power of the shearer is cut, people's remedy"),
    ),
    hazards=(
        Hazard(
            "methane",
            "瓦斯超限",
            "methane above the limit",
            "II",
            ("methane_face", "methane_return"),
            300.0,
            "visible 0.9 %: above every value of a drained face in a month; danger 1.0 %: AQ 1029 alarm at T1 and "
            "T2, 煤矿安全规程: work with electric tools stops; harm 5 %: lower explosive limit of methane in air",
        ),
        Hazard(
            "ventilation_lost",
            "风量不足",
            "ventilation lost",
            "III",
            ("air_face", "air_return"),
            300.0,
            "visible 1.6 m/s: below every value of a month; danger 0.25 m/s: 煤矿安全规程, least air velocity at a "
            "working face; its harm is that of methane",
        ),
    ),
    start=start,
    step=step,
    measure=measure,
    stages=stages,
)
