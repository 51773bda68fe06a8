"""The supervisor keeps what runs alive and unchanged, whatever an edit, a second start or the disk does."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from structlog.testing import capture_logs

from fenghuo import settings, status, supervisor
from fenghuo.settings import Settings
from fenghuo.supervisor import Child, Supervisor
from ingest.broker import Mosquitto, free_port
from ingest.journal import Journal, JournalLocked
from registry import versions
from registry.compile import compile_folder
from tests.folders import write_registry
from tests.servers import needs_mosquitto
from tests.test_commands import said_at


def chosen(folder: Path, **given: Any) -> Settings:
    """Settings of a registry of one enterprise; with a broker that does not answer unless told otherwise."""
    write_registry(folder / "registry", enterprises=1)
    given = {"broker": {"url": "mqtt://127.0.0.1:1"}, **given}
    return settings.make(registry=folder / "registry", data=folder / "data", journal_reserve=0, **given)


def rename(folder: Path, name: str) -> str:
    """Change the registry so that it has no mistake; the version that it then is."""
    path = folder / "registry" / "enterprises.yaml"
    [enterprise] = yaml.safe_load(path.read_text("utf-8"))
    path.write_text(yaml.safe_dump([{**enterprise, "name": name}], allow_unicode=True), "utf-8")
    return compile_folder(folder / "registry").version


def follow(watching: Supervisor) -> None:
    """Two looks at the folder: it has stood still between them."""
    watching._follow_folder()
    watching._follow_folder()


def test_a_second_start_is_refused_before_it_changes_anything(tmp_path: Path) -> None:
    mine = chosen(tmp_path)
    Supervisor(mine)
    wanted = versions.wanted(mine.versions)
    assert rename(tmp_path, "another") != wanted
    with Journal(mine.journal, reserve=0), pytest.raises(JournalLocked):
        Supervisor(mine)
    assert versions.wanted(mine.versions) == wanted


def test_a_fault_of_ours_in_an_edit_leaves_the_version_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = chosen(tmp_path)
    watching = Supervisor(mine)
    wanted = versions.wanted(mine.versions)

    def fail(_: Path) -> None:
        raise ValueError("nobody thought of this")

    rename(tmp_path, "edited")
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(supervisor, "compile_folder", fail)
        follow(watching)
        follow(watching)
    assert [log["event"] for log in logs] == ["registry_failed", "registry_refused"], "said once"
    assert versions.wanted(mine.versions) == wanted
    assert mine.refused.read_text("utf-8") == "ValueError: nobody thought of this"
    better = rename(tmp_path, "edited again")
    follow(watching)
    assert versions.wanted(mine.versions) == better
    assert not mine.refused.exists()


def test_a_slip_in_the_file_of_passwords_leaves_the_version_in_force_until_it_is_mended(
    tmp_path: Path,
) -> None:
    mine = chosen(tmp_path, broker=None, clock="127.0.0.1:1")
    watching = Supervisor(mine)
    wanted = versions.wanted(mine.versions)
    good = mine.passwords.read_text("utf-8")
    mine.passwords.write_text(f"# changed by me\n{good}a slip of mine\n", "utf-8")
    edited = rename(tmp_path, "edited")
    follow(watching)
    assert versions.wanted(mine.versions) == wanted
    assert mine.refused.read_text("utf-8").startswith(f"{mine.passwords}:4: expected `USER PASSWORD`")
    mine.passwords.write_text(f"# changed by me\n{good}", "utf-8")
    follow(watching)
    assert versions.wanted(mine.versions) == edited
    assert not mine.refused.exists()


def test_what_the_disk_refuses_is_said_when_the_reason_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Supervisor(chosen(tmp_path))
    monkeypatch.setattr(supervisor, "TRY_AGAIN", 0)
    reasons = ["disk full", "disk full", "not permitted", "not permitted", "", "", "disk full"]

    def work() -> None:
        if why := reasons.pop(0):
            raise OSError(why)

    with capture_logs() as logs:
        while reasons:
            watching._attempt("work", work)
    assert [log.get("why", log["event"]) for log in logs] == [
        "disk full",
        "not permitted",
        "supervisor_goes_on",
        "disk full",
    ]
    monkeypatch.setattr(supervisor, "TRY_AGAIN", 1000)
    reasons = ["disk full", "never asked"]
    watching._attempt("work", work)
    watching._attempt("work", work)
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
