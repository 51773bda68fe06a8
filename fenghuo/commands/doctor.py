"""`fenghuo doctor`: is this machine fit to guard people, and what is missing?"""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

import registry.versions
from alerting.database import DeskError, open_database, writing
from alerting.ladder import Ladder
from fenghuo import settings, status
from registry.clock import HOUR, MINUTE, SECOND, SystemClock

console = Console()
GOOD, DOUBTFUL, BAD = "[green]good[/]", "[yellow]look[/]", "[red]bad[/]"


class Finding(NamedTuple):
    """One thing looked at, and what was found."""

    what: str
    verdict: str
    said: str


def doctor(
    data: Annotated[Path, typer.Option(help="Data folder of `fenghuo serve`.", envvar="FENGHUO_DATA")],
) -> None:
    """Look at broker, database, clock, disk and duty rota, and say what a person should do.

    Example: `fenghuo doctor --data build/data`

    Exit status: 0 if nothing is bad.
    """
    run = data / "run.json"
    if not run.exists():
        console.print(f"[red]{run} is not there[/]: has `fenghuo serve` ever run with --data {data}?")
        raise typer.Exit(1)
    chosen = settings.Settings.model_validate_json(run.read_text("utf-8"))
    table = Table("what", "verdict", "said")
    findings = list(examine(chosen, SystemClock().now()))
    for finding in findings:
        table.add_row(*finding)
    console.print(table)
    if any(finding.verdict == BAD for finding in findings):
        raise typer.Exit(1)


def examine(chosen: settings.Settings, now: int) -> Iterator[Finding]:
    """All that a doctor looks at; ``now`` is the wall's time, µs."""
    said = status.read(chosen.status)
    yield _broker(chosen, said)
    yield _judge(chosen, said, now)
    yield _database(chosen)
    yield _clock(said, now)
    yield _disk(chosen, said)
    yield from _rota(chosen, now)


def _broker(chosen: settings.Settings, said: status.Status | None) -> Finding:
    if chosen.broker is None:
        return Finding("broker", BAD, "none is set")
    try:
        socket.create_connection((chosen.broker.host, chosen.broker.port), timeout=3).close()
    except OSError as error:
        return Finding("broker", BAD, f"{chosen.broker.url} does not answer: {error}")
    if said is not None and not said.connected:
        return Finding("broker", BAD, f"{chosen.broker.url} answers, but the judge is not connected to it")
    return Finding("broker", GOOD, f"{chosen.broker.url} answers")


def _judge(chosen: settings.Settings, said: status.Status | None, now: int) -> Finding:
    if said is None:
        return Finding("judge", BAD, "it has never written its status")
    age = now - said.time
    if age > 10 * SECOND and not chosen.clock:
        return Finding("judge", BAD, f"its status is {age / SECOND:.0f} s old; is `fenghuo serve` running?")
    if said.unwritable:
        return Finding("judge", BAD, f"it cannot write its journal: {said.unwritable}")
    if said.waiting or not said.listening:
        return Finding(
            "judge", DOUBTFUL, f"{said.waiting} findings wait for the desk; listening: {said.listening}"
        )
    return Finding(
        "judge", GOOD, f"{said.readings:,} readings, {sum(said.dead.values())} dead letters since its start"
    )


def _database(chosen: settings.Settings) -> Finding:
    try:
        with writing(open_database(chosen.data / "desk.sqlite", busy=2)):
            pass
    except DeskError as error:
        return Finding("desk", BAD, f"its database cannot be written: {error}")
    return Finding("desk", GOOD, "its database can be written")


def _clock(said: status.Status | None, now: int) -> Finding:
    ahead = (said.time - now) if said is not None else 0
    if ahead > MINUTE:
        return Finding(
            "clock", BAD, f"the wall is {ahead / SECOND:.0f} s behind the last record; set it right"
        )
    return Finding("clock", GOOD, "the wall is not behind the last record")


def _disk(chosen: settings.Settings, said: status.Status | None) -> Finding:
    free = shutil.disk_usage(chosen.data).free
    hours = said.journal_hours if said is not None else float("inf")
    text = f"{free / 1e9:.0f} GB free; at this rate the journal's budget holds {hours:.0f} h"
    wanted = chosen.journal_days * 24
    if free < 2 * chosen.journal_reserve:
        return Finding("disk", BAD, f"{text}: nearly full")
    return Finding("disk", GOOD if hours >= wanted else DOUBTFUL, f"{text} (asked for: {wanted:.0f} h)")


def _rota(chosen: settings.Settings, now: int) -> Iterator[Finding]:
    version = registry.versions.wanted(chosen.versions)
    if version is None:
        yield Finding("duty", BAD, "no registry has been compiled")
        return
    compiled = registry.versions.load(chosen.versions, version)
    places = {
        "system": "the system's administrator",
        **{code: f"operator of {enterprise.name}" for code, enterprise in compiled.enterprises.items()},
        **{cell.id: f"duty officer of {cell.name}" for cell in compiled.cells.values()},
    }
    ladder = Ladder(compiled)
    empty = [
        title
        for place, title in places.items()
        if not all(ladder.on_duty(place, now + hour * HOUR) for hour in range(24))
    ]
    if not empty:
        yield Finding("duty", GOOD, f"someone is on duty at all {len(places)} places, all day")
        return
    shown = "; ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
    yield Finding("duty", BAD, f"within 24 h nobody is on duty as: {shown}")
