"""Recovery: what a judge goes on from when its snapshot, or a part of its journal, is gone."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from alerting import store
from alerting.alert import Alert, Condition
from alerting.desk import Desk, absorbed
from alerting.tables import upgrade
from fenghuo.recovery import Recovered, recover
from ingest.journal import Journal
from ingest.readings import Readings, Round
from registry.clock import HOUR, SECOND
from registry.database import open_database, reading
from registry.model import Registry
from streams import configuration, rulebook_file
from streams.configuration import Configuration
from streams.engine import PointEngine
from streams.evaluator import Evaluator
from streams.finding import Finding, Phase
from tests.build import RULEBOOK, PointSpec, code, make_facts, make_registry

START = 490_000 * HOUR


@pytest.fixture
def compiled(tmp_path: Path) -> Registry:
    compiled = make_registry({code(1): [PointSpec(id="P1", H=50.0)]})
    version = configuration.save(tmp_path / "versions", compiled, RULEBOOK)
    return configuration.load(tmp_path / "versions", version).registry


def value(time: int, value: float) -> Round:
    row, known = np.array([0], np.int32), np.array([value])
    return Round(time, readings=Readings(row, np.array([time], np.int64), known, np.zeros(1, np.uint8)))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    """The desk's, with its tables."""
    made = open_database(tmp_path / "desk.sqlite")
    upgrade(made)
    yield made
    made.dispose()


def recovered(journal: Journal, folder: Path, database: Engine, absorbed: int) -> Recovered:
    """Without a snapshot."""

    def told() -> list[Finding]:
        with reading(database) as connection:
            return store.open_findings(connection)

    return recover(journal, folder / "journal", folder / "versions", folder / "no-snapshot", absorbed, told)


def test_an_alert_that_began_before_what_is_left_of_the_journal_ends_when_it_is_over(
    tmp_path: Path, compiled: Registry, database: Engine
) -> None:
    desk = Desk(database, compiled)

    def alerts() -> list[Alert]:
        with reading(database) as connection:
            return store.alerts(connection, store.Scope(system=True), limit=9)

    with Journal(tmp_path / "journal", reserve=0) as journal:
        journal.append([Round(START, version=compiled.version)])
        engine = Evaluator(Configuration(compiled, RULEBOOK), START)
        for second in (1, 2, 3600, 3601):
            round_ = value(START + second * SECOND, 60.0)
            journal.append([round_])
            desk.round(engine.apply(round_), journal.last_offset, round_.time)
        [begun] = alerts()
        journal.retain(absorbed=5, history=None, max_age=0, max_bytes=0, now=START + 2 * HOUR)
        assert journal.first_offset == 4, "the round in which it began is gone"
        again = recovered(journal, tmp_path, database, absorbed(database))
        desk.round(again.findings, journal.last_offset, journal.last_time)
        over = value(START + 3602 * SECOND, 5.0)
        journal.append([over])
        desk.round(again.engine.apply(over), journal.last_offset, over.time)
    [alert] = alerts()
    assert alert.id == begun.id
    assert alert.condition is Condition.ENDED


def test_facts_and_what_stands_on_them_end_though_snapshot_and_history_are_lost(
    tmp_path: Path, database: Engine
) -> None:
    """The fresh engines begin both again, at the times that the desk knows them by, and count from 1."""
    overdue = ("equipment.overdue", "equipment:V-101", "fixed_pressure_vessel", START)
    overstored = ("chemical.overstored", "chemical:NH3", "7664-41-7", START)
    shipped = rulebook_file.read(rulebook_file.SHIPPED)

    def version(name: str, *rows: tuple[str, str, str, int]) -> Configuration:
        compiled = replace(make_registry([], version=name), facts=make_facts(*rows))
        saved = configuration.save(tmp_path / "versions", compiled, shipped)
        return configuration.load(tmp_path / "versions", saved)

    both = version("r1", overdue, overstored)
    desk = Desk(database, both.registry)
    with Journal(tmp_path / "journal", reserve=0) as journal:

        def put_in_force(engine: Evaluator, coming: Configuration, time: int) -> None:
            journal.append([Round(time, version=coming.registry.version)])
            found = engine.reconfigure(coming, time) + engine.advance(time)
            desk.round(found, journal.last_offset, time)

        engine = Evaluator(both, START)
        put_in_force(engine, both, START)
        put_in_force(engine, version("r2", overdue), START + SECOND)
        put_in_force(engine, both, START + 2 * HOUR)
        journal.retain(absorbed=2, history=None, max_age=0, max_bytes=0, now=START + 3 * HOUR)
        assert journal.first_offset > 1
        again = recovered(journal, tmp_path, database, absorbed(database))
        desk.round(again.findings, journal.last_offset, again.engine.now)
        with reading(database) as connection:
            alert, former = store.alerts(connection, store.Scope(system=True), limit=9)
            assert (alert.condition, former.condition) == (Condition.ACTIVE, Condition.ENDED)
            opened = sorted(finding.rule for finding in store.open_findings(connection))
            assert opened == [
                "chemical.overstored",
                "compound.overdue-equipment-overstored",
                "equipment.overdue",
            ]
        put_in_force(again.engine, version("r3"), START + 4 * HOUR)
    with reading(database) as connection:
        assert store.open_findings(connection) == []
        ended = store.alert(connection, store.Scope(system=True), alert.id)
    assert ended is not None
    assert ended.condition is Condition.ENDED


