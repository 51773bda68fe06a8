"""Several senders on one PostgreSQL: each notice is sent by one of them, and one that dies leaves nothing in doubt."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine, insert, text, update

from alerting import claims as ours_and_theirs
from alerting import tables
from alerting.alert import NoticeState
from alerting.channels import Outcome
from alerting.claims import Claims, claims_on
from alerting.sender import Sender, _exchange
from alerting.tables import outbox
from deploy.dev.services import Postgres
from registry.database import DatabaseBusy, open_database, writing
from tests.phones import Phone, until
from tests.servers import new_database
from tests.test_alerting_sender import (
    NOW,
    Script,
    StillClock,
    all_delivered,
    check_marks,
    put,
    rows,
    sender,
    settled,
    steps,
)

pytestmark = pytest.mark.postgresql


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of a database with one alert."""
    with new_database(postgres, tables.upgrade) as url:
        engine = open_database(url)
        values = {c.name: "" if c.type.python_type is str else 0 for c in tables.alerts.columns}
        values |= {"id": "a1", "tier": 2, "condition": "active", "answer": "unconfirmed", "evidence": "[]"}
        with writing(engine) as connection:
            connection.execute(insert(tables.alerts).values(values | {"basis": "{}"}))
        engine.dispose()
        yield url


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = open_database(database)
    yield engine
    engine.dispose()


def test_senders_take_different_notices_and_call_a_line_one_at_a_time(engine: Engine) -> None:
    one, two = claims_on(engine), claims_on(engine)

    def taken(claims: Claims) -> list[str]:
        notices, _ = _exchange(engine, claims, [], lambda line: True, NOW)
        return sorted(notice.id for notice in notices)

    put(engine, ["n1", "n2"], address="one line")
    put(engine, ["n3"])
    assert taken(one) == ["n1", "n3"]
    assert taken(two) == [], "n2 waits for n1: the line is being called"
    with writing(engine) as connection:
        connection.execute(update(outbox).where(outbox.c.id == "n1").values(state=NoticeState.DELIVERED))
    assert taken(two) == ["n2"]
    one.close()
    two.close()


def test_what_another_read_before_it_was_taken_is_not_taken_again(engine: Engine) -> None:
    put(engine, ["n"])
    claims = claims_on(engine)

    def take_between(line: object) -> bool:
        one, _ = _exchange(engine, first, [], lambda line: True, NOW)
        assert [notice.id for notice in one] == ["n"]
        return True

    first = claims_on(engine)
    taken, _ = _exchange(engine, claims, [], take_between, NOW)
    assert taken == []
    first.close()
    taken, _ = _exchange(engine, claims, [], lambda line: True, NOW)
    assert taken == [], "it is still being sent, as far as its row says"
    claims.close()


def test_what_a_living_sender_has_is_left_to_it_and_of_a_dead_one_sent_again_marked(engine: Engine) -> None:
    put(engine, ["n"])
    other = claims_on(engine)
    _exchange(engine, other, [], lambda line: True, NOW)
    clock, channel = StillClock(), Script(Outcome.DELIVERED)
    with steps(engine, channel, clock) as (runner, ours):
        runner.run(asyncio.sleep(0.3))
        assert (channel.sent, ours.counts.recovered) == ([], 0)
        other.close()  # as when its process dies
        runner.run(settled(ours, clock))
    assert (channel.sent, ours.counts.recovered) == ([("n", True)], 1)


def test_who_was_taken_for_dead_writes_no_outcome_over_anothers(engine: Engine) -> None:
    """Its connection was lost while it was calling; another has sent the notice again since."""
    put(engine, ["n"])
    frozen = claims_on(engine)
    [notice], _ = _exchange(engine, frozen, [], lambda line: True, NOW)
    frozen.close()
    clock, channel = StillClock(), Script(Outcome.DELIVERED)
    with steps(engine, channel, clock) as (runner, ours):
        runner.run(settled(ours, clock))
    assert rows(engine)["n"].state == NoticeState.DELIVERED
    again = msgspec.structs.replace(notice, state=NoticeState.WAITING, due=NOW + 1)
    _exchange(engine, frozen, [again], lambda line: False, NOW)
    assert rows(engine)["n"].state == NoticeState.DELIVERED


