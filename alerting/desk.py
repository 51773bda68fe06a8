"""The desk: one transaction for each round of findings and for each answer of a person."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec
from msgspec.structs import asdict, replace
from sqlalchemy import (
    ClauseElement,
    Connection,
    Engine,
    Insert,
    Update,
    bindparam,
    func,
    insert,
    select,
    text,
    union_all,
    update,
)

from alerting import lifecycle, tables, words
from alerting.alert import Alert, Detail, Notice, Receipt, Role, Step
from alerting.ladder import Ladder
from alerting.lifecycle import NOBODY, REOPEN_WITHIN, Call, Event, Happening, Policy, Result
from alerting.store import ALERT_COLUMNS, OVER, to_alert
from registry.database import (
    DatabaseBusy,
    DatabaseError,
    DatabaseUnwritable,
    Watch,
    execute_many,
    fetch,
    reading,
    writing,
)
from registry.model import Person, Registry
from streams.finding import Finding, Tier

__all__ = ["DatabaseBusy", "DatabaseError", "DatabaseUnwritable", "Desk", "NoSuchAlert", "NotAsked", "Work"]


class NoSuchAlert(DatabaseError):
    """There is no alert of this id."""


class NotAsked(DatabaseError):
    """This person has no part in the alert; nothing was recorded."""


class Work(msgspec.Struct, kw_only=True):
    """What one round did, for the metrics."""

    applied: int = 0  # findings' messages applied
    ignored: int = 0  # messages that it had already
    gaps: int = 0  # messages before which some are missing: an error, recorded in the step
    raised: int = 0  # new alerts
    deadlines: int = 0  # deadlines handled
    late: int = 0  # steps taken more than 2 s after they were due
    notices: int = 0  # put into the outbox


class Desk:
    """Findings to alerts to notices. Holds no state but caches; any number of processes may have one."""

    def __init__(self, engine: Engine, registry: Registry) -> None:
        self._engine = engine
        self._ladder = Ladder(registry)
        self._next_due = Watch(engine, _read_next_due)

    def set_registry(self, registry: Registry) -> None:
        """Judge by this registry from the next transaction on."""
        self._ladder = Ladder(registry)

    def round(self, findings: Sequence[Finding], offset: int | None, now: int) -> Work:
        """Absorb the findings, do all deadlines due by ``now``, store the journal offset: one transaction.

        Messages that it already has are ignored, so a replay changes nothing; the offset never falls.

        Raises:
            DatabaseBusy: another process holds the database; nothing was done.
            DatabaseUnwritable: the disk is full, read-only or broken; nothing was done.
        """
        with writing(self._engine) as connection:
            sheet = _Sheet(connection, self._ladder, now)
            sheet.load(findings)
            for finding in findings:
                sheet.absorb(finding)
            sheet.deadlines()
            sheet.write()
            if offset is not None:
                _write_state(connection, "offset", offset)
        return sheet.work

    def next_deadline(self) -> int | None:
        """When ``round`` next has something to do by itself, µs; None if nothing is pending."""
        return self._next_due.look()

    def confirm(self, alert: str, person: str, now: int, note: str = "") -> Receipt:
        """The person says that they have it.

        An asked person's confirm stops the clock; a told person's is recorded as seen; a second one, and one
        on a closed alert, is recorded.

        Raises:
            NoSuchAlert, NotAsked, DatabaseBusy, DatabaseUnwritable: nothing was done.
            ValueError: the note holds a NUL character, which not every database takes.
        """
        return self._answer(Event.CONFIRM, alert, person, now, note)

    def take_over(self, alert: str, person: str, now: int, note: str = "") -> Receipt:
        """The person, asked or not, takes the alert: they hold it from now on, and the clock stops.

        Raises:
            NoSuchAlert, DatabaseBusy, DatabaseUnwritable: nothing was done.
            NotAsked: the registry does not know the person.
            ValueError: the note holds a NUL character.
        """
        if self._ladder.person(person) is None:
            raise NotAsked(f"{person!r} is not a person of the registry, so cannot take over {alert}")
        return self._answer(Event.TAKE_OVER, alert, person, now, note)

    def act(self, alert: str, person: str, now: int, note: str) -> Receipt:
        """The record of what was done about it, by the holder or someone who was asked.

        A told person's is recorded as seen.

        Raises:
            NoSuchAlert, NotAsked, DatabaseBusy, DatabaseUnwritable: nothing was done.
            ValueError: the note is empty, or holds a NUL character.
        """
        if not note.strip():
            raise ValueError("an action's note says what was done; it is empty")
        return self._answer(Event.ACT, alert, person, now, note)

    def _answer(self, event: Event, id: str, person: str, now: int, note: str) -> Receipt:
        if "\0" in note:
            raise ValueError("the note holds a NUL character: write it without")
        with writing(self._engine) as connection:
            sheet = _Sheet(connection, self._ladder, now)
            sheet.load_alerts([id])
            if id not in sheet.alerts:
                raise NoSuchAlert(f"no alert {id!r}")
            # The lock was waited for, and what was done meanwhile comes first in the history.
            now = sheet.now = max(now, connection.execute(_READ_NEWEST_STEP, {"alert": id}).scalar_one())
            sheet.run_deadlines(id, now)  # what was due before the answer is done before it
            alert = sheet.alerts[id]
            roles = sheet.roles(id, person)
            asked = Role.ASKED in roles
            if not asked and not roles and event is not Event.TAKE_OVER:
                raise NotAsked(f"{person!r} was neither asked nor told of alert {id}")
            happening = Happening(event, person=person, asked=asked, note=note)
            outcome = lifecycle.outcome(lifecycle.state_of(alert), happening)
            sheet.apply(alert, happening)
            sheet.write()
        alert = sheet.alerts[id]
        return Receipt(outcome=outcome, step=alert.step, alert=alert)


def record_undelivered(connection: Connection, notices: Iterable[Notice], now: int) -> None:
    """A step on its alert for each of these notices, which the sender has given up."""
    for notice in notices:
        alert = to_alert(connection.execute(_READ_ALERTS, {"ids": [notice.alert]}).one())
        note = f"{notice.person}, {notice.channel}: {notice.error}"
        result = lifecycle.step(alert, Happening(Event.UNDELIVERED, note=note), lambda _: NOBODY, now)
        assert result is not None
        execute_many(connection, _UPDATE_ALERTS, [_moved(_alert_row(result.alert))])
        execute_many(connection, _INSERT_STEPS, [_step_row(result.step)])


def absorbed(engine: Engine) -> int:
    """The journal offset that the desk of a database has absorbed; 0 at first."""
    with reading(engine) as connection:
        return _read_state(connection)["offset"]


def make_durable(engine: Engine) -> None:
    """Put on the disk all that was committed so far, through an engine whose commits last.

    Raises:
        DatabaseBusy, DatabaseUnwritable: it may not be there.
    """
    with writing(engine) as connection:
        _write_state(connection, "durable", _read_state(connection, _READ_STATE_TO_WRITE)["durable"] + 1)


def note_sources(engine: Engine, times: Mapping[str, int]) -> None:
    """Note up to which time the desk has absorbed each source ("readings/3"), µs; a time only rises.

    Raises:
        DatabaseBusy, DatabaseUnwritable: nothing was noted.
    """
    with writing(engine) as connection:
        stored = dict(fetch(connection, _READ_SOURCES.with_for_update(), {}))
        rows = sorted((SOURCE + source, time) for source, time in times.items())
        risen = [
            {"row": key, "value": str(time)}
            for key, time in rows
            if key in stored and time > int(stored[key])
        ]
        new = [{"key": key, "value": str(time)} for key, time in rows if key not in stored]
        execute_many(connection, _UPDATE_STATE, risen)
        execute_many(connection, _INSERT_STATE, new)


def sources(engine: Engine) -> dict[str, int]:
    """What was noted of each source. Raises DatabaseBusy, DatabaseUnwritable."""
    with reading(engine) as connection:
        rows = fetch(connection, _READ_SOURCES, {})
    return {key.removeprefix(SOURCE): int(time) for key, time in rows}


class _Sheet:
    """What one transaction reads, changes in memory and writes: each alert and finding once."""

    def __init__(self, connection: Connection, ladder: Ladder, now: int) -> None:
        self.registry = ladder.registry
        self._connection = connection
        self._ladder = ladder
        self.now = now
        self.work = Work()
        self.alerts: dict[str, Alert] = {}
        self._known: set[str] = set()  # alerts that have a row
        self._changed: dict[str, None] = {}
        self._findings: dict[str, tuple[int, str | None]] = {}  # seq and alert, by id
        self._messages: dict[str, Finding] = {}  # the newest of each finding, to be written
        self._stored: set[str] = set()  # findings that have a row
        self._newest: dict[tuple[str, str, str], str] = {}  # alert by rule, enterprise, subject
        self._steps: list[Step] = []
        self._notices: list[Notice] = []
        self._policies: dict[tuple[str, str, Tier], Policy] = {}

    # -- reading ---------------------------------------------------------------------------------

    def load(self, findings: Sequence[Finding]) -> None:
        """All that these findings may touch, and all alerts with a deadline that is due."""
        connection = self._connection
        if findings:
            for id, seq, alert in _chunks(connection, _READ_FINDINGS, sorted({f.id for f in findings})):
                self._findings[id] = seq, alert
                self._stored.add(id)
            wanted = {alert for _, alert in self._findings.values() if alert}
            fresh = [f for f in findings if f.tier and not f.late and not self._alert_of(f)]
            self._wait_for_others(fresh)
            for start in range(0, len(fresh), CHUNK):
                self._find_joinable(fresh[start : start + CHUNK])
            wanted.update(self._newest.values())
            self.load_alerts(sorted(wanted))
        for row in fetch(connection, _READ_DUE, {"now": self.now}):
            self._keep(to_alert(row))

    def _wait_for_others(self, findings: Sequence[Finding]) -> None:
        """Of several desks, one at a time raises alerts of a rule and subject: else two that hear two findings of
        it at once would both see no alert to join. On SQLite they take turns anyway."""
        if findings and self._connection.dialect.name == "postgresql":
            keys = {f"{f.rule}|{f.enterprise}|{f.subject}" for f in findings}
            fetch(self._connection, _LOCK, {"locks": sorted({crc32(key.encode()) % LOCKS for key in keys})})

    def _find_joinable(self, findings: Sequence[Finding]) -> None:
        """The newest alert of each finding's rule and subject that is open, or was not long ago."""
        keys = {(f.rule, f.enterprise, f.subject) for f in findings}
        values = {
            "enterprises": list({f.enterprise for f in findings}),
            "subjects": list({f.subject for f in findings}),
            "since": min(f.arrival for f in findings) - REOPEN_WITHIN,
        }
        rows = fetch(self._connection, _READ_JOINABLE, values)
        for rule, enterprise, subject, _, id in sorted(rows):  # the newest last
            if (rule, enterprise, subject) in keys:
                self._newest[rule, enterprise, subject] = id

    def load_alerts(self, ids: Sequence[str]) -> None:
        for row in _chunks(self._connection, _READ_ALERTS, ids):
            self._keep(to_alert(row))

    def roles(self, alert: str, person: str) -> set[Role]:
        """How the person was sent notices of the alert, ever; who once confirmed it or took it over is asked
        of it for good."""
        who = {"alert": alert, "person": person}
        roles = {Role(role) for (role,) in self._connection.execute(_READ_ROLES, who)}
        roles |= {n.role for n in self._notices if n.alert == alert and n.person == person}
        answers = self._connection.execute(_READ_ANSWERS, who)
        if any(not msgspec.json.decode(detail, type=Detail).seen for (detail,) in answers):
            roles.add(Role.ASKED)
        return roles

    def _alert_of(self, finding: Finding) -> str | None:
        return self._findings.get(finding.id, (0, None))[1]

    def _keep(self, alert: Alert) -> None:
        self.alerts.setdefault(alert.id, alert)
        self._known.add(alert.id)

    # -- changing --------------------------------------------------------------------------------

    def absorb(self, finding: Finding) -> None:
        """Apply one message: the next in its finding's order, or ignore it."""
        seq, alert_id = self._findings.get(finding.id, (0, None))
        if finding.seq <= seq:
            self.work.ignored += 1
            return
        gap = finding.seq - seq - 1
        self.work.applied += 1
        self.work.gaps += gap > 0
        alert = self.alerts.get(alert_id) if alert_id else None
        event = Event(finding.phase)
        if alert is None and finding.tier and not finding.late and finding.phase not in OVER:
            alert = self._joinable(finding)
            event = event if alert is None else Event.REOPENED
            alert_id = finding.id if alert is None else alert.id
            self._newest[finding.rule, finding.enterprise, finding.subject] = alert_id
        self._findings[finding.id] = finding.seq, alert_id
        self._messages[finding.id] = finding
        if alert is not None:
            self.run_deadlines(alert.id, finding.arrival)
            alert = self.alerts[alert.id]
            if event is not Event.REOPENED and alert.finding != finding.id:
                return  # a later finding stands for this alert: what is said of an earlier one is only kept
        if alert_id:
            self.apply(alert, Happening(event, finding=finding, cell=self._cell(finding), gap=gap))

    def _cell(self, finding: Finding) -> str:
        """The cell of the finding's enterprise, or that it is about; "" if none is known."""
        enterprise = self.registry.enterprises.get(finding.enterprise)
        if enterprise is not None:
            return enterprise.cell
        kind, _, id = finding.subject.partition(":")
        return id if kind == "cell" and id in self.registry.cells else ""

    def _joinable(self, finding: Finding) -> Alert | None:
        """The alert that a finding without one joins: same rule and subject, not ended or not for long."""
        id = self._newest.get((finding.rule, finding.enterprise, finding.subject))
        alert = self.alerts[id] if id else None
        if alert and alert.ended and finding.arrival - alert.ended > REOPEN_WITHIN:
            return None
        return alert

    def deadlines(self) -> None:
        """Everything that is due by now."""
        for id in list(self.alerts):
            self.run_deadlines(id, self.now)

    def run_deadlines(self, id: str, until: int) -> None:
        """The alert's deadlines up to then, each in its order and with its own lateness."""
        until = min(until, self.now)
        while happening := lifecycle.deadline(self.alerts[id], until):
            self.apply(self.alerts[id], happening)
            self.work.deadlines += 1

    def apply(self, alert: Alert | None, happening: Happening) -> None:
        """One step of the lifecycle: the alert, its record and its notices."""
        finding = happening.finding
        enterprise, cell = (
            (alert.enterprise, alert.cell)
            if alert
            else (finding.enterprise if finding else "", happening.cell)
        )
        result = lifecycle.step(alert, happening, lambda tier: self._policy(enterprise, cell, tier), self.now)
        if result is None:
            return
        after = result.alert
        self.work.raised += alert is None
        self.work.late += result.step.late > 0
        self.alerts[after.id] = after
        self._changed[after.id] = None
        self._steps.append(self._call(result, happening))

    def _policy(self, enterprise: str, cell: str, tier: Tier) -> Policy:
        key = enterprise, cell, tier
        if key not in self._policies:
            self._policies[key] = self._ladder.policy(enterprise, cell, tier, self.now)
        return self._policies[key]

    def _call(self, result: Result, happening: Happening) -> Step:
        """Write the notices that a step sends; the step with whom it asked and told."""
        step = result.step
        if not result.calls:
            return step
        people: dict[str, tuple[Call, Person]] = {}
        nobody = list(step.detail.nobody)
        called: tuple[Person, ...]
        for call in result.calls:
            if call.person:
                one = self._ladder.person(call.person)
                called = (one,) if one else ()
            else:
                called = self._ladder.on_duty(call.place, self.now)
                if not called:
                    nobody.append(call.place)
            for person in called:
                people.setdefault(person.id, (call, person))  # who is asked is not told as well
        finding = happening.finding
        occasion = words.Occasion(
            event=happening.event,
            now=self.now,
            due=happening.due or (finding.arrival if finding else self.now),
            places=tuple(dict.fromkeys(nobody)),
            person=self._name(happening.person),
        )
        accounts: dict[str, words.Account] = {}
        for call, person in people.values():
            language = person.language
            if language not in accounts:
                accounts[language] = words.account(result.alert, occasion, self.registry, language)
            title, text = words.notice(
                accounts[language],
                result.alert,
                call,
                self.now,
                self.registry.time_zone,
                language,
            )
            self._notices += _notices(step, call.role, result.alert.tier, person, title, text)
        asked = tuple(id for id, (call, _) in people.items() if call.role is Role.ASKED)
        told = tuple(id for id, (call, _) in people.items() if call.role is Role.TOLD)
        return replace(step, detail=replace(step.detail, asked=asked, told=told, nobody=occasion.places))

    def _name(self, person: str) -> str:
        known = self._ladder.person(person)
        return known.name if known else person

    # -- writing ---------------------------------------------------------------------------------

    def write(self) -> None:
        """All that has changed; parents before children."""
        connection = self._connection
        findings = (
            _finding_row(finding, self._findings[id][1], self._cell(finding))
            for id, finding in self._messages.items()
        )
        _insert_or_update(connection, _INSERT_FINDINGS, _UPDATE_FINDINGS, findings, self._stored)
        alerts = (_alert_row(self.alerts[id]) for id in self._changed)
        _insert_or_update(connection, _INSERT_ALERTS, _UPDATE_ALERTS, alerts, self._known)
        execute_many(connection, _INSERT_STEPS, [_step_row(step) for step in self._steps])
        execute_many(connection, _INSERT_NOTICES, [asdict(notice) for notice in self._notices])
        self.work.notices = len(self._notices)


