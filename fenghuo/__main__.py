"""The command `fenghuo`: its subcommands, each in a file of its own in commands/, read only when it is asked for."""

from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group

MARKUP: Final = "markdown"
CLUSTER = "Roles of a cluster"


class Place(NamedTuple):
    """Of a subcommand: file of commands/, what is in it, and the panel of the help that it is shown in."""

    file: str
    name: str
    panel: str | None = None


COMMANDS = {
    "serve": Place("serve", "serve"),
    "demo": Place("demo", "demo"),
    "check": Place("check", "check"),
    "doctor": Place("doctor", "doctor"),
    "prepare": Place("prepare", "prepare", CLUSTER),
    "registrar": Place("registrar", "registrar", CLUSTER),
    "collect": Place("collect", "collect", CLUSTER),
    "evaluate": Place("evaluate", "evaluate", CLUSTER),
    "desk": Place("desk", "desk", CLUSTER),
    "historian": Place("historian", "historian", CLUSTER),
    "api": Place("api", "api", CLUSTER),
    "publish-file": Place("publish", "publish_file"),
    "alerts": Place("alerts", "app"),
    "dashboards": Place("dashboards", "app"),
    "history": Place("history", "app"),
    "registry": Place("registry", "app"),
    "rules": Place("rules", "app"),
    "simulate": Place("simulate", "app"),
    "token": Place("token", "app"),
}


class Subcommands(TyperGroup):
    """All of them together take over a second to read, and a role that was killed is to be back soon."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        wanted = [cmd_name] if cmd_name in COMMANDS else COMMANDS  # a slip: what is alike is named
        for name in wanted:
            if name not in self.commands:
                self.commands[name] = _read(name)
        return self.commands.get(cmd_name)


def _read(name: str) -> Any:
    place = COMMANDS[name]
    found = getattr(import_module(f"fenghuo.commands.{place.file}"), place.name)
    alone = typer.Typer(rich_markup_mode=MARKUP)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name, rich_help_panel=place.panel)(found)
    return get_group(alone).commands[name]


app = typer.Typer(
    name="fenghuo",
    cls=Subcommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals may hold secrets
    rich_markup_mode=MARKUP,
)


@app.callback()
def fenghuo() -> None:
    """Fenghuo 烽火 hears every sensor, decides how bad it is, and does not rest until a person has answered."""


def main() -> None:
    """Entry point of the installed command."""
    app()


if __name__ == "__main__":
    main()
