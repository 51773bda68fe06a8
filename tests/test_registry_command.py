"""`fenghuo registry`: import, export, look and edit, each change with who and why."""

from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import text
from typer.testing import CliRunner

from fenghuo.__main__ import app
from registry.database import open_database, writing
from registry.store_tables import upgrade
from tests.build import code
from tests.folders import write_registry


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["registry", *map(str, arguments)])


def test_reading_waits_for_nobody_and_changes_nothing(tmp_path: Path) -> None:
    write_registry(tmp_path / "r", enterprises=1)
    data = ("--data", tmp_path / "data")
    assert run("import", tmp_path / "r", *data).exit_code == 0
    engine = open_database(tmp_path / "data" / "registry.sqlite")
    with writing(engine):  # as a long import does
        for reading in (("show", "point"), ("log",), ("export", tmp_path / "out")):
            result = run(*reading, *data)
            assert result.exit_code == 0, result.output
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for command in (("show", "point"), ("remove", "point", "x", "--why", "x")):
        result = run(*command, *data)
        assert (result.exit_code, "tables of a newer Fenghuo" in result.stderr) == (2, True), result.output
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    result = run("log", *data)
    assert (result.exit_code, "those of an older Fenghuo" in result.stderr) == (2, True), result.output
    engine.dispose()


def test_an_empty_registry_is_said_with_the_version_that_goes_on(tmp_path: Path) -> None:
    data = ("--data", tmp_path / "data")
    result = run("log", *data)
    assert (result.exit_code, "fill it with `fenghuo registry import FOLDER" in result.stderr) == (2, True)
    assert not (tmp_path / "data").exists(), "it only looks"
    engine = open_database(tmp_path / "registry.sqlite")
    upgrade(engine)
    engine.dispose()
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "wanted").write_text("V1.R1")
    for command in (("show", "point"), ("log",), ("export", tmp_path / "out")):
        result = run(*command, "--data", tmp_path)
        assert (result.exit_code, "goes on with version V1.R1" in result.stderr) == (2, True), result.output
    assert not (tmp_path / "out").exists()


def test_what_is_typed_and_shown_is_text(tmp_path: Path) -> None:
    write_registry(tmp_path / "r", enterprises=1)
    data = ("--data", tmp_path / "data")
    assert run("import", tmp_path / "r", *data, "--why", "new\x1b[2Jcity").exit_code == 0
    said = run("log", *data, "--limit", 1).stdout
    assert "\x1b" not in said
    assert "new" in said
    result = run("set", "point", f"{code(1)}/P1", "place=\udcb1\udcc3", *data, "--why", "typed in GBK")
    assert (result.exit_code, "is not UTF-8" in result.stderr) == (2, True), result.output
    assert run("log", "--kind", "pump", *data).exit_code == 2
    nothing = run("show", "equipment", "--enterprise", code(1), *data)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert f"There is no equipment of {code(1)}." in nothing.stderr


def test_the_commands(tmp_path: Path) -> None:
    write_registry(tmp_path / "r", enterprises=2)
    data = ("--data", tmp_path / "data")
    assert run("log", *data).exit_code == 2, "nothing was ever imported"
    result = run("import", tmp_path / "r", *data, "--why", "new city", "--who", "wang")
    assert (result.exit_code, "added" in result.stdout) == (0, True), result.output
    assert "Nothing to change" in run("import", tmp_path / "r", *data, "--replace").stdout

    point = f"{code(1)}/P1"
    assert run("set", "point", point, "H=30", *data).exit_code == 2, "it must be said why"
    assert run("set", "point", point, "H=30", *data, "--why", " ").exit_code == 2
    assert run("set", "pump", point, "H=30", *data, "--why", "x").exit_code == 2
    result = run("set", "point", point, "H=80", *data, "--why", "x")
    assert (result.exit_code, "HH: 50 is not above 80" in result.stdout) == (1, True), result.output
    assert run("set", "point", point, "H=30", *data, "--why", "card 3.2", "--who", "li").exit_code == 0
    assert yaml.safe_load(run("show", "point", point, *data).stdout)[point]["H"] == "30"
    gateways = run("set", "enterprise", code(2), "gateways=[gw1, gw2]", *data, "--why", "second gateway")
    assert gateways.exit_code == 0, gateways.output
    assert yaml.safe_load(run("show", "enterprise", *data).stdout)[code(2)]["gateways"] == ["gw1", "gw2"]
    assert len(yaml.safe_load(run("show", "point", "--enterprise", code(2), *data).stdout)) == 4
    assert run("show", "point", "nowhere", *data).exit_code == 1
    assert run("remove", "point", f"{code(1)}/P2", *data, "--why", "taken down").exit_code == 0
    said = run("log", "--key", point, *data).stdout
    for words in ("li", "card 3.2", "H: 25 → 30", "new city"):
        assert words in " ".join(said.split()), said
    assert run("export", tmp_path / "out", *data).exit_code == 0
    assert "Nothing to change" in run("import", tmp_path / "out", *data, "--replace").stdout
    assert run("export", tmp_path / "out", *data).exit_code == 2

    with (tmp_path / "out" / "points.csv").open("a", encoding="utf-8") as file:
        file.write("nonsense\n")
    result = run("import", tmp_path / "out", *data)
    assert (result.exit_code, "points.csv:9: has 1 cells" in result.stdout) == (1, True), result.output
    result = run("import", tmp_path / "out", *data, "--skip-bad")
    assert (result.exit_code, "Skipped: 1" in result.stdout) == (0, True), result.output
    assert run("import", tmp_path / "out", *data, "--skip-bad", "--replace").exit_code == 2
