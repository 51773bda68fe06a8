"""`fenghuo simulate`: a city that knows what is true, and how well its dangers were told of."""

import asyncio
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from time import process_time
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fenghuo import simulation
from fenghuo.commands.broker_option import broker as at
from fenghuo.commands.simulate_load import load
from fenghuo.rehearsal import NotAbsorbed
from fenghuo.settings import Broker
from registry.clock import SECOND, pause, stopwatch
from registry.mistakes import RegistryErrors
from registry.versions import BrokenVersion
from simulators import plot, record, registry_files, scenario, scenario_file, score
from simulators.city import City
from simulators.lines import LinesError
from simulators.plot import NoPlots
from simulators.record import RecordError
from simulators.truth import Truth

app = typer.Typer(no_args_is_help=True, help="A simulated city, and how well its dangers are told of.")
app.command("load")(load)
console = Console()
stderr = Console(stderr=True, highlight=False)

SCENARIOS = Path(__file__).parents[2] / "examples" / "scenarios"

Story = Annotated[str, typer.Argument(help="A scenario: its file, or the name of one of ours.")]


@app.command("list")
def list_() -> None:
    """List our scenarios.

    Example: `fenghuo simulate list`
    """
    table = Table("scenario", "lasts", "what happens", box=None)
    for path in sorted(SCENARIOS.glob("*.yaml")):
        found = scenario_file.read(path)
        table.add_row(path.stem, score.span(found.lasts / SECOND), f"{found.title.en}\n{found.title.zh}")
    console.print(table)


@app.command("registry")
def registry_(
    story: Story,
    folder: Annotated[Path, typer.Argument(help="Where it is written: a new or an empty folder.")],
) -> None:
    """Write the registry that a scenario needs, for a Fenghuo that runs by itself.

    Example: `fenghuo simulate registry reactor-confirmed build/registry`
    """
    city = _city(story)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise _failure(f"{folder} holds something: give a new folder, or empty it yourself")
        if named := _registry(story, city):
            shutil.copytree(named, folder, dirs_exist_ok=True)
        else:
            registry_files.write(folder, city.scenario, city.points)
    except OSError as error:
        raise _failure(error) from error
    stderr.print(f"{len(city.points)} points of {len(city.codes)} enterprises: {escape(str(folder))}")


@app.command("run")
def run(
    stories: Annotated[list[str], typer.Argument(help="Scenarios: their files, or names of ours.")],
    speed: Annotated[
        float, typer.Option(min=0, help="Times faster than life; 0: as fast as this machine can.")
    ] = 0,
    broker: Annotated[
        str,
        typer.Option(help="mqtt://HOST:PORT of a Fenghuo that runs by itself; then at the speed of life."),
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="With --broker: that Fenghuo's data folder (passwords, alerts).")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where each scenario gets a folder, emptied first.")] = Path(
        "build/simulate"
    ),
) -> None:
    """Let scenarios happen to a whole Fenghuo, and write down what it raised.

    Without --broker it starts all that it needs, under a clock that it moves itself: hours pass in seconds.

    Example: `fenghuo simulate run reactor-confirmed mine-fan-stop`
    """
    if broker and (speed not in (0, 1) or data is None):
        raise typer.BadParameter(
            "a Fenghuo that runs by itself lives at the speed of life: leave --speed out, and give its --data"
        )
    cities = [_city(name) for name in stories]
    if len({city.name for city in cities}) < len(cities):
        raise typer.BadParameter("two scenarios of the same name would share a folder: run them one by one")
    scores = []
    for name, city in zip(stories, cities, strict=True):
        into = folder / city.name
        try:
            if into.exists() and any(into.iterdir()) and not (into / record.TRUTH).is_file():
                raise _failure(f"{into} holds something other than an earlier run: give another --folder")
            shutil.rmtree(into, ignore_errors=True)
            into.mkdir(parents=True)
            if broker:
                assert data is not None
                asyncio.run(_live(city, at(broker), data, into))
            else:
                asyncio.run(_rehearse(city, into, speed, _registry(name, city)))
            truth, raised, _ = record.read(into)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except (
            NotAbsorbed,
            LinesError,
            OSError,
            RecordError,
            LookupError,
            BrokenVersion,
            RegistryErrors,
            scenario.ScenarioError,
        ) as error:
            raise _failure(error) from error
        scores.append(score.score(truth, raised))
    _show(scores)
    stderr.print(f"written to {folder}; `fenghuo simulate score {folder}/*` draws it", soft_wrap=True)


@app.command("score")
def score_(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `run` has written.")],
    json: Annotated[bool, typer.Option("--json", help="For programs: a list, an entry a scenario.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table for a page.")] = False,
    pictures: Annotated[bool, typer.Option(help="Draw signals, truth and alerts: score.png in each.")] = True,
) -> None:
    """Say how well the dangers were told of: detected, missed, late, false; a picture of each scenario.

    Example: `fenghuo simulate score build/simulate/*`
    """
    scores = []
    for folder in folders:
        try:
            truth, raised, signals = record.read(folder)
        except record.RecordError as error:
            raise _failure(error) from error
        scores.append(score.score(truth, raised))
        if pictures and signals.values:
            try:
                plot.plot(folder / "score.png", truth, raised, signals, scores[-1])
            except NoPlots as error:
                stderr.print(f"[yellow]no pictures:[/] {escape(str(error))}", soft_wrap=True)
                pictures = False
    if json:
        print(msgspec.json.format(msgspec.json.encode(scores)).decode())
    elif markdown:
        print(score.markdown(scores), end="")
    else:
        _show(scores)