CHUNK = 5_000
"""Findings or alerts in one SELECT, of up to four parameters each; SQLite takes 32,766, PostgreSQL 65,535."""

LOCKS = 256
"""So many locks stand for all rules and subjects: PostgreSQL has room for some thousand at a time, of all desks."""

SOURCE = "source:"
"""What the keys of the sources' times begin with."""

_state, _findings, _alerts = tables.state.c, tables.findings.c, tables.alerts.c
_outbox, _steps = tables.outbox.c, tables.steps.c

_READ_STATE = select(_state.key, _state.value).where(_state.key.in_(("offset", "durable")))
_READ_STATE_TO_WRITE = _READ_STATE.with_for_update()

_READ_SOURCES = (
    select(_state.key, _state.value)
    .where(_state.key.startswith(SOURCE, autoescape=True))
    .order_by(_state.key)
)

# Taken in their order, and given back with the transaction.
_LOCK = text("SELECT pg_advisory_xact_lock(1, lock) FROM unnest(CAST(:locks AS integer[])) AS lock")

# Two desks may be told the same: who reads second waits, and then sees what the first has done. All lock
# findings before alerts, and by id, so that they do not wait for each other.
_READ_FINDINGS = (
    select(_findings.id, _findings.seq, _findings.alert)
    .where(_findings.id.in_(bindparam("ids", expanding=True)))
    .order_by(_findings.id)
    .with_for_update()
)
_READ_ALERTS = (
    select(*ALERT_COLUMNS)
    .where(_alerts.id.in_(bindparam("ids", expanding=True)))
    .order_by(_alerts.id)
    .with_for_update()
)
_READ_DUE = (
    select(*ALERT_COLUMNS)
    .where(_alerts.next_due > 0, _alerts.next_due <= bindparam("now"))
    .order_by(_alerts.next_due, _alerts.id)
    .with_for_update(skip_locked=True)
)
_JOINABLE = select(_alerts.rule, _alerts.enterprise, _alerts.subject, _alerts.raised, _alerts.id).where(
    _alerts.enterprise.in_(bindparam("enterprises", expanding=True)),
    _alerts.subject.in_(bindparam("subjects", expanding=True)),
)
_READ_JOINABLE = union_all(
    _JOINABLE.where(_alerts.closed == 0), _JOINABLE.where(_alerts.closed >= bindparam("since"))
)
_READ_ROLES = select(_outbox.role).where(
    _outbox.alert == bindparam("alert"), _outbox.person == bindparam("person")
)
_READ_ANSWERS = select(_steps.detail).where(
    _steps.alert == bindparam("alert"),
    _steps.actor == bindparam("person"),
    _steps.event.in_((Event.CONFIRM, Event.TAKE_OVER)),
)
_READ_NEWEST_STEP = select(func.max(_steps.time)).where(_steps.alert == bindparam("alert"))
_READ_NEXT_DUE = select(func.min(_alerts.next_due)).where(_alerts.next_due > 0)

