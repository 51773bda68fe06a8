"""`fenghuo demo`: a reactor loses its cooling and a coal face gasses up, before your eyes."""

import contextlib
import re
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from fenghuo import demo_screen, settings
from fenghuo.demo import Demo, Summary
from fenghuo.rehearsal import NotAbsorbed
from registry.clock import MINUTE, SystemClock, stopwatch
from simulators.lines import LinesError

stdout = Console()
stderr = Console(stderr=True, highlight=False)


def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="No person: a simulated operator answers.")
    ] = False,
    for_: Annotated[float, typer.Option("--for", help="Seconds of real time; 60 reaches the city.")] = 60,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON at the end.")] = False,
    speed: Annotated[float, typer.Option(min=1, max=100, help="Times faster than life.")] = 30,
    folder: Annotated[
        Path, typer.Option(help="Where its data go; emptied first, if they are a demo's.")
    ] = Path("build/demo"),
    picture: Annotated[Path | None, typer.Option(help="Save the last screen as SVG.", hidden=True)] = None,
) -> None:
    """See the main job: readings over real MQTT, limits, alerts, phones, the ladder that climbs.

    Example: `fenghuo demo --headless --for 60 --json`

    Exit status: 0 only if all that must have happened did (a shorter run than 60 s may not get so far).
    """
    if not _is_ours(folder):
        stderr.print(
            f"[red]{escape(str(folder))} holds something other than an earlier demo's data: it is left alone.[/] "
            "Give another --folder, or remove it yourself.",
            soft_wrap=True,
        )
        raise typer.Exit(2)
    shutil.rmtree(folder, ignore_errors=True)
    watching = not headless and sys.stdin.isatty()
    run = Demo(folder, SystemClock().now() // MINUTE * MINUTE)
    stderr.print("starting broker, phone and processes ...")
    try:
        with run:
            reached = _play(run, for_, speed, watching=watching, quiet=headless, picture=picture)
            summary = run.summary(reached)
    except KeyboardInterrupt:
        stderr.print("ended")
        raise typer.Exit(130) from None
    except (NotAbsorbed, LinesError) as error:
        stderr.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(1) from error
    if json:
        print(msgspec.json.format(msgspec.json.encode(summary)).decode())
    else:
        _say(summary, blame=not watching)
    if summary.missing and not watching:
        raise typer.Exit(1)


def _is_ours(folder: Path) -> bool:
    """Whether nothing is lost with it: absent, empty, or of a demo, whose clock is stepped as no plant's is."""
    try:
        if not any(folder.iterdir()):
            return True
        return bool(settings.load(folder / "fenghuo.yaml").clock)
    except FileNotFoundError:
        return True
    except (OSError, settings.SettingsError):
        return False


def _play(
    run: Demo, seconds: float, speed: float, *, watching: bool, quiet: bool, picture: Path | None
) -> float:
    """Tell the story at its pace; returns the speed that was reached."""
    drawn = picture is not None
    console = Console(stderr=True, record=drawn, width=130 if drawn else None, height=60 if drawn else None)
    token = run.rehearsal.token(run.operator) if watching else ""
    hint, said = "the reactor's operator confirms after three minutes; nobody answers for the coal face", ""
    if watching:
        hint = (
            f"c: confirm as the reactor's operator now   q: end (by itself after {seconds:.0f} s)   "
            f"in another terminal:\nFENGHUO_TOKEN={token} FENGHUO_URL={run.rehearsal.url} .venv/bin/fenghuo alerts list"
        )
    begun = stopwatch()
    screen = contextlib.nullcontext() if quiet else Live(console=console, auto_refresh=False, transient=False)
    with _keys(watching) as pressed, screen as live:
        while (passed := stopwatch() - begun) < seconds:
            if not run.tick():
                break
            reached = run.seconds / max(passed, 0.001)
            if live is not None:
                shown = demo_screen.render(run, min(speed, reached), f"{said}{hint}", *console.size)
                live.update(shown, refresh=True)
            key = pressed(max(0.0, run.seconds / speed - (stopwatch() - begun)))
            if key == "c":
                said = f"{run.confirm()}\n"
            elif key == "q":
                break
        reached = run.seconds / (stopwatch() - begun)
        if picture is not None:
            console.print(demo_screen.render(run, reached, "", *console.size))
            svg = console.export_svg(title="fenghuo demo")
            picture.write_text(
                re.sub(r',\s*url\("https?:[^)]*\) format\("\w+"\)', "", svg), "utf-8"
            )  # no web fonts
    return reached


@contextlib.contextmanager
def _keys(watching: bool) -> Iterator["_Pressed"]:
    """Keys as they are pressed, without Enter, where a person watches."""
    if not watching:
        yield _Pressed(listening=False)
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _Pressed(listening=True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class _Pressed:
    """Waits so many seconds for a key; "" if none came."""

    def __init__(self, *, listening: bool) -> None:
        self._listening = listening

    def __call__(self, seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin] if self._listening else [], [], [], seconds)
        return sys.stdin.read(1) if ready else ""


def _say(summary: Summary, *, blame: bool) -> None:
    stdout.print(
        f"{summary.simulated_seconds // 60} simulated minutes at {summary.speed:g} times life: "
        f"{summary.readings} readings, {summary.findings} findings, {sum(summary.alerts.values())} alerts, "
        f"{summary.rings} rings; highest rung {summary.highest_rung}."
    )
    for what in summary.missing if blame else ():
        stdout.print(f"[red]missing:[/] {what}")
