"""Dashboards are well made, reach a Grafana whole, and come with the rights of their readers only."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from grafana_foundation_sdk.cog.runtime import register_panelcfg_variant
from grafana_foundation_sdk.models import bargauge, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import dashboard as model
from sqlalchemy import insert, make_url, text
from typer.testing import CliRunner

from dashboards import access, datasources, provisioning, push
from dashboards.board import Board, Source, course, promql
from dashboards.collection import dashboards, plain
from dashboards.jurisdictions import SYSTEM, Jurisdiction, jurisdictions
from dashboards.push import Organisation, PushFailed, Server
from deploy.dev.services import Postgres
from fenghuo.__main__ import app
from history.influx_setup import SetupError
from ingest.broker import free_port
from registry.database import open_database
from registry.store_tables import records
from tests import clusters
from tests.build import CELLS, PointSpec, code, make_registry
from tests.grafana import ADMIN, PASSWORD, Recorder, grafana
from tests.servers import new_database

for kind in (bargauge, stat, statetimeline, table, timeseries):
    register_panelcfg_variant(kind.variant_config())

DOCS = Path(__file__).parents[1] / "docs" / "dashboards.md"
ALERT_URL = "https://fenghuo.example/api/v1/alerts/{id}"
BOARDS = dashboards(ALERT_URL)
PANELS = [
    pytest.param(board, panel, id=f"{board['uid']}-{panel['id']}")
    for board in BOARDS
    for panel in board["panels"]
]
TYPES = {"timeseries", "stat", "table", "state-timeline", "bargauge"}
"""Kinds of panel that Grafana 9.4 has, and the newest still."""

UIDS = {source.uid for source in Source}
EAST, WEST = Jurisdiction("east", "东区"), Jurisdiction("west", "西区")


def texts(value: Any) -> Iterator[str]:
    """All texts in JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts(one)


# ---- what they are ---------------------------------------------------------------------------------


def test_there_are_eight_and_they_are_always_the_same() -> None:
    assert len({board["uid"] for board in BOARDS}) == len(BOARDS) == 8
    assert all(re.fullmatch(r"fenghuo-[a-z-]{1,32}", board["uid"]) for board in BOARDS)
    assert json.dumps(dashboards(ALERT_URL)) == json.dumps(BOARDS)
    assert json.dumps(dashboards("https://other/{id}")) != json.dumps(BOARDS)


@pytest.mark.parametrize("board", BOARDS, ids=[board["uid"] for board in BOARDS])
def test_a_dashboard_says_what_grafanas_schema_knows(board: dict[str, Any]) -> None:
    """A field that the SDK's models, made from Grafana's schema, do not know would be lost on the way through them."""
    board = json.loads(json.dumps(board))
    assert board["schemaVersion"] == model.Dashboard().schema_version
    known = {"type", "limit", "tags", "matchAny"}  # the schema has no other target of an annotation
    for one in board.get("annotations", {}).get("list", []):
        one["target"] = {key: value for key, value in one["target"].items() if key in known}
    assert plain(model.Dashboard.from_json(board)) == board


