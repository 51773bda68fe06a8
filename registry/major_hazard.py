"""Major hazards as in GB 18218-2018: which substances count from which quantity, the sum S, R and the level.

q, the quantity of a store or a plant's vessels, is its design maximum (4.2.2), not what happens to be in it.
"""

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TABLES = Path(__file__).parent / "tables"

MOST_PEOPLE = 100
"""So many people within 500 m have the largest alpha; it is taken where nobody has counted them."""


@dataclass(frozen=True, slots=True)
class Category:
    """A row of tables 2 and 4: critical quantity (t) and beta of a category of substances."""

    symbol: str
    name: str
    critical: float
    beta: float


@dataclass(frozen=True, slots=True)
class Substance:
    """A row of table 1: a substance by name, with its critical quantity (t)."""

    number: int
    name: str
    names: frozenset[str]  # with its aliases, and without what it says in brackets of strength and state
    cas: frozenset[str]
    critical: float


@dataclass(frozen=True, slots=True)
class Measure:
    """How a substance is weighed: its critical quantity (t) and its beta, None where only a category can tell."""

    critical: float
    beta: float | None


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_TABLES / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


@cache
def substances() -> tuple[Substance, ...]:
    """Table 1."""
    return tuple(
        Substance(
            int(row["no"]),
            row["name"],
            frozenset(
                (row["name"], re.split(r"[(\[]", row["name"])[0], *filter(None, row["alias"].split(";")))
            ),
            frozenset(filter(None, row["cas"].split(";"))),
            float(row["Q_t"]),
        )
        for row in _rows("gb18218_2018_table1.csv")
    )


@cache
def categories() -> Mapping[str, Category]:
    """Tables 2 and 4, by symbol."""
    return {
        row["symbol"]: Category(row["symbol"], row["class"], float(row["Q_t"]), float(row["beta"]))
        for row in _rows("gb18218_2018_table2_4.csv")
    }


@cache
def _toxic_gases() -> Mapping[str, float]:
    """Table 3: beta by CAS number and by name."""
    rows = list(_rows("gb18218_2018_table3.csv"))
    return {key: float(row["beta"]) for row in rows for key in (row["cas"], row["name"])}


@cache
def substance(cas: str, name: str) -> Substance | None:
    """The row of table 1 that a substance belongs to; the CAS number goes before the name.

    Where several rows have the number (nitrocellulose, ammonium nitrate) and none has the name, it is the one
    with the smallest critical quantity.
    """
    of_number = [row for row in substances() if cas in row.cas]
    rows = [row for row in of_number or substances() if name in row.names] or of_number
    return min(rows, key=lambda row: (row.critical, row.number), default=None)


def measure(cas: str, name: str, symbols: Sequence[str] = ()) -> Measure | None:
    """Critical quantity and beta of a substance; None if GB 18218 does not speak of it.

    Args:
        symbols: its categories, "J3", "W5.2"; a substance of several has the smallest critical quantity of them
            and, by table 4, the largest beta. Raises KeyError for a symbol that tables 2 and 4 do not have.
    """
    row = substance(cas, name)
    of = [categories()[symbol] for symbol in symbols]
    gas = _toxic_gases()
    named = next((gas[key] for key in (cas, name, row.name if row else "") if key in gas), None)
    beta = named if named is not None else max((category.beta for category in of), default=None)
    if row is not None:
        return Measure(row.critical, beta)
    if of:
        return Measure(min(category.critical for category in of), beta)
    return None


def alpha(people: float) -> float:
    """Table 5: by the people who live within 500 m outside the plant's boundary."""
    for least, value in ((MOST_PEOPLE, 2.0), (50, 1.5), (30, 1.2), (1, 1.0)):
        if people >= least:
            return value
    return 0.5


def level(r: float) -> int:
    """Table 6: 1 is the worst."""
    return 1 if r >= 100 else 2 if r >= 50 else 3 if r >= 10 else 4


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the quantities of one unit come to."""

    s: float  # sum of q / Q: from 1 on it is a major hazard
    r: float  # alpha * sum of beta * q / Q
    level: int | None  # 1 ... 4; None where it is no major hazard


def judge(holdings: Sequence[tuple[float, float, float]], people: float) -> Judgement:
    """A unit's S, R and level.

    Args:
        holdings: of each substance, q (t, the design maximum), Q (t) and beta.
        people: who live within 500 m outside the plant's boundary.
    """
    s = math.fsum(q / critical for q, critical, _ in holdings)
    r = alpha(people) * math.fsum(beta * q / critical for q, critical, beta in holdings)
    return Judgement(s, r, level(r) if s >= 1 else None)
