"""A rulebook from its YAML files: either all of it, checked, or everything that is wrong with it at once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from registry.fact_source import Cas
from registry.files import Data, FileReader, Place, YamlFile, spell, text
from registry.major_hazard import substance
from registry.mistakes import Mistakes, RegistryErrors
from registry.model import LEVELS
from registry.source import KINDS, Kind, wrong
from registry.source import Id as TemplateName
from registry.source import duration as any_duration
from registry.wording import worded
from streams import names, rulebook
from streams.finding import Ask, Tier
from streams.rulebook import SCOPES, CompoundRule, Rulebook, Template

SHIPPED = Path(__file__).with_name("shipped_rulebook.yaml")
"""The rulebook that judges until another one is given."""


def read(path: Path) -> Rulebook:
    """The rulebook of a YAML file, or of all *.yaml of a folder, read as one (docs/rulebook.md).

    Raises RegistryErrors with every mistake.
    """
    mistakes = Mistakes()
    documents = list(_documents(path, mistakes))
    entries = [validated(RulebookEntry, document, mistakes) for document in documents]
    _once(documents, mistakes)
    known = tuple(name for document in documents for name in _part(document, "points"))
    for document in documents:
        _kinds(document, mistakes)
        _named(document, known, dict(_part(document, "compound")), ("compound",), mistakes)
    if any(isinstance(document.data, dict) for document in documents):
        _tiers(documents, mistakes)
    if mistakes.found:
        raise RegistryErrors(mistakes.found)
    read_entries = [entry for entry in entries if entry is not None]
    templates = {name: template for entry in read_entries for name, template in entry.points.items()}
    compound = {id: rule for entry in read_entries for id, rule in entry.compound.items()}
    return Rulebook(
        tiers={key: tier for entry in read_entries for key, tier in entry.tiers.items()},
        templates={name: _template(name, templates) for name in sorted(templates)},
        compound=tuple(compound[id].frozen(id) for id in sorted(compound)),
    )


def shipped() -> Rulebook:
    """The rulebook that judges until another one is given."""
    return read(SHIPPED)


def schema() -> dict[str, Any]:
    """The JSON schema, for editors and for docs/rulebook.schema.json."""
    return RulebookEntry.model_json_schema()


# ---- values ----------------------------------------------------------------------------------------


def _plain(value: object) -> object:
    """1_000 is more often a slip of the keyboard than a thousand."""
    if isinstance(value, str) and "_" in value:
        raise wrong(f"is {value!r}", "a number")
    return value


def _span(value: object) -> int:
    micros = any_duration(value)
    if not micros:
        raise wrong(f"is {value!r}", "a time above 0")
    return micros


def _tier(value: object) -> Tier | None:
    if value == "none":
        return None
    if not isinstance(value, str) or value not in Tier.__members__:
        raise wrong(_shape(value), "I, II, III, IV or none")
    return Tier[value]


def _count(value: object) -> int:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or not 2 <= int(value) <= 999:
        raise wrong(_shape(value), "a number from 2 to 999")
    return int(value)


def _rule(value: str) -> str:
    if value not in names.NAMES:
        problem = f"is {value!r}, which no rule gives" if value else "is empty"
        raise wrong(problem, names.expected(value, tuple(names.NAMES)))
    return value


def _scope(value: str) -> str:
    if value not in SCOPES and not (value.startswith("cell:") and value[5:].strip()):
        expected = f"{', '.join(SCOPES)}, or cell: and a level of the grid, such as cell:town"
        raise wrong(_shape(value), expected)
    return value


def _line(value: str) -> str:
    if not value or value != value.strip() or not value.isprintable() or len(value) > 500:
        raise wrong(_shape(value), "one line of at most 500 characters without blanks around it")
    return value


def _shape(given: object) -> str:
    if isinstance(given, str):
        return f"is {given!r}" if given else "is empty"
    return "is a list" if isinstance(given, list) else "is a mapping"


_TIMES = "500ms, 5s, 2min, 1h or 7d"
_Plain = BeforeValidator(_plain, json_schema_input_type=float)

Number: TypeAlias = Annotated[float, _Plain, Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, _Plain, Field(allow_inf_nan=False, gt=0)]
NotNegative: TypeAlias = Annotated[float, _Plain, Field(allow_inf_nan=False, ge=0)]
Duration: TypeAlias = Annotated[
    int,
    BeforeValidator(any_duration, json_schema_input_type=str | Literal[0]),
    Field(description=_TIMES),
]
Span: TypeAlias = Annotated[
    int, BeforeValidator(_span, json_schema_input_type=str), Field(description=f"{_TIMES}; more than 0")
]
Graded: TypeAlias = Annotated[
    Tier | None,
    BeforeValidator(_tier, json_schema_input_type=Literal["I", "II", "III", "IV", "none"]),
    Field(description="I is the worst; none: it is recorded, and nobody is told"),
]
Count: TypeAlias = Annotated[int, BeforeValidator(_count, json_schema_input_type=int)]
Rule: TypeAlias = Annotated[str, AfterValidator(_rule), Field(json_schema_extra={"enum": [*names.NAMES]})]
Scope: TypeAlias = Annotated[
    str,
    AfterValidator(_scope),
    Field(json_schema_extra={"anyOf": [{"enum": [*SCOPES]}, {"pattern": "^cell:.+"}]}),
]
Text: TypeAlias = Annotated[str, AfterValidator(_line)]
_WORD = r"^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$"
Id: TypeAlias = Annotated[str, Field(pattern=_WORD, max_length=64)]
RuleId: TypeAlias = Annotated[str, Field(pattern=_WORD, max_length=64 - len("compound."))]
"""Of a compound rule, or its topic: its findings have the rule "compound.TOPIC", and that is an id too."""
if TYPE_CHECKING:
    Tiered: TypeAlias = str
    High: TypeAlias = str
else:
    Tiered = Literal[names.TIERED]
    High = Literal["H", "HH"]


# ---- entries ---------------------------------------------------------------------------------------


class Entry(BaseModel):
    """A mapping of the file. A key that it does not name is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _told(cls, data: Any, handler: ModelWrapValidatorHandler["Entry"]) -> "Entry":
        """Put every error in words, and say of an unknown key which one was probably meant."""
        try:
            return handler(data)
        except ValidationError as error:
            keys = tuple(field.alias or name for name, field in cls.model_fields.items())
            raise _errors(
                (detail["loc"], *_worded(detail, keys)) for detail in error.errors(include_url=False)
            ) from None


