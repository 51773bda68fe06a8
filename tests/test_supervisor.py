"""The supervisor keeps what runs alive and unchanged, whatever an edit, a second start or the disk does."""

import asyncio
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from fenghuo import attempts, compiler, settings, status, supervisor
from fenghuo.attempts import Attempts
from fenghuo.compiler import NoRegistry
from fenghuo.settings import Settings
from fenghuo.supervisor import Child, Supervisor
from ingest.broker import COLLECTOR, Mosquitto, free_port, gateway_user
from ingest.journal import Journal, JournalLocked
from registry import versions
from registry.compile import compile_source
from registry.database import open_database, writing
from registry.mistakes import RegistryErrors
from registry.store import Change, RegistryStore
from registry.store_tables import records
from streams import configuration, rulebook_file
from tests.build import code
from tests.folders import write_registry
from tests.servers import User, needs_mosquitto
from tests.test_commands import said_at


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that has been used by another test goes on as it was set up there."""
    for module in (attempts, compiler, supervisor):
        monkeypatch.setattr(module, "log", structlog.get_logger())


def chosen(folder: Path, **given: Any) -> Settings:
    """Settings of a registry of one enterprise; with a broker that does not answer unless told otherwise."""
    write_registry(folder / "registry", enterprises=1)
    given = {"broker": {"url": "mqtt://127.0.0.1:1"}, **given}
    return settings.make(registry=folder / "registry", data=folder / "data", journal_reserve=0, **given)


def rename(mine: Settings, name: str) -> str:
    """Edit the registry so that it has no mistake; the version that it then is."""
    engine = open_database(mine.registry_database)
    store = RegistryStore(engine)
    [enterprise] = store.records("enterprise")
    store.edit(
        [Change("enterprise", enterprise.key, {"name": name})], who="li", why=name, now=1, origin="command"
    )
    version = compile_source(store.load()).version
    engine.dispose()
    return version


def follow(watching: Supervisor) -> None:
    """Two looks: the file of passwords has stood still between them."""
    watching._compiler.follow()
    watching._compiler.follow()


def wanted(mine: Settings) -> str:
    """The version of the registry that is wanted."""
    return versions.part(versions.wanted(mine.versions) or "", versions.REGISTRY)


def in_force(mine: Settings) -> tuple[str, str]:
    """The version of the registry that is wanted, and the newest edit that it names."""
    return wanted(mine), versions.load(mine.versions, versions.wanted(mine.versions) or "").edit


def test_a_second_start_is_refused_before_it_changes_anything(tmp_path: Path) -> None:
    mine = chosen(tmp_path)
    Supervisor(mine)
    before = wanted(mine)
    assert rename(mine, "another") != before
    with Journal(mine.journal, reserve=0), pytest.raises(JournalLocked):
        Supervisor(mine)
    assert wanted(mine) == before


def test_a_start_goes_on_with_what_was_in_force_and_follows_the_edits_since(tmp_path: Path) -> None:
    mine = chosen(tmp_path)
    Supervisor(mine)
    before = wanted(mine)
    edited = rename(mine, "another")
    again = Supervisor(mine)
    assert wanted(mine) == before
    follow(again)
    assert wanted(mine) == edited
    [file] = mine.versions.glob(f"{edited}.registry")
    file.write_bytes(b"of another Fenghuo")
    Supervisor(mine)
    assert versions.load(mine.versions, versions.wanted(mine.versions) or "").edit == "li: another"


def test_a_process_that_dies_while_a_registry_is_compiled_is_started_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = chosen(tmp_path)
    watching = Supervisor(mine)
    waits = [sys.executable, "-c", "import signal; signal.pause()"]
    watching.children = [Child(name, waits, {}) for name in ("judge", "serving")]
    compiling, compiled = threading.Event(), threading.Event()

    def compile_for_long() -> None:
        compiling.set()
        compiled.wait(30)

    monkeypatch.setattr(watching._compiler, "compile", compile_for_long)
    rename(mine, "another")

    async def story() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(watching.run(stop))
        [judge, _] = watching.children
        while not (compiling.is_set() and judge.pid):
            await asyncio.sleep(0.01)
        dead = judge.pid
        judge.kill()
        while judge.pid in (None, dead):
            await asyncio.sleep(0.01)
        assert not compiled.is_set()
        compiled.set()
        stop.set()
        await running

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_supervisor_that_fails_ends_all_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Supervisor(chosen(tmp_path))

    def fail() -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(watching.children[0], "keep", fail)
    with pytest.raises(RuntimeError):
        asyncio.run(asyncio.wait_for(watching.run(asyncio.Event()), 30))


def test_a_fault_of_ours_in_an_edit_leaves_the_version_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = chosen(tmp_path)
    watching = Supervisor(mine)
    before = wanted(mine)

    def fail(_: object) -> None:
        raise ValueError("nobody thought of this")

    rename(mine, "edited")
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(compiler, "compile_source", fail)
        follow(watching)
        follow(watching)
    assert [log["event"] for log in logs] == ["registry_failed", "registry_refused"], "said once"
    assert wanted(mine) == before
    assert mine.refused.read_text("utf-8") == "ValueError: nobody thought of this"
    better = rename(mine, "edited again")
    follow(watching)
    assert wanted(mine) == better
    assert not mine.refused.exists()


def test_a_slip_in_the_file_of_passwords_leaves_the_version_in_force_until_it_is_mended(
    tmp_path: Path,
) -> None:
    mine = chosen(tmp_path, broker=None, clock="127.0.0.1:1")
    watching = Supervisor(mine)
    before = wanted(mine)
    good = mine.passwords.read_text("utf-8")
    mine.passwords.write_text(f"# changed by me\n{good}a slip of mine\n", "utf-8")
    edited = rename(mine, "edited")
    follow(watching)
    assert wanted(mine) == before
    assert mine.refused.read_text("utf-8").startswith(f"{mine.passwords}:4: expected `USER PASSWORD`")
    mine.passwords.write_text(f"# changed by me\n{good}", "utf-8")
    follow(watching)
    assert wanted(mine) == edited
    assert not mine.refused.exists()


def test_what_the_disk_refuses_is_said_when_the_reason_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    attempting = Attempts("supervisor", OSError)
    monkeypatch.setattr(attempts, "TRY_AGAIN", 0)
    reasons = ["disk full", "disk full", "not permitted", "not permitted", "", "", "disk full"]

    def work() -> None:
        if why := reasons.pop(0):
            raise OSError(why)

    with capture_logs() as logs:
        while reasons:
            attempting.attempt("work", work)
    assert [log.get("why", log["event"]) for log in logs] == [
        "disk full",
        "not permitted",
        "supervisor_goes_on",
        "disk full",
    ]
    monkeypatch.setattr(attempts, "TRY_AGAIN", 1000)
    reasons = ["disk full", "never asked"]
    attempting.attempt("work", work)
    attempting.attempt("work", work)
    assert reasons == ["never asked"]


def said(pid: int, number: int) -> status.Status:
    return msgspec.structs.replace(said_at(0), pid=pid, number=number)


def test_a_judge_in_recovery_is_not_taken_for_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = chosen(tmp_path)
    mine.data.mkdir()
    judge = Child("judge", [sys.executable, "-c", "import signal; signal.pause()"], {})
    judge.keep()
    pid = judge.pid
    assert pid is not None
    killed: list[int | None] = []
    monkeypatch.setattr(judge, "kill", lambda: killed.append(pid))
    monkeypatch.setattr(supervisor, "HUNG", -1)
    try:
        status.write(mine.status, said(pid, 7))  # an earlier run's, with the same process id
        watching = Supervisor(mine)
        watching.children[0] = judge
        watching._watch_judge()
        assert killed == []
        status.write(mine.status, said(pid, 8))
        watching._watch_judge()
        assert killed == [pid]
    finally:
        judge.end()


def test_an_empty_registry_takes_the_folder_and_later_does_not_look_at_it(tmp_path: Path) -> None:
    mine = chosen(tmp_path)
    watching = Supervisor(mine)
    first, edit = in_force(mine)
    assert edit == "serve: first start"
    edited = rename(mine, "edited")
    follow(watching)
    assert in_force(mine) == (edited, "li: edited")
    with capture_logs() as logs:
        again = Supervisor(mine)
        follow(again)
        again._compiler.compare_folder()
    assert in_force(mine) == (edited, "li: edited"), "the folder still says what it said at first"
    assert [log["event"] for log in logs] == ["registry_compiled", "registry_folder_differs"]
    assert first != edited
    assert rename(mine, "第1厂") == first
    with capture_logs() as logs:
        Supervisor(mine)._compiler.compare_folder()
    assert logs == []


def test_an_empty_registry_without_a_folder_is_said_and_one_with_content_needs_none(tmp_path: Path) -> None:
    mine = chosen(tmp_path)
    without = mine.model_copy(update={"registry": None})
    with pytest.raises(NoRegistry, match="registry import"):
        Supervisor(without)
    Supervisor(mine)
    assert Supervisor(without)._compiler.registry.version == versions.wanted(mine.versions)


def test_a_registry_that_has_mistakes_or_cannot_be_read_leaves_the_version_that_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database refuses mistakes; but a later Fenghuo may be stricter, and a disk may be broken."""
    mine = chosen(tmp_path)
    Supervisor(mine)
    before = versions.wanted(mine.versions)
    engine = open_database(mine.registry_database)
    with writing(engine) as connection:
        connection.execute(records.update().where(records.c.kind == "point").values(body='{"point": "P"}'))
    watching = Supervisor(mine)
    follow(watching)
    assert watching._compiler.registry.version == before
    assert "point: is empty" not in mine.refused.read_text("utf-8")
    assert "gateway: is empty" in mine.refused.read_text("utf-8")
    [file] = mine.versions.glob("*.registry")
    good = file.read_bytes()
    file.write_bytes(good[:-1])
    with pytest.raises(RegistryErrors, match="gateway"):  # neither what was in force nor anything else
        Supervisor(mine)
    file.write_bytes(good)
    monkeypatch.setattr(supervisor, "open_database", partial(open_database, busy=0.01))
    with writing(engine):  # by an import, say
        assert Supervisor(mine)._compiler.registry.version == before
    engine.dispose()


