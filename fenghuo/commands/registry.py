"""`fenghuo registry`: who and what exists, in the database: import, export, look, edit, and who changed what."""

import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from sqlalchemy import URL

from alerting.words import moment
from fenghuo import settings
from registry.clock import SystemClock
from registry.database import DatabaseError, open_database
from registry.exchange import export_folder, import_folder
from registry.files import Data
from registry.mistakes import Mistake, RegistryErrors
from registry.records import Body, Record, columns, encode, kinds
from registry.store import Change, Changed, RegistryStore
from registry.store_tables import newest_form, upgrade
from registry.versions import wanted

app = typer.Typer(no_args_is_help=True, help="Import, export and edit who and what exists.")
console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)

DataFolder = Annotated[
    Path, typer.Option(help="Data folder of `fenghuo serve`, or of a cluster's roles.", envvar="FENGHUO_DATA")
]
Who = Annotated[str, typer.Option(help="Who does it; whoever is logged in, if left out.")]
Kind = Annotated[str, typer.Argument(help="settings, cell, person, duty, enterprise, point, ...")]
Key = Annotated[str, typer.Argument(help="Such as CODE/TI-1101 of a point, or the id of a cell.")]
Why = Annotated[str, typer.Option(help="Why; it stands in the history.")]

STEPS = {
    "read": "reading the files",
    "check": "checking",
    "compare": "comparing with the database",
    "write": "writing",
}


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Registry folder (docs/registry.md).")],
    data: DataFolder,
    who: Who = "",
    why: Why = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove what the folder does not name; else it stays.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows and entries with mistakes, and say which.")
    ] = False,
) -> None:
    """Bring a folder into the registry, as one edit; a running `fenghuo serve` takes it over at once.

    Without --replace any of its files may be missing. With a mistake nothing is done, unless --skip-bad.

    Example: `fenghuo registry import registry --data build/data --why "new plant"`

    Exit status: 0 if it is imported, 1 if it has mistakes, 2 if it cannot be done.
    """
    if replace and skip_bad:
        raise typer.BadParameter("what is skipped cannot replace anything", param_hint="--replace --skip-bad")
    with _store(data) as store, _progress() as progress:
        task = progress.add_task(STEPS["read"], total=None)

        def told(step: str, done: int, of: int) -> None:
            progress.update(task, description=STEPS[step], completed=done, total=of or None)

        imported = import_folder(
            store,
            folder,
            who=who or _myself(),
            why=why or f"import of {folder.resolve().name}",
            now=SystemClock().now(),
            replace=replace,
            skip_bad=skip_bad,
            told=told,
        )
    if imported.skipped:
        _say_mistakes("Skipped", imported.skipped)
    if imported.edit is None:
        console.print("Nothing to change: all is so already.")
        return
    console.print(
        f"[green]Edit {imported.edit.id}:[/] {imported.added:,} added, {imported.changed:,} changed, "
        f"{imported.removed:,} removed"
        + (f", {len(imported.skipped):,} skipped." if imported.skipped else ".")
    )


@app.command()
def export(folder: Annotated[Path, typer.Argument(help="A new folder.")], data: DataFolder) -> None:
    """Write the registry as a folder that imports to the same.

    Example: `fenghuo registry export build/registry --data build/data`
    """
    with _store(data, there=True) as store:
        export_folder(store, folder)
    console.print(f"Written to {escape(str(folder))}.")


@app.command()
def log(
    data: DataFolder,
    kind: Annotated[str, typer.Option(help="Of records of this kind.")] = "",
    key: Annotated[str, typer.Option(help="Of records of this key.")] = "",
    enterprise: Annotated[str, typer.Option(help="Of records of this enterprise (credit code).")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many changes at most.")] = 50,
) -> None:
    """Show who changed what, when and why, the newest first.

    Example: `fenghuo registry log --kind point --data build/data`
    """
    if kind:
        _known(kind)
    with _store(data, there=True) as store:
        found = store.history(kind, key, enterprise, limit=limit)
        settings = store.find("settings", "registry")
    zone = str((settings.body if settings else {}).get("time_zone", "Asia/Shanghai"))
    table = Table("edit", "when", "who", "why", "what", "old → new")
    for changed in found:
        edit = changed.edit
        when = moment(edit.time, zone)
        table.add_row(
            *map(
                escape,
                (
                    str(edit.id),
                    when,
                    _harmless(edit.who),
                    _harmless(edit.why),
                    f"{changed.kind} {changed.key}",
                    _change(changed),
                ),
            )
        )
    console.print(table if found else "No changes.")


@app.command()
def show(
    kind: Kind,
    data: DataFolder,
    key: Annotated[str, typer.Argument(help="Its key; all of the kind, if left out.")] = "",
    enterprise: Annotated[str, typer.Option(help="Only of this enterprise (credit code).")] = "",
) -> None:
    """Show a record, or all records of a kind, as YAML.

    Example: `fenghuo registry show enterprise 91370200MA0001XX0U --data build/data`
    """
    _known(kind)
    with _store(data, there=True) as store:
        if key:
            one = store.find(kind, key)
            if one is None:
                raise _failure(f"There is no {kind} {key}.", 1)
            found: list[Record] = [one]
        else:
            found = store.records(kind, enterprise)
    if not found:
        stderr.print(f"There is no {kind}{f' of {escape(enterprise)}' if enterprise else ''}.")
    content = {record.key: record.body for record in found}
    print(yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=1000) if found else "", end="")


