"""`fenghuo registry`: import, export, look and edit, each change with who and why."""

from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from fenghuo.__main__ import app
from tests.build import code
from tests.folders import write_registry


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["registry", *map(str, arguments)])


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
