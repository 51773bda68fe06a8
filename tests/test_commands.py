"""The commands as their user runs them: what they print, what they refuse in plain words, and their exit status."""

import io
import itertools
import json
import logging
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import yaml
from fastapi import FastAPI
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from alerting import words
from alerting.desk import Desk
from alerting.tables import upgrade
from alerting.words import moment
from console import tokens
from console.api import Dependencies, create_app
from console.scope import Scope
from fenghuo import logs, settings, status
from fenghuo.__main__ import app
from fenghuo.commands import doctor
from fenghuo.historian_status import HistorianStatus, HomeStatus
from ingest.broker import free_port
from ingest.journal import Journal, usage
from ingest.readings import Round
from registry import versions
from registry.clock import HOUR, MINUTE, SECOND, stopwatch
from registry.compile import compile_folder
from registry.database import open_database
from streams.finding import Finding, Phase, Tier, finding_id
from tests.build import code
from tests.folders import write_registry
from tests.servers import needs_mosquitto
from tests.test_console_api import served

MINE = Path(__file__).parent / "data" / "mine" / "registry"


def run(*arguments: object, **environment: str) -> Result:
    """The command in a wide terminal; an exception that is not an exit is a fault of ours."""
    wide = {"COLUMNS": "250", "NO_COLOR": "1", "FENGHUO_TOKEN": "", **environment}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=wide)
    structlog.reset_defaults()  # `serve` lets it write to the standard error that is now closed
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# -- serve -------------------------------------------------------------------------------------------


def serve_until(line: str, *arguments: object) -> str:
    """Start `fenghuo serve`, wait until it has said a line with this in it, and end it; all that it said."""
    command = [sys.executable, "-m", "fenghuo", "serve", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        end = stopwatch() + 30
        for text in process.stderr:
            said += text
            if line in text or stopwatch() > end:
                break
        process.send_signal(signal.SIGTERM)
        return said + process.stderr.read()


def test_serve_says_loudly_that_nobody_can_be_reached_and_that_others_can_listen(tmp_path: Path) -> None:
    options = ("--registry", MINE, "--data", tmp_path / "data", "--broker", "mqtt://127.0.0.1:1")
    said = serve_until("process_started", *options, "--listen", f"0.0.0.0:{free_port()}")
    assert "WARNING  no notice can reach 6 of the people on duty: System administrator (admin), " in said
    assert "Configure a channel that their contacts use (phone)" in said
    assert "without TLS" in said


def test_serve_says_nothing_of_the_kind_where_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"registry: {MINE}\ndata: data\nlisten: 127.0.0.1:{free_port()}\nbroker: {{url: 'mqtt://127.0.0.1:1'}}\n"
        "channels: {phone: {url: 'http://127.0.0.1:1', secret_file: secret}}\n",
        "utf-8",
    )
    (tmp_path / "secret").write_text("secret", "utf-8")
    assert "WARNING" not in serve_until("process_started", tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "data: it is missing; expected a folder"),
        (("nowhere.yaml",), "nowhere.yaml: cannot be read"),
        (("--registry", MINE, "--data", "d", "--listen", "8420"), "listen: expected HOST:PORT"),
        (("--registry", MINE, "--data", "d", "--broker", "localhost"), "broker.url: expected mqtt://"),
        (("--data", "d"), "the registry is empty: give --registry FOLDER"),
        (("--registry", "nowhere", "--data", "d"), "nowhere:1: cannot be read: No such file or directory"),
        (("--registry", MINE, "--data", "/proc/nowhere"), "No such file or directory: '/proc/nowhere'"),
    ],
)
def test_serve_refuses_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("serve", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_serve_without_mosquitto_says_how_to_come_by_a_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.broker.SEARCH", str(tmp_path))
    result = run("serve", "--registry", MINE, "--data", tmp_path / "d")
    assert result.exit_code == 2
    for words_ in ("mosquitto is not installed", "apt install mosquitto", "--broker mqtt://HOST:PORT"):
        assert words_ in result.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "people"), [(Terminal(), True), (io.StringIO(), False)])