@app.command("set")
def set_(
    kind: Kind,
    key: Key,
    fields: Annotated[list[str], typer.Argument(help="FIELD=VALUE; an empty value takes the field away.")],
    data: DataFolder,
    why: Why,
    who: Who = "",
) -> None:
    """Set fields of a record; one that is not there is made. Lists are written as in YAML: [a, b].

    Example: `fenghuo registry set point 91370200MA0001XX0U/TI-1101 H=85 --why "new process card" --data build/data`
    """
    _known(kind)
    given: Body = {}
    for field in fields:
        name, sign, value = field.partition("=")
        if not sign:
            raise typer.BadParameter(f"{field!r}: expected FIELD=VALUE", param_hint="FIELDS")
        given[name] = value if columns(kind) is not None else _value(value)
    _edit(data, Change(kind, key, given), who, why)


@app.command()
def remove(kind: Kind, key: Key, data: DataFolder, why: Why, who: Who = "") -> None:
    """Remove a record.

    Example: `fenghuo registry remove point 91370200MA0001XX0U/TI-1101 --why "taken down" --data build/data`
    """
    _known(kind)
    _edit(data, Change(kind, key, None), who, why)


def _edit(data: Path, change: Change, who: str, why: str) -> None:
    if not why.strip():
        raise typer.BadParameter("say why: it stands in the history", param_hint="--why")
    where = _where(data)
    if isinstance(where, Path) and not where.exists():
        raise _nothing(data)
    with _store(data) as store:
        now = SystemClock().now()
        edit = store.edit([change], who=who or _myself(), why=why, now=now, origin="command")
    console.print(f"[green]Edit {edit.id}.[/]" if edit else "Nothing to change: it is so already.")


def _myself() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return f"uid {os.getuid()}"


def _value(text: str) -> Data:
    """A list or mapping as in YAML; anything else is the text that it is."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        value: Data = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return text
    return value


def _harmless(words: str) -> str:
    """Without what a terminal would obey: anybody who may edit wrote them."""
    return "".join(one if one.isprintable() else " " for one in words)


def _change(changed: Changed) -> str:
    """What is different, field by field."""
    old, new = changed.old, changed.new
    if old is None or new is None:
        return f"+ {encode(new)}" if new is not None else f"− {encode(old or {})}"
    fields = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return "\n".join(f"{name}: {_plain(old.get(name))} → {_plain(new.get(name))}" for name in fields)


def _plain(value: Data | None) -> str:
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _known(kind: str) -> None:
    if kind not in kinds():
        raise typer.BadParameter(f"{kind!r} is none: expected one of {', '.join(kinds())}", param_hint="KIND")


def _where(data: Path) -> Path | URL:
    """The registry's database: a cluster's, where the folder is that of one of its roles."""
    if (data / "run.json").exists():
        try:
            return settings.of_run(data).registry_database
        except (settings.SettingsError, OSError) as error:
            raise _failure(str(error)) from error
    return data / "registry.sqlite"


@contextmanager
def _store(data: Path, *, there: bool = False) -> Iterator[RegistryStore]:
    """The registry of a data folder; what goes wrong with it is said, and ends the command.

    Args:
        there: it is only read, so there must be one.
    """
    where = _where(data)
    try:
        if there and isinstance(where, Path) and not where.exists():
            raise _nothing(data)
        if not data.exists():
            data.mkdir(parents=True)
            data.chmod(0o700)  # people's numbers are in there
        engine = open_database(where)
        store = RegistryStore(engine)
        try:
            if not there:
                upgrade(engine)
            elif not newest_form(engine):
                how = "`fenghuo serve` or `fenghuo registry import` brings it to this one"
                raise _failure(f"{engine.url!r} has no tables, or those of an older Fenghuo: {how}.")
            elif not store.newest():
                raise _nothing(data)
            yield store
        finally:
            engine.dispose()
    except RegistryErrors as error:
        _say_mistakes("Nothing was done. Mistakes", error.mistakes)
        raise typer.Exit(1) from error
    except UnicodeEncodeError as error:
        raise _failure("What was typed is not UTF-8: set the terminal to it.") from error
    except (DatabaseError, OSError) as error:
        raise _failure(str(error)) from error


def _nothing(data: Path) -> typer.Exit:
    version = wanted(data / "versions")
    serving = f" (`fenghuo serve` goes on with version {version}, compiled before)" if version else ""
    return _failure(
        f"The registry of {data} is empty{serving}: fill it with `fenghuo registry import FOLDER --data {data}`."
    )


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=stderr, transient=True)


def _say_mistakes(title: str, mistakes: Sequence[Mistake]) -> None:
    console.print(f"[bold]{title}: {len(mistakes):,}[/]")
    for mistake in mistakes:
        console.print(escape(str(mistake)), soft_wrap=True)


def _failure(why: str, status: int = 2) -> typer.Exit:
    """Say why, for people; the exception that ends the command."""
    stderr.print(f"[red]{escape(why)}[/]", soft_wrap=True)
    return typer.Exit(status)
