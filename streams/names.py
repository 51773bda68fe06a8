"""The names of findings that a rulebook may speak of: which there are, what each says, and which levels it has."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import get_args

from registry.fact_source import Colour, HazardKind, PermitKind, WarningKind


@dataclass(frozen=True, slots=True)
class Name:
    """What gives findings of a name. of: what it judges: "point", "group", "gateway", "pipeline" or "record".
    levels: that its findings can have, () if they have none; None: names that the registry gives. kinds: the same,
    of records; those of points are registry.source.KINDS."""

    of: str
    about: str
    levels: tuple[str, ...] | None = ()
    kinds: tuple[str, ...] | None = ()


NAMES: dict[str, Name] = {
    "limit.high": Name("point", "a high limit is reached", ("H", "HH")),
    "limit.low": Name("point", "a low limit is reached", ("L", "LL")),
    "rate": Name("point", "the value changes faster than it may"),
    "time_to_limit": Name("point", "at this slope a limit will be reached soon", ("LL", "L", "H", "HH")),
    "state": Name("point", "a discrete value is its alarm state: a valve is closed, a fan has stopped"),
    "silent": Name("point", "nothing was heard for longer than its interval"),
    "bad_quality": Name("point", "no valid value for longer than its interval"),
    "stuck": Name("point", "the value does not move any more"),
    "range": Name("point", "a value that the sensor cannot measure"),
    "disagreement": Name("group", "redundant points differ by more than they may"),
    "clock": Name("gateway", "its device time cannot be believed"),
    "gateway.offline": Name("gateway", "it is offline, with all its points"),
    "leak": Name("pipeline", "the flows of a section do not balance", ("suspected", "confirmed")),
    "equipment.due": Name("record", "an inspection of special equipment is due within 30 days", None, None),
    "equipment.overdue": Name("record", "an inspection of special equipment is overdue", None, None),
    "equipment.failed": Name("record", "special equipment failed its inspection", None, None),
    "inspection.failed": Name(
        "record", "an inspection of the enterprise failed, and none of its kind was passed since", kinds=None
    ),
    "licence.expired": Name("record", "a licence has expired", kinds=None),
    "chemical.stored": Name(
        "record", "a hazardous chemical is there; its kind is the CAS number", kinds=None
    ),
    "chemical.overstored": Name(
        "record", "more of a hazardous chemical than permitted; its kind is the CAS number", kinds=None
    ),
    "unit.major_hazard": Name("record", "a unit is a major hazard source (GB 18218)", ("1", "2", "3", "4")),
    "hazard.overdue": Name(
        "record",
        "a hazard is not mended by its deadline; its kind is major or general",
        kinds=get_args(HazardKind),
    ),
    "penalty": Name("record", "a penalty is open; its kind is the department", kinds=None),
    "certificate.expired": Name("record", "a person's certificate has expired", kinds=None),
    **{
        f"permit.{kind}": Name("record", f"a permit is in force: {kind}", kinds=(kind,))
        for kind in get_args(PermitKind)
    },
    **{
        f"warning.{kind}": Name("record", f"a warning is in force: {kind}", get_args(Colour), (kind,))
        for kind in get_args(WarningKind)
    },
}

LICENCES = (
    *("safe-production", "work-safety", "hazardous-chemicals", "hazardous-chemicals-production"),
    *("hazardous-chemicals-operation", "hazardous-chemicals-use", "gas-operation", "fireworks-production"),
    *("mining", "industrial-product"),
)
"""Kinds of licence that the shipped rulebook speaks of; a registry may have others."""

BY_LEVEL = ("limit.high", "limit.low", "leak")
"""Rules whose tier hangs on the level that was reached; the tier of every other has the rule's own name."""


def _tiered() -> Iterator[str]:
    for name, rule in NAMES.items():
        if rule.of != "record":
            yield from (rule.levels or ()) if name in BY_LEVEL else (name,)


TIERED = tuple(_tiered())
"""What can be given a tier: levels of limits and leaks, and the names of the other rules that judge readings."""


def expected(word: str, known: tuple[str, ...]) -> str:
    """What was probably meant by the word, else all that is known."""
    near = get_close_matches(word, known, 1)
    return near[0] if near else f"one of {', '.join(known)}"
