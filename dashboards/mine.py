"""Mine: methane, air and people of an underground mine."""

from collections.abc import Iterable

from dashboards import parts
from dashboards.board import Board, Look, Source, flux, numbers, states

GROUPS = {
    "methane": ("瓦斯 · Methane", ("methane",), "max"),
    "air": ("风速 · Air velocity", ("air_velocity",), "mean"),
    "toxic": ("有毒气体 · Toxic gas", ("toxic_gas",), "max"),
    "dust": ("粉尘 · Dust", ("dust",), "max"),
    "warmth": ("温度 · Temperature", ("temperature",), "max"),
    "pressure": ("风压 · Air pressure", ("air_pressure", "differential_pressure"), "mean"),
}
"""Panels of values: the variable with their points, title, kinds of points, and what is shown of a pixel's time."""


def board(alert_url: str, sources: Iterable[Source]) -> Board:
    mine = Board(
        "mine",
        "矿山 · Mine",
        "一座矿井的瓦斯、通风、风机与人员。 Methane, ventilation, fans and people of one mine.",
        sources,
        span="6h",
        refresh="10s",
    )
    parts.choose_cell(mine)
    parts.choose_enterprise(mine, kinds=("methane", "air_velocity", "fan"))
    for name, (title, kinds, _) in GROUPS.items():
        parts.choose_points(mine, name, title, *kinds, hidden=True)
    parts.choose_points(mine, "fans", "风机 · Fans", "fan", hidden=True)
    parts.choose_points(mine, "people", "人数 · People", "people_count", hidden=True)
    parts.mark_alerts(mine, "one")
    parts.count_alerts(mine, "one", width=12)
    mine.add(
        numbers(),
        "井下人数 · People underground",
        "各区域最近的人数。 The newest count of people in each area.",
        parts.readings("people", each="last"),
        look=Look(decimals=0),
        width=6,
        height=5,
    )
    mine.add(
        numbers(),
        "最高瓦斯 · Highest methane",
        "所选时间内的最大值，%CH4。 The greatest value within the chosen time, %CH4.",
        flux(
            """
            <readings>
            |> filter(fn: (r) => r._field =~ /^${methane:regex}$/)
            |> max()
            |> group()
            |> max()
            |> keep(columns: ["_time", "_value", "_field"])
            """
        ),
        look=Look(decimals=2),
        width=6,
        height=5,
    )
    parts.list_alerts(mine, alert_url, "one", height=7)
    for name, (title, _, each) in GROUPS.items():
        parts.trend(
            mine,
            title,
            "各测点的走势；虚线为限值。 Each point over time; dashed lines are the limits.",
            name,
            each=each,
        )
    mine.add(
        states(),
        "风机 · Fans",
        "各风机的状态值。 The state that each fan tells.",
        parts.readings("fans", each="last"),
    )
    parts.states_of_units(mine, "one")
    return mine