def test_what_is_still_so_after_history_was_lost_rings_nobody_again(
    tmp_path: Path, compiled: Registry, database: Engine
) -> None:
    desk = Desk(database, compiled)
    with Journal(tmp_path / "journal", reserve=0) as journal:
        journal.append([Round(START, version=compiled.version), value(START + SECOND, 60.0)])
        engine = Evaluator(Configuration(compiled, RULEBOOK), START)
        desk.round(engine.apply(value(START + SECOND, 60.0)), journal.last_offset, START + SECOND)
    shutil.rmtree(tmp_path / "journal")
    with Journal(tmp_path / "journal", reserve=0, after=absorbed(database)) as journal:
        journal.append([Round(START + HOUR, version=compiled.version), value(START + HOUR, 60.0)])
        again = recovered(journal, tmp_path, database, absorbed(database))
        assert [finding.phase for finding in again.findings] == [Phase.BEGUN, Phase.WITHDRAWN]
        desk.round(again.findings, journal.last_offset, journal.last_time)
    with reading(database) as connection:
        [alert] = store.alerts(connection, store.Scope(system=True), limit=9)
    assert alert.condition is Condition.ACTIVE


def test_what_was_over_while_history_was_lost_is_withdrawn(
    tmp_path: Path, compiled: Registry, database: Engine
) -> None:
    desk = Desk(database, compiled)
    with Journal(tmp_path / "journal", reserve=0) as journal:
        journal.append([Round(START, version=compiled.version)])
        engine = Evaluator(Configuration(compiled, RULEBOOK), START)
        round_ = value(START + SECOND, 60.0)
        journal.append([round_])
        desk.round(engine.apply(round_), journal.last_offset, round_.time)
    shutil.rmtree(tmp_path / "journal")
    with Journal(tmp_path / "journal", reserve=0, after=absorbed(database)) as journal:
        journal.append([Round(START + HOUR, version=compiled.version), value(START + HOUR, 5.0)])
        again = recovered(journal, tmp_path, database, absorbed(database))
        assert [(finding.phase, finding.seq) for finding in again.findings] == [(Phase.WITHDRAWN, 2)]
        desk.round(again.findings, journal.last_offset, journal.last_time)
    with reading(database) as connection:
        [alert] = store.alerts(connection, store.Scope(system=True), limit=9)
    assert alert.condition is Condition.ENDED


def test_a_fault_that_nobody_was_told_of_is_told_after_a_restart(
    tmp_path: Path, compiled: Registry, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = PointEngine.apply

    def faulty(engine: PointEngine, round_: Round) -> object:
        if round_.time == START + 2 * SECOND:
            raise ZeroDivisionError("injected")
        return apply(engine, round_)

    monkeypatch.setattr(PointEngine, "apply", faulty)
    with Journal(tmp_path / "journal", reserve=0) as journal:
        journal.append([Round(START, version=compiled.version)])
        journal.append([value(START + second * SECOND, 60.0) for second in (1, 2, 3)])
        for absorbed, told in ((1, 1), (2, 1), (3, 0)):
            again = recovered(journal, tmp_path, database, absorbed)
            assert [time for time, _ in again.faults] == [START + 2 * SECOND] * told
            assert len(again.findings) == 1, "the others are judged, or told again"
