"""`fenghuo alerts`: read and answer alerts from a terminal, through the API."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Annotated, Any, Literal

import httpx
import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from alerting import words
from fenghuo import screen

app = typer.Typer(no_args_is_help=True, help="Read and answer alerts.")
console = Console()
stderr = Console(stderr=True, highlight=False)

Url = Annotated[str, typer.Option(help="Where the API is.", envvar="FENGHUO_URL", show_envvar=True)]
Token = Annotated[str, typer.Option(help="Token of the API.", envvar="FENGHUO_TOKEN", show_envvar=True)]
Language = Annotated[
    Literal["en", "zh"], typer.Option(help="Words in it.", envvar="FENGHUO_LANGUAGE", show_envvar=True)
]
HERE = "http://127.0.0.1:8420"

MOST = 1_000
"""Alerts that are shown at most."""

COUNTED = 10_000
"""Alerts that are counted at most: beyond, "or more" is enough to know."""

HOW = "Give --token or FENGHUO_TOKEN; `fenghuo token create --help` says how to make one."


@app.command("list")
def list_(
    token: Token = "",
    url: Url = HERE,
    language: Language = "en",
    all_: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="For programs: an alert a line, as the API has it.")
    ] = False,
) -> None:
    """List the alerts that this token may see, the newest first.

    Example: `fenghuo alerts list`
    """
    pages = _pages(url, token, {} if all_ else {"open": "true"})
    first = next(pages)
    found = chain(first["items"], _items(pages))
    if json:
        for alert in found:
            print(msgspec.json.encode(alert).decode())
        return
    shown = list(islice(found, MOST))
    console.print(screen.alerts_table(shown, first["time_zone"], language) if shown else "No alerts.")
    more = sum(1 for _ in islice(found, COUNTED))
    if more:
        console.print(f"[bold]and {more:,}{' or' if more == COUNTED else ''} more, older ones[/]")


@app.command()
def show(
    alert: Annotated[str, typer.Argument(help="Alert id; its first characters are enough.")],
    token: Token = "",
    url: Url = HERE,
    language: Language = "en",
) -> None:
    """Show one alert: why it rang, who was called, what they did.

    Example: `fenghuo alerts show 4be1`
    """
    found = _call("GET", url, token, f"/alerts/{_whole(url, token, alert)}", params={"language": language})
    console.print(screen.alert_page(found, language))


@app.command()
def confirm(
    alert: Annotated[str, typer.Argument(help="Alert id; its first characters are enough.")],
    token: Token = "",
    note: Annotated[str, typer.Option(help="Anything to be recorded.")] = "",
    url: Url = HERE,
    language: Language = "en",
) -> None:
    """Say that you have it: stops the clock, if you were asked.

    Example: `fenghuo alerts confirm 4be1`
    """
    _answer(url, token, alert, "confirm", note, language)


@app.command("take-over")
def take_over(
    alert: Annotated[str, typer.Argument(help="Alert id; its first characters are enough.")],
    token: Token = "",
    note: Annotated[str, typer.Option(help="Anything to be recorded.")] = "",
    url: Url = HERE,
    language: Language = "en",
) -> None:
    """Make it yours although another was asked.

    Example: `fenghuo alerts take-over 4be1 --note "on site already"`
    """
    _answer(url, token, alert, "take-over", note, language)


@app.command()
def act(
    alert: Annotated[str, typer.Argument(help="Alert id; its first characters are enough.")],
    note: Annotated[str, typer.Argument(help="What was done.")],
    token: Token = "",
    url: Url = HERE,
    language: Language = "en",
) -> None:
    """Record what was done about it.

    Example: `fenghuo alerts act 4be1 "cooling pump restarted"`
    """
    _answer(url, token, alert, "act", note, language)


def _answer(url: str, token: str, alert: str, verb: str, note: str, language: str) -> None:
    receipt = _call("POST", url, token, f"/alerts/{_whole(url, token, alert)}/{verb}", json={"note": note})
    console.print(f"[green]{words.say('outcome.' + receipt['outcome'], language)}[/]")


def _whole(url: str, token: str, start: str) -> str:
    """The whole id of the one alert that begins so: of the open ones if one does, else of all."""
    if len(start) == 20:
        return start
    matching: list[str] = []
    for filters in ({"open": "true"}, {"open": "false"}):
        matching += [
            a["id"] for a in islice(_items(_pages(url, token, filters)), COUNTED) if a["id"].startswith(start)
        ]
        if matching:
            break
    if len(matching) != 1:
        raise _failure(f"{len(matching)} alerts begin with {start!r}; expected exactly one")
    return matching[0]


def _pages(url: str, token: str, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Pages of alerts, the newest first, asked for as they are needed."""
    asked = {"limit": "200", **filters}
    while True:
        page = _call("GET", url, token, "/alerts", params=asked)
        yield page
        if page["next"] is None:
            return
        asked["cursor"] = page["next"]


def _items(pages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return chain.from_iterable(page["items"] for page in pages)


def _call(method: str, url: str, token: str, path: str, **options: Any) -> Any:
    if not token:
        raise _failure(f"No token. {HOW}", 2)
    if not token.isascii() or not token.isprintable():  # httpx would show it in its complaint
        raise _failure(f"That is no token. {HOW}", 2)
    try:
        answer = httpx.request(
            method,
            f"{url}/api/v1{path}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            **options,
        )
        said = answer.json()
        if not answer.is_error:
            return said
        why = said["error"]["message"]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _failure(f"No answer from {url} ({error}). Is `fenghuo serve` running there?") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _failure(f"What answers at {url} is not Fenghuo. Give --url or FENGHUO_URL.") from error
    raise _failure(f"This token is not valid there. {HOW}" if answer.status_code == 401 else why)


def _failure(why: str, status: int = 1) -> typer.Exit:
    """Say why, for people; the exception that ends the command."""
    stderr.print(f"[red]{escape(why)}[/]", soft_wrap=True)
    return typer.Exit(status)
