"""What a terminal shows of alerts: the same tables for `fenghuo alerts` and for the demo."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

COLOURS = {"I": "white on red", "II": "black on dark_orange", "III": "black on yellow", "IV": "white on blue"}


def tier(name: str) -> Text:
    """A tier in its own colour."""
    return Text(f" {name:^3} ", style=COLOURS[name])


def countdown(due: int | None, now: int) -> str:
    """Minutes and seconds until a deadline; with a minus once it has passed; "" without one."""
    if not due:
        return ""
    seconds = (due - now) // 1_000_000
    sign = "-" if seconds < 0 else ""
    return f"{sign}{abs(seconds) // 60}:{abs(seconds) % 60:02d}"


def clock_time(micros: int | None) -> str:
    """Local wall time of a moment, or "" for none."""
    if not micros:
        return ""
    return datetime.fromtimestamp(micros / 1_000_000, UTC).astimezone().strftime("%H:%M:%S")


def alerts_table(alerts: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """A row an alert, as the API gives them."""
    table = Table(title=title or None, title_justify="left", expand=True)
    for column in ("id", "tier", "what", "value", "condition", "answer", "rung", "holder", "raised"):
        table.add_column(column, no_wrap=column != "what")
    for alert in alerts:
        table.add_row(
            str(alert["id"])[:6],
            tier(alert["tier"]),
            f"{alert['rule']} {alert['level']} {alert['subject']}",
            f"{alert['value']:g} {alert['unit']}" if alert["value"] is not None else "",
            alert["condition"],
            alert["answer"] if not alert["closed"] else "closed",
            str(alert["rung"]),
            alert["holder"],
            clock_time(alert["raised"]),
        )
    return table


def alert_page(alert: Mapping[str, Any]) -> RenderableType:
    """One alert whole: its reason, its history, its notices."""
    steps = Table(
        "when", "event", "who", "late", "detail", title="History", title_justify="left", expand=True
    )
    for step in alert["steps"]:
        late = f"{step['late'] / 1_000_000:.0f} s" if step["late"] else ""
        detail = step["detail"]
        steps.add_row(clock_time(step["time"]), step["event"], step["actor"], late, str(detail))
    notices = Table(
        "to", "role", "channel", "state", "attempts", title="Notices", title_justify="left", expand=True
    )
    for notice in alert["notices"]:
        notices.add_row(
            notice["person"], notice["role"], notice["channel"], notice["state"], str(notice["attempts"])
        )
    return Group(alerts_table([alert]), steps, notices)
