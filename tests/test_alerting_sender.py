"""The sender with real processes: nothing lost, every repeat marked, one dead phone holds up nobody."""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, insert, select, update

from alerting import store
from alerting.alert import Notice, NoticeState, Role
from alerting.channels import Channel, ChannelSettings, Delivery, HttpChannel, Outcome
from alerting.sender import Lines, Retry, Sender, settle
from alerting.store import Scope
from alerting.tables import alerts, metadata, outbox, upgrade
from registry.clock import DAY, HOUR, MINUTE, SECOND, Clock, SystemClock
from registry.database import open_database, reading, writing
from streams.finding import Tier
from tests.phones import ROOT, Phone, until
from tests.servers import new_database

NOW = 1_795_334_400_000_000  # 2026-11-22T08:00:00Z


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgresql, pytest.mark.long])]
)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with one alert."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / 'desk.sqlite'}"
        else:
            url = stack.enter_context(new_database(request.getfixturevalue("postgres"), upgrade))
        engine = open_database(url)
        metadata.create_all(engine)
        with writing(engine) as connection:
            values: dict[str, Any] = {}
            for column in alerts.columns:
                values[column.name] = "" if column.type.python_type is str else 0
            values |= {
                "id": "a1",
                "tier": Tier.III,
                "condition": "active",
                "answer": "unconfirmed",
                "evidence": "[]",
                "basis": "{}",
            }
            connection.execute(insert(alerts).values(values))
        engine.dispose()
        yield url


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = open_database(database)
    yield engine
    engine.dispose()


def put(
    engine: Engine,
    ids: Sequence[str],
    *,
    address: str = "",
    now: int = NOW,
    channel: str = "phone",
    role: Role = Role.ASKED,
    tier: Tier = Tier.III,
    language: str = "zh",
) -> None:
    rows = [
        {
            "id": id,
            "alert": "a1",
            "step": 1,
            "person": "wang",
            "role": role,
            "tier": tier,
            "channel": channel,
            "address": address or id,
            "language": language,
            "title": "报警",
            "text": id,
            "due": now,
            "created": now,
            "attempts": 0,
            "maybe_delivered": False,
            "state": NoticeState.WAITING,
            "error": "",
            "delivered": 0,
        }
        for id in ids
    ]
    with writing(engine) as connection:
        connection.execute(insert(outbox), rows)


def rows(engine: Engine) -> dict[str, Any]:
    with reading(engine) as connection:
        return {row.id: row for row in connection.execute(select(outbox))}


def all_delivered(engine: Engine) -> bool:
    with reading(engine) as connection:
        return not connection.scalar(
            select(func.count()).where(outbox.c.state != NoticeState.DELIVERED).select_from(outbox)
        )


def check_marks(rings: list[dict[str, Any]]) -> None:
    """Whatever was heard before is marked when heard again."""
    heard: set[str] = set()
    for ring in rings:
        assert ring["repeat"] or ring["id"] not in heard, f"an unmarked repeat of {ring['id']}"
        heard.add(ring["id"])