@pytest.mark.parametrize("board", BOARDS, ids=[board["uid"] for board in BOARDS])
def test_titles_are_in_both_languages_and_variables_are_there_before_they_are_used(
    board: dict[str, Any],
) -> None:
    both = [(board["title"], board["description"])]
    both += [(panel["title"], panel["description"]) for panel in board["panels"]]
    for title, description in both:
        assert re.fullmatch(r"[^·]*[一-鿿][^·]* · [A-Z][^一-鿿]*", title), title
        assert re.search(r"[一-鿿].*。 .*[a-z]", description), description
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    defined: set[str] = set()
    for one in board.get("templating", {}).get("list", []):
        assert set(re.findall(r"\$\{(\w+):", one["query"])) <= defined
        assert one["name"] not in defined
        defined.add(one["name"])
    rest = {key: value for key, value in board.items() if key != "templating"}
    used = {name for text in texts(rest) for name in re.findall(r"\$\{(\w+)[:}]", text)}
    assert used <= defined
    assert {one["name"] for one in board.get("templating", {}).get("list", []) if one["hide"] == 2} <= used


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_can_be_shown(board: dict[str, Any], panel: dict[str, Any]) -> None:
    assert panel["type"] in TYPES
    assert panel["options"]
    asked = {target["datasource"]["uid"] for target in panel["targets"]}
    assert asked
    assert asked <= UIDS
    assert panel["datasource"]["uid"] == (next(iter(asked)) if len(asked) == 1 else "-- Mixed --")
    refs = [target["refId"] for target in panel["targets"]]
    assert len(refs) == len(set(refs))
    place = panel["gridPos"]
    assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for other in board["panels"]:
        there = other["gridPos"]
        apart = (
            there["x"] >= place["x"] + place["w"]
            or there["x"] + there["w"] <= place["x"]
            or there["y"] >= place["y"] + place["h"]
            or there["y"] + there["h"] <= place["y"]
        )
        assert other is panel or apart
    names = {
        name for target in panel["targets"] for name in re.findall(r'AS "([^"]+)"', target.get("rawSql", ""))
    }
    for override in panel["fieldConfig"]["overrides"]:
        wanted = override["matcher"]["options"]
        if panel["type"] == "table" and wanted not in ("id", "值 · Value", "最近 · Newest"):
            assert wanted in names or wanted in TOLERATED, f"no column {wanted}"


TOLERATED = {"企业 · Enterprise", "状态 · Condition", "答复 · Answer", "I级", "II级", "III级", "IV级"}
"""Looks that several tables share, of columns that not all of them have."""


def test_tiers_have_their_colours_and_rows_lead_to_the_alert() -> None:
    for tier, colour in (("I", "red"), ("II", "orange"), ("III", "yellow"), ("IV", "blue")):
        [fixed] = {
            properties["value"]["fixedColor"]
            for board in BOARDS
            for panel in board["panels"]
            for override in panel["fieldConfig"]["overrides"]
            if override["matcher"]["options"] == f"{tier}级"
            for properties in override["properties"]
        }
        assert fixed == colour
    for board in BOARDS[:-1]:
        assert "https://fenghuo.example/api/v1/alerts/${__data.fields.id}" in set(texts(board))
        if board["uid"] not in ("fenghuo-performance", "fenghuo-data-health"):
            assert [one["iconColor"] for one in board["annotations"]["list"]] == [
                "red",
                "orange",
                "yellow",
                "blue",
            ]


def test_a_variable_is_the_same_on_all_dashboards_and_links_lead_to_one_that_is_there() -> None:
    """The menu brings what is chosen on one dashboard to another by the variable's name."""
    for sources in ({Source.HISTORY, Source.ALERTS}, {Source.ALERTS, Source.SYSTEM}):
        made = dashboards(ALERT_URL, sources)
        kinds: dict[str, set[Any]] = {}
        for board in made:
            for one in board.get("templating", {}).get("list", []):
                kind = (one["multi"], one["includeAll"], one.get("allValue", ""), one["hide"])
                kinds.setdefault(one["name"], set()).add(kind)
        assert not {name for name, found in kinds.items() if len(found) > 1}
        led = {uid for text in texts(made) for uid in re.findall(r"/d/([\w-]+)", text)}
        assert led == {"fenghuo-enterprise"}
        assert led <= {board["uid"] for board in made}
        given = {name for text in texts(made) for name in re.findall(r"[?&]var-(\w+)=", text)}
        assert given <= {name for name, [kind] in kinds.items() if not kind[0]}, "one value for several"


def test_a_panel_has_all_its_queries() -> None:
    board = Board("many", "多 · Many", "多。 Many.", set(Source), span="1h", refresh="5s")
    board.add(course(), "多 · Many", "多。 Many.", *(promql(f"x{n}", "x") for n in range(12)))
    [panel] = plain(board.build())["panels"]
    assert [(target["refId"], target["expr"]) for target in panel["targets"]] == [
        (letter, f"x{n}") for n, letter in enumerate("ABCDEFGHIJKL")
    ]


