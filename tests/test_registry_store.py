"""The registry in its database: edits with who and why, nothing half done, and a folder in and out unchanged."""

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from registry import packed
from registry.compile import compile_folder, compile_source
from registry.database import DatabaseBusy, open_database
from registry.exchange import Imported, differs, export_folder, import_folder
from registry.migrating import version_table
from registry.mistakes import RegistryErrors
from registry.store import TRIES, Change, Edit, Look, RegistryStore
from registry.store_tables import MIGRATIONS, metadata, upgrade
from tests.build import code
from tests.folders import write_registry
from tests.servers import new_database
from tests.test_registry_folder import BAD, MINE, PLANT, documented, write

DEMO = Path(__file__).parents[1] / "examples" / "demo" / "registry"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        engine = open_database(tmp_path / "registry.sqlite", busy=0.01)
        upgrade(engine)
        yield engine
        engine.dispose()
    else:
        with new_database(request.getfixturevalue("postgres"), upgrade) as url:
            engine = open_database(url, busy=0.01)
            yield engine
            engine.dispose()


@pytest.fixture
def store(engine: Engine) -> RegistryStore:
    return RegistryStore(engine)


@pytest.fixture
def city(store: RegistryStore, tmp_path: Path) -> RegistryStore:
    """Five enterprises with four points each."""
    write_registry(tmp_path / "city")
    take(store, tmp_path / "city")
    return store


def take(store: RegistryStore, folder: Path, *, now: int = 1, **how: Any) -> Imported:
    return import_folder(store, folder, who="wang", why="first", now=now, **how)


def edit(store: RegistryStore, *changes: Change, now: int = 2) -> Edit | None:
    return store.edit(changes, who="li", why="new card", now=now, origin="api")


def refused(store: RegistryStore, *changes: Change) -> list[str]:
    """The mistakes for which an edit is refused; it must leave everything as it was."""
    before, newest = store.load(), store.newest()
    with pytest.raises(RegistryErrors) as errors:
        edit(store, *changes)
    assert (store.load(), store.newest()) == (before, newest)
    return [str(mistake) for mistake in errors.value.mistakes]


def test_the_migrations_build_the_tables_that_the_code_uses(engine: Engine) -> None:
    upgrade(engine)  # once more changes nothing
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "version_table": version_table(connection.dialect, MIGRATIONS)},
        )
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("folder", [DEMO, MINE, None])
def test_what_comes_in_compiles_to_what_the_folder_says_and_goes_out_the_same(
    store: RegistryStore, tmp_path: Path, folder: Path | None
) -> None:
    folder = folder or write(tmp_path / "documented", documented())
    imported = take(store, folder, replace=True)
    assert imported.edit == Edit(1, 1, "wang", "first", "import")
    compiled = compile_source(store.load())
    assert compiled.version == compile_folder(folder).version
    assert compiled.edit == "wang: first"
    assert take(store, folder, replace=True) == Imported(None, 0, 0, 0, ())

    export_folder(store, tmp_path / "out")
    assert compile_folder(tmp_path / "out").version == compiled.version
    assert not differs(store, tmp_path / "out")
    assert take(store, tmp_path / "out", replace=True).edit is None
    with pytest.raises(FileExistsError, match="is not empty"):
        export_folder(store, tmp_path / "out")


def test_an_edit_is_written_with_who_why_old_and_new(city: RegistryStore) -> None:
    point = f"{code(1)}/P1"
    assert city.newest() == 1
    assert edit(city, Change("point", point, {"H": "30", "place": "泵房"})) == Edit(
        2, 2, "li", "new card", "api"
    )
    assert city.newest() == 2
    [newest, first] = city.history("point", point)
    assert (newest.edit.who, newest.edit.why, newest.edit.time) == ("li", "new card", 2)
    assert newest.old is not None
    assert newest.new == {**newest.old, "H": "30", "place": "泵房"}
    assert (first.edit.id, first.old, first.new) == (1, None, newest.old)
    compiled = compile_source(city.load())
    assert compiled.points.limit[compiled.rows[code(1)]["P1"]].tolist()[2] == 30
    assert compiled.edit == "li: new card"

    assert edit(city, Change("point", point, {"place": ""})) is not None, "an empty value takes a field away"
    without = city.find("point", point)
    assert without is not None
    assert "place" not in without.body
    assert edit(city, Change("point", point, {"H": "30"})) is None, "it changes nothing"
    assert city.newest() == 3
    assert edit(city, Change("point", point, None)) is not None
    assert city.find("point", point) is None
    assert [(changed.edit.id, changed.new) for changed in city.history(key=point, limit=1)] == [(4, None)]


