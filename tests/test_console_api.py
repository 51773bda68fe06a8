"""The HTTP API over a real desk, journal and table of values: scope, answers, errors, OpenAPI, metrics."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine, update

from alerting import tables
from alerting.desk import Desk
from alerting.sender import Counts
from alerting.tables import upgrade
from console import tokens
from console.api import Dependencies, create_app
from console.history_api import PARQUET
from console.scope import Scope, ScopeError
from ingest.journal import Journal
from ingest.last_values import LastValues
from ingest.readings import BAD, GOOD, DeadLetter, Round
from registry.clock import SECOND
from registry.database import open_database, writing
from registry.model import Cell, Registry
from streams.finding import Finding, Phase, Tier, finding_id
from tests.build import PointSpec, code, make_registry

NOW = 1_795_334_400_000_000  # 2026-11-22T08:00:00Z
A, B, C = code(1), code(2), code(3)
MISSING = "0" * 20
CELLS = (
    Cell("city", "海州市", "city", ""),
    Cell("east", "东海区", "district", "city"),
    Cell("harbour", "港口镇", "town", "east"),
    Cell("west", "西海区", "district", "city"),
)


def make() -> Registry:
    points = [PointSpec(id="TI-1", H=80.0, HH=90.0, name="温度"), PointSpec(id="TI-2", unit="R1")]
    return make_registry(
        {A: points, B: points, C: points}, cells=CELLS, cell_of={A: "harbour", B: "west", C: "east"}
    )


def begun(enterprise: str, point: str = "TI-1", since: int = NOW, tier: Tier = Tier.III) -> Finding:
    subject = f"point:{point}" if enterprise else "system"
    return Finding(
        id=finding_id("limit.high", enterprise, subject, since), seq=1, rule="limit.high",
        enterprise=enterprise, subject=subject, phase=Phase.BEGUN, since=since, time=since, arrival=since,
        level="HH", tier=tier, value=95.0, limit=90.0, unit="°C", clause="AQ 3035", version="test-1",
    )  # fmt: skip


class StillClock:
    def __init__(self) -> None:
        self.time = NOW + SECOND

    def now(self) -> int:
        return self.time


@dataclass
class House:
    client: httpx.Client
    app: FastAPI
    database: Engine
    desk: Desk
    clock: StillClock
    status: SimpleNamespace
    alerts: dict[str, str]  # alert id by enterprise

    def token(self, scope: str, person: str = "") -> str:
        return tokens.create(self.database, name="t", scope=Scope.parse(scope), person=person, now=NOW)

    def get(self, path: str, token: str, **params: Any) -> Any:
        reply = self.client.get(f"/api/v1{path}", headers=bearer(token), params=params)
        assert reply.status_code == 200, reply.text
        return reply.json()


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """The application behind a real server on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        port = listener.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            yield client
        server.should_exit = True
        thread.join(20)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    registry = make()
    database = open_database(folder / "desk.sqlite")
    upgrade(database)
    desk = Desk(database, registry)
    findings = {enterprise: begun(enterprise) for enterprise in (A, B, C, "")}
    desk.round(list(findings.values()), 1, NOW)
    letters = [
        DeadLetter(NOW + i, f"fenghuo/v1/{enterprise}/gw1/readings", "not_json", "a", b"\xff{" + b"x" * i)
        for i, enterprise in enumerate((A, B, A, C, B, A))
    ]
    letters[:0] = [  # that came together
        DeadLetter(NOW, f"fenghuo/v1/{enterprise}/gw1/readings", "not_json", str(i), b"")
        for i, enterprise in enumerate((A, B, A, A, B, A))
    ]
    letters.append(DeadLetter(NOW + 9, "elsewhere", "unknown_topic", "b", b""))
    with closing(Journal(folder / "journal", reserve=0)) as journal:
        journal.append([Round(NOW, version=registry.version)], letters)
    with LastValues.create(folder / "values", registry.version, len(registry.points)) as table:
        newest, value = np.zeros(6, np.int64), np.full(6, np.nan)
        quality = np.full(6, GOOD, np.uint8)
        for enterprise in (A, B, C):
            row = registry.rows[enterprise]["TI-1"]
            newest[row], value[row] = NOW + row, row + 0.5
        row = registry.rows[A]["TI-2"]
        newest[row], quality[row] = NOW, BAD
        table.write(newest, value, quality)
    latency = SimpleNamespace(count=2, p50=1.0, p99=5.0)
    status = SimpleNamespace(
        time=NOW, started=NOW, connected=True, listening=True, offset=7, absorbed=6, messages=5, readings=1000,
        findings=4, dead={"not_json": 6}, dropped={"redelivered": 1}, waiting=0, desk_busy=0, unwritable="",
        alert_ms=latency, round_ms=latency, journal_bytes=1, journal_hours=2.0,
    )  # fmt: skip
    clock = StillClock()
    app = create_app(
        Dependencies(
            desk=desk,
            database=database,
            registry=lambda: registry,
            clock=clock,
            journal=folder / "journal",
            values=folder / "values",
            status=lambda: status,
            sender=Counts(repeats=3),
        )
    )
    with served(app) as client:
        alerts = {enterprise: finding.id for enterprise, finding in findings.items()}
        yield House(client, app, database, desk, clock, status, alerts)
    database.dispose()


