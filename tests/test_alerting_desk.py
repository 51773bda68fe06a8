"""The desk on a real database: every transaction whole, replays without effect, nobody forgotten."""

import io
import shutil
import string
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Executable, create_engine, event, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, OperationalError

import alerting.desk
from alerting import words
from alerting.alert import Alert, Answer, Condition, Notice, NoticeState, Outcome, Role, Step
from alerting.desk import (
    DatabaseBusy,
    DatabaseUnwritable,
    Desk,
    NoSuchAlert,
    NotAsked,
    absorbed,
    make_durable,
)
from alerting.lifecycle import Event, next_due
from alerting.store import (
    Scope,
    alert,
    alerts,
    counts,
    findings,
    notices,
    open_system_findings,
    steps,
    subtree,
    worklist,
)
from alerting.tables import MIGRATIONS, metadata, upgrade
from deploy.dev.services import Postgres
from registry import store_tables as registry_tables
from registry.clock import HOUR, MINUTE, SECOND
from registry.database import _meaning as meaning
from registry.database import open_database, reading, writing
from registry.migrating import version_table
from registry.model import Contact, Duty, Person
from registry.store import RegistryStore
from streams.finding import Ask, Finding, Ground, Phase, Tier, finding_id
from streams.system_findings import TIERS
from tests.build import PointSpec, code, make_registry
from tests.servers import new_database, running

T = 1_795_248_000 * SECOND  # 2026-11-21 16:00:00 in Shanghai
PLANT, OTHER = code(1), code(2)
OPERATOR = f"operator-{PLANT}"
DISTRICT = "duty-district-1"
ALL = Scope(system=True)
SPEC = PointSpec(
    id="TI-1101",
    name="反应釜温度",
    place="一车间二楼",
    video="https://video.example/7",
    H=80.0,
    HH=90.0,
    clause="HG/T 20507-2014 5.2",
)
REGISTRY = make_registry({PLANT: [SPEC, replace(SPEC, id="TI-1102")], OTHER: [SPEC]})


@contextmanager
def database(
    template: Path, folder: Path | str, *, busy: float = 5.0, durable: bool = True
) -> Iterator[Engine]:
    """A migrated database in the folder; not durable where thousands of commits need not outlive the test."""
    path = Path(folder) / "desk.sqlite"
    if not path.exists():
        shutil.copy(template, path)
    engine = open_database(path, busy=busy)
    if not durable:
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def engine(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        with database(template, tmp_path) as engine:
            yield engine
    else:
        with new_database(request.getfixturevalue("postgres"), upgrade) as url:
            engine = open_database(url)
            yield engine
            engine.dispose()


Fresh = Callable[[], AbstractContextManager[Engine]]


@pytest.fixture(
    scope="session",
    params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgresql, pytest.mark.long])],
)
def fresh(request: pytest.FixtureRequest, template: Path) -> Fresh:
    """Opens a new database each time, for tests that try hundreds of stories."""

    @contextmanager
    def on_sqlite() -> Iterator[Engine]:
        with TemporaryDirectory() as folder, database(template, folder, durable=False) as engine:
            yield engine

    @contextmanager
    def on_postgresql() -> Iterator[Engine]:
        with new_database(request.getfixturevalue("postgres"), upgrade) as url:
            engine = open_database(url)
            try:
                yield engine
            finally:
                engine.dispose()

    return on_sqlite if request.param == "sqlite" else on_postgresql


def again(engine: Engine) -> Engine:
    """The same database, of another process."""
    return open_database(engine.url.render_as_string(hide_password=False))


only_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk(engine, REGISTRY)


def message(
    phase: Phase = Phase.BEGUN,
    seq: int = 1,
    *,
    tier: Tier | None = Tier.III,
    level: str = "HH",
    since: int = T,
    time: int | None = None,
    arrival: int | None = None,
    rule: str = "limit.high",
    enterprise: str = PLANT,
    subject: str = "point:TI-1101",
    **more: Any,
) -> Finding:
    time = since if time is None else time
    fields = {"value": 91.25, "limit": 90.0, "unit": "°C", "clause": SPEC.clause, "version": "v1"} | more
    return Finding(
        id=finding_id(rule, enterprise, subject, since),
        seq=seq,
        rule=rule,
        enterprise=enterprise,
        subject=subject,
        phase=phase,
        since=since,
        time=time,
        arrival=time if arrival is None else arrival,
        level=level,
        tier=tier,
        **fields,
    )


FIRST = message().id


def look(engine: Engine, id: str = FIRST) -> tuple[Alert, list[Step], list[Notice]]:
    with reading(engine) as connection:
        found = alert(connection, ALL, id)
        assert found is not None
        return found, steps(connection, ALL, id), notices(connection, ALL, id)


def dump(engine: Engine) -> dict[str, list[Any]]:
    """Every row of every table."""
    with reading(engine) as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table))))
            for table in metadata.sorted_tables
        }


# -- one alert ---------------------------------------------------------------------------------------


def test_asked_and_told_in_the_same_instant(desk: Desk, engine: Engine) -> None:
    work = desk.round([message()], 7, T + SECOND)
    found, (step,), sent = look(engine)
    assert (work.applied, work.raised, work.notices) == (1, 1, 2)
    assert (found.raised, found.condition, found.answer, found.cell) == (
        T,
        Condition.ACTIVE,
        Answer.UNCONFIRMED,
        "village-1",
    )
    assert {(n.person, n.role, n.created, n.due) for n in sent} == {
        (OPERATOR, Role.ASKED, T + SECOND, T + SECOND),
        (DISTRICT, Role.TOLD, T + SECOND, T + SECOND),
    }
    assert (step.detail.asked, step.detail.told, step.detail.rung) == ((OPERATOR,), (DISTRICT,), 0)
    assert step.detail.finding == message()
    assert (absorbed(engine), desk.next_deadline()) == (7, T + SECOND + 5 * MINUTE)


