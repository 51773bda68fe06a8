"""`fenghuo simulate load`: readings as fast as asked, and whether a judge made of them exactly what was in them."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import func
from sqlalchemy import select as query

from alerting import tables
from fenghuo import settings, status
from fenghuo.commands.broker_option import broker as at
from fenghuo.desk_reader import DeskReader
from fenghuo.rehearsal import NotAbsorbed, Rehearsal
from ingest.broker import die_with_parent, find_mosquitto
from registry import versions
from registry.clock import SECOND, stopwatch
from registry.database import reading
from registry.model import Registry
from simulators import credit, load_registry
from simulators.excursions import Limits
from simulators.load import Report, Spread
from simulators.packets import Fleet

console = Console()
stderr = Console(stderr=True, highlight=False)

GATEWAY = "gw1"
LIMITS = Limits()

STILL = 15.0
"""Seconds without a further reading judged after which the judge is taken to have come to its end."""

OURS = {"fleet.json", "registry", "data", "fenghuo.yaml", "serve.log", "rings.jsonl"}
"""What lies in the folder of a load; the first is there in no other."""

BOTTLENECKS = {
    "": "no: the schedule was kept",
    "generator": "yes: the generator's one thread had no time left, so this says nothing of what it drove",
    "machine": "yes: others had the processor when the generator was due, so this says little of what it drove",
    "broker": "no: the broker, or what is behind it, did not take more",
}


class Failed(Exception):
    """The load could not be carried through; the message says why."""


class Judged(msgspec.Struct, frozen=True):
    """What the product made of what was sent.

    all_judged_after: seconds from the device time of the last reading to the judge's first word (one a second)
    that it had judged as many as were sent. alert_ms: from the device time to the committed finding.
    """

    readings: int
    begun: int
    ended: int
    all_judged_after: float
    alert_ms: status.Latency


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is told; where something differs, that and nothing else."""

    differences: tuple[str, ...] = ()
    generator: Report | None = None
    bottleneck: str | None = None
    judged: Judged | None = None