# -- scope -----------------------------------------------------------------------------------------

PUBLIC = {"/api/v1/health", "/api/v1/ready"}
SYSTEM_ONLY = {"/metrics"}
BY_ID = {
    # a route that names something: what B has there, what nobody has, and the body to send
    ("GET", "/api/v1/alerts/{id}"): ("alert", None),
    ("POST", "/api/v1/alerts/{id}/confirm"): ("alert", {"note": "x"}),
    ("POST", "/api/v1/alerts/{id}/take-over"): ("alert", {"note": "x"}),
    ("POST", "/api/v1/alerts/{id}/act"): ("alert", {"note": "x"}),
    ("GET", "/api/v1/enterprises/{code}/values"): ("enterprise", None),
    ("GET", "/api/v1/enterprises/{code}/history"): ("enterprise", None),
    ("GET", "/api/v1/enterprises/{code}/readings"): ("enterprise", None),
}
SPAN = {"point": "TI-1", "begin": NOW, "end": NOW + SECOND}
"""What the last two have to be asked for; the others do not look at it."""

FILES = {"/api/v1/enterprises/{code}/readings": {"text/csv", PARQUET}}
LISTS = {"/api/v1/alerts", "/api/v1/dead-letters", "/api/v1/findings"}


def routes(house: House) -> set[tuple[str, str]]:
    """Every route that answers anything, whether or not OpenAPI tells of it."""
    document = house.client.get("/api/v1/openapi.json").json()
    told = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    return told | set(_mounted(house.app.routes)) - {("GET", "/api/v1/openapi.json")}


def _mounted(mounted: Any) -> Iterator[tuple[str, str]]:
    for route in mounted:
        inner = getattr(getattr(route, "original_router", route), "routes", None)
        if inner:
            yield from _mounted(inner)
        else:
            for method in (getattr(route, "methods", None) or {"ANY"}) - {"HEAD"}:
                yield method, route.path


def test_every_route_is_tried_for_scope(house: House) -> None:
    """A route that is added without saying here how its scope is tried makes this fail."""
    known = {path for _, path in BY_ID} | PUBLIC | SYSTEM_ONLY | LISTS
    found = routes(house)
    assert {path for _, path in found} == known
    assert {route for route in found if "{" in route[1]} == set(BY_ID)


@pytest.mark.parametrize("scope", [f"enterprise:{A}", "cell:east", "cell:harbour", "cell:gone"])
@pytest.mark.parametrize("route", BY_ID, ids=lambda route: " ".join(route))
def test_a_foreign_id_answers_like_one_that_does_not_exist(
    house: House, route: tuple[str, str], scope: str
) -> None:
    method, path = route
    kind, body = BY_ID[route]
    foreign = [house.alerts[B], house.alerts[""]] if kind == "alert" else [B]
    missing = MISSING if kind == "alert" else code(9)
    for person in ("", f"operator-{A}", f"operator-{B}"):
        headers = bearer(house.token(scope, person))

        def ask(name: str, headers: dict[str, str] = headers) -> tuple[int, bytes, dict[str, str]]:
            reply = house.client.request(
                method,
                path.replace("{id}", name).replace("{code}", name),
                headers=headers,
                json=body,
                params=SPAN,
            )
            described = {name: value for name, value in reply.headers.items() if name != "date"}
            return reply.status_code, reply.content, described

        expected = ask(missing)
        assert expected[0] == 404
        for name in foreign:
            assert ask(name) == expected
    before = house.get(f"/alerts/{house.alerts[B]}", house.token("system"))
    assert [step["event"] for step in before["steps"]] == ["begun"]


