"""The JSON of the API: what is read and written, as pydantic models, so that OpenAPI can say it."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from alerting.alert import Alert, Answer, Condition, NoticeState, Outcome, Role
from streams.finding import Phase, Tier

Time = Annotated[int, Field(description="µs since 1970-01-01 UTC", examples=[1795334400000000])]
TimeOrNone = Annotated[
    int | None,
    BeforeValidator(lambda time: time or None),
    Field(description="µs since 1970-01-01 UTC; null if it has not happened or is not due"),
]
TierName = Annotated[
    str,
    BeforeValidator(lambda tier: tier.name if isinstance(tier, Tier) else tier),
    Field(
        description="I (red, worst), II (orange), III (yellow), IV (blue)",
        json_schema_extra={"enum": ["I", "II", "III", "IV"]},
        examples=["III"],
    ),
]
AlertId = Annotated[str, Field(examples=["4be1c03fa2d7756e90aa"])]


class Model(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class ErrorBody(Model):
    code: str = Field(description="a stable word", examples=["not_found"])
    message: str = Field(description="what is wrong, and how to mend it")


class Error(Model):
    """Every answer that is not a success."""

    error: ErrorBody


ZONE = "the registry's: how its people read a time"


class GroundOut(Model):
    """A finding on which a compound risk stands, as it was then."""

    id: str
    rule: str = Field(examples=["equipment.overdue"])
    enterprise: str
    subject: str = Field(examples=["equipment:V-101"])
    name: str
    kind: str
    level: str
    since: Time
    value: float | None
    limit: float | None
    unit: str
    clause: str


class AskOut(Model):
    """What is asked of departments."""

    what: str = Field(examples=["joint-inspection"])
    lead: str = Field(description="the department that leads", examples=["market-regulation"])
    support: tuple[str, ...]


class BasisOut(Model):
    """What a compound risk says beyond a measured value."""

    name: str = Field(description="what people call the subject, where the registry's points do not say it")
    why: dict[str, str] = Field(description="a sentence by language", examples=[{"zh": "", "en": ""}])
    grounds: tuple[GroundOut, ...]
    asks: tuple[AskOut, ...]


class AlertOut(Model):
    """An alert as it is now."""

    id: AlertId
    rule: str = Field(examples=["limit.high"])
    enterprise: str = Field(
        description="credit code; empty for the system's own", examples=["91370200MA0001XX0H"]
    )
    subject: str = Field(examples=["point:TI-1101"])
    cell: str
    finding: str
    tier: TierName
    level: str = Field(
        description="the limit reached: LL, L, H, HH; of a compound risk the rule that applied",
        examples=["HH"],
    )
    condition: Condition
    answer: Answer
    rung: int = Field(description="how far up the ladder it was called; 0 is the enterprise's operator")
    step: int
    raised: Time
    since: Time
    time: Time
    value: float | None
    limit: float | None
    unit: str
    clause: str
    basis: BasisOut
    version: str = Field(description="version of registry and rulebook by which it was judged")
    holder: str = Field(description="person id of who confirmed it or took it over")
    confirmed: TimeOrNone
    acted: TimeOrNone
    ended: TimeOrNone
    closed: TimeOrNone
    close_reason: str
    reopened: int
    confirm_due: TimeOrNone
    action_due: TimeOrNone
    return_due: TimeOrNone
    close_due: TimeOrNone


class FindingOut(Model):
    """The newest message of a finding: the evidence."""

    id: str
    seq: int
    rule: str
    enterprise: str
    subject: str
    phase: Phase
    since: Time
    time: Time
    arrival: Time
    level: str
    tier: TierName | None
    value: float | None
    limit: float | None
    unit: str
    clause: str
    evidence: tuple[str, ...]
    late: bool
    version: str
    name: str
    kind: str
    within: tuple[str, ...]
    why: dict[str, str]
    grounds: tuple[GroundOut, ...]
    asks: tuple[AskOut, ...]


class StepDetail(Model):
    """Why a step was taken and what came of it."""

    finding: FindingOut | None
    note: str
    rung: int | None
    asked: tuple[str, ...]
    told: tuple[str, ...]
    nobody: tuple[str, ...]
    seen: bool
    missed: int
    gap: int
    closed: str


class StepOut(Model):
    """One entry of an alert's history."""

    step: int
    time: Time
    due: TimeOrNone
    late: int = Field(description="µs by which it was late")
    event: str
    actor: str
    detail: StepDetail