@contextlib.contextmanager
def sender(database: str, url: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.sender_process", database, url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class StillClock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.time = NOW
        self.asked = 0

    def now(self) -> int:
        self.asked += 1
        return self.time

    def timeout(self, until: int) -> float | None:
        return 0.0 if until <= self.time else None

    def marks(self, since: int, now: int) -> Sequence[int]:
        return ()

    def fileno(self) -> int:
        return -1

    def poll(self) -> None:
        pass

    def rest(self) -> None:
        pass


class Script:
    """A channel in memory whose outcomes the test has written down; the last one goes on for ever."""

    concurrency = 4

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[tuple[str, bool]] = []
        self.texts: list[str] = []

    async def send(self, notice: Notice, *, repeat: bool, now: int) -> Delivery:
        self.sent.append((notice.id, repeat))
        self.texts.append(notice.text)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        return Delivery(outcome, "" if outcome is Outcome.DELIVERED else "as written")

    async def close(self) -> None:
        pass


async def settled(sender: Sender, clock: StillClock) -> None:
    """Until the sender has looked at the clock, and says that it has done all that was due."""
    before = clock.asked
    async with asyncio.timeout(10):
        while clock.asked < before + 2 or not sender.idle(clock.time):
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def steps(engine: Engine, channel: Channel, clock: Clock) -> Iterator[tuple[asyncio.Runner, Sender]]:
    """A sender that runs whenever the runner does; one that dies is the test's failure."""
    with asyncio.Runner() as runner:
        stop = asyncio.Event()
        sender = Sender(engine, clock, {"phone": channel})
        task = runner.get_loop().create_task(sender.run(stop))
        try:
            yield runner, sender
        finally:
            stop.set()
            runner.run(asyncio.wait_for(task, 20))


async def put_off(sender: Sender) -> None:
    """Until the sender has found the database locked."""
    async with asyncio.timeout(20):
        while not sender.counts.database_busy:
            await asyncio.sleep(0.005)


# -- pure ----------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=20), st.integers(1, 10_000))
def test_waits_grow_to_a_cap_spread_and_always_the_same(notice: str, attempts: int) -> None:
    retry = Retry()
    base = min(MINUTE, SECOND * 2 ** (attempts - 1))
    wait = retry.wait(notice, attempts)
    assert 0.75 * base <= wait < 1.25 * base
    assert wait == Retry().wait(notice, attempts)


def test_what_failed_together_does_not_come_back_together() -> None:
    waits = {Retry().wait(f"notice {i}", 6) for i in range(100)}
    assert len(waits) == 100


def make(**changes: Any) -> Notice:
    fields: dict[str, Any] = {
        "id": "n", "alert": "a1", "step": 1, "person": "wang", "role": Role.ASKED, "channel": "phone",
        "tier": Tier.III, "language": "zh", "address": "1", "title": "", "text": "", "due": NOW, "created": NOW,
        "attempts": 1,
        "state": NoticeState.SENDING,
    }  # fmt: skip
    return Notice(**(fields | changes))


@given(
    st.sampled_from(Outcome),
    st.booleans(),
    st.integers(0, 2 * DAY),
    st.integers(1, 99),
    st.integers(0, 2 * HOUR),
)
def test_what_an_outcome_makes_of_a_notice(
    outcome: Outcome, maybe: bool, age: int, attempts: int, misdirected: int
) -> None:
    notice = make(maybe_delivered=maybe, attempts=attempts)
    after = settle(notice, Delivery(outcome, "why"), NOW + age, Retry(), misdirected)
    if outcome is Outcome.DELIVERED:
        assert (after.state, after.delivered, after.error) == (NoticeState.DELIVERED, NOW + age, "")
        return
    assert "why" in after.error
    assert after.maybe_delivered == (maybe or outcome is Outcome.UNKNOWN)
    long_misdirected = outcome is Outcome.MISDIRECTED and misdirected >= HOUR
    if outcome is Outcome.REFUSED or age >= DAY or long_misdirected:
        assert after.state is NoticeState.FAILED
    else:
        assert after.state is NoticeState.WAITING
        assert after.due > NOW + age


def test_a_receiver_that_is_set_up_wrongly_is_tried_slowly_for_an_hour() -> None:
    notice, now, waits = make(attempts=50), NOW, []  # before, there was an outage
    while notice.state is not NoticeState.FAILED:
        notice = settle(notice, Delivery(Outcome.MISDIRECTED, "HTTP 401"), now, Retry(), now - NOW)
        waits.append((notice.due - now) / MINUTE)
        now = notice.due
        notice = msgspec.structs.replace(notice, attempts=notice.attempts + 1)
    assert len(waits) < 13
    assert waits[0] <= 1.25, "it may be over in a moment"
    assert max(waits) <= 12.5
    assert now - NOW >= HOUR
    assert "HTTP 401" in notice.error


def test_failing_lines_get_at_most_half_and_a_line_one_call() -> None:
    channels = {"phone": Script(Outcome.DELIVERED)}  # four at a time
    dead = [("phone", f"dead{i}") for i in range(9)]
    lines = Lines(channels, calling=[("phone", "busy")], failing=dead)
    assert not lines.take(("phone", "busy"))
    assert [lines.take(line) for line in dead[:3]] == [True, True, False]
    assert lines.take(("phone", "well"))
    assert not lines.take(("phone", "late"))  # the channel is full


# -- the loop, under a clock that stands still -----------------------------------------------------


def test_retries_follow_the_clock_and_only_what_may_have_rung_is_a_repeat(engine: Engine) -> None:
    clock = StillClock()
    channel = Script(Outcome.NOT_DELIVERED, Outcome.NOT_DELIVERED, Outcome.UNKNOWN, Outcome.DELIVERED)
    put(engine, ["n"])
    with steps(engine, channel, clock) as (runner, sender):
        for attempt in (1, 2, 3):
            runner.run(settled(sender, clock))
            assert len(channel.sent) == attempt
            due = clock.time + Retry().wait("n", attempt)
            assert rows(engine)["n"].due == due
            clock.time = due - 1
            runner.run(settled(sender, clock))
            assert len(channel.sent) == attempt  # a microsecond early: not yet
            clock.time = due
        runner.run(settled(sender, clock))
    assert channel.sent == [("n", False), ("n", False), ("n", False), ("n", True)]
    row = rows(engine)["n"]
    assert (row.state, row.attempts, row.delivered) == (NoticeState.DELIVERED, 4, clock.time)
    assert sender.counts.repeats == 1


def test_after_a_day_it_is_given_up_and_the_row_says_why(engine: Engine) -> None:
    clock = StillClock()
    put(engine, ["n"], now=NOW - DAY)
    with steps(engine, Script(Outcome.NOT_DELIVERED), clock) as (runner, sender):
        runner.run(settled(sender, clock))
    row = rows(engine)["n"]
    assert (row.state, row.error) == (NoticeState.FAILED, "given up after 1 attempts: as written")
    assert sender.counts.failed == 1


def test_the_hour_of_a_receiver_that_is_set_up_wrongly_begins_with_its_first_such_answer(
    engine: Engine,
) -> None:
    """A proxy that says 404 for a moment, while what is behind it comes back, costs no notice."""
    clock = StillClock()
    put(engine, ["long"], now=NOW - 2 * HOUR)
    channel = Script(Outcome.MISDIRECTED, Outcome.UNKNOWN, Outcome.MISDIRECTED)
    with steps(engine, channel, clock) as (runner, sender):
        for _ in range(3):
            runner.run(settled(sender, clock))
            row = rows(engine)["long"]
            assert row.state == NoticeState.WAITING
            clock.time = row.due + HOUR - 2 * MINUTE
        put(engine, ["young"], address="long", now=clock.time - MINUTE, role=Role.TOLD)
        clock.time += 2 * MINUTE
        runner.run(settled(sender, clock))
    found = rows(engine)
    assert found["long"].state == NoticeState.FAILED, "an hour after the second began"
    assert found["young"].state == NoticeState.WAITING, "it has an hour of its own"


@pytest.mark.parametrize(("outcome", "age"), [(Outcome.REFUSED, 0), (Outcome.NOT_DELIVERED, DAY)])
def test_a_notice_given_up_stands_in_the_alerts_history(engine: Engine, outcome: Outcome, age: int) -> None:
    clock = StillClock()
    put(engine, ["n"], now=NOW - age)
    with steps(engine, Script(outcome), clock) as (runner, sender):
        runner.run(settled(sender, clock))
    with reading(engine) as connection:
        [step] = store.steps(connection, Scope(system=True), "a1")
        known = store.alert(connection, Scope(system=True), "a1")
    assert (step.step, step.event, step.actor, step.time) == (1, "undelivered", "sender", NOW)
    assert "wang, phone: " in step.detail.note
    assert "as written" in step.detail.note
    assert known is not None
    assert known.step == 1


def test_what_is_asked_goes_first_then_what_is_worse_then_what_was_due_first(engine: Engine) -> None:
    clock = StillClock()
    channel = Script(Outcome.DELIVERED)
    line = "13800000001"
    put(engine, ["told II"], address=line, now=NOW - 9, role=Role.TOLD, tier=Tier.II)
    put(engine, ["asked IV"], address=line, now=NOW - 8, tier=Tier.IV)
    put(engine, ["asked II, second"], address=line, now=NOW - 6, tier=Tier.II)
    put(engine, ["asked II, first"], address=line, now=NOW - 7, tier=Tier.II)
    put(engine, ["asked I"], address=line, now=NOW, tier=Tier.I)
    with steps(engine, channel, clock) as (runner, sender):
        runner.run(settled(sender, clock))
    order = ["asked I", "asked II, first", "asked II, second", "asked IV", "told II"]
    assert [id for id, _ in channel.sent] == order


@pytest.mark.parametrize(
    ("language", "since", "said"),
    [
        ("zh", {}, "延迟：这条通知晚了 55 分钟才送出，以下是当时的内容。n"),
        ("zh", {"confirmed": NOW}, "延迟：这条通知晚了 55 分钟才送出，以下是当时的内容。此后已有人确认。n"),
        ("zh", {"confirmed": NOW, "closed": NOW}, "以下是当时的内容。此告警此后已关闭。n"),
        ("zh", {"confirmed": NOW - HOUR}, "以下是当时的内容。n"),
        ("en", {"confirmed": NOW}, "what follows was said then. Somebody has confirmed it since. n"),
    ],
)
def test_a_notice_that_goes_out_late_says_so_and_what_happened_since(
    engine: Engine, language: str, since: dict[str, int], said: str
) -> None:
    clock = StillClock()
    put(engine, ["n"], now=NOW - 55 * MINUTE, language=language)
    with writing(engine) as connection:
        connection.execute(update(alerts).values(since or {"confirmed": 0}))
    channel = Script(Outcome.DELIVERED)
    with steps(engine, channel, clock) as (runner, sender):
        runner.run(settled(sender, clock))
    [text] = channel.texts
    assert text.endswith(said)
    assert text.startswith(("延迟", "Late"))
    assert rows(engine)["n"].text == "n", "the outbox keeps what was written"


def test_within_a_minute_nothing_is_said_of_it(engine: Engine) -> None:
    clock = StillClock()
    put(engine, ["n"], now=NOW - MINUTE)
    channel = Script(Outcome.DELIVERED)
    with steps(engine, channel, clock) as (runner, sender):
        runner.run(settled(sender, clock))
    assert channel.texts == ["n"]


def test_a_refusal_is_not_tried_again(engine: Engine) -> None:
    clock = StillClock()
    put(engine, ["n"])
    channel = Script(Outcome.REFUSED)
    with steps(engine, channel, clock) as (runner, sender):
        runner.run(settled(sender, clock))
        clock.time += DAY
        runner.run(settled(sender, clock))
    assert channel.sent == [("n", False)]
    assert rows(engine)["n"].state == NoticeState.FAILED


def test_a_notice_for_a_channel_that_is_not_configured_waits_and_says_so(engine: Engine) -> None:
    clock = StillClock()
    put(engine, ["n"], channel="pigeon")
    with steps(engine, Script(Outcome.DELIVERED), clock) as (runner, sender):
        runner.run(settled(sender, clock))
    row = rows(engine)["n"]
    assert (row.state, row.error) == (NoticeState.WAITING, "no channel is named 'pigeon'")


def test_a_fault_in_a_channel_is_counted_as_maybe_delivered(engine: Engine) -> None:
    class Faulty(Script):
        async def send(self, notice: Notice, *, repeat: bool, now: int) -> Delivery:
            raise ZeroDivisionError

    clock = StillClock()
    put(engine, ["n"])
    with steps(engine, Faulty(Outcome.DELIVERED), clock) as (runner, sender):
        runner.run(settled(sender, clock))
    row = rows(engine)["n"]
    assert (row.state, row.maybe_delivered) == (NoticeState.WAITING, True)
    assert "ZeroDivisionError" in row.error


def test_one_address_is_called_in_order(engine: Engine) -> None:
    clock = StillClock()
    channel = Script(Outcome.DELIVERED)
    for i in range(20):
        put(engine, [f"{i * 7 % 20:02}"], address="13800000001", now=NOW - 20 * SECOND + i * SECOND)
    with steps(engine, channel, clock) as (runner, sender):
        runner.run(settled(sender, clock))
    assert [id for id, _ in channel.sent] == [f"{i * 7 % 20:02}" for i in range(20)]


def test_what_a_dead_sender_left_behind_is_sent_again_marked(engine: Engine) -> None:
    clock = StillClock()
    put(engine, ["left", "fresh"])
    with writing(engine) as connection:
        connection.execute(update(outbox).where(outbox.c.id == "left").values(state=NoticeState.SENDING))
    channel = Script(Outcome.DELIVERED)
    with steps(engine, channel, clock) as (runner, sender):
        runner.run(settled(sender, clock))
    assert sorted(channel.sent) == [("fresh", False), ("left", True)]
    assert sender.counts.recovered == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_locked_database_only_puts_it_off(database: str) -> None:
    engine = open_database(database, busy=0.02)
    other = open_database(database)
    clock = StillClock()
    put(engine, ["n"])
    channel = Script(Outcome.DELIVERED)

    with steps(engine, channel, clock) as (runner, sender):
        with writing(other):
            runner.run(put_off(sender))
            assert channel.sent == []
        runner.run(settled(sender, clock))
    assert channel.sent == [("n", False)]
    assert all_delivered(engine)
    engine.dispose()
    other.dispose()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_claim_whose_commit_was_lost_on_the_way_is_taken_up_again(database: str) -> None:
    engine = open_database(database, busy=0.02)
    other = open_database(database)
    clock = StillClock()
    put(engine, ["n"])
    channel = Script(Outcome.DELIVERED)

    with steps(engine, channel, clock) as (runner, sender):
        runner.run(settled(sender, clock))
        put(other, ["lost"])
        with writing(other) as connection:
            runner.run(put_off(sender))
            claim = update(outbox).where(outbox.c.id == "lost").values(state=NoticeState.SENDING)
            connection.execute(claim)  # as if the failed one had got through
        runner.run(settled(sender, clock))
    assert channel.sent == [("n", False), ("lost", True)]
    engine.dispose()
    other.dispose()


def test_a_fault_that_nobody_foresaw_rings_nobody_twice(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StillClock()
    put(engine, ["n"])
    channel = Script(Outcome.DELIVERED)
    sender = Sender(engine, clock, {"phone": channel})

    async def story() -> None:
        assert await sender._exchange(clock.now())
        await asyncio.gather(*sender._calls)
        with monkeypatch.context() as broken:
            broken.setattr("alerting.sender._exchange", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                await sender._exchange(clock.now())
        assert await sender._exchange(clock.now())

    asyncio.run(story())
    sender._claims.close()  # as `run` does at its end
    assert channel.sent == [("n", False)]
    assert all_delivered(engine)


def test_an_attempt_under_way_when_told_to_stop_may_end_and_else_stays_marked(engine: Engine) -> None:
    class Endless(Script):
        async def send(self, notice: Notice, *, repeat: bool, now: int) -> Delivery:
            self.sent.append((notice.id, repeat))
            await asyncio.Event().wait()
            raise AssertionError

    clock = StillClock()
    channel = Endless(Outcome.DELIVERED)
    put(engine, ["n"])

    async def called() -> None:
        while not channel.sent:
            await asyncio.sleep(0.005)

    with steps(engine, channel, clock) as (runner, _):
        runner.run(called())
    row = rows(engine)["n"]
    assert (row.state, row.maybe_delivered) == (NoticeState.WAITING, True)


# -- real phones, real processes -------------------------------------------------------------------


def test_slow_and_dead_phones_do_not_hold_up_the_others(engine: Engine, tmp_path: Path) -> None:
    """Twelve dead addresses on eight lines; fifty others have long rung when the first time-out is over."""

    class Exchange:
        """Two phone exchanges behind one channel."""

        concurrency = 8

        def __init__(self, dead: str, well: str) -> None:
            self.dead = HttpChannel(ChannelSettings(name="phone", base=dead, timeout=1.5), b"secret")
            self.well = HttpChannel(ChannelSettings(name="phone", base=well, timeout=1.5), b"secret")

        async def send(self, notice: Notice, *, repeat: bool, now: int) -> Delivery:
            channel = self.dead if notice.address.startswith("dead") else self.well
            return await channel.send(notice, repeat=repeat, now=now)

        async def close(self) -> None:
            await self.dead.close()
            await self.well.close()

    clock = SystemClock()
    with (
        Phone(tmp_path / "dead.jsonl", "dead") as dead,
        Phone(tmp_path / "well.jsonl") as well,
        asyncio.Runner() as runner,
    ):
        channel = Exchange(dead.url, well.url)
        put(engine, [f"dead{i}" for i in range(12)], now=clock.now() - SECOND)
        stop = asyncio.Event()
        task = runner.get_loop().create_task(Sender(engine, clock, {"phone": channel}).run(stop))

        async def until_maybe(count: int) -> None:
            async with asyncio.timeout(20):
                while sum(row.maybe_delivered for row in rows(engine).values()) < count:
                    await asyncio.sleep(0.02)

        runner.run(until_maybe(12))  # every dead address is known as one that fails
        put(engine, [f"well{i:02}" for i in range(50)], now=clock.now())

        async def until_heard() -> None:
            async with asyncio.timeout(20):
                while len(well.rings()) < 50:
                    await asyncio.sleep(0.02)

        runner.run(until_heard())
        assert not dead.rings()
        check_marks(well.rings())
        stop.set()
        runner.run(asyncio.wait_for(task, 20))
        runner.run(channel.close())


def test_a_phone_that_dies_after_ringing_is_called_again_and_told_that_it_is_a_repeat(
    database: str, engine: Engine, tmp_path: Path
) -> None:
    with Phone(tmp_path / "rings.jsonl", mode="die-after-ring") as phone:
        put(engine, ["n"], now=SystemClock().now())
        with sender(database, phone.url):
            phone.wait()  # it rang, and was gone before it answered
            phone.start()
            until(lambda: all_delivered(engine))
        assert [ring["repeat"] for ring in phone.rings()] == [False, True]


def test_a_phone_that_is_not_there_yet_rings_once_and_unmarked(
    database: str, engine: Engine, tmp_path: Path
) -> None:
    with Phone(tmp_path / "rings.jsonl") as phone:
        phone.kill()
        put(engine, ["n"], now=SystemClock().now())
        with sender(database, phone.url):
            until(lambda: rows(engine)["n"].attempts >= 3)
            phone.start()
            until(lambda: all_delivered(engine))
        assert [ring["repeat"] for ring in phone.rings()] == [False]


def test_a_stopped_sender_leaves_nothing_in_doubt(database: str, engine: Engine, tmp_path: Path) -> None:
    with Phone(tmp_path / "rings.jsonl", mode="slow:0.3") as phone:
        put(engine, [f"n{i}" for i in range(30)], now=SystemClock().now())
        with sender(database, phone.url) as process:
            until(lambda: phone.rings())
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        states = {row.state for row in rows(engine).values()}
        assert states <= {NoticeState.WAITING, NoticeState.DELIVERED}
        assert not any(row.maybe_delivered for row in rows(engine).values())
        delivered = {row.id for row in rows(engine).values() if row.state == NoticeState.DELIVERED}
        assert delivered == {ring["id"] for ring in phone.rings()}


def kill_and_kill(database: str, engine: Engine, folder: Path, kills: int, seed: int) -> None:
    """Notices come all the time, the sender and sometimes the phone are killed -9; all must ring."""
    dice = random.Random(seed)
    clock = SystemClock()
    with Phone(folder / "rings.jsonl") as phone:
        put_so_far = 0
        for kill in range(kills):
            phone.mode(dice.choice(["ok", "slow:0.02", "lose-reply", "ring-error:500", "error:503"]))
            with sender(database, phone.url) as process:
                heard = len(phone.rings())
                for _ in range(dice.randrange(1, 4)):
                    batch = [f"{kill}-{put_so_far + i}" for i in range(dice.randrange(1, 20))]
                    put_so_far += len(batch)
                    put(engine, batch, address=dice.choice(["", "13800000001"]), now=clock.now())
                wanted = heard + dice.randrange(0, 15)
                # The phone may refuse at present, or have nothing to ring: kill it all the same.
                with contextlib.suppress(AssertionError):
                    until(lambda wanted=wanted: len(phone.rings()) >= wanted, dice.random() / 2)
                process.kill()
            if dice.random() < 0.3:
                phone.kill()
                phone.start()
        phone.mode("ok")
        with sender(database, phone.url):
            until(lambda: all_delivered(engine), 60)
        rings = phone.rings()
    assert {ring["id"] for ring in rings} == set(rows(engine))
    assert len(rows(engine)) == put_so_far
    assert any(ring["repeat"] for ring in rings), "no kill hit an attempt: the test shows nothing"
    check_marks(rings)


def test_killed_at_any_moment_no_notice_is_lost_and_no_repeat_unmarked(
    database: str, engine: Engine, tmp_path: Path
) -> None:
    kill_and_kill(database, engine, tmp_path, kills=6, seed=1)


@pytest.mark.long
def test_killed_a_hundred_times(database: str, engine: Engine, tmp_path: Path) -> None:
    kill_and_kill(database, engine, tmp_path, kills=100, seed=2)