def test_the_version_does_not_hang_on_who_edited(city: RegistryStore) -> None:
    before = compile_source(city.load())
    edit(city, Change("point", f"{code(1)}/P1", {"H": "30"}))
    assert compile_source(city.load()).version != before.version
    edit(city, Change("point", f"{code(1)}/P1", {"H": "25"}), now=3)
    after = compile_source(city.load())
    assert (after.version, after.edit) == (before.version, "li: new card")


def test_an_edit_with_mistakes_does_nothing_and_says_them_all(city: RegistryStore) -> None:
    one, other = code(1), code(2)
    said = refused(
        city,
        Change("point", f"{one}/P1", {"H": "60", "colour": "red"}),
        Change("point", f"{one}/P2", {"gateway": "gw9"}),
        Change("enterprise", other, {"cell": "mars"}),
    )
    assert [line.partition("; ")[0] for line in said] == [
        f"enterprise {other}: cell: is 'mars', which the grid does not have",
        f"point {one}/P1: HH: 50 is not above 60, a lower limit",
        f"point {one}/P1: colour: unknown column",
        f"point {one}/P2: gateway: is 'gw9', which its enterprise does not have",
    ]
    [said_] = refused(city, Change("enterprise", other, {"gateways": ["gw1", "gw1"]}))
    assert "gateways[1]: 'gw1' is at enterprise" in said_


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (Change("pump", "x", {}), "kind: is 'pump'; expected one of settings, cell"),
        (Change("point", f"{code(1)}/P9", None), "is not there"),
        (Change("point", f"{code(1)}/P1", {"point": "P7"}), f"says that it is '{code(1)}/P7'"),
        (
            Change("cell", "west", {"name": "西海区", "level": "district"}),
            "cell west: id: is missing; expected 'west': a record says itself what its key says",
        ),
        (
            Change("point", f"{code(1)}/P9", {"point": "P9"}),
            f"P9: enterprise: is missing; expected '{code(1)}'",
        ),
        (
            Change("point", "P9", {"enterprise": code(1)}),
            "point P9: point: is missing; expected a value, and in the key too",
        ),
        (
            Change("duty", "east admin", {"place": "east"}),
            "duty east admin: person: is missing; expected 'admin'",
        ),
        (Change("person", "admin", {"id": ""}), "person admin: id: is missing; expected 'admin'"),
        (Change("person", "admin", {"id": ["admin"]}), "person admin: id: is no text; expected 'admin'"),
        (Change("cell", "east", None), "cell: is 'east', which the grid does not have"),
        (Change("cell", "east", {"parent": ""}), "'district' at the top, where"),
        (Change("person", "admin", None), "person: is 'admin', whom people.yaml does not have"),
        (Change("person", f"operator-{code(2)}", {"contacts": []}), "who has no contact"),
        (Change("settings", "registry", {"time_zone": "Mars/Olympus"}), "time_zone: is 'Mars/Olympus'"),
        (Change("enterprise", code(1), {"location": "36.07;120.38"}), "location: is '36.07;120.38'"),
        (
            Change("enterprise", code(1), {"responsible": [{"role": "x", "person": "y"}]}),
            "[0].person: is 'y'",
        ),
        (Change("enterprise", code(1), None), "enterprise: is '91"),
        (Change("cell", "east", {"area": '{"type": "Point"}'}), "area: is no geometry of GeoJSON"),
    ],
)
def test_one_mistake_of_an_edit(city: RegistryStore, change: Change, problem: str) -> None:
    said = refused(city, change)
    assert any(problem in line for line in said), said