def test_nobody_answers_and_it_climbs_to_the_top_and_asks_there_again(desk: Desk, engine: Engine) -> None:
    desk.round([message()], 1, T)
    asked = []
    for _ in range(5):
        due = desk.next_deadline()
        assert due is not None
        assert desk.round([], None, due - 1).deadlines == 0
        assert desk.round([], None, due).deadlines == 1
        _, history, _ = look(engine)
        asked.append((history[-1].detail.asked, (due - T) // MINUTE, history[-1].late))
    assert asked == [
        (("duty-village-1",), 5, 0),
        (("duty-town-1",), 10, 0),
        ((DISTRICT,), 15, 0),
        ((DISTRICT,), 20, 0),
        ((DISTRICT,), 50, 0),
    ]


def test_confirmed_acted_ended_closed(desk: Desk, engine: Engine) -> None:
    desk.round([message()], 1, T)
    assert desk.confirm(FIRST, DISTRICT, T + SECOND).outcome is Outcome.SEEN
    receipt = desk.confirm(FIRST, OPERATOR, T + MINUTE, "on my way")
    assert (receipt.outcome, receipt.step, receipt.alert.holder) == (Outcome.CONFIRMED, 3, OPERATOR)
    assert desk.confirm(FIRST, OPERATOR, T + MINUTE).outcome is Outcome.AGAIN
    assert desk.act(FIRST, OPERATOR, T + 2 * MINUTE, "cooling water on").outcome is Outcome.ACTED
    desk.round([message(Phase.ENDED, 2, time=T + 3 * MINUTE, value=70.0)], 2, T + 3 * MINUTE)
    found, history, _ = look(engine)
    assert (found.closed, found.close_reason, desk.next_deadline()) == (T + 3 * MINUTE, "answered", None)
    assert [(s.event, s.actor, s.detail.note, s.detail.seen) for s in history] == [
        ("begun", "engine", "", False),
        ("confirm", DISTRICT, "", True),
        ("confirm", OPERATOR, "on my way", False),
        ("confirm", OPERATOR, "", False),
        ("act", OPERATOR, "cooling water on", False),
        ("ended", "engine", "", False),
    ]
    assert history[-1].detail.closed == "answered"
    assert desk.confirm(FIRST, OPERATOR, T + HOUR).outcome is Outcome.CLOSED


def test_those_who_have_no_part_in_it(desk: Desk, engine: Engine) -> None:
    desk.round([message()], 1, T)
    before = dump(engine)
    with pytest.raises(NoSuchAlert, match="no alert 'nothing'"):
        desk.confirm("nothing", OPERATOR, T)
    with pytest.raises(NotAsked, match="neither asked nor told"):
        desk.confirm(FIRST, "duty-city", T)
    with pytest.raises(NotAsked, match="not a person of the registry"):
        desk.take_over(FIRST, "stranger", T)
    with pytest.raises(ValueError, match="empty"):
        desk.act(FIRST, OPERATOR, T, " ")
    assert dump(engine) == before
    assert desk.take_over(FIRST, "duty-city", T + 1).alert.holder == "duty-city"
    assert desk.act(FIRST, "duty-city", T + 2, "closed the valve").outcome is Outcome.ACTED


def test_an_answer_that_waited_for_a_round_comes_after_it_in_the_history(desk: Desk, engine: Engine) -> None:
    desk.round([message()], 1, T)
    desk.round([], None, T + 5 * MINUTE)
    assert desk.confirm(FIRST, OPERATOR, T + 5 * MINUTE - 1).outcome is Outcome.CONFIRMED
    found, history, _ = look(engine)
    assert [(s.event, s.time) for s in history[1:]] == [
        ("confirm_due", T + 5 * MINUTE),
        ("confirm", T + 5 * MINUTE),
    ]
    assert found.confirmed == T + 5 * MINUTE


def test_people_asked_earlier_may_still_confirm(desk: Desk) -> None:
    desk.round([message()], 1, T)
    desk.round([], None, T + 5 * MINUTE)
    assert desk.confirm(FIRST, OPERATOR, T + 6 * MINUTE).outcome is Outcome.CONFIRMED


def test_a_deadline_that_has_passed_comes_before_the_answer(desk: Desk, engine: Engine) -> None:
    """The judge was down; the answer must not hide that the next rung should have been asked."""
    desk.round([message()], 1, T)
    desk.confirm(FIRST, OPERATOR, T + 7 * MINUTE)
    _, history, _ = look(engine)
    assert [(s.event, s.due, s.late) for s in history[1:]] == [
        ("confirm_due", T + 5 * MINUTE, 2 * MINUTE),
        ("confirm", 0, 0),
    ]


def test_deadlines_passed_while_down_come_before_later_findings(desk: Desk, engine: Engine) -> None:
    desk.round([message(tier=Tier.IV, level="H")], 1, T)
    worse = message(Phase.WORSENED, 2, time=T + 6 * MINUTE)
    desk.round([worse], 2, T + 7 * MINUTE)
    _, history, _ = look(engine)
    assert [(s.event, s.late) for s in history[1:]] == [("confirm_due", 2 * MINUTE), ("worsened", MINUTE)]


def test_the_offset_never_falls(engine: Engine) -> None:
    desk, late = Desk(engine, REGISTRY), Desk(engine, REGISTRY)
    desk.round([], 5, T)
    late.round([], 3, T)  # a replay
    assert absorbed(engine) == 5
    desk.round([], None, T)
    desk.round([], 6, T)
    assert absorbed(engine) == 6


def test_late_evidence_and_facts_without_a_tier_ring_nobody(desk: Desk, engine: Engine) -> None:
    late = message(Phase.ENDED, late=True)
    fact = message(rule="equipment.overdue", tier=None)
    assert desk.round([late, fact], 1, T).raised == 0
    with reading(engine) as connection:
        assert alerts(connection, ALL) == []
    assert len(dump(engine)["findings"]) == 2


def test_a_fact_that_gets_a_tier_becomes_an_alert(desk: Desk, engine: Engine) -> None:
    desk.round([message(tier=None)], 1, T)
    desk.round([message(Phase.WORSENED, 2, time=T + SECOND)], 2, T + SECOND)
    assert look(engine)[0].tier is Tier.III


def test_a_gap_is_recorded_and_the_newest_counts(desk: Desk, engine: Engine) -> None:
    desk.round([message()], 1, T)
    work = desk.round([message(Phase.ENDED, 4, time=T + SECOND)], 2, T + SECOND)
    found, history, _ = look(engine)
    assert (work.gaps, history[-1].detail.gap, found.condition) == (1, 2, Condition.ENDED)
    assert desk.round([message(Phase.UNKNOWN, 2)], 3, T + 2 * SECOND).ignored == 1


def test_beginning_again_joins_within_ten_minutes_of_the_end(desk: Desk, engine: Engine) -> None:
    desk.round([message(), message(Phase.ENDED, 2, time=T + MINUTE)], 1, T + MINUTE)
    again = message(since=T + 11 * MINUTE)
    desk.round([again], 2, T + 11 * MINUTE)
    found, _, _ = look(engine)
    assert (found.finding, found.reopened, found.condition) == (again.id, 1, Condition.ACTIVE)
    desk.round([message(Phase.ENDED, 2, since=T + 11 * MINUTE, time=T + 12 * MINUTE)], 3, T + 12 * MINUTE)
    late = T + 22 * MINUTE + 1
    desk.round([message(since=late)], 4, late)
    with reading(engine) as connection:
        assert [a.id for a in alerts(connection, ALL)] == [message(since=late).id, FIRST]
        assert [f.id for f in findings(connection, ALL, FIRST)] == [FIRST, again.id]


def test_beginning_again_without_an_end_joins_the_open_alert(desk: Desk, engine: Engine) -> None:
    """The engine lost its state: what it says of the older finding no longer counts."""
    desk.round([message()], 1, T)
    desk.round([message(since=T + HOUR)], 2, T + HOUR)
    desk.round([message(Phase.ENDED, 2, time=T + HOUR)], 3, T + HOUR)
    found, _, _ = look(engine)
    assert (found.finding, found.condition) == (message(since=T + HOUR).id, Condition.ACTIVE)


def test_same_subject_elsewhere_is_another_alert(desk: Desk, engine: Engine) -> None:
    same_round = [message(), message(enterprise=OTHER), message(rule="silent", tier=Tier.IV)]
    assert desk.round(same_round, 1, T).raised == 3


def test_reopened_while_held_tells_the_holder(desk: Desk, engine: Engine) -> None:
    desk.round([message(), message(Phase.ENDED, 2, time=T + SECOND)], 1, T + SECOND)
    desk.confirm(FIRST, OPERATOR, T + MINUTE)
    desk.round([message(since=T + 2 * MINUTE)], 2, T + 2 * MINUTE)
    found, history, sent = look(engine)
    assert (found.answer, history[-1].detail.told) == (Answer.CONFIRMED, (OPERATOR,))
    assert "由您负责" in sent[-1].text


def test_the_systems_own_alerts_ask_the_administrator(desk: Desk, engine: Engine) -> None:
    own = message(
        rule="system.journal", enterprise="", subject="system", level="", evidence=("disk full",), value=None
    )
    desk.round([own], 1, T)
    found, _, (sent,) = look(engine, own.id)
    assert (found.cell, sent.person, sent.role) == ("", "admin", Role.ASKED)
    assert "数据日志无法写入" in sent.title
    assert "disk full" in sent.text
    desk.round([], None, T + 5 * MINUTE)
    assert look(engine, own.id)[0].rung == 0


def test_rungs_without_anybody_are_passed_over_and_the_record_says_so(engine: Engine) -> None:
    registry = replace(REGISTRY, duty=(Duty("town-1", "duty-town-1"), Duty("system", "admin")))
    desk = Desk(engine, registry)
    desk.round([message()], 1, T)
    found, (step,), (sent,) = look(engine)
    assert (found.rung, step.detail.asked) == (2, ("duty-town-1",))
    assert step.detail.nobody == (PLANT, "village-1", "district-1")
    assert "企业 1、港东村、东海区" in sent.text


def test_an_enterprise_that_the_registry_lost_still_rings_somebody(engine: Engine) -> None:
    desk = Desk(engine, REGISTRY)
    desk.round([message(enterprise="GONE")], 1, T)
    _, (step,), (sent,) = look(engine, message(enterprise="GONE").id)
    assert (sent.person, sent.role, step.detail.nobody) == ("admin", Role.ASKED, ("GONE",))


def test_the_administrator_who_alone_can_be_reached_is_asked_and_may_confirm(engine: Engine) -> None:
    desk = Desk(engine, replace(REGISTRY, duty=(Duty("system", "admin"),)))
    desk.round([message()], 1, T)
    _, _, (sent,) = look(engine)
    assert "无人可问：请您安排人员，或接手此告警。" in sent.text
    assert "无需确认" not in sent.text
    desk.round([], None, T + 5 * MINUTE)
    assert desk.confirm(FIRST, "admin", T + 6 * MINUTE).outcome is Outcome.CONFIRMED


def test_worse_after_the_district_was_asked_asks_the_district_again(desk: Desk, engine: Engine) -> None:
    desk.round([message()], 1, T)
    for minutes in (5, 10, 15):
        desk.round([], None, T + minutes * MINUTE)
    desk.round([message(Phase.WORSENED, 2, tier=Tier.II, time=T + 16 * MINUTE)], 2, T + 16 * MINUTE)
    _, history, _ = look(engine)
    assert history[-1].detail.asked == (OPERATOR, "duty-village-1", "duty-town-1", DISTRICT)
    desk.round([], None, T + 21 * MINUTE)
    _, history, _ = look(engine)
    assert history[-1].detail.asked == ("duty-city",)


@pytest.mark.parametrize("how", ["worse", "back"])
def test_who_holds_the_alert_hears_that_it_is_worse_or_back_and_may_act(
    desk: Desk, engine: Engine, how: str
) -> None:
    """The city's officer was neither asked nor told, and took it over."""
    desk.round([message()], 1, T)
    desk.take_over(FIRST, "duty-city", T + MINUTE)
    if how == "worse":
        desk.round([message(Phase.WORSENED, 2, tier=Tier.II, time=T + 2 * MINUTE)], 2, T + 2 * MINUTE)
    else:
        desk.round([], None, T + 31 * MINUTE)
    found, history, sent = look(engine)
    assert (found.answer, history[-1].detail.asked) == (Answer.UNCONFIRMED, ("duty-city", OPERATOR))
    assert "duty-city" in {n.person for n in sent if n.step == found.step}
    assert desk.act(FIRST, "duty-city", T + 32 * MINUTE, "closed the valve").outcome is Outcome.ACTED


def test_who_once_took_the_alert_over_may_act_although_another_holds_it(desk: Desk) -> None:
    desk.round([message()], 1, T)
    desk.take_over(FIRST, "duty-city", T + MINUTE)
    desk.take_over(FIRST, OPERATOR, T + 2 * MINUTE)
    assert desk.act(FIRST, "duty-city", T + 3 * MINUTE, "closed the valve").outcome is Outcome.ACTED


def test_a_confirm_by_someone_told_makes_them_no_one_asked(desk: Desk) -> None:
    desk.round([message()], 1, T)
    for minute in (1, 2):
        assert desk.confirm(FIRST, DISTRICT, T + minute * MINUTE).outcome is Outcome.SEEN


def test_who_is_asked_is_not_told_as_well(engine: Engine) -> None:
    duty = (Duty(PLANT, "ann"), Duty("district-1", "ann"))
    people = {"ann": Person("ann", "Ann", "en", (Contact("phone", "1"),))}
    Desk(engine, replace(REGISTRY, duty=duty, people=people)).round([message()], 1, T)
    _, (step,), (sent,) = look(engine)
    assert (sent.role, step.detail.asked, step.detail.told) == (Role.ASKED, ("ann",), ())


def test_the_end_is_counted_from_its_arrival(desk: Desk, engine: Engine) -> None:
    """Joining, closing and all other deadlines run on arrival time; rules alone run on the device's."""
    end = message(Phase.ENDED, 2, time=T + MINUTE, arrival=T + 30 * MINUTE, tier=Tier.IV)
    desk.round([message(tier=Tier.IV), end], 1, T + 30 * MINUTE)
    found, _, _ = look(engine)
    assert (found.ended, found.close_due) == (T + 30 * MINUTE, T + 30 * MINUTE + 24 * HOUR)


def test_open_findings_about_the_system_are_found_again(desk: Desk, engine: Engine) -> None:
    own = [message(rule=rule, enterprise="", subject="system") for rule in ("system.journal", "system.clock")]
    over = message(Phase.ENDED, 2, rule="system.clock", enterprise="", subject="system", time=T + 1)
    desk.round([*own, message(), over], 1, T + 1)
    with reading(engine) as connection:
        assert open_system_findings(connection) == own[:1]


def test_a_notice_for_each_contact(engine: Engine) -> None:
    contacts = (Contact("phone", "1"), Contact("phone", "2"), Contact("webhook", "http://127.0.0.1/"))
    people = dict(REGISTRY.people, **{OPERATOR: Person(OPERATOR, "Ann", "en", contacts)})
    Desk(engine, replace(REGISTRY, people=people)).round([message(tier=Tier.IV, level="H")], 1, T)
    _, _, sent = look(engine)
    assert {(n.channel, n.address) for n in sent} == {(c.channel, c.address) for c in contacts}
    assert len({n.id for n in sent}) == 3
    assert all(
        n.title.startswith("[tier IV (blue)] please confirm: 企业 1, 反应釜温度 (TI-1101)") for n in sent
    )


def test_the_same_contact_twice_rings_once(engine: Engine) -> None:
    contacts = (Contact("phone", "1"), Contact("webhook", "1"), Contact("phone", "1"))
    people = dict(REGISTRY.people, **{OPERATOR: Person(OPERATOR, "Ann", "en", contacts)})
    Desk(engine, replace(REGISTRY, people=people)).round([message(tier=Tier.IV, level="H")], 1, T)
    _, _, sent = look(engine)
    assert sorted((n.channel, n.address) for n in sent) == [("phone", "1"), ("webhook", "1")]


def test_a_note_with_a_nul_is_refused_and_nothing_is_done(desk: Desk, engine: Engine) -> None:
    desk.round([message()], 1, T)
    before = dump(engine)
    for answer in (desk.confirm, desk.take_over, desk.act):
        with pytest.raises(ValueError, match="NUL character"):
            answer(FIRST, OPERATOR, T, "valve\0closed")
    assert dump(engine) == before


# -- the database ------------------------------------------------------------------------------------


def test_the_migrations_build_the_tables_that_the_code_uses(engine: Engine) -> None:
    upgrade(engine)  # once more changes nothing
    with reading(engine) as connection:
        options = {"version_table": version_table(connection.dialect, MIGRATIONS)}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


@pytest.mark.postgresql
@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_desk_and_registry_may_share_a_database(engine: Engine, desk: Desk) -> None:
    registry_tables.upgrade(engine)
    upgrade(engine)
    assert registry_tables.newest_form(engine)
    desk.round([message()], 7, T)
    assert (absorbed(engine), RegistryStore(engine).newest()) == (7, 0)


@only_sqlite
def test_a_commit_is_durable_and_keys_are_held(engine: Engine) -> None:
    with reading(engine) as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


@only_sqlite
def test_what_need_not_last_at_once_lasts_from_the_next_commit_that_does(
    template: Path, tmp_path: Path, engine: Engine
) -> None:
    quick = open_database(tmp_path / "desk.sqlite", lasting=False)
    with reading(quick) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1, "NORMAL: no wait for the disk"
    Desk(quick, REGISTRY).round([message()], 7, T)
    assert absorbed(engine) == 7, "others see it all the same"
    for _ in range(2):  # also where nothing else has changed: a commit without a change syncs nothing
        before = (tmp_path / "desk.sqlite-wal").read_bytes()
        make_durable(engine)
        assert (tmp_path / "desk.sqlite-wal").read_bytes() != before
    assert absorbed(engine) == 7
    quick.dispose()


def test_the_same_statements_are_worded_for_postgresql() -> None:
    config = Config(output_buffer=io.StringIO())
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("dialect", "postgresql")
    command.upgrade(config, "head", sql=True)
    assert config.output_buffer.getvalue().count("CREATE TABLE") == len(metadata.tables) + 1
    dialect = postgresql.dialect()
    worded = {
        name: str(statement.compile(dialect=dialect))
        for name, statement in vars(alerting.desk).items()
        if isinstance(statement, Executable) and name.startswith("_")
    }
    assert "SKIP LOCKED" in worded["_READ_DUE"]
    assert "FOR UPDATE" in worded["_READ_ALERTS"]
    assert len(worded) >= 12


def test_a_locked_database_says_busy_and_nothing_is_done(template: Path, tmp_path: Path) -> None:
    with database(template, tmp_path) as other, database(template, tmp_path, busy=0.02) as mine:
        desk = Desk(mine, REGISTRY)
        desk.round([message(tier=Tier.IV)], 1, T)
        before = dump(mine)
        with writing(other):
            for act in (
                lambda: desk.round([message(Phase.WORSENED, 2)], 2, T),
                lambda: desk.confirm(FIRST, OPERATOR, T),
            ):
                with pytest.raises(DatabaseBusy):
                    act()
            assert desk.next_deadline() == T + 5 * MINUTE  # reading goes on
            assert dump(mine) == before
        desk.round([message(Phase.WORSENED, 2)], 2, T)
        assert look(mine)[0].tier is Tier.III


def test_a_full_disk_says_unwritable_and_nothing_is_done(template: Path, tmp_path: Path) -> None:
    with database(template, tmp_path) as engine:
        desk = Desk(engine, REGISTRY)
        desk.round([message()], 1, T)
        before = dump(engine)

        @event.listens_for(engine, "begin")
        def fill(connection: Any) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        many = [message(subject=f"point:P-{n}", evidence=("x" * 500,)) for n in range(100)]
        with pytest.raises(DatabaseUnwritable, match="full"):
            desk.round(many, 2, T)
        assert dump(engine) == before


def test_whatever_is_wrong_with_the_file_the_next_deadline_says_busy_or_unwritable(
    template: Path, tmp_path: Path
) -> None:
    with database(template, tmp_path) as engine:
        Desk(engine, REGISTRY).round([message()], 1, T)
    for wrong in (tmp_path / "no folder" / "desk.sqlite", tmp_path / "garbage", tmp_path / "empty"):
        if wrong.parent.exists():
            wrong.write_bytes(b"no database " * 1000 if wrong.name == "garbage" else b"")
        mine = open_database(wrong)
        with pytest.raises(DatabaseUnwritable):
            Desk(mine, REGISTRY).next_deadline()
        mine.dispose()


class ServersError(Exception):
    """An error as psycopg gives it, which is not installed here."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@pytest.mark.parametrize("state", ["23505", "55P03", "57P01", "57P02", "57P03", "08006", None])
def test_a_server_that_is_held_or_gone_for_a_moment_is_busy_not_broken(state: str | None) -> None:
    driver = SimpleNamespace(OperationalError=ServersError)
    error = ServersError(state)
    for seen in (error, OperationalError("", {}, error)):  # raw where a round went straight to the driver
        assert isinstance(meaning(seen, driver), DatabaseBusy)


@pytest.mark.postgresql
def test_a_server_that_stops_is_busy_and_one_that_is_killed_has_all_that_was_done() -> None:
    with running(Postgres) as server:
        engine = open_database(server.url("postgres"))
        upgrade(engine)
        desk = Desk(engine, REGISTRY)
        desk.round([message()], 1, T)
        worse = message(Phase.WORSENED, 2, tier=Tier.II, time=T + SECOND)
        confirm = partial(desk.confirm, FIRST, OPERATOR, T + 2 * SECOND)
        for way in (server.stop, server.kill):
            before = dump(engine)
            way()
            if way == server.stop:  # after a kill its children may live for a moment
                acts = (lambda: desk.round([worse], 2, T + SECOND), confirm, desk.next_deadline, confirm)
                for act in acts:
                    with pytest.raises(DatabaseBusy):
                        act()
            server.start()
            while True:  # a connection to the former server is found to be dead when it is used
                try:
                    assert dump(engine) == before
                    break
                except DatabaseBusy:
                    continue
            work = desk.round([worse], 2, T + SECOND)
            assert (work.applied, work.ignored) == ((1, 0) if way == server.stop else (0, 1))
        assert confirm().outcome is Outcome.CONFIRMED
        engine.dispose()


def test_what_is_wrong_with_a_statement_stays_what_it_is() -> None:
    error = ServersError("22021")
    assert meaning(DBAPIError("", {}, error), SimpleNamespace(OperationalError=OSError)) is error


def test_no_free_connection_is_busy(template: Path, tmp_path: Path) -> None:
    shutil.copy(template, tmp_path / "desk.sqlite")
    where = f"sqlite:///{tmp_path / 'desk.sqlite'}"
    mine = create_engine(where, pool_size=1, max_overflow=0, pool_timeout=0.001)
    desk = Desk(mine, REGISTRY)
    with mine.connect():
        for act in (lambda: absorbed(mine), desk.next_deadline, lambda: desk.round([], 1, T)):
            with pytest.raises(DatabaseBusy):
                act()
    mine.dispose()


def test_a_read_only_database_says_unwritable(template: Path, tmp_path: Path) -> None:
    with database(template, tmp_path) as engine:
        Desk(engine, REGISTRY).round([message()], 1, T)
    mine = open_database(f"sqlite:///file:{tmp_path / 'desk.sqlite'}?mode=ro&uri=true")
    with pytest.raises(DatabaseUnwritable, match="readonly"):
        Desk(mine, REGISTRY).confirm(FIRST, OPERATOR, T)
    mine.dispose()


def test_many_answer_at_once_and_one_of_them_confirms(engine: Engine) -> None:
    people = {f"p{n}": Person(f"p{n}", f"P {n}", "en", (Contact("phone", str(n)),)) for n in range(8)}
    registry = replace(REGISTRY, people=people, duty=tuple(Duty(PLANT, person) for person in people))
    Desk(engine, registry).round([message(tier=Tier.IV)], 1, T)

    def confirm(person: str) -> Outcome:
        own = again(engine)
        try:
            return Desk(own, registry).confirm(FIRST, person, T + SECOND).outcome
        finally:
            own.dispose()

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(confirm, people))
    assert outcomes == [Outcome.AGAIN] * 7 + [Outcome.CONFIRMED]
    _, history, _ = look(engine)
    assert [s.step for s in history] == list(range(1, 10))


def test_desks_that_hear_the_same_at_once_write_it_once(engine: Engine, desk: Desk) -> None:
    """A partition has moved, and the desk that had it has not noticed yet."""
    phases = [Phase.BEGUN, *[Phase.UNKNOWN, Phase.RESUMED] * 10]
    said = [message(phase, seq, time=T + seq) for seq, phase in enumerate(phases, 1)]
    together = Barrier(3)

    def hear(offsets: int) -> None:
        own = again(engine)
        mine = Desk(own, REGISTRY)
        for offset, one in enumerate(said, offsets):
            together.wait(60)
            while True:
                try:
                    mine.round([one], offset, one.time)
                    break
                except DatabaseBusy:
                    continue
        own.dispose()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(hear, (1, 2, 3)))
    _, history, _ = look(engine)
    assert [s.detail.finding for s in history] == said
    assert absorbed(engine) == len(said) + 2


def test_the_next_deadline_is_seen_whoever_moves_it(engine: Engine, desk: Desk) -> None:
    two = again(engine)
    api = Desk(two, REGISTRY)
    assert desk.next_deadline() is None
    desk.round([message()], 1, T)
    assert desk.next_deadline() == T + 5 * MINUTE
    api.confirm(FIRST, OPERATOR, T + SECOND)
    assert desk.next_deadline() == T + SECOND + 30 * MINUTE
    two.dispose()


# -- scope -------------------------------------------------------------------------------------------


def test_every_query_obeys_its_scope(desk: Desk, engine: Engine) -> None:
    own = message(rule="system.lost", enterprise="", subject="system")
    desk.round([message(), message(enterprise=OTHER), own], 1, T)
    ids = {PLANT: FIRST, OTHER: message(enterprise=OTHER).id, "": own.id}
    scopes = {
        ALL: set(ids.values()),
        Scope(enterprise=PLANT): {ids[PLANT]},
        Scope(enterprise=OTHER): {ids[OTHER]},
        Scope(cells=subtree(REGISTRY, "city")): {ids[PLANT], ids[OTHER]},
        Scope(cells=subtree(REGISTRY, "village-1")): {ids[PLANT], ids[OTHER]},
        Scope(enterprise=""): set(),
        Scope(cells=subtree(REGISTRY, "")): set(),
        Scope(cells=subtree(REGISTRY, "elsewhere")): set(),
    }
    with reading(engine) as connection:
        for scope, visible in scopes.items():
            assert {a.id for a in alerts(connection, scope)} == visible, scope
            assert sum(n for *_, n in counts(connection, scope)) == len(visible)
            for enterprise, id in ids.items():
                seen = id in visible
                assert scope.covers(enterprise, "village-1" if enterprise else "") == seen, scope
                assert (alert(connection, scope, id) is not None) == seen
                for query in (steps, findings, notices):
                    assert bool(query(connection, scope, id)) == seen
    assert subtree(REGISTRY, "town-1") == {"town-1", "village-1"}


def test_alerts_by_page_and_filter(desk: Desk, engine: Engine) -> None:
    many = [message(subject=f"point:P-{n}", since=T + n // 3, tier=Tier(n % 4 + 1)) for n in range(20)]
    desk.round(many, 1, T + SECOND)
    with reading(engine) as connection:
        everything = alerts(connection, ALL)
        assert [(a.raised, a.id) for a in everything] == sorted(((f.since, f.id) for f in many), reverse=True)
        page, walked = alerts(connection, ALL, limit=7), []
        while page:
            walked += page
            page = alerts(connection, ALL, limit=7, after=(page[-1].raised, page[-1].id))
        assert walked == everything
        assert {a.tier for a in alerts(connection, ALL, tier=Tier.II)} == {Tier.II, Tier.I}
        assert len(alerts(connection, ALL, raised_from=T + 1, raised_before=T + 2)) == 3
        assert alerts(connection, ALL, open=False) == alerts(connection, ALL, answer=Answer.ACTED) == []
        assert len(alerts(connection, ALL, open=True, condition=Condition.ACTIVE, enterprise=PLANT)) == 20


# -- words -------------------------------------------------------------------------------------------


def test_every_word_is_there_in_both_languages() -> None:
    def holes(text: str) -> set[str | None]:
        return {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}

    for key, (zh, en) in words.CATALOGUE.items():
        assert holes(zh) == holes(en), key
        assert (zh and en) or key == "sentences", key
    for prefix, names in {
        "event": Event,
        "condition": Condition,
        "answer": Answer,
        "role": Role,
        "outcome": Outcome,
    }.items():
        assert [name for name in names if f"{prefix}.{name}" not in words.CATALOGUE] == []
    assert all(f"tier.{tier.name}" in words.CATALOGUE for tier in Tier)
    assert words.say("step.late", "en", seconds=3) == "3 s late"
    assert words.say("event.begun", "fr") == words.say("event.begun", "zh")


def test_a_notice_says_all_that_must_be_said(desk: Desk, engine: Engine) -> None:
    desk.round([message(time=T, arrival=T + MINUTE)], 1, T + 2 * MINUTE)
    _, _, sent = look(engine)
    asked, told = sorted(sent, key=lambda n: n.role)
    assert asked.title == "【III级（黄色）】请确认：企业 1，反应釜温度（TI-1101）达到或高于高高限"
    assert asked.text == (
        "企业 1，一车间二楼：反应釜温度（TI-1101）达到或高于高高限。报警时的值 91.25 °C，限值 90 °C。"
        "依据：HG/T 20507-2014 5.2。级别：III级（黄色）。开始于 2026-11-21 16:00:00。"
        "延迟：2026-11-21 16:00:00 发生，2026-11-21 16:01:00 才收到。"
        "延迟：应在 2026-11-21 16:01:00 通知，2026-11-21 16:02:00 才发出。"
        "请在 2026-11-21 16:07:00 前确认。现场视频：https://video.example/7"
    )
    assert "本条仅供知悉，无需确认。" in told.text


def test_a_notice_in_english(engine: Engine) -> None:
    people = {OPERATOR: Person(OPERATOR, "Ann", "en", (Contact("phone", "1"),))}
    Desk(engine, replace(REGISTRY, people=people)).round([message(tier=Tier.IV, level="H")], 1, T)
    _, _, (sent,) = look(engine)
    assert sent.text == (
        "企业 1, 一车间二楼: 反应釜温度 (TI-1101) is at or above its high limit. "
        "Value at the alarm: 91.25 °C, limit 90 °C. By HG/T 20507-2014 5.2. This is tier IV (blue). "
        "Since 2026-11-21 16:00:00. "
        "Please confirm before 2026-11-21 16:05:00. Live video: https://video.example/7"
    )


def test_who_is_called_later_hears_that_it_is_over_or_unknown(desk: Desk, engine: Engine) -> None:
    """The value is the last that was known, and of when; the reason of the call is a sentence of its own."""
    unknown = message(Phase.UNKNOWN, 2, time=T + MINUTE, value=None)
    over = message(Phase.ENDED, 3, time=T + 6 * MINUTE, value=70.0)
    desk.round([message()], 1, T)
    desk.round([unknown], 1, T + MINUTE)
    desk.round([], None, T + 5 * MINUTE)
    desk.round([over], 2, T + 6 * MINUTE)
    desk.round([], None, T + 10 * MINUTE)
    found, _, sent = look(engine)
    first, second = (n for n in sent if n.step in (3, 5))
    assert (
        "高高限。现状未知：收不到有效数据。逾期无人确认。截至 2026-11-21 16:00:00 的值 91.25 °C" in first.text
    )
    assert first.title.endswith("高高限（现状未知）")
    assert (
        "高高限。报警现已结束。逾期无人确认。截至 2026-11-21 16:06:00 的值 70 °C，限值 90 °C。" in second.text
    )
    assert second.title.endswith("高高限（现已结束）")
    assert (found.value, found.value_time) == (70.0, T + 6 * MINUTE)


GROUNDS = (
    Ground(
        "a", "equipment.overdue", PLANT, "equipment:V-101", "反应压力容器", "fixed_pressure_vessel", "", T
    ),
    Ground("b", "chemical.overstored", PLANT, "chemical:NH3", "液氨", "7664-41-7", "", T, 45.0, 40.0, "t"),
)


def joint(phase: Phase = Phase.BEGUN, seq: int = 1, **more: Any) -> Finding:
    """The mission's own: a vessel is overdue where ammonia is over-stored."""
    fields = {
        "rule": "compound.overdue-equipment-overstored",
        "subject": f"enterprise:{PLANT}",
        "level": "overdue-equipment-overstored",
        "tier": Tier.II,
        "value": None,
        "limit": None,
        "unit": "",
        "clause": "特种设备安全法 40",
        "why": {
            "zh": "特种设备检验逾期，同时危险化学品超量储存",
            "en": "overdue equipment beside over-stored chemicals",
        },
        "grounds": GROUNDS,
        "asks": (Ask("joint-inspection", "market-regulation", ("emergency-management", "fire")),),
    }
    return message(phase, seq, **(fields | more))


def test_a_compound_risk_says_why_on_what_grounds_and_what_it_asks_for(engine: Engine) -> None:
    people = {
        OPERATOR: REGISTRY.people[OPERATOR],
        DISTRICT: Person(DISTRICT, "Ann", "en", (Contact("phone", "1"),)),
    }
    Desk(engine, replace(REGISTRY, people=people)).round([joint()], 1, T)
    _, _, sent = look(engine, joint().id)
    asked, told = sorted(sent, key=lambda n: n.role)
    assert asked.title == "【II级（橙色）】请确认：企业 1，特种设备检验逾期，同时危险化学品超量储存"
    assert (
        "判断依据：反应压力容器（V-101）检验逾期，自 2026-11-21 16:00:00；"
        "液氨（NH3）超过许可储量（45 t，限值 40 t），自 2026-11-21 16:00:00。"
        "请求联合检查：由市场监管部门牵头，应急管理部门、消防救援机构配合。依据：特种设备安全法 40。"
    ) in asked.text
    assert (
        "It stands on: 反应压力容器 (V-101) is overdue for inspection, since 2026-11-21 16:00:00; "
        "液氨 (NH3) is stored above its permitted quantity (45 t, limit 40 t), since 2026-11-21 16:00:00. "
        "It asks for a joint inspection: market regulation leads, emergency management, the fire department support."
    ) in told.text


def test_what_a_compound_risk_stood_on_stays_with_its_alert(desk: Desk, engine: Engine) -> None:
    desk.round([joint()], 1, T)
    desk.round([joint(Phase.ENDED, 2, time=T + MINUTE, grounds=())], 2, T + MINUTE)
    found, _, _ = look(engine, joint().id)
    assert (found.basis.grounds, found.basis.asks) == (GROUNDS, joint().asks)
    assert found.basis.why["en"] == "overdue equipment beside over-stored chemicals"


def test_facts_make_worklists_and_ring_nobody(desk: Desk, engine: Engine) -> None:
    overdue = [
        message(
            rule="equipment.overdue", subject=f"equipment:V-{n}", tier=None, level="", value=None, since=T + n
        )
        for n in range(5)
    ]
    over = message(Phase.ENDED, 2, rule="equipment.overdue", subject="equipment:V-0", tier=None, time=T + 9)
    storm = message(
        rule="warning.storm", enterprise="", subject="cell:town-1", tier=None, level="", value=None
    )
    desk.round([*overdue, over, storm, message(enterprise=OTHER, rule="equipment.due", tier=None)], 1, T + 9)
    with reading(engine) as connection:
        assert alerts(connection, ALL) == []
        assert open_system_findings(connection) == []
        plant = Scope(enterprise=PLANT)
        assert [f.subject for f in worklist(connection, plant, rule="equipment.overdue")] == [
            f"equipment:V-{n}" for n in (4, 3, 2, 1)
        ]
        assert [f.subject for f in worklist(connection, plant, open=False)] == ["equipment:V-0"]
        first = worklist(connection, plant, limit=2)
        assert (
            worklist(connection, plant, after=(first[-1].arrival, first[-1].id))
            == worklist(connection, plant)[2:]
        )
        assert {f.rule for f in worklist(connection, ALL, rule="equipment.")} == {
            "equipment.overdue",
            "equipment.due",
        }
        town = Scope(cells=subtree(REGISTRY, "town-1"))
        assert len(worklist(connection, town)) == 6
        assert [f.rule for f in worklist(connection, town, rule="warning.storm")] == ["warning.storm"]
        assert worklist(connection, Scope(cells=frozenset({"village-1"})), rule="warning.storm") == []


def test_a_limit_withdrawn_measured_nothing_and_says_nothing_of_the_plant(desk: Desk, engine: Engine) -> None:
    gone = message(Phase.WITHDRAWN, 2, time=T + MINUTE, evidence=("v2",))
    desk.round([message()], 1, T)
    desk.round([gone], 1, T + MINUTE)
    desk.round([], None, T + 5 * MINUTE)
    _, _, sent = look(engine)
    assert "截至 2026-11-21 16:00:00 的值 91.25 °C" in sent[-1].text
    assert "正常" not in sent[-1].text


OF_A_PLANT: dict[str, Any] = {
    "gateway.offline": {"subject": "gateway:gw1", "value": None, "evidence": tuple(f"P-{n}" for n in range(200))},
    "disagreement": {"subject": "group:R-101-T", "value": 3.25, "limit": 2.0, "evidence": ("TI-1 80", "TI-2 83.25")},
    "clock": {"subject": "gateway:gw1", "value": -70.0, "limit": None, "unit": "s", "evidence": ("TI-1",)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "language", "first", "then"),
    [
        (
            "gateway.offline",
            "zh",
            "企业 1：网关（gw1）离线。",
            "涉及测点：P-0、P-1、P-2、P-3、P-4 … 等 200 点。",
        ),
        ("gateway.offline", "en", "gateway gw1 is offline.", "P-4 … 200 points in all."),
        ("disagreement", "zh", "冗余组（R-101-T）读数不一致。", "报警时各测点读数：TI-1 80、TI-2 83.25。"),
        ("disagreement", "zh", "差值 3.25 °C，允许差值 2 °C。", "各测点读数"),
        ("disagreement", "en", "redundancy group R-101-T has points that disagree.", "Spread"),
        ("clock", "zh", "网关（gw1）设备时钟错误。", "时钟偏差 -70 s。"),
        ("clock", "en", "gateway gw1 has a wrong clock.", "First seen at point TI-1."),
    ],
)
def test_what_it_stands_on_is_said_in_every_notice(
    engine: Engine, rule: str, language: str, first: str, then: str
) -> None:
    people = {OPERATOR: Person(OPERATOR, "Ann", language, (Contact("phone", "1"),))}
    desk = Desk(engine, replace(REGISTRY, people=people))
    found = message(rule=rule, level="", tier=Tier.IV, **OF_A_PLANT[rule])
    desk.round([found], 1, T)
    desk.round([], None, T + 5 * MINUTE)
    _, _, sent = look(engine, found.id)
    assert len(sent) == 2
    for notice in sent:
        assert first in notice.text
        assert then in notice.text


@pytest.mark.parametrize("rule", TIERS)
def test_of_itself_the_system_speaks_in_whole_sentences(engine: Engine, rule: str) -> None:
    own = message(rule=rule, enterprise="", subject="system", level="", evidence=("Errno 28",), value=None)
    desk = Desk(engine, REGISTRY)
    desk.round([own], 1, T)
    desk.round([], None, T + 5 * MINUTE)
    _, _, sent = look(engine, own.id)
    for notice in sent:
        assert notice.text.startswith("烽火系统")
        assert notice.text.count("系统") == notice.title.count("系统") == 1, notice.text
        assert "（Errno 28）。" in notice.text
    assert words.rule(rule, "", "en").startswith(("has ", "is ", "cannot ", "could ", "refused ", "hears "))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (80.0, "80"),
        (81.25, "81.25"),
        (0.1 + 0.2, "0.3"),
        (1e-5, "0.00001"),
        (1234567.0, "1234570"),
        (-0.0, "0"),
    ],
)
def test_numbers_are_plain(value: float, text: str) -> None:
    assert words.number(value) == text