E = TypeVar("E", bound=Entry)

Wrong: TypeAlias = tuple[tuple[int | str, ...], str, str]
"""Where in a mapping something is wrong, what it is, and what was expected."""


def _errors(found: Iterator[Wrong]) -> ValidationError:
    details = [
        InitErrorDetails(type=wrong(problem, expected), loc=place, input=None)
        for place, problem, expected in found
    ]
    return ValidationError.from_exception_data("rulebook", details)


def _refuse(found: Iterator[Wrong]) -> None:
    """Raises ValidationError where anything was found."""
    details = list(found)
    if details:
        raise _errors(iter(details))


def _worded(detail: Any, keys: tuple[str, ...]) -> tuple[str, str]:
    """What is wrong, and what was expected; ``keys``: those of the mapping that is told of."""
    kind, given = detail["type"], detail["input"]
    if kind == "extra_forbidden" and len(detail["loc"]) == 1:
        return "unknown key", names.expected(str(detail["loc"][0]), keys)
    if kind == "model_type":
        return _shape(given), f"a mapping with the keys {', '.join(keys)}"
    if kind == "literal_error":
        literals = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return _shape(given), names.expected(text(given), tuple(literals))
    if kind == "too_short" and given:
        return f"has {detail['ctx']['actual_length']}", f"{detail['ctx']['min_length']} or more"
    if kind == "string_pattern_mismatch":
        return _shape(given), "letters from a to z and digits, with - or _ between them"
    if kind == "string_too_long":
        return f"{_shape(given)}, {len(given)} characters", f"at most {detail['ctx']['max_length']}"
    return worded(detail, object)


