"""Pieces of queries that many of them share: <name> in a query stands for what PIECES has under that name."""

import re
from collections.abc import Mapping

TIERS = {4: ("I", "red"), 3: ("II", "orange"), 2: ("III", "yellow"), 1: ("IV", "blue")}
"""By number as in the database, the worst first: what people call a tier, and its colour."""


def _within(time: str) -> str:
    """That it lies in the time that the dashboard looks at. Of the desk's own numbers, which may have an index."""
    return f"{time}_us BETWEEN $__unixEpochNanoFrom() / 1000 AND $__unixEpochNanoTo() / 1000"


_BELOW = "cell IN (SELECT id FROM fenghuo_views.cells WHERE path && ARRAY[${cell:sqlstring}])"
_HERE = f"({_BELOW} OR cell = '') AND (enterprise IN (${{enterprise:sqlstring}}) OR enterprise = '')"

PIECES: Mapping[str, str] = {
    "below": _BELOW,  # in a chosen cell, or below it
    "here": _HERE,  # of the chosen enterprises; and what concerns a cell, or Fenghuo itself
    "one": "enterprise = ${enterprise:sqlstring}",  # of the one chosen enterprise
    "overdue": "least(confirm_due, action_due, return_due)",  # an alert's first deadline; NULL if it has none
    "rings": f"event IN ('begun', 'worsened', 'reopened') AND {_within('time')} AND {_HERE}",  # people are called
    "open": "closed_us = 0",
    "going_on": "phase NOT IN ('ended', 'withdrawn')",  # of findings
    **{f"{time}_within": _within(time) for time in ("raised", "since", "confirmed", "arrival", "time")},
    "tiers": ", ".join(
        f'count(*) FILTER (WHERE tier = {number}) AS "{name}级"' for number, (name, _) in TIERS.items()
    ),
    "shares": ", ".join(
        f'100.0 * count(*) FILTER (WHERE tier = {number}) / greatest(1, count(*)) AS "{name}级"'
        for number, (name, _) in TIERS.items()
    ),
    "readings": (  # of the one chosen enterprise
        "from(bucket: v.defaultBucket)\n|> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n"
        '|> filter(fn: (r) => r._measurement == "readings" and r.enterprise == "${enterprise:raw}")'
    ),
}


def filled(text: str, given: Mapping[str, str]) -> str:
    """A query without its indentation, and with what stands for each <name> in it, given or of PIECES.

    Raises KeyError for an unknown name.
    """
    known = {**PIECES, **given}
    text = "\n".join(line.strip() for line in text.strip().splitlines())
    return re.sub(r"<([a-z_]+)>", lambda found: known[found[1]], text)