def test_what_an_edit_changes_back_itself_is_not_in_the_log(city: RegistryStore) -> None:
    point, other = f"{code(1)}/P1", f"{code(1)}/P2"
    body = city.records("point")[0].body
    there_and_back = [
        Change("point", point, {"H": "30"}),
        Change("point", point, None),
        Change("point", point, {**body}),
    ]
    assert edit(city, *there_and_back) is None
    assert (city.newest(), len(city.history("point", point))) == (1, 1)
    edit(city, *there_and_back, Change("point", other, {"H": "30"}), Change("point", other, {"H": "31"}))
    [changed] = city.history(enterprise=code(1), limit=1)
    assert (changed.key, (changed.old or {})["H"], (changed.new or {})["H"]) == (other, "25", "31")
    assert len(city.history("point", point)) == 1


def test_the_registry_says_of_how_many_edits_its_newest_is_one(city: RegistryStore) -> None:
    """What they corrected is not the doing of the newest alone."""

    def again(*changes: Change) -> str:
        for number, change in enumerate(changes):
            city.edit([change], who=f"li{number}", why="card", now=2, origin="api")
        return city.load().edit

    point = f"{code(1)}/P1"
    assert again() == "wang: first"
    assert again(Change("point", point, {"H": "30"})) == "li0: card"
    assert again() == "li0: card"
    there_and_back = Change("point", point, {"H": "31"}), Change("point", point, {"H": "30"})
    assert again(*there_and_back) == "edits 3–4, the last: li1: card"
    assert again(Change("person", "admin", {"name": "管"})) == "li0: card"


def test_an_edit_may_be_refused_by_what_is_there_when_it_is_made(city: RegistryStore) -> None:
    def permit(look: Look) -> None:
        found = look.find("enterprise", code(1))
        assert found is not None
        raise LookupError(found.body["cell"])

    with pytest.raises(LookupError, match="east"):
        city.edit([Change("person", "admin", None)], who="li", why="x", now=2, origin="api", permit=permit)
    assert city.newest() == 1


def test_an_edit_of_an_empty_registry_says_that_it_is_empty(store: RegistryStore) -> None:
    with pytest.raises(
        RegistryErrors, match=r"\Aregistry: is empty; expected `fenghuo registry import FOLDER`"
    ):
        edit(store, Change("cell", "a", {"id": "a", "name": "甲", "level": "city"}))
    assert store.newest() == 0


def test_an_edit_of_one_enterprise_reads_no_other(city: RegistryStore, engine: Engine) -> None:
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *all_: asked.append(f"{all_[2]} {all_[3]}"))
    edit(
        city,
        Change("point", f"{code(1)}/P1", {"H": "30"}),
        Change("duty", f"{code(1)} admin", {"place": code(1), "person": "admin"}),
    )
    reads = [text for text in asked if text.startswith("SELECT records")]
    assert reads
    assert all("WHERE" in text for text in reads)
    assert not any(code(2) in text for text in asked)
    asked.clear()
    contacts: list[Any] = [{"channel": "phone", "address": "1"}]
    edit(city, Change("person", "new", {"id": "new", "name": "新", "contacts": contacts}))
    edit(city, Change("person", f"operator-{code(1)}", {"name": "王五"}))
    edit(city, Change("duty", "east new", {"place": "east", "person": "new"}))
    assert not any("SELECT" in text and code(2) in text for text in asked)
    assert len(city.load().enterprises) == 5


def test_loading_again_reads_only_what_was_edited_and_gives_the_same(
    city: RegistryStore, engine: Engine
) -> None:
    def fresh() -> bytes:
        return packed.pack(compile_source(RegistryStore(engine).load()))

    city.load()
    for number, change in enumerate(
        [
            Change("point", f"{code(1)}/P1", {"H": "30"}),
            Change("enterprise", code(2), {"name": "新厂"}),
            Change("duty", f"{code(3)} admin", {"place": code(3), "person": "admin"}),
            Change("point", f"{code(4)}/P2", None),
            Change("person", "admin", {"name": "管理员"}),
            Change("duty", "east admin", {"place": "east", "person": "admin"}),
            Change("duty", f"{code(3)} admin", None),
            Change("duty", "city city-duty", None),
            Change("cell", "west", {"id": "west", "name": "西海区", "level": "district", "parent": "city"}),
            Change("point", f"{code(1)}/P1", {"H": "31"}),
        ]
    ):
        edit(city, change, now=number)
        assert packed.pack(compile_source(city.load())) == fresh()