# -- streams -----------------------------------------------------------------------------------------

SUBJECTS = [(PLANT, "point:TI-1101"), (PLANT, "point:TI-1102"), (OTHER, "point:TI-1101")]
PEOPLE = [OPERATOR, f"operator-{OTHER}", "duty-village-1", "duty-town-1", DISTRICT, "duty-city", "stranger"]


class Plants:
    """Findings as an engine says them: each begun, then changed, then over; ids and seqs in order."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], Finding] = {}
        self.all: list[Finding] = []

    def say(self, subject: int, choice: int, now: int) -> Finding:
        key = SUBJECTS[subject]
        last = self.open.get(key)
        common: dict[str, Any] = {"enterprise": key[0], "subject": key[1], "time": now}
        tiers = [Tier.IV, Tier.III, Tier.II, None]
        if last is None:
            found = message(since=now + len(self.all), tier=tiers[choice % 4], **common)
        else:
            phases = [Phase.ENDED, Phase.WORSENED, Phase.EASED, Phase.UNKNOWN, Phase.RESUMED, Phase.WITHDRAWN]
            phase = phases[choice % 6]
            tier = tiers[choice % 3] if phase in (Phase.WORSENED, Phase.EASED) else last.tier
            found = message(phase, last.seq + 1, since=last.since, tier=tier, **common)
        if found.phase in (Phase.ENDED, Phase.WITHDRAWN):
            del self.open[key]
        else:
            self.open[key] = found
        self.all.append(found)
        return found


FINDINGS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), max_size=5)
WAITS = st.sampled_from([0, 1, SECOND, MINUTE, 4 * MINUTE, 11 * MINUTE, 31 * MINUTE, 25 * HOUR])
ROUNDS = st.tuples(st.just("round"), FINDINGS, WAITS)
ANSWERS = st.tuples(
    st.sampled_from(["confirm", "take_over", "act"]), st.integers(0, len(PEOPLE) - 1), st.integers(0, 9)
)
SCRIPTS = st.lists(st.one_of(ROUNDS, ROUNDS, ANSWERS), min_size=1, max_size=12)


def answer(desk: Desk, engine: Engine, kind: str, person: int, nth: int, now: int) -> None:
    """One of the people answers one of the alerts, or is turned away."""
    with reading(engine) as connection:
        known = alerts(connection, ALL)
    if known:
        id, who = known[nth % len(known)].id, PEOPLE[person]
        try:
            if kind == "act":
                desk.act(id, who, now, "done")
            else:
                getattr(desk, kind)(id, who, now)
        except NotAsked:
            return


class Power(Exception):
    """The process dies before its transaction is committed."""


@settings(max_examples=40, deadline=None)
@given(SCRIPTS, st.data())
def test_replays_and_deaths_change_nothing(fresh: Fresh, script: Sequence[Any], data: st.DataObject) -> None:
    """The same rounds, some torn by a death before the commit, some replayed from an earlier offset."""
    with fresh() as calm, fresh() as torn:
        dying = False

        @event.listens_for(torn, "commit")
        def die(_connection: Any) -> None:
            if dying:
                raise Power

        plants, now, offset, sent = Plants(), T, 0, [(0, list[Finding]())]
        for kind, first, second in script:
            if kind != "round":
                for engine in (calm, torn):
                    answer(Desk(engine, REGISTRY), engine, kind, first, second, now)
                continue
            now += second
            offset += 1
            batch = [plants.say(subject, choice, now) for subject, choice in first]
            sent.append((offset, batch))
            Desk(calm, REGISTRY).round(batch, offset, now)
            if data.draw(st.booleans(), label="dies before the commit"):
                dying = True
                with pytest.raises(Power):
                    Desk(torn, REGISTRY).round(batch, offset, now)
                dying = False
            desk = Desk(torn, REGISTRY)
            desk.round(batch, offset, now)
            start = data.draw(st.integers(0, len(sent)), label="replayed from")
            if data.draw(st.booleans(), label="in one"):
                desk.round([f for _, found in sent[start:] for f in found], None, now)
            else:
                for earlier, found in sent[start:]:
                    desk.round(found, earlier, now)
            assert dump(torn) == dump(calm)


@settings(max_examples=25, deadline=None)
@given(FINDINGS, FINDINGS, WAITS)
def test_what_is_taken_together_is_taken_one_by_one(
    fresh: Fresh, first: Sequence[Any], second: Sequence[Any], wait: int
) -> None:
    with fresh() as together, fresh() as single:
        plants, now = Plants(), T
        for batch in (first, second):
            now += wait
            found = [plants.say(subject, choice, now) for subject, choice in batch]
            Desk(together, REGISTRY).round(found, 1, now)
            Desk(single, REGISTRY).round([], 1, now)
            for one_finding in found:
                Desk(single, REGISTRY).round([one_finding], 1, now)
            assert dump(single) == dump(together)


@settings(max_examples=60, deadline=None)
@given(SCRIPTS)
def test_nobody_is_forgotten(fresh: Fresh, script: Sequence[Any]) -> None:
    """Whatever happens: the record is whole, and every open alert will be asked about again."""
    with fresh() as engine:
        desk, plants, now = Desk(engine, REGISTRY), Plants(), T
        before: dict[str, Alert] = {}
        for kind, first, second in script:
            if kind == "round":
                now += second
                desk.round([plants.say(subject, choice, now) for subject, choice in first], None, now)
            else:
                answer(desk, engine, kind, first, second, now)
            before = check(engine, before, plants, now)
        settle(desk, engine, plants, now)


def check(engine: Engine, before: dict[str, Alert], plants: Plants, now: int) -> dict[str, Alert]:
    with reading(engine) as connection:
        known = {a.id: a for a in alerts(connection, ALL, limit=1000)}
        for a in known.values():
            history, sent = steps(connection, ALL, a.id), notices(connection, ALL, a.id)
            assert [s.step for s in history] == list(range(1, a.step + 1))
            for n in sent:
                record = history[n.step - 1]
                assert n.person in (record.detail.asked if n.role is Role.ASKED else record.detail.told)
                assert (n.created, n.due, n.state) == (record.time, record.time, NoticeState.WAITING)
            called = {(s.step, p) for s in history for p in (*s.detail.asked, *s.detail.told)}
            assert called == {(n.step, n.person) for n in sent}
            assert all(s.late == 0 or s.late > 2 * SECOND for s in history)
            assert (a.condition is Condition.ENDED) == (a.ended > 0)
            if a.closed:
                assert (next_due(a), a.condition) == (0, Condition.ENDED)
                continue
            assert next_due(a) > now
            if a.answer is Answer.UNCONFIRMED:
                assert (a.holder, a.action_due, a.return_due) == ("", 0, 0)
                assert a.confirm_due or (a.close_due and a.tier is Tier.IV)
            else:
                assert a.holder
                assert (a.confirm_due, a.close_due) == (0, 0)
                assert a.action_due or a.return_due
            then = before.get(a.id)
            if then and not then.closed and a.reopened == then.reopened:
                assert a.tier >= then.tier
        for finding in plants.open.values():
            standing = [a for a in known.values() if a.finding == finding.id]
            if finding.tier is not None and finding.seq == 1:
                assert standing, "a condition with a tier has no alert"
            assert all(not a.closed and a.condition is not Condition.ENDED for a in standing)
    return known


def settle(desk: Desk, engine: Engine, plants: Plants, now: int) -> None:
    """When the plant is well again and people answer, everything closes."""
    over = [plants.say(SUBJECTS.index(key), 0, now) for key in list(plants.open)]
    desk.round(over, None, now)
    with reading(engine) as connection:
        waiting = alerts(connection, ALL, open=True, limit=1000)
    for a in waiting:
        desk.take_over(a.id, DISTRICT, now)
        with reading(engine) as connection:
            again = alert(connection, ALL, a.id)
        if again and not again.closed:
            assert desk.act(a.id, DISTRICT, now, "done").alert.closed
    with reading(engine) as connection:
        assert alerts(connection, ALL, open=True) == []
    assert desk.next_deadline() is None