def _city(name: str) -> City:
    """The city of a scenario. Mistakes are said all at once."""
    path = _path(name)
    try:
        return City(scenario_file.read(path), path.stem)
    except scenario.ScenarioError as error:
        text = str(error)
        raise _failure(text if text.startswith(str(path)) else f"{path}: {text}") from error
    except OSError as error:
        names = ", ".join(sorted(p.stem for p in SCENARIOS.glob("*.yaml")))
        raise _failure(f"{error}. Ours are {names}.") from error


def _path(name: str) -> Path:
    ours = SCENARIOS / f"{name}.yaml"
    return ours if ours.is_file() else Path(name)


def _registry(name: str, city: City) -> Path | None:
    return _path(name).parent / city.scenario.registry if city.scenario.registry else None


async def _rehearse(city: City, folder: Path, speed: float, registry: Path | None) -> None:
    """Through a Fenghuo of our own."""
    with ExitStack() as stack:
        bar = stack.enter_context(_bar())
        _truth(city, bar, folder)
        sampler = record.Sampler(city)
        product = stack.enter_context(simulation.whole(city, folder, registry))
        story = simulation.Simulation(city, product)
        task = bar.add_task(city.name, total=city.scenario.lasts / SECOND, speed="")
        begun, before = stopwatch(), _processor(product)
        for moment in story.moments():
            sampler.take(moment)
            lived = (moment.time - city.scenario.start) / SECOND
            if speed and (ahead := lived / speed - (stopwatch() - begun)) > 0:
                await pause(ahead)
            bar.update(task, completed=lived, speed=f"{lived / max(stopwatch() - begun, 0.001):.1f}× life")
        passed, after = stopwatch() - begun, _processor(product)
        record.write(folder, simulation.raised(product), sampler)
    shares = {name: (after[name] - before[name]) / passed for name in before}
    told = ", ".join(f"{name} {share:.2f}" for name, share in sorted(shares.items(), key=lambda it: -it[1]))
    stderr.print(
        f"{city.name}: {score.span(lived)} in {passed:.0f} s, {lived / passed:.0f} times life; of a core: {told}. "
        "At every moment each waits for the others and for the disk: that bounds it.",
        soft_wrap=True,
    )


def _truth(city: City, bar: Progress, folder: Path) -> Truth:
    """What is true, written down."""
    task = bar.add_task(f"{city.name}: truth", total=1.0, speed="")
    truth = city.truth(lambda share: bar.update(task, completed=share))
    bar.remove_task(task)
    record.write_truth(folder, truth)
    return truth


def _processor(product: simulation.Whole) -> dict[str, float]:
    """Seconds of processor: the city's, which is this process, and those of the product."""
    return {"city": process_time(), **product.rehearsal.processor()}


async def _live(city: City, broker: Broker, data: Path, folder: Path) -> None:
    """Into a Fenghuo that runs by itself; its people answer, not ours."""
    with ExitStack() as stack:
        product = stack.enter_context(simulation.Running(broker.host, broker.port, data))
        product.check(city)
        bar = stack.enter_context(_bar())
        step = city.scenario.step
        start = simulation.now() // step * step + step
        city = City(city.scenario.model_copy(update={"start": start}), city.name)
        sampler = record.Sampler(city)
        task = bar.add_task(city.name, total=city.scenario.lasts / SECOND, speed="")
        for moment in city.moments():
            sampler.take(moment)
            if (ahead := (moment.time - simulation.now()) / SECOND) > 0:
                await pause(ahead)
            product.send(moment.messages)
            bar.update(task, completed=(moment.time - city.scenario.start) / SECOND)
        raised = simulation.raised(
            product
        )  # first: the truth may take minutes, in which the city says nothing
        truth = _truth(city, bar, folder)
        raised = [a for a in raised if a.raised >= truth.begin and a.enterprise in truth.enterprises]
        record.write(folder, raised, sampler)


def _bar() -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[speed]}"),
        TimeRemainingColumn(),
        console=stderr,
    )


def _show(scores: Iterable[score.Score]) -> None:
    """The table, and below it whatever was not as it should be."""
    scores = list(scores)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("scenario", no_wrap=True)
    for column in ("dangers", "detected", "too low", "too fast", "late", "missed", "false"):
        table.add_column(column, justify="right", min_width=max(map(len, column.split())))
    table.add_column("delay", justify="right", no_wrap=True)
    for one in scores:
        counts = (len(one.dangers), one.detected, one.too_low, one.too_fast, one.late, one.missed)
        told = (str(count or "·") for count in (*counts, one.early + one.false))
        table.add_row(one.scenario, *told, score.span(one.median_delay_s))
    console.print(table)
    for one in scores:
        for danger in one.dangers:
            if danger.outcome != "detected":
                said = f", first by {danger.rule} of {danger.subject}" if danger.rule else ""
                outcome = danger.outcome.replace("_", " ")
                console.print(
                    f"{one.scenario}: {outcome}: {danger.hazard} of {danger.unit}{said}", soft_wrap=True
                )
        for alert in one.alerts:
            if alert.verdict in ("false", "early"):
                said = f"{alert.verdict}: {alert.rule} of {alert.subject}"
                console.print(f"{one.scenario}: {said}", soft_wrap=True)


def _failure(why: object) -> typer.Exit:
    stderr.print(f"[red]{escape(str(why))}[/]", soft_wrap=True)
    return typer.Exit(1)
