"""`fenghuo alerts`: read and answer alerts from a terminal, through the API."""

from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from fenghuo import screen

app = typer.Typer(no_args_is_help=True, help="Read and answer alerts.")
console = Console()

Url = Annotated[str, typer.Option(help="Where the API is.", envvar="FENGHUO_URL")]
Token = Annotated[str, typer.Option(help="Token of the API.", envvar="FENGHUO_TOKEN", show_envvar=True)]
HERE = "http://127.0.0.1:8420"


@app.command("list")
def list_(
    token: Token,
    url: Url = HERE,
    all_: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
) -> None:
    """List the alerts that this token may see, the newest first.

    Example: `fenghuo alerts list`
    """
    found = _call("GET", url, token, "/alerts", params=None if all_ else {"open": "true"})
    console.print(screen.alerts_table(found["items"]))


@app.command()
def show(
    alert: Annotated[str, typer.Argument(help="Alert id; its first characters are enough.")],
    token: Token,
    url: Url = HERE,
) -> None:
    """Show one alert: why it rang, who was called, what they did.

    Example: `fenghuo alerts show 4be1`
    """
    console.print(screen.alert_page(_call("GET", url, token, f"/alerts/{_whole(url, token, alert)}")))


@app.command()
def confirm(
    alert: Annotated[str, typer.Argument(help="Alert id; its first characters are enough.")],
    token: Token,
    note: Annotated[str, typer.Option(help="Anything to be recorded.")] = "",
    url: Url = HERE,
) -> None:
    """Say that you have it: stops the clock, if you were asked.

    Example: `fenghuo alerts confirm 4be1`
    """
    _answer(url, token, alert, "confirm", note)


@app.command("take-over")
def take_over(
    alert: Annotated[str, typer.Argument(help="Alert id; its first characters are enough.")],
    token: Token,
    note: Annotated[str, typer.Option(help="Anything to be recorded.")] = "",
    url: Url = HERE,
) -> None:
    """Make it yours although another was asked.

    Example: `fenghuo alerts take-over 4be1 --note "on site already"`
    """
    _answer(url, token, alert, "take-over", note)


@app.command()
def act(
    alert: Annotated[str, typer.Argument(help="Alert id; its first characters are enough.")],
    note: Annotated[str, typer.Argument(help="What was done.")],
    token: Token,
    url: Url = HERE,
) -> None:
    """Record what was done about it.

    Example: `fenghuo alerts act 4be1 "cooling pump restarted"`
    """
    _answer(url, token, alert, "act", note)


def _answer(url: str, token: str, alert: str, verb: str, note: str) -> None:
    receipt = _call("POST", url, token, f"/alerts/{_whole(url, token, alert)}/{verb}", json={"note": note})
    console.print(f"[green]{receipt['outcome']}[/] {receipt.get('text', '')}")


def _whole(url: str, token: str, start: str) -> str:
    """The whole id of the one alert that begins so."""
    if len(start) == 20:
        return start
    found = _call("GET", url, token, "/alerts", params={"limit": "200"})["items"]
    matching = [str(item["id"]) for item in found if str(item["id"]).startswith(start)]
    if len(matching) != 1:
        console.print(f"[red]{len(matching)} alerts begin with {start!r}; expected exactly one[/]")
        raise typer.Exit(1)
    return matching[0]


def _call(method: str, url: str, token: str, path: str, **options: Any) -> Any:
    try:
        answer = httpx.request(
            method,
            f"{url}/api/v1{path}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            **options,
        )
    except httpx.HTTPError as error:
        console.print(f"[red]No answer from {url}: {error}[/] Is `fenghuo serve` running there?")
        raise typer.Exit(1) from error
    if answer.is_error:
        console.print(f"[red]{answer.status_code}: {answer.json()['error']['message']}[/]")
        raise typer.Exit(1)
    return answer.json()
