"""What may be read of the desk's database: every query takes a connection and obeys a scope."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    false,
    func,
    not_,
    or_,
    select,
    true,
)

from alerting import tables
from alerting.alert import Alert, Answer, Basis, Condition, Detail, Notice, NoticeState, Role, Step
from registry.model import Registry
from streams.finding import Finding, Phase, Tier

ALERT_COLUMNS = tuple(tables.alerts.c[name] for name in Alert.__struct_fields__)
NOTICE_COLUMNS = tuple(tables.outbox.c[name] for name in Notice.__struct_fields__)
STEP_COLUMNS = tuple(tables.steps.c[name] for name in Step.__struct_fields__)

OVER = (Phase.ENDED, Phase.WITHDRAWN)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a reader may see: alerts of one enterprise, alerts of some cells, or (neither given) nothing."""

    enterprise: str | None = None
    cells: frozenset[str] = frozenset()
    system: bool = False  # everything, the system's own alerts too

    def covers(self, enterprise: str, cell: str) -> bool:
        """Whether an alert or value of this enterprise in this cell may be seen."""
        return self.system or (self.enterprise == enterprise and enterprise != "") or cell in self.cells


def subtree(registry: Registry, cell: str) -> frozenset[str]:
    """The ids of the cell and of all below it; empty if there is no such cell."""
    below: dict[str, list[str]] = {}
    for node in registry.cells.values():
        below.setdefault(node.parent, []).append(node.id)
    found = [cell] if cell in registry.cells else []
    for node_id in found:  # grows while it is walked
        found += below.get(node_id, [])
    return frozenset(found)


def alerts(
    connection: Connection,
    scope: Scope,
    *,
    open: bool | None = None,
    tier: Tier | None = None,
    condition: Condition | None = None,
    answer: Answer | None = None,
    enterprise: str | None = None,
    rule: str | None = None,
    raised_from: int | None = None,
    raised_before: int | None = None,
    after: tuple[int, str] | None = None,
    limit: int = 100,
) -> list[Alert]:
    """Alerts, newest first.

    Args:
        open: True only those not closed, False only closed ones.
        tier: this tier or worse.
        raised_from, raised_before: arrival, µs, half-open.
        after: (raised, id) of the last alert of the page before.
    """
    table = tables.alerts.c
    query = select(*ALERT_COLUMNS).where(_seen(scope))
    if open is not None:
        query = query.where(table.closed == 0 if open else table.closed > 0)
    if tier is not None:
        query = query.where(table.tier >= int(tier))
    for column, value in (
        (table.condition, condition),
        (table.answer, answer),
        (table.enterprise, enterprise),
        (table.rule, rule),
    ):
        if value is not None:
            query = query.where(column == value)
    if raised_from is not None:
        query = query.where(table.raised >= raised_from)
    if raised_before is not None:
        query = query.where(table.raised < raised_before)
    if after is not None:
        raised, last = after
        query = query.where(
            or_(table.raised < raised, and_(table.raised == raised, table.id < last))
        )  # spelled out: a row value keeps SQLite from using the index
    query = query.order_by(table.raised.desc(), table.id.desc()).limit(limit)
    return [to_alert(row) for row in connection.execute(query)]


def alert(connection: Connection, scope: Scope, id: str) -> Alert | None:
    """The alert; None if there is none or the scope does not cover it."""
    query = select(*ALERT_COLUMNS).where(tables.alerts.c.id == id, _seen(scope))
    row = connection.execute(query).one_or_none()
    return None if row is None else to_alert(row)


def steps(connection: Connection, scope: Scope, id: str) -> list[Step]:
    """The history of an alert, oldest first; empty if the scope does not cover it."""
    table = tables.steps.c
    query = _of_alert(select(*STEP_COLUMNS), table.alert, scope, id).order_by(table.step)
    return [to_step(row) for row in connection.execute(query)]


def findings(connection: Connection, scope: Scope, id: str) -> list[Finding]:
    """The newest message of every finding of an alert, oldest first; empty if the scope does not cover it."""
    table = tables.findings.c
    query = _of_alert(select(table.body), table.alert, scope, id).order_by(table.since, table.id)
    return [msgspec.json.decode(body, type=Finding) for (body,) in connection.execute(query)]


def notices(connection: Connection, scope: Scope, id: str) -> list[Notice]:
    """All notices of an alert in the order of its steps; empty if the scope does not cover it."""
    table = tables.outbox.c
    query = _of_alert(select(*NOTICE_COLUMNS), table.alert, scope, id).order_by(table.step, table.id)
    return [to_notice(row) for row in connection.execute(query)]