_INSERT_STATE, _UPDATE_STATE = (
    insert(tables.state),
    update(tables.state).where(_state.key == bindparam("row")),
)
_INSERT_FINDINGS, _UPDATE_FINDINGS = (
    insert(tables.findings),
    update(tables.findings).where(_findings.id == bindparam("row")),
)
_INSERT_ALERTS, _UPDATE_ALERTS = (
    insert(tables.alerts),
    update(tables.alerts).where(_alerts.id == bindparam("row")),
)
_INSERT_STEPS = insert(tables.steps)
_INSERT_NOTICES = insert(tables.outbox)


def _read_next_due(connection: Connection) -> int | None:
    due: int | None = connection.execute(_READ_NEXT_DUE).scalar()
    return due


def _read_state(connection: Connection, query: ClauseElement = _READ_STATE) -> Counter[str]:
    return Counter({key: int(value) for key, value in fetch(connection, query, {})})


def _write_state(connection: Connection, key: str, value: int) -> None:
    """A number that only rises."""
    stored = _read_state(connection, _READ_STATE_TO_WRITE)
    if key not in stored:
        execute_many(connection, _INSERT_STATE, [{"key": key, "value": str(value)}])
    elif value > stored[key]:
        execute_many(connection, _UPDATE_STATE, [{"row": key, "value": str(value)}])


