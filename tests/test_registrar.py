"""The registrar: what a cluster wants follows edits and rulebook, also where several compile or no database answers."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from sqlalchemy import Engine, make_url, text
from structlog.testing import capture_logs
from typer.testing import CliRunner

from alerting.store import open_system_findings
from deploy.dev.services import Postgres
from fenghuo import attempts, compiler, registrar, settings
from fenghuo.commands.registrar import registrar as command
from fenghuo.compiler import NoRegistry
from fenghuo.registrar import Registrar, compile_once
from fenghuo.settings import Settings
from registry import shared_versions
from registry.clock import DAY, SystemClock
from registry.database import open_database, reading, writing
from registry.mistakes import RegistryErrors
from registry.store import Change, RegistryStore
from registry.store_tables import records
from registry.versions import RULEBOOK, part
from streams import configuration, rulebook_file
from tests.clusters import database_of, upgrade
from tests.folders import write_registry
from tests.servers import new_database

pytestmark = pytest.mark.postgresql

SHIPPED = rulebook_file.SHIPPED.read_text("utf-8")


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that has been used by another test goes on as it was set up there. Nothing waits to be tried again."""
    for module in (attempts, compiler, registrar):
        monkeypatch.setattr(module, "log", structlog.get_logger())
    monkeypatch.setattr(attempts, "TRY_AGAIN", 0)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    with new_database(postgres, upgrade) as url:
        yield url


@pytest.fixture
def mine(database: str, tmp_path: Path) -> Settings:
    """Settings of a cluster, on the first of its machines."""
    write_registry(tmp_path / "registry", enterprises=2)
    return settings.load(settings_file(database, tmp_path))


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = open_database(database)
    yield engine
    engine.dispose()


def settings_file(database: str, folder: Path) -> Path:
    where = database_of(database, folder).model_dump(mode="json")
    cluster = {"kafka": "127.0.0.1:1", "database": where}
    file = folder / "cluster.yaml"
    file.write_text(json.dumps({"data": "data", "registry": "registry", "cluster": cluster}), "utf-8")
    return file


def other(mine: Settings, **given: object) -> Settings:
    """Those of another machine."""
    return mine.model_copy(update={"data": mine.data.with_name("other"), **given})


def running(mine: Settings) -> Registrar:
    assert mine.cluster is not None
    return Registrar(mine, mine.cluster)


def step(*registrars: Registrar) -> None:
    """Two looks each: files have stood still between them."""
    for each in registrars * 2:
        each.step()


def rename(engine: Engine, name: str) -> None:
    """An edit without a mistake."""
    store = RegistryStore(engine)
    [enterprise, *_] = store.records("enterprise")
    change = Change("enterprise", enterprise.key, {"name": name})
    assert store.edit([change], who="li", why=name, now=1, origin="api") is not None


def names(engine: Engine, folder: Path) -> tuple[int, str]:
    """The edition that is wanted, and the name of its first enterprise."""
    wanted = shared_versions.wanted(engine)
    assert wanted is not None
    shared_versions.fetch(engine, folder, wanted.version)
    registry = configuration.load(folder, wanted.version).registry
    return wanted.edition, next(iter(registry.enterprises.values())).name


def test_compiled_once_it_can_be_had_on_every_machine(mine: Settings, engine: Engine, tmp_path: Path) -> None:
    wanted = compile_once(mine)
    assert wanted == shared_versions.wanted(engine)
    assert names(engine, tmp_path / "elsewhere") == (1, "第1厂")
    assert compile_once(mine) == wanted
    assert compile_once(other(mine)) == wanted, "another machine compiles the same"
    [first] = RegistryStore(engine).history("settings")
    assert (first.edit.who, first.edit.why) == ("registrar", "first start")


def test_edits_and_the_rulebook_are_followed(mine: Settings, engine: Engine, tmp_path: Path) -> None:
    book = tmp_path / "rulebook.yaml"
    book.write_text(SHIPPED, "utf-8")
    ours = running(mine.model_copy(update={"rulebook": book}))
    step(ours)
    assert names(engine, tmp_path / "v") == (1, "第1厂")
    rename(engine, "another name")
    step(ours)
    assert names(engine, tmp_path / "v") == (2, "another name")
    step(ours)
    assert names(engine, tmp_path / "v")[0] == 2
    book.write_text(SHIPPED.replace("HH: III", "HH: II", 1), "utf-8")
    step(ours)
    assert names(engine, tmp_path / "v") == (3, "another name")
    ours.close()