class PatternEntry(Entry):
    """Findings of this rule; of one of these levels, kinds and templates where any are given."""

    finding: Rule
    levels: list[str] = []
    kinds: Annotated[
        list[Text], Field(description="kinds of point, equipment ...; a chemical's CAS number")
    ] = []
    templates: Annotated[list[Text], Field(description="of points: those that one of these judges")] = []

    @model_validator(mode="after")
    def _possible(self) -> "PatternEntry":
        _refuse(self._wrong())
        return self

    def _wrong(self) -> Iterator[Wrong]:
        rule = names.NAMES[self.finding]
        levels = rule.levels if rule.levels is not None else self.levels
        kinds = KINDS if rule.of == "point" else rule.kinds
        for number, level in enumerate(self.levels):
            if level not in levels:
                expected = ", ".join(levels) or "no level"
                yield ("levels", number), f"is {level!r}, a level that {self.finding} does not have", expected
        for number, kind in enumerate(self.kinds):
            place, problem = ("kinds", number), f"is {kind!r}, a kind that {self.finding} does not have"
            if kinds is not None and kind not in kinds:
                yield place, problem, names.expected(kind, kinds) if kinds else "no kind"
            elif self.finding.startswith("chemical.") and not _is_cas(kind):
                named = substance("", kind)
                numbers = sorted(named.cas) if named else ["a CAS number with its right check digit"]
                yield place, problem, " or ".join(numbers)
        if self.templates and rule.of != "point":
            yield ("templates",), f"is given, but {self.finding} is not found in points", "no templates"

    def frozen(self) -> rulebook.Pattern:
        return rulebook.Pattern(self.finding, tuple(self.levels), tuple(self.kinds), tuple(self.templates))


class AllEntry(Entry):
    """All of these are so."""

    all: Annotated[list["ConditionEntry"], Field(min_length=1)]

    def frozen(self) -> rulebook.All:
        return rulebook.All(_frozen(self.all))


class AnyEntry(Entry):
    """One of these is so."""

    any: Annotated[list["ConditionEntry"], Field(min_length=1)]

    def frozen(self) -> rulebook.Any:
        return rulebook.Any(_frozen(self.any))


class NotEntry(Entry):
    """This is not so."""

    of: Annotated["ConditionEntry", Field(alias="not")]

    def frozen(self) -> rulebook.Not:
        return rulebook.Not(self.of.frozen())


_CAS: TypeAdapter[str] = TypeAdapter(Cas)


def _is_cas(value: str) -> bool:
    try:
        _CAS.validate_python(value)
    except ValidationError:
        return False
    return True


class Several(Entry):
    count: Count
    of: PatternEntry
    different: Annotated[
        Literal["subject", "unit", "enterprise"], Field(description="what must differ for two to count")
    ] = "subject"


class AtLeastEntry(Entry):
    """So many of these findings at once."""

    at_least: Several

    def frozen(self) -> rulebook.AtLeast:
        return rulebook.AtLeast(self.at_least.count, self.at_least.of.frozen(), self.at_least.different)


class Timed(Entry):
    time: Span
    of: Annotated[list["ConditionEntry"], Field(min_length=2)]


class WithinEntry(Entry):
    """Each of these is so, or was no longer ago than that."""

    within: Timed

    def frozen(self) -> rulebook.Within:
        return rulebook.Within(self.within.time, _frozen(self.within.of))


class Lasting(Entry):
    time: Span
    of: "ConditionEntry"


class ForEntry(Entry):
    """It has been so without a break for that long."""

    lasting: Annotated[Lasting, Field(alias="for")]

    def frozen(self) -> rulebook.For:
        return rulebook.For(self.lasting.time, self.lasting.of.frozen())


class Ordered(Entry):
    time: Span
    of: Annotated[list[PatternEntry], Field(min_length=2)]


class SequenceEntry(Entry):
    """One after the other began within that time, and the last still is."""

    sequence: Ordered

    def frozen(self) -> rulebook.Sequence:
        return rulebook.Sequence(self.sequence.time, tuple(one.frozen() for one in self.sequence.of))