@pytest.mark.mosquitto
@needs_mosquitto
def test_a_broker_that_dies_is_told_once(tmp_path: Path) -> None:
    mine = chosen(tmp_path, broker=None, broker_port=free_port())
    watching = Supervisor(mine)
    broker = watching._broker
    assert isinstance(broker, Mosquitto)
    try:
        watching._keep_broker()
        assert broker.running
        assert not mine.broker_died.exists()
        broker.kill()
        watching._keep_broker()
        assert mine.broker_died.exists()
        mine.broker_died.unlink()
        watching._keep_broker()
        assert not mine.broker_died.exists()
    finally:
        broker.stop()


@pytest.mark.mosquitto
@needs_mosquitto
def test_an_edit_before_the_judge_has_subscribed_again_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mosquitto told to read its accounts anew would keep nothing for a session of before its start."""
    mine = chosen(tmp_path, broker=None, broker_port=free_port())
    watching = Supervisor(mine)
    broker = watching._broker
    assert isinstance(broker, Mosquitto)
    gateway = gateway_user(code(1), "gw1")
    try:
        watching._keep_broker()
        with judge_of(watching, broker) as judge:
            judge.subscribe("fenghuo/v1/#")
        broker.stop()
        broker.start()
        before = watching._secret[gateway]
        mine.passwords.write_text(mine.passwords.read_text("utf-8").replace(before, "another"), "utf-8")
        with watching._taking_force(watching._compiler.registry):
            pass
        watching._admit()
        with User(broker, gateway, password=before) as sends:
            assert sends.publish(f"fenghuo/v1/{code(1)}/gw1/readings", b"kept") == 0
        with judge_of(watching, broker) as judge:
            while not judge.heard:
                threading.Event().wait(0.01)
        monkeypatch.setattr(watching, "_saved", broker.pid)
        watching._admit()
        while (
            User(broker, gateway, password="another").refused is not None
        ):  # mosquitto may not have read it yet
            threading.Event().wait(0.01)
    finally:
        broker.stop()


def judge_of(watching: Supervisor, broker: Mosquitto) -> User:
    """A client with the judge's session."""
    return User(broker, COLLECTOR, password=watching._secret[COLLECTOR], clean_start=False)


