"""The registry over HTTP: what each token may read and edit, and that an edit is whole or not at all."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from alerting.desk import Desk
from alerting.tables import upgrade
from console import tokens
from console.api import Dependencies, create_app
from console.scope import Scope
from registry import store_tables
from registry.compile import compile_source
from registry.database import open_database
from registry.exchange import import_folder
from registry.store import Change, RegistryStore
from tests.build import code
from tests.folders import write_registry
from tests.test_console_api import NOW, StillClock, bearer, served

A, B, C = code(1), code(2), code(3)


@dataclass
class Town:
    """A and B lie in the east, C in the west."""

    client: httpx.Client
    database: Engine
    store: RegistryStore

    def token(self, scope: str, person: str = "admin") -> dict[str, str]:
        made = tokens.create(self.database, name="t", scope=Scope.parse(scope), person=person, now=NOW)
        return bearer(made)

    def get(self, path: str, scope: str, **params: Any) -> httpx.Response:
        return self.client.get(f"/api/v1/registry/{path}", headers=self.token(scope), params=params)

    def edit(
        self, scope: str, *changes: dict[str, Any], why: str = "new card", person: str = "li"
    ) -> httpx.Response:
        return self.client.post(
            "/api/v1/registry/edits",
            headers=self.token(scope, person) | {"Content-Type": "application/json"},
            content=json.dumps({"why": why, "changes": list(changes)}),  # half a character, too
        )


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    write_registry(tmp_path / "r", enterprises=3, points=2)
    own = open_database(tmp_path / "registry.sqlite")
    store_tables.upgrade(own)
    store = RegistryStore(own)
    import_folder(store, tmp_path / "r", who="wang", why="first", now=1)
    west = {"id": "west", "name": "西海区", "level": "district", "parent": "city"}
    ammonia = {
        "enterprise": A, "id": "NH3", "cas": "7664-41-7", "name": "液氨", "declared": "10", "declared_on": "2026-01-01"
    }  # fmt: skip
    store.edit(
        [
            Change("cell", "west", west),
            Change("enterprise", C, {"cell": "west"}),
            Change("chemicals", f"{A}/NH3", ammonia),
        ],
        who="wang",
        why="second",
        now=2,
        origin="command",
    )
    database = open_database(tmp_path / "desk.sqlite")
    upgrade(database)
    compiled = compile_source(store.load())
    app = create_app(
        Dependencies(
            desk=Desk(database, compiled),
            database=database,
            registry=lambda: compile_source(store.load()),
            clock=StillClock(),
            journal=tmp_path / "journal",
            values=tmp_path / "values",
            status=lambda: None,
            store=store,
        )
    )
    with served(app) as client:
        yield Town(client, database, store)
    database.dispose()
    own.dispose()


def keys(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["key"] for item in answer.json()["items"]]


def test_records_are_read_within_the_scope(town: Town) -> None:
    points = [f"{plant}/P{number}" for plant in (A, B, C) for number in (1, 2)]
    assert keys(town.get("point", "system")) == points
    assert keys(town.get("point", "system", enterprise=B)) == points[2:4]
    assert keys(town.get("point", "cell:east")) == points[:4]
    assert keys(town.get("point", "cell:city")) == points
    assert keys(town.get("point", "cell:west", enterprise=C)) == points[4:]
    assert keys(town.get("point", f"enterprise:{A}")) == points[:2]
    assert keys(town.get("duty", f"enterprise:{A}")) == [f"{A} operator-{A}"]
    assert keys(town.get("person", f"enterprise:{A}")) == [], (
        "people's numbers are not an enterprise's to see"
    )
    assert keys(town.get("cell", "system")) == ["city", "east", "west"]
    assert town.get("point", "cell:west", enterprise=A).status_code == 404
    assert town.get("point", f"enterprise:{A}", enterprise=B).status_code == 404
    assert town.get("pump", "system").status_code == 404

    one = town.get(f"point/{A}/P1", f"enterprise:{A}")
    assert one.json() == {
        "kind": "point", "key": f"{A}/P1", "enterprise": A, "body": town.store.records("point")[0].body
    }  # fmt: skip
    assert town.get(f"point/{A}/P1", f"enterprise:{B}").status_code == 404
    assert town.get(f"point/{A}/P1", "cell:west").status_code == 404
    assert town.get("person/admin", "cell:city").status_code == 404
    assert town.get("person/admin", "system").json()["body"]["name"] == "admin"
    assert town.client.get("/api/v1/registry/point").status_code == 401


@pytest.mark.parametrize("scope", ["system", "cell:city", "cell:east", f"enterprise:{A}"])
def test_pages_hold_every_record_once(town: Town, scope: str) -> None:
    every = keys(town.get("point", scope))
    found: list[str] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        answer = town.get("point", scope, limit=1, cursor=page["next"])
        found += keys(answer)
        page = answer.json()
    assert found == every


def test_an_edit_is_made_with_who_and_why_and_stands_in_the_history(town: Town) -> None:
    answer = town.edit(
        "system",
        {"kind": "point", "key": f"{A}/P1", "set": {"H": 30, "place": "泵房"}},
        {"kind": "enterprise", "key": B, "set": {"units": [{"id": "R-1", "name": "一号釜"}]}},
        {"kind": "point", "key": f"{B}/P2", "remove": True},
    )
    assert answer.status_code == 201
    assert answer.json() == {
        "id": 3,
        "time": NOW + 1_000_000,
        "who": "li",
        "why": "new card",
        "origin": "api",
    }
    items = town.get("history", "system").json()["items"]
    assert [(item["edit"]["id"], item["kind"], item["key"]) for item in items[:3]] == [
        (3, "point", f"{A}/P1"),
        (3, "enterprise", B),
        (3, "point", f"{B}/P2"),
    ]
    assert items[0]["new"] == {**items[0]["old"], "H": "30", "place": "泵房"}
    assert items[2]["new"] is None
    again = town.edit("system", {"kind": "point", "key": f"{A}/P1", "set": {"H": "30"}})
    assert (again.status_code, again.json()) == (200, None)
    first = town.get("history", "system", limit=2).json()
    rest = town.get("history", "system", limit=1000, cursor=first["next"]).json()
    assert first["items"] + rest["items"] == town.get("history", "system", limit=1000).json()["items"]
    own = town.get("history", f"enterprise:{A}").json()["items"]
    assert {item["enterprise"] for item in own} == {A}
    assert town.get("history", "cell:west").status_code == 404, "it must name one"
    assert town.get("history", "cell:west", enterprise=A).status_code == 404
    assert town.get("history", "cell:west", enterprise=C).json()["items"]


def test_mistakes_are_all_said_and_nothing_is_done(town: Town) -> None:
    answer = town.edit(
        "system",
        {"kind": "point", "key": f"{A}/P1", "set": {"H": 60}},
        {"kind": "enterprise", "key": B, "set": {"cell": "mars", "name": None}},
    )
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "invalid"
    assert [(one["record"], one["field"], one["problem"]) for one in error["mistakes"]] == [
        (f"enterprise {B}", "cell", "is 'mars', which the grid does not have"),
        (f"enterprise {B}", "name", "is missing"),
        (f"point {A}/P1", "HH", "50 is not above 60, a lower limit"),
    ]
    assert town.store.newest() == 2
    for change in (
        {"kind": "point", "key": f"{A}/P1"},
        {"kind": "point", "key": f"{A}/P1", "set": {}, "remove": True},
        {"kind": "point", "key": f"{A}/P1", "set": {"H": True}},
        {"kind": "pump", "key": "x", "set": {}},
    ):
        assert town.edit("system", change).status_code == 422
    assert town.edit("system", {"kind": "point", "key": "x", "set": {}}, why="").status_code == 422
    assert town.edit("system").status_code == 422
    assert town.store.newest() == 2


P1 = {"kind": "point", "key": f"{A}/P1", "set": {"H": 30}}
PERMIT = {
    "kind": "permits",
    "key": f"{A}/HW-1",
    "set": {
        "enterprise": A, "id": "HW-1", "kind": "hot_work", "holder": "wang",
        "from": "2026-11-21T08:00:00+08:00", "to": "2026-11-21T12:00:00+08:00",
    },
}  # fmt: skip


NINTH = {"kind": "enterprise", "key": code(9), "set": {"code": code(9), "name": "九"}}


@pytest.mark.parametrize(
    ("scope", "change", "status"),
    [
        ("system", {"kind": "person", "key": "admin", "set": {"name": "管理员"}}, 201),
        ("cell:east", {"kind": "person", "key": "admin", "set": {"name": "管理员"}}, 403),
        ("cell:city", {"kind": "cell", "key": "east", "set": {"name": "东区"}}, 403),
        ("cell:east", P1, 201),
        ("cell:city", P1, 201),
        ("cell:west", P1, 404),
        ("cell:east", {"kind": "enterprise", "key": A, "set": {"name": "新名"}}, 201),
        ("cell:east", {"kind": "enterprise", "key": A, "set": {"cell": "west"}}, 403),
        ("cell:east", {"kind": "enterprise", "key": C, "set": {"cell": "east"}}, 404),
        ("cell:east", {**NINTH, "set": {**NINTH["set"], "cell": "east"}}, 201),
        ("cell:east", {**NINTH, "set": {**NINTH["set"], "cell": "west"}}, 404),
        ("cell:east", {"kind": "point", "key": f"{code(9)}/P1", "set": {}}, 404),
        (f"enterprise:{A}", P1, 403),
        (f"enterprise:{A}", {"kind": "enterprise", "key": A, "set": {"name": "新名"}}, 403),
        (f"enterprise:{A}", {"kind": "chemicals", "key": f"{A}/NH3", "set": {"declared": 12.5}}, 201),
        (f"enterprise:{A}", {"kind": "chemicals", "key": f"{A}/NH3", "set": {"permitted": "900"}}, 403),
        (f"enterprise:{A}", {"kind": "chemicals", "key": f"{A}/NH3", "remove": True}, 403),
        (f"enterprise:{A}", {"kind": "chemicals", "key": f"{A}/Cl2", "set": {"declared": "1"}}, 403),
        (f"enterprise:{B}", {"kind": "chemicals", "key": f"{A}/NH3", "set": {"declared": "1"}}, 404),
        (f"enterprise:{A}", PERMIT, 201),
        (f"enterprise:{B}", PERMIT, 404),
        (f"enterprise:{A}", {**PERMIT, "key": f"{A}/HW-1", "set": {**PERMIT["set"], "enterprise": B}}, 422),
        (f"enterprise:{A}", {"kind": "warnings", "key": "east/W", "set": {}}, 403),
        (f"enterprise:{A}", {**PERMIT, "set": {**PERMIT["set"], "holder": "\ud800"}}, 422),
        (f"enterprise:{A}", {**PERMIT, "set": {**PERMIT["set"], "\ud800": "x"}}, 422),
        ("system", {"kind": "settings", "key": "registry", "set": {"grid": [{"id": "x", "name": "x"}]}}, 422),
    ],
)  # fmt: skip
def test_who_may_edit_what(town: Town, scope: str, change: dict[str, Any], status: int) -> None:
    answer = town.edit(scope, change)
    assert answer.status_code == status, answer.text
    assert town.store.newest() == (3 if status == 201 else 2)


def test_rights_are_judged_by_where_the_enterprise_lies_when_the_edit_is_made(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    editing = RegistryStore.editing

    def raced(self: RegistryStore) -> Any:
        monkeypatch.setattr(RegistryStore, "editing", editing)
        move = Change("enterprise", A, {"cell": "west"})
        town.store.edit([move], who="li", why="moved", now=3, origin="command")
        return editing(self)

    monkeypatch.setattr(RegistryStore, "editing", raced)
    assert town.edit("cell:east", P1).status_code == 404
    assert town.store.newest() == 3


def test_a_nested_area_is_kept_as_text(town: Town) -> None:
    area = {"type": "Polygon", "coordinates": [[[120, 36], [121.5, 36], [121, 37], [120, 36]]]}
    assert town.edit("system", {"kind": "cell", "key": "east", "set": {"area": area}}).status_code == 201
    kept = town.get("cell/east", "system").json()["body"]["area"]
    assert json.loads(kept) == area
    again = town.edit("system", {"kind": "cell", "key": "east", "set": {"area": kept}})
    assert (again.status_code, again.json()) == (200, None)


@pytest.mark.parametrize("deep", [51, 500])
def test_what_is_nested_too_deep_is_a_mistake(town: Town, deep: int) -> None:
    nested: Any = "1"
    for _ in range(deep):
        nested = [nested]
    answer = town.edit("system", {"kind": "enterprise", "key": A, "set": {"units": nested}})
    assert answer.status_code == 422
    assert answer.json()["error"]["mistakes"][0]["problem"] == "is nested over 50 deep"


def test_an_edit_says_why(town: Town) -> None:
    assert town.edit("system", P1, why="  ").status_code == 422


def test_one_change_that_is_not_allowed_stops_the_whole_edit(town: Town) -> None:
    other = {"kind": "point", "key": f"{C}/P1", "set": {"H": 30}}
    assert town.edit("cell:east", P1, other).status_code == 404
    assert town.edit("system", P1, person="").status_code == 403, (
        "a token that speaks for nobody edits nothing"
    )
    assert town.store.newest() == 2


def test_the_description_names_every_call(town: Town) -> None:
    paths = town.client.get("/api/v1/openapi.json").json()["paths"]
    assert {path.removeprefix("/api/v1") for path in paths if "/registry" in path} == {
        *("/registry/history", "/registry/edits", "/registry/{kind}", "/registry/{kind}/{key}"),
    }
