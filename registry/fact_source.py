"""What may stand in the files of records (equipment.csv, licences.csv ...): their columns and their checks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from registry import inspection, major_hazard
from registry.clock import MINUTE
from registry.files import Table
from registry.mistakes import Mistakes
from registry.record_checks import RecordChecks
from registry.source import (
    NAN,
    CellRef,
    Column,
    EnterpriseRef,
    Id,
    NotNegative,
    Parts,
    Positive,
    PositiveDuration,
    Text,
    wrong,
)

EARLIEST, LATEST = date(1900, 1, 1), date(2199, 12, 31)

# ---- values ----------------------------------------------------------------------------------------


def _iso(value: object) -> object:
    """A day or a time as Excel writes it, 2026/1/5 8:00, in the form of ISO 8601; anything else as it is."""
    shape = r"(\d{4})/(\d\d?)/(\d\d?)(?: (\d\d?)(:.*))?"
    match = re.fullmatch(shape, value, re.ASCII) if isinstance(value, str) else None
    if not match:
        return value
    day = f"{match[1]}-{match[2]:0>2}-{match[3]:0>2}"
    return f"{day} {match[4]:0>2}{match[5]}" if match[4] else day


def _day(value: object) -> date:
    value = _iso(value)
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            raise wrong(f"is {value!r}, a day that no calendar has", "a day such as 2026-11-21") from None
        if EARLIEST <= day <= LATEST:
            return day
    raise wrong(f"is {value!r}", "a day such as 2026-11-21")


def _moment(value: object) -> datetime:
    value = _iso(value)
    shape = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?"
    if isinstance(value, str) and re.fullmatch(shape, value, re.ASCII):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise wrong(f"is {value!r}, a time that never is", "a time such as 2026-11-21 08:00") from None
        if EARLIEST < moment.date() < LATEST:
            return moment
    raise wrong(f"is {value!r}", "a time such as 2026-11-21 08:00 or 2026-11-21T08:00:00+08:00")


def _count(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    raise wrong(f"is {value!r}", "a whole number of 0 or more")


def _years(value: object) -> tuple[int, ...]:
    parts = value.split() if isinstance(value, str) else []
    years = tuple(int(part) for part in parts if re.fullmatch(r"[1-9][0-9]?", part))
    if not years or len(years) != len(parts) or any(a >= b for a, b in pairwise(years)):
        raise wrong(f"is {value!r}", "rising years of service such as 1 4 7 9")
    return years


def _ids(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.split())) if isinstance(value, str) else ()


def _cas(value: str) -> str:
    """The last digit of a CAS number is the sum of the others, each times its place from the right, modulo 10."""
    match = re.fullmatch(r"([1-9][0-9]{1,6})-([0-9]{2})-([0-9])", value)
    digits = reversed(match[1] + match[2]) if match else ()
    if not match or sum(place * int(digit) for place, digit in enumerate(digits, 1)) % 10 != int(match[3]):
        raise wrong(f"is {value!r}", "a CAS number with its right check digit, such as 7664-41-7")
    return value


def _symbols(value: object) -> tuple[str, ...]:
    symbols = tuple(dict.fromkeys(value.split())) if isinstance(value, str) else ()
    for symbol in symbols:
        if symbol not in major_hazard.categories():
            known = ", ".join(major_hazard.categories())
            raise wrong(f"has {symbol!r}", f"symbols of GB 18218-2018 table 2 with blanks between: {known}")
    return symbols


def _critical(value: object) -> float:
    """A critical quantity in t, or infinity where it is said that none holds."""
    if value == "none":
        return float("inf")
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) and float(value) > 0:
        return float(value)
    raise wrong(f"is {value!r}", "tonnes above 0, or none")


def _scale(value: object) -> tuple[tuple[float, float], ...]:
    number = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
    parts = value.split() if isinstance(value, str) else []
    pairs = [re.fullmatch(f"({number})=({number})", part) for part in parts]
    scale = tuple((float(pair[1]), float(pair[2])) for pair in pairs if pair)
    rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(scale))
    if len(scale) < 2 or len(scale) != len(parts) or not rising or scale[0][1] < 0:
        raise wrong(f"is {value!r}", "two or more rising pairs of value and tonnes such as 0=0 100=52.5")
    return scale


Day: TypeAlias = Annotated[date, BeforeValidator(_day)]
Moment: TypeAlias = Annotated[datetime, BeforeValidator(_moment)]
"""Without a zone where none was written: then it is of the registry's."""
Count: TypeAlias = Annotated[int, BeforeValidator(_count)]
Years: TypeAlias = Annotated[tuple[int, ...], BeforeValidator(_years)]
Ids: TypeAlias = Annotated[tuple[Id, ...], BeforeValidator(_ids)]
Cas: TypeAlias = Annotated[str, AfterValidator(_cas)]
Symbols: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_symbols)]
Critical: TypeAlias = Annotated[float, BeforeValidator(_critical)]
Scale: TypeAlias = Annotated[tuple[tuple[float, float], ...], BeforeValidator(_scale)]
Result: TypeAlias = Literal["passed", "conditional", "failed"]
Shape: TypeAlias = Literal["upright_cylinder", "lying_cylinder", "sphere", "scale", "weight"]
HazardKind: TypeAlias = Literal["general", "major"]
AccidentKind: TypeAlias = Literal["accident", "near_miss"]
Colour: TypeAlias = Literal["blue", "yellow", "orange", "red"]
WarningKind: TypeAlias = Literal["storm", "flood", "earthquake", "heat", "cold", "fog", "fire", "other"]
PermitKind: TypeAlias = Literal[
    "hot_work",
    "confined_space",
    "blind_plate",
    "work_at_height",
    "lifting",
    "temporary_power",
    "excavation",
    "road_closure",
    "maintenance",
    "other",
]
"""The eight kinds of special work of GB 30871, and what is none of them."""


