"""A scenario: plants, what goes wrong when, who answers; read from YAML by a strict, published schema."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import cache
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from simulators import credit
from simulators.plant import Kind, kind, kinds
from simulators.scenario_values import (
    LONGEST,
    SECOND,
    Duration,
    Id,
    Mistakes,
    Moment,
    Place,
    Share,
    Size,
    Span,
    Targets,
    Window,
    Wrong,
    duration,
    refuse,
    unit_ids,
    wrong,
)

CELLS = ("haizhou", "donghai", "gangkou", "gangdong", "beishan", "shitan", "jingkou")
"""The cells of the grid that is written for a scenario, without its villages."""

OURS = ("enterprise", "gateway", "point", "unit", "signal", "noise", "resolution", "lag")
"""Columns that are no plant's to replace: they say which point it is, or how it measures."""


class ScenarioError(ValueError):
    """The file is no scenario; the text has a line for every mistake, each with its place and what was expected."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _told(cls, data: Any, handler: ModelWrapValidatorHandler["Strict"]) -> "Strict":
        """Say of a key that is unknown which are known, and of what is no mapping what it should be."""
        try:
            return handler(data)
        except ValidationError as error:
            known = ", ".join(cls.model_fields)
            texts = {
                "extra_forbidden": f"unknown key; there are {known}",
                "model_type": f"expected a mapping with the keys {known}",
            }
            raise wrong(
                (found["loc"], texts.get(found["type"], found["msg"].removeprefix("Value error, ")))
                for found in error.errors()
            ) from None


class Words(Strict):
    """The same in Chinese and in English."""

    zh: str
    en: str


class Clock(Strict):
    """How wrong a gateway's clock is."""

    offset: Annotated[Wrong, Field(description="seconds by which it is ahead (below 0: behind)")] = 0.0
    drift: Annotated[
        float, Field(ge=-100_000, le=100_000, description="millionths by which it is too fast")
    ] = 0.0


class Gateway(Strict):
    """One gateway of an enterprise, and how its line is on an ordinary day."""

    every: Annotated[Span, Field(description="time between two packets: a multiple of the step")] = SECOND
    form: Literal["rows", "columns"] = "rows"
    batch: Annotated[Duration, Field(description="packets are collected for so long into one message")] = 0
    exception: Annotated[
        float, Field(ge=0, description="report by exception: what moved by so many resolutions; 0: all")
    ] = 0.0
    heartbeat: Annotated[Span, Field(description="by exception: a reading at least so often")] = 60 * SECOND
    loss: Annotated[Share, Field(description="chance that a message never leaves")] = 0.0
    doubled: Annotated[Share, Field(description="chance that a message is sent twice")] = 0.0
    late: Annotated[Share, Field(description="chance that a message is held up")] = 0.0
    late_by: Duration = 5 * SECOND
    clock: Clock = Clock()


class Plant(Strict):
    """Units of one kind."""

    kind: str
    units: Annotated[
        list[Id],
        BeforeValidator(unit_ids, json_schema_input_type=list[Id] | int),
        Field(description="their ids, or how many: 01, 02 ..."),
    ]
    title: Annotated[str, Field(description="what the units are called; {unit} is the id")] = "{unit}"
    gateway: Id = "gw1"
    design: Annotated[
        dict[str, Size],
        Field(
            description="sizes and constants that differ from the kind's; one for all or one for each unit"
        ),
    ] = {}
    without: Annotated[list[str], Field(description="points of the instrument index that are not there")] = []
    names: Annotated[dict[str, Id], Field(description="other ids for points: TI-R-1: TI-1101")] = {}
    registry: Annotated[
        dict[str, dict[str, str]],
        Field(description="point of the index, or *: columns of the registry to replace"),
    ] = {}

    @model_validator(mode="after")
    def _of_its_kind(self) -> "Plant":
        refuse(_plant(self))
        return self

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of the instrument index that its units have; {unit} stands for the unit's id."""
        return [row for row in index(self.kind) if row["point"] not in self.without]

    def point(self, row: Mapping[str, str], unit: str) -> str:
        """The id of a unit's point."""
        id = row["point"].replace("{unit}", unit)
        return self.names.get(id, id)


