"""A scenario: plants, what goes wrong when, who answers; read from YAML by a strict, published schema."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

SECOND = 1_000_000
UNITS = {"ms": 1000, "s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND}
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class ScenarioError(ValueError):
    """The file is no scenario; the text has a line for every mistake, each with its place and what was expected."""


def duration(text: object) -> int:
    """µs, from "500ms", "5s", "2min", "1h", "7d", or 0. Raises ValueError for anything else."""
    if text in (0, "0"):
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|min|h|d)", text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("expected a duration such as 500ms, 5s, 2min, 1h or 7d")
    return round(float(found[1]) * UNITS[found[2]])


def _moment(text: object) -> object:
    """µs UTC, from ISO 8601 with a time zone."""
    moment = datetime.fromisoformat(text) if isinstance(text, str) else text
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError("expected a time with its zone, such as 2026-03-02T10:00:00+08:00")
    return (moment - EPOCH) // timedelta(microseconds=1)


Duration = Annotated[
    int,
    BeforeValidator(duration, json_schema_input_type=str),
    Field(description="500ms, 5s, 2min, 1h or 7d"),
]
Moment = Annotated[
    int,
    BeforeValidator(_moment, json_schema_input_type=str),
    Field(description="ISO 8601 with a time zone"),
]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.{}-]{1,40}$")]
Target = Annotated[
    str,
    Field(
        description="ENTERPRISE/NAME, or NAME alone where there is one enterprise; * stands for anything, "
        "gas-3 for the third copy of gas"
    ),
]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Words(Strict):
    """The same in Chinese and in English."""

    zh: str
    en: str


class Clock(Strict):
    """How wrong a gateway's clock is."""

    offset: Annotated[float, Field(description="seconds by which it is ahead (below 0: behind)")] = 0.0
    drift: Annotated[float, Field(description="millionths by which it is too fast")] = 0.0


class Gateway(Strict):
    """One gateway of an enterprise, and how its line is on an ordinary day."""

    every: Annotated[Duration, Field(description="time between two packets; several steps at most")] = SECOND
    form: Literal["rows", "columns"] = "rows"
    batch: Annotated[Duration, Field(description="packets are collected for so long into one message")] = 0
    exception: Annotated[
        float, Field(ge=0, description="report by exception: what moved by so many resolutions; 0: all")
    ] = 0.0
    heartbeat: Annotated[Duration, Field(description="by exception: a reading at least so often")] = (
        60 * SECOND
    )
    loss: Annotated[Share, Field(description="chance that a message never leaves")] = 0.0
    doubled: Annotated[Share, Field(description="chance that a message is sent twice")] = 0.0
    late: Annotated[Share, Field(description="chance that a message is held up")] = 0.0
    late_by: Duration = 5 * SECOND
    clock: Clock = Clock()


class Plant(Strict):
    """Units of one kind."""

    kind: str
    units: Annotated[list[Id] | int, Field(description="their ids, or how many: 01, 02 ...")]
    title: Annotated[str, Field(description="what the units are called; {unit} is the id")] = "{unit}"
    gateway: Id = "gw1"
    design: Annotated[
        dict[str, float | list[float]],
        Field(
            description="sizes and constants that differ from the kind's; one for all or one for each unit"
        ),
    ] = {}
    without: Annotated[list[str], Field(description="points of the instrument index that are not there")] = []
    names: Annotated[dict[str, Id], Field(description="other ids for points of the index")] = {}
    registry: Annotated[
        dict[str, dict[str, str]],
        Field(description="point of the index, or *: columns of the registry to replace"),
    ] = {}

    @property
    def ids(self) -> list[str]:
        if isinstance(self.units, int):
            return [f"{number:02d}" for number in range(1, self.units + 1)]
        return self.units


class Enterprise(Strict):
    """An enterprise, or many alike."""

    id: Id
    name: str
    cell: Annotated[Id, Field(description="cell of the grid; {n} is the copy's number")] = "gangdong"
    code: Annotated[str, Field(description="credit code; made up if left out")] = ""
    copies: Annotated[int, Field(ge=1, le=2000)] = 1
    gateways: dict[Id, Gateway] = {"gw1": Gateway()}
    plants: list[Plant]


class _Event(Strict):
    at: Annotated[Duration, Field(description="since the start")]
    lasts: Annotated[Duration | None, Field(description="to the end of the scenario if left out")] = None
    note: Words | None = None


class Change(_Event):
    """What happens to units: a fault, or a remedy where it says by whom."""

    units: list[Target]
    set: Annotated[dict[str, float], Field(min_length=1, description="input of the kind: its new value")]
    over: Annotated[Duration, Field(description="how long the change takes; the way back too")] = 0
    by: Annotated[
        str, Field(description="who does it: the truth asks what would have come had nobody done it")
    ] = ""


FaultKind = Literal["frozen", "dead", "open_circuit", "covered", "calibration", "drift", "offset"]
OutageKind = Literal["dead", "hung", "restart", "split", "clock", "mad_clock"]


