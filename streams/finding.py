"""Finding: what a rule says of a subject, and the id by which every later message of it is known."""

from enum import IntEnum, StrEnum
from hashlib import blake2b

import msgspec


class Tier(IntEnum):
    """How bad the plant is. A larger number is worse, so that max() is the worst."""

    IV = 1  # blue
    III = 2  # yellow
    II = 3  # orange
    I = 4  # noqa: E741  red: the standard's own name


class Phase(StrEnum):
    BEGUN = "begun"
    WORSENED = "worsened"
    EASED = "eased"
    ENDED = "ended"
    UNKNOWN = "unknown"
    RESUMED = "resumed"
    CORRECTED = "corrected"
    WITHDRAWN = "withdrawn"


class Ground(msgspec.Struct, frozen=True):
    """A finding on which a compound finding stands, as it was then."""

    id: str
    rule: str
    enterprise: str
    subject: str
    name: str
    kind: str
    level: str
    since: int
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    clause: str = ""


class Ask(msgspec.Struct, frozen=True):
    """What a compound finding asks of departments: who leads, and who supports."""

    what: str  # "joint-inspection"
    lead: str  # a department's id, such as "market-regulation"
    support: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One message about one finding; the first has seq 1, the next 2, and so on without gaps.

    id: minted once from (rule, subject, since), see finding_id. rule: "limit.high", "limit.low", "rate", "silent",
    "bad_quality", "gateway.offline", "stuck", "range", "disagreement", "clock", "system.*".
    enterprise: credit code, or "" for the system's own. subject: "point:TI-1101", "gateway:gw1",
    "group:R1-temp", "system". since: when the condition first held, before any on-delay, µs.
    time: event time of what this message says (device time for device rules, arrival for silence), µs.
    arrival: arrival time at which it was known, µs. level: the limit reached ("H", "HH", "L", "LL") or "".
    tier: the tier that this level has, None if the rulebook gives none (then it never rings).
    late: evidence of something already over when it was heard: it is recorded and rings nobody.
    version: of registry and rulebook, "REGISTRY.RULEBOOK". name: what people call the subject, "" where the
    registry's points say it. kind: of the point, equipment, permit ...; CAS number of a chemical.
    template: of a point, the one that judged it when it began; "" of all else.
    within: the parts of its enterprise that the subject lies in, "unit:R1", "group:G1", "pipeline:P1".
    Of a compound finding, whose rule is "compound.TOPIC" and whose level is the rule that applied:
    why: a sentence that says why, by language ("zh", "en"). grounds: the findings that it stands on.
    asks: what it asks of departments.
    """

    id: str
    seq: int
    rule: str
    enterprise: str
    subject: str
    phase: Phase
    since: int
    time: int
    arrival: int
    level: str = ""
    tier: Tier | None = None
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    clause: str = ""
    evidence: tuple[str, ...] = ()
    late: bool = False
    version: str = ""
    name: str = ""
    kind: str = ""
    template: str = ""
    within: tuple[str, ...] = ()
    why: dict[str, str] = {}
    grounds: tuple[Ground, ...] = ()
    asks: tuple[Ask, ...] = ()


def finding_id(rule: str, enterprise: str, subject: str, since: int | str, late: str = "") -> str:
    """The id of the finding whose condition first held at ``since`` (µs; of a fact, its record): 20 hex digits.

    late: the level that a late reading reached. What it leaves is a finding of its own, also where another
    one began at that time.
    """
    of = f"{rule}|{enterprise}|{subject}|{since}" + (f"|late {late}" if late else "")
    return blake2b(of.encode(), digest_size=10).hexdigest()
