"""Pipeline and gas network: flows that should balance, pressures, valves, leaks and gas in the air."""

from collections.abc import Iterable

from dashboards import parts
from dashboards.board import Board, Look, Source, course, flux, list_, rows, states

GROUPS = {
    "flow": ("流量 · Flow", ("flow",), "mean"),
    "pressure": ("压力 · Pressure", ("pressure", "differential_pressure"), "mean"),
    "gas": ("可燃气体 · Combustible gas", ("combustible_gas", "methane"), "max"),
}
"""Panels of values: the variable with their points, title, kinds of points, and what is shown of a pixel's time."""


def board(alert_url: str, sources: Iterable[Source]) -> Board:
    net = Board(
        "pipeline",
        "管道与燃气管网 · Pipeline and gas network",
        "管段的流量平衡、压力、阀门、泄漏和可燃气体。"
        " Flow balance of sections, pressures, valves, leaks and combustible gas.",
        sources,
        span="6h",
        refresh="10s",
    )
    parts.choose_cell(net)
    parts.choose_enterprise(net, kinds=("flow", "pressure"))
    net.variable(
        "section",
        "管段 · Section",
        """
        SELECT name || ' (' || id || ')' AS __text, id AS __value FROM fenghuo_views.pipelines
        WHERE <one> ORDER BY id
        """,
    )
    for end in ("flow_in", "flow_out"):
        net.variable(
            end,
            end,
            "SELECT <end> FROM fenghuo_views.pipelines WHERE <one> AND id = ${section:sqlstring}",
            end=end,
            all=True,
            hidden=True,
        )
    for name, (title, kinds, _) in GROUPS.items():
        parts.choose_points(net, name, title, *kinds, hidden=True)
    parts.choose_points(net, "valves", "阀门 · Valves", "valve", "state", hidden=True)
    parts.mark_alerts(net, "one")
    parts.count_alerts(net, "one")
    net.add(
        course(),
        "进出流量差 · Flow in less flow out",
        "所选管段；长时间大于零可能泄漏。 Of the chosen section; above zero for long may be a leak.",
        flux(
            """
            <readings>
            |> filter(fn: (r) => r._field =~ /^${flow_in:regex}$/ or r._field =~ /^${flow_out:regex}$/)
            |> group(columns: ["_field"])
            |> aggregateWindow(every: v.windowPeriod, fn: mean, createEmpty: false)
            |> map(fn: (r) => ({r with sign: if r._field =~ /^${flow_out:regex}$/ then -1.0 else 1.0}))
            |> group(columns: ["_time"])
            |> reduce(
                identity: {_value: 0.0, ends: 0},
                fn: (r, accumulator) => ({_value: accumulator._value + r.sign * r._value, ends: accumulator.ends + 1}),
            )
            |> filter(fn: (r) => r.ends == 2)
            |> group()
            |> sort(columns: ["_time"])
            |> map(fn: (r) => ({_time: r._time, _value: r._value, _field: "进 - 出 · in - out"}))
            """
        ),
    )
    net.add(
        list_(),
        "泄漏 · Leaks",
        "泄漏量和距进口的位置。 Size of the leak, and place from the inlet.",
        rows(
            """
            SELECT tier AS "级别 · Tier", subject_name AS "对象 · Subject", words AS "事由 · What",
                evidence AS "证据 · Evidence", condition AS "状态 · Condition", answer AS "答复 · Answer",
                raised AS "产生 · Raised", ended AS "结束 · Ended", id
            FROM fenghuo_views.alerts WHERE rule = 'leak' AND <raised_within> AND <one>
            ORDER BY raised DESC
            """
        ),
        look=Look(fields={**parts.TIER, **parts.STATE, **parts.to_alert(alert_url)}),
    )
    for name, (title, _, each) in GROUPS.items():
        parts.trend(
            net,
            title,
            "各测点的走势；虚线为限值。 Each point over time; dashed lines are the limits.",
            name,
            each=each,
        )
    net.add(
        states(),
        "阀门 · Valves",
        "各阀门的状态值。 The state that each valve tells.",
        parts.readings("valves", each="last"),
    )
    parts.list_alerts(net, alert_url, "one", height=7)
    return net