def test_an_edit_waits_for_nobody_for_ever(city: RegistryStore, other: RegistryStore) -> None:
    with other.editing(), pytest.raises(DatabaseBusy):
        edit(city, Change("point", f"{code(1)}/P1", {"H": "30"}))
    assert city.newest() == 1


def test_history_goes_on_where_a_page_ended(city: RegistryStore) -> None:
    every = city.history(limit=1000)
    first = city.history(limit=7)
    last = first[-1]
    assert first + city.history(before=(last.edit.id, last.number), limit=1000) == every
    assert {changed.enterprise for changed in city.history(enterprise=code(2))} == {code(2)}


# ---- import


def test_what_an_import_does_not_name_stays_unless_it_replaces(city: RegistryStore, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "points.csv").write_text(
        f"enterprise,gateway,point,kind,engineering_unit\n{code(1)},gw1,T1,temperature,°C\n", "utf-8"
    )
    assert take(city, folder, now=2).added == 1
    assert len(city.records("point")) == 21
    with pytest.raises(RegistryErrors, match=r"registry.yaml:1: is missing"):
        take(city, folder, replace=True)
    again = take(city, tmp_path / "city", now=3, replace=True)
    assert (again.added, again.changed, again.removed) == (0, 0, 1)
    assert city.find("point", f"{code(1)}/T1") is None


def test_an_import_is_judged_together_with_what_stays(city: RegistryStore, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    entry = {"code": code(1), "name": "第1厂", "cell": "east", "gateways": ["gw2"]}
    (folder / "enterprises.yaml").write_text(yaml.safe_dump([entry]), "utf-8")
    with pytest.raises(RegistryErrors) as errors:
        take(city, folder)
    assert [mistake.file for mistake in errors.value.mistakes] == [
        f"point {code(1)}/P{n}" for n in range(1, 5)
    ]
    with pytest.raises(RegistryErrors):  # what stays is not left out for the sake of what comes
        take(city, folder, skip_bad=True)
    assert city.newest() == 1


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("equipment.xlsx", "equipment.xlsx:1: is not read; expected the name equipment.csv"),
        ("equipment - 副本.csv", "equipment - 副本.csv:1: is not read; expected the name equipment.csv"),
        ("readme.txt", "has no file of a registry; expected some of registry.yaml, people.yaml"),
    ],
)
def test_an_import_of_nothing_is_no_success(
    city: RegistryStore, tmp_path: Path, name: str, problem: str
) -> None:
    for skip_bad in (False, True):
        with pytest.raises(RegistryErrors) as errors:
            take(city, write(tmp_path / "some", {name: "x"}), skip_bad=skip_bad)
        [mistake] = errors.value.mistakes
        assert problem in str(mistake)


@pytest.fixture
def other(engine: Engine) -> Iterator[RegistryStore]:
    """The same registry, of another process."""
    its = open_database(engine.url.render_as_string(hide_password=False), busy=0.01)
    yield RegistryStore(its)
    its.dispose()


def meanwhile(act: Callable[[int], object]) -> Callable[[str, int, int], None]:
    """Does it each time that an import begins to check."""
    times = count()
    return lambda step, *_: act(next(times)) if step == "check" else None


def some(folder: Path, *rows: str) -> Path:
    header = "enterprise,gateway,point,kind,engineering_unit"
    return write(folder, {"points.csv": "\n".join([header, *rows, ""])})


def test_an_import_lets_others_edit_until_it_writes(
    city: RegistryStore, other: RegistryStore, tmp_path: Path
) -> None:
    folder = some(tmp_path / "some", f"{code(1)},gw1,P1,temperature,°C")

    def act(number: int) -> None:
        if number == 0:
            assert edit(other, Change("point", f"{code(1)}/P1", {"place": "泵房"})) is not None

    imported = take(city, folder, now=3, told=meanwhile(act))
    assert imported.edit is not None
    assert imported.edit.id == 3
    [newest, *_] = city.history("point", f"{code(1)}/P1")
    assert (newest.edit.id, (newest.old or {}).get("place")) == (3, "泵房"), "it knows what it replaces"


