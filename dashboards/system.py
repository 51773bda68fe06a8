"""System: whether Fenghuo itself keeps up, from its metrics."""

from collections.abc import Iterable

from dashboards import parts
from dashboards.board import Board, Look, Source, course, numbers, promql

UP = ((None, "red"), (1, "green"))
DESKS = "count(fenghuo_desk_up == 1) / count(max_over_time(fenghuo_desk_up[1d])) or vector(0)"
"""A desk that is dead says nothing: it is missed by what it said before."""
BEHIND = ((None, "green"), (5, "yellow"), (30, "red"))


def board(_alert_url: str, sources: Iterable[Source]) -> Board:
    system = Board(
        "system",
        "系统 · System",
        "烽火自身：采集、判断、值班台、通知和接口。 Fenghuo itself: collecting, judging, desks, notices and the API.",
        sources,
        span="3h",
        refresh="10s",
    )
    system.add(
        numbers(),
        "在岗 · At work",
        "1 为正常：判断、值班台（一天内出现过的值班台中在岗的比例）、数据库。"
        " 1 is well: judging, desks (the share that works, of those heard within a day), their database.",
        promql("min(fenghuo_cluster_judges) or vector(0)", "判断 · judging"),
        promql(DESKS, "值班台 · desks"),
        promql("min(fenghuo_desk_readable) or vector(0)", "数据库 · database"),
        look=Look(steps=UP),
        width=8,
        height=5,
    )
    system.add(
        numbers(),
        "落后 · Behind",
        "值班台距各来源最新数据的最长时间。 How far the desks are behind the newest of the slowest source.",
        promql("max(time() - fenghuo_source_time_seconds)", "落后 · behind"),
        look=Look(steps=BEHIND, unit="s", decimals=1),
        width=8,
        height=5,
    )
    system.add(
        numbers(),
        "听得到 · Hearing",
        "正在收听的分区数。 Slots whose collector hears the broker.",
        promql("sum(fenghuo_collect_listening) or vector(0)", "分区 · slots"),
        width=8,
        height=5,
    )
    system.add(
        course(),
        "读数 · Readings",
        "每秒收到的读数和消息。 Readings and messages a second.",
        promql("sum(rate(fenghuo_collect_readings_total[$__rate_interval]))", "读数 · readings"),
        promql("sum(rate(fenghuo_collect_messages_total[$__rate_interval]))", "消息 · messages"),
        look=Look(unit="ops"),
    )
    system.add(
        course(),
        "判断 · Judging",
        "每秒判断的读数，按结果；检查点用时。 Readings judged a second by what became of them; time of a checkpoint.",
        promql("sum by (what) (rate(fenghuo_evaluate_records_total[$__rate_interval]))", "{{what}}"),
        promql("max(fenghuo_evaluate_checkpoint_seconds)", "检查点（秒） · checkpoint (s)"),
    )
    system.add(
        course(),
        "从数据到警报 · From data to alert",
        "从发现的时刻到写入警报。 From a finding's time to its commit.",
        promql(
            'max by (quantile) (fenghuo_desk_alert_latency_seconds{quantile=~"0.5|0.99"})', "p {{quantile}}"
        ),
        look=Look(unit="s"),
    )
    system.add(
        course(),
        "值班台的一轮 · A desk's round",
        "一次事务的用时。 Of a transaction of findings and deadlines.",
        promql("max by (quantile) (fenghuo_desk_round_latency_seconds)", "p {{quantile}}"),
        look=Look(unit="s"),
    )
    system.add(
        course(),
        "未处理 · Waiting",
        "尚未写入的发现、Kafka 中的记录。 Findings not yet written, records under way and behind in Kafka.",
        promql("sum(fenghuo_desk_waiting)", "值班台 · desks"),
        promql("sum(fenghuo_desk_lag)", "Kafka 落后 · Kafka lag"),
        promql("sum(fenghuo_collect_undelivered)", "采集 · collectors"),
    )
    system.add(
        course(),
        "警报 · Alerts",
        "每小时新警报、延迟的动作、缺失的消息。 New alerts, late steps and missing messages an hour.",
        promql("3600 * sum(rate(fenghuo_desk_raised_total[$__rate_interval]))", "新警报 · raised"),
        promql("3600 * sum(rate(fenghuo_desk_late_total[$__rate_interval]))", "延迟 · late"),
        promql("3600 * sum(rate(fenghuo_desk_gaps_total[$__rate_interval]))", "缺失 · gaps"),
    )
    system.add(
        course(),
        "未关闭警报 · Open alerts",
        "全部辖区，按级别。 Of all jurisdictions, by tier.",
        promql("sum by (tier) (max by (tier, condition, answer) (fenghuo_alerts_open))", "{{tier}}级"),
        look=Look(fields=parts.COLOURS),
    )
    system.add(
        course(),
        "通知 · Notices",
        "发件箱中的通知，按状态；每分钟的发送尝试。 Notices in the outbox by state; attempts a minute.",
        promql("max by (state) (fenghuo_notices)", "{{state}}"),
        promql(
            "60 * sum by (channel, outcome) (rate(fenghuo_notice_attempts_total[$__rate_interval]))",
            "{{channel}} {{outcome}}",
        ),
    )
    system.add(
        course(),
        "分区 · Slots",
        "采集和判断各占的分区；重新分配。 Slots that collectors and workers have; rebalances.",
        promql("sum(fenghuo_collect_slots)", "采集 · collectors"),
        promql("sum(fenghuo_evaluate_slots)", "判断 · workers"),
        promql("sum(increase(fenghuo_evaluate_rebalances_total[$__rate_interval]))", "重新分配 · rebalances"),
    )
    system.add(
        course(),
        "接口 · API",
        "每秒的应答，按状态码。 Answers a second, by status.",
        promql("sum by (status) (rate(fenghuo_http_answers_total[$__rate_interval]))", "{{status}}"),
        look=Look(unit="reqps"),
    )
    return system
