"""Every query of every dashboard, run on real data sources as Grafana would: it gives rows, and only a reader's own."""

import itertools
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from prometheus_client import CollectorRegistry, start_http_server
from psycopg import sql
from sqlalchemy import text

from alerting.channels import Outcome
from alerting.sender import Counts
from console.metrics import Requests
from console.metrics import Scrape as ApiScrape
from dashboards.access import READABLE, SCHEMA
from dashboards.board import Source
from dashboards.collection import dashboards
from deploy.dev.services import InfluxDb, Postgres, Server, ServerMissing
from fenghuo.collect_status import CollectStatus, Metrics, SlotStatus
from fenghuo.desk import DeskStatus
from fenghuo.desk import Scrape as DeskScrape
from fenghuo.evaluate import Scrape as EvaluateScrape
from fenghuo.status import Latency
from history.influx_access import Access
from registry.clock import MINUTE
from registry.database import open_database
from streams.finding import finding_id
from tests import clusters
from tests.grafana_world import (
    BARE,
    CHEMICALS,
    GAS,
    MINE,
    NEIGHBOUR,
    POINTS,
    SECRETS,
    STORIES,
    World,
    build,
    told_of,
)
from tests.servers import lacking, new_database, new_organisation, running

pytestmark = [pytest.mark.influxdb, pytest.mark.postgresql]

JURISDICTION = {Source.HISTORY, Source.ALERTS}
SYSTEM = {Source.ALERTS, Source.SYSTEM}
ALERT_URL = "https://fenghuo.example/{id}"
ALERTS = "SELECT id, missed, missed_since, confirm_due FROM fenghuo_views.alerts WHERE closed_us = 0"


# ---- a real Prometheus, and what it hears ----------------------------------------------------------


class Prometheus(Server):
    """Prometheus that asks one target five times a second."""

    NAME = "prometheus"

    def __init__(self, folder: Path, target: int) -> None:
        super().__init__(folder)
        self._target = target

    @property
    def url(self) -> str:
        return f"http://{self.where}"

    def prepared(self) -> list[str]:
        program = shutil.which("prometheus")
        if program is None:
            raise ServerMissing("Prometheus is missing; to get it: apt-get install prometheus")
        targets = [{"targets": [f"127.0.0.1:{self._target}"]}]
        asked = {"job_name": "fenghuo", "static_configs": targets}
        content = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [asked],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(content), "utf-8")
        return [
            program,
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address={self.where}",
        ]

    def answers(self) -> bool:
        """It has heard often enough to tell a rate."""
        try:
            said = httpx.get(
                f"{self.url}/api/v1/query", params={"query": "count_over_time(up[1m])"}, timeout=5
            )
        except httpx.TransportError:
            return False
        found = said.json()["data"]["result"] if said.status_code == httpx.codes.OK else []
        return bool(found) and int(found[0]["value"][1]) >= 4


def collectors(world: World) -> CollectorRegistry:
    """What all roles of a cluster say of themselves, by their own collectors."""
    found = CollectorRegistry()
    requests = Requests()
    requests.answered["/api/v1/alerts", "GET", 200] = 7
    sender = Counts(outcomes={("phone", Outcome.DELIVERED): 3})
    found.register(ApiScrape(world.database, lambda: None, requests, sender, standstill=lambda: ""))
    collect = Metrics()
    collect.newest = CollectStatus(
        pid=1,
        number=1,
        name="a",
        owner="a",
        time=world.now,
        started=world.now,
        version="v",
        edition=1,
        slots={0: SlotStatus(term=1, version="v", connected=True, listening=True, undelivered=0, problem="")},
        taking_over=[],
        connected=True,
        listening=True,
        messages=10,
        readings=2000,
        rounds=10,
        dead={"json": 2},
        dropped={},
        undelivered=0,
        kafka="",
        database="",
        untold=0,
    )
    found.register(collect)
    counts = dict.fromkeys(
        (
            "reports",
            "findings",
            "rounds",
            "raised",
            "ignored",
            "gaps",
            "late",
            "unread",
            "refused",
            "waiting",
        ),
        3,
    )
    latency = Latency(count=5, p50=12.0, p99=80.0, worst=90.0)
    desk = DeskStatus(
        pid=1,
        number=1,
        name="1",
        time=world.now,
        started=world.now,
        version="v",
        partitions={0: 4},
        desk_busy=0,
        problem="",
        alert_ms=latency,
        round_ms=latency,
        **counts,
    )
    found.register(DeskScrape(lambda: desk))
    shard = SimpleNamespace(offset=1, shard=SimpleNamespace(counts={"readings": 2000}, version="v"))
    points = SimpleNamespace(shards={0: shard}, sought=0, checkpoints=4, checkpoint_ms=3.0, recovered_ms=9.0)
    compound = SimpleNamespace(shards={}, sought=0, checkpoints=0)
    found.register(EvaluateScrape(SimpleNamespace(points=points, compound=compound, rebalances=1)))
    return found