def _chunks(connection: Connection, query: ClauseElement, ids: Sequence[str]) -> Iterator[Any]:
    """The rows of a query by ids, however many."""
    for start in range(0, len(ids), CHUNK):
        yield from fetch(connection, query, {"ids": ids[start : start + CHUNK]})


def _insert_or_update(
    connection: Connection,
    inserting: Insert,
    updating: Update,
    rows: Iterable[dict[str, Any]],
    stored: set[str],
) -> None:
    """Rows with an id: those stored are updated, the others inserted."""
    new: list[dict[str, Any]] = []
    old: list[dict[str, Any]] = []
    for row in rows:
        if row["id"] in stored:
            old.append(_moved(row))
        else:
            new.append(row)
    execute_many(connection, inserting, new)
    execute_many(connection, updating, old)


def _moved(row: dict[str, Any]) -> dict[str, Any]:
    """A row to update: its id says which."""
    row["row"] = row.pop("id")
    return row


def _finding_row(finding: Finding, alert: str | None, cell: str) -> dict[str, Any]:
    return {
        "id": finding.id,
        "seq": finding.seq,
        "rule": finding.rule,
        "enterprise": finding.enterprise,
        "subject": finding.subject,
        "phase": finding.phase,
        "tier": finding.tier,
        "since": finding.since,
        "time": finding.time,
        "arrival": finding.arrival,
        "late": finding.late,
        "alert": alert,
        "cell": cell,
        "body": msgspec.json.encode(finding).decode(),
    }