@pytest.mark.parametrize(
    ("scope", "seen"),
    [
        (f"enterprise:{A}", {A}),
        ("cell:harbour", {A}),
        ("cell:east", {A, C}),
        ("cell:west", {B}),
        ("cell:city", {A, B, C}),
        ("cell:gone", set()),
        (f"enterprise:{code(9)}", set()),
        ("system", {A, B, C, ""}),
    ],
)
def test_lists_hold_what_the_scope_covers_and_nothing_else(house: House, scope: str, seen: set[str]) -> None:
    token = house.token(scope)
    assert {alert["enterprise"] for alert in house.get("/alerts", token)["items"]} == seen
    for enterprise in (A, B, C):  # a filter opens nothing
        found = house.get("/alerts", token, enterprise=enterprise)["items"]
        assert {alert["enterprise"] for alert in found} == seen & {enterprise}
    topics = {letter["topic"] for letter in house.get("/dead-letters", token)["items"]}
    expected = {f"fenghuo/v1/{enterprise}/gw1/readings" for enterprise in seen - {""}}
    assert topics == expected | ({"elsewhere"} if scope == "system" else set())
    for enterprise in (A, B, C):
        reply = house.client.get(f"/api/v1/enterprises/{enterprise}/values", headers=bearer(token))
        assert reply.status_code == (200 if enterprise in seen else 404)


def test_without_a_valid_token_nothing_is_answered(house: House) -> None:
    revoked = house.token("system")
    assert tokens.revoke(house.database, tokens.digest(revoked), now=NOW) == 1
    bad = [{}, bearer("x"), bearer(revoked), bearer("非"), {"Authorization": f"Basic {revoked}"}]
    for method, path in routes(house):
        if path in PUBLIC:
            continue
        _, body = BY_ID.get((method, path), ("", None))
        for headers in bad:
            coded = {name: value.encode() for name, value in headers.items()}
            reply = house.client.request(method, path, headers=coded, json=body)
            assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer"), path
            assert reply.json()["error"]["code"] == "unauthorized"
        if method == "POST":
            reply = house.client.post(path, content=b"{", headers={"Content-Type": "application/json"})
            assert reply.status_code == 401, "before anything is said of the body"


# -- alerts ----------------------------------------------------------------------------------------


def test_an_alert_page_says_why_who_was_called_and_what_they_did(house: House) -> None:
    page = house.get(f"/alerts/{house.alerts[A]}", house.token(f"enterprise:{A}"))
    assert (page["tier"], page["level"], page["value"], page["limit"]) == ("III", "HH", 95.0, 90.0)
    assert (page["clause"], page["condition"], page["answer"]) == ("AQ 3035", "active", "unconfirmed")
    assert page["confirmed"] is None
    assert page["confirm_due"] > NOW
    assert page["steps"][0]["event"] == "begun"
    assert ("TI-1" in page["text"], "高高限" in page["text"], "AQ 3035" in page["text"]) == (True, True, True)
    english = house.get(f"/alerts/{house.alerts[A]}", house.token(f"enterprise:{A}"), language="en")["text"]
    assert "95 °C, limit 90 °C." in english
    assert page["findings"][0]["id"] == page["finding"]
    roles = {(notice["person"], notice["role"]) for notice in page["notices"]}
    assert (f"operator-{A}", "asked") in roles
    assert (f"duty-{'east'}", "told") in roles
    assert all("address" not in notice for notice in page["notices"])


