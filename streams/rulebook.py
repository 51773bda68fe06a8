"""The rulebook in its frozen form: how each kind of point is judged, and the compound rules; plain data."""

from functools import cached_property
from hashlib import blake2b

import msgspec

from streams import names
from streams.finding import Ask, Finding, Tier


class Pattern(msgspec.Struct, frozen=True, tag="finding"):
    """Which findings are meant: those of this rule, and of one of these levels, kinds and templates of points where
    any are given."""

    rule: str
    levels: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()

    def matches(self, finding: Finding) -> bool:
        return (
            finding.rule == self.rule
            and (not self.levels or finding.level in self.levels)
            and (not self.kinds or finding.kind in self.kinds)
            and (not self.templates or finding.template in self.templates)
        )


class All(msgspec.Struct, frozen=True, tag="all"):
    of: tuple["Condition", ...]


class Any(msgspec.Struct, frozen=True, tag="any"):
    of: tuple["Condition", ...]


class Not(msgspec.Struct, frozen=True, tag="not"):
    of: "Condition"


class AtLeast(msgspec.Struct, frozen=True, tag="at_least"):
    """So many of these findings at once, of different subjects, units or enterprises."""

    count: int
    of: Pattern
    different: str = "subject"  # "subject", "unit" or "enterprise"


class Within(msgspec.Struct, frozen=True, tag="within"):
    """All of these, each true now or not longer ago than ``time``, µs."""

    time: int
    of: tuple["Condition", ...]


class For(msgspec.Struct, frozen=True, tag="for"):
    """True without a break for ``time``, µs."""

    time: int
    of: "Condition"


class Sequence(msgspec.Struct, frozen=True, tag="sequence"):
    """Findings of these have begun one after the other, the last no later than ``time`` (µs) after the first, and
    the last still is."""

    time: int
    of: tuple[Pattern, ...]


Condition = Pattern | All | Any | Not | AtLeast | Within | For | Sequence

SCOPES = ("group", "unit", "pipeline", "enterprise", "neighbours")
"""Where a compound rule looks for its findings; or "cell:LEVEL", a cell of that level of the grid.
"neighbours": the cell above that of an enterprise, of whatever level it is."""


class CompoundRule(msgspec.Struct, frozen=True, kw_only=True):
    """A risk that shows only in several findings together.

    topic: what it speaks of; of rules with one topic and one subject the strictest applies.
    tier: None where it is recorded only. say: the sentence that says why, by language.
    """

    id: str
    topic: str
    scope: str
    when: Condition
    tier: Tier | None
    say: dict[str, str]
    clause: str = ""
    asks: tuple[Ask, ...] = ()


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """How points of one kind are judged, unless they say otherwise.

    tiers: by level of a limit ("LL", "L", "H", "HH") or by rule ("silent", "rate" ...); None gives no alert.
    given: what a point that leaves it out is given, by the name of the column of points.csv: numbers in the
    engineering unit, times in µs. Limits are given only to a point that has none of its own.
    ceilings: by level, the highest value that the clause allows for a high limit.
    """

    name: str
    kind: str
    tiers: dict[str, Tier | None] = {}
    engineering_unit: str = ""
    given: dict[str, float] = {}
    ceilings: dict[str, float] = {}
    clause: str = ""


class Rulebook(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One version of the rules. ``tiers`` are for what no template speaks of."""

    tiers: dict[str, Tier | None]
    templates: dict[str, Template] = {}
    compound: tuple[CompoundRule, ...] = ()

    @cached_property
    def version(self) -> str:
        """A digest of what it says: equal rulebooks are equal."""
        return blake2b(pack(self), digest_size=7).hexdigest()

    def tier(self, template: str, rule: str, level: str) -> Tier | None:
        """The tier of a point rule's finding.

        Args:
            template: name of the template that judges the point, "" for a subject that is no point.
            rule: "limit.high", "silent" ... level: of a limit or leak. The tier of other rules does not hang on it:
            that HH will be reached soon is not yet HH.
        """
        key = level if rule in names.BY_LEVEL else rule
        of = self.templates.get(template)
        if of is not None and key in of.tiers:
            return of.tiers[key]
        return self.tiers.get(key)


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Rulebook)


def pack(rulebook: Rulebook) -> bytes:
    """The rulebook as bytes; equal rulebooks give equal bytes."""
    return _encoder.encode(rulebook)


def unpack(content: bytes) -> Rulebook:
    """The rulebook of these bytes. Raises ValueError if they are none."""
    return _decoder.decode(content)
