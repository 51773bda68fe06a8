"""The HTTP API: alerts and answers to them, current values, dead letters, health; within a token's scope."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from sqlalchemy import Engine

from alerting import store, words
from alerting.alert import Alert, Answer, Condition, Receipt, Step
from alerting.desk import Desk
from alerting.lifecycle import Event
from alerting.sender import Counts
from console import guard, history_api, registry_api, scope, tokens
from console.guard import Refused, not_found
from console.metrics import JudgeStatus, Requests, Scrape
from console.models import (
    NO_NUL,
    QUALITY,
    Action,
    AlertOut,
    AlertPage,
    Alerts,
    DeadLetterOut,
    DeadLetters,
    Error,
    FindingOut,
    Findings,
    Health,
    Note,
    ReceiptOut,
    ValueOut,
    Values,
)
from history.course import HistoryReader
from ingest.journal_reader import dead_letter_id, dead_letters
from ingest.last_values import LastValues, NoLastValues
from registry.clock import SECOND, Clock
from registry.database import DatabaseBusy, DatabaseUnwritable, reading
from registry.model import Registry
from registry.store import RegistryStore
from streams.finding import Tier

PREFIX = "/api/v1"

JUDGE_FRESH = 10 * SECOND
"""How old the judge's word on itself may be before the whole is not ready."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the API stands on."""

    desk: Desk
    database: Engine
    registry: Callable[[], Registry]  # the version in force
    clock: Clock
    journal: Path | None  # folder; none in a cluster: what arrives is in Kafka
    values: Path  # file of last values
    status: Callable[[], JudgeStatus | None]  # None before the judge has said anything, and in a cluster
    sender: Counts | None = None
    store: RegistryStore | None = None  # the registry's database, where it may be read and edited
    history: HistoryReader | None = None  # none is kept
    standstill: Callable[[], str] | None = None  # of a cluster, why nothing is judged; "" if it is


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a token that is valid, and what it covers in the registry in force."""

    person: str
    scope: store.Scope


def create_app(deps: Dependencies) -> FastAPI:
    """The application, wired; it starts nothing and holds nothing open."""
    app = FastAPI(
        title="Fenghuo",
        summary="Early warning for industrial safety: alerts, who has them, and what was done.",
        version="1",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its scripts come from elsewhere, and a plant's network is closed
        redoc_url=None,
    )
    requests = Requests()
    bearer = HTTPBearer(
        auto_error=False, scheme_name="token", description="Made by `fenghuo token create`; obeys its scope."
    )

    def caller(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Caller:
        with reading(deps.database) as connection:
            token = tokens.find(connection, given.credentials) if given else None
        if token is None:
            raise Refused(
                401,
                "unauthorized",
                "give a valid token: Authorization: Bearer …",
                {"WWW-Authenticate": "Bearer"},
            )
        return Caller(token.person, scope.Scope.parse(token.scope).covered(deps.registry()))

    async def admit(request: Request) -> None:
        await run_in_threadpool(caller, await bearer(request))

    guard.install(app, requests, admit)
    Asking = Annotated[Caller, Depends(caller)]

    def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
        return {status: {"model": Error, "description": WHY[status]} for status in (*statuses, 503)}

    public = APIRouter(prefix=PREFIX, tags=["health"])
    api = APIRouter(prefix=PREFIX, responses=documented(401, 404, 422))
    answers = APIRouter(prefix=PREFIX, tags=["answers"], responses=documented(401, 403, 404, 422))
    metrics = APIRouter(tags=["health"], responses=documented(401, 403))

    # -- health --------------------------------------------------------------------------------

    @public.get("/health", operation_id="health")
    def health() -> Health:
        """The process is alive."""
        return Health(status="ok")

    @public.get("/ready", operation_id="ready", responses=documented())
    def ready() -> Health:
        """The desk's database can be read, and the judging process has said lately that it hears the broker."""
        try:
            with reading(deps.database) as connection:
                connection.exec_driver_sql("SELECT 1 FROM state").first()
        except (DatabaseBusy, DatabaseUnwritable) as error:
            raise Refused(503, "not_ready", "the desk's database cannot be read") from error
        if deps.standstill is not None:
            if why := deps.standstill():
                raise Refused(503, "not_ready", why)
            return Health(status="ready")
        said = deps.status()
        if said is None or deps.clock.now() - said.time > JUDGE_FRESH:
            raise Refused(503, "not_ready", "the judging process has not been heard of lately")
        if not said.connected:
            raise Refused(503, "not_ready", "the judging process does not hear the broker")
        return Health(status="ready")

    # -- alerts --------------------------------------------------------------------------------

    @api.get("/alerts", operation_id="listAlerts", tags=["alerts"])
    def list_alerts(
        asking: Asking,
        open: Annotated[bool | None, Query(description="true: not closed; false: closed")] = None,
        tier: Annotated[Literal["I", "II", "III", "IV"] | None, Query(description="this or worse")] = None,
        condition: Condition | None = None,
        answer: Answer | None = None,
        enterprise: Annotated[
            str | None, Query(max_length=18, pattern=NO_NUL, description="credit code")
        ] = None,
        rule: Annotated[str | None, Query(max_length=64, pattern=NO_NUL, examples=["limit.high"])] = None,
        raised_from: Annotated[int | None, Query(ge=0, le=MAX, description="µs, inclusive")] = None,
        raised_before: Annotated[int | None, Query(ge=0, le=MAX, description="µs, exclusive")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 100,
        cursor: Annotated[
            str | None,
            Query(pattern=r"^[0-9]{1,18}-[0-9a-f]{1,32}$", description="`next` of the page before"),
        ] = None,
    ) -> Alerts:
        """Alerts that the token may see, the newest first."""
        with reading(deps.database) as connection:
            found = store.alerts(
                connection,
                asking.scope,
                open=open,
                tier=Tier[tier] if tier else None,
                condition=condition,
                answer=answer,
                enterprise=enterprise,
                rule=rule,
                raised_from=raised_from,
                raised_before=raised_before,
                after=_place(cursor),
                limit=limit + 1,
            )
        page = found[:limit]
        return Alerts(
            items=[AlertOut.model_validate(alert) for alert in page],
            time_zone=deps.registry().time_zone,
            next=f"{page[-1].raised}-{page[-1].id}" if len(found) > limit else None,
        )

    @api.get("/alerts/{id}", operation_id="readAlert", tags=["alerts"])
    def read_alert(
        id: Id,
        asking: Asking,
        language: Annotated[Literal["zh", "en"], Query(description="of `text`")] = "zh",
    ) -> AlertPage:
        """One alert with its reason in words, its history, its evidence and whom it was sent to."""
        with reading(deps.database) as connection:
            alert = store.alert(connection, asking.scope, id)
            if alert is None:
                raise not_found()
            steps = store.steps(connection, asking.scope, id)
            return AlertPage.of(
                alert,
                _text(alert, steps, deps.registry(), language),
                deps.registry().time_zone,
                steps,
                store.findings(connection, asking.scope, id),
                store.notices(connection, asking.scope, id),
            )

    def answer_alert(
        id: str, asking: Caller, say: Callable[[str, str, int, str], Receipt], note: str
    ) -> ReceiptOut:
        with reading(deps.database) as connection:
            if store.alert(connection, asking.scope, id) is None:
                raise not_found()
        if not asking.person:
            raise Refused(403, "nobody", "this token speaks for no person, so it cannot answer an alert")
        return ReceiptOut.model_validate(say(id, asking.person, deps.clock.now(), note))

    @answers.post("/alerts/{id}/confirm", operation_id="confirmAlert")
    def confirm(id: Id, asking: Asking, body: Note | None = None) -> ReceiptOut:
        """The token's person says that they have it. Stops the clock if they were asked."""
        return answer_alert(id, asking, deps.desk.confirm, body.note if body else "")

    @answers.post("/alerts/{id}/take-over", operation_id="takeOverAlert")
    def take_over(id: Id, asking: Asking, body: Note | None = None) -> ReceiptOut:
        """The token's person makes it theirs, although another was asked."""
        return answer_alert(id, asking, deps.desk.take_over, body.note if body else "")

    @answers.post("/alerts/{id}/act", operation_id="actOnAlert")
    def act(id: Id, asking: Asking, body: Action) -> ReceiptOut:
        """The record of what was done about it."""
        return answer_alert(id, asking, deps.desk.act, body.note)

    # -- worklists -------------------------------------------------------------------------------

    @api.get("/findings", operation_id="listFindings", tags=["findings"])
    def list_findings(
        asking: Asking,
        rule: Annotated[
            str | None,
            Query(
                max_length=64,
                pattern=NO_NUL,
                description="a rule, or with a dot at its end all whose names begin so",
                examples=["equipment.overdue", "equipment."],
            ),
        ] = None,
        enterprise: Annotated[
            str | None, Query(max_length=18, pattern=NO_NUL, description="credit code")
        ] = None,
        open: Annotated[bool | None, Query(description="true: not over; false: over")] = True,
        limit: Annotated[int, Query(ge=1, le=200)] = 100,
        cursor: Annotated[
            str | None,
            Query(pattern=r"^[0-9]{1,18}-[0-9a-f]{1,32}$", description="`next` of the page before"),
        ] = None,
    ) -> Findings:
        """What is found of points and records, whether or not it rang: worklists, the newest first."""
        with reading(deps.database) as connection:
            found = store.worklist(
                connection,
                asking.scope,
                rule=rule,
                enterprise=enterprise,
                open=open,
                after=_place(cursor),
                limit=limit + 1,
            )
        page = found[:limit]
        return Findings(
            items=[FindingOut.model_validate(finding) for finding in page],
            time_zone=deps.registry().time_zone,
            next=f"{page[-1].arrival}-{page[-1].id}" if len(found) > limit else None,
        )

    # -- what arrives ----------------------------------------------------------------------------

    @api.get("/enterprises/{code}/values", operation_id="readValues", tags=["values"])
    def read_values(code: Annotated[str, InPath(max_length=64)], asking: Asking) -> Values:
        """The newest value of every point of an enterprise."""
        registry = deps.registry()
        if scope.enterprise(registry, asking.scope, code) is None:
            raise not_found()
        return _values(registry, code, deps.values)

    @api.get("/dead-letters", operation_id="listDeadLetters", tags=["values"])
    def list_dead_letters(
        asking: Asking,
        limit: Annotated[int, Query(ge=1, le=200)] = 100,
        cursor: Annotated[
            str | None, Query(pattern=r"^[0-9]{1,18}-[0-9]{1,9}$", description="`next` of the page before")
        ] = None,
    ) -> DeadLetters:
        """Messages that could not be used, the newest first: all of them for the system, else those of the
        topics of the enterprises that the token covers. In a cluster they are in Kafka, and not here."""
        if deps.journal is None:
            raise Refused(
                404, "not_here", "the dead letters of a cluster are in its Kafka topic of this name"
            )
        prefixes = None
        if not asking.scope.system:
            seen = scope.enterprises(deps.registry(), asking.scope)
            prefixes = [f"fenghuo/v1/{code}/" for code in seen]
        before, time, place = None, 0, 0
        if cursor is not None:
            time, place = map(int, cursor.split("-"))
            before = dead_letter_id(deps.journal, time=time, place=place, topic_prefixes=prefixes)
        found = dead_letters(deps.journal, limit=limit + 1, before=before, topic_prefixes=prefixes)
        page = [letter for _, letter in found[:limit]]
        for letter in page:
            time, place = letter.time, place + 1 if letter.time == time else 1
        return DeadLetters(
            items=[
                DeadLetterOut(
                    time=letter.time,
                    topic=letter.topic,
                    reason=letter.reason,
                    detail=letter.detail,
                    head=letter.head.decode("utf-8", "backslashreplace"),
                    count=letter.count,
                )
                for letter in page
            ],
            next=f"{time}-{place}" if len(found) > limit else None,
        )

    # -- metrics ---------------------------------------------------------------------------------

    collected = CollectorRegistry()
    collected.register(Scrape(deps.database, deps.status, requests, deps.sender, deps.standstill))

    @metrics.get("/metrics", operation_id="metrics", response_class=Response)
    def read_metrics(asking: Asking) -> Response:
        """For Prometheus; they count over all enterprises, so they need a token of scope `system`."""
        if not asking.scope.system:
            raise Refused(403, "forbidden", "metrics need a token of scope system")
        return Response(generate_latest(collected), media_type=CONTENT_TYPE_LATEST)

    for router in (public, api, answers, metrics):
        app.include_router(router)
    if deps.store is not None:
        app.include_router(
            registry_api.router(deps.store, deps.registry, deps.clock, caller, PREFIX, documented)
        )
    app.include_router(
        history_api.router(deps.history, deps.registry, deps.database, caller, PREFIX, documented)
    )
    return app


MAX = 10**18
Id = Annotated[
    str,
    InPath(max_length=64, pattern=NO_NUL, description="alert id", examples=["4be1c03fa2d7756e90aa"]),
]

WHY = {
    401: "No valid token",
    403: "The token may see this, but not do it",
    404: "Not there, or not within the token's scope: the answer is the same",
    422: "The request is not as described",
    503: "Not just now; nothing was done",
}


def _place(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    raised, _, id = cursor.partition("-")
    return int(raised), id


def _text(alert: Alert, steps: Sequence[Step], registry: Registry, language: str) -> str:
    """The account of the alert as it stands, as the newest message of its finding gave it."""
    heard = [(step, step.detail.finding) for step in steps if step.detail.finding is not None]
    if not heard:
        return ""
    step, finding = heard[-1]
    occasion = words.Occasion(Event(step.event), now=step.time, due=finding.arrival)
    return words.account(alert, occasion, registry, language).text


def _values(registry: Registry, code: str, path: Path) -> Values:
    rows = registry.rows[code]
    if not rows:
        return Values(enterprise=code, version=registry.version, items=[])
    first, last = min(rows.values()), max(rows.values())
    with LastValues.open(path) as table:
        if table.version != registry.version:
            raise NoLastValues("the registry has just changed")
        look = table.read(first, last + 1)
    points = registry.points
    items = []
    for id, row in rows.items():
        place = row - first
        time, value = int(look.newest[place]), float(look.value[place])
        heard = time > 0
        items.append(
            ValueOut(
                point=id,
                name=points.name[row],
                kind=points.kind[row],
                unit=points.engineering_unit[row],
                place=points.place[row],
                time=time if heard else None,
                value=value if heard and np.isfinite(value) else None,
                quality=QUALITY[look.quality[place]] if heard else None,
            )
        )
    return Values(enterprise=code, version=registry.version, items=items)