@pytest.mark.parametrize("path", ["/alerts", "/dead-letters"])
@pytest.mark.parametrize("scope", ["system", "cell:city", f"enterprise:{A}"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_follow_each_other_without_gap_or_double(
    house: House, path: str, scope: str, limit: int
) -> None:
    token = house.token(scope)
    whole = house.get(path, token)["items"]
    assert whole
    found: list[Any] = []
    cursor = None
    while True:
        page = house.get(path, token, limit=limit, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
        assert len(page["items"]) == limit
    assert found == whole


def test_dead_letters_tell_nothing_of_how_many_others_have_sent(house: House) -> None:
    """No number in the answer counts over all enterprises: neither an id nor the cursor."""
    token = house.token(f"enterprise:{A}")
    page = house.get("/dead-letters", token, limit=4)
    times = [letter["time"] for letter in page["items"]]
    assert page["next"] == f"{times[-1]}-{times.count(times[-1])}"
    assert set(page["items"][0]) == {"time", "topic", "reason", "detail", "head", "count"}
    gone = house.get("/dead-letters", token, cursor=f"{NOW + 77}-3")
    assert (gone["items"], gone["next"]) == ([], None), "retention has dropped it, and all before it"


def test_filters(house: House) -> None:
    token = house.token("system")
    assert house.get("/alerts", token, tier="II")["items"] == []
    assert len(house.get("/alerts", token, tier="III", open=True, condition="active")["items"]) == 4
    assert house.get("/alerts", token, open=False)["items"] == []
    assert house.get("/alerts", token, raised_from=NOW + 1)["items"] == []


def test_answers_are_the_tokens_person_and_each_is_recorded(house: House) -> None:
    other = begun(A, "TI-2", NOW + 5)
    house.desk.round([other], 2, NOW + 5)

    def say(verb: str, person: str, note: str) -> Any:
        return house.client.post(
            f"/api/v1/alerts/{other.id}/{verb}",
            headers=bearer(house.token(f"enterprise:{A}", person)),
            json={"note": note},
        )

    reply = say("confirm", "", "")
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "nobody")
    reply = say("confirm", f"operator-{B}", "")
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "not_asked")
    reply = say("act", f"operator-{A}", "  ")
    assert reply.status_code == 422
    reply = say("confirm", "duty-east", "")
    assert (reply.status_code, reply.json()["outcome"]) == (200, "seen")
    reply = say("confirm", f"operator-{A}", "on my way")
    assert (reply.status_code, reply.json()["outcome"]) == (200, "confirmed")
    assert (reply.json()["alert"]["holder"], reply.json()["alert"]["answer"]) == (
        f"operator-{A}",
        "confirmed",
    )
    assert say("confirm", f"operator-{A}", "").json()["outcome"] == "again"
    assert say("take-over", "duty-east", "").json()["outcome"] == "taken_over"
    assert say("act", "duty-east", "pump restarted").json()["outcome"] == "acted"
    steps = house.get(f"/alerts/{other.id}", house.token(f"enterprise:{A}"))["steps"]
    said = [(step["actor"], step["event"], step["detail"]["note"]) for step in steps[1:]]
    assert said[1] == (f"operator-{A}", "confirm", "on my way")
    assert said[-1] == ("duty-east", "act", "pump restarted")


def test_a_confirm_needs_no_body(house: House) -> None:
    reply = house.client.post(
        f"/api/v1/alerts/{house.alerts[C]}/confirm",
        headers=bearer(house.token("system", f"operator-{C}")),
    )
    assert reply.status_code == 200, reply.text


# -- values, dead letters --------------------------------------------------------------------------


def test_values_of_an_enterprise(house: House) -> None:
    registry = make()
    found = house.get(f"/enterprises/{A}/values", house.token(f"enterprise:{A}"))
    first, second = found["items"]
    row = registry.rows[A]["TI-1"]
    assert (first["point"], first["name"], first["time"]) == ("TI-1", "温度", NOW + row)
    assert (first["value"], first["quality"], first["unit"]) == (row + 0.5, "good", "°C")
    assert (second["value"], second["quality"]) == (None, "bad")
    never = house.get(f"/enterprises/{B}/values", house.token("system"))["items"][1]
    assert (never["time"], never["value"], never["quality"]) == (None, None, None)


def test_a_dead_letter_shows_the_bytes_that_are_no_text(house: House) -> None:
    newest = house.get("/dead-letters", house.token(f"enterprise:{A}"))["items"][0]
    assert (newest["head"], newest["reason"]) == ("\\xff{xxxxx", "not_json")


# -- errors, limits, health, metrics ---------------------------------------------------------------


def test_every_error_has_one_form_and_no_trace(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    token = bearer(house.token("system", f"operator-{A}"))
    get, post = house.client.get, house.client.post
    alert = f"/api/v1/alerts/{house.alerts[A]}"
    cases = [
        (404, "not_found", get("/nowhere")),
        (405, "method_not_allowed", post("/api/v1/health")),
        (422, "invalid", get("/api/v1/alerts", headers=token, params={"limit": 201})),
        (422, "invalid", get("/api/v1/alerts", headers=token, params={"cursor": "1;drop table"})),
        (422, "invalid", get("/api/v1/alerts", headers=token, params={"raised_from": 10**30})),
        (422, "invalid", get("/api/v1/alerts/%00", headers=token)),
        (422, "invalid", get("/api/v1/alerts?rule=%00", headers=token)),
        (422, "invalid", get("/api/v1/alerts?enterprise=%00", headers=token)),
        (422, "invalid", post("/api/v1/alerts/%00/act", headers=token, json={"note": "x"})),
        (422, "invalid", post(f"{alert}/confirm", headers=token, content=b'{"note": "\\ud800"}')),
        (422, "invalid", post(f"{alert}/confirm", headers=token, content=b"{")),
        (422, "invalid", post(f"{alert}/confirm", headers=token, json={"person": "someone else"})),
        (413, "too_large", post(f"{alert}/confirm", headers=token, json={"note": "x" * 70_000})),
        (413, "too_large", post(f"{alert}/confirm", headers=token, content=iter([b"x" * 40_000] * 9))),
    ]
    with monkeypatch.context() as patch:
        patch.setattr("alerting.store.alerts", lambda *_, **__: 1 / 0)
        cases.append((500, "fault", get("/api/v1/alerts", headers=token)))
    for status, word, reply in cases:
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, word)
        assert set(reply.json()) == {"error"}
        assert "Traceback" not in reply.text
        assert "ZeroDivision" not in reply.text


def test_a_locked_desk_is_said_to_be_busy(house: House) -> None:
    token = house.token("system", f"operator-{A}")
    database = open_database(Path(str(house.database.url.database)), busy=0.01)
    busy = Desk(database, make())
    with pytest.MonkeyPatch.context() as patch, writing(house.database):
        patch.setattr(house.desk, "confirm", busy.confirm)
        reply = house.client.post(
            f"/api/v1/alerts/{house.alerts[A]}/confirm",
            headers=bearer(token),
        )
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
        assert reply.json()["error"]["code"] == "not_now"
        # Reading goes on all the same.
        assert house.get("/alerts", token)["items"]
    database.dispose()


def test_health_and_readiness(house: House) -> None:
    assert house.client.get("/api/v1/health").json() == {"status": "ok"}
    assert house.client.get("/api/v1/ready").json() == {"status": "ready"}
    before = house.clock.time
    house.clock.time = NOW + 11 * SECOND
    reply = house.client.get("/api/v1/ready")
    house.clock.time = before
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "not_ready")
    house.status.connected = False
    reply = house.client.get("/api/v1/ready")
    house.status.connected = True
    assert (reply.status_code, reply.json()["error"]["message"]) == (
        503,
        "the judging process does not hear the broker",
    )


