"""What several dashboards share: how fields look, choices, and panels of alerts and of values.

``where`` is "one" or "here" of pieces.PIECES: of the one chosen enterprise, or of all that are chosen.
"""

from collections.abc import Mapping, Sequence

from alerting.words import CATALOGUE
from dashboards.board import (
    COLOURED,
    Board,
    Look,
    Override,
    Query,
    bars,
    coloured,
    course,
    flux,
    joined,
    list_,
    names,
    rows,
    series,
    states,
    tier_names,
)
from dashboards.pieces import EVERY, PIECES, TIERS, filled


def said(key: str) -> str:
    """A word of the catalogue in both languages."""
    return " · ".join(CATALOGUE[key])


# ---- how fields look -------------------------------------------------------------------------------

_CONDITIONS = {"active": "red", "unknown": "purple", "ended": "green"}
_ANSWERS = {"unconfirmed": "red", "confirmed": "yellow", "acted": "green"}

TIER: Mapping[str, Override] = {"级别 · Tier": coloured(tier_names())}
STATE: Mapping[str, Override] = {
    "状态 · Condition": coloured(names({k: (said(f"condition.{k}"), c) for k, c in _CONDITIONS.items()})),
    "答复 · Answer": coloured(names({k: (said(f"answer.{k}"), c) for k, c in _ANSWERS.items()})),
}
LEFT: Mapping[str, Override] = {
    "剩余 · Left": {
        "unit": "dthms",
        "decimals": 0,
        "color": {"mode": "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [
                {"value": None, "color": "red"},
                {"value": 0, "color": "orange"},
                {"value": 120, "color": "green"},
            ],
        },
        **COLOURED,
    }
}
"""Seconds that are left: below 0, and red, since a deadline was missed."""

COLOURS: Mapping[str, Override] = {
    f"{name}级": {"color": {"mode": "fixed", "fixedColor": color}} for name, color in TIERS.values()
}
"""Columns or series that count a tier each."""


def link(url: str, title: str) -> Override:
    """A field that leads somewhere."""
    return {"links": [{"title": title, "url": url, "targetBlank": True}]}


def by_id(alert_url: str) -> Mapping[str, Override]:
    """The column that leads to an alert, of a table where not every row has one. alert_url: with {id}."""
    return {"id": link(alert_url.replace("{id}", "${__data.fields.id}"), "打开警报 · Open the alert")}


def to_alert(alert_url: str) -> Mapping[str, Override]:
    """The columns that lead to an alert, of a table that has its id in every row."""
    lead = by_id(alert_url)
    return {"对象 · Subject": lead["id"], **lead}


TO_ENTERPRISE: Mapping[str, Override] = {
    "企业 · Enterprise": link(
        "/d/fenghuo-enterprise?var-enterprise=${__data.fields.code}", "企业详情 · Enterprise detail"
    )
}
"""The column that leads to an enterprise's dashboard, of a table that has its code."""

# ---- choices ---------------------------------------------------------------------------------------


def choose_cell(board: Board) -> None:
    board.variable(
        "cell",
        "网格 · Cell",
        "SELECT name || ' (' || id || ')' AS __text, id AS __value FROM fenghuo_views.cells ORDER BY path",
        all=True,
        every=EVERY,
    )


_ENTERPRISES = """
SELECT name || ' (' || code || ')' AS __text, code AS __value FROM fenghuo_views.enterprises
WHERE <below> <having> ORDER BY name, code
"""


def choose_enterprise(board: Board, *, kinds: Sequence[str] = ()) -> None:
    """An enterprise of the chosen cells; one that has points of these kinds, if any are given."""
    having = "AND code IN (SELECT enterprise FROM fenghuo_views.points WHERE <kinds>)" if kinds else ""
    board.variable(
        "enterprise", "企业 · Enterprise", _ENTERPRISES, having=filled(having, {"kinds": _of(kinds)})
    )


def choose_enterprises(board: Board) -> None:
    """Enterprises of the chosen cells, at first all."""
    board.variable("enterprises", "企业 · Enterprises", _ENTERPRISES, having="", all=True, every=EVERY)