# ---- Grafana's part: variables, macros, and the queries themselves ---------------------------------


@dataclass(frozen=True)
class Every:
    """All of a variable that says itself what stands for all."""

    text: str


Chosen: TypeAlias = Mapping[str, list[str] | Every]
"""What is chosen of each variable."""


@dataclass(frozen=True)
class Reader:
    """The data sources of one organisation, with its own credentials."""

    role: psycopg.Connection[Any]
    influx: Access | None
    bucket: str
    prometheus: str
    now: datetime

    def rows(self, target: Mapping[str, Any], chosen: Chosen, span: timedelta) -> list[dict[str, Any]]:
        """What a query gives, a dict for each row; of a Flux query or of Prometheus, for each value."""
        uid = target["datasource"]["uid"]
        if uid == Source.ALERTS.uid:
            return self._sql(target["rawSql"], chosen, span)
        if uid == Source.HISTORY.uid:
            return self._flux(target["query"], chosen, span)
        assert uid == Source.SYSTEM.uid
        return self._promql(target["expr"], span)

    def _sql(self, text: str, chosen: Chosen, span: timedelta) -> list[dict[str, Any]]:
        begin, end = f"'{iso(self.now - span)}'", f"'{iso(self.now)}'"
        text = replaced(text, chosen)
        for name, time in (("From", self.now - span), ("To", self.now)):
            text = text.replace(f"$__unixEpochNano{name}()", f"{round(time.timestamp() * 1e6)}000")
        text = text.replace("$__timeFrom()", begin).replace("$__timeTo()", end)
        text = text.replace("$__interval", interval(span))
        assert "$" not in text, text
        with self.role.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(text).fetchall()

    def _flux(self, text: str, chosen: Chosen, span: timedelta) -> list[dict[str, Any]]:
        assert self.influx is not None
        values = {
            "timeRangeStart": iso(self.now - span),
            "timeRangeStop": iso(self.now),
            "windowPeriod": interval(span),
            "defaultBucket": json.dumps(self.bucket),
        }
        text = re.sub(r"\bv\.(\w+)", lambda found: values[found[1]], replaced(text, chosen))
        with self.influx.client(60) as client:
            tables = client.query_api().query(text)
        return [record.values for table in tables for record in table.records]

    def _promql(self, text: str, span: timedelta) -> list[dict[str, Any]]:
        text = text.replace("$__rate_interval", "10s")
        assert "$" not in text, text
        asked = {
            "query": text,
            "start": self.now.timestamp(),
            "end": datetime.now(UTC).timestamp() + 1,
            "step": 1,
        }
        said = httpx.get(f"{self.prometheus}/api/v1/query_range", params=asked, timeout=10).json()
        assert said["status"] == "success", said
        return [{"metric": one["metric"], "value": one["values"][-1][1]} for one in said["data"]["result"]]


def replaced(text: str, chosen: Chosen) -> str:
    """With the values of the variables, as Grafana formats them: what stands for all, not at all."""

    def formatted(found: re.Match[str]) -> str:
        values = chosen[found[1]]
        if isinstance(values, Every):
            return values.text
        match found[2]:
            case "sqlstring":
                return ",".join("'" + value.replace("'", "''") + "'" for value in values)
            case "regex":
                escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value) for value in values]
                return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
            case "raw":
                return ",".join(values)
            case other:
                raise AssertionError(f"no format {other!r} of ${found[1]}")

    return re.sub(r"\$\{(\w+):(\w+)\}", formatted, text)