def worklist(
    connection: Connection,
    scope: Scope,
    *,
    rule: str | None = None,
    enterprise: str | None = None,
    open: bool | None = True,
    after: tuple[int, str] | None = None,
    limit: int = 100,
) -> list[Finding]:
    """The newest messages of findings, whether or not they have an alert, the newest first.

    Args:
        rule: a rule ("equipment.overdue"), or all whose names begin so ("equipment.").
        open: True only those that are not over, False only those that are.
        after: (arrival, id) of the last of the page before.
    """
    table = tables.findings.c
    query = select(table.body).where(_seen(scope, tables.findings))
    if rule is not None:
        query = query.where(
            table.rule.startswith(rule, autoescape=True) if rule.endswith(".") else table.rule == rule
        )
    if enterprise is not None:
        query = query.where(table.enterprise == enterprise)
    if open is not None:
        query = query.where(table.phase.not_in(OVER) if open else table.phase.in_(OVER))
    if after is not None:
        arrival, last = after
        query = query.where(or_(table.arrival < arrival, and_(table.arrival == arrival, table.id < last)))
    query = query.order_by(table.arrival.desc(), table.id.desc()).limit(limit)
    return [msgspec.json.decode(body, type=Finding) for (body,) in connection.execute(query)]


def counts(connection: Connection, scope: Scope) -> list[tuple[Tier, Condition, Answer, int]]:
    """How many alerts are open, by tier, condition and answer."""
    table = tables.alerts.c
    by = (table.tier, table.condition, table.answer)
    query = select(*by, func.count()).where(table.closed == 0, _seen(scope)).group_by(*by).order_by(*by)
    return [(Tier(t), Condition(c), Answer(a), n) for t, c, a, n in connection.execute(query)]


def open_system_findings(connection: Connection) -> list[Finding]:
    """The newest messages of findings about the system itself that are not over."""
    return _open_findings(connection, _OF_SYSTEM)


def open_findings_of(connection: Connection, rule: str) -> list[Finding]:
    """The newest messages of a rule's findings that are not over."""
    return _open_findings(connection, tables.findings.c.rule == rule)


def open_findings(connection: Connection) -> list[Finding]:
    """The newest messages of all other findings that are not over; late evidence never is, and is none."""
    return _open_findings(connection, and_(not_(_OF_SYSTEM), not_(tables.findings.c.late)))


_OF_SYSTEM = tables.findings.c.rule.startswith("system.", autoescape=True)


def _open_findings(connection: Connection, which: ColumnElement[bool]) -> list[Finding]:
    table = tables.findings.c
    query = select(table.body).where(which, table.phase.not_in(OVER)).order_by(table.since, table.id)
    return [msgspec.json.decode(body, type=Finding) for (body,) in connection.execute(query)]


def to_alert(row: Row[Any] | Sequence[Any]) -> Alert:
    """An alert from a row of ALERT_COLUMNS."""
    fields = dict(zip(Alert.__struct_fields__, row, strict=True))
    fields["tier"] = Tier(fields["tier"])
    fields["condition"] = Condition(fields["condition"])
    fields["answer"] = Answer(fields["answer"])
    fields["evidence"] = msgspec.json.decode(fields["evidence"], type=tuple[str, ...])
    fields["basis"] = msgspec.json.decode(fields["basis"], type=Basis)
    return Alert(**fields)


def to_step(row: Row[Any] | Sequence[Any]) -> Step:
    """A step from a row of STEP_COLUMNS."""
    fields = dict(zip(Step.__struct_fields__, row, strict=True))
    fields["detail"] = msgspec.json.decode(fields["detail"], type=Detail)
    return Step(**fields)


def to_notice(row: Row[Any] | Sequence[Any]) -> Notice:
    """A notice from a row of NOTICE_COLUMNS."""
    fields = dict(zip(Notice.__struct_fields__, row, strict=True))
    fields["role"] = Role(fields["role"])
    fields["tier"] = Tier(fields["tier"])
    fields["state"] = NoticeState(fields["state"])
    return Notice(**fields)


def _seen(scope: Scope, of: Table = tables.alerts) -> ColumnElement[bool]:
    """The condition that keeps a query of the alerts, or of the findings, within the scope."""
    table = of.c
    if scope.system:
        return true()
    if scope.enterprise:
        return table.enterprise == scope.enterprise
    if scope.cells:
        return table.cell.in_(sorted(scope.cells))
    return false()


def _of_alert(query: Select[Any], column: ColumnElement[Any], scope: Scope, id: str) -> Select[Any]:
    table = tables.alerts
    return query.join(table, table.c.id == column).where(column == id, _seen(scope))