def choose_points(board: Board, name: str, label: str, *kinds: str, hidden: bool = False) -> None:
    """Points of the chosen enterprise, of these kinds."""
    board.variable(
        name,
        label,
        """
        SELECT name || ' (' || id || ')' AS __text, id AS __value FROM fenghuo_views.points
        WHERE <one> AND <kinds> ORDER BY id
        """,
        kinds=_of(kinds),
        all=True,
        hidden=hidden,
    )


def _of(kinds: Sequence[str]) -> str:
    return f"kind IN ({', '.join(repr(kind) for kind in kinds)})" if kinds else "true"


# ---- alerts ----------------------------------------------------------------------------------------


def mark_alerts(board: Board, where: str) -> None:
    """Alerts as marks on every chart."""
    board.annotate(
        """
        SELECT since AS time, coalesce(ended, closed) AS timeend, subject_name || ' ' || words AS text,
            enterprise_name AS tags
        FROM fenghuo_views.alerts WHERE tier = <tier> AND <since_within> AND <where> ORDER BY since
        """,
        where=PIECES[where],
    )


def count_alerts(board: Board, where: str, *, width: int = 24) -> None:
    """How many alerts of each tier are open."""
    board.add(
        bars(),
        "各级未关闭警报 · Open alerts by tier",
        "I级红、II级橙、III级黄、IV级蓝。 Tier I is red, II orange, III yellow, IV blue.",
        rows("SELECT <tiers> FROM fenghuo_views.alerts WHERE <open> AND <where>", where=PIECES[where]),
        look=Look(fields=COLOURS, minimum=0),
        width=width,
        height=5,
    )


def list_alerts(board: Board, alert_url: str, where: str, *, width: int = 24, height: int = 10) -> None:
    """All open alerts, the worst first, with the time that is left to confirm them."""
    board.add(
        list_(),
        "未关闭警报 · Open alerts",
        "剩余：距确认时限；红色为自错过时限以来。点对象打开警报。"
        " Left: until the confirm deadline; red: since a deadline was missed. The subject leads to the alert.",
        rows(
            """
            SELECT tier AS "级别 · Tier",
                extract(epoch FROM coalesce(missed_since, confirm_due) - now())::float8 AS "剩余 · Left",
                enterprise_name AS "企业 · Enterprise", subject_name AS "对象 · Subject", words AS "事由 · What",
                round(value::numeric, 3)::float8 AS "值 · Value", engineering_unit AS "单位 · Unit",
                condition AS "状态 · Condition", answer AS "答复 · Answer", holder AS "负责人 · Holder",
                raised AS "产生 · Raised", enterprise AS code, id
            FROM fenghuo_views.alerts WHERE <open> AND <where> ORDER BY tier DESC, raised
            """,
            where=PIECES[where],
        ),
        look=Look(fields={**TIER, **STATE, **LEFT, **to_alert(alert_url), **TO_ENTERPRISE}),
        width=width,
        height=height,
    )


def past_alerts(board: Board, alert_url: str, where: str) -> None:
    """All alerts that were raised in the chosen time."""
    board.add(
        list_(),
        "警报历史 · Alerts in this time",
        "所选时间内产生的警报。 Alerts raised within the chosen time.",
        rows(
            """
            SELECT tier AS "级别 · Tier", raised AS "产生 · Raised", ended AS "结束 · Ended", closed AS "关闭 · Closed",
                subject_name AS "对象 · Subject", words AS "事由 · What", condition AS "状态 · Condition",
                answer AS "答复 · Answer", holder AS "负责人 · Holder", clause AS "依据 · Clause", id
            FROM fenghuo_views.alerts WHERE <raised_within> AND <where> ORDER BY raised DESC LIMIT 500
            """,
            where=PIECES[where],
        ),
        look=Look(fields={**TIER, **STATE, **to_alert(alert_url)}),
        width=24,
    )


