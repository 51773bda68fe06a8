"""What may stand in the files of a registry folder: the keys, the columns, and what each must be."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    UrlConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from registry import credit
from registry.clock import DAY, HOUR, MINUTE, SECOND
from registry.model import LEVELS

KINDS = (
    *("combustible_gas", "toxic_gas", "methane", "oxygen", "dust", "smoke", "flame"),
    *("temperature", "pressure", "differential_pressure", "level", "flow", "concentration", "ph"),
    *("air_velocity", "air_pressure", "humidity", "wind_speed", "wind_direction"),
    *("vibration", "speed", "displacement", "inclination", "strain", "weight"),
    *("current", "voltage", "power", "people_count", "position", "state", "valve", "fan", "other"),
)
"""Kinds of point. The list is closed because the tier hangs on the kind: a misspelt gas must not ring lower."""

NOBODY = "nobody"
IN_THE_ENTERPRISE = "enterprise"
"""The words by which escalation says that no level is told, and that the ladder stays in the enterprise."""

SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Parts:
    """What an enterprise has that its points may name."""

    gateways: frozenset[str]
    units: frozenset[str]
    groups: frozenset[str]


@dataclass(slots=True)
class Known:
    """All that may be referred to; None where its file cannot be read, so that nothing is said of it."""

    cells: frozenset[str] | None = None
    levels: frozenset[str] | None = None
    people: Mapping[str, bool] | None = None  # by id: whether the person has a contact
    enterprises: Mapping[str, Parts] | None = None


def wrong(problem: str, expected: str) -> PydanticCustomError:
    """The error of a value: what it is, and what it should be."""
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "expected": expected})


# ---- values ----------------------------------------------------------------------------------------


def _text(value: str) -> str:
    if not value.strip():
        raise wrong("is empty", "a text")
    if value != value.strip() or not value.isprintable() or len(value) > 200:
        raise wrong(f"is {value!r}", "one line of at most 200 characters without blanks around it")
    return value


def _id(value: str) -> str:
    if not re.fullmatch(r"[^\s/+#|\x00-\x1f\x7f]{1,64}", value) or not value.isprintable():
        raise wrong(f"is {value!r}" if value else "is empty", "1–64 characters without blanks and / + # |")
    return value


def _gateway_id(value: str) -> str:
    """It is part of a user's name at the broker, whose password file ends the name at the first colon."""
    if ":" in value:
        raise wrong(
            f"is {value!r}", "an id without a colon: the gateway's user at the broker is named after it"
        )
    return value


def _cell_id(value: str) -> str:
    if value == SYSTEM or credit.check(value) is None:
        raise wrong(f"is {value!r}", f"an id that is neither {SYSTEM!r} nor a credit code")
    return value


def _level(value: str) -> str:
    if value in (NOBODY, IN_THE_ENTERPRISE):
        raise wrong(f"is {value!r}", "another word: escalation gives this one a meaning of its own")
    return value


@lru_cache(maxsize=1 << 18)  # a city's codes are judged again with every version
def _code(value: str) -> str:
    if problem := credit.check(value):
        raise wrong(f"{value!r} {problem}", "a unified social credit code (GB 32100)")
    return value


def _kind(value: str) -> str:
    if value not in KINDS:
        raise wrong(f"is {value!r}", f"one of {', '.join(KINDS)}")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise wrong(f"is {value!r}", "a time zone such as Asia/Shanghai") from None
    return value