Records = dict[Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")], list[dict[str, str]]]


class Enterprise(Strict):
    """An enterprise, or many alike."""

    id: Id
    name: str
    cell: Annotated[Id, Field(description="cell of the grid; {n} is the copy's number")] = "gangdong"
    code: Annotated[str, Field(description="credit code; made up if left out")] = ""
    copies: Annotated[int, Field(ge=1, le=2000)] = 1
    gateways: dict[Id, Gateway] = {"gw1": Gateway()}
    plants: Annotated[list[Plant], Field(min_length=1)]
    records: Annotated[
        Records,
        Field(
            description="rows of the registry's other files, by file: equipment, pipelines ...; without the enterprise"
        ),
    ] = {}

    @model_validator(mode="after")
    def _whole(self) -> "Enterprise":
        refuse(_enterprise(self))
        return self

    @property
    def cells(self) -> list[str]:
        """The cell of each copy."""
        return [self.cell.replace("{n}", f"{number:02d}") for number in range(1, self.copies + 1)]


class _Event(Strict):
    at: Annotated[Duration, Field(description="since the start")]
    lasts: Annotated[Span | None, Field(description="to the end of the scenario if left out")] = None
    note: Words | None = None


class Change(_Event):
    """What happens to units: a fault, or a remedy where it says by whom."""

    units: Targets
    set: Annotated[dict[str, float], Field(min_length=1, description="input of the kind: its new value")]
    over: Annotated[Duration, Field(description="how long the change takes; the way back too")] = 0
    by: Annotated[
        str, Field(description="who does it: the truth asks what would have come had nobody done it")
    ] = ""
    ended_by: Annotated[
        str, Field(description="who ends it when it has lasted so long; had nobody, it would have gone on")
    ] = ""


FaultKind = Literal["frozen", "dead", "open_circuit", "covered", "calibration", "drift", "offset"]
OutageKind = Literal["dead", "hung", "restart", "split", "clock", "mad_clock"]


class Fault(_Event):
    """Instruments that no longer tell the truth."""

    points: Targets
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

    gateways: Targets
    outage: OutageKind
    by_seconds: Annotated[Wrong, Field(description="clock: ahead by so much; mad_clock: off by up to it")] = (
        0.0
    )
    within: Annotated[
        Duration | None,
        Field(description="how long the plant may be blind there; left out: no danger, nothing need ring"),
    ] = None


class Entry(Strict):
    """What somebody enters into the registry: whole records, new or in place of those of their id."""

    at: Annotated[Duration, Field(description="since the start")]
    enter: Annotated[
        dict[Id, Records],
        Field(min_length=1, description="enterprise: rows of the registry's files, without the enterprise"),
    ]
    by: Annotated[str, Field(description="who enters it")] = "inspector"
    note: Words | None = None


def _which(event: Any) -> str | None:
    """An event is what its telling key says."""
    keys = event if isinstance(event, dict) else getattr(event, "__dict__", {})
    return next((key for key in ("set", "fault", "outage", "enter") if key in keys), None)


Event = Annotated[
    Annotated[Change, Tag("set")]
    | Annotated[Fault, Tag("fault")]
    | Annotated[Outage, Tag("outage")]
    | Annotated[Entry, Tag("enter")],
    Discriminator(
        _which,
        custom_error_type="event",
        custom_error_message="an event needs `set` (units), `fault` (points), `outage` (gateways) or `enter` (records)",
    ),
]


class Holds(Strict):
    """A condition of a risk that the plant itself fulfils: what is true of a unit, not what is measured."""

    unit: Id
    signal: str
    above: float


class Risk(Strict):
    """A danger that no single plant shows: what the plants do, and what the calendar and its records say."""

    id: Id
    enterprise: Id
    title: Words
    tier: Literal["I", "II", "III", "IV"]
    begins: Annotated[Moment, Field(description="from when on the records make it a risk")]
    ends: Annotated[Moment | None, Field(description="until when they do")] = None
    while_: Annotated[list[Holds], Field(alias="while", description="all of these hold")] = []
    within: Annotated[Span, Field(description="so long after anybody could know it an alert is of use")]
    points: Annotated[list[str], Field(description="that show a part of it")] = []


class Person(Strict):
    """How people answer their phones; who is not named never answers."""

    who: Annotated[str, Field(description="person id; * stands for anything")]
    after: Annotated[Duration, Field(description="from the ring to the answer")]
    spread: Annotated[Duration, Field(description="so much sooner or later")] = 0
    does: Annotated[list[Literal["confirm", "take-over", "act"]], Field(min_length=1)] = ["confirm"]
    act_after: Annotated[Duration, Field(description="from the answer to the record of what was done")] = (
        600 * SECOND
    )
    misses: Annotated[Share, Field(description="chance that a call is not heard")] = 0.0
    busy: Annotated[Share, Field(description="chance that the line is busy")] = 0.0
    wrong_key: Annotated[Share, Field(description="chance of a wrong key, and a second try")] = 0.0
    away: Annotated[list[Window], Field(description="[from, to): hears nothing")] = []
    offline: Annotated[list[Window], Field(description="[from, to): no network")] = []


class Scenario(Strict):
    """The whole file. Times of the timeline count from the start."""

    title: Words
    about: Annotated[str, Field(description="what it is for, and what a good judge would do")]
    seed: Annotated[int, Field(ge=0)] = 1
    start: Moment
    lasts: Span
    step: Annotated[Span, Field(description="of the physics, and the shortest time between packets")] = SECOND
    villages: Annotated[
        int, Field(ge=0, description="so many more cells, v01, v02 ..., below the town gangkou")
    ] = 0
    registry: Annotated[
        str,
        Field(description="registry folder to use, beside this file, instead of one that is written for it"),
    ] = ""
    enterprises: Annotated[list[Enterprise], Field(min_length=1)]
    timeline: list[Event] = []
    risks: list[Risk] = []
    people: list[Person] = []

    @field_validator("step")
    @classmethod
    def _possible(cls, step: int) -> int:
        if not SECOND // 10 <= step <= 60 * SECOND:
            raise ValueError("expected from 100ms to 1min")
        return step

    @field_validator("enterprises")
    @classmethod
    def _apart(cls, enterprises: list[Enterprise], info: ValidationInfo) -> list[Enterprise]:
        refuse(_enterprises(enterprises, info.data))
        return enterprises

    @field_validator("timeline")
    @classmethod
    def _there(cls, timeline: list[Event], info: ValidationInfo) -> list[Event]:
        if "enterprises" in info.data:
            refuse(_timeline(timeline, info.data["enterprises"], info.data.get("lasts", LONGEST)))
        return timeline

    @field_validator("risks")
    @classmethod
    def _known(cls, risks: list[Risk], info: ValidationInfo) -> list[Risk]:
        if "enterprises" in info.data:
            refuse(_risks(risks, info.data["enterprises"]))
        return risks


# -- what a file means together ----------------------------------------------------------------------


@cache
def index(name: str) -> list[dict[str, str]]:
    """The instrument index of a kind, a row for each point."""
    with kind(name).index.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def copies(enterprise: Enterprise) -> list[str]:
    """The ids of an enterprise and all that are like it."""
    if enterprise.copies == 1:
        return [enterprise.id]
    return [f"{enterprise.id}-{number}" for number in range(1, enterprise.copies + 1)]


def villages(count: int) -> list[str]:
    """The ids of so many further cells."""
    return [f"v{number:02d}" for number in range(1, count + 1)]


def matches(target: str, enterprise: str, name: str) -> bool:
    """Whether a target of the timeline means this unit, point or gateway of this enterprise."""
    if "/" not in target:
        return fnmatchcase(name, target)
    return fnmatchcase(f"{enterprise}/{name}", target)


def _plant(plant: Plant) -> Mistakes:
    if plant.kind not in kinds():
        yield ("kind",), f"no kind of plant is called {plant.kind!r}; there are {', '.join(kinds())}"
        return
    if twice := _twice(plant.units):
        yield ("units",), f"{twice} is there twice"
    sizes = {field.name: field for field in fields(kind(plant.kind).design)}
    for name, size in plant.design.items():
        if name not in sizes or isinstance(sizes[name].default, tuple):
            there = sorted(n for n, field in sizes.items() if not isinstance(field.default, tuple))
            yield ("design", name), f"{plant.kind} has no such size; it has {', '.join(there)}"
        elif isinstance(size, list) and (sizes[name].type is float or len(size) != len(plant.units)):
            yield ("design", name), f"expected one number, or one for each of {len(plant.units)} units"
    points = [row["point"] for row in index(plant.kind)]
    known = f"{plant.kind} has {', '.join(points)}"
    for number, name in enumerate(plant.without):
        if name not in points:
            yield ("without", number), f"no point {name!r}; {known}"
    if not plant.rows:
        yield ("without",), "no point is left"
    ids = {row["point"].replace("{unit}", unit) for row in plant.rows for unit in plant.units}
    for name in plant.names:
        if name not in ids:
            yield ("names", name), f"no point {name!r}; there are {_some(ids)}"
    for name, columns in plant.registry.items():
        if name not in points and name != "*":
            yield ("registry", name), f"no point {name!r}; {known}"
        for column, text in columns.items():
            if wrong := _column(column, text):
                yield ("registry", name, column), wrong


def _column(name: str, text: str) -> str:
    """What is wrong with a column of the registry, as far as a city has to know it."""
    if name in OURS:
        return "is not the registry's to say"
    try:
        if name in ("range_low", "range_high"):
            return "" if isfinite(float(text or "nan")) else "expected a number"
        if name in ("group_tolerance", "group_delay") and not text:
            return "expected a value"
        if name == "interval" and text:
            duration(text)
    except ValueError:
        return "expected a duration such as 5s" if name == "interval" else "expected a number"
    return ""


def _enterprise(enterprise: Enterprise) -> Mistakes:
    if enterprise.code and enterprise.copies > 1:
        yield ("code",), f"{enterprise.copies} copies cannot have one code: leave it out"
    elif enterprise.code and not credit.valid(enterprise.code):
        yield ("code",), "expected 18 digits and capitals, the last of them the check character of GB 32100"
    used = {plant.gateway for plant in enterprise.plants}
    for name in enterprise.gateways:
        if name not in used:
            yield ("gateways", name), "no plant sends by it"
    for name, records in enterprise.records.items():
        for number, record in enumerate(records):
            if "enterprise" in record:
                yield ("records", name, number, "enterprise"), "is this one: leave it out"
    units: set[str] = set()
    points: set[str] = set()
    for number, plant in enumerate(enterprise.plants):
        place: Place = ("plants", number)
        if plant.gateway not in enterprise.gateways:
            known = ", ".join(enterprise.gateways)
            yield (*place, "gateway"), f"no gateway {plant.gateway!r}; there are {known or 'none'}"
        if double := sorted(units.intersection(plant.units)):
            yield (*place, "units"), f"{double[0]} is a unit of another plant too"
        units.update(plant.units)
        own = [plant.point(row, unit) for unit in plant.units for row in plant.rows]
        if again := _twice([*points, *own]):
            yield place, f"two points have the id {again}: rename one by `names`"
        points.update(own)


def _enterprises(enterprises: Sequence[Enterprise], data: Mapping[str, Any]) -> Mistakes:
    """data: what of the scenario was right so far."""
    ids: set[str] = set()
    codes: set[str] = set()
    cells = {*CELLS, *villages(data.get("villages", 0))}
    for number, enterprise in enumerate(enterprises):
        for name, gateway in enterprise.gateways.items():
            if gateway.every % data.get("step", gateway.every):
                yield (number, "gateways", name, "every"), "expected a multiple of the scenario's step"
        own = copies(enterprise)
        if double := sorted(ids.intersection(own)):
            yield (number, "id"), f"{double[0]} is another enterprise too"
        ids.update(own)
        if enterprise.code in codes:
            yield (number, "code"), f"{enterprise.code} is another enterprise's code too"
        codes.update([enterprise.code] if enterprise.code else [])
        missing = [cell for cell in enterprise.cells if cell not in cells]
        if missing and not data.get("registry") and "villages" in data:
            yield (number, "cell"), f"no cell {missing[0]!r}; there are {_some(cells)}"


def _timeline(timeline: Sequence[Event], enterprises: Sequence[Enterprise], lasts: int) -> Mistakes:
    units: list[tuple[str, str, str]] = []  # enterprise, unit, kind
    points: list[tuple[str, str, str]] = []  # enterprise, point, ""
    gateways: list[tuple[str, str, str]] = []
    for enterprise in enterprises:
        for id in copies(enterprise):
            gateways += [(id, name, "") for name in enterprise.gateways]
            for plant in enterprise.plants:
                units += [(id, unit, plant.kind) for unit in plant.units]
                points += [(id, plant.point(row, unit), "") for unit in plant.units for row in plant.rows]
    seen: set[tuple[str, ...]] = set()
    for number, event in enumerate(timeline):
        place = (number, tag := str(_which(event)))
        if event.at >= lasts:
            yield (*place, "at"), "expected a time before the end of the scenario"
        if isinstance(event, Entry):
            ids = {id for enterprise in enterprises for id in copies(enterprise)}
            for id in event.enter:
                if id not in ids:
                    yield (*place, "enter", id), f"no enterprise {id!r}; there are {_some(ids)}"
            continue
        what, targets, there = {
            "set": ("unit", "units", units),
            "fault": ("point", "points", points),
            "outage": ("gateway", "gateways", gateways),
        }[tag]
        found: set[tuple[str, str, str]] = set()
        for at, target in enumerate(getattr(event, targets)):
            meant = [one for one in there if matches(target, *one[:2])]
            if not meant:
                names = _some(f"{one[0]}/{one[1]}" for one in there)
                yield (*place, targets, at), f"no {what} {target!r}; there are {names}"
            owners = {one[0] for one in meant}
            if "/" not in target and len(owners) > 1:
                yield (*place, targets, at), f"{target} is of {_some(owners)}: expected ENTERPRISE/{target}"
            found.update(meant)
        if isinstance(event, Change):
            for name, value in event.set.items():
                for of in sorted({one[2] for one in found}):
                    if wrong := _input(kind(of), name, value):
                        yield (*place, "set", name), wrong
            continue
        how: str = event.fault if isinstance(event, Fault) else event.outage
        key = "value" if isinstance(event, Fault) else "by_seconds"
        if how in ("offset", "drift", "clock", "mad_clock") and not getattr(event, key):
            yield (*place, key), f"expected by how much the {what} is wrong"
        if isinstance(event, Outage):
            how = "clock" if "clock" in how else "gateway"
        own = {(how, str(event.at // SECOND), *one) for one in found}
        if double := sorted(seen & own):
            yield place, f"{double[0][3]}: the same begins there in the same second already"
        seen |= own


def _risks(risks: Sequence[Risk], enterprises: Sequence[Enterprise]) -> Mistakes:
    units = {
        (id, unit): plant.kind
        for enterprise in enterprises
        for id in copies(enterprise)
        for plant in enterprise.plants
        for unit in plant.units
    }
    for number, risk in enumerate(risks):
        for at, holds in enumerate(risk.while_):
            place = (number, "while", at)
            of = units.get((risk.enterprise, holds.unit))
            if of is None:
                names = _some(f"{id}/{unit}" for id, unit in units)
                yield (*place, "unit"), f"no unit {risk.enterprise}/{holds.unit}; there are {names}"
            elif holds.signal not in (signals := [signal.name for signal in kind(of).signals]):
                yield (*place, "signal"), f"{of} has no signal {holds.signal!r}; it has {', '.join(signals)}"
    if twice := _twice([risk.id for risk in risks]):
        yield (), f"{twice} is there twice"


def _input(kind: Kind[Any, Any], name: str, value: float) -> str:
    """What is wrong with an input's new value."""
    found = next((input for input in kind.inputs if input.name == name), None)
    if found is None:
        return f"{kind.name} has no input {name!r}; it has {', '.join(input.name for input in kind.inputs)}"
    if not found.low <= value <= found.high:
        return f"{kind.name}: {value:g} is not from {found.low:g} to {found.high:g}"
    return ""


def _twice(names: Iterable[str]) -> str:
    """The first that is there twice, or ""."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _some(names: Iterable[str], most: int = 12) -> str:
    all_of_them = sorted(set(names))
    return ", ".join(all_of_them[:most]) + (" ..." if len(all_of_them) > most else "")


def schema() -> dict[str, Any]:
    """The JSON schema, for editors and for docs/scenario.schema.json."""
    return Scenario.model_json_schema()