def iso(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def interval(span: timedelta) -> str:
    """That of a chart of 500 pixels."""
    return f"{max(1, int(span.total_seconds() / 500))}s"


def span_of(dashboard: Mapping[str, Any]) -> timedelta:
    number, unit = re.fullmatch(r"now-(\d+)([hd])", dashboard["time"]["from"]).groups()
    return timedelta(**{{"h": "hours", "d": "days"}[unit]: int(number)})


def choices(
    dashboard: Mapping[str, Any], reader: Reader, given: Chosen | None = None
) -> dict[str, list[str] | Every]:
    """What is chosen when the dashboard is opened: the first of each variable, or all; but what is given is that."""
    chosen: dict[str, list[str] | Every] = {}
    for one in choosing(dashboard):
        target = {"datasource": one["datasource"], "rawSql": one["query"]}
        found = reader.rows(target, chosen, span_of(dashboard))
        texts = [str(next(iter(row.values()))) for row in found]
        assert len(set(texts)) == len(texts), f"of {one['name']} Grafana leaves out what has the same text"
        values = [str(row.get("__value", text)) for row, text in zip(found, texts, strict=True)]
        if given and one["name"] in given:
            chosen[one["name"]] = given[one["name"]]
        elif one.get("allValue"):
            chosen[one["name"]] = Every(one["allValue"])
        else:
            chosen[one["name"]] = values if one["includeAll"] else values[:1] or [""]
    return chosen


def shown(panel: Mapping[str, Any], target: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """That the rows are what the panel can show, and say something."""
    assert rows, "no rows"
    if target["datasource"]["uid"] == Source.ALERTS.uid:
        assert any(value not in (None, 0, "") for row in rows for value in list(row.values())), "only zeros"
        if target["format"] == "time_series":
            times = [row["time"] for row in rows]
            assert times == sorted(times)
            assert all(time.tzinfo for time in times)
            rest = [value for row in rows for key, value in row.items() if key not in ("time", "metric")]
            assert all(isinstance(value, int | float) or value is None for value in rest), rest[:5]
            assert any(rest), "only zeros"
        elif panel["type"] in ("stat", "bargauge"):
            assert len(rows) == 1
            assert all(value for row in rows for value in row.values()), f"a zero in {rows}"
    if target["datasource"]["uid"] == Source.HISTORY.uid and panel["type"] != "table":
        assert {"_time", "_value", "_field"} <= set(rows[0])
        assert not set(rows[0]) - {"_time", "_value", "_field", "result", "table"}, (
            "labels would be in the names"
        )


# ---- the tests -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(
    postgres: Postgres, influxdb: InfluxDb, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with new_database(postgres, clusters.upgrade) as url:
        database = open_database(url)
        influx = Access(influxdb.url, new_organisation(influxdb), influxdb.token)
        yield build(database, influx, tmp_path_factory.mktemp("world"))
        database.dispose()


@pytest.fixture(scope="module")
def prometheus(world: World) -> Iterator[str]:
    server, thread = start_http_server(0, "127.0.0.1", collectors(world))
    with running(lambda folder: Prometheus(folder, server.server_port)) as asked:
        yield asked.url
    server.shutdown()
    thread.join()
    server.server_close()


Read = Callable[[str], Reader]


@pytest.fixture(scope="module")
def read(world: World) -> Iterator[Read]:
    """A reader of each jurisdiction, by its id, without metrics."""
    opened: dict[str, Reader] = {}

    def reader(id: str) -> Reader:
        if id not in opened:
            whose = world.whom[id]
            influx = None
            if whose.cell:
                token = whose.token_file(world.secrets).read_text("utf-8")
                influx = replace(world.influx, token=token)
            url = world.database.url
            role = psycopg.connect(
                host=url.host,
                port=url.port,
                dbname=url.database,
                user=whose.role(str(url.database)),
                password=whose.password_file(world.secrets).read_text("utf-8"),
                autocommit=True,
            )
            now = datetime.fromtimestamp(world.now / 1e6, UTC)
            opened[id] = Reader(role, influx, world.influx.bucket(whose.cell), "", now)
        return opened[id]

    yield reader
    for one in opened.values():
        one.role.close()


def choosing(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its variables."""
    found: list[dict[str, Any]] = dashboard.get("templating", {}).get("list", [])
    return found


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its panels, and its marks as if each were one."""
    marks = dashboard.get("annotations", {}).get("list", [])
    as_panels = [
        {**one, "title": one["name"], "type": "table", "targets": [one | one["target"]]} for one in marks
    ]
    return [*dashboard["panels"], *as_panels]


def panel_of(uid: str, title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A dashboard of a jurisdiction, and the panel that begins with this title."""
    [dashboard] = [one for one in dashboards(ALERT_URL, JURISDICTION) if one["uid"] == f"fenghuo-{uid}"]
    [panel] = [one for one in dashboard["panels"] if one["title"].endswith(title)]
    return dashboard, panel


def rows_of(reader: Reader, uid: str, title: str, given: Chosen | None = None) -> list[dict[str, Any]]:
    """What the first query of a panel gives."""
    dashboard, panel = panel_of(uid, title)
    chosen = choices(dashboard, reader, given)
    return reader.rows(panel["targets"][0], chosen, span_of(dashboard))


@pytest.mark.parametrize("whose", ["donghai", "system"])
def test_every_query_of_every_dashboard_gives_rows(
    whose: str, world: World, read: Read, request: pytest.FixtureRequest
) -> None:
    reader = read(whose)
    sources = JURISDICTION
    if whose == "system":
        sources, reader = SYSTEM, replace(reader, prometheus=request.getfixturevalue("prometheus"))
    faults, count = [], 0
    for dashboard in dashboards(ALERT_URL, sources):
        chosen, span = choices(dashboard, reader), span_of(dashboard)
        assert all(chosen.values()), f"nothing to choose: {chosen}"
        for panel in panels(dashboard):
            found = {}
            for target in panel["targets"]:
                count += 1
                try:
                    found[target["datasource"]["uid"]] = rows = reader.rows(target, chosen, span)
                    shown(panel, target, rows)
                except (psycopg.Error, ApiException, AssertionError) as error:
                    faults.append(f"{dashboard['uid']}, {panel['title']}: {type(error).__name__} {error}")
            if panel.get("transformations"):
                common = [{row["point"] for row in rows} for rows in found.values()]
                assert set.intersection(*common), f"{panel['title']}: nothing in common"
    assert not faults, "\n".join(faults)
    assert count >= (20 if whose == "system" else 60)


@pytest.mark.parametrize(
    ("whose", "given"),
    [("donghai", {"enterprise": [BARE], "enterprises": [BARE]}), ("nanshan", {}), ("nanshan", {"cell": []})],
    ids=["hardly an instrument", "no enterprise", "nothing chosen"],
)
def test_where_there_is_nothing_to_choose_every_query_still_works(
    whose: str, given: Chosen, read: Read
) -> None:
    reader, count = read(whose), 0
    for dashboard in dashboards(ALERT_URL, JURISDICTION):
        chosen = choices(dashboard, reader, given)
        for panel in panels(dashboard):
            for target in panel["targets"]:
                count += 1
                try:
                    reader.rows(target, chosen, span_of(dashboard))
                except (psycopg.Error, ApiException) as error:
                    pytest.fail(f"{dashboard['uid']}, {panel['title']}: {error}")
    assert count >= 60


def test_a_missed_deadline_is_overdue_until_it_is_made_good(world: World, read: Read) -> None:
    """The desk has turned just now: no deadline of an alert itself is in the past."""
    reader, minutes = read("donghai"), timedelta(minutes=1)
    asked = {"datasource": {"uid": Source.ALERTS.uid}, "rawSql": ALERTS}
    found = {row["id"]: row for row in reader.rows(asked, {}, timedelta(1))}
    assert all(row["confirm_due"] is None or row["confirm_due"] > reader.now for row in found.values())

    def missed(alert: str) -> tuple[str, float] | None:
        row = found[alert]
        return row["missed"] and (row["missed"], (row["missed_since"] - reader.now) / minutes)

    first, second = STORIES[GAS]
    assert missed(finding_id("limit.high", GAS, first, world.now - 10 * MINUTE)) == ("confirm_due", -7)
    assert missed(finding_id("range", GAS, first, world.now - 20 * MINUTE)) is None, "it has two hours"
    assert missed(finding_id("rate", GAS, second, world.now - 40 * MINUTE)) is None, "it was taken over"
    assert missed(told_of("LATE", world.now)) == ("action_due", -4)
    assert missed(told_of("ACTED", world.now)) is None
    assert missed(told_of("LASTING", world.now)) == ("return_due", -5)
    assert missed(told_of("OVER", world.now)) == ("confirm_due", -2), "but nobody has said that they know"
    assert missed(told_of("WORSE", world.now)) is None, "people were called anew"
    overdue = {id for id, row in found.items() if row["missed"]}
    [counted] = rows_of(reader, "duty-officer", "To be done")
    assert counted["逾期 · Overdue"] == len(overdue)
    listed = rows_of(reader, "duty-officer", "Overdue")
    assert {row["id"] for row in listed} == overdue
    assert all(row["剩余 · Left"] < 0 for row in listed)
    left = {row["id"]: row["剩余 · Left"] for row in rows_of(reader, "duty-officer", "Open alerts")}
    assert {id for id, seconds in left.items() if seconds is not None and seconds < 0} == overdue


def test_a_deadline_that_no_desk_has_come_to_is_overdue_too(world: World, read: Read) -> None:
    alert = finding_id("range", GAS, STORIES[GAS][0], world.now - 20 * MINUTE)
    with world.database.begin() as owner:
        set_due = text("UPDATE alerts SET confirm_due = :due WHERE id = :id")
        [before] = owner.execute(text("SELECT confirm_due FROM alerts WHERE id = :id"), {"id": alert}).one()
        owner.execute(set_due, {"due": world.now - MINUTE, "id": alert})
    try:
        assert alert in {row["id"] for row in rows_of(read("donghai"), "duty-officer", "Overdue")}
    finally:
        with world.database.begin() as owner:
            owner.execute(set_due, {"due": before, "id": alert})


def test_all_are_those_too_that_are_no_longer_to_be_chosen(world: World, read: Read) -> None:
    """An enterprise that moved to another district leaves its alerts where they were."""
    moved = text(
        "UPDATE records SET body = jsonb_set(body::jsonb, '{cell}', to_jsonb(CAST(:cell AS text)))::text "
        "WHERE kind = 'enterprise' AND key = :code"
    )
    reader = read("donghai")
    before = rows_of(reader, "duty-officer", "Open alerts")
    assert GAS in {row["code"] for row in before}
    with world.database.begin() as owner:
        owner.execute(moved, {"cell": "beishan", "code": GAS})
    try:
        after = rows_of(reader, "duty-officer", "Open alerts")
        assert {row["id"] for row in after} == {row["id"] for row in before}
        assert GAS not in select(reader.role, "code", "enterprises")
    finally:
        with world.database.begin() as owner:
            owner.execute(moved, {"cell": "donghai", "code": GAS})
    chosen = rows_of(reader, "duty-officer", "Open alerts", {"enterprises": [CHEMICALS]})
    assert {row["code"] for row in chosen} == {CHEMICALS, ""}
    chosen = rows_of(reader, "duty-officer", "Open alerts", {"cell": ["gangkou"]})
    assert {row["code"] for row in chosen} == {CHEMICALS, MINE}
    assert {row["网格 · Cell"].strip("　") for row in rows_of(reader, "duty-officer", "By grid cell")} == {
        "东海区",
        "港口镇",
    }


def test_readings_are_of_the_chosen_enterprises(read: Read) -> None:
    reader = read("donghai")
    codes = set(POINTS) - {NEIGHBOUR}
    for given, heard in (
        ({}, codes),
        ({"enterprises": [GAS, MINE]}, {GAS, MINE}),
        ({"cell": ["gangkou"]}, codes - {GAS}),
    ):
        assert {row["code"] for row in rows_of(reader, "data-health", "Newest readings", given)} == heard
    dashboard, _ = panel_of("data-health", "Now")
    pattern = choices(dashboard, reader)["heard"]
    assert pattern == [".*"], "a list of thousands"


def test_bad_readings_are_all_counted(world: World, read: Read) -> None:
    reader = read("donghai")
    dashboard, panel = panel_of("data-health", "Readings that are not good")
    chosen, span = choices(dashboard, reader), span_of(dashboard)
    counted = {
        target["refId"]: sum(row["_value"] for row in reader.rows(target, chosen, span))
        for target in panel["targets"]
    }
    raw = (
        "from(bucket: v.defaultBucket) |> range(start: v.timeRangeStart, stop: v.timeRangeStop) "
        '|> filter(fn: (r) => r._measurement == "quality") |> group() |> keep(columns: ["_value"])'
    )
    asked = {"datasource": {"uid": Source.HISTORY.uid}, "query": raw}
    found = Counter(row["_value"] for row in reader.rows(asked, {}, span))
    assert counted == {"A": found[1], "B": found[2]}
    assert all(counted.values())


def test_a_day_begins_at_midnight_and_quiet_hours_count(read: Read) -> None:
    reader = read("donghai")
    zone = ZoneInfo("Asia/Shanghai")
    days = [row["time"].astimezone(zone) for row in rows_of(reader, "performance", "Each day")]
    assert len(days) == len(set(days)) >= 1
    assert {(day.hour, day.minute, day.second) for day in days} == {(0, 0, 0)}
    slots = rows_of(reader, "performance", "Alarms in ten minutes")
    times = [row["time"] for row in slots]
    assert {after - before for before, after in itertools.pairwise(times)} == {timedelta(minutes=10)}
    assert times[0] <= reader.now - timedelta(days=7) < times[1]
    assert {row["最忙 · Busiest"] for row in slots} > {0, 14}


def test_every_column_of_a_view_is_shown(read: Read) -> None:
    asked = [
        target.get("rawSql", "")
        for dashboard in dashboards(ALERT_URL)
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]
    asked += [one["query"] for board in dashboards(ALERT_URL) for one in choosing(board)]
    role = read("donghai").role
    for view in READABLE:
        of_it = " ".join(query for query in asked if f"{SCHEMA}.{view}" in query)
        assert set(columns(role, view)) <= set(re.findall(r"\w+", of_it)), view


def test_a_finding_without_an_alert_leads_to_none(read: Read) -> None:
    found = rows_of(read("donghai"), "enterprise", "Open findings")
    assert {bool(row["id"]) for row in found} == {True, False}
    assert "" not in {row["id"] for row in found}
    for uid, title in (("enterprise", "Open findings"), ("data-health", "Offline and faulty")):
        overrides = panel_of(uid, title)[1]["fieldConfig"]["overrides"]
        leading = {one["matcher"]["options"] for one in overrides if "{__data.fields.id}" in json.dumps(one)}
        assert leading == {"id"}


def test_a_dead_desk_is_missed(tmp_path: Path) -> None:
    """By Prometheus' own engine: two desks, of which one falls silent, and then the other too."""
    tool = shutil.which("promtool")
    if tool is None:
        lacking.add(reason := "promtool is missing; to get it: apt-get install prometheus")
        pytest.skip(reason)
    desks = next(
        panel["targets"][1]["expr"]
        for panel in dashboards(ALERT_URL, SYSTEM)[-1]["panels"]
        if panel["title"].endswith("At work")
    )
    series = [
        {"series": 'fenghuo_desk_up{instance="a"}', "values": "1x20 stale"},
        {"series": 'fenghuo_desk_up{instance="b"}', "values": "1x10 stale"},
    ]
    expected = [
        {"expr": desks, "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}]}
        for at, value in (("5m", 1), ("15m", 0.5), ("25m", 0))
    ]
    file = tmp_path / "desks.yml"
    file.write_text(
        json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": expected}]})
    )
    done = subprocess.run([tool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- nobody reads a neighbour's --------------------------------------------------------------------


Role: TypeAlias = psycopg.Connection[Any]


def select(role: Role, what: str, view: str, where: str = "true") -> list[Any]:
    """The first column of what a role reads of a view, or of a table of another schema ("public.alerts")."""
    schema, _, name = view.rpartition(".")
    asked = sql.SQL("SELECT {} FROM {} AS v WHERE {}").format(
        sql.SQL(what), sql.Identifier(schema or SCHEMA, name), sql.SQL(where)
    )
    return [row[0] for row in role.execute(asked)]


def columns(role: Role, view: str) -> list[str]:
    asked = sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(SCHEMA, view))
    return [column.name for column in role.execute(asked).description or ()]


def test_a_role_sees_the_rows_of_its_own_cells(world: World, read: Read) -> None:
    own = {
        "donghai": ({"donghai", "gangkou"}, {code for code in POINTS if code != NEIGHBOUR}),
        "beishan": ({"beishan", "beigang"}, {NEIGHBOUR}),
        "nanshan": ({"nanshan"}, set()),
        "system": (
            {"haizhou", "donghai", "gangkou", "beishan", "beigang", "nanshan"},
            set(POINTS),
        ),
    }
    for id, (its_cells, codes) in own.items():
        role = read(id).role
        everything = {""} if id == "system" else set()
        assert set(select(role, "id", "cells")) == its_cells
        assert set(select(role, "code", "enterprises")) == codes
        for view in ("units", "points"):
            assert set(select(role, "enterprise", view)) == codes
        for view in ("alerts", "findings", "steps"):
            cell = {""} if id != "nanshan" else set()  # what concerns a cell has no enterprise
            assert set(select(role, "enterprise", view)) == codes & set(STORIES) | cell
            assert set(select(role, "cell", view)) - everything <= its_cells
        assert ("system" in select(role, "subject", "alerts")) == (id == "system")


def test_a_role_reads_no_table_no_number_and_no_note(world: World, read: Read) -> None:
    role = read("donghai").role
    schemas = f"schemaname IN ('public', '{SCHEMA}')"
    tables = select(role, "schemaname || '.' || tablename", "pg_catalog.pg_tables", schemas)
    assert {"public.alerts", "public.outbox", "public.tokens", "public.records"} < set(tables)
    views = select(role, "viewname", "pg_catalog.pg_views", f"schemaname = '{SCHEMA}'")
    assert set(READABLE) < set(views)
    for table in [*tables, *(f"{SCHEMA}.{view}" for view in views if view not in READABLE)]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            select(role, "count(*)", table)
    for view in READABLE:
        [text] = select(role, "string_agg(v::text, '')", view)
        assert text
        assert not [secret for secret in SECRETS if secret in text]
        with pytest.raises(psycopg.Error):
            role.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(SCHEMA, view)))
    assert {"李明", "王芳"} <= set(select(role, "holder", "alerts"))


def test_a_role_cannot_become_another_nor_make_anything(world: World, read: Read) -> None:
    role = read("beishan").role
    neighbour = world.whom["donghai"].role(str(world.database.url.database))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        role.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(neighbour)))
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        role.execute("CREATE TABLE public.more (x int)")
    role.execute("SET default_transaction_read_only = off")
    for made in (
        f"CREATE VIEW {SCHEMA}.more AS SELECT 1",
        "CREATE TABLE public.more (x int)",
        "CREATE TEMPORARY TABLE more (x int)",
        "CREATE FUNCTION pg_temp.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA more",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.execute(made)
    for called in (
        "lo_creat(-1)",
        "lo_create(0)",
        "lo_from_bytea(0, 'x')",
        "pg_advisory_lock(1, 0)",  # as a desk's, which would wait for it
        "pg_try_advisory_lock(1)",
        "pg_advisory_xact_lock_shared(1, 0)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.execute(f"SELECT {called}")


def test_a_condition_of_the_readers_sees_no_row_that_the_view_has_not_let_through(
    world: World, read: Read
) -> None:
    """It may make no function; let one be there all the same."""
    with world.database.begin() as owner:
        owner.execute(text("CREATE SCHEMA trial"))
        owner.execute(
            text(
                "CREATE FUNCTION trial.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 "
                "AS $f$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $f$"
            )
        )
        owner.execute(text("GRANT USAGE ON SCHEMA trial TO PUBLIC"))
    told: list[str] = []

    def tell(notice: Any) -> None:
        told.append(str(notice.message_primary))

    role = read("beishan").role
    role.add_notice_handler(tell)
    try:
        for view in READABLE:
            for column in columns(role, view):
                select(role, "1", view, f"trial.leak({column}::text)")
    finally:
        role.remove_notice_handler(tell)
        with world.database.begin() as owner:
            owner.execute(text("DROP SCHEMA trial CASCADE"))
    assert NEIGHBOUR in told
    others = {"donghai", "gangkou", "安海化工", "东海区", *POINTS} - {NEIGHBOUR}
    assert not others & set(told), "a condition of the reader's saw rows before the view's"


def test_a_token_reads_its_own_buckets_only(read: Read) -> None:
    influx = read("donghai").influx
    assert influx is not None
    with influx.client(30) as client:

        def count(cell: str, of: str) -> int:
            asked = f'from(bucket: "{influx.bucket(cell, of)}") |> range(start: -1d) |> limit(n: 1)'
            return len(client.query_api().query(asked))

        for of in ("", "-1m", "-1h"):
            assert count("donghai", of)
            with pytest.raises(ApiException, match="could not find bucket"):
                count("beishan", of)
        # Of its organisation: the server takes a page of all there are, and then leaves out what the token may not see.
        found = client.buckets_api().find_buckets(org=influx.organisation, limit=100).buckets
        assert {bucket.name for bucket in found} == {
            influx.bucket("donghai", of) for of in ("", "-1m", "-1h")
        }
        with pytest.raises(ApiException):
            client.write_api(write_options=SYNCHRONOUS).write(influx.bucket("donghai"), record="x y=1")