_UNITS = {"us": 1, "ms": 1000, "s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY}


def duration(value: object) -> int:
    """Microseconds of "500ms", "5s", "2min", "1h"; "0" needs no unit. Raises PydanticCustomError."""
    if value == "0":
        return 0
    match = (
        re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([a-z]+)", value) if isinstance(value, str) else None
    )
    if match and match[2] in _UNITS:
        exact = Decimal(match[1]) * _UNITS[match[2]]
        if exact == int(exact) and exact <= 366 * DAY:
            return int(exact)
    raise wrong(f"is {value!r}", f"a time up to 366d in {', '.join(_UNITS)}, such as 500ms, 5s, 2min")


def _plain(value: object) -> object:
    """Python and pydantic would read 1_000 as a thousand; it is more often a slip of the keyboard."""
    if isinstance(value, str) and "_" in value:
        raise wrong(f"is {value!r}", "a number")
    return value


def _positive_duration(value: object) -> int:
    microseconds = duration(value)
    if microseconds == 0:
        raise wrong(f"is {value!r}", "a time above 0")
    return microseconds


def _hours(value: object) -> tuple[int, int]:
    match = (
        re.fullmatch(r"([0-2]?\d):([0-5]\d) ?[-–] ?([0-2]?\d):([0-5]\d)", value, re.ASCII)
        if isinstance(value, str)
        else None
    )
    if match:
        first, last = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
        if first < 24 * 60 and last <= 24 * 60 and first != last:
            return first, last % (24 * 60)
    raise wrong(f"is {value!r}", "hours such as 08:00-20:00, or 20:00-08:00 for a night")


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _weekdays(value: object) -> tuple[int, ...]:
    days: set[int] = set()
    for part in value.split(",") if isinstance(value, str) else [""]:
        first, _, last = part.strip().partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise wrong(f"is {value!r}", "days such as Mon-Fri or Sat,Sun")
        start = _DAYS.index(first)
        days.update((start + step) % 7 for step in range((_DAYS.index(last or first) - start) % 7 + 1))
    return tuple(sorted(days))


def _url(*schemes: str) -> Callable[[str], str]:
    adapter: TypeAdapter[AnyUrl] = TypeAdapter(
        Annotated[AnyUrl, UrlConstraints(allowed_schemes=list(schemes), host_required=True)]
    )

    links = " or ".join(f"{scheme}://" for scheme in schemes)

    def check(value: str) -> str:
        try:
            adapter.validate_python(value)
        except ValidationError:
            raise wrong(f"is {value!r}", f"a link that begins with {links}") from None
        return value

    return check


_video_url = _url("http", "https", "rtsp", "rtsps", "rtmp")
_webhook_url = _url("http", "https")


def _location(value: object) -> tuple[float, float]:
    parts = value.split(",") if isinstance(value, str) else []
    numbers = [_finite(part) for part in parts]
    if len(numbers) != 2 or None in numbers or not _on_earth(numbers):
        raise wrong(f"is {value!r}", "longitude and latitude in degrees, such as 120.38,36.07")
    return float(parts[0]), float(parts[1])


def _finite(value: object) -> float | None:
    """The number, written or not; None if it is none."""
    if isinstance(value, str) and re.fullmatch(r" *-?[0-9]{1,12}(\.[0-9]{1,15})? *", value):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9:
        return float(value)
    return None


def _on_earth(position: Sequence[Any]) -> bool:
    return bool(-180 <= position[0] <= 180 and -90 <= position[1] <= 90)


AREAS = {"Point": 0, "Polygon": 2, "MultiPolygon": 3}
"""Geometries of GeoJSON (RFC 7946) that an area may be, and how deep their positions lie in lists."""


def area(value: object) -> str:
    """A GeoJSON geometry, as JSON or nested, as JSON in one form. Raises PydanticCustomError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise wrong("is not JSON", "a geometry of GeoJSON") from None
    if not isinstance(value, dict) or value.keys() != {"type", "coordinates"}:
        raise wrong("is no geometry of GeoJSON", 'one with "type" and "coordinates" and no more')
    type_ = value["type"]
    if not isinstance(type_, str) or type_ not in AREAS:
        raise wrong(f"is of type {type_!r}"[:100], f"one of {', '.join(AREAS)}")
    coordinates = _positions(value["coordinates"], AREAS[type_])
    return json.dumps({"type": type_, "coordinates": coordinates}, separators=(",", ":"))


def _positions(value: object, depth: int) -> list[Any]:
    """Positions in lists so deep; each innermost list of them is a ring."""
    if not isinstance(value, list) or not value:
        raise wrong("has coordinates that are no list", "positions in lists as GeoJSON has them")
    if depth:
        inner = [_positions(item, depth - 1) for item in value]
        if depth == 1 and (len(inner) < 4 or inner[0] != inner[-1]):
            raise wrong("has a ring that is not closed", "four positions or more, the last like the first")
        return inner
    numbers = [_finite(item) for item in value]
    if len(numbers) != 2 or None in numbers or not _on_earth(numbers):
        raise wrong(f"has the position {value!r}"[:100], "longitude and latitude in degrees")
    return numbers


# ---- references ------------------------------------------------------------------------------------


def _known(info: ValidationInfo) -> Known:
    return info.context if isinstance(info.context, Known) else Known()


def _cell_ref(value: str, info: ValidationInfo) -> str:
    cells = _known(info).cells
    if cells is not None and value not in cells:
        raise wrong(f"is {value!r}, which the grid does not have", "the id of a cell of the grid")
    return value


def _level_ref(value: str, info: ValidationInfo) -> str:
    levels = _known(info).levels
    if levels is not None and value not in levels and value not in (NOBODY, IN_THE_ENTERPRISE):
        raise wrong(f"is {value!r}, a level that no cell has", f"one of {', '.join(sorted(levels))}")
    return value


def _enterprise_ref(value: str, info: ValidationInfo) -> str:
    enterprises = _known(info).enterprises
    if enterprises is not None and value not in enterprises:
        raise wrong(f"is {value!r}, which enterprises.yaml does not have", "the code of an enterprise")
    return value


def _place_ref(value: str, info: ValidationInfo) -> str:
    known = _known(info)
    if known.cells is None or known.enterprises is None:
        return value
    if value != SYSTEM and value not in known.cells and value not in known.enterprises:
        raise wrong(f"is {value!r}, which nothing has", f"an enterprise's code, a cell's id, or {SYSTEM}")
    return value


def _person_ref(value: str, info: ValidationInfo) -> str:
    people = _known(info).people
    if people is not None and value not in people:
        raise wrong(f"is {value!r}, whom people.yaml does not have", "the id of a person")
    if people is not None and not people[value]:
        raise wrong(f"is {value!r}, who has no contact", "a person who can be reached")
    return value


def _somebody(value: str, info: ValidationInfo) -> str:
    people = _known(info).people
    if people is not None and value not in people:
        raise wrong(f"is {value!r}, whom people.yaml does not have", "the id of a person")
    return value


Text: TypeAlias = Annotated[str, AfterValidator(_text)]
Id: TypeAlias = Annotated[str, AfterValidator(_id)]
GatewayId: TypeAlias = Annotated[Id, AfterValidator(_gateway_id)]
CellId: TypeAlias = Annotated[Id, AfterValidator(_cell_id)]
Level: TypeAlias = Annotated[Id, AfterValidator(_level)]
Code: TypeAlias = Annotated[str, AfterValidator(_code)]
TimeZone: TypeAlias = Annotated[str, AfterValidator(_time_zone)]
Duration: TypeAlias = Annotated[int, BeforeValidator(duration)]
PositiveDuration: TypeAlias = Annotated[int, BeforeValidator(_positive_duration)]
Number: TypeAlias = Annotated[float, BeforeValidator(_plain), Field(allow_inf_nan=False)]
NotNegative: TypeAlias = Annotated[float, BeforeValidator(_plain), Field(allow_inf_nan=False, ge=0)]
Positive: TypeAlias = Annotated[float, BeforeValidator(_plain), Field(allow_inf_nan=False, gt=0)]
Hours: TypeAlias = Annotated[tuple[int, int], BeforeValidator(_hours)]
Weekdays: TypeAlias = Annotated[tuple[int, ...], BeforeValidator(_weekdays)]
CellRef: TypeAlias = Annotated[str, AfterValidator(_cell_ref)]
LevelRef: TypeAlias = Annotated[str, AfterValidator(_level_ref)]
EnterpriseRef: TypeAlias = Annotated[str, AfterValidator(_enterprise_ref)]
PlaceRef: TypeAlias = Annotated[str, AfterValidator(_place_ref)]
PersonRef: TypeAlias = Annotated[str, AfterValidator(_person_ref)]
SomebodyRef: TypeAlias = Annotated[str, AfterValidator(_somebody)]
"""A person, who need not be one that can be reached."""
Location: TypeAlias = Annotated[tuple[float, float], BeforeValidator(_location)]
Area: TypeAlias = Annotated[str, BeforeValidator(area)]
VideoUrl: TypeAlias = Annotated[str, AfterValidator(_video_url)]
Kind: TypeAlias = Annotated[str, AfterValidator(_kind)]
Tier: TypeAlias = Literal["I", "II", "III", "IV"]
TIERS: tuple[Tier, ...] = ("I", "II", "III", "IV")


# ---- YAML ------------------------------------------------------------------------------------------


class Entry(BaseModel):
    """A mapping of a YAML file. A key that it does not name is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CellEntry(Entry):
    id: CellId
    name: Text
    level: Level
    children: list["CellEntry"] = []
    responsible: SomebodyRef = ""
    leader: SomebodyRef = ""
    area: Area = ""


class EscalationEntry(Entry):
    confirm_within: PositiveDuration = 5 * MINUTE
    action_within: Duration = 30 * MINUTE  # 0: no action is waited for
    again_after: PositiveDuration = 30 * MINUTE
    told_level: LevelRef | None = None
    top_level: LevelRef | None = None


class RegistryEntry(Entry):
    """registry.yaml"""

    grid: list[CellEntry] = Field([], min_length=1)  # or cells.csv has all of it
    time_zone: TimeZone = "Asia/Shanghai"
    escalation: dict[Tier, EscalationEntry] = {}


class ContactEntry(Entry):
    channel: Literal["phone", "webhook"]
    address: Text

    @field_validator("address")
    @classmethod
    def _fits_channel(cls, address: str, info: ValidationInfo) -> str:
        return _webhook_url(address) if info.data.get("channel") == "webhook" else address


class PersonEntry(Entry):
    id: Id
    name: Text
    language: Literal["zh", "en"] = "zh"
    contacts: list[ContactEntry] = []


class DutyEntry(Entry):
    place: PlaceRef
    person: PersonRef
    hours: Hours = (0, 0)
    weekdays: Weekdays = (0, 1, 2, 3, 4, 5, 6)


class UnitEntry(Entry):
    id: Id
    name: Text


class GroupEntry(Entry):
    id: Id
    tolerance: NotNegative
    delay: Duration = 0


class ResponsibleEntry(Entry):
    role: Text
    person: SomebodyRef


class EnterpriseEntry(Entry):
    code: Code
    name: Text
    cell: CellRef
    gateways: list[GatewayId] = Field(default_factory=list)  # pydantic would copy a [] slowly
    units: list[UnitEntry] = Field(default_factory=list)
    groups: list[GroupEntry] = Field(default_factory=list)
    industry: Text | None = None
    location: Location | None = None  # longitude and latitude, degrees
    responsible: list[ResponsibleEntry] = Field(default_factory=list)


# ---- CSV -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a CSV file: what its cells must be, and what an empty one stands for."""

    type: Any
    default: Any = None
    required: bool = False
    adapter: TypeAdapter[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapter", TypeAdapter(self.type))


NAN = float("nan")

CELL_COLUMNS = {
    "id": Column(CellId, required=True),
    "name": Column(Text, required=True),
    "level": Column(Level, required=True),
    "parent": Column(CellRef, ""),
    "responsible": Column(SomebodyRef, ""),
    "leader": Column(SomebodyRef, ""),
    "area": Column(Area, ""),
}
"""cells.csv"""

ENTERPRISE_COLUMNS = {
    "code": Column(str, required=True),
    "name": Column(str, required=True),
    "cell": Column(str, required=True),
    "industry": Column(str, ""),
    "location": Column(str, ""),
    "responsible": Column(str, ""),
    "gateways": Column(str, ""),
    "units": Column(str, ""),
    "groups": Column(str, ""),
}
"""enterprises.csv; what stands in them is judged as of an entry of enterprises.yaml."""

POINT_COLUMNS = {
    "enterprise": Column(EnterpriseRef, required=True),
    "gateway": Column(str, required=True),
    "point": Column(Id, required=True),
    "name": Column(Text, ""),
    "kind": Column(Kind, required=True),
    "engineering_unit": Column(Text, required=True),
    "unit": Column(str, ""),
    "place": Column(Text, ""),
    "video": Column(VideoUrl, ""),
    "clause": Column(Text, ""),
    "range_low": Column(Number, NAN),
    "range_high": Column(Number, NAN),
    **{level: Column(Number, NAN) for level in LEVELS},
    **{f"{level}_reset": Column(Number, NAN) for level in LEVELS},
    "on_delay": Column(Duration, 0),
    "off_delay": Column(Duration, 0),
    **{f"{level}_on_delay": Column(Duration) for level in LEVELS},
    **{f"{level}_off_delay": Column(Duration) for level in LEVELS},
    "interval": Column(Duration, 0),
    "rate": Column(Positive, NAN),
    "rate_over": Column(PositiveDuration, 0),
    "stuck_after": Column(PositiveDuration, 0),
    "stuck_within": Column(NotNegative, NAN),
    "alarm_state": Column(Number, NAN),
    "state_delay": Column(Duration, 0),
    "ahead": Column(PositiveDuration, 0),
    "ahead_over": Column(PositiveDuration, 0),
    "group": Column(str, ""),
    "template": Column(Id, ""),
}
"""points.csv and points/*.csv"""
