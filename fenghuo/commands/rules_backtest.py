"""`fenghuo rules backtest`: what a new rulebook would have made of the last days."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from alerting.words import moment
from fenghuo import backtest as old_journal
from fenghuo import rule_tests
from fenghuo.backtest import Load, Report, Side
from fenghuo.commands.rulebook_option import Named, failure
from fenghuo.commands.rulebook_option import rulebook as read_rulebook
from ingest.journal_file import JournalDamaged, JournalUnreadable
from registry.clock import stopwatch
from registry.model import FOREVER
from registry.versions import BrokenVersion

console = Console()
stderr = Console(stderr=True, highlight=False)

SHOWN = 20
"""So many of a kind are shown in a table; --json has all."""


def backtest(
    rulebook: Named,
    data: Annotated[Path, typer.Option(help="Data folder of `fenghuo serve`.", envvar="FENGHUO_DATA")],
    begin: Annotated[
        str, typer.Option("--from", help="Time with its zone, such as 2026-11-01T00:00:00+08:00.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="The same; to the newest if left out.")] = "",
    history: Annotated[
        bool, typer.Option("--history", help="Of history, which goes further back than the journal.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Put the journal once more through a rulebook beside the one that was in force, and say what differs.

    Example: `fenghuo rules backtest my-rules.yaml --data build/data --from 2026-11-01T00:00:00+08:00`

    History has the readings alone: not what gateways said of themselves, nor when Fenghuo did not listen. All of it is
    judged under the registry of today.
    """
    new = read_rulebook(rulebook, data)
    times = [_time(begin) if begin else 0, _time(end) if end else FOREVER]
    if times[0] >= times[1]:
        raise typer.BadParameter("--from: expected a time before --to")
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[speed]}"),
        TimeRemainingColumn(),
        console=stderr,
    )
    try:
        with bar:
            task, begun = bar.add_task("backtest", total=1.0, speed=""), stopwatch()

            def told(share: float, readings: int) -> None:
                speed = f"{readings / max(stopwatch() - begun, 0.001):,.0f} readings/s"
                bar.update(task, completed=share, speed=speed)

            run = old_journal.backtest_history if history else old_journal.backtest
            past = data / ("history" if history else "journal")
            report = run(past, data / "versions", new, times[0], times[1], told)
    except (
        old_journal.CannotBacktest,
        JournalDamaged,
        JournalUnreadable,
        BrokenVersion,
        OSError,
    ) as error:
        raise failure(error) from error
    if json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _show(report)


def _show(report: Report) -> None:
    zone = report.time_zone
    span = f"{moment(report.begin, zone)} to {moment(report.end, zone)} ({zone})"
    console.print(f"{span}: {report.rounds:,} rounds, {report.readings:,} readings", highlight=False)
    if report.lost:
        console.print(f"[red]not all of that time: {report.lost} files of history are damaged or missing[/]")
    table = Table("", "old", "new", box=None)
    for (name, old), (_, new) in zip(_facts(report.old), _facts(report.new), strict=True):
        table.add_row(name, old, new)
    console.print(table)
    _show_load(report)
    for title, changes in (
        ("appears", report.appears),
        ("disappears", report.disappears),
        ("another tier", report.changes),
    ):
        if changes:
            console.print(f"[bold]{title}[/]: {len(changes)}")
        for one in changes[:SHOWN]:
            tiers = " → ".join(filter(None, (one.old, one.new)))
            text = f"  {moment(one.time, zone)} {tiers:8} {one.rule} {one.enterprise} {one.subject}"
            console.print(escape(text), soft_wrap=True, highlight=False)
        if len(changes) > SHOWN:
            console.print(f"  and {len(changes) - SHOWN} more: --json has all")


def _facts(side: Side) -> list[tuple[str, str]]:
    return [
        ("rulebook", side.version),
        ("alerts", f"{side.alerts}"),
        ("alerts a day", f"{side.alerts_a_day:g}"),
        ("by tier", ", ".join(f"{tier} {count}" for tier, count in side.by_tier.items()) or "–"),
        ("times that something rang", f"{side.alarms}"),
        ("alarms that chatter", f"{len(side.chattering)}"),
        ("floods", f"{sum(one.floods for one in side.load)}"),
    ]


def _show_load(report: Report) -> None:
    """Who is called most, by either; ISA-18.2 finds one alarm in ten minutes acceptable, two the most."""
    old = {load.person: load for load in report.old.load}
    new = {load.person: load for load in report.new.load}
    table = Table("person", "alarms", "in 10 min: mean", "peak", "floods", "", box=None)
    for person in [*new, *(id for id in old if id not in new)][:SHOWN]:
        before, after = old.get(person), new.get(person)
        known = after or before
        assert known is not None

        def both(
            of: Callable[[Load], object], before: Load | None = before, after: Load | None = after
        ) -> str:
            words = [str(of(one)) if one else "0" for one in (before, after)]
            return words[0] if words[0] == words[1] else " → ".join(words)

        table.add_row(
            escape(known.name),
            both(lambda load: load.alarms),
            both(lambda load: f"{load.mean:.2f}"),
            both(lambda load: load.peak),
            both(lambda load: load.floods),
            after.verdict if after else "acceptable",
        )
    if table.row_count:
        console.print(table)


def _time(text: str) -> int:
    try:
        return rule_tests.moment(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time with its zone, such as 2026-11-01T00:00:00+08:00"
        ) from None
