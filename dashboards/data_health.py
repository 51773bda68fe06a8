"""Data health: what is not heard, what came late, what could not be used."""

from collections.abc import Iterable

from dashboards import parts
from dashboards.board import Board, Look, Query, Source, course, flux, list_, numbers, promql, rows, series

FAULTS = "'silent', 'bad_quality', 'stuck', 'range', 'disagreement', 'clock', 'gateway.offline'"
"""Rules that say that a value is not to be trusted, or is not there."""

QUALITIES = {1: "不确定 · uncertain", 2: "坏 · bad"}
"""Of readings that are not good, by number as in InfluxDB."""


def board(alert_url: str, sources: Iterable[Source]) -> Board:
    health = Board(
        "data-health",
        "数据健康 · Data health",
        "离线网关、无数据与故障测点、迟到、拒收。"
        " Gateways that are offline, silent and faulty points, what came late, what was refused.",
        sources,
        span="24h",
        refresh="30s",
    )
    parts.choose_cell(health)
    parts.choose_enterprises(health)
    _choose_heard(health)
    health.add(
        numbers(),
        "现在 · Now",
        "未结束的数据故障，按种类。 Faults of data that are not over, by kind.",
        rows(
            """
            SELECT count(*) FILTER (WHERE rule = 'gateway.offline') AS "离线网关 · Gateways offline",
                count(*) FILTER (WHERE rule IN ('silent', 'bad_quality')) AS "无数据 · Silent",
                count(*) FILTER (WHERE rule IN ('stuck', 'range', 'disagreement')) AS "故障 · Faulty",
                count(*) FILTER (WHERE rule = 'clock') AS "时钟 · Clock"
            FROM fenghuo_views.findings WHERE <going_on> AND <here>
            """
        ),
        look=Look(steps=[(None, "green"), (1, "orange")]),
        height=5,
    )
    health.add(
        numbers(),
        "迟到 · Late",
        "所选时间内：迟到的证据，以及晚于时限 2 秒以上的动作。"
        " In this time: evidence heard after it was over, and steps taken more than 2 s after they were due.",
        rows(
            """
            SELECT (
                SELECT count(*) FROM fenghuo_views.findings WHERE late AND <arrival_within> AND <here>
            ) AS "迟到的证据 · Late evidence", (
                SELECT count(*) FROM fenghuo_views.steps WHERE late > 2 AND <time_within> AND <here>
            ) AS "延迟的动作 · Late steps", (
                SELECT coalesce(max(late), 0) FROM fenghuo_views.steps WHERE <time_within> AND <here>
            ) AS "最晚（秒） · Latest (s)"
            """
        ),
        look=Look(steps=[(None, "green"), (1, "orange")], decimals=0),
        height=5,
    )
    health.add(
        list_(),
        "离线与故障 · Offline and faulty",
        "没有数据或数据不可信的网关和测点。 Gateways and points that are not heard, or not to be trusted.",
        rows(
            """
            SELECT enterprise_name AS "企业 · Enterprise", subject_name AS "对象 · Subject", words AS "事由 · What",
                since AS "始于 · Since", enterprise AS code, alert AS id
            FROM fenghuo_views.findings WHERE <going_on> AND rule IN (<faults>) AND <here>
            ORDER BY since LIMIT 500
            """,
            faults=FAULTS,
        ),
        look=Look(fields={**parts.by_id(alert_url), **parts.TO_ENTERPRISE}),
    )
    health.add(
        course(bars=True),
        "故障的发生 · Faults over time",
        "每段时间内开始的数据故障。 Faults of data that began in each stretch.",
        series(
            """
            SELECT date_bin('$__interval', since, 'epoch') AS time, words AS metric, count(*) AS value
            FROM fenghuo_views.findings WHERE rule IN (<faults>) AND <since_within> AND <here>
            GROUP BY 1, 2 ORDER BY 1
            """,
            faults=FAULTS,
        ),
    )
    health.add(
        list_(),
        "最近的读数 · Newest readings",
        "所选时间内各企业最近一次读数。 When each enterprise was last heard, within the chosen time.",
        flux(
            """
            from(bucket: v.defaultBucket)
            |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
            |> filter(fn: (r) => r._measurement == "readings" and r.enterprise =~ /^(${heard:raw})$/)
            |> last()
            |> keep(columns: ["enterprise", "_time"])
            |> group(columns: ["enterprise"])
            |> max(column: "_time")
            |> group()
            |> sort(columns: ["_time"])
            |> rename(columns: {enterprise: "code", _time: "最近 · Newest"})
            """
        ),
        look=Look(fields={"最近 · Newest": {"unit": "dateTimeFromNow"}}),
    )
    health.add(
        course(bars=True),
        "不良读数 · Readings that are not good",
        "质量为不确定或坏的读数。 Readings whose quality is uncertain or bad.",
        *(_count_quality(value, words) for value, words in QUALITIES.items()),
    )
    health.add(
        course(),
        "死信 · Dead letters",
        "每分钟不能使用的消息，按原因。 Messages a minute that could not be used, by reason.",
        promql(
            "60 * sum by (reason) (rate(fenghuo_collect_dead_letters_total[$__rate_interval]))", "{{reason}}"
        ),
    )
    health.add(
        course(),
        "拒收与不可读 · Refused and unreadable",
        "值班台每分钟不能读或数据库不接受的记录。"
        " Records a minute that a desk cannot read, or that the database does not take.",
        promql("60 * sum(rate(fenghuo_desk_refused_total[$__rate_interval]))", "拒收 · refused"),
        promql("60 * sum(rate(fenghuo_desk_unread_total[$__rate_interval]))", "不可读 · unread"),
    )
    return health


def _choose_heard(board: Board) -> None:
    """The codes of the chosen enterprises for Flux, as a regular expression: of all that there are, any."""
    board.variable(
        "heard",
        "heard",
        """
        SELECT CASE WHEN bool_and(<below> AND <chosen>) THEN '.*'
            ELSE coalesce(string_agg(enterprise, '|') FILTER (WHERE <below> AND <chosen>), '') END
        FROM fenghuo_views.enterprises AS found (enterprise)
        """,
        hidden=True,
    )


def _count_quality(value: int, words: str) -> Query:
    """How many readings of a quality there were: counted series by series, which the storage does, then together."""
    return flux(
        """
        from(bucket: v.defaultBucket)
        |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
        |> filter(fn: (r) => r._measurement == "quality" and r.enterprise =~ /^(${heard:raw})$/)
        |> filter(fn: (r) => r._value == <value>)
        |> aggregateWindow(every: v.windowPeriod, fn: count, createEmpty: false, timeSrc: "_start")
        |> group()
        |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: false)
        |> map(fn: (r) => ({_time: r._time, _value: r._value, _field: "<words>"}))
        |> group(columns: ["_field"])
        """,
        value=str(value),
        words=words,
    )
