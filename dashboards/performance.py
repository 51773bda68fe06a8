"""Alarm performance: whether there are more alarms than people can answer, by ISA-18.2."""

from collections.abc import Iterable

from dashboards import parts
from dashboards.board import Board, Look, Source, bars, course, list_, numbers, rows, series
from dashboards.pieces import filled

BUSY = ((None, "green"), (1, "yellow"), (2, "orange"), (10, "red"))
"""Alarms in 10 minutes for one operator: 1 acceptable, 2 the most that is manageable, above 10 a flood (ISA-18.2)."""

OPERATORS = filled(
    "SELECT count(*) FROM fenghuo_views.enterprises AS found (enterprise) WHERE <below> AND <chosen>", {}
)


def board(alert_url: str, sources: Iterable[Source]) -> Board:
    load = Board(
        "performance",
        "报警绩效 · Alarm performance",
        "按 ISA-18.2：每位操作员每十分钟的报警、洪泛、抖动、长期报警、级别分布。"
        " By ISA-18.2: alarms per operator in ten minutes, floods, chattering, standing alarms, shares of tiers.",
        sources,
        span="7d",
        refresh="5m",
    )
    parts.choose_cell(load)
    parts.choose_enterprises(load)
    load.add(
        numbers(),
        "每位操作员每十分钟 · Per operator in 10 minutes",
        "平均不超过 1 可接受，2 为上限；超过 10 为洪泛。一家企业算一位操作员。"
        " A mean of 1 is acceptable, 2 the most; above 10 is a flood. An enterprise counts as one operator.",
        rows(
            """
            SELECT coalesce(sum(n), 0)::float8 / greatest(1, (<operators>)
                    * extract(epoch FROM $__timeTo()::timestamptz - $__timeFrom()::timestamptz)::float8 / 600)
                AS "平均 · Mean", coalesce(max(n), 0) AS "最多 · Most"
            FROM (
                SELECT count(*) AS n FROM fenghuo_views.steps WHERE <rings>
                GROUP BY enterprise, date_bin('10 minutes', time, 'epoch')
            ) AS slots
            """,
            operators=OPERATORS,
        ),
        look=Look(steps=BUSY, decimals=2),
        width=8,
        height=6,
    )
    load.add(
        bars(),
        "级别分布 · Shares of tiers",
        "所选时间内产生的警报。越严重应越少。 Of the alerts raised in this time; the worse, the fewer there should be.",
        rows(
            """
            SELECT <shares> FROM fenghuo_views.alerts WHERE <raised_within> AND <here>
            """
        ),
        look=Look(unit="percent", fields=parts.COLOURS, minimum=0, decimals=0),
        width=8,
        height=6,
    )
    load.add(
        numbers(),
        "确认用时 · Time to confirm",
        "所选时间内被确认的警报：中位数、95% 分位，以及逾期次数。"
        " Of the alerts confirmed in this time: median, 95 %, and how often a deadline passed unconfirmed.",
        rows(
            """
            SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS "中位数 · Median",
                percentile_cont(0.95) WITHIN GROUP (ORDER BY took) AS "95%", (
                    SELECT count(*) FROM fenghuo_views.steps
                    WHERE event = 'confirm_due' AND <time_within> AND <here>
                ) AS "逾期 · Overdue"
            FROM (
                SELECT extract(epoch FROM confirmed - raised)::float8 AS took FROM fenghuo_views.alerts
                WHERE <confirmed_within> AND <here>
            ) AS answers
            """
        ),
        look=Look(unit="dthms", fields={"逾期 · Overdue": {"unit": "none"}}),
        width=8,
        height=6,
    )
    load.add(
        course(),
        "每十分钟的报警 · Alarms in ten minutes",
        "最忙的操作员，和所有操作员的平均。 The busiest operator, and the mean of all.",
        series(
            """
            SELECT slot AS time, coalesce(max(n), 0) AS "最忙 · Busiest",
                coalesce(sum(n), 0)::float8 / greatest(1, (<operators>)) AS "平均 · Mean"
            FROM generate_series(
                date_bin('10 minutes', $__timeFrom()::timestamptz, 'epoch'), $__timeTo()::timestamptz, '10 minutes'
            ) AS slot
            LEFT JOIN (
                SELECT date_bin('10 minutes', time, 'epoch') AS slot, count(*) AS n
                FROM fenghuo_views.steps WHERE <rings> GROUP BY 1, enterprise
            ) AS slots USING (slot)
            GROUP BY slot ORDER BY slot
            """,
            operators=OPERATORS,
        ),
        width=24,
    )
    load.add(
        list_(),
        "洪泛 · Floods",
        "自十分钟内超过 10 次起，至少于 5 次止。 From more than 10 in ten minutes until fewer than 5.",
        rows(
            """
            WITH slots AS (
                SELECT enterprise, enterprise_name, date_bin('10 minutes', time, 'epoch') AS slot, count(*) AS n
                FROM fenghuo_views.steps WHERE <rings> GROUP BY 1, 2, 3 HAVING count(*) >= 5
            ), runs AS (
                SELECT *, slot - row_number() OVER (PARTITION BY enterprise ORDER BY slot) * interval '10 min' AS run
                FROM slots
            ), floods AS (
                SELECT *, min(slot) FILTER (WHERE n > 10) OVER (PARTITION BY enterprise, run) AS began FROM runs
            )
            SELECT began AS "开始 · Began", max(slot) + interval '10 minutes' AS "结束 · Ended",
                enterprise_name AS "企业 · Enterprise", sum(n)::float8 AS "报警 · Alarms", max(n) AS "最多 · Most",
                enterprise AS code
            FROM floods WHERE slot >= began GROUP BY enterprise, enterprise_name, run, began ORDER BY began DESC
            """
        ),
        look=Look(fields=parts.TO_ENTERPRISE),
    )
    load.add(
        list_(),
        "抖动 · Chattering",
        "一分钟内三次及以上的报警。 Alarms that come three times or more within a minute.",
        rows(
            """
            SELECT enterprise_name AS "企业 · Enterprise", subject_name AS "对象 · Subject", words AS "事由 · What",
                count(*) AS "次数 · Times", max(time) AS "最近 · Latest", enterprise AS code, max(alert) AS id
            FROM (
                SELECT *, time - lag(time, 2) OVER (PARTITION BY enterprise, rule, subject ORDER BY time, step) AS took
                FROM fenghuo_views.steps WHERE <rings>
            ) AS rings WHERE took <= interval '1 minute'
            GROUP BY enterprise, enterprise_name, rule, subject, subject_name, words ORDER BY 4 DESC
            """
        ),
        look=Look(fields={**parts.to_alert(alert_url), **parts.TO_ENTERPRISE}),
    )
    load.add(
        list_(),
        "报警最多的十个 · Top ten",
        "所选时间内报警最多的对象，及其占比。 What rings most in this time, and its share of all.",
        rows(
            """
            SELECT enterprise_name AS "企业 · Enterprise", subject_name AS "对象 · Subject", words AS "事由 · What",
                count(*) AS "次数 · Times", 100.0 * count(*) / sum(count(*)) OVER () AS "占比 · Share",
                enterprise AS code, max(alert) AS id
            FROM fenghuo_views.steps WHERE <rings>
            GROUP BY enterprise, enterprise_name, rule, subject, subject_name, words ORDER BY 4 DESC LIMIT 10
            """
        ),
        look=Look(
            fields={
                "占比 · Share": {"unit": "percent", "decimals": 0},
                **parts.to_alert(alert_url),
                **parts.TO_ENTERPRISE,
            }
        ),
    )
    load.add(
        list_(),
        "长期报警 · Standing alarms",
        "持续超过 24 小时仍未结束的警报。 Alerts that have been active for more than 24 hours.",
        rows(
            """
            SELECT tier AS "级别 · Tier", extract(epoch FROM now() - since)::float8 AS "持续 · For",
                enterprise_name AS "企业 · Enterprise", subject_name AS "对象 · Subject", words AS "事由 · What",
                answer AS "答复 · Answer", enterprise AS code, id
            FROM fenghuo_views.alerts
            WHERE <open> AND condition <> 'ended' AND since < now() - interval '24 hours' AND <here>
            ORDER BY since
            """
        ),
        look=Look(
            fields={
                "持续 · For": {"unit": "s"},
                **parts.TIER,
                **parts.STATE,
                **parts.to_alert(alert_url),
                **parts.TO_ENTERPRISE,
            }
        ),
    )
    load.add(
        course(bars=True),
        "每天 · Each day",
        "每天（自零时）产生的警报，按级别。 Alerts raised each day, from midnight on, by tier.",
        series(
            """
            SELECT raised_day AS time, <tiers>
            FROM fenghuo_views.alerts WHERE <raised_within> AND <here> GROUP BY 1 ORDER BY 1
            """
        ),
        look=Look(fields=parts.COLOURS),
        width=24,
    )
    return load