def test_an_import_is_judged_by_what_is_there_when_it_is_written(
    city: RegistryStore, other: RegistryStore, tmp_path: Path
) -> None:
    folder = some(tmp_path / "some", f"{code(1)},gw1,T1,temperature,°C")

    def act(number: int) -> None:
        if number == 0:
            points = [Change("point", f"{code(1)}/P{n}", None) for n in range(1, 5)]
            edit(other, *points, Change("enterprise", code(1), {"gateways": ["gw2"]}))

    with pytest.raises(
        RegistryErrors, match=r"points.csv:2: gateway: is 'gw1', which its enterprise does not"
    ):
        take(city, folder, told=meanwhile(act))
    assert city.newest() == 2


def test_an_import_among_many_edits_ends(city: RegistryStore, other: RegistryStore, tmp_path: Path) -> None:
    folder = some(tmp_path / "some", f"{code(1)},gw1,T1,temperature,°C")
    waits: list[int] = []

    def act(number: int) -> None:
        try:
            edit(other, Change("point", f"{code(2)}/P1", {"H": str(26 + number)}))
        except DatabaseBusy:
            waits.append(number)

    imported = take(city, folder, told=meanwhile(act))
    assert imported.added == 1
    assert waits == [TRIES]


def test_an_export_is_one_look(
    city: RegistryStore, other: RegistryStore, engine: Engine, tmp_path: Path
) -> None:
    """The level of a cell is renamed, in its settings and in the grid, while it is read."""
    before = compile_source(city.load()).version
    after_first = count()

    def rename(*all_: Any) -> None:
        if "FROM records" in all_[2] and next(after_first) == 0:
            settings_, cell = (
                {"escalation": {"III": {"top_level": "area", "told_level": "area"}}},
                {"level": "area"},
            )
            for tier in ("I", "II"):
                settings_["escalation"][tier] = {"told_level": "area"}
            edit(other, Change("settings", "registry", settings_), Change("cell", "east", cell))

    event.listen(engine, "after_cursor_execute", rename)
    export_folder(city, tmp_path / "out")
    event.remove(engine, "after_cursor_execute", rename)
    assert city.newest() == 2
    assert compile_folder(tmp_path / "out").version == before


def test_with_mistakes_all_are_said_by_line_and_nothing_is_done(store: RegistryStore, tmp_path: Path) -> None:
    folder = write(tmp_path / "bad", BAD)
    with pytest.raises(RegistryErrors) as errors:
        compile_folder(folder)
    with pytest.raises(RegistryErrors) as of_import:
        take(store, folder, replace=True)
    assert of_import.value.mistakes == errors.value.mistakes
    assert store.newest() == 0


SLIPS: list[tuple[str, str]] = [
    ("points.csv:2: kind", f"{PLANT},gw1,A1,metane,%CH4,,,"),
    ("points.csv:3: gateway", f"{PLANT},gw9,A2,methane,%CH4,,,"),
    ("points.csv:4: H", f"{PLANT},gw1,A3,methane,%CH4,1.O,,"),
    ("points.csv:5: has 3 cells", f"{PLANT},gw1,A4"),
    ("points.csv:6: on_delay", f"{PLANT},gw1,A5,methane,%CH4,1,5 parsecs,"),
    ("points.csv:7: unit", f"{PLANT},gw1,A6,methane,%CH4,1,,R-9"),
]