FORMS = ("finding", "all", "any", "not", "at_least", "within", "for", "sequence")


def _form(value: object) -> str | None:
    found = [form for form in FORMS if form in value] if isinstance(value, dict) else []
    return f"<{found[0]}>" if len(found) == 1 else None


ConditionEntry: TypeAlias = Annotated[
    Annotated[PatternEntry, Tag("<finding>")]
    | Annotated[AllEntry, Tag("<all>")]
    | Annotated[AnyEntry, Tag("<any>")]
    | Annotated[NotEntry, Tag("<not>")]
    | Annotated[AtLeastEntry, Tag("<at_least>")]
    | Annotated[WithinEntry, Tag("<within>")]
    | Annotated[ForEntry, Tag("<for>")]
    | Annotated[SequenceEntry, Tag("<sequence>")],
    Discriminator(
        _form,
        custom_error_type="wrong",
        custom_error_message="is no condition",
        custom_error_context={
            "problem": "is no condition",
            "expected": f"a mapping with exactly one of the keys {', '.join(FORMS)}",
        },
    ),
]
"""When a compound rule holds. The tags stand between < > so that they are no keys."""


def _frozen(conditions: Sequence[ConditionEntry]) -> tuple[rulebook.Condition, ...]:
    return tuple(condition.frozen() for condition in conditions)


class Words(Entry):
    """The same in Chinese and in English."""

    zh: Text
    en: Text


class AskEntry(Entry):
    """What is asked of departments."""

    what: Id
    lead: Id
    support: list[Id] = []


class CompoundEntry(Entry):
    """A risk that shows only in several findings together."""

    topic: Annotated[
        RuleId,
        Field(
            description="what it speaks of; of the rules of one topic the strictest applies; its id if left out"
        ),
    ] = ""
    scope: Annotated[Scope, Field(description="where its findings have to come together")]
    when: ConditionEntry
    tier: Graded
    say: Annotated[Words, Field(description="the sentence that says why")]
    clause: Text = ""
    asks: list[AskEntry] = []

    @field_validator("when")
    @classmethod
    def _stands_on_something(cls, when: ConditionEntry) -> ConditionEntry:
        if _holds_on_nothing(when.frozen()):
            raise wrong(
                "holds where nothing was found", "a condition that holds only where something was found"
            )
        return when

    def frozen(self, id: str) -> CompoundRule:
        return CompoundRule(
            id=id,
            topic=self.topic or id,
            scope=self.scope,
            when=self.when.frozen(),
            tier=self.tier,
            say={"zh": self.say.zh, "en": self.say.en},
            clause=self.clause,
            asks=tuple(Ask(ask.what, ask.lead, tuple(ask.support)) for ask in self.asks),
        )


def _holds_on_nothing(condition: rulebook.Condition) -> bool:
    match condition:
        case rulebook.Not(of):
            return not _holds_on_nothing(of)
        case rulebook.Any(of):
            return any(map(_holds_on_nothing, of))
        case rulebook.All(of) | rulebook.Within(_, of) | rulebook.Sequence(_, of):
            return all(map(_holds_on_nothing, of))
        case rulebook.For(_, of):
            return _holds_on_nothing(of)
    return False


_TYPES: dict[str, Any] = {
    **dict.fromkeys(LEVELS, Number),
    **{f"{level}_reset": Number for level in LEVELS},
    **dict.fromkeys(("on_delay", "off_delay"), Duration),
    **{f"{level}_{delay}": Duration for level in LEVELS for delay in ("on_delay", "off_delay")},
    "interval": Duration,
    "rate": Positive,
    "rate_over": Span,
    "stuck_after": Span,
    "stuck_within": NotNegative,
    "alarm_state": Number,
    "state_delay": Duration,
    "ahead": Span,
    "ahead_over": Span,
}
GIVEN = tuple(_TYPES)
"""Columns of points.csv that a template can give to a point that leaves them out."""

