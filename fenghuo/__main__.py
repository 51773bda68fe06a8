"""The command `fenghuo`: its subcommands, each from a file of its own in commands/."""

import typer

from fenghuo.commands import (
    alerts,
    api,
    check,
    collect,
    dashboards,
    demo,
    desk,
    doctor,
    evaluate,
    historian,
    history,
    prepare,
    publish,
    registrar,
    registry,
    rules,
    serve,
    simulate,
    token,
)

CLUSTER = "Roles of a cluster"

app = typer.Typer(
    name="fenghuo",
    help="Fenghuo 烽火 hears every sensor, decides how bad it is, and does not rest until a person has answered.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals may hold secrets
    rich_markup_mode="markdown",
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)
app.command("prepare", rich_help_panel=CLUSTER)(prepare.prepare)
app.command("registrar", rich_help_panel=CLUSTER)(registrar.registrar)
app.command("collect", rich_help_panel=CLUSTER)(collect.collect)
app.command("evaluate", rich_help_panel=CLUSTER)(evaluate.evaluate)
app.command("desk", rich_help_panel=CLUSTER)(desk.desk)
app.command("historian", rich_help_panel=CLUSTER)(historian.historian)
app.command("api", rich_help_panel=CLUSTER)(api.api)
app.command("publish-file")(publish.publish_file)
app.add_typer(alerts.app, name="alerts")
app.add_typer(dashboards.app, name="dashboards")
app.add_typer(history.app, name="history")
app.add_typer(registry.app, name="registry")
app.add_typer(rules.app, name="rules")
app.add_typer(simulate.app, name="simulate")
app.add_typer(token.app, name="token")


def main() -> None:
    """Entry point of the installed command."""
    app()


if __name__ == "__main__":
    main()
