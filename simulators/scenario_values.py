"""The values of a scenario's text: what each may be, and how it is said of one that it may not."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from math import isfinite
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

SECOND = 1_000_000
UNITS = {"ms": 1000, "s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND}
LONGEST = 366 * UNITS["d"]
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
YEARS = range(2000, 2100)
"""In which a scenario may begin: whoever hears earlier times, or times far ahead, cannot believe them."""

Place = tuple[str | int, ...]
Mistakes = Iterable[tuple[Place, str]]
"""Each with its place within what is checked."""


def duration(text: object) -> int:
    """µs, from "500ms", "5s", "2min", "1h", "7d", or 0. Raises ValueError for anything else, or beyond LONGEST."""
    if text in ("0", 0) and not isinstance(text, bool):
        return 0
    found = (
        re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|min|h|d)", text) if isinstance(text, str) else None
    )
    if found is None:
        raise ValueError("expected a duration such as 500ms, 5s, 2min, 1h or 7d")
    micros = round(float(found[1]) * UNITS[found[2]])
    if micros > LONGEST:
        raise ValueError("expected a duration of 366d at most")
    return micros


def _span(text: object) -> int:
    """A duration that is more than none."""
    if not (micros := duration(text)):
        raise ValueError("expected a duration of more than 0")
    return micros


def _moment(text: object) -> int:
    """µs UTC, from ISO 8601 with a time zone."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.year not in YEARS:
        raise ValueError(
            f"expected a time from {YEARS[0]} to {YEARS[-1]} with its zone, such as 2026-03-02T10:00:00+08:00"
        )
    return (moment - EPOCH) // timedelta(microseconds=1)


def unit_ids(units: object) -> object:
    """Their ids, where it is said how many."""
    if isinstance(units, int) and not isinstance(units, bool) and 1 <= units <= 9999:
        return [f"{number:02d}" for number in range(1, units + 1)]
    if not isinstance(units, list) or not units:
        raise ValueError("expected a list of ids, or how many, from 1 to 9999")
    return units


def _size(size: object) -> object:
    """A number, or one for each unit."""
    values = size if isinstance(size, list) else [size]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v)]
    if not numbers or len(numbers) < len(values):
        raise ValueError("expected a number, or a list with one for each unit")
    return size


def _window(window: tuple[int, int]) -> tuple[int, int]:
    if window[0] >= window[1]:
        raise ValueError("expected an end that is later than its beginning")
    return window


def wrong(mistakes: Mistakes) -> ValidationError:
    """The error that says them all."""
    return ValidationError.from_exception_data(
        "scenario",
        [
            InitErrorDetails(
                type=PydanticCustomError("scenario", "{text}", {"text": text}), loc=place, input=None
            )
            for place, text in mistakes
        ],
    )


def refuse(mistakes: Mistakes) -> None:
    """Raises ValidationError where there are any."""
    if found := list(mistakes):
        raise wrong(found)


Duration = Annotated[
    int,
    BeforeValidator(duration, json_schema_input_type=str),
    Field(description="500ms, 5s, 2min, 1h or 7d"),
]
Span = Annotated[
    int,
    BeforeValidator(_span, json_schema_input_type=str),
    Field(description="500ms, 5s, 2min, 1h or 7d; more than 0"),
]
Moment = Annotated[
    int,
    BeforeValidator(_moment, json_schema_input_type=str),
    Field(description="ISO 8601 with a time zone"),
]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.{}-]{1,40}$")]
Size = Annotated[float | list[float], BeforeValidator(_size, json_schema_input_type=float | list[float])]
Window = Annotated[tuple[Duration, Duration], Field(strict=False), AfterValidator(_window)]
Target = Annotated[
    str,
    Field(
        description="ENTERPRISE/NAME, or NAME alone where one enterprise has it; * stands for anything, "
        "gas-3 for the third copy of gas"
    ),
]
Share = Annotated[float, Field(ge=0, le=1)]
Wrong = Annotated[float, Field(ge=-3e8, le=3e8)]
Targets = Annotated[list[Target], Field(min_length=1)]