def test_what_an_organisation_has_no_source_for_is_left_out() -> None:
    for sources in ({Source.HISTORY, Source.ALERTS}, {Source.ALERTS, Source.SYSTEM}, {Source.ALERTS}):
        made = dashboards(ALERT_URL, sources)
        assert made
        asked = {
            target["datasource"]["uid"]
            for board in made
            for panel in board["panels"]
            for target in panel["targets"]
        }
        assert asked == {source.uid for source in sources}
    assert [board["uid"] for board in dashboards(ALERT_URL, {Source.SYSTEM})] == ["fenghuo-system"]


# ---- as files --------------------------------------------------------------------------------------


def test_all_that_the_files_want_of_grafanas_environment_is_documented(tmp_path: Path) -> None:
    wanted = {
        name
        for file in provisioning.write(tmp_path, ALERT_URL)
        for name in re.findall(r"\$(FENGHUO_\w+)", file.read_text("utf-8"))
    }
    assert len(wanted) > 10
    assert wanted == set(re.findall(r"`(FENGHUO_(?!GRAFANA)\w+)`", DOCS.read_text("utf-8")))


def test_files_for_provisioning_have_no_secret(tmp_path: Path) -> None:
    old, others = tmp_path / "dashboards" / "fenghuo-old.json", tmp_path / "dashboards" / "mine.json"
    old.parent.mkdir()
    for file in (old, others):
        file.write_text("{}")
    said = CliRunner().invoke(app, ["dashboards", "write", str(tmp_path), "--alert-url", ALERT_URL])
    assert said.exit_code == 0, said.output
    assert not old.exists()
    assert others.exists()
    files = {file.stem: json.loads(file.read_text("utf-8")) for file in old.parent.glob("fenghuo-*.json")}
    assert files == {board["uid"]: board for board in BOARDS}
    sources = yaml.safe_load((tmp_path / "provisioning/datasources/fenghuo.yaml").read_text("utf-8"))
    assert {one["uid"] for one in sources["datasources"]} == UIDS
    for one in sources["datasources"]:
        assert all(re.fullmatch(r"\$FENGHUO_[A-Z_]+", value) for value in one["secureJsonData"].values())
        assert one["url"].startswith("$FENGHUO_")
    [provider] = yaml.safe_load((tmp_path / "provisioning/dashboards/fenghuo.yaml").read_text("utf-8"))[
        "providers"
    ]
    assert provider["folderUid"] == "fenghuo"
    again = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    provisioning.write(tmp_path, ALERT_URL)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == again
    refused = CliRunner().invoke(app, ["dashboards", "write", str(tmp_path), "--alert-url", "https://x"])
    assert refused.exit_code == 2
    assert "expected one {id}" in refused.output


# ---- into a Grafana --------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[Server, Recorder]]:
    with grafana() as (url, recorder):
        yield Server(url, ADMIN, PASSWORD), recorder


def wanted(whose: Jurisdiction, token: str = "its-token") -> Organisation:
    sources = [
        datasources.alerts("db:5432", "fenghuo", f"role-{whose.id}", f"password-{whose.id}", "require")
    ]
    if whose is SYSTEM:
        sources.append(datasources.system("http://prometheus:9090"))
    else:
        sources.append(datasources.history("http://influx:8086", "fenghuo", f"fenghuo-{whose.id}", token))
    return Organisation(whose, sources, dashboards(ALERT_URL, [one.source for one in sources]))


def test_the_first_push_makes_all_and_the_second_changes_nothing(server: tuple[Server, Recorder]) -> None:
    to, has = server
    done = push.push(to, [wanted(EAST), wanted(WEST), wanted(SYSTEM)])
    assert (done["changed"], done["removed"]) == (0, 0)
    east, west, system = has.org("(east)"), has.org("(west)"), has.org("(system)")
    assert [len(org.boards) for org in (east, west, system)] == [7, 7, 5]
    assert east.sources["fenghuo-history"]["jsonData"]["defaultBucket"] == "fenghuo-east"
    assert west.secrets["fenghuo-alerts"] == {"password": "password-west"}
    assert "fenghuo-system" not in east.sources
    assert "fenghuo-history" not in system.sources
    assert all(one["meta"]["folderUid"] == "fenghuo" for org in (east, system) for one in org.boards.values())
    assert has.orgs[1].boards == has.orgs[1].sources == {}, "into the organisation of the administrator"
    before, has.asked[:] = has.state(), []
    for version in ("9.4.7", "10.4.1", "12.1.0"):
        has.version = version
        assert not push.push(to, [wanted(EAST), wanted(WEST), wanted(SYSTEM)])
        assert has.changes() == []
        assert has.state() == before


