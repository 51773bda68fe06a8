"""`fenghuo rules`: what a rulebook says, whether it is right, and what would be found by it."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fenghuo import rule_tests
from fenghuo.commands.rulebook_option import Data, Folder, Named, failure, told, usual
from fenghuo.commands.rulebook_option import registry as read_registry
from fenghuo.commands.rulebook_option import rulebook as read_rulebook
from fenghuo.commands.rules_backtest import backtest
from registry.model import Registry
from registry.source import KINDS
from streams import names, rule_test
from streams.compound_places import is_wide
from streams.configuration import Configuration
from streams.finding import Tier
from streams.rulebook import CompoundRule
from streams.rulebook_lint import Severity, lint, why_not
from streams.rulebook_reach import Reach, Source
from streams.rulebook_words import difference, said

app = typer.Typer(no_args_is_help=True, help="The rulebook: how points are judged, and the compound rules.")
app.command("backtest")(backtest)
console = Console()

SOME = 20
"""So many names are said where there may be many."""

COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


@app.command("lint")
def lint_(
    rulebook: Named = "",
    registry: Folder = None,
    data: Data = None,
    level: Annotated[
        str, typer.Option(help="The level of the grid whose cells are judged apart; the top if left out.")
    ] = "",
) -> None:
    """Say every mistake of a rulebook at once, and what is doubtful in it; with a registry, also for its points.

    Example: `fenghuo rules lint my-rules.yaml --data build/data`

    Exit status: 0 without errors (warnings and notes are none), 1 with.
    """
    rules = read_rulebook(rulebook or usual(registry, data), data)
    problems = lint(rules, read_registry(registry, data), level)
    for problem in problems:
        colour = COLOURS[problem.severity]
        where = f"[{colour}]{problem.severity.name.lower()}[/] [bold]{escape(problem.where)}[/]"
        console.print(f"{where} {escape(problem.text)}", soft_wrap=True, highlight=False)
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    what = f"{len(rules.templates)} templates, {len(rules.compound)} compound rules"
    console.print(f"{'[red]' if errors else '[green]'}{errors} errors.[/] Version {rules.version}: {what}.")
    if errors:
        raise typer.Exit(1)


@app.command("explain")
def explain(
    rule: Annotated[
        str,
        typer.Argument(
            help="A compound rule or its topic, a kind of point, a template, or a finding's rule."
        ),
    ],
    enterprise: Annotated[str, typer.Argument(help="Credit code or name.")],
    registry: Folder = None,
    data: Data = None,
    rulebook: Annotated[
        str, typer.Option(help="A rulebook: a file, a folder, or `shipped`; that in force if left out.")
    ] = "",
) -> None:
    """Say for an enterprise's real points and records what would be found at which value.

    Example: `fenghuo rules explain two-detectors 91370281MA3TR1101K --data build/data`
    """
    compiled = read_registry(registry, data)
    if compiled is None:
        raise failure("say of which registry: --data FOLDER of a `fenghuo serve`, or --registry FOLDER")
    code = _enterprise(compiled, enterprise)
    configuration = Configuration.of(compiled, read_rulebook(rulebook or usual(registry, data), data))
    compound = [
        one
        for one in configuration.rulebook.compound
        if rule.removeprefix("compound.") in (one.id, one.topic)
    ]
    for one in compound:
        _explain_compound(one, configuration, code)
    if not compound:
        _explain_points(rule, configuration, code)


@app.command("diff")
def diff(old: Named, new: Named, data: Data = None) -> None:
    """Say what changes from one rulebook to another.

    Example: `fenghuo rules diff running my-rules.yaml --data build/data`

    Exit status: 0 if both say the same, 1 if not.
    """
    lines = difference(read_rulebook(old, data), read_rulebook(new, data))
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if lines:
        raise typer.Exit(1)
    console.print("Both say the same.")


@app.command("test")
def run_tests(
    files: Annotated[list[Path], typer.Argument(help="Files of tests (docs/rulebook.md).")],
    rulebook: Annotated[str, typer.Option(help="Instead of the rulebook that each file names.")] = "",
) -> None:
    """Run tests that are written as data: what was expected beside what was found.

    Example: `fenghuo rules test examples/rules/*.yaml`

    Exit status: 0 if all is as expected, 1 if not.
    """
    failed = passed = 0
    judged_by = read_rulebook(rulebook) if rulebook else None
    for file in files:
        cases = told(partial(rule_tests.read, file, judged_by))
        for case in cases:
            lines = rule_test.differences(case, rule_test.run(case))
            failed, passed = failed + bool(lines), passed + (not lines)
            mark = "[red]✗[/]" if lines else "[green]✓[/]"
            console.print(f"{mark} {escape(file.name)}: {escape(case.name)}", soft_wrap=True, highlight=False)
            for line in lines:
                colour = {"-": "red", "+": "yellow"}.get(line[0], "dim")
                console.print(f"    [{colour}]{escape(line)}[/]", soft_wrap=True, highlight=False)
    if failed:
        console.print("[red]-[/] was expected and did not come, [yellow]+[/] came and was not expected.")
    console.print(f"{passed} as expected, {failed} not.")
    if failed:
        raise typer.Exit(1)


# ---- explain ---------------------------------------------------------------------------------------


def _explain_compound(rule: CompoundRule, configuration: Configuration, code: str) -> None:
    wide = is_wide(rule.scope)
    reach = Reach(configuration, "" if wide else code)
    title = rule.id if rule.topic == rule.id else f"{rule.id} (topic {rule.topic})"
    console.print(f"[bold]{escape(title)}[/]: tier {_tier(rule.tier)}, in one {rule.scope}", highlight=False)
    words = (rule.say[language] for language in sorted(rule.say, reverse=True))  # zh, en
    for text in (*words, rule.clause, f"when {said(rule.when)}"):
        if text:
            console.print(f"  {escape(text)}", soft_wrap=True, highlight=False)
    for ask in rule.asks:
        support = f" with {', '.join(ask.support)}" if ask.support else ""
        console.print(f"  asks {ask.what} of {ask.lead}{support}", highlight=False)
    everywhere = reach.places(rule)
    places = {
        place: sources
        for place, sources in everywhere.items()
        if any(source.enterprise == code for source in sources)
    }
    if not places:
        why = "cannot hold here, though elsewhere" if everywhere else why_not(rule, reach)
        console.print(f"  {escape(why)}", soft_wrap=True, highlight=False)
    for (_, part), sources in places.items():
        console.print(f"  in [bold]{escape(part or 'the enterprise')}[/] by", highlight=False)
        _print(sources, "    ")


def _explain_points(rule: str, configuration: Configuration, code: str) -> None:
    reach = Reach(configuration, code)
    sources = [
        source
        for source in reach.sources
        if source.enterprise == code and rule in (source.rule, source.kind, source.template)
    ]
    template = configuration.rulebook.templates.get(rule)
    if template is not None:
        ceilings = ", ".join(f"{level} {value:g}" for level, value in template.ceilings.items())
        text = f"template for {template.kind}" + (
            f", ceilings {ceilings} {template.engineering_unit}" if ceilings else ""
        )
        console.print(f"[bold]{escape(rule)}[/]: {escape(text)}", highlight=False)
    rulebook = configuration.rulebook
    compound = (name for one in rulebook.compound for name in (one.id, one.topic))
    known = [*names.NAMES, *rulebook.templates, *compound, *KINDS]
    if rule not in known:
        near = get_close_matches(rule, known, 1) or [
            "a compound rule, a template, a kind or a finding's rule"
        ]
        raise failure(f"{rule!r} is no rule, template or kind; expected {near[0]}")
    if sources:
        _print(sources)
    else:
        console.print("Nothing of this enterprise gives such a finding.")


def _print(sources: Iterable[Source], indent: str = "") -> None:
    """A line for each subject, and below it a line for each finding that it can give."""
    ordered = sorted(
        set(sources), key=lambda source: (source.enterprise, source.subject, source.rule, source.level)
    )
    for _, of in groupby(ordered, key=lambda source: (source.enterprise, source.subject)):
        found = list(of)
        first = found[0]
        name = first.name if first.name != first.subject.partition(":")[2] else ""
        by = ", ".join(filter(None, (first.clause, first.template and f"template {first.template}")))
        console.print(
            f"{indent}[bold]{escape(first.subject)}[/] {escape(name)}{escape(f' ({by})') if by else ''}",
            soft_wrap=True,
            highlight=False,
        )
        for source in found:
            finding = f"{source.rule} {source.level}".strip()
            text = f"{indent}  {_tier(source.tier):4}{finding:18} {source.at}"
            console.print(escape(text), soft_wrap=True, highlight=False)


def _tier(tier: Tier | None) -> str:
    return tier.name if tier else "–"


def _enterprise(registry: Registry, named: str) -> str:
    found = [code for code, one in registry.enterprises.items() if named in (code, one.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise failure(f"{named!r} are several: {', '.join(found[:SOME])}")
    known = [name for code, one in registry.enterprises.items() for name in (code, one.name)]
    near = get_close_matches(named, known, 1) or known[:SOME]
    raise failure(f"{named!r} is no enterprise of the registry; expected {' or '.join(near)}")