def load(
    enterprises: Annotated[int, typer.Option(min=1, max=9999, help="Each has one gateway.")] = 503,
    points: Annotated[int, typer.Option(min=1, max=9999, help="Of each enterprise.")] = 200,
    hz: Annotated[float, typer.Option(min=0.05, help="Readings a second of each point.")] = 1,
    burst: Annotated[bool, typer.Option("--burst", help="All in the same instant, not spread.")] = False,
    columnar: Annotated[bool, typer.Option("--columnar", help="Points and values apart, not rows.")] = False,
    for_: Annotated[float, typer.Option("--for", min=1, help="Seconds.")] = 30,
    broker: Annotated[
        str, typer.Option(help="mqtt://HOST:PORT of a Fenghuo that runs by itself, or of any broker.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="With --broker: that Fenghuo's data folder (passwords, counts).")
    ] = None,
    registry: Annotated[
        Path | None, typer.Option(help="Write the registry that it needs into this empty folder, and end.")
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where a Fenghuo of its own is put; emptied first, if it is a load's.")
    ] = Path("build/load"),
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Send readings on schedule, whatever becomes of them, and check what was made of them.

    Without --broker it starts a whole Fenghuo of its own on the machine's clock. With --broker and --data it
    drives one that runs by itself, on the registry that --registry has written. With --broker alone it drives
    any broker, and tells of itself only; FENGHUO_LOAD_PASSWORD is then every gateway's password.

    Example: `fenghuo simulate load --enterprises 503 --points 200 --hz 1 --for 30`

    Exit status: 0 only if all was acknowledged, and exactly what was sent was judged.
    """
    fleet = Fleet(
        tuple(credit.made_up(number) for number in range(1, enterprises + 1)),
        GATEWAY,
        tuple(f"P-{number:04d}" for number in range(1, points + 1)),
        LIMITS,
    )
    if data is not None and not broker:
        raise typer.BadParameter("--data is of a Fenghuo that runs by itself: give its --broker too")
    if registry is not None:
        _write(registry, fleet)
        return
    calm = (2 * LIMITS.on_delay + LIMITS.off_delay) / SECOND + 0.5 + 3 / hz  # an excursion's whole life
    if data is not None and for_ <= calm:
        raise typer.BadParameter(
            f"{calm:g} s at the end are quiet, so that what began ends and the next load finds all as it was: "
            "--for has to be longer"
        )
    settle = calm if data is not None else min(calm, for_ / 2)
    rate = enterprises * points * hz
    generator = [
        *("--form", "columns" if columnar else "rows", "--mode", "burst" if burst else "spread"),
        *("--rate", str(rate), "--for", str(for_), "--settle", str(settle), "--progress"),
    ]
    try:
        if not broker:
            outcome = _own(folder, fleet, generator)
        elif data is not None:
            outcome = _running(at(broker), data, fleet, generator)
        else:
            outcome = _told(_generate(at(broker), fleet, generator), None, ())
    except KeyboardInterrupt:
        stderr.print("ended")
        raise typer.Exit(130) from None
    except (Failed, NotAbsorbed, OSError) as error:
        stderr.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(1) from error
    if json:
        print(msgspec.json.format(msgspec.json.encode(outcome)).decode())
    else:
        _show(outcome, f"{enterprises} enterprises × {points} points × {hz:g} Hz")
    if outcome.differences:
        raise typer.Exit(1)


def _write(folder: Path, fleet: Fleet) -> None:
    """Only where nothing is: one enterprise too many would be another fleet."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        stderr.print(
            f"[red]{escape(str(folder))} is not an empty folder: it is left alone.[/]", soft_wrap=True
        )
        raise typer.Exit(2)
    load_registry.write(folder, fleet)
    stderr.print(
        f"{len(fleet.points)} points of each of {len(fleet.enterprises)} enterprises: {escape(str(folder))}",
        soft_wrap=True,
    )


def _own(folder: Path, fleet: Fleet, generator: list[str]) -> Outcome:
    """Through a whole Fenghuo of our own."""
    if not _is_ours(folder):
        stderr.print(
            f"[red]{escape(str(folder))} holds something other than an earlier load's data: it is left alone.[/] "
            "Give another --folder, or remove it yourself.",
            soft_wrap=True,
        )
        raise typer.Exit(2)
    if find_mosquitto() is None:
        raise Failed("no broker: mosquitto is not installed (Debian, Ubuntu: `apt install mosquitto`)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "fleet.json").write_bytes(msgspec.json.encode(fleet))
    load_registry.write(folder / "registry", fleet)
    count = len(fleet.enterprises) * len(fleet.points)
    stderr.print(f"starting broker, phone and processes, for {count:,} points ...")
    with Rehearsal(folder, folder / "registry", None) as rehearsal:
        where = settings.Broker(url=f"mqtt://127.0.0.1:{rehearsal.broker_port}")
        return _checked(where, rehearsal.data, fleet, generator)


def _is_ours(folder: Path) -> bool:
    """Whether nothing is lost with it: absent, empty, or of a load."""
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return not names or ("fleet.json" in names and names <= OURS)


def _running(broker: settings.Broker, data: Path, fleet: Fleet, generator: list[str]) -> Outcome:
    """Through a Fenghuo that runs by itself."""
    try:
        version = versions.wanted(data / "versions")
        if version is None:
            raise Failed(f"{data} is no data folder of `fenghuo serve`")
        mistake = _unfit(versions.load(data / "versions", version), fleet)
    except (versions.NoSuchVersion, versions.BrokenVersion) as error:
        raise Failed(str(error)) from error
    if mistake:
        raise Failed(f"{data}: {mistake}; --registry FOLDER writes one that does, for `fenghuo serve`")
    return _checked(broker, data, fleet, generator)


def _unfit(registry: Registry, fleet: Fleet) -> str:
    """What this registry lacks to judge the fleet as it expects; "" if nothing."""
    rows, points = registry.rows, registry.points
    wanted = [(code, point) for code in fleet.enterprises for point in fleet.points]
    missing = [key for key in wanted if key[1] not in rows.get(key[0], {})]
    if missing:
        return (
            f"its registry does not hold {len(missing):,} of the {len(wanted):,} points, "
            f"such as {missing[0][1]} of enterprise {missing[0][0]}"
        )
    at = [rows[code][point] for code, point in wanted]
    limits = fleet.limits
    same = (
        np.all(points.limit[at] == [limits.LL, limits.L, limits.H, limits.HH])
        and np.all(points.on_delay[at] == limits.on_delay)
        and np.all(points.off_delay[at] == limits.off_delay)
        and {registry.gateways[number].id for number in set(points.gateway[at].tolist())} == {fleet.gateway}
    )
    return "" if same else "the limits, delays or gateways of its registry are not the load's"


def _checked(broker: settings.Broker, data: Path, fleet: Fleet, generator: list[str]) -> Outcome:
    """Drive it, and compare what was judged with what was sent."""
    with ExitStack() as stack:
        desk = DeskReader(data / "desk.sqlite")
        stack.callback(desk.close)
        before, held = _said(data), _findings(desk)
        passwords = data / "broker" / "passwords"
        if passwords.exists():  # a broker of its own; another's may be in FENGHUO_LOAD_PASSWORD
            generator = [*generator, "--passwords", str(passwords)]
        sent = _generate(broker, fleet, generator)
        enough, said = _settled(data, before, sent.readings)
        begun, ended = (now - then for now, then in zip(_findings(desk), held, strict=True))
    judged = Judged(
        readings=said.readings - before.readings,
        begun=begun,
        ended=ended,
        all_judged_after=round((enough.time - sent.last) / SECOND, 2),
        alert_ms=said.alert_ms,
    )
    return _told(sent, judged, tuple(_differences(sent, judged, before, said)))


def _said(data: Path) -> status.Status:
    said = status.read(data / "judge.json")
    if said is None:
        raise Failed(f"{data}: the judge has not said anything yet; does `fenghuo serve` run?")
    return said


def _findings(desk: DeskReader) -> tuple[int, int]:
    """How many findings of limits the desk has, and how many of them are over."""
    table = tables.findings.c
    counts = query(func.count(), func.count().filter(table.phase == "ended")).where(
        table.rule.like("limit.%")
    )
    with reading(desk.database) as connection:
        begun, ended = connection.execute(counts).one()
    return begun, ended


def _settled(data: Path, before: status.Status, sent: int) -> tuple[status.Status, status.Status]:
    """The judge's first status by which it had judged so many readings, and a later one that its desk has caught
    up with; the newest, where it does not get so far."""
    enough: status.Status | None = None
    judged, since = -1, stopwatch()
    while True:
        said = _said(data)
        if said.pid != before.pid:
            return enough or said, said
        if enough is None and said.readings - before.readings >= sent:
            enough, since = said, stopwatch()
        if enough is None and said.readings != judged:
            judged, since = said.readings, stopwatch()
        caught_up = said.absorbed == said.offset and not said.waiting
        if enough is not None and said.number > enough.number and caught_up:
            return enough, said
        if stopwatch() - since > STILL:
            return enough or said, said
        select.select([], [], [], 0.05)


def _differences(sent: Report, judged: Judged, before: status.Status, said: status.Status) -> list[str]:
    """Everything in which the judge is not of one mind with the generator."""
    if said.pid != before.pid:
        return ["the judge was started anew under way, and its counts with it"]
    found = [
        f"{what}: {got:,} instead of {expected:,}"
        for what, got, expected in (
            ("readings judged", judged.readings, sent.readings),
            ("findings begun", judged.begun, sent.begun),
            ("findings ended", judged.ended, sent.ended),
        )
        if got != expected
    ]
    found += [f"dead letters ({reason}): {count:,}" for reason, count in _more(before.dead, said.dead)]
    found += [f"readings left out ({reason}): {n:,}" for reason, n in _more(before.dropped, said.dropped)]
    if said.waiting:
        found.append(f"findings that the desk has not taken: {said.waiting:,}")
    return found


def _more(before: Mapping[str, int], now: Mapping[str, int]) -> list[tuple[str, int]]:
    grown = ((reason, count - before.get(reason, 0)) for reason, count in now.items())
    return [(reason, count) for reason, count in grown if count]


def _generate(broker: settings.Broker, fleet: Fleet, arguments: list[str]) -> Report:
    """Let the generator run in a process of its own, so that what we draw meanwhile does not delay it."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder) / "fleet.json"
        file.write_bytes(msgspec.json.encode(fleet))
        command = [sys.executable, "-m", "simulators.load", "--fleet", str(file)]
        command += ["--host", broker.host, "--port", str(broker.port), *arguments]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for us: we end it
            preexec_fn=die_with_parent(),
        )
        stack.enter_context(process)
        stack.callback(partial(_end, process))
        assert process.stdout is not None
        assert process.stderr is not None
        bar = stack.enter_context(_bar())
        task = bar.add_task("sending", total=1.0)
        report = ""
        for line in process.stdout:
            word, _, done = line.partition(" ")
            if word == "progress":
                bar.update(task, completed=float(done))
            else:
                report += line
        if process.wait():
            said = process.stderr.read().strip() or f"the generator ended with status {process.returncode}"
            raise Failed(f"{broker.url}: {_plain(said)}")
        bar.update(task, completed=1.0)
    return msgspec.json.decode(report, type=Report)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _plain(said: str) -> str:
    """What the generator complains of, with what may be wrong."""
    last = said.splitlines()[-1].removeprefix("load: ")
    if "refuses the connection" in last:
        return f"{last}: wrong password, or a registry without this gateway"
    return last


def _bar() -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=stderr,
    )


def _told(sent: Report, judged: Judged | None, differences: tuple[str, ...]) -> Outcome:
    if differences:
        return Outcome(differences=differences)
    return Outcome(generator=sent, bottleneck=sent.bottleneck or "none", judged=judged)


def _show(outcome: Outcome, fleet: str) -> None:
    if outcome.generator is None:
        stderr.print("[red]What was judged is not what was sent, so no figure is told:[/]")
        for difference in outcome.differences:
            stderr.print(f"  {escape(difference)}", soft_wrap=True)
        return
    sent, judged = outcome.generator, outcome.judged
    table = Table(box=None, show_header=False)
    table.add_row("asked", f"{sent.rate:,.0f} readings/s: {fleet}, {sent.form}, {sent.mode}")
    table.add_row(
        "reached", f"{sent.readings_per_second:,.0f} readings/s, {sent.readings:,} in {sent.seconds:.1f} s"
    )
    table.add_row("generator late by", _spread(sent.lateness))
    table.add_row("PUBACK after", f"{_spread(sent.acknowledged_after)}, from the schedule")
    table.add_row(
        "generator's processor",
        f"{sent.cpu / sent.seconds:.0%} of one, {sent.cpu / sent.readings * 1e6:.3f} µs a reading; "
        f"ready but without one {sent.cpu_waited / sent.seconds:.0%} of the time",
    )
    table.add_row("was it the bottleneck", BOTTLENECKS[sent.bottleneck])
    if judged is not None:
        table.add_row(
            "judged",
            f"{judged.readings:,} readings, as sent; {judged.all_judged_after:.1f} s after the last all were; "
            "no dead letters",
        )
        table.add_row("findings", f"{judged.begun:,} begun and {judged.ended:,} ended, as put in")
        took = judged.alert_ms
        table.add_row(
            "reading → alert", _spread(Spread(took.p50, took.p99, took.worst)) if took.count else "no alert"
        )
    console.print(table)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "?"
    return f"p50 {spread.p50:.1f}, p99 {spread.p99:.1f}, at most {spread.most:.1f} ms"
