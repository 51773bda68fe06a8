"""The serving process from inside: what it says of the judge, and that none of its parts takes another along."""

import asyncio
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from alerting import store
from alerting.desk import Desk
from fenghuo import serving, status
from fenghuo.historian_status import HistorianStatus, HomeStatus
from fenghuo.serving import DEAD, HISTORY_BEHIND, HISTORY_LOOK, HISTORY_STUCK, LATELY, OFTEN, Serving, serve
from fenghuo.settings import Settings
from fenghuo.status import Status
from ingest.broker import free_port
from registry.clock import SECOND, SystemClock
from registry.database import open_database, reading, writing
from streams.finding import Phase, Tier
from streams.system_findings import SystemFindings
from tests.build import PointSpec, make_registry

NOW = 1_795_334_400_000_000  # 2026-11-22T08:00:00Z
REGISTRY = make_registry([PointSpec(id="TI-1", H=80.0)])


class House:
    """A serving process's inside, with a judge's status file that the test writes."""

    def __init__(self, template: Path, folder: Path) -> None:
        shutil.copy(template, folder / "desk.sqlite")
        self.settings = Settings(registry=folder, data=folder, listen=f"127.0.0.1:{free_port()}")
        self.serving = self.start()

    def start(self) -> Serving:
        self.serving = Serving(self.settings, SystemClock(), REGISTRY)
        self.watch = self.serving._heard_at
        return self.serving

    def says(self, pid: int, number: int, time: int = 0) -> None:
        """The judge of this pid writes its status for the so-many-th time."""
        empty: dict[Any, Any] = {int: 0, float: 0.0, str: "", bool: True, status.Latency: status.Latency()}
        values = {
            field.name: empty.get(field.type, {})
            for field in msgspec.structs.fields(Status)
            if field.required
        }
        values |= {"pid": pid, "number": number, "version": REGISTRY.version, "time": time}
        status.write(self.settings.status, Status(**values))

    def look(self, seconds: float) -> None:
        """The watch looks, so many seconds after it did before."""
        self.watch += seconds
        self.serving.watch_judge(self.watch)

    def open(self) -> int:
        """How many findings about the system the desk holds that are not over."""
        with reading(self.serving.database) as connection:
            return len(store.open_system_findings(connection))


@pytest.fixture
def house(template: Path, tmp_path: Path) -> Iterator[House]:
    house = House(template, tmp_path)
    yield house
    house.serving.close()


# -- the judge ---------------------------------------------------------------------------------------


def test_what_is_not_known_neither_begins_nor_ends_a_finding() -> None:
    system = SystemFindings()
    assert system.holds("system.judge", NOW, None) == []
    [begun] = system.holds("system.judge", NOW, "it says nothing")
    assert system.holds("system.judge", NOW + 1, None) == []
    [ended] = system.holds("system.judge", NOW + 2, "")
    assert (begun.phase, ended.phase, ended.id) == (Phase.BEGUN, Phase.ENDED, begun.id)


def test_what_a_dead_judge_has_left_behind_is_no_word_of_it(house: House) -> None:
    house.says(1, 7)
    house.look(DEAD + 1)
    assert house.open() == 0, "it has just been heard"
    house.look(DEAD + 1)
    assert house.open() == 1
    house.serving.close()
    house.start()  # the serving process died as well, and comes back first
    for _ in range(3):
        house.look(DEAD / 3 - 1)
        assert house.open() == 1
    house.look(DEAD)
    assert house.open() == 1
    house.says(2, 1)
    house.look(1)
    assert house.open() == 0


def test_a_judge_that_keeps_dying_is_told_once_until_it_lives(house: House) -> None:
    for pid in range(1, OFTEN):
        house.says(pid, 1)
        house.look(DEAD + 2 if pid > 1 else 1)
        assert house.open() == 0, "each was heard in time"
    for pid in range(OFTEN, 2 * OFTEN):
        house.says(pid, 1)
        house.look(2)
        assert house.open() == 1
    for number in range(2, 2 + int(LATELY / DEAD)):
        house.says(pid, number)
        house.look(DEAD)
    assert house.open() == 0
    with reading(house.serving.database) as connection:
        assert len(store.alerts(connection, store.Scope(system=True))) == 1