def test_a_lost_connection_is_busy_and_claims_what_is_ours_again(engine: Engine) -> None:
    claims, other = claims_on(engine), claims_on(engine)
    assert claims.take(["a", "b"]) == ["a", "b"]
    with writing(engine) as connection:
        gone = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        connection.execute(text(gone))
    with pytest.raises(DatabaseBusy):
        claims.take(["c"])
    claims.keep(["a", "b"])
    assert other.take(["a", "b", "c"]) == ["c"]
    claims.keep(["b"])
    assert other.take(["a", "b"]) == ["a"]
    claims.close()
    other.close()


def test_who_stands_still_loses_its_claims_and_finds_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours_and_theirs, "STANDING", 0.4)
    monkeypatch.setattr(ours_and_theirs, "ASKING", 0.1)
    claims, other = claims_on(engine), claims_on(engine)
    pause = threading.Event()
    assert claims.take(["a"]) == ["a"]
    for _ in range(12):
        claims.keep(["a"])
        assert other.take(["a"]) == [], "it asks, so it lives"
        pause.wait(0.05)
    until(lambda: other.take(["a"]) == ["a"], 5)
    with pytest.raises(DatabaseBusy):
        claims.keep(["a"])
    claims.keep(["a"])
    assert claims.take(["a", "b"]) == ["b"], "with another connection"
    claims.close()
    other.close()


def test_what_a_stopped_sender_was_sending_is_sent_by_another_marked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the outcome that it has when it wakes say anything."""
    monkeypatch.setattr(ours_and_theirs, "STANDING", 0.4)
    monkeypatch.setattr(ours_and_theirs, "ASKING", 0.1)
    put(engine, ["n"])
    stopped = claims_on(engine)
    [notice], _ = _exchange(engine, stopped, [], lambda line: True, NOW)
    clock, channel = StillClock(), Script(Outcome.DELIVERED)
    monkeypatch.setattr(ours_and_theirs, "STANDING", 15.0)
    monkeypatch.setattr("alerting.sender.LOOK", 0.1)
    with steps(engine, channel, clock) as (runner, ours):
        runner.run(settled(ours, clock))
    assert (channel.sent, ours.counts.recovered) == ([("n", True)], 1)
    with pytest.raises(DatabaseBusy):
        stopped.keep(["n"])
    again = msgspec.structs.replace(notice, state=NoticeState.WAITING, due=NOW + 1)
    _exchange(engine, stopped, [again], lambda line: False, NOW)
    assert rows(engine)["n"].state == NoticeState.DELIVERED
    stopped.close()


def test_two_senders_one_killed_lose_nothing_and_mark_every_repeat(
    database: str, engine: Engine, tmp_path: Path
) -> None:
    with Phone(tmp_path / "rings.jsonl") as phone, ExitStack() as stack:
        put(engine, [f"n{number:03}" for number in range(300)], now=NOW)
        killed = stack.enter_context(sender(database, phone.url))
        stack.enter_context(sender(database, phone.url))
        until(lambda: len(phone.rings()) > 100)
        killed.send_signal(signal.SIGKILL)
        until(lambda: all_delivered(engine))
        rings = phone.rings()
    check_marks(rings)
    count = Counter(ring["id"] for ring in rings)
    assert len(count) == 300
    assert sum(count.values()) <= 300 + 8, "only what the dead one had under way"


def test_one_sender_is_enough_for_sqlite(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "desk.sqlite")
    claims = claims_on(engine)
    assert claims.take(["a", "b"]) == ["a", "b"]
    claims.keep([])
    claims.close()
    assert Sender(engine, StillClock(), {}).counts.recovered == 0
    engine.dispose()
