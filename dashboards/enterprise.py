"""Enterprise detail: everything of one enterprise, now and before."""

from collections.abc import Collection

from dashboards import parts
from dashboards.board import Board, Look, Source, course, flux, list_, rows


def board(alert_url: str, sources: Collection[Source]) -> Board:
    one = Board(
        "enterprise",
        "企业详情 · Enterprise detail",
        "一家企业的警报、读数、隐患与历史。 One enterprise: its alerts, readings, open findings and history.",
        sources,
        span="6h",
        refresh="30s",
    )
    parts.choose_cell(one)
    parts.choose_enterprise(one)
    if Source.HISTORY in sources:
        parts.choose_points(one, "point", "测点 · Points")
    parts.mark_alerts(one, "one")
    parts.count_alerts(one, "one")
    parts.list_alerts(one, alert_url, "one", height=8)
    parts.states_of_units(one, "one")
    parts.live_values(one)
    parts.trend(
        one,
        "趋势 · Trends",
        "所选测点的走势；虚线为限值。 The chosen points over time; dashed lines are their limits.",
        "point",
        width=24,
        height=9,
    )
    one.add(
        course(),
        "逐小时汇总 · Hour by hour",
        "所选测点每小时的最小、平均、最大值，适于看数月。"
        " Least, mean and greatest value of each hour: for looking back over months.",
        flux(
            """
            from(bucket: v.defaultBucket + "-1h")
            |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
            |> filter(fn: (r) => r._measurement == "readings" and r.enterprise == "${enterprise:raw}")
            |> filter(fn: (r) => r._field =~ /^${point:regex}$/ and r.stat =~ /^(min|mean|max)$/)
            |> map(fn: (r) => ({_time: r._time, _value: r._value, _field: r._field + " " + r.stat}))
            |> group(columns: ["_field"])
            |> sort(columns: ["_time"])
            """
        ),
        width=24,
    )
    one.add(
        list_(),
        "未结束的发现 · Open findings",
        "包括不产生警报的：检验逾期、证照过期、故障测点等。"
        " Those too that raise no alert: overdue inspections, expired licences, faulty points.",
        rows(
            """
            SELECT tier AS "级别 · Tier", subject_name AS "对象 · Subject", words AS "事由 · What",
                since AS "始于 · Since", rule AS "规则 · Rule", alert AS id
            FROM fenghuo_views.findings WHERE <going_on> AND <one> ORDER BY tier DESC NULLS LAST, since DESC LIMIT 500
            """
        ),
        look=Look(fields={**parts.TIER, **parts.by_id(alert_url)}),
        width=24,
    )
    parts.past_alerts(one, alert_url, "one")
    return one