_TOGETHER = (
    {*LEVELS, *(f"{level}_reset" for level in LEVELS)},
    *({delay, *(f"{level}_{delay}" for level in LEVELS)} for delay in ("on_delay", "off_delay")),
    {"interval"},
    {"rate", "rate_over"},
    {"stuck_after", "stuck_within"},
    {"ahead", "ahead_over"},
    {"alarm_state", "state_delay"},
)
"""Columns that a template gives together (streams.templates.effective), and so takes together too."""

_MEASURED = {*LEVELS, "rate", "stuck_within"}
"""Columns whose numbers are in the engineering unit."""

_NEEDS = {
    **{f"{level}_{of}": level for level in LEVELS for of in ("reset", "on_delay", "off_delay")},
    "rate": "rate_over",
    "rate_over": "rate",
    "stuck_within": "stuck_after",
    "state_delay": "alarm_state",
    "ahead": "ahead_over",
    "ahead_over": "ahead",
}


class _Given(Entry):
    """What a point is given that leaves it out, by the name of the column of points.csv."""

    @model_validator(mode="after")
    def _consistent(self) -> "_Given":
        _refuse(self._wrong())
        return self

    def _wrong(self) -> Iterator[Wrong]:
        given = self.columns()
        for column, other in _NEEDS.items():
            if column in given and other not in given:
                yield (column,), f"is given without {other}", f"{other} too"
        below: float | None = None
        for level in LEVELS:
            limit, reset = given.get(level), given.get(f"{level}_reset")
            if limit is None:
                continue
            if below is not None and limit <= below:
                yield (level,), f"{limit:g} is not above {below:g}, a lower limit", "LL < L < H < HH"
            below = limit if below is None else max(below, limit)
            if reset is not None and (reset > limit if level in ("H", "HH") else reset < limit):
                side = "below" if level in ("H", "HH") else "above"
                yield (
                    (f"{level}_reset",),
                    f"{reset:g} for {level} {limit:g}",
                    f"a value at {level} or {side} it",
                )

    def columns(self) -> dict[str, float]:
        return self.model_dump(exclude_none=True)


if TYPE_CHECKING:
    GivenEntry: TypeAlias = _Given
else:
    GivenEntry = create_model(
        "Given",
        __base__=_Given,
        __doc__=_Given.__doc__,
        **{name: (type_, None) for name, type_ in _TYPES.items()},
    )


class TemplateEntry(Entry):
    """How points of one kind are judged. Of KIND.NAME, what is left out is as in KIND."""

    kind: Annotated[Kind, Field(description="needed only where the name does not begin with it")] = ""
    tiers: Annotated[dict[Tiered, Graded], Field(description="those that differ from the rulebook's")] = {}
    engineering_unit: Annotated[Text, Field(description="of given and ceilings")] = ""
    given: Annotated[
        GivenEntry | None,
        Field(description="what a point is given that leaves it out; limits only if it has none of its own"),
    ] = None
    ceilings: Annotated[
        dict[High, Number], Field(description="the highest that the clause allows for a high limit")
    ] = {}
    clause: Text = ""


class RulebookEntry(Entry):
    """A rulebook of Fenghuo."""

    tiers: Annotated[
        dict[Tiered, Graded], Field(description="how bad it is, where no template says otherwise")
    ] = {}
    points: Annotated[
        dict[TemplateName, TemplateEntry],
        Field(
            description="templates; that with the name of a kind judges all points of the kind that name no other"
        ),
    ] = {}
    compound: Annotated[
        dict[RuleId, CompoundEntry], Field(description="risks that show only in several findings together")
    ] = {}


# ---- files -----------------------------------------------------------------------------------------


def _documents(path: Path, mistakes: Mistakes) -> Iterator[YamlFile]:
    folder, files = path.parent, [path.name]
    if path.is_dir():
        folder, files = path, sorted(found.name for found in path.glob("*.yaml"))
        for stranger in sorted(path.glob("*.yml")):
            mistakes.add(stranger.name, 1, "", "is not read", "a name that ends with .yaml")
        if not files:
            mistakes.add(str(path), 1, "", "has no *.yaml", "a folder with a rulebook")
    reader = FileReader(folder, mistakes)
    for file in files:
        document = reader.yaml(file, "a mapping with the keys tiers, points, compound")
        if document is not None and document.lines:
            yield document