def test_what_is_bad_is_skipped_with_all_that_refers_to_it(store: RegistryStore, tmp_path: Path) -> None:
    files = documented()
    good = [f"{PLANT},gw1,G{number},methane,%CH4,1,5s,R-101" for number in range(20)]
    header = "enterprise,gateway,point,kind,engineering_unit,H,on_delay,unit"
    files["points.csv"] = "\n".join([header, *(row for _, row in SLIPS), *good, ""])
    files["people.yaml"] += (
        "- {id: ghost, name: Ghost, language: xx, contacts: [{channel: phone, address: '1'}]}\n"
    )
    files["duty.yaml"] += "- {place: donghai, person: ghost}\n"
    files["enterprises.yaml"] += (
        f"- {{code: {code(9)}, name: 二厂, cell: mars, gateways: [gw1]}}\n"
        f"- {{code: {code(8)}, name: 三厂, cell: hill, gateways: [gw1]}}\n"
    )
    files["points/second.csv"] = f"enterprise,gateway,point,kind,engineering_unit\n{code(8)},gw1,X,flow,1\n"
    files["cells.csv"] += "hill,山村,village,nowhere\n"
    folder = write(tmp_path / "r", files)
    with pytest.raises(RegistryErrors):
        take(store, folder)
    imported = take(store, folder, skip_bad=True)
    skipped = [str(mistake) for mistake in imported.skipped]
    expected = [
        *(slip for slip, _ in SLIPS),
        *("people.yaml:15: [3].language", "duty.yaml:6: [5].person", "cells.csv:4: parent"),
        *("[1].cell: is 'mars'", "[2].cell: lies below no cell"),
        *("[0].groups[0]: has no point", "points/second.csv:2: enterprise"),
    ]
    for part in expected:
        assert any(part in line for line in skipped), (part, skipped)
    source = store.load()
    assert {entry.code for entry in source.enterprises} == {PLANT}
    assert sorted(source.points["point"]) == sorted(f"G{number}" for number in range(20))
    assert {entry.id for entry in source.people} == {"wang", "li", "zhao"}
    assert len(source.duty) == 5
    assert source.enterprises[0].groups == [], "the group whose points were bad"


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("points.csv", "enterprise,gateway,pint\n", "points.csv:1: pint: unknown column"),
        ("people.yaml", "- a\n- b: [\n", "people.yaml:3: is not YAML"),
        (
            "points.csv",
            f'enterprise,gateway,point,kind,engineering_unit\n{PLANT},gw1,"A"B,flow,1\n',
            "is not CSV",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_not_skipped(
    store: RegistryStore, tmp_path: Path, file: str, content: str, problem: str
) -> None:
    folder = write(tmp_path / "r", {**documented(), file: content})
    with pytest.raises(RegistryErrors, match=problem):
        take(store, folder, skip_bad=True)
    assert store.newest() == 0


def test_ten_thousand_rows_with_fifty_mistakes_of_many_kinds(store: RegistryStore, tmp_path: Path) -> None:
    """All are named by line; and skipped, the other 9,950 are there."""
    rows = [f"{PLANT},gw1,P{number},flow,m3/h,0,100,80,75,5s" for number in range(10_000)]
    wrongs = [
        lambda n: f"{PLANT[:-1]}X,gw1,P{n},flow,m3/h,0,100,80,75,5s",
        lambda n: f"{PLANT},gw7,P{n},flow,m3/h,0,100,80,75,5s",
        lambda n: f"{PLANT},gw1,P/{n},flow,m3/h,0,100,80,75,5s",
        lambda n: f"{PLANT},gw1,P{n},flaw,m3/h,0,100,80,75,5s",
        lambda n: f"{PLANT},gw1,P{n},flow,,0,100,80,75,5s",
        lambda n: f"{PLANT},gw1,P{n},flow,m3/h,100,0,80,75,5s",
        lambda n: f"{PLANT},gw1,P{n},flow,m3/h,0,100,180,75,5s",
        lambda n: f"{PLANT},gw1,P{n},flow,m3/h,0,100,80,85,5s",
        lambda n: f"{PLANT},gw1,P{n},flow,m3/h,0,100,80,75,5 s s",
        lambda n: f"{PLANT},gw1,P{n},flow,m3/h",
    ]
    bad = [number * 200 for number in range(50)]
    for place, number in enumerate(bad):
        rows[number] = wrongs[place % len(wrongs)](number)
    header = "enterprise,gateway,point,kind,engineering_unit,range_low,range_high,H,H_reset,on_delay"
    files = documented()
    files["enterprises.yaml"] = files["enterprises.yaml"].partition("  groups:")[0]
    files["points.csv"] = "\n".join([header, *rows, ""])
    folder = write(tmp_path / "r", files)
    with pytest.raises(RegistryErrors) as errors:
        take(store, folder)
    assert sorted({mistake.line for mistake in errors.value.mistakes}) == [number + 2 for number in bad]
    imported = take(store, folder, skip_bad=True)
    assert {mistake.line for mistake in imported.skipped} == {number + 2 for number in bad}
    assert len(store.records("point")) == 9_950


def test_enterprises_of_a_csv_file(store: RegistryStore, tmp_path: Path) -> None:
    files = documented()
    rows = [
        "code,name,cell,industry,location,responsible,gateways,units,groups",
        f'{code(2)},二厂,chengxi,化工,"120.38,36.07",法人=wang;安全总监=li,gw1 gw2,R-1=一号釜;R-2=二号釜,T=2.0 30s;U=1',
        f"{code(3)},三厂,chengxi,,,,,,",
    ]
    files["enterprises.csv"] = "\n".join([*rows, ""])
    header, *_ = files["points.csv"].splitlines()
    files["points/two.csv"] = "enterprise,gateway,point,kind,engineering_unit,group\n" + "".join(
        f"{code(2)},gw{n % 2 + 1},{g}{n},flow,1,{g}\n" for g in "TU" for n in range(2)
    )
    folder = write(tmp_path / "r", files)
    take(store, folder, replace=True)
    entry = next(entry for entry in store.load().enterprises if entry.code == code(2))
    assert (entry.industry, entry.location) == ("化工", (120.38, 36.07))
    assert [(one.role, one.person) for one in entry.responsible] == [("法人", "wang"), ("安全总监", "li")]
    assert [(unit.id, unit.name) for unit in entry.units] == [("R-1", "一号釜"), ("R-2", "二号釜")]
    assert [(group.id, group.tolerance, group.delay) for group in entry.groups] == [
        ("T", 2, 30_000_000),
        ("U", 1, 0),
    ]
    assert entry.gateways == ["gw1", "gw2"]
    assert compile_source(store.load()).rows[code(3)] == {}

    files["enterprises.csv"] += f"{code(3)},again,mars,,north,boss,gw:1,R 1=x,T\n"
    with pytest.raises(RegistryErrors) as errors:
        compile_folder(write(tmp_path / "r", files))
    said = [str(mistake) for mistake in errors.value.mistakes]
    assert all(line.startswith("enterprises.csv:4: ") for line in said), said
    assert [line.split(": ")[1] for line in said] == [
        *("cell", "code", "gateways[0]", "groups[0]", "groups[0].tolerance", "location"),
        *("responsible[0].person", "units[0].id"),
    ]
    shutil.rmtree(folder)
    del files["enterprises.yaml"], files["points/two.csv"]
    files["enterprises.csv"] = f"code,name,cell\n{PLANT},一厂,chengxi\n"
    files["points.csv"] = f"{header}\n"
    assert list(compile_folder(write(folder, files)).enterprises) == [PLANT], (
        "enterprises.yaml need not be there"
    )


RING = [[120.0, 36.0], [120.1, 36.0], [120.1, 36.1], [120.0, 36.0]]


@pytest.mark.parametrize(
    ("area", "problem"),
    [
        ({"type": "Point", "coordinates": [120.0, 36.0]}, ""),
        ({"type": "Polygon", "coordinates": [RING]}, ""),
        ({"type": "MultiPolygon", "coordinates": [[RING], [RING]]}, ""),
        ({"type": "LineString", "coordinates": RING}, "is of type 'LineString'"),
        ({"type": "Polygon", "coordinates": [RING[:3]]}, "has a ring that is not closed"),
        ({"type": "Polygon", "coordinates": RING}, "has coordinates that are no list"),
        ({"type": "Polygon", "coordinates": [[[120, 36], [1, "x"], [2, 2], [120, 36]]]}, "position [1, 'x']"),
        ({"type": "Point", "coordinates": [36.0, 120.0]}, "has the position"),
        ({"type": "Point", "coordinates": []}, "coordinates that are no list"),
        ({"type": "Point", "coordinates": [10**400, 1]}, "has the position"),
        ({"type": "Point", "coordinates": [True, 1]}, "has the position"),
        ({"type": "Point", "coordinates": [1, 2], "crs": "x"}, "is no geometry"),
        ([], "is no geometry"),
    ],
)
def test_areas_are_geojson(city: RegistryStore, area: object, problem: str) -> None:
    change = Change("cell", "east", {"area": json.dumps(area)})
    if problem:
        [said] = refused(city, change)
        assert said.startswith("cell east: area: ")
        assert problem in said
    else:
        assert edit(city, change) is not None


def test_a_nested_area_is_kept_as_text_and_comes_back(city: RegistryStore, tmp_path: Path) -> None:
    nested: Any = {"type": "Polygon", "coordinates": [[[str(x), str(y)] for x, y in RING]]}
    assert edit(city, Change("cell", "east", {"area": nested})) is not None
    cell = city.find("cell", "east")
    assert cell is not None
    assert json.loads(str(cell.body["area"])) == {"type": "Polygon", "coordinates": [RING]}
    export_folder(city, tmp_path / "out")
    assert take(city, tmp_path / "out", replace=True).edit is None
    [said] = refused(city, Change("cell", "east", {"area": {"type": "LineString", "coordinates": []}}))
    assert said.startswith("cell east: area: is of type 'LineString'")


def test_the_boundary_of_a_district_comes_and_goes(city: RegistryStore, tmp_path: Path) -> None:
    """It is longer than what a cell of a CSV file may usually hold."""
    ring = [[120 + n / 1e6, 36 + n / 1e6] for n in range(8000)]
    area = json.dumps({"type": "Polygon", "coordinates": [[*ring, ring[0]]]})
    assert len(area) > 131_072
    edit(city, Change("cell", "east", {"area": area}))
    export_folder(city, tmp_path / "out")
    assert take(city, tmp_path / "out", replace=True).edit is None


def test_cells_have_people_and_areas_nested_or_in_rows(store: RegistryStore, tmp_path: Path) -> None:
    files = documented()
    files["registry.yaml"] = files["registry.yaml"].replace(
        "    level: city\n",
        "    level: city\n    responsible: wang\n    leader: li\n"
        "    area: {type: Polygon, coordinates: [[[120, 36], [121, 36], [121, 37], [120, 36]]]}\n",
    )
    files["cells.csv"] = (
        files["cells.csv"].replace("parent\n", "parent,leader\n").replace("gangkou\n", "gangkou,li\n")
    )
    take(store, write(tmp_path / "r", files), replace=True)
    cell = store.find("cell", "haizhou")
    assert cell is not None
    assert (cell.body["responsible"], cell.body["leader"]) == ("wang", "li")
    assert json.loads(str(cell.body["area"])) == {
        "type": "Polygon",
        "coordinates": [[[120, 36], [121, 36], [121, 37], [120, 36]]],
    }
    export_folder(store, tmp_path / "out")
    assert take(store, tmp_path / "out", replace=True).edit is None
    files["cells.csv"] = files["cells.csv"].replace(",li\n", ",nobody-we-know\n", 1)
    with pytest.raises(RegistryErrors, match=r"cells.csv:2: leader: is 'nobody-we-know'"):
        take(store, write(tmp_path / "r", files))


text = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6)


