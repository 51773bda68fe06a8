"""Control room: what the plant does now, and which alerts wait for an answer."""

from collections.abc import Iterable

from dashboards import parts
from dashboards.board import Board, Source


def board(alert_url: str, sources: Iterable[Source]) -> Board:
    room = Board(
        "control-room",
        "控制室 · Control room",
        "一家企业的控制室：实时值、装置状态、等待确认的警报。"
        " For an enterprise's control room: live values, states of units, alerts that wait to be confirmed.",
        sources,
        span="1h",
        refresh="5s",
    )
    parts.choose_cell(room)
    parts.choose_enterprise(room)
    parts.choose_points(room, "point", "测点 · Points")
    parts.mark_alerts(room, "one")
    parts.count_alerts(room, "one")
    parts.list_alerts(room, alert_url, "one")
    parts.states_of_units(room, "one")
    parts.live_values(room)
    parts.trend(
        room,
        "趋势 · Trends",
        "所选测点的走势；虚线为限值。 The chosen points over time; dashed lines are their limits.",
        "point",
        width=24,
        height=10,
    )
    return room
