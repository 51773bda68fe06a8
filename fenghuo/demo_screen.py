"""What the demo shows in a terminal: values, alerts with their countdowns, and the phones that ring."""

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
ROOMY, WIDE = 36, 110
"""Lines and columns of a terminal that has room for everything."""


def render(demo: Demo, speed: float, hint: str, width: int, height: int) -> RenderableType:
    """The whole screen at this moment, in so many columns and lines: what matters most comes first."""
    registry = demo.rehearsal.registry
    roomy = height >= ROOMY
    return Group(
        _head(demo, speed, hint, events=3 if roomy else 1),
        _alerts(demo, registry, wide=width >= WIDE),
        _phones(demo, registry, shown=PHONES_SHOWN if roomy else 2),
        _values(demo, registry),
    )


def _head(demo: Demo, speed: float, hint: str, events: int) -> RenderableType:
    line = Text.assemble(
        ("烽火 Fenghuo  ", "bold red"),
        f"{moment(demo.rehearsal.now, demo.rehearsal.registry.time_zone)}  ",
        (f"+{demo.seconds // 60}:{demo.seconds % 60:02d}  ", "bold"),
        (f"the clock is driven {speed:.0f} times faster than life", "italic"),
    )
    story = [
        Text(f"+{at // 60}:{at % 60:02d}  {what.zh} — {what.en}", style="cyan")
        for at, what in demo.events[-events:]
    ]
    hinted = Text(hint, style="dim")  # outside the frame: it has a line to copy
    return Group(Panel(Group(line, *story), border_style="red"), hinted)


def _values(demo: Demo, registry: Registry) -> Table:
    table = Table(expand=True, title="Values over MQTT", title_justify="left")
    for column in ("enterprise", "point", "value", "limit that is reached"):
        table.add_column(column, no_wrap=True)
    for code, values in demo.values.items():
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


def _alerts(demo: Demo, registry: Registry, *, wide: bool) -> Table:
    """A line an alert: those that wait for an answer first, then the worst."""
    table = Table(expand=True, title="Alerts", title_justify="left")
    table.add_column("tier", no_wrap=True, min_width=5)
    table.add_column("what", no_wrap=True, ratio=3)
    if wide:
        table.add_column("last value", no_wrap=True)
        table.add_column("condition", no_wrap=True)
    table.add_column("answer", no_wrap=True, ratio=2)
    table.add_column("asked now", no_wrap=True, ratio=2)
    table.add_column("confirm in", no_wrap=True, min_width=10)
    for alert in sorted(demo.alerts, key=lambda a: (not a.confirm_due, bool(a.closed), -a.tier, a.raised)):
        value = f"{alert.value:.2f} {alert.unit}" if alert.value is not None else ""
        table.add_row(
            screen.tier(alert.tier.name),
            f"{alert.subject.partition(':')[2]} {rule(alert.rule, alert.level, 'zh')}",
            *((value, str(alert.condition)) if wide else ()),
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


def _phones(demo: Demo, registry: Registry, shown: int) -> Table:
    table = Table(expand=True, title="Phones that rang", title_justify="left")
    for column in ("at", "who", "what they read"):
        table.add_column(column, no_wrap=column == "at", overflow="fold")
    newest = sorted(demo.notices, key=lambda n: (n.created, n.step, n.id))[-shown:]
    for notice in newest:
        table.add_row(
            moment(notice.created, registry.time_zone).partition(" ")[2],
            registry.people[notice.person].name,
            Text(notice.title, style="bold" if notice.role is Role.ASKED else "dim"),
        )
    return table