def test_what_is_otherwise_is_mended_and_what_is_of_others_is_left(server: tuple[Server, Recorder]) -> None:
    to, has = server
    push.push(to, [wanted(EAST), wanted(WEST)])
    east = has.org("(east)")
    gone = {**BOARDS[0], "uid": "fenghuo-gone"}
    east.boards["fenghuo-gone"] = {
        "dashboard": {**gone, "id": 90, "version": 1},
        "meta": {"folderUid": "fenghuo"},
    }
    for uid, tags in (("copy-of-mine", ["fenghuo"]), ("fenghuo-untagged", []), ("theirs", ["theirs"])):
        east.boards[uid] = {"dashboard": {**gone, "uid": uid, "tags": tags}, "meta": {"folderUid": ""}}
    east.sources["theirs"] = {"uid": "theirs", "name": "theirs"}
    east.sources["fenghuo-system"] = {"uid": "fenghuo-system", "name": "metrics of all"}
    east.boards["fenghuo-mine"]["dashboard"]["title"] = "changed by hand"
    east.boards["fenghuo-enterprise"]["meta"]["folderUid"] = ""
    del east.boards["fenghuo-pipeline"]
    east.name = "烽火 Fenghuo · 旧名 (east)"
    others = {uid: east.boards[uid] for uid in ("copy-of-mine", "fenghuo-untagged", "theirs")}
    has.asked.clear()
    done = push.push(to, [wanted(EAST, "another-token"), wanted(WEST)])
    assert done == {"made": 1, "changed": 4, "removed": 2}
    assert east.name == EAST.organisation
    assert east.secrets["fenghuo-history"] == {"token": "another-token"}
    assert set(east.sources) == {"fenghuo-alerts", "fenghuo-history", "theirs"}
    assert {uid: one for uid, one in east.boards.items() if uid in others} == others
    assert {uid for uid in east.boards if uid not in others} == {board["uid"] for board in BOARDS[:-1]}
    assert {org for _, path, org in has.changes() if not path.startswith("/orgs")} == {east.id}
    assert not push.push(to, [wanted(EAST, "another-token"), wanted(WEST)])


def test_another_administrator_joins_and_an_alike_organisation_is_left(
    server: tuple[Server, Recorder],
) -> None:
    to, has = server
    push.push(to, [wanted(EAST)])
    has.org("(east)").users = {2: "Admin"}
    alike = has.make_org(None, {"name": "East office (east)"})["orgId"]
    assert push.push(to, [wanted(EAST)]) == {"changed": 1}
    assert has.org("· 东区 (east)").users == {2: "Admin", 1: "Admin"}
    assert has.orgs[int(alike)].boards == {}


@pytest.mark.parametrize("name", ["Admin", "admin@grafana.example", "ADMIN@grafana.example"])
def test_the_administrator_is_known_by_login_or_email_and_made_one_again(
    server: tuple[Server, Recorder], name: str
) -> None:
    to, has = replace(server[0], user=name), server[1]
    push.push(to, [wanted(EAST)])
    assert not push.push(to, [wanted(EAST)])
    has.org("(east)").users[1] = "Viewer"
    assert push.push(to, [wanted(EAST)]) == {"changed": 1}
    assert has.org("(east)").users == {1: "Admin"}