def test_mistakes_are_refused_and_what_was_wanted_still_is(mine: Settings, engine: Engine) -> None:
    before = compile_once(mine)
    points = records.c.key.like("%/P1")
    with engine.connect() as connection:
        good = connection.execute(records.select().where(points)).all()
    with writing(engine) as connection:  # a later Fenghuo may be stricter than the one that took an edit
        connection.execute(records.update().where(points).values(body='{"point": "P1"}'))
    ours = running(mine)
    with capture_logs() as logs:
        step(ours, ours)
    assert [log["event"] for log in logs].count("registry_refused") == 1
    assert "gateway: is empty" in mine.refused.read_text("utf-8")
    with pytest.raises(RegistryErrors):
        compile_once(mine)
    assert shared_versions.wanted(engine) == before
    with writing(engine) as connection:
        for row in good:
            connection.execute(records.update().where(records.c.key == row.key).values(body=row.body))
    rename(engine, "mended")
    step(ours)
    assert names(engine, mine.versions) == (2, "mended")
    assert not mine.refused.exists()
    ours.close()


def test_a_broken_rulebook_holds_up_no_edit(mine: Settings, engine: Engine, tmp_path: Path) -> None:
    before = compile_once(mine)
    book = tmp_path / "rulebook.yaml"
    book.write_text("nonsense: 1\n", "utf-8")
    rename(engine, "edited")
    ours = running(other(mine, rulebook=book))
    step(ours)
    assert names(engine, mine.versions) == (2, "edited")
    wanted = shared_versions.wanted(engine)
    assert wanted is not None
    assert part(wanted.version, RULEBOOK) == part(before.version, RULEBOOK)
    assert "nonsense" in other(mine).refused.read_text("utf-8")
    with reading(engine) as connection:
        [told] = open_system_findings(connection)
    assert (told.rule, told.subject) == ("system.configuration", "registrar")
    assert "nonsense" in told.evidence[0]
    book.write_text(SHIPPED, "utf-8")
    step(ours)
    with reading(engine) as connection:
        assert open_system_findings(connection) == [], "mended, and said so"
    ours.close()


def test_a_rule_that_looks_wider_than_what_is_judged_apart_is_told(mine: Settings, engine: Engine) -> None:
    assert mine.cluster is not None
    apart = mine.cluster.model_copy(update={"shards": 2, "shard_level": "district"})
    ours = running(mine.model_copy(update={"cluster": apart}))
    step(ours)
    assert "judged apart" in mine.refused.read_text("utf-8")
    assert shared_versions.wanted(engine) is not None, "it is told, and holds up nothing"
    ours.close()


def test_an_empty_registry_is_waited_for_and_said_once(
    mine: Settings, engine: Engine, tmp_path: Path
) -> None:
    empty = mine.model_copy(update={"registry": None})
    with pytest.raises(NoRegistry, match="in the settings"):
        compile_once(empty)
    waiting = running(empty)
    bad = mine.model_copy(update={"registry": tmp_path / "bad"})
    (tmp_path / "bad").mkdir()
    refusing = running(bad)
    with capture_logs() as logs:
        step(waiting)
        step(refusing)
    assert [log["event"] for log in logs] == ["registrar_failed", "registry_refused", "registrar_failed"]
    assert bad.refused.exists()
    assert shared_versions.wanted(engine) is None
    compile_once(mine)
    with capture_logs() as logs:
        step(waiting, refusing)
    assert [log["event"] for log in logs].count("registrar_goes_on") == 2
    assert not bad.refused.exists()
    for each in (waiting, refusing):
        each.close()


def test_two_do_not_fight(mine: Settings, engine: Engine, tmp_path: Path) -> None:
    both = running(mine), running(other(mine))
    step(*both)
    for number, order in enumerate((both, both[::-1], both), 2):
        rename(engine, f"name {number}")
        step(*order)
        step(*order)
        assert names(engine, mine.versions) == (number, f"name {number}")
    for each in both:
        each.close()


def test_a_rulebook_that_one_brings_is_not_taken_back_by_the_other(
    mine: Settings, engine: Engine, tmp_path: Path
) -> None:
    books = [tmp_path / name for name in ("here.yaml", "there.yaml")]
    for book in books:
        book.write_text(SHIPPED, "utf-8")
    here, there = (
        running(other(mine, rulebook=books[0])),
        running(mine.model_copy(update={"rulebook": books[1]})),
    )
    step(here, there)

    def rules() -> str:
        wanted = shared_versions.wanted(engine)
        assert wanted is not None
        return part(wanted.version, RULEBOOK)

    first = rules()
    books[0].write_text(SHIPPED.replace("HH: III", "HH: II"), "utf-8")
    step(here)
    second = rules()
    assert second != first
    for number, order in enumerate([(there, here), (here, there)], 3):
        rename(engine, f"name {number}")
        step(*order)
        assert rules() == second
        assert names(engine, mine.versions) == (number, f"name {number}"), "once"
    books[1].write_text(SHIPPED.replace("HH: III", "HH: I"), "utf-8")
    step(there, here)
    assert rules() not in (first, second)
    for each in (here, there):
        each.close()