def test_a_history_that_takes_nothing_for_long_is_told_until_it_does(house: House) -> None:
    watch, number = house.watch, 0

    def look(seconds: float, problem: str | None) -> None:
        """Look as often as it is looked, while the historian says so; None: it says nothing."""
        nonlocal watch, number
        for _ in range(round(seconds / HISTORY_LOOK)):
            watch += HISTORY_LOOK
            number += 1
            now = NOW + round(watch * SECOND)
            house.says(1, number, time=now)
            if problem is not None:
                time = now if not problem else 0  # it is begun again and again, and gets nowhere
                home = HomeStatus(position=1, time=time, problem=problem.strip(), lost=0, counts={})
                said = HistorianStatus(pid=number, number=1, homes={"parquet": home})
                status.write(house.settings.history_status, said)
            house.serving.watch_history(watch)

    look(60, "")
    for problem in ("the disk is full", " ", None):
        look(HISTORY_STUCK - HISTORY_LOOK, problem)
        assert house.open() == 0
        look(HISTORY_BEHIND / SECOND + 2 * HISTORY_LOOK, problem)
        assert house.open() == 1
        look(HISTORY_LOOK, "")
        assert house.open() == 0
    with reading(house.serving.database) as connection:
        [alert] = store.alerts(connection, store.Scope(system=True))
    assert (alert.rule, alert.tier) == ("system.history", Tier.III)


def test_what_a_locked_desk_did_not_take_is_said_again(house: House) -> None:
    house.serving._own_desk = Desk(open_database(house.settings.data / "desk.sqlite", busy=0.01), REGISTRY)
    with writing(house.serving.database):
        house.look(DEAD + 1)
    assert house.open() == 0
    house.look(1)
    assert house.open() == 1


def test_what_a_fault_kept_from_the_desk_is_said_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Desk, "round", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            house.look(DEAD + 1)
    house.look(1)
    assert house.open() == 1


def test_a_status_that_cannot_be_read_is_no_word(house: House) -> None:
    house.settings.status.mkdir()
    house.serving.follow_registry()
    house.look(DEAD + 1)
    assert house.open() == 1


# -- parts -------------------------------------------------------------------------------------------


def test_callers_that_hold_every_connection_keep_nobody_from_being_called(house: House) -> None:
    held = [house.serving.database.connect() for _ in range(15)]
    house.look(DEAD + 1)
    assert not house.serving.sender.idle(house.serving.clock.now()), "the notice waits to be sent"
    for connection in held:
        connection.close()
    assert house.open() == 1


def test_a_part_that_fails_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "AGAIN", 0)
    begun = 0

    async def part(stop: asyncio.Event) -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise OSError("no descriptor is left")
        stop.set()

    asyncio.run(serving._keep(part, asyncio.Event()))
    assert begun == 3


def test_a_server_that_ends_is_begun_again_and_signals_stay_ours(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "AGAIN", 0)
    servers: list[serving.Server] = []

    class Recorded(serving.Server):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            servers.append(self)

    monkeypatch.setattr(serving, "Server", Recorded)

    async def healthy() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    reply = await client.get(f"http://{house.settings.listen}/api/v1/health")
                except httpx.ConnectError:
                    await asyncio.sleep(0.01)
                    continue
                assert reply.status_code == 200
                return

    async def all_of_it() -> None:
        stop = asyncio.Event()
        ours = signal.getsignal(signal.SIGINT)
        running = asyncio.ensure_future(serve(house.serving, stop))
        async with asyncio.timeout(20):
            await healthy()
            assert signal.getsignal(signal.SIGINT) is ours
            servers[0].should_exit = True
            while len(servers) < 2:
                await asyncio.sleep(0.01)
            await healthy()
            stop.set()
            await running

    asyncio.run(all_of_it())