def test_a_refusal_says_in_a_line_what_to_mend(server: tuple[Server, Recorder]) -> None:
    to, has = server
    away = Server(f"http://127.0.0.1:{free_port()}", ADMIN, PASSWORD)
    for asked, said in (
        (Server(to.url, ADMIN, "wrong"), r"grafana\.password_file: .* does not let 'admin' in"),
        (away, r"grafana\.url: .*: is that the place, and does Grafana run there\?"),
    ):
        with pytest.raises(PushFailed, match=said) as refused:
            push.push(asked, [wanted(EAST)])
        assert "\n" not in str(refused.value)
        assert PASSWORD not in str(refused.value)
    has.version = "9.3.16"
    with pytest.raises(PushFailed, match=r"Grafana 9\.3\.16; expected 9\.4 or newer"):
        push.push(to, [wanted(EAST)])
    has.version = "12.1.0-pre"
    push.push(to, [wanted(EAST)])
    has.org("(east)").folders.clear()
    has.org("(east)").sources["fenghuo-alerts"]["url"] = "elsewhere"
    has.refuse = (403, "PUT", "data source is read-only")
    with pytest.raises(PushFailed, match=r"grafana\.user: .*data source is read-only"):
        push.push(to, [wanted(EAST)])


# ---- who may read ----------------------------------------------------------------------------------


def test_a_jurisdiction_is_a_cell_that_has_a_bucket() -> None:
    registry = make_registry(
        {code(1): [PointSpec(id="A")], code(2): [PointSpec(id="A")]}, cell_of={code(2): "city"}
    )
    assert [one.cell for one in jurisdictions(registry, "district")] == ["city", "district-1"]
    assert [one.cell for one in jurisdictions(registry, "village")] == ["city", "village-1"]
    with pytest.raises(SetupError, match="the grid has the levels city, district"):
        jurisdictions(registry, "province")
    assert {cell.id for cell in CELLS} >= {"city", "district-1"}


def test_roles_have_names_of_their_own_in_a_server_and_none_is_too_long() -> None:
    names = [one.role(base) for base in ("fenghuo", "other") for one in (EAST, WEST, SYSTEM)]
    names += [Jurisdiction("区" * 63 + end, "").role("fenghuo") for end in "甲乙"]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= 63 for name in names)
    assert names[0] == "fenghuo_east_grafana"