@settings(max_examples=60)
@given(
    names=st.lists(text, min_size=1, max_size=4),
    units=st.lists(st.tuples(text, text), max_size=3, unique_by=lambda unit: unit[0]),
    duties=st.lists(st.sampled_from([{}, {"hours": "08:00-20:00"}, {"weekdays": "Mon-Fri,Sun"}]), max_size=3),
    area=st.sampled_from(["", '{"type":"Point","coordinates":[120.0,36.0]}']),
)
def test_whatever_comes_in_goes_out_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    units: list[tuple[str, str]],
    duties: list[dict[str, str]],
    area: str,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    write_registry(folder / "in", enterprises=len(names), points=1)
    entries = yaml.safe_load((folder / "in" / "enterprises.yaml").read_text("utf-8"))
    kept = [(id_, name) for id_, name in units if not set(id_) & set("/+#|")]
    for entry, name in zip(entries, names, strict=True):
        entry |= {"name": name, "units": [{"id": id_, "name": name} for id_, name in kept]}
    (folder / "in" / "enterprises.yaml").write_text(yaml.safe_dump(entries), "utf-8")
    people = [{"place": "city", "person": "admin", **duty} for duty in duties]
    with (folder / "in" / "duty.yaml").open("a", encoding="utf-8") as file:
        file.write(yaml.safe_dump(people) if people else "")
    (folder / "in" / "cells.csv").write_text(
        f'id,name,level,parent,area\nvillage,村,village,east,"{area.replace(chr(34), chr(34) * 2)}"\n',
        "utf-8",
    )
    engine = open_database(folder / "r.sqlite", lasting=False)
    upgrade(engine)
    store = RegistryStore(engine)
    take(store, folder / "in", replace=True)
    export_folder(store, folder / "out")
    assert take(store, folder / "out", replace=True) == Imported(None, 0, 0, 0, ())
    assert compile_folder(folder / "out").version == compile_folder(folder / "in").version
    engine.dispose()