def validated(type_: type[E], document: YamlFile, mistakes: Mistakes) -> E | None:
    """The document as this entry; None, and a mistake for each thing that is wrong."""
    try:
        return type_.model_validate(document.data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place = tuple(part for part in detail["loc"] if not str(part).startswith(("<", "[")))
            mistakes.add(*document.where(place), *worded(detail, type_))
        return None


def _part(document: YamlFile, part: str) -> Mapping[str, Data]:
    """What stands there in the file, whether or not it can be understood."""
    found = document.data.get(part) if isinstance(document.data, dict) else None
    return found if isinstance(found, dict) else {}


def _once(documents: Sequence[YamlFile], mistakes: Mistakes) -> None:
    first: dict[Place, str] = {}
    for document in documents:
        for place in ((part, name) for part in RulebookEntry.model_fields for name in _part(document, part)):
            before = first.setdefault(place, document.file)
            if before != document.file:
                line = document.line(place)
                mistakes.add(document.file, line, spell(place), f"is in {before} too", "every one once")


def _tiers(documents: Sequence[YamlFile], mistakes: Mistakes) -> None:
    """Every tier must be said: one that was forgotten would tell nobody, and nobody would see that."""
    given = {key for document in documents for key in _part(document, "tiers")}
    first = next((d for d in documents if _part(d, "tiers")), documents[0])
    forgotten = [key for key in names.TIERED if key not in given]
    if forgotten:
        problem, expected = f"does not say {', '.join(forgotten)}", "each, with a tier or none"
        mistakes.add(first.file, first.line(("tiers",)), "tiers", problem, expected)


def _kinds(document: YamlFile, mistakes: Mistakes) -> None:
    """A template is of the kind that it names, or that its name begins with."""
    for name, template in _part(document, "points").items():
        if not (isinstance(template, dict) and "kind" in template) and _kind(name) not in KINDS:
            place = "points", name
            expected = f"kind, or a name that begins with one: {names.expected(_kind(name), KINDS)}"
            mistakes.add(document.file, document.line(place), spell(place), "is of no kind", expected)


def _named(document: YamlFile, known: tuple[str, ...], data: Data, place: Place, mistakes: Mistakes) -> None:
    """A pattern names templates that are there."""
    if isinstance(data, str):
        if place[-2:-1] == ("templates",) and data not in known:
            problem = f"is {data!r}, which the rulebook does not have"
            mistakes.add(
                document.file, document.line(place), spell(place), problem, names.expected(data, known)
            )
        return
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        _named(document, known, value, (*place, key), mistakes)


def _kind(name: str) -> str:
    return name.partition(".")[0]


def _template(name: str, templates: Mapping[str, TemplateEntry]) -> Template:
    """What it says itself, and what it leaves to the template of its kind."""
    entry = templates[name]
    kind = entry.kind or _kind(name)
    usual = TemplateEntry() if name == kind else templates.get(kind, TemplateEntry())
    numbers = usual if entry.engineering_unit in ("", usual.engineering_unit) else TemplateEntry()
    return Template(
        name=name,
        kind=kind,
        tiers={**usual.tiers, **entry.tiers},
        engineering_unit=entry.engineering_unit or usual.engineering_unit,
        given=_given(_columns(entry), _columns(usual), numbers is usual),
        ceilings={**(entry.ceilings or numbers.ceilings)},
        clause=entry.clause or numbers.clause,
    )


def _columns(entry: TemplateEntry) -> dict[str, float]:
    return entry.given.columns() if entry.given else {}


def _given(own: Mapping[str, float], usual: Mapping[str, float], same_unit: bool) -> dict[str, float]:
    """Its own columns, and of what it leaves out those of its kind; what goes together is taken together."""
    given = dict(own)
    for together in _TOGETHER:
        left_out = {column: value for column, value in usual.items() if column in together}
        if not own.keys() & together and (same_unit or not left_out.keys() & _MEASURED):
            given |= left_out
    return given