class Fault(_Event):
    """Instruments that no longer tell the truth."""

    points: list[Target]
    fault: FaultKind
    value: Annotated[
        float, Field(description="calibration: span gas; offset: how much; drift: how much an hour")
    ] = 0.0
    share: Annotated[Share, Field(description="covered: what still gets through")] = 0.02
    within: Annotated[
        Duration | None,
        Field(description="how long the plant may be blind there; left out: no danger, nothing need ring"),
    ] = None


class Outage(_Event):
    """Gateways that are not heard, or not to be believed."""

    gateways: list[Target]
    outage: OutageKind
    by_seconds: Annotated[float, Field(description="clock: ahead by so much; mad_clock: off by up to it")] = (
        0.0
    )
    within: Annotated[
        Duration | None,
        Field(description="how long the plant may be blind there; left out: no danger, nothing need ring"),
    ] = None


def _which(event: Any) -> str | None:
    """An event is what its telling key says."""
    keys = event if isinstance(event, dict) else vars(event)
    return next((key for key in ("set", "fault", "outage") if key in keys), None)


Event = Annotated[
    Annotated[Change, Tag("set")] | Annotated[Fault, Tag("fault")] | Annotated[Outage, Tag("outage")],
    Discriminator(
        _which,
        custom_error_type="event",
        custom_error_message="an event needs `set` (units), `fault` (points) or `outage` (gateways)",
    ),
]


class Person(Strict):
    """How people answer their phones; who is not named never answers."""

    who: Annotated[str, Field(description="person id; * stands for anything")]
    after: Annotated[Duration, Field(description="from the ring to the answer")]
    spread: Annotated[Duration, Field(description="so much sooner or later")] = 0
    does: list[Literal["confirm", "take-over", "act"]] = ["confirm"]
    act_after: Annotated[Duration, Field(description="from the answer to the record of what was done")] = (
        600 * SECOND
    )
    misses: Annotated[Share, Field(description="chance that a call is not heard")] = 0.0
    busy: Annotated[Share, Field(description="chance that the line is busy")] = 0.0
    wrong_key: Annotated[Share, Field(description="chance of a wrong key, and a second try")] = 0.0
    away: Annotated[list[tuple[Duration, Duration]], Field(description="[from, to): hears nothing")] = []
    offline: Annotated[list[tuple[Duration, Duration]], Field(description="[from, to): no network")] = []


class Scenario(Strict):
    """The whole file. Times of the timeline count from the start."""

    title: Words
    about: Annotated[str, Field(description="what it is for, and what a good judge would do")]
    seed: int = 1
    start: Moment
    lasts: Duration
    step: Annotated[Duration, Field(description="of the physics, and the shortest time between packets")] = (
        SECOND
    )
    villages: Annotated[
        int, Field(ge=0, description="so many more cells, v01, v02 ..., below the town gangkou")
    ] = 0
    registry: Annotated[
        str,
        Field(description="registry folder to use, beside this file, instead of one that is written for it"),
    ] = ""
    enterprises: Annotated[list[Enterprise], Field(min_length=1)]
    timeline: list[Event] = []
    people: list[Person] = []

    @model_validator(mode="after")
    def _whole(self) -> "Scenario":
        for enterprise in self.enterprises:
            for name, gateway in enterprise.gateways.items():
                if gateway.every % self.step:
                    raise ValueError(f"{enterprise.id}/{name}: every: not a multiple of the scenario's step")
            for plant in enterprise.plants:
                if plant.gateway not in enterprise.gateways:
                    raise ValueError(f"{enterprise.id}: gateway {plant.gateway} is not among its gateways")
        if not 100_000 <= self.step <= 60 * SECOND:
            raise ValueError("step: from 100ms to 1min")
        return self


def read(path: Path) -> Scenario:
    """The scenario of a file.

    Raises:
        ScenarioError: it is none; every mistake with its line. OSError: it cannot be read.
    """
    try:
        text = path.read_text("utf-8")
        data = yaml.safe_load(text)
        lines = dict(_lines(yaml.compose(text, Loader=yaml.SafeLoader)))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: not YAML: {error}") from None
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        mistakes = dict.fromkeys(_mistake(path, lines, found) for found in error.errors())
        raise ScenarioError("\n".join(mistakes)) from None


def _mistake(path: Path, lines: dict[tuple[Any, ...], int], found: Any) -> str:
    place = found["loc"]
    if len(place) > 2 and place[0] == "timeline":
        place = (*place[:2], *place[3:])  # without the tag of the union
    known = next((place[:end] for end in range(len(place), -1, -1) if place[:end] in lines), ())
    where = ".".join(str(part) for part in place)
    return f"{path}:{lines.get(known, 1)}: {where + ': ' if where else ''}{found['msg'].removeprefix('Value error, ')}"


def _lines(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Where in the file each key and entry stands."""
    if node is None:
        return
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, key.value), key.start_mark.line + 1
            yield from list(_lines(value, (*place, key.value)))[1:]
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _lines(value, (*place, number))


def schema() -> dict[str, Any]:
    """The JSON schema, for editors and for docs/scenario.schema.json."""
    return Scenario.model_json_schema()