def _alert_row(alert: Alert) -> dict[str, Any]:
    row = asdict(alert)
    row["evidence"] = msgspec.json.encode(alert.evidence).decode()
    row["basis"] = msgspec.json.encode(alert.basis).decode()
    row["next_due"] = lifecycle.next_due(alert)
    return row


def _step_row(step: Step) -> dict[str, Any]:
    row = asdict(step)
    row["detail"] = msgspec.json.encode(step.detail).decode()
    return row


def _notices(step: Step, role: Role, tier: Tier, person: Person, title: str, text: str) -> Iterator[Notice]:
    """A notice for each contact of the person, each once."""
    seen: Counter[str] = Counter()
    for contact in dict.fromkeys(person.contacts):
        seen[contact.channel] += 1
        nth = f"#{seen[contact.channel]}" if seen[contact.channel] > 1 else ""  # a second number, say
        key = f"{step.alert}|{step.step}|{person.id}|{role}|{contact.channel}{nth}"
        yield Notice(
            id=blake2b(key.encode(), digest_size=10).hexdigest(),
            alert=step.alert,
            step=step.step,
            person=person.id,
            role=role,
            tier=tier,
            channel=contact.channel,
            address=contact.address,
            language=person.language,
            title=title,
            text=text,
            due=step.time,
            created=step.time,
        )
