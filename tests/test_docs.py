"""The documentation says what is so: diagrams from the code, settings and commands that exist, links that lead."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alerting.lifecycle import diagram
from fenghuo.__main__ import app
from fenghuo.settings import Cluster, History, Influx, Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def test_the_lifecycle_diagram_is_the_table() -> None:
    assert diagram() in (ROOT / "docs" / "architecture.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_settings_page_names_every_setting_and_its_example_is_valid() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    for example in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        Settings.model_validate(yaml.safe_load(example))
    page += (ROOT / "docs" / "history.md").read_text("utf-8")
    for name, field in {
        **Cluster.model_fields,
        **History.model_fields,
        **Influx.model_fields,
        **Settings.model_fields,
    }.items():
        assert re.search(rf"^ *(\| `{name}`|{name}:)", page, re.MULTILINE), (
            f"{name} is not in docs/settings.md"
        )
        if match := re.search(rf"^\| `{name}` \| (\S+) \|", page, re.MULTILINE):
            assert str(field.default) == match[1], f"the default of {name}"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\((\d{4}-[^)]+)\)", (folder / "README.md").read_text("utf-8")))
    assert listed == {path.name for path in folder.glob("0*.md")}


COMMANDS = [
    *(["serve"], ["demo"], ["check"], ["doctor"], ["publish-file"]),
    *([role] for role in ("prepare", "registrar", "collect", "evaluate", "desk", "historian", "api")),
    *(["alerts", verb] for verb in ("list", "show", "confirm", "take-over", "act")),
    *(["token", verb] for verb in ("create", "list", "revoke")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_subcommand_has_help_with_an_example(command: list[str]) -> None:
    said = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    assert re.search(r"Example:\s+fenghuo ", said.output.replace("`", "")), said.output