def test_metrics_count_for_the_system_only(house: House) -> None:
    assert house.client.get("/metrics", headers=bearer(house.token(f"enterprise:{A}"))).status_code == 403
    text = house.client.get("/metrics", headers=bearer(house.token("system"))).text
    lines = text.splitlines()
    for line in (
        "fenghuo_readings_total 1000.0",
        'fenghuo_dead_letters_total{reason="not_json"} 6.0',
        "fenghuo_journal_offset_absorbed 6.0",
        "fenghuo_notice_repeats_total 3.0",
        "fenghuo_desk_readable 1.0",
        'fenghuo_alert_latency_seconds{quantile="0.99"} 0.005',
    ):
        assert line in lines
    assert any(line.startswith('fenghuo_alerts_open{answer="unconfirmed"') for line in lines)
    assert any(line.startswith('fenghuo_notices{state="waiting"}') for line in lines)
    assert any('route="/api/v1/alerts"' in line for line in lines)


def test_words_that_are_no_method_are_counted_together(house: House) -> None:
    for word in ("ABRACADABRA", "SIMSALABIM"):
        assert house.client.request(word, "/api/v1/health").status_code == 405
    text = house.client.get("/metrics", headers=bearer(house.token("system"))).text
    assert 'method="other"' in text
    assert "SIMSALABIM" not in text