def test_logs_are_for_people_on_a_terminal_and_for_programs_elsewhere(
    stream: io.StringIO, people: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure()
    secret = "not to be seen"
    try:
        raise ValueError(len(secret))
    except ValueError:
        structlog.get_logger().exception("broker_failed", port=1883)
    structlog.reset_defaults()
    said = stream.getvalue()
    if people:
        assert re.match(r"\d{4}-\d\d-\d\d [\d:]{8} \[error *\] broker_failed +port=1883\n", said), said
    else:
        assert json.loads(said)["event"] == "broker_failed"
    assert "ValueError: 14" in said
    assert secret not in said
    library = logging.getLogger("library")
    library.info("chatter")
    library.warning("it %s", "matters")
    of_it = stream.getvalue().removeprefix(said)
    if people:
        assert "it matters" in of_it
    else:
        line = json.loads(of_it)
        assert (line["event"], line["level"], line["logger"]) == ("it matters", "warning", "library")
    assert "chatter" not in of_it


# -- doctor ------------------------------------------------------------------------------------------

NOW = int(datetime(2026, 11, 23, 4, tzinfo=UTC).timestamp()) * SECOND  # a Monday, noon in Shanghai


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder as `fenghuo serve` leaves it, of five enterprises whose points have an interval."""
    write_registry(tmp_path / "registry", interval="30s")
    return laid_out(tmp_path)


def laid_out(folder: Path) -> Path:
    """Compile folder/registry into folder/data; the data folder."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    channels = {"phone": {"url": "http://127.0.0.1:1"}}
    chosen = settings.make(registry=folder / "registry", data=data, channels=channels, journal_reserve=0)
    compiled = compile_folder(chosen.registry)
    versions.save(chosen.versions, compiled)
    versions.want(chosen.versions, compiled.version)
    database = open_database(data / "desk.sqlite")
    upgrade(database)
    database.dispose()
    with Journal(chosen.journal, reserve=0) as journal:
        journal.append([Round(NOW - HOUR), Round(NOW, version=compiled.version)])
    chosen.save(data / "run.json")
    return data


def said_at(time: int) -> status.Status:
    """What a judge that is well says of itself."""
    return status.Status(
        pid=1, number=1, time=time, started=0, connected=True, listening=True, version="", offset=0,
        absorbed=0, snapshot=0, messages=0, readings=0, findings=0, dead={}, dropped={}, waiting=0, desk_busy=0,
        unwritable="", round_ms=status.Latency(), alert_ms=status.Latency(), journal_bytes=0, journal_hours=0,
    )  # fmt: skip


def examined(data: Path) -> dict[str, tuple[str, str]]:
    """What the doctor finds: verdict and words by what was looked at."""
    words = {doctor.GOOD: "good", doctor.DOUBTFUL: "look", doctor.BAD: "bad"}
    found = doctor.examine(settings.of_run(data), NOW)
    return {finding.what: (words[finding.verdict], finding.said) for finding in found}


def test_a_doctor_finds_nothing_where_nothing_is(data: Path) -> None:
    found = examined(data)
    assert found["desk"] == ("good", "its database can be written")
    assert found["duty"] == ("good", "someone is on duty at all 8 places, for the next 7 days")
    assert found["silence"] == ("good", "the silence of all 20 points is noticed")
    assert found["channels"][0] == found["disk"][0] == "good"
    assert found["judge"] == ("bad", "it has never written its status")


@pytest.mark.parametrize(
    ("judges", "written", "judge", "clock"),
    [
        (0, 0, "good", ("good", "the wall and Fenghuo's clock agree")),
        (-3600, 0, "good", ("bad", "the wall is 3600 s ahead of Fenghuo's clock: ")),
        (30, 0, "good", ("bad", "the wall is 30 s behind Fenghuo's clock: ")),
        (-3600, -3600, "bad", ("good", "the wall and Fenghuo's clock agree")),
        (3600, 3600, "good", ("bad", "the wall is 3600 s behind the last record; ")),
    ],
    ids=[
        "all is well",
        "the wall jumped ahead",
        "it jumped back",
        "the judge stands still",
        "set back since",
    ],
)
def test_a_judge_that_stands_still_is_told_from_a_wall_that_jumped(
    data: Path, judges: int, written: int, judge: str, clock: tuple[str, str]
) -> None:
    """The times of the judge's last word, seconds from now: by its own clock and by the wall."""
    status.write(data / "judge.json", said_at(NOW + judges * SECOND))
    os.utime(data / "judge.json", ns=(0, (NOW + written * SECOND) * 1000))
    found = examined(data)
    assert found["judge"][0] == judge
    assert (found["clock"][0], found["clock"][1].startswith(clock[1])) == (clock[0], True), found["clock"]


def test_the_hours_that_disk_and_budget_hold_are_the_journals_own(data: Path) -> None:
    chosen = settings.of_run(data)
    rate = usage(chosen.journal).bytes_per_hour
    assert rate
    for hours, verdict in ((24 * 7 + 1, "good"), (100, "look")):
        chosen.model_copy(update={"journal_bytes": int(rate * hours) + 1}).save(data / "run.json")
        found = examined(data)["disk"]
        assert (found[0], f"disk and budget hold {hours} h of readings" in found[1]) == (verdict, True), found


@pytest.mark.parametrize(
    ("home", "age", "verdict", "words"),
    [
        ({}, 0, "good", "parquet is 15 s behind"),
        ({"time": NOW - 3600 * SECOND}, 0, "look", "parquet is 3,600 s behind"),
        ({"lost": 7}, 0, "look", "7 rounds were gone from the journal"),
        ({"problem": "the disk is nearly full"}, 0, "bad", "parquet takes nothing: the disk is nearly full"),
        ({}, 60, "bad", "the historian has said nothing for 60 s"),
    ],
)
def test_a_history_that_is_behind_is_seen(
    data: Path, home: dict[str, Any], age: int, verdict: str, words: str
) -> None:
    status.write(data / "judge.json", said_at(NOW))
    said = HomeStatus(
        **{"position": 1, "time": NOW - 15 * SECOND, "problem": "", "lost": 0, "counts": {}, **home}
    )
    status.write(data / "history.json", HistorianStatus(pid=1, number=1, homes={"parquet": said}))
    os.utime(data / "history.json", ns=(0, (NOW - age * SECOND) * 1000))
    found = examined(data)["history"]
    assert (found[0], words in found[1]) == (verdict, True), found


def test_a_missing_desk_is_bad_and_is_not_made(data: Path) -> None:
    (data / "desk.sqlite").unlink()
    verdict, said = examined(data)["desk"]
    assert verdict == "bad"
    assert said.endswith("desk.sqlite is not there")
    assert not (data / "desk.sqlite").exists()


def test_a_desk_whose_disk_is_full_is_bad_and_one_that_is_not_is_left_as_it_was(data: Path) -> None:
    assert examined(data)["desk"][0] == "good"
    with closing(sqlite3.connect(data / "desk.sqlite")) as database:
        assert not database.execute("SELECT * FROM sqlite_schema WHERE name = 'doctor'").fetchall()
    (data / "desk.sqlite-wal").unlink(missing_ok=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        verdict, said = examined(data)["desk"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (verdict, "cannot be written" in said) == ("bad", True), said


def test_what_is_no_database_is_bad(data: Path) -> None:
    (data / "desk.sqlite").write_bytes(b"something else" * 1000)
    verdict, said = examined(data)["desk"]
    assert (verdict, "not a database" in said) == ("bad", True), said


@pytest.mark.parametrize(
    ("duty", "since"),
    [
        (["hours: 08:00-20:00", "hours: 20:00-08:00"], ""),
        (["hours: 08:00-20:00", "hours: 20:00-07:50"], "2026-11-24 07:50:00"),
        (["hours: 08:00-19:59", "hours: 20:00-08:00"], "2026-11-23 19:59:00"),
        (["weekdays: Mon-Sat"], "2026-11-29 00:00:00"),
        (["hours: 13:00-12:00"], "2026-11-23 12:00:00"),
        (["hours: 00:00-24:00"], ""),
    ],
)
def test_a_gap_in_the_rota_is_found_to_the_minute(tmp_path: Path, duty: list[str], since: str) -> None:
    write_registry(tmp_path / "registry")
    rota = tmp_path / "registry" / "duty.yaml"
    entries = [entry for entry in yaml.safe_load(rota.read_text("utf-8")) if entry["place"] != "east"]
    lines = [f"- {{place: east, person: east-duty, {hours}}}\n" for hours in duty]
    rota.write_text(yaml.safe_dump(entries) + "".join(lines), "utf-8")
    said = f"within 7 days nobody is on duty as: duty officer of 东海区 (from {since})"
    expected = ("bad", said) if since else ("good", "someone is on duty at all 8 places, for the next 7 days")
    assert examined(laid_out(tmp_path))["duty"] == expected


def test_points_whose_silence_is_never_noticed_are_counted(tmp_path: Path) -> None:
    write_registry(tmp_path / "registry", enterprises=1)
    found = examined(laid_out(tmp_path))
    assert found["silence"] == (
        "look",
        "4 of 4 points have no interval: if they fall silent nobody will notice",
    )


def test_nobody_who_can_be_reached_is_bad(data: Path) -> None:
    chosen = settings.of_run(data).model_copy(update={"channels": {}})
    chosen.save(data / "run.json")
    verdict, said = examined(data)["channels"]
    assert verdict == "bad"
    assert said.startswith("no notice can reach 8 of the people on duty: admin (admin), ")


def test_a_version_that_is_not_there_is_bad(data: Path) -> None:
    for path in (data / "versions").glob("*.registry"):
        path.unlink()
    assert examined(data)["registry"][0] == "bad"


def test_a_status_of_another_version_counts_as_none(data: Path) -> None:
    for content in (b"", b"{", b'{"pid": 1}'):
        (data / "judge.json").write_bytes(content)
        assert examined(data)["judge"] == ("bad", "it has never written its status")


def test_a_folder_that_is_none_of_ours_is_said_to_be_so(tmp_path: Path) -> None:
    for command in (["doctor"], ["token", "list"], ["token", "create", "x", "--scope", "system"]):
        result = run(*command, "--data", tmp_path)
        assert (result.exit_code, "is no data folder of `fenghuo serve`" in result.output) == (1, True)
    assert not list(tmp_path.iterdir()), "nothing is made"


# -- token -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scope", "everything"), "expected enterprise:CODE, cell:ID or system"),
        (("--scope", "cell:eest"), "the registry has no cell 'eest'; it has city, east"),
        (("--scope", f"enterprise:{code(9)}"), "the registry has no enterprise"),
        (
            ("--scope", "system", "--person", "east-dutie"),
            "the registry has no person 'east-dutie'; it has admin",
        ),
    ],
)
def test_a_token_for_what_the_registry_has_not_is_refused(
    data: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = run("token", "create", "x", *arguments, "--data", data)
    assert (result.exit_code, said in result.stderr, result.stdout) == (2, True, "")


def test_a_token_is_made_listed_and_revoked(data: Path) -> None:
    made = run(
        "token", "create", "east [gate]", "--scope", "cell:east", "--person", "east-duty", "--data", data
    )
    digest = tokens.digest(made.stdout.strip())[:12]
    listed = run("token", "list", FENGHUO_DATA=str(data)).stdout
    assert all(word in listed for word in (digest, "east [gate]", "cell:east", "east-duty"))
    assert run("token", "revoke", digest, "--data", data).stdout == "revoked\n"
    again = run("token", "revoke", digest, "--data", data)
    assert (again.exit_code, "0 valid tokens begin with" in again.stderr) == (1, True)


def test_a_desk_that_cannot_be_read_is_said_in_a_line(data: Path) -> None:
    (data / "desk.sqlite").write_bytes(b"something else" * 1000)
    said = run("token", "list", "--data", data)
    assert (said.exit_code, said.stderr) == (1, "file is not a database\n")


# -- alerts ------------------------------------------------------------------------------------------

FLOOD = 1_250


@dataclass
class Api:
    """A running API: its address, and the ids of its alerts, the oldest first."""

    url: str
    database: Engine
    alerts: list[str]

    def run(self, *arguments: str, person: str = "", **environment: str) -> Result:
        """The command with a token that sees everything and speaks for the person."""
        scope = Scope.parse("system")
        token = tokens.create(self.database, name="t", scope=scope, person=person, now=NOW)
        given = {"FENGHUO_URL": self.url, "FENGHUO_TOKEN": token, **environment}
        return run("alerts", *arguments, **given)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API over a desk on which a flood has broken in."""
    folder = tmp_path_factory.mktemp("flood")
    [plant] = write_registry(folder / "registry", enterprises=1, points=FLOOD)
    registry = compile_folder(folder / "registry")
    database = open_database(folder / "desk.sqlite")
    upgrade(database)
    desk = Desk(database, registry)
    found = [
        Finding(
            id=finding_id("limit.high", plant, f"point:P{number}", NOW + number), seq=1, rule="limit.high",
            enterprise=plant, subject=f"point:P{number}", phase=Phase.BEGUN, since=NOW, time=NOW,
            arrival=NOW + number, level="HH", tier=Tier.II, value=55.0, limit=50.0, unit="%LEL",
            clause="GB/T 50493", version=registry.version,
        )
        for number in range(1, FLOOD + 1)
    ]  # fmt: skip
    for offset, finding in enumerate(found[:3], 1):
        desk.round([finding], offset, NOW + offset)
    desk.round(found[3:], 4, NOW + 4)
    clock = SimpleNamespace(now=lambda: NOW + MINUTE)
    app_ = create_app(
        Dependencies(
            desk, database, lambda: registry, clock, folder / "journal", folder / "values", lambda: None
        )
    )
    with served(app_) as client:
        yield Api(str(client.base_url).rstrip("/"), database, [finding.id for finding in found])
    database.dispose()


def test_a_list_in_a_flood_says_how_many_more_there_are(api: Api) -> None:
    listed = api.run("list").stdout
    assert listed.count("is at or above its high-high limit") == 1_000
    assert "and 250 more, older ones" in listed


def test_times_are_those_of_the_registrys_people_not_of_the_terminal(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/Lima")
    raised = moment(NOW + 1, "Asia/Shanghai")[5:]
    for arguments in (("list",), ("show", api.alerts[0])):
        assert raised in api.run(*arguments).stdout


def test_a_program_gets_every_alert_of_a_flood_a_line(api: Api) -> None:
    lines = api.run("list", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == api.alerts[::-1]


def test_an_alert_of_a_flood_is_found_by_the_first_characters_of_its_id(api: Api) -> None:
    oldest = api.alerts[0]
    shown = api.run("show", oldest[:12]).stdout
    assert "P1 is at or above its high-high limit" in shown
    assert "55 %LEL, limit 50 %LEL. By GB/T 50493." in " ".join(shown.split())
    nothing = api.run("show", "zz")
    assert (nothing.exit_code, nothing.stderr) == (1, "0 alerts begin with 'zz'; expected exactly one\n")
    many = api.run("show", "")
    assert f"{FLOOD} alerts begin with ''" in many.stderr


def test_answers_are_said_in_words_and_stand_in_the_history(api: Api) -> None:
    alert = api.alerts[1]
    operator = f"operator-{code(1)}"
    said = [
        api.run("confirm", alert, person="east-duty"),
        api.run("confirm", alert[:12], "--note", "on my [way]", person=operator),
        api.run("confirm", alert, "--language", "zh", person=operator),
        api.run("act", alert, "valve shut", person=operator),
        api.run("take-over", alert, person="city-duty"),
    ]
    assert [answer.stdout for answer in said] == [
        words.say("outcome.seen", "en") + "\n",
        words.say("outcome.confirmed", "en") + "\n",
        words.say("outcome.again", "zh") + "\n",
        words.say("outcome.acted", "en") + "\n",
        words.say("outcome.taken_over", "en") + "\n",
    ]
    shown = api.run("show", alert).stdout
    for line in (
        f"asked {operator}; told east-duty",
        "seen, which is no confirm",
        "“on my [way]”",
        "“valve shut”",
    ):
        assert line in shown
    assert "{" not in shown, "words, not data"
    chinese = api.run("show", alert, FENGHUO_LANGUAGE="zh").stdout
    assert words.say("event.begun", "zh") in chinese
    assert "高高限" in chinese


@pytest.mark.parametrize(
    ("arguments", "environment", "said", "status"),
    [
        (("list",), {"FENGHUO_TOKEN": ""}, "`fenghuo token create --help` says how to make one", 2),
        (("list",), {"FENGHUO_TOKEN": "wrong"}, "This token is not valid there", 1),
        (("list",), {"FENGHUO_TOKEN": "秘密"}, "That is no token", 2),
        (("list",), {"FENGHUO_URL": "http://127.0.0.1:1"}, "Is `fenghuo serve` running there?", 1),
        (("list",), {"FENGHUO_URL": "localhost"}, "Is `fenghuo serve` running there?", 1),
        (("list",), {"FENGHUO_URL": "http://[::1"}, "Is `fenghuo serve` running there?", 1),
        (("confirm", "0" * 20), {}, "there is nothing of this name", 1),
    ],
)
def test_alerts_refuse_in_plain_words(
    api: Api, arguments: tuple[str, ...], environment: dict[str, str], said: str, status: int
) -> None:
    result = api.run(*arguments, **environment)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr
    assert not environment.get("FENGHUO_TOKEN") or environment["FENGHUO_TOKEN"] not in result.stderr


def test_what_is_not_our_api_is_said_to_be_so(api: Api) -> None:
    with served(FastAPI()) as client:
        result = api.run("list", "--url", str(client.base_url))
    assert (result.exit_code, "is not Fenghuo" in result.stderr) == (1, True)


# -- publish-file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.csv",), "No such file or directory: 'nowhere.csv'"),
        (("r.csv", "--broker", "localhost"), "--broker: expected mqtt://HOST:PORT"),
        (("r.csv", "--broker", "mqtt://127.0.0.1:x"), "--broker: expected mqtt://HOST:PORT"),
        (("r.csv", "--broker", "mqtt://u:secret@127.0.0.1:1"), "user and password are options of their own"),
        (("r.csv", "--broker", "mqtt://127.0.0.1:1"), "mqtt://127.0.0.1:1: "),
        (("r.csv", "--speed", "-1"), "greater than or equal to 0"),
        (("r.csv", "--map", "r.csv"), "r.csv: "),
    ],
)
def test_publish_file_refuses_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.csv").write_text("second\n0\n", "utf-8")
    result = run("publish-file", "--map", MINE.parent / "map.yaml", *arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr


# -- check -------------------------------------------------------------------------------------------


def test_check_says_every_mistake_and_takes_no_name_for_a_colour(tmp_path: Path) -> None:
    write_registry(tmp_path / "r")
    assert "No mistakes" in run("check", tmp_path / "r").stdout
    (tmp_path / "r" / "points").mkdir()
    (tmp_path / "r" / "points" / "[red]a.CSV").write_text("", "utf-8")
    result = run("check", tmp_path / "r")
    assert (result.exit_code, "points/[red]a.CSV:1" in result.stdout) == (1, True)


def test_check_refuses_a_gateway_that_can_have_no_user_at_the_broker(tmp_path: Path) -> None:
    write_registry(tmp_path / "r", enterprises=1)
    for path in (tmp_path / "r" / "enterprises.yaml", tmp_path / "r" / "points.csv"):
        path.write_text(path.read_text("utf-8").replace("gw1", "gw:1"), "utf-8")
    result = run("check", tmp_path / "r")
    assert (result.exit_code, "an id without a colon" in result.stdout) == (1, True), result.stdout


# -- demo --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        {"precious.txt": "x"},
        {"fenghuo.yaml": "registry: r\ndata: data\n", "data/desk.sqlite": "x"},
        {"fenghuo.yaml": "clock: 127.0.0.1:1"},
        {"data/fenghuo.yaml": "registry: r\ndata: data\nclock: 127.0.0.1:1\n"},
    ],
)
def test_the_demo_leaves_a_folder_alone_that_is_not_its_own(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    result = run("demo", "--headless", "--for", "0", "--folder", tmp_path)
    assert (result.exit_code, "it is left alone" in result.stderr) == (2, True)
    for name, text in files.items():
        assert (tmp_path / name).read_text("utf-8") == text
    as_file = run("demo", "--headless", "--for", "0", "--folder", tmp_path / next(iter(files)))
    assert as_file.exit_code == 2


@pytest.mark.mosquitto
@needs_mosquitto
def test_the_demo_empties_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "fenghuo.yaml").write_text("registry: /r\ndata: /d\nclock: 127.0.0.1:1\n", "utf-8")
    (folder / "old").touch()
    result = run("demo", "--headless", "--for", "0", "--folder", folder)
    assert (result.exit_code, "missing:" in result.stdout) == (1, True), "so short a demo does not get far"
    assert not (folder / "old").exists()
    assert settings.load(folder / "fenghuo.yaml").clock, "what it leaves is a demo's again"


def test_the_demos_story_comes_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it through the real processes, as fast as they go: the demo's watch moves only as it is looked at."""
    watch = itertools.count(0, 0.011)
    monkeypatch.setattr("fenghuo.commands.demo.stopwatch", lambda: next(watch))
    arguments = ("--headless", "--json", "--for", 20, "--speed", 100, "--folder", tmp_path / "demo")
    result = run("demo", *arguments)
    said = json.loads(result.stdout)
    assert (result.exit_code, said["missing"], said["highest_rung"]) == (0, [], 4), said
    with closing(sqlite3.connect(tmp_path / "demo" / "data" / "desk.sqlite")) as desk:
        acts = desk.execute("SELECT count(*) FROM steps WHERE event = 'act' GROUP BY alert").fetchall()
    assert set(acts) == {(1,)}, "what was done is said once of each alert"


def test_serve_refuses_the_settings_of_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    database = "{url: 'postgresql://fenghuo@127.0.0.1:1/fenghuo'}"
    file.write_text(f"data: data\ncluster: {{kafka: '127.0.0.1:1', database: {database}}}\n", "utf-8")
    done = run("serve", file)
    assert done.exit_code == 2
    assert "collect" in done.output
    assert not (tmp_path / "data").exists()
