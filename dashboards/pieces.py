"""Pieces of queries that many of them share: <name> in a query stands for what PIECES has under that name."""

import re
from collections.abc import Mapping

TIERS = {4: ("I", "red"), 3: ("II", "orange"), 2: ("III", "yellow"), 1: ("IV", "blue")}
"""By number as in the database, the worst first: what people call a tier, and its colour."""


def _within(time: str) -> str:
    """That it lies in the time that the dashboard looks at. Of the desk's own numbers, which may have an index."""
    return f"{time}_us BETWEEN $__unixEpochNanoFrom() / 1000 AND $__unixEpochNanoTo() / 1000"


EVERY = "''"
"""What stands for "All" among what is chosen: no filter, and not a list of what there is to choose, in which something
that was removed, moved on or is new would not be. PostgreSQL sees at once that it lets every row through."""

_CELLS = "ARRAY[${cell:sqlstring}]::text[]"  # with its type: it is empty where there is nothing to choose
_CODES = "ARRAY[${enterprises:sqlstring}]::text[]"
_UNDER = "cell IN (SELECT id FROM fenghuo_views.cells WHERE path && "
_BELOW = f"({EVERY} = ANY({_CELLS}) OR {_UNDER}{_CELLS}))"
_CHOSEN = f"({EVERY} = ANY({_CODES}) OR enterprise = ANY({_CODES}))"
_HERE = f"({_BELOW} OR cell = '') AND ({_CHOSEN} OR enterprise = '')"

PIECES: Mapping[str, str] = {
    "below": _BELOW,  # in a chosen cell, or below it
    "chosen": _CHOSEN,  # of the chosen enterprises
    "here": _HERE,  # and in a chosen cell; and what concerns a cell, or Fenghuo itself
    "one": "enterprise = ${enterprise:sqlstring}",  # of the one chosen enterprise
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