# -- OpenAPI ---------------------------------------------------------------------------------------


def test_openapi_says_what_is_so(house: House) -> None:
    document = house.client.get("/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    scheme = document["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    names = set()
    for path, item in document["paths"].items():
        for operation in item.values():
            names.add(operation["operationId"])
            assert operation["summary"]
            assert operation["description"]
            answers = operation["responses"]
            if path not in PUBLIC:
                assert operation["security"] == [{"token": []}]
                assert {"401", "503"} <= set(answers)
            if path not in PUBLIC | SYSTEM_ONLY:
                assert {"401", "404", "422"} <= set(answers)
            for status, described in answers.items():
                assert described["description"]
                if status != "200":
                    shape = described["content"]["application/json"]["schema"]
                    assert shape == {"$ref": "#/components/schemas/Error"}
                elif path in FILES:
                    assert set(described["content"]) == FILES[path]
                elif path != "/metrics":
                    reference = described["content"]["application/json"]["schema"]["$ref"]
                    assert reference.rpartition("/")[2] in schemas
    assert len(names) == len(routes(house))
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert "HTTPValidationError" not in schemas
    assert set(schemas["AlertOut"]["properties"]["tier"]["enum"]) == {"I", "II", "III", "IV"}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


# -- tokens ----------------------------------------------------------------------------------------


def test_a_token_is_kept_as_a_digest_only(house: House) -> None:
    token = house.token("cell:east", "li")
    assert token.startswith("fenghuo_")
    assert len(token) > 40
    kept = json.dumps([str(row) for row in tokens.listing(house.database)])
    assert token not in kept
    assert tokens.digest(token) in kept


@pytest.mark.parametrize("text", ["x" * 65, "a\0b"])
def test_a_token_whose_name_not_every_database_keeps_is_refused(house: House, text: str) -> None:
    with pytest.raises(tokens.TokenRefused, match="name: expected up to 64"):
        tokens.create(house.database, name=text, scope=Scope.parse("system"), now=NOW)


def test_a_kept_scope_is_read_as_strictly_as_a_given_one(house: House) -> None:
    """Whatever wrote it: what is no scope never covers everything."""
    token = house.token("system")
    with writing(house.database) as connection:
        table = tables.tokens
        column = table.c.digest == tokens.digest(token)
        connection.execute(update(table).where(column).values(scope="system:x"))
    reply = house.client.get("/api/v1/alerts", headers=bearer(token))
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "fault")


def test_revoking_needs_exactly_one_that_begins_so(house: House) -> None:
    token = house.token("system")
    assert tokens.revoke(house.database, "", now=NOW) > 1
    assert tokens.revoke(house.database, "zz", now=NOW) == 0
    assert house.get("/alerts", token)["items"]
    assert tokens.revoke(house.database, tokens.digest(token)[:16], now=NOW) == 1
    assert tokens.revoke(house.database, tokens.digest(token)[:16], now=NOW) == 0


@pytest.mark.parametrize(
    "text", ["", "systems", "system:", "cell:", "cell", "enterprise:", "enterprise:123", "x:y"]
)
def test_what_is_no_scope(text: str) -> None:
    with pytest.raises(ScopeError):
        Scope.parse(text)


@pytest.mark.parametrize("text", ["system", "cell:east", f"enterprise:{A}"])
def test_a_scope_is_written_as_it_is_read(text: str) -> None:
    assert str(Scope.parse(text)) == text