def test_a_broken_rulebook_is_refused_and_holds_up_no_edit_of_the_registry(tmp_path: Path) -> None:
    book = tmp_path / "rulebook.yaml"
    book.write_bytes(rulebook_file.SHIPPED.read_bytes())
    mine = chosen(tmp_path, rulebook=book)
    ours = Supervisor(mine)
    rules = versions.part(versions.wanted(mine.versions) or "", versions.RULEBOOK)
    book.write_text("tiers: {HH: V}\nnonsense: 1\n", "utf-8")
    edited = rename(mine, "another name")
    for _ in range(2):  # it has to stand still between two looks
        ours._compiler.follow()
    assert versions.wanted(mine.versions) == f"{edited}.{rules}"
    said = mine.refused.read_text("utf-8")
    assert "nonsense" in said
    assert "rulebook.yaml:1" in said


def test_a_template_that_the_rulebook_does_not_have_is_told_and_holds_up_no_edit(tmp_path: Path) -> None:
    mine = chosen(tmp_path)
    ours = Supervisor(mine)
    engine = open_database(mine.registry_database)
    store = RegistryStore(engine)
    [point, *_] = store.records("point")
    store.edit(
        [Change("point", point.key, {"template": "combustible_gas.tunel"})],
        who="li", why="x", now=1, origin="command",
    )  # fmt: skip
    edited = rename(mine, "another name")
    follow(ours)
    assert wanted(mine) == edited
    assert "combustible_gas.tunel" in mine.refused.read_text("utf-8")
    in_force = configuration.load(mine.versions, versions.wanted(mine.versions) or "").registry
    assert set(in_force.points.template) == {""}, "judged as others of its kind"
    book = tmp_path / "rulebook.yaml"
    book.write_text("nonsense: 1\n", "utf-8")
    Supervisor(mine.model_copy(update={"rulebook": book}))._compiler.follow()
    said = mine.refused.read_text("utf-8")
    assert "combustible_gas.tunel" in said
    assert "nonsense" in said
    store.edit(
        [Change("point", point.key, {"template": ""})], who="li", why="x", now=2, origin="command"
    )  # fmt: skip
    engine.dispose()
    follow(ours)
    assert not mine.refused.exists()


def test_a_rulebook_that_lacks_a_template_which_points_name_is_refused(tmp_path: Path) -> None:
    shipped = rulebook_file.SHIPPED.read_text("utf-8")
    book = tmp_path / "rulebook.yaml"
    book.write_text(shipped.replace("\npoints:\n", "\npoints:\n  combustible_gas.tunnel: {}\n"), "utf-8")
    mine = chosen(tmp_path, rulebook=book)
    ours = Supervisor(mine)
    rules = versions.part(versions.wanted(mine.versions) or "", versions.RULEBOOK)
    engine = open_database(mine.registry_database)
    store = RegistryStore(engine)
    [point, *_] = store.records("point")
    tunnel = Change("point", point.key, {"template": "combustible_gas.tunnel"})
    store.edit([tunnel], who="li", why="x", now=1, origin="command")
    engine.dispose()
    follow(ours)
    assert not mine.refused.exists()
    book.write_text(shipped, "utf-8")
    follow(ours)
    assert "combustible_gas.tunnel" in mine.refused.read_text("utf-8")
    assert versions.part(versions.wanted(mine.versions) or "", versions.RULEBOOK) == rules