@pytest.mark.postgresql
def test_grants_are_repeated_without_effect_and_taken_back(postgres: Postgres, tmp_path: Path) -> None:
    with new_database(postgres, clusters.upgrade) as url:
        engine = open_database(url)
        folder, name = tmp_path / "grafana", str(engine.url.database)
        district = Jurisdiction("东'海\"区", "东海区")

        def sees(password: str) -> set[str]:
            address = make_url(url).set(
                drivername="postgresql", username=district.role(name), password=password
            )
            with psycopg.connect(address.render_as_string(hide_password=False)) as role:
                return {cell for (cell,) in role.execute("SELECT id FROM fenghuo_views.cells")}

        with engine.begin() as connection:
            for cell, parent in (
                ("city", ""),
                (district.cell, "city"),
                ("town", district.cell),
                ("other", "city"),
            ):
                body = json.dumps({"id": cell, "name": cell, "level": "any", "parent": parent})
                connection.execute(insert(records).values(kind="cell", key=cell, enterprise="", body=body))
        assert access.grant(engine, [district, SYSTEM], folder) == [district.role(name), SYSTEM.role(name)]
        file = district.password_file(folder)
        first = file.read_text("utf-8")
        assert file.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        assert sees(first) == {district.cell, "town"}
        assert access.grant(engine, [district, SYSTEM], folder) == []
        assert file.read_text("utf-8") == first

        file.unlink()  # the password is lost
        assert access.grant(engine, [district, SYSTEM], folder) == [district.role(name)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            sees(first)
        assert sees(file.read_text("utf-8")) == {district.cell, "town"}
        assert access.grant(engine, [SYSTEM], folder) == []  # it is no jurisdiction any more
        assert sees(file.read_text("utf-8")) == set()
        engine.dispose()


@pytest.mark.postgresql
def test_a_role_is_made_once_whatever_the_server_says_of_passwords(
    postgres: Postgres, tmp_path: Path
) -> None:
    with new_database(postgres, clusters.upgrade) as url:
        engine = open_database(url)
        name = str(engine.url.database)
        role = EAST.role(name)

        def one(query: str) -> Any:
            with engine.connect() as connection:
                return connection.execute(text(query), {"role": role}).scalar_one()

        try:
            postgres.execute(f"ALTER DATABASE \"{name}\" SET password_encryption = 'md5'")
            access.grant(engine, [EAST], tmp_path)
            assert one("SELECT rolpassword FROM pg_authid WHERE rolname = :role").startswith("SCRAM-SHA-256$")
            assert one("SELECT rolconnlimit FROM pg_roles WHERE rolname = :role") > datasources.OPEN
            password = EAST.password_file(tmp_path).read_text("utf-8")
            marked = one("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = :role")
            assert marked
            assert password not in marked
            postgres.execute(f'ALTER ROLE "{role}" NOLOGIN')  # the administrator shuts it out for a while
            assert access.grant(engine, [EAST], tmp_path) == []
            assert not one("SELECT rolcanlogin FROM pg_roles WHERE rolname = :role")
            EAST.password_file(tmp_path).write_text("too-short")
            with pytest.raises(access.AccessError, match=r"less than 32 characters: remove the file"):
                access.grant(engine, [EAST], tmp_path)
        finally:
            postgres.execute(f'ALTER DATABASE "{name}" RESET password_encryption')
            engine.dispose()


@pytest.mark.postgresql
def test_what_only_the_servers_administrator_can_mend_is_said(postgres: Postgres, tmp_path: Path) -> None:
    postgres.execute("CREATE ROLE owner_of_one LOGIN CREATEROLE PASSWORD 'test-only'")
    postgres.execute("CREATE DATABASE of_another")
    postgres.execute("GRANT ALL ON DATABASE of_another TO owner_of_one")
    administrator = open_database(make_url(postgres.url("of_another")))
    engine = open_database(
        make_url(postgres.url("of_another")).set(username="owner_of_one", password="test-only")
    )
    try:
        clusters.upgrade(administrator)
        with administrator.begin() as connection:
            connection.execute(text("GRANT ALL ON ALL TABLES IN SCHEMA public TO owner_of_one"))
            connection.execute(text("GRANT CREATE ON SCHEMA public TO PUBLIC"))  # as up to PostgreSQL 14
        access.grant(engine, [EAST], tmp_path)
        found = access.concerns(engine, [EAST])
        said = [re.search(r"(REVOKE|DO \$\$).*", one)[0] for one in found]
        assert said[:2] == [
            'REVOKE TEMPORARY ON DATABASE "of_another" FROM PUBLIC',
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        ]
        with administrator.begin() as connection:
            for statement in said:
                connection.exec_driver_sql(statement.replace("%", "%%"))
        with engine.begin() as connection:  # as a desk
            connection.execute(text("SELECT pg_advisory_xact_lock(1, 0)"))
        assert access.concerns(engine, [EAST] * 10) == []
        [many] = access.concerns(engine, [EAST] * 11)
        assert "11 roles may have 5 connections each, of 100 (max_connections)" in many
        assert "set it to 105 or more" in many
    finally:
        engine.dispose()
        administrator.dispose()


@pytest.mark.postgresql
def test_the_owner_takes_from_all_what_a_reader_is_not_to_have(postgres: Postgres, tmp_path: Path) -> None:
    with new_database(postgres, clusters.upgrade) as url:
        engine = open_database(url)
        try:
            with engine.begin() as connection:
                connection.execute(text("GRANT CREATE ON SCHEMA public TO PUBLIC"))
                connection.execute(text(f'GRANT TEMPORARY ON DATABASE "{engine.url.database}" TO PUBLIC'))
                connection.execute(text("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC"))
            assert len(access.concerns(engine, [EAST])) == 3
            access.grant(engine, [EAST], tmp_path)
            assert access.concerns(engine, [EAST]) == []
        finally:
            engine.dispose()


@pytest.mark.postgresql
def test_who_may_not_make_roles_is_told_and_tables_must_be_there(postgres: Postgres, tmp_path: Path) -> None:
    postgres.execute("CREATE ROLE plain LOGIN PASSWORD 'test-only'")
    postgres.execute("CREATE DATABASE of_plain OWNER plain")
    address = make_url(postgres.url("of_plain")).set(username="plain", password="test-only")
    engine = open_database(address)
    try:
        with pytest.raises(
            access.AccessError, match=r'relation "records" does not exist: run `fenghuo prepare'
        ):
            access.grant(engine, [EAST], tmp_path)
        clusters.upgrade(engine)
        with pytest.raises(access.AccessError, match=r'ALTER ROLE "plain" CREATEROLE'):
            access.grant(engine, [EAST], tmp_path)
        assert not EAST.password_file(tmp_path).exists(), "of a password that no role has"
        postgres.execute("ALTER ROLE plain CREATEROLE")
        assert access.grant(engine, [EAST], tmp_path) == ["of_plain_east_grafana"]
        postgres.execute("ALTER ROLE plain NOCREATEROLE")
        assert access.grant(engine, [EAST], tmp_path) == []  # what is there needs no such right
    finally:
        engine.dispose()


# ---- the command -----------------------------------------------------------------------------------


@pytest.mark.postgresql
def test_from_settings_to_a_grafana(
    postgres: Postgres, server: tuple[Server, Recorder], tmp_path: Path
) -> None:
    to, has = server
    with new_database(postgres, clusters.upgrade) as url:
        database = clusters.database_of(url, tmp_path)
        (tmp_path / "grafana.password").write_text(f"{PASSWORD}\n")
        content: dict[str, Any] = {
            "data": "data",
            "broker": {"url": "mqtt://127.0.0.1:1883"},
            "cluster": {
                "kafka": "127.0.0.1:9092",
                "database": {"url": database.url, "password_file": "password"},
            },
        }
        file = tmp_path / "cluster.yaml"

        def run(verb: str, **more: Any) -> tuple[int, str]:
            file.write_text(yaml.safe_dump(content | more), "utf-8")
            said = CliRunner().invoke(app, ["dashboards", verb, str(file)])
            assert said.exception is None or isinstance(said.exception, SystemExit)
            return said.exit_code, " ".join(said.output.split())

        shown = {"url": to.url, "alert_url": ALERT_URL, "password_file": "grafana.password"}
        shown["prometheus_url"] = "http://prometheus.example:9090"
        whole = {"grafana": shown, "history": {"influx": {"url": "http://influx.example:8086"}}}
        assert run("push") == (2, f"{file}: grafana: it is missing; see docs/dashboards.md")
        assert "history.influx: it is missing" in run("grant", grafana=shown)[1]
        assert run("grant", **whole)[0] == 1
        assert "no registry is in force yet" in run("grant", **whole)[1]

        from fenghuo import settings

        clusters.publish(settings.load(file), make_registry([PointSpec(id="A")]))
        status, said = run("push", **whole)
        assert status == 1
        assert (
            "postgres-district-1.password is not there: `fenghuo dashboards grant SETTINGS` makes it" in said
        )
        status, said = run("grant", **whole)
        assert (status, said.endswith("2 roles see what they should")) == (0, True)
        status, said = run("push", **whole)
        assert "influx-district-1.token is not there: `fenghuo history setup SETTINGS` makes it" in said
        (tmp_path / "data/grafana/influx-district-1.token").write_text("a-token\n")
        status, said = run("push", **whole)
        assert (status, said) == (0, f"2 organisations in {to.url}: 20 made, 0 changed, 0 removed")
        assert run("push", **whole) == (0, f"2 organisations in {to.url}: 0 made, 0 changed, 0 removed")
        district = has.org("(district-1)")
        secrets = (tmp_path / "data/grafana/postgres-district-1.password").read_text("utf-8")
        assert district.secrets == {
            "fenghuo-alerts": {"password": secrets},
            "fenghuo-history": {"token": "a-token"},
        }
        assert district.sources["fenghuo-history"]["jsonData"]["defaultBucket"] == "fenghuo-district-1"
        assert "fenghuo-system" in has.org("(system)").sources
        (tmp_path / "grafana.password").write_text("")
        assert run("push", **whole)[0] == 2
