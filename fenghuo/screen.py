"""What a terminal shows of alerts: the same tables for `fenghuo alerts` and for the demo."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from alerting import words
from registry.clock import SECOND

COLOURS = {"I": "white on red", "II": "black on dark_orange", "III": "black on yellow", "IV": "white on blue"}


def tier(name: str) -> Text:
    """A tier in its own colour."""
    return Text(f" {name:^3} ", style=COLOURS[name])


def countdown(due: int | None, now: int) -> str:
    """Minutes and seconds until a deadline; with a minus once it has passed; "" without one."""
    if not due:
        return ""
    seconds = (due - now) // SECOND
    sign = "-" if seconds < 0 else ""
    return f"{sign}{abs(seconds) // 60}:{abs(seconds) % 60:02d}"


def day_time(micros: int, zone: str) -> str:
    """Month, day and time of a moment (µs) as people of that zone read it."""
    return words.moment(micros, zone).partition("-")[2]


def alerts_table(alerts: Sequence[Mapping[str, Any]], zone: str, language: str) -> Table:
    """A row an alert, as the API gives them; times as in that zone."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("id", "tier", "raised"):
        table.add_column(column, no_wrap=True)
    for column in ("what", "value", "state", "rung or holder"):
        table.add_column(column, overflow="fold")
    for alert in alerts:
        subject = str(alert["subject"]).partition(":")[2]
        what = (alert["enterprise"], subject, words.rule(alert["rule"], alert["level"], language))
        state = words.say(f"condition.{alert['condition']}", language)
        state += ", " + words.say(f"answer.{alert['answer']}", language)
        if alert["closed"]:
            state += f"; {_closed(alert['close_reason'], language)}"
        table.add_row(
            str(alert["id"])[:8],
            tier(alert["tier"]),
            day_time(alert["raised"], zone),
            Text(" ".join(filter(None, what))),
            Text(words.quantity(alert["value"], alert["unit"]) if alert["value"] is not None else ""),
            state,
            Text(alert["holder"] or str(alert["rung"])),
        )
    return table


def alert_page(alert: Mapping[str, Any], language: str) -> RenderableType:
    """One alert whole: its reason, its history, its notices."""
    zone = alert["time_zone"]
    steps = Table("when", "event", "who", "what", title="History", title_justify="left")
    for step in alert["steps"]:
        event = words.say(f"event.{step['event']}", language)
        steps.add_row(day_time(step["time"], zone), event, Text(step["actor"]), Text(_done(step, language)))
    notices = Table("to", "role", "channel", "state", "attempts", title="Notices", title_justify="left")
    for notice in alert["notices"]:
        role = words.say(f"role.{notice['role']}", language)
        said = f"{notice['state']}: {notice['error']}" if notice["error"] else notice["state"]
        notices.add_row(
            Text(notice["person"]), role, Text(notice["channel"]), Text(said), str(notice["attempts"])
        )
    return Group(Text(alert["text"]), "", alerts_table([alert], zone, language), "", steps, "", notices)


def _done(step: Mapping[str, Any], language: str) -> str:
    """What a step did, in words."""
    detail = step["detail"]
    finding = detail["finding"]
    names = words.say("list.and", language)
    said = []
    if finding and finding["value"] is not None:
        said.append(words.quantity(finding["value"], finding["unit"]))
    if finding:
        said += finding["evidence"]
    if detail["note"]:
        said.append(f"“{detail['note']}”")
    if step["late"]:
        said.append(words.say("step.late", language, seconds=f"{step['late'] / SECOND:.0f}"))
    for key, name in (("asked", "people"), ("told", "people"), ("nobody", "places")):
        if detail[key]:
            said.append(words.say(f"step.{key}", language, **{name: names.join(detail[key])}))
    if detail["seen"]:
        said.append(words.say("step.seen", language))
    for key in ("missed", "gap"):
        if detail[key]:
            said.append(words.say(f"step.{key}", language, count=detail[key]))
    if detail["closed"]:
        said.append(_closed(detail["closed"], language))
    return "; ".join(said)


def _closed(reason: str, language: str) -> str:
    key = f"closed.{reason}"
    why = words.say(key, language) if key in words.CATALOGUE else reason
    return words.say("step.closed", language, reason=why)