def test_a_start_does_not_bring_again_what_it_had_brought(
    mine: Settings, engine: Engine, tmp_path: Path
) -> None:
    books = [tmp_path / name for name in ("here.yaml", "there.yaml")]
    for book in books:
        book.write_text(SHIPPED, "utf-8")
    one = other(mine, rulebook=books[0])
    here, there = running(one), running(mine.model_copy(update={"rulebook": books[1]}))
    step(here, there)
    books[1].write_text(SHIPPED.replace("HH: III", "HH: II"), "utf-8")
    step(there)
    newest = shared_versions.wanted(engine)
    here.close()
    here = running(one)
    step(here)
    assert shared_versions.wanted(engine) == newest
    here.close()
    books[0].write_text(SHIPPED.replace("HH: III", "HH: I"), "utf-8")
    here = running(one)
    step(here)
    assert shared_versions.wanted(engine) != newest, "what was changed while it was down is brought"
    for each in (here, there):
        each.close()


def test_one_that_was_overtaken_while_it_compiled_does_not_put_the_older_edit_in_force(
    mine: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = running(mine), running(other(mine))
    step(slow, quick)
    rename(engine, "older")
    save = configuration.save

    def save_late(*what: object) -> str:
        monkeypatch.setattr(configuration, "save", save)
        rename(engine, "newer")
        step(quick)
        return save(*what)

    monkeypatch.setattr(configuration, "save", save_late)
    with capture_logs() as logs:
        step(slow)
    assert "version_outdated" in [log["event"] for log in logs]
    assert names(engine, mine.versions) == (2, "newer")
    step(slow)
    assert names(engine, mine.versions) == (2, "newer")
    for each in (slow, quick):
        each.close()


_CUT = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")


def test_a_database_that_goes_away_is_said_once_and_waited_for(
    postgres: Postgres, database: str, mine: Settings, engine: Engine
) -> None:
    ours = running(mine)
    step(ours)
    name = make_url(database).database
    rename(engine, "while it is away")
    engine.dispose()
    try:
        postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server = open_database(postgres.url("postgres"))
        with writing(server) as connection:
            connection.execute(_CUT, {"name": name})
        server.dispose()
        with capture_logs() as logs:
            for _ in range(4):
                step(ours)
    finally:
        postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    failures = [log["why"] for log in logs if log["event"] == "registrar_failed"]
    assert 1 <= len(failures) <= 2, "that it was cut off, and that it is away"
    with capture_logs() as logs:
        step(ours)
    assert [log["event"] for log in logs] == ["version_published", "registry_compiled", "registrar_goes_on"]
    assert names(engine, mine.versions) == (2, "while it is away")
    ours.close()


class Later:
    """A clock that is ahead."""

    def __init__(self) -> None:
        self.ahead = 0

    def __getattr__(self, name: str) -> object:
        return getattr(SystemClock(), name)

    def now(self) -> int:
        return SystemClock().now() + self.ahead


def test_versions_that_kafka_cannot_need_any_more_are_discarded(mine: Settings, engine: Engine) -> None:
    clock = Later()
    assert mine.cluster is not None
    ours = Registrar(mine, mine.cluster, clock)
    step(ours)
    first = shared_versions.wanted(engine)
    assert first is not None

    def there() -> bool:
        try:
            shared_versions.fetch(engine, mine.data / "fresh", first.version)
        except LookupError:
            return False
        for path in (mine.data / "fresh").iterdir():
            path.unlink()
        return True

    clock.ahead = 30 * DAY
    rename(engine, "newer")
    step(ours)
    clock.ahead += 13 * DAY
    step(ours)
    assert there(), "it was in force until 13 days ago"
    clock.ahead += 2 * DAY
    step(ours)
    assert not there()
    assert names(engine, mine.data / "again")[1] == "newer"
    ours.close()


def test_the_command_publishes_and_ends_on_sigterm(
    database: str, mine: Settings, engine: Engine, tmp_path: Path
) -> None:
    run = "import typer; from fenghuo.commands.registrar import registrar; typer.run(registrar)"
    process = subprocess.Popen(
        [sys.executable, "-c", run, str(settings_file(database, tmp_path))], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = []
        while not said or said[-1]["event"] != "registry_compiled":
            said.append(json.loads(process.stderr.readline()))
        assert "version_published" in [line["event"] for line in said]
        assert names(engine, tmp_path / "v") == (1, "第1厂")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_settings_without_a_cluster_are_refused(mine: Settings, tmp_path: Path) -> None:
    file = tmp_path / "local.yaml"
    file.write_text(json.dumps({"data": "data"}), "utf-8")
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(file)])
    assert result.exit_code == 2
    assert "cluster" in result.output
    with pytest.raises(ValueError, match="cluster"):
        compile_once(settings.load(file))
