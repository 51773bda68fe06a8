"""Versions in a database: whoever publishes when, the newest edit is wanted, and every machine has what it needs."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from deploy.dev.services import Postgres
from registry import shared_versions, versions
from registry.clock import HOUR, SECOND
from registry.database import DatabaseBusy, DatabaseUnwritable, open_database, writing
from registry.shared_versions import (
    Overtaken,
    Wanted,
    discard_all_but,
    fetch,
    in_force_since,
    publish,
    wanted,
)
from registry.store_tables import upgrade, version_parts
from streams import configuration, rulebook
from tests.build import RULEBOOK, PointSpec, make_registry
from tests.servers import new_database

NOW = 1_795_248_000 * SECOND


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        engine = open_database(tmp_path / "registry.sqlite")
        shared_versions.upgrade(engine)
        yield engine
        engine.dispose()
    else:
        with new_database(request.getfixturevalue("postgres"), upgrade) as url:
            engine = open_database(url)
            yield engine
            engine.dispose()


def saved(folder: Path, name: str, rules: str = "rules") -> str:
    """A version in a folder, of a registry and a rulebook with these versions."""
    versions.save(folder, make_registry([PointSpec(id="T", H=80.0)], version=name))
    versions.save_part(folder, rules, versions.RULEBOOK, rulebook.pack(RULEBOOK))
    return f"{name}.{rules}"


def shared(engine: Engine) -> set[str]:
    """The files that the database has."""
    with engine.connect() as connection:
        rows = connection.execute(version_parts.select().with_only_columns(*version_parts.c[:2]))
        return {f"{name}{kind}" for name, kind in rows}


def test_another_machine_has_what_was_published(engine: Engine, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert wanted(engine) is None
    version = saved(here, "one")
    assert publish(engine, here, version, NOW) == 1
    assert wanted(engine) == Wanted(version, 1)
    fetch(engine, there, version)
    one, other = configuration.load(here, version), configuration.load(there, version)
    assert (one.registry.version, one.registry.rows) == (other.registry.version, other.registry.rows)
    assert one.rulebook == other.rulebook
    assert versions.wanted(there) is None, "what is wanted is said in the database"


def test_only_parts_that_are_missing_or_broken_travel(engine: Engine, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for name in ("one", "two"):
        publish(engine, here, saved(here, name), NOW)
        fetch(engine, there, f"{name}.rules")
    assert shared(engine) == {"one.registry", "two.registry", "rules.rulebook"}
    before = {path.name: path.stat().st_mtime_ns for path in there.iterdir()}
    (here / "two.registry").write_bytes(b"half")
    fetch(engine, here, "two.rules")
    assert configuration.load(here, "two.rules").registry.version == "two.rules"
    with writing(engine) as connection:
        connection.execute(version_parts.delete())
    fetch(engine, there, "two.rules")
    assert {path.name: path.stat().st_mtime_ns for path in there.iterdir()} == before


def test_editions_rise_and_the_same_version_is_no_new_one(engine: Engine, tmp_path: Path) -> None:
    one, two = saved(tmp_path, "one"), saved(tmp_path, "two")
    assert [publish(engine, tmp_path, each, NOW) for each in (one, one, two, two, one)] == [1, 1, 2, 2, 3]
    assert wanted(engine) == Wanted(one, 3)


def test_a_compile_of_an_older_edit_is_never_wanted_after_a_newer_one(engine: Engine, tmp_path: Path) -> None:
    one, two, three = (saved(tmp_path, name) for name in ("one", "two", "three"))
    assert publish(engine, tmp_path, one, NOW, edit=4) == 1
    assert publish(engine, tmp_path, two, NOW, edit=7) == 2
    assert publish(engine, tmp_path, three, NOW, edit=6) == 2
    assert wanted(engine) == Wanted(two, 2)
    assert "three.registry" not in shared(engine)
    assert publish(engine, tmp_path, three, NOW, edit=7) == 3, "another rulebook, say"
    assert publish(engine, tmp_path, three, NOW, edit=9) == 3, "an edit that was taken back"
    assert publish(engine, tmp_path, two, NOW, edit=8) == 3
    assert wanted(engine) == Wanted(three, 3)


def test_what_was_compiled_before_another_was_wanted_is_compiled_again(
    engine: Engine, tmp_path: Path
) -> None:
    one, two, three = saved(tmp_path, "one"), saved(tmp_path, "one", "new"), saved(tmp_path, "three")
    assert publish(engine, tmp_path, one, NOW, edit=4, after=0) == 1
    assert publish(engine, tmp_path, two, NOW, edit=4, after=1) == 2, "a new rulebook"
    with pytest.raises(Overtaken):
        publish(engine, tmp_path, three, NOW, edit=5, after=1)
    assert wanted(engine) == Wanted(two, 2), "the new rulebook is not lost"
    assert "three.registry" not in shared(engine)
    assert publish(engine, tmp_path, two, NOW, edit=5, after=1) == 2, "the same is no other"


@pytest.mark.postgresql
def test_many_who_publish_at_once_do_it_one_after_the_other(postgres: Postgres, tmp_path: Path) -> None:
    edits = list(range(1, 25))
    names = {edit: saved(tmp_path, f"v{edit}") for edit in edits}
    with new_database(postgres, upgrade) as url:
        engine = open_database(url)
        together = threading.Barrier(4)

        def registrar(number: int) -> list[int]:
            together.wait(10)
            mine = edits[number // 2 :: 2]  # each edit is compiled by two
            return [publish(engine, tmp_path, names[edit], NOW, edit=edit) for edit in mine]

        with ThreadPoolExecutor(4) as pool:
            editions = list(pool.map(registrar, range(4)))
        assert all(each == sorted(each) for each in editions)
        newest = wanted(engine)
        assert newest is not None
        assert newest.version == names[24]
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT edition, edit FROM wanted_versions ORDER BY edition"))
            told = [tuple(row) for row in rows]
        assert [edition for edition, _ in told] == list(range(1, len(told) + 1))
        assert [edit for _, edit in told] == sorted({edit for _, edit in told})
        engine.dispose()


@pytest.mark.postgresql
def test_tables_that_many_make_at_once_are_made_once(postgres: Postgres) -> None:
    postgres.execute("CREATE DATABASE several_registrars")
    engines = [open_database(postgres.url("several_registrars")) for _ in range(4)]
    together = threading.Barrier(4)

    def make(engine: Engine) -> None:
        with engine.connect():
            together.wait(10)
        shared_versions.upgrade(engine)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, engines))
    assert wanted(engines[0]) is None
    for engine in engines:
        engine.dispose()


def test_what_the_folder_lacks_or_has_broken_is_not_published(engine: Engine, tmp_path: Path) -> None:
    version = saved(tmp_path, "one")
    with pytest.raises(versions.NoSuchVersion):
        publish(engine, tmp_path, "two.rules", NOW)
    path = tmp_path / "rules.rulebook"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(versions.BrokenVersion):
        publish(engine, tmp_path, version, NOW)
    assert wanted(engine) is None
    assert shared(engine) == set()


def test_what_the_database_lacks_or_has_broken_is_not_taken(engine: Engine, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with pytest.raises(versions.NoSuchVersion, match="database has no registry"):
        fetch(engine, there, "one.rules")
    version = saved(here, "one")
    publish(engine, here, version, NOW)
    with writing(engine) as connection:
        connection.execute(version_parts.update().values(content=b"half"))
    with pytest.raises(versions.BrokenVersion):
        fetch(engine, there, version)
    assert versions.present(there) == set()


def test_discarding_keeps_what_is_used_wanted_or_young(engine: Engine, tmp_path: Path) -> None:
    for hours, name in ((9, "old"), (8, "used"), (7, "other"), (0, "young"), (6, "wanted")):
        publish(engine, tmp_path, saved(tmp_path, name, f"r-{name}"), NOW - hours * HOUR)
    assert in_force_since(engine, NOW - 8 * HOUR) == {
        f"{n}.r-{n}" for n in ("used", "other", "young", "wanted")
    }
    assert in_force_since(engine, NOW - 7 * HOUR - 1) >= {"used.r-used"}, "it was in force then"
    assert "used.r-used" not in in_force_since(engine, NOW - 7 * HOUR)
    assert discard_all_but(engine, {"used.r-used"}, NOW) == 4
    names = ("used", "wanted", "young")
    assert shared(engine) == {f"{n}.registry" for n in names} | {f"r-{n}.rulebook" for n in names}
    assert discard_all_but(engine, (), NOW) == 2
    assert "wanted.registry" in shared(engine)


def test_copies_that_were_made_long_ago_go(engine: Engine, tmp_path: Path) -> None:
    for name in ("r1", "r2", "r3"):
        publish(engine, tmp_path / "compiled", saved(tmp_path / "compiled", name), NOW)
    mine = tmp_path / "mine"
    fetch(engine, mine, "r1.rules")
    fetch(engine, mine, "r2.rules")
    os.utime(mine / "r1.registry", (0, 0))
    os.utime(mine / "rules.rulebook", (0, 0))
    fetch(engine, mine, "r3.rules")
    assert versions.present(mine) == {"r2", "r3"}
    assert versions.present(mine, versions.RULEBOOK) == {"rules"}, "the version that was asked for needs it"
    fetch(engine, mine, "r1.rules")
    assert "r1" in versions.present(mine), "what is needed once more is copied again"


def test_an_empty_database_has_nothing_to_discard(engine: Engine) -> None:
    assert discard_all_but(engine, (), NOW) == 0


def test_where_there_are_no_tables_yet_it_is_said_what_makes_them(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "empty.sqlite")
    with pytest.raises(DatabaseUnwritable, match="fenghuo prepare"):
        wanted(engine)
    engine.dispose()


@pytest.mark.postgresql
def test_a_database_that_is_away_is_said(postgres: Postgres, tmp_path: Path) -> None:
    engine = open_database(postgres.url("nowhere").replace(str(postgres.port), "1"))
    version = saved(tmp_path, "one")
    for work in (lambda: wanted(engine), lambda: publish(engine, tmp_path, version, NOW)):
        with pytest.raises(DatabaseBusy):
            work()