def states_of_units(board: Board, where: str, *, width: int = 12, height: int = 8) -> None:
    """The worst tier of each production unit over time."""
    board.add(
        states(),
        "装置状态 · States by unit",
        "各装置当时最严重的警报级别；「其他」为不属于装置的测点。"
        ' The worst tier of each unit at that time; "other" is what belongs to no unit.',
        series(
            """
            SELECT at AS time, units.name AS metric, coalesce(max(alerts.tier), 0) AS value
            FROM generate_series($__timeFrom()::timestamptz, $__timeTo()::timestamptz, '$__interval') AS at
            CROSS JOIN (SELECT * FROM fenghuo_views.units WHERE <where>) AS units
            LEFT JOIN (
                SELECT * FROM fenghuo_views.alerts
                WHERE <where> AND (ended_us = 0 OR ended_us > $__unixEpochNanoFrom() / 1000)
            ) AS alerts ON alerts.enterprise = units.enterprise AND alerts.unit = units.unit
                AND alerts.since <= at AND coalesce(alerts.ended, alerts.closed, now()) > at
            GROUP BY at, units.enterprise, units.name ORDER BY at
            """,
            where=PIECES[where],
        ),
        look=Look(tiers=True),
        width=width,
        height=height,
    )


# ---- values ----------------------------------------------------------------------------------------


def readings(points: str, *, each: str = "mean") -> Query:
    """The course of the chosen points. points: the variable that names them; each: what is shown of a pixel's time."""
    return flux(
        """
        <readings>
        |> filter(fn: (r) => r._field =~ /^${<points>:regex}$/)
        |> group(columns: ["_field"])
        |> aggregateWindow(every: v.windowPeriod, fn: <each>, createEmpty: false)
        |> keep(columns: ["_time", "_value", "_field"])
        """,
        points=points,
        each=each,
    )


def newest(points: str) -> Query:
    """The newest values of the chosen points as rows: point, value and its time."""
    return flux(
        """
        <readings>
        |> filter(fn: (r) => r._field =~ /^${<points>:regex}$/)
        |> last()
        |> group()
        |> keep(columns: ["_field", "_value", "_time"])
        |> rename(columns: {_field: "point", _value: "值 · Value", _time: "读于 · Read"})
        """,
        points=points,
    )


def limits(points: str) -> Query:
    """The limits of the chosen points, each as a level line."""
    return series(
        """
        SELECT at AS time, level || ' ' || value AS metric, value FROM (
            SELECT DISTINCT level, value FROM fenghuo_views.points,
            LATERAL (VALUES ('HH', hh), ('H', h), ('L', l), ('LL', ll)) AS found (level, value)
            WHERE <one> AND id = ANY(ARRAY[${<points>:sqlstring}]::text[]) AND value IS NOT NULL
        ) AS limits, unnest(ARRAY[$__timeFrom()::timestamptz, $__timeTo()::timestamptz]) AS at
        ORDER BY at, level
        """,
        points=points,
    )


LIMITS: Mapping[str, Override] = {
    "/^(LL|L|H|HH) /": {
        "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
        "custom.lineWidth": 1,
        "color": {"mode": "fixed", "fixedColor": "red"},
    }
}
"""Level lines of limits are dashed."""


def trend(
    board: Board,
    title: str,
    description: str,
    points: str,
    *,
    each: str = "mean",
    width: int = 12,
    height: int = 8,
) -> None:
    """The chosen points over time, and their limits."""
    board.add(
        course(),
        title,
        description,
        readings(points, each=each),
        limits(points),
        look=Look(fields=LIMITS),
        width=width,
        height=height,
    )


def live_values(board: Board, points: str = "point", *, width: int = 12, height: int = 8) -> None:
    """The newest value of each chosen point, beside its limits and the worst tier that it has now."""
    board.add(
        joined("point"),
        "实时值 · Live values",
        "所选时间内的最新读数、限值和当前级别；没有值的测点没有读数。"
        " The newest reading within the chosen time, limits and tier now; a point without a value has none.",
        rows(
            """
            SELECT id AS point, name AS "名称 · Name", unit AS "装置 · Unit", worst AS "级别 · Tier",
                ll AS "LL", l AS "L", h AS "H", hh AS "HH", engineering_unit AS "单位 · Measure"
            FROM fenghuo_views.points LEFT JOIN (
                SELECT subject, max(tier) AS worst FROM fenghuo_views.alerts WHERE <open> AND <one> GROUP BY subject
            ) AS alerts ON subject = 'point:' || id
            WHERE <one> AND id = ANY(ARRAY[${<points>:sqlstring}]::text[]) ORDER BY id
            """,
            points=points,
        ),
        newest(points),
        look=Look(fields={**TIER, "值 · Value": {"decimals": 2}}),
        width=width,
        height=height,
    )
