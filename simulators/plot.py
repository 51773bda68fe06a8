"""A picture of a run: what was measured, when it was a danger, and when the alerts came."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from simulators.score import AlertScore, DangerScore, Raised, Score, span
from simulators.truth import SECOND, Danger, Truth

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

ZONE = ZoneInfo("Asia/Shanghai")
MOST = 6
"""So many panels at most: more cannot be read."""

DAY = 86_400 * SECOND
"""Matplotlib counts days since 1970."""

COLOURS = {"I": "#d7263d", "II": "#f07818", "III": "#e8b800", "IV": "#2a6fdb"}
"""Of the tiers, as Chinese emergency plans colour them: red, orange, yellow, blue."""

LINE, QUIET, CONFIRMED = "#1f2d3d", "#7b8794", "#2e8b57"

CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
)
"""Fonts that have the Chinese characters, the best first. Without any of them the picture is in English."""

STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e7eb",
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "legend.fontsize": 8.5,
    "text.parse_math": False,  # a "$" in a name begins no formula
    "agg.path.chunksize": 20_000,  # months of readings are more than the renderer takes at once
}

Key = tuple[str, str]
"""An enterprise's credit code and the id of one of its points."""


class NoPlots(RuntimeError):
    """Pictures are an extra that is not installed."""


@dataclass(frozen=True)
class Signals:
    """What was measured. time: µs UTC, [n], rising; values: of a point, [n], NaN where nothing was measured.

    units: the engineering units of the points, for the axes.
    """

    time: NDArray[np.int64]
    values: Mapping[Key, NDArray[np.float64]]
    units: Mapping[Key, str] = field(default_factory=dict)


def panels(truth: Truth, raised: Iterable[Raised], signals: Signals) -> list[Key]:
    """The points that are worth a panel: of dangers, of alerts, of disturbances; if none are, the first.

    Each danger has its first point before any has its second.
    """
    parts: list[list[Key]] = [
        [(part.enterprise, point) for point in _points(truth, part)] for part in truth.dangers
    ]
    rest = [(alert.enterprise, point) for alert in raised if not alert.late for point in alert.points]
    rest += [(part.enterprise, point) for part in truth.excused for point in part.points]
    ranked = [key for rank in zip_longest(*parts) for key in rank if key is not None] + rest
    found = [key for key in dict.fromkeys(ranked) if key in signals.values]
    return (found or list(signals.values))[:MOST]


def _points(truth: Truth, danger: Danger) -> tuple[str, ...]:
    """The points to draw a danger on: of one that only its gateway shows, those that are excused with it."""
    if danger.points:
        return danger.points
    its = (danger.enterprise, danger.gateway)
    return tuple(
        point for part in truth.excused if (part.enterprise, part.gateway) == its for point in part.points
    )