class NoticeOut(Model):
    """One message to one person; its address is not shown."""

    id: str
    step: int
    person: str
    role: Role
    channel: str
    title: str
    text: str
    due: Time
    created: Time
    attempts: int
    maybe_delivered: bool
    state: NoticeState
    error: str
    delivered: TimeOrNone


class AlertPage(AlertOut):
    """An alert with its reason in words, its history, its evidence and whom it was sent to."""

    text: str = Field(description="what happened, where, by which limit and clause, since when, how late")
    time_zone: str = Field(description=ZONE, examples=["Asia/Shanghai"])
    steps: list[StepOut]
    findings: list[FindingOut]
    notices: list[NoticeOut]

    @classmethod
    def of(
        cls,
        alert: Alert,
        text: str,
        time_zone: str,
        steps: Sequence[Any],
        findings: Sequence[Any],
        notices: Sequence[Any],
    ) -> Self:
        return cls(
            **dict(AlertOut.model_validate(alert)),
            text=text,
            time_zone=time_zone,
            steps=[StepOut.model_validate(step) for step in steps],
            findings=[FindingOut.model_validate(finding) for finding in findings],
            notices=[NoticeOut.model_validate(notice) for notice in notices],
        )


class Alerts(Model):
    """One page, newest first."""

    items: list[AlertOut]
    time_zone: str = Field(description=ZONE, examples=["Asia/Shanghai"])
    next: str | None = Field(description="give it as `cursor` to get the next page; null on the last")


class Findings(Model):
    """One page, newest first."""

    items: list[FindingOut]
    time_zone: str = Field(description=ZONE, examples=["Asia/Shanghai"])
    next: str | None = Field(description="give it as `cursor` to get the next page; null on the last")


QUALITY = ("good", "uncertain", "bad")
"""By its number in readings."""

NO_NUL = r"^[^\x00]*$"
"""A text that every database takes."""


class Note(BaseModel):
    """What a person says with an answer."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"note": "on my way"}]})

    note: Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True, pattern=NO_NUL)] = ""


class Action(BaseModel):
    """What was done about it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"note": "pump P-12 restarted"}]}
    )

    note: Annotated[
        str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True, pattern=NO_NUL)
    ]


class ReceiptOut(Model):
    """What came of an answer, the step that records it, and the alert as it is now."""

    outcome: Outcome
    step: int
    alert: AlertOut


class ValueOut(Model):
    """The newest value of one point; nulls if it was never heard."""

    point: str = Field(examples=["TI-1101"])
    name: str
    kind: str
    unit: str = Field(description="engineering unit", examples=["°C"])
    place: str
    time: TimeOrNone = Field(description="the device's time, µs since 1970-01-01 UTC")
    value: float | None = Field(description="null if never heard or of bad quality", examples=[81.2])
    quality: str | None = Field(json_schema_extra={"enum": ["good", "uncertain", "bad", None]})


class Values(Model):
    """All points of one enterprise, as they stood together."""

    enterprise: str
    version: str = Field(description="registry version that says which points there are")
    items: list[ValueOut]


class DeadLetterOut(Model):
    """A message that could not be used. It has no id: a number would tell how many others have sent."""

    time: Time
    topic: str
    reason: str = Field(examples=["not_json"])
    detail: str
    head: str = Field(description="the first 256 bytes; what is not UTF-8 is escaped")
    count: int = Field(description="how many there were like it, which came together", examples=[1])


class DeadLetters(Model):
    """One page, newest first."""

    items: list[DeadLetterOut]
    next: str | None = Field(description="give it as `cursor` to get the next page; null on the last")


class Health(Model):
    status: str = Field(examples=["ok"])