# ---- files -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordTable:
    """One kind of record: a CSV file of this name in the folder, all columns text until they are judged."""

    columns: Mapping[str, Column]
    key: tuple[str, ...]  # the columns that tell one record from another, ("enterprise", "id")


def _of_enterprise(**columns: Column) -> RecordTable:
    own = {"enterprise": Column(EnterpriseRef, required=True), "id": Column(Id, required=True)}
    return RecordTable(own | columns, ("enterprise", "id"))


_NAME = Column(Text, "")
_UNIT = Column(str, "")

TABLES: dict[str, RecordTable] = {
    "pipelines": _of_enterprise(
        name=_NAME,
        flow_in=Column(Id, required=True),
        flow_out=Column(Id, required=True),
        pressure_in=Column(Id, ""),
        pressure_out=Column(Id, ""),
        line_pack=Column(NotNegative, 0.0),
        length=Column(Positive, required=True),
        wave_speed=Column(Positive, required=True),
        leak=Column(Positive, 0.005),
        over=Column(PositiveDuration, 10 * MINUTE),
    ),
    "equipment": _of_enterprise(
        name=_NAME,
        kind=Column(Id, required=True),
        grade=Column(Id, ""),
        unit=_UNIT,
        in_service=Column(Day),
        out_of_service=Column(Day),
        next=Column(Day),
        clause=Column(Text, ""),
    ),
    "inspections": _of_enterprise(
        name=_NAME,
        equipment=Column(str, ""),
        kind=Column(Id, inspection.PERIODIC),
        date=Column(Day, required=True),
        result=Column(Result, required=True),
        next=Column(Day),
        inspector=Column(Text, ""),
        department=Column(Id, ""),
        note=Column(Text, ""),
    ),
    "intervals": RecordTable(
        {
            "kind": Column(Id, required=True),
            "grade": Column(Id, ""),
            "inspection": Column(Id, inspection.PERIODIC),
            "first_months": Column(Count),
            "months": Column(Count, required=True),
            "years": Column(Years, ()),
            "clause": Column(Text, required=True),
            "source": Column(Text, required=True),
            "unsure": Column(Literal["yes", "no"], "no"),
        },
        ("kind", "grade", "inspection"),
    ),
    "licences": _of_enterprise(
        name=_NAME,
        kind=Column(Id, required=True),
        unit=_UNIT,
        issued=Column(Day),
        expires=Column(Day),
        ended=Column(Day),
        department=Column(Id, ""),
        conditions=Column(Text, ""),
        clause=Column(Text, ""),
    ),
    "chemicals": _of_enterprise(
        name=_NAME,
        cas=Column(Cas, ""),
        unit=_UNIT,
        category=Column(Symbols, ()),
        critical=Column(Critical, NAN),
        permitted=Column(NotNegative, NAN),
        maximum=Column(NotNegative, NAN),
        declared=Column(NotNegative, NAN),
        declared_on=Column(Day),
        clause=Column(Text, ""),
    ),
    "tanks": _of_enterprise(
        chemical=Column(str, required=True),
        point=Column(str, required=True),
        shape=Column(Shape, required=True),
        diameter=Column(Positive, NAN),
        height=Column(Positive, NAN),
        length=Column(Positive, NAN),
        head_depth=Column(NotNegative, 0.0),
        density=Column(Positive, NAN),
        scale=Column(Scale, ()),
    ),
    "major_hazard_units": RecordTable(
        {
            "enterprise": Column(EnterpriseRef, required=True),
            "unit": _UNIT,
            "people": Column(Count, required=True),
            "registered_on": Column(Day),
        },
        ("enterprise", "unit"),
    ),
    "permits": _of_enterprise(
        name=_NAME,
        kind=Column(PermitKind, required=True),
        unit=_UNIT,
        place=Column(Text, ""),
        points=Column(Ids, ()),
        rules=Column(Ids, ()),
        **{"from": Column(Moment, required=True), "to": Column(Moment, required=True)},
        holder=Column(Text, required=True),
        clause=Column(Text, ""),
    ),
    "hazards": _of_enterprise(
        name=_NAME,
        kind=Column(HazardKind, required=True),
        unit=_UNIT,
        found=Column(Day, required=True),
        deadline=Column(Day, required=True),
        closed=Column(Day),
        department=Column(Id, ""),
        clause=Column(Text, ""),
    ),
    "accidents": _of_enterprise(
        name=_NAME,
        kind=Column(AccidentKind, required=True),
        unit=_UNIT,
        time=Column(Moment, required=True),
        dead=Column(Count, 0),
        injured=Column(Count, 0),
        cause=Column(Text, ""),
    ),
    "penalties": _of_enterprise(
        name=_NAME,
        department=Column(Id, required=True),
        date=Column(Day, required=True),
        settled=Column(Day),
        amount=Column(NotNegative, NAN),
        clause=Column(Text, ""),
    ),
    "certificates": _of_enterprise(
        name=_NAME,
        kind=Column(Id, required=True),
        holder=Column(Text, required=True),
        expires=Column(Day),
        ended=Column(Day),
        clause=Column(Text, ""),
    ),
    "warnings": RecordTable(
        {
            "cell": Column(CellRef, required=True),
            "id": Column(Id, required=True),
            "kind": Column(WarningKind, required=True),
            "name": _NAME,
            "from": Column(Moment, required=True),
            "to": Column(Moment, required=True),
            "level": Column(Colour, ""),
            "clause": Column(Text, ""),
        },
        ("cell", "id"),
    ),
}
"""By the stem of the file: "equipment" is equipment.csv. Every file may be left out."""


# ---- checks ----------------------------------------------------------------------------------------


def check(
    tables: Mapping[str, Table],
    values: Mapping[str, Mapping[str, Sequence[Any]]],
    enterprises: Mapping[str, Parts],
    points: Mapping[tuple[str, str], tuple[str, str]],
    mistakes: Mistakes,
) -> None:
    """What only several columns or files together can show; all by stem of the file.

    Args:
        values: columns as values, as each Column says; its default where a cell is empty or was a mistake.
        points: kind and engineering unit of every point, by enterprise and id.
    """
    checks = RecordChecks(tables, values, enterprises, points, mistakes)
    checks.units()
    checks.orders()
    checks.equipment()
    checks.inspections()
    checks.pipelines()
    checks.chemicals()
    checks.tanks()
    checks.permits()