def plot(path: Path, truth: Truth, raised: Sequence[Raised], signals: Signals, score: Score) -> None:
    """Draw the run into a PNG; the same run gives the same picture on the same machine.

    Light: from when on a danger could be known; full: while people had to act, in the colour of its tier;
    grey: disturbances that are excused; a dashed line: the last moment at which an alert was of use.

    Raises NoPlots where matplotlib is not installed, ValueError if there is no signal to draw.
    """
    try:
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NoPlots(
            "pictures need matplotlib, of the extra `plots`: .venv/bin/pip install -e '.[plots]'"
        ) from error
    shown = panels(truth, raised, signals)
    if not shown:
        raise ValueError("there is no signal to draw")
    letters = _Letters.found()
    with style.context({**STYLE, "font.family": letters.families}, after_reset=True):
        figure = Figure(figsize=(12, 1.7 + 2.0 * len(shown)), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(letters.only(_title(truth, score)), x=0.01, ha="left", fontsize=12)
        rows = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
        told: set[str] = set()
        for axes, key in zip(rows, shown, strict=True):
            _panel(axes, key, truth, raised, signals, score, letters, told)
        _time_axis(rows[-1], truth)
        figure.legend(
            handles=_legend(truth, raised), loc="outside lower left", ncols=6, frameon=False, handlelength=2.2
        )
        figure.savefig(path, format="png")


@dataclass(frozen=True)
class _Letters:
    """The fonts of this machine, so that no character is drawn that none of them has."""

    families: list[str]
    chinese: bool
    known: frozenset[int]

    @classmethod
    def found(cls) -> "_Letters":
        from matplotlib.font_manager import findfont, fontManager, get_font

        there = {font.name for font in fontManager.ttflist}
        chinese = [name for name in CHINESE if name in there][:1]
        families = ["DejaVu Sans", *chinese]
        known = frozenset(code for name in families for code in get_font(findfont(name)).get_charmap())
        return cls(families, bool(chinese), known)

    def only(self, text: str) -> str:
        """The text with "?" for what cannot be drawn."""
        return "".join(char if ord(char) in self.known else "?" for char in text)

    def name(self, danger: Danger) -> str:
        return f"{danger.zh} {danger.en}" if self.chinese else danger.en


def _title(truth: Truth, score: Score) -> str:
    dangers = {
        "detected": score.detected,
        "too low": score.too_low,
        "too fast": score.too_fast,
        "late": score.late,
        "missed": score.missed,
    }
    alerts = {"early": score.early, "false": score.false}
    said = [
        f"{what} {', '.join(f'{count} {name}' for name, count in counts.items() if count)}"
        for what, counts in (("dangers:", dangers), ("alerts:", alerts))
        if any(counts.values())
    ]
    return "; ".join([f"{truth.scenario}, seed {truth.seed}", *said])


def _panel(
    axes: "Axes",
    key: Key,
    truth: Truth,
    raised: Iterable[Raised],
    signals: Signals,
    score: Score,
    letters: _Letters,
    told: set[str],
) -> None:
    """One point. told: the dangers whose outcome a panel says already; those that this one says are added."""
    enterprise, point = key
    values = signals.values[key]
    axes.plot(signals.time / DAY, values, color=LINE, linewidth=1.1)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = (high - low) or max(abs(high), 1.0) * 0.1
    axes.set_ylim(low - 0.12 * room, high + 0.6 * room)
    name = point if len(truth.enterprises) == 1 else f"{point} · {enterprise}"
    axes.set_title(letters.only(name), loc="left", pad=4)
    axes.set_ylabel(letters.only(signals.units.get(key, "")))

    for stretch in truth.excused:
        if stretch.enterprise == enterprise and point in stretch.points:
            axes.axvspan(stretch.begin / DAY, stretch.end / DAY, color=QUIET, alpha=0.18, linewidth=0)
    shows = [
        part for part in truth.dangers if part.enterprise == enterprise and point in _points(truth, part)
    ]
    outcomes = {one.danger: one for one in score.dangers}
    fresh = [danger for danger in shows if danger.id not in told]
    for place, danger in enumerate(shows):  # a strip for each, since colours that lie over each other mix
        ended = truth.end if danger.ended is None else danger.ended
        colour, top, bottom = COLOURS[danger.tier], 1 - place / len(shows), 1 - (place + 1) / len(shows)
        for begin, end, alpha in ((danger.earliest, danger.danger, 0.14), (danger.danger, ended, 0.36)):
            axes.axvspan(begin / DAY, end / DAY, bottom, top, color=colour, alpha=alpha, linewidth=0)
        axes.axvline(danger.latest / DAY, bottom, top, color=colour, linestyle=(0, (5, 2)), linewidth=1.6)
    for row, danger in enumerate(fresh):
        told.add(danger.id)
        right = danger.earliest > truth.begin + 0.6 * (truth.end - truth.begin)
        axes.text(
            danger.earliest / DAY,
            0.95 - 0.11 * (row % 3),
            letters.only(f" {danger.tier} {letters.name(danger)}: {_outcome(outcomes[danger.id])} "),
            transform=axes.get_xaxis_transform(),
            ha="right" if right else "left",
            va="top",
            fontsize=8.5,
            clip_on=True,
            bbox={"boxstyle": "square,pad=0.15", "color": "white", "alpha": 0.75, "linewidth": 0},
            zorder=4,
        )

    gateways = {danger.gateway for danger in shows} - {""}
    verdicts = {one.alert: one for one in score.alerts}
    for alert in raised:
        of_it = point in alert.points or alert.gateway in gateways
        if alert.enterprise == enterprise and of_it and alert.id in verdicts:
            _markers(axes, alert, verdicts[alert.id], signals.time, values, low)


def _outcome(one: DangerScore) -> str:
    if one.outcome == "detected":
        return f"detected after {span(one.delay_to_tier_s)}"
    if one.outcome == "missed":
        return "missed"
    if one.outcome == "too_fast":
        return f"too fast to act, warned after {span(one.delay_s)}"
    return f"{one.outcome.replace('_', ' ')}, first alert after {span(one.delay_s)}"


def _markers(
    axes: "Axes",
    alert: Raised,
    judged: AlertScore,
    time: NDArray[np.int64],
    values: NDArray[np.float64],
    bottom: float,
) -> None:
    """The alert's calls, on the curve where they came."""
    for count, (moment, tier) in enumerate(alert.calls):
        before = int(np.searchsorted(time, moment, side="right")) - 1
        value = values[before] if before >= 0 else np.nan
        shape = "X" if judged.verdict == "false" and count == 0 else "^" if count else "o"
        hollow = judged.verdict in ("excused", "early")
        axes.plot(
            [moment / DAY],
            [value if np.isfinite(value) else bottom],
            marker=shape,
            markersize=11 if shape == "X" else 9,
            markerfacecolor="white" if hollow else COLOURS[tier],
            markeredgecolor=COLOURS[tier] if hollow else LINE,
            markeredgewidth=2.0 if hollow else 1.0,
            linestyle="",
            zorder=5,
        )

    if alert.confirmed is not None:
        bottom_edge = axes.get_xaxis_transform()
        axes.plot([alert.confirmed / DAY], [0.03], "d", markersize=7, color=CONFIRMED, transform=bottom_edge)


def _time_axis(axes: "Axes", truth: Truth) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_xlim(truth.begin / DAY, truth.end / DAY)
    locator = AutoDateLocator(tz=ZONE, minticks=6, maxticks=12)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        ConciseDateFormatter(  # type: ignore[no-untyped-call]
            locator,
            tz=ZONE,
            formats=["%Y", "%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"],
            zero_formats=["", "%Y", "%m", "%m-%d", "%H:%M", "%H:%M"],
            offset_formats=["", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d"],
        )
    )
    axes.set_xlabel(ZONE.key, loc="left", color=QUIET)


def _legend(truth: Truth, raised: Iterable[Raised]) -> "list[Artist]":
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def mark(shape: str, says: str, face: str = QUIET, edge: str = LINE, width: float = 1.0) -> Line2D:
        return Line2D(
            [],
            [],
            marker=shape,
            label=says,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=width,
            markersize=8,
            linestyle="",
        )

    tiers = {danger.tier for danger in truth.dangers} | {alert.tier for alert in raised}
    return [
        *(Patch(color=COLOURS[tier], alpha=0.6, label=f"tier {tier}") for tier in COLOURS if tier in tiers),
        Patch(color=LINE, alpha=0.14, label="could be known"),
        Patch(color=LINE, alpha=0.36, label="people must act"),
        Line2D([], [], color=LINE, linestyle=(0, (5, 2)), linewidth=1.6, label="last moment of use"),
        Patch(color=QUIET, alpha=0.18, label="excused"),
        mark("o", "first call"),
        mark("^", "called again"),
        mark("o", "excused or early", "white", QUIET, 2.0),
        mark("X", "false alert"),
        mark("d", "confirmed", CONFIRMED, CONFIRMED),
    ]
