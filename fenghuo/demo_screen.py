"""What the demo shows in a terminal: values, alerts with their countdowns, and the phones that ring."""

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alerting.alert import Alert, Role
from alerting.words import moment, rule
from fenghuo import screen
from fenghuo.demo import Demo
from registry.model import Registry

PHONES_SHOWN = 7
MIN_WIDTH = {"id": 6, "tier": 5, "what": 14}


def render(demo: Demo, speed: float, hint: str) -> RenderableType:
    """The whole screen at this moment."""
    registry = demo.rehearsal.registry
    return Group(
        _head(demo, speed, hint),
        _alerts(demo, registry),
        _phones(demo, registry),
        _values(demo, registry),
    )


def _head(demo: Demo, speed: float, hint: str) -> Panel:
    now = datetime.fromtimestamp(demo.rehearsal.now / 1e6, UTC).astimezone()
    line = Text.assemble(
        ("烽火 Fenghuo  ", "bold red"),
        f"{now:%Y-%m-%d %H:%M:%S}  ",
        (f"+{demo.seconds // 60}:{demo.seconds % 60:02d}  ", "bold"),
        (f"the clock is driven {speed:.0f} times faster than life", "italic"),
    )
    story = [
        Text(f"+{int(e.at) // 60}:{int(e.at) % 60:02d}  {e.zh} — {e.en}", style="cyan")
        for e in demo.events[-3:]
    ]
    return Panel(Group(line, *story, Text(hint, style="dim")), border_style="red")


def _values(demo: Demo, registry: Registry) -> Table:
    table = Table(expand=True, title="Values over MQTT", title_justify="left")
    for column in ("enterprise", "point", "value", "limit that is reached"):
        table.add_column(column, no_wrap=True)
    for (code, _), values in demo.values.items():
        name = registry.enterprises[code].name
        for point, value in values.items():
            row = registry.rows[code][point]
            points = registry.points
            reached = _reached(value, points.limit[row].tolist())
            style = {"": "", "H": "yellow", "L": "yellow"}.get(reached, "bold red")
            table.add_row(
                name,
                f"{point} {points.name[row]}",
                Text(f"{value:8.2f} {points.engineering_unit[row]}", style=style),
                Text(reached, style=style),
            )
            name = ""
    return table


def _reached(value: float, limits: list[float]) -> str:
    low_low, low, high, high_high = limits
    if value >= high_high:
        return "HH"
    if value <= low_low:
        return "LL"
    if value >= high:
        return "H"
    return "L" if value <= low else ""


def _alerts(demo: Demo, registry: Registry) -> Table:
    table = Table(expand=True, title="Alerts", title_justify="left")
    for column in ("id", "tier", "what", "value", "condition", "answer", "asked now", "confirm in"):
        table.add_column(
            column, no_wrap=column in ("id", "tier"), overflow="fold", min_width=MIN_WIDTH.get(column)
        )
    for alert in demo.alerts:
        table.add_row(
            alert.id[:6],
            screen.tier(alert.tier.name),
            f"{alert.subject.partition(':')[2]} {rule(alert.rule, alert.level, 'zh')}",
            f"{alert.value:.2f} {alert.unit}" if alert.value is not None else "",
            str(alert.condition),
            _answer(alert, registry),
            _asked(demo, alert, registry),
            screen.countdown(alert.confirm_due, demo.rehearsal.now),
        )
    return table


def _answer(alert: Alert, registry: Registry) -> Text:
    holder = registry.people[alert.holder].name.partition("（")[0] if alert.holder else ""
    if alert.closed:
        return Text(f"closed {holder}", style="dim")
    style = "green" if alert.holder else "bold red"
    return Text(f"{alert.answer} {holder}", style=style)


def _asked(demo: Demo, alert: Alert, registry: Registry) -> str:
    asked = [n for n in demo.notices if n.alert == alert.id and n.role is Role.ASKED]
    if not asked:
        return ""
    return f"{alert.rung}: {registry.people[max(asked, key=lambda n: n.step).person].name}"


def _phones(demo: Demo, registry: Registry) -> Table:
    table = Table(expand=True, title="Phones that rang", title_justify="left")
    for column in ("at", "who", "what they read"):
        table.add_column(column, no_wrap=column == "at", overflow="fold")
    newest = sorted(demo.notices, key=lambda n: (n.created, n.step, n.id))[-PHONES_SHOWN:]
    for notice in newest:
        table.add_row(
            moment(notice.created, registry.time_zone).partition(" ")[2],
            registry.people[notice.person].name,
            Text(notice.title, style="bold" if notice.role is Role.ASKED else "dim"),
        )
    return table
