"""All dashboards, as Grafana takes them: the same for all who have the same data sources."""

import json
from collections.abc import Iterable
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards import (
    control_room,
    data_health,
    duty_officer,
    enterprise,
    mine,
    performance,
    pipeline,
    system,
)
from dashboards.board import Source

ALL = frozenset(Source)

_BOTH = {Source.HISTORY, Source.ALERTS}

BOARDS = (
    (control_room.board, _BOTH),
    (duty_officer.board, {Source.ALERTS}),
    (enterprise.board, {Source.ALERTS}),
    (mine.board, _BOTH),
    (pipeline.board, _BOTH),
    (performance.board, {Source.ALERTS}),
    (data_health.board, {Source.ALERTS}),
    (system.board, {Source.SYSTEM}),
)
"""Each with the data sources without which it would be none; panels of others are left out where they lack."""


def dashboards(alert_url: str, sources: Iterable[Source] = ALL) -> list[dict[str, Any]]:
    """The dashboards of an organisation with these data sources, as JSON values.

    Args:
        alert_url: where an alert is shown, with {id} for its id.
    """
    has = frozenset(sources)
    made = (board(alert_url, has).build() for board, needed in BOARDS if needed <= has)
    return [plain(one) for one in made]


def plain(dashboard: model.Dashboard) -> dict[str, Any]:
    """As JSON values, without what the SDK adds and Grafana's schema does not have: one id for all variables, even."""
    found: dict[str, Any] = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    del found["style"]
    for variable in found.get("templating", {}).get("list", []):
        for key in ("id", "auto", "auto_count", "auto_min"):
            del variable[key]
    return found
