"""Duty officer: where in the grid something is open, what nobody has confirmed, and what is overdue."""

from collections.abc import Iterable

from alerting.words import CATALOGUE
from dashboards import parts
from dashboards.board import Board, Look, Source, coloured, course, list_, names, numbers, rows, series

EVENTS = {
    key.removeprefix("event."): (parts.said(key), "text") for key in CATALOGUE if key.startswith("event.")
}


def board(alert_url: str, sources: Iterable[Source]) -> Board:
    duty = Board(
        "duty-officer",
        "值班员 · Duty officer",
        "辖区值班员：各级网格的警报、未确认、逾期。"
        " For a jurisdiction's duty officer: alerts by grid cell, unconfirmed ones, overdue ones.",
        sources,
        span="24h",
        refresh="10s",
    )
    parts.choose_cell(duty)
    parts.choose_enterprises(duty)
    parts.mark_alerts(duty, "here")
    parts.count_alerts(duty, "here", width=12)
    duty.add(
        numbers(),
        "待办 · To be done",
        "未确认、逾期、状态未知、处理中的警报数。"
        " Alerts unconfirmed, past a deadline that nobody has made good, of unknown state, and confirmed but not over.",
        rows(
            """
            SELECT count(*) FILTER (WHERE answer = 'unconfirmed') AS "未确认 · Unconfirmed",
                count(missed_since) AS "逾期 · Overdue",
                count(*) FILTER (WHERE condition = 'unknown') AS "状态未知 · Unknown",
                count(*) FILTER (WHERE condition = 'active' AND answer <> 'unconfirmed') AS "处理中 · In hand"
            FROM fenghuo_views.alerts WHERE <open> AND <here>
            """
        ),
        look=Look(steps=[(None, "green"), (1, "orange")]),
        height=5,
    )
    duty.add(
        list_(),
        "按网格 · By grid cell",
        "各网格及其下级的未关闭警报；没有的不列。 Open alerts of each cell and all below it, where there are any.",
        rows(
            """
            SELECT repeat('　', cardinality(c.path) - 1) || c.name AS "网格 · Cell", <tiers>,
                count(*) FILTER (WHERE answer = 'unconfirmed') AS "未确认 · Unconfirmed",
                count(missed_since) AS "逾期 · Overdue"
            FROM (
                SELECT tier, answer, missed_since, unnest(own.path) AS cell
                FROM fenghuo_views.alerts AS a JOIN fenghuo_views.cells AS own ON own.id = a.cell
                WHERE <open> AND (<chosen> OR enterprise = '')
            ) AS a
            JOIN fenghuo_views.cells AS c ON c.id = a.cell
            WHERE <below> GROUP BY c.path, c.name ORDER BY c.path
            """,
        ),
        look=Look(fields=parts.COLOURS),
    )
    duty.add(
        course(bars=True),
        "产生的警报 · Alerts raised",
        "按级别。 By tier.",
        series(
            """
            SELECT date_bin('$__interval', raised, 'epoch') AS time, <tiers>
            FROM fenghuo_views.alerts WHERE <raised_within> AND <here> GROUP BY 1 ORDER BY 1
            """
        ),
        look=Look(fields=parts.COLOURS),
    )
    parts.list_alerts(duty, alert_url, "here")
    duty.add(
        list_(),
        "逾期 · Overdue",
        "错过确认、处置或结束时限后仍未补上的警报，最早错过的在前。"
        " Alerts whose deadline to confirm, to act or to be over was missed and not made good, the longest first.",
        rows(
            """
            SELECT tier AS "级别 · Tier", extract(epoch FROM missed_since - now())::float8 AS "剩余 · Left",
                missed AS "时限 · Deadline",
                enterprise_name AS "企业 · Enterprise", subject_name AS "对象 · Subject", words AS "事由 · What",
                answer AS "答复 · Answer", holder AS "负责人 · Holder", enterprise AS code, id
            FROM fenghuo_views.alerts WHERE <open> AND missed_since IS NOT NULL AND <here>
            ORDER BY missed_since
            """
        ),
        look=Look(
            fields={
                **parts.TIER,
                **parts.STATE,
                **parts.LEFT,
                "时限 · Deadline": coloured(names(EVENTS)),
                **parts.to_alert(alert_url),
                **parts.TO_ENTERPRISE,
            }
        ),
        width=12,
    )
    duty.add(
        list_(),
        "最近的动作 · Latest steps",
        "谁在何时做了什么。 Who did what, and when.",
        rows(
            """
            SELECT time AS "时间 · Time", enterprise_name AS "企业 · Enterprise", subject_name AS "对象 · Subject",
                event AS "动作 · Step", actor AS "何人 · Who", enterprise AS code, alert AS id
            FROM fenghuo_views.steps WHERE <time_within> AND <here> ORDER BY time DESC LIMIT 100
            """
        ),
        look=Look(
            fields={
                "动作 · Step": coloured(names(EVENTS)),
                **parts.to_alert(alert_url),
                **parts.TO_ENTERPRISE,
            }
        ),
        width=12,
    )
    return duty
