"""The judge's promises, at the seams: what may leave it, and when. No broker: messages are handed to it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import registry.versions
from alerting.desk import DatabaseBusy
from alerting.tables import upgrade
from fenghuo import judge as judging
from fenghuo.judge import Judge
from fenghuo.settings import Broker, Settings
from ingest import journal
from ingest.broker import free_port
from ingest.message import Message
from registry.clock import SECOND
from registry.database import open_database, reading
from registry.model import Registry
from streams import configuration
from streams.facts import FactEngine
from streams.finding import Finding, Phase
from tests.build import RULEBOOK, PointSpec, code, make_registry

TOPIC = f"fenghuo/v1/{code(1)}/gw1"


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    compiled = make_registry([PointSpec(id="P1", H=50.0), PointSpec(id="P2", H=50.0)])
    settings = Settings(
        registry=tmp_path,
        data=tmp_path,
        broker=Broker(url=f"mqtt://127.0.0.1:{free_port()}"),
        journal_reserve=0,
    )
    version = configuration.save(settings.versions, compiled, RULEBOOK)
    registry.versions.want(settings.versions, version)
    database = open_database(tmp_path / "desk.sqlite")
    upgrade(database)
    database.dispose()
    made = Judge(settings)
    yield made
    made._collector.close()
    made._journal.close()
    made._lasting.dispose()


def readings(judge: Judge, mid: int, later: int = 0, **values: float) -> Message:
    time = judging.moment(judge._now() + later * SECOND, "UTC").replace(" ", "T") + "Z"
    return Message(f"{TOPIC}/readings", json.dumps({"time": time, "readings": values}).encode(), mid, 1)


def journaled(judge: Judge) -> int:
    return sum(len(r.readings) for _, r in journal.read(judge._settings.journal, 0))


def test_nothing_is_acknowledged_before_all_of_it_is_in_the_journal(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: list[tuple[int, int]] = []
    monkeypatch.setattr(
        judge._collector,
        "acknowledge",
        lambda messages: acknowledged.append((len(messages), journaled(judge))),
    )
    online = Message(f"{TOPIC}/status", b'{"online": true}', 2, 1)
    now = judge._now()
    judge._absorb([readings(judge, 1, P1=60.0), online, readings(judge, 3, P2=5.0)], now)
    assert acknowledged == [(3, 2)], "the first round gave an alert, the second did not"
    judge._absorb([readings(judge, 4, P2=6.0)], now)
    assert len(acknowledged) == 1, "nothing was found: it waits for others"
    assert judge._write()
    assert acknowledged[1:] == [(1, 3)]


def put_in_force(judge: Judge) -> None:
    before = judge._registry.version
    while judge._registry.version == before:  # what is wanted is loaded beside
        judge._reconfigure(judge._now())


def test_a_version_over_which_the_engine_fails_is_left_out_at_the_next_start_and_ends_nothing(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = judge._registry.version
    judge._absorb([readings(judge, 1, P1=60.0)], judge._now())
    other = make_registry([PointSpec(id="P1", H=70.0)], version="r2")
    wanted = configuration.save(judge._settings.versions, other, RULEBOOK)
    registry.versions.want(judge._settings.versions, wanted)

    reconfigure = FactEngine.reconfigure

    def fail(engine: FactEngine, coming: Registry, now: int) -> list[Finding]:
        if coming.version == wanted:
            raise ZeroDivisionError("injected")
        return reconfigure(engine, coming, now)

    with monkeypatch.context() as broken:
        broken.setattr(FactEngine, "reconfigure", fail)  # after the points have taken the new version
        with pytest.raises(ZeroDivisionError):
            put_in_force(judge)
        judge._journal.close()
        again = Judge(judge._settings)
        try:
            assert again._registry.version == before
            assert [finding.rule for finding in again._pending] == [
                "limit.high",
                "system.engine",
                "system.engine",
            ]
            assert again._journal.version == before, "a judge that begins here has no doubt"
            offset = again._journal.last_offset
            assert wanted in again._reconfigure(again._now())
            assert again._journal.last_offset == offset, "not tried again and again"
            again._absorb([readings(again, 2, later=2, P1=5.0)], again._now())
            assert [finding.phase for finding in again._pending][3:] == [Phase.ENDED]
        finally:
            again._collector.close()
            again._journal.close()
            again._lasting.dispose()


def test_versions_that_change_faster_than_they_are_loaded_take_force_all_the_same(judge: Judge) -> None:
    folder = judge._settings.versions
    versions = []
    for number in range(4):
        compiled = make_registry([PointSpec(id="P1", H=50.0 + number)], version=f"r{number}")
        versions.append(configuration.save(folder, compiled, RULEBOOK))
    before = judge._registry.version
    for number in range(10_000):  # each look finds another one wanted than the look before
        registry.versions.want(folder, versions[number % 4])
        judge._reconfigure(judge._now())
        if judge._registry.version != before:
            break
    assert judge._registry.version in versions


def test_what_was_refused_is_said_with_its_first_mistake(judge: Judge) -> None:
    assert judge._reconfigure(judge._now()) == ""
    judge._settings.refused.write_text("rulebook.yaml:3: no tier V\npoint P1: H is below L\n", "utf-8")
    assert judge._reconfigure(judge._now()) == "rulebook.yaml:3: no tier V (+ 1)"


def test_no_snapshot_is_beyond_what_a_power_cut_may_undo_of_the_desk(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine, waits in ((judge._lasting, 2), (judge._desk._engine, 1)):
        with reading(engine) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == waits

    def busy(engine: object) -> None:
        assert engine is judge._lasting
        assert not judge._settings.snapshot.exists()
        raise DatabaseBusy("locked")

    with monkeypatch.context() as locked:
        locked.setattr(judging, "make_durable", busy)
        judge._snapshot(wait=True)
        assert not judge._settings.snapshot.exists()
    judge._snapshot(wait=True)
    assert judge._settings.snapshot.exists()
