"""The sender: takes notices from the outbox to their channels, at least once, and marks every repeat.

A notice's row goes waiting → sending (committed before the attempt begins) → delivered, failed, or waiting
again with a later due time. A row that is "sending" while no sender has it was left by one that died: it may have
been delivered, so it is sent again, marked. On PostgreSQL several senders share the work (alerting/claims.py): each
has channels of its own, so that a channel takes as many calls at a time from each.

A notice is sent even if its alert has been closed meanwhile: the person was to know, and its text says what
happened when, how late it is, and what has become of the alert since. What could not be delivered for a day
is given up (after an hour in which the receiver answered as one that is set up wrongly): the row keeps the
reason, the alert a step of it, and has long climbed the ladder.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
import structlog
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, bindparam, exists, func, select, update

from alerting import words
from alerting.alert import Notice, NoticeState, Role
from alerting.channels import Channel, Delivery, Outcome, lateness
from alerting.claims import Claims, claims_on
from alerting.desk import record_undelivered
from alerting.tables import alerts, outbox
from registry.clock import DAY, HOUR, MINUTE, SECOND, Clock, stopwatch
from registry.database import Commits, DatabaseBusy, DatabaseUnwritable, reading, writing

POLL = 0.05
"""Seconds of real time between two looks at whether the database has changed."""

LOOK = 1.0
"""Seconds of real time between two looks for what other senders have left behind."""

GRACE = 2.0
"""Seconds of real time that attempts under way are given to end when the sender is stopped."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Retry:
    """When to try again. Times in µs: the first wait, doubled each time up to the longest; then given up."""

    first: int = SECOND
    longest: int = MINUTE
    give_up: int = DAY

    def wait(self, notice: str, attempts: int) -> int:
        """µs to wait after so many attempts: the base ± 1/4, so that what failed together does not come
        back together; derived from the notice's id, so that a replay waits just as long."""
        base = min(self.longest, self.first << min(attempts - 1, 40))
        spread = int.from_bytes(blake2b(f"{notice}|{attempts}".encode(), digest_size=4).digest())
        return base * 3 // 4 + (base * spread >> 33)


SLOW = Retry(first=MINUTE, longest=10 * MINUTE, give_up=HOUR)
"""For a receiver that is not set up for us: somebody must mend that first."""


def settle(notice: Notice, delivery: Delivery, now: int, retry: Retry, misdirected: int = 0) -> Notice:
    """The notice after an attempt (already counted in ``attempts``) whose outcome is known. Pure.

    Args:
        misdirected: µs since the notice's line has first answered, and nothing else since, that it is
            misdirected. What came before that, such as a day's outage, counts for nothing here.
    """
    if delivery.outcome is Outcome.DELIVERED:
        return msgspec.structs.replace(notice, state=NoticeState.DELIVERED, delivered=now, error="")
    given_up = now - notice.created >= retry.give_up
    attempts = notice.attempts
    if delivery.outcome is Outcome.MISDIRECTED:
        retry = SLOW
        given_up |= misdirected >= SLOW.give_up
        attempts = 1 + (misdirected // SLOW.first).bit_length()  # waits double as the time does
    maybe = notice.maybe_delivered or delivery.outcome is Outcome.UNKNOWN
    due = notice.due
    if delivery.outcome is Outcome.REFUSED:
        state, error = NoticeState.FAILED, f"refused: {delivery.error}"
    elif given_up:
        state, error = NoticeState.FAILED, f"given up after {notice.attempts} attempts: {delivery.error}"
    else:
        state, error = NoticeState.WAITING, delivery.error
        due = now + retry.wait(notice.id, attempts)
    return msgspec.structs.replace(notice, state=state, error=error, due=due, maybe_delivered=maybe)


Line = tuple[str, str]
"""Channel name and address; calls to one line go one after the other."""


class Lines:
    """Which lines are free: one call to a line at a time, so many lines of a channel at a time, and at most
    half of those for lines whose last call failed, so that dead phones do not hold up the others."""

    def __init__(
        self, channels: Mapping[str, Channel], calling: Iterable[Line] = (), failing: Iterable[Line] = ()
    ) -> None:
        self._room = {name: channel.concurrency for name, channel in channels.items()}
        self._failing_room = {name: max(1, room // 2) for name, room in self._room.items()}
        self._failing = frozenset(failing)
        self._busy: set[Line] = set()
        for line in calling:
            self._occupy(line)

    def take(self, line: Line) -> bool:
        """Takes the line if it is free and there is room for it. A line of no known channel is free."""
        channel, _ = line
        if line in self._busy or self._room.get(channel, 1) <= 0:
            return False
        if line in self._failing and self._failing_room.get(channel, 1) <= 0:
            return False
        self._occupy(line)
        return True

    def _occupy(self, line: Line) -> None:
        channel, _ = line
        self._busy.add(line)
        if channel in self._room:
            self._room[channel] -= 1
            self._failing_room[channel] -= line in self._failing


@dataclass(slots=True)
class Counts:
    """What the sender did since it was started, for the metrics."""

    outcomes: dict[tuple[str, Outcome], int] = field(default_factory=dict)  # by channel name
    repeats: int = 0  # calls marked as a repeat
    failed: int = 0  # notices refused or given up
    recovered: int = 0  # notices found in the middle of an attempt that nobody makes
    database_busy: int = 0  # transactions put off because the database was locked


class Sender:
    """One loop in a serving process; nothing is in memory only but which lines failed last, and since when.

    What is asked goes before what is told, then the worse tier, fresh notices before retries, in the order
    in which they fell due. Attempts are timed by real time, due times by the clock.
    """

    def __init__(
        self, engine: Engine, clock: Clock, channels: Mapping[str, Channel], retry: Retry | None = None
    ) -> None:
        self.counts = Counts()
        self._engine = engine
        self._clock = clock
        self._channels = channels
        self._retry = retry or Retry()
        self._calls: dict[asyncio.Task[Delivery], Notice] = {}
        self._settled: list[Notice] = []  # known, but not yet committed
        self._failing: set[Line] = set()
        self._misdirected: dict[Line, int] = {}  # when the line first answered so, and nothing else since, µs
        self._commits = Commits(engine)
        self._claims = claims_on(engine)
        self._shared = engine.dialect.name == "postgresql"
        self._recovered = False
        self._next_look = 0.0
        self._wake = asyncio.Event()
        self._next_due: int | None = None
        self._stalled = False

    def idle(self, now: int) -> bool:
        """Nothing is under way, and nothing that is due by now is waiting. Any process may ask."""
        with reading(self._engine) as connection:
            return idle(connection, now)

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until told to stop; then lets the attempts under way end, within reason."""
        self._recovered = False
        seen: object = None
        try:
            while not stop.is_set():
                now = self._clock.now()
                if self._shared and stopwatch() >= self._next_look:  # others may have died since
                    self._next_look = stopwatch() + LOOK
                    self._recovered = False
                # Commits are counted before the rows are read, so that one in between is seen the next time.
                count = self._count()
                if self._settled or count != seen or self._is_due(now):
                    seen = count if await self._exchange(now) else None
                await self._rest()
        finally:
            self._commits.close()
        try:
            await self._finish()
        finally:
            self._claims.close()

    def _count(self) -> object:
        """Differs after any other connection's commit; where the database cannot say, it always differs."""
        try:
            count = self._commits.count()
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._busy(error)
            count = None
        return object() if count is None else count

    async def _rest(self) -> None:
        """Until an attempt has ended, or it is time to look again."""
        try:
            async with asyncio.timeout(POLL):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _is_due(self, now: int) -> bool:
        return self._next_due is not None and self._next_due <= now

    async def _exchange(self, now: int) -> bool:
        """What was settled goes in, what is due comes out; False if the database cannot be written now."""
        settled, self._settled = self._settled, []
        ours = [notice.id for notice in (*self._calls.values(), *settled)]
        calling = [(notice.channel, notice.address) for notice in self._calls.values()]
        lines = Lines(self._channels, calling, self._failing)
        try:
            await asyncio.to_thread(self._claims.keep, ours)
            if not self._recovered:
                recovered = await asyncio.to_thread(_recover, self._engine, self._claims, ours)
                self._recovered = True
                if recovered:
                    self.counts.recovered += recovered
                    log.info("sender.recovered", notices=recovered)
            taken, self._next_due = await asyncio.to_thread(
                _exchange, self._engine, self._claims, settled, lines.take, now
            )
        except BaseException as error:
            # What was settled waits for the next try. The rows stand as they were, but where the connection
            # was lost in the commit: then some may stand as "sending" that nobody sends.
            self._settled = settled + self._settled
            self._recovered = False
            if not isinstance(error, DatabaseBusy | DatabaseUnwritable):
                raise
            self._busy(error)
            return False
        self._stalled = False
        for notice in taken:
            call = asyncio.create_task(self._call(notice))
            self._calls[call] = notice
            call.add_done_callback(self._called)
        return True

    async def _call(self, notice: Notice) -> Delivery:
        channel = self._channels.get(notice.channel)
        if channel is None:
            return Delivery(Outcome.NOT_DELIVERED, f"no channel is named {notice.channel!r}")
        self.counts.repeats += notice.maybe_delivered
        return await channel.send(notice, repeat=notice.maybe_delivered, now=self._clock.now())

    def _called(self, call: asyncio.Task[Delivery]) -> None:
        notice = self._calls.pop(call)
        if call.cancelled():
            delivery = Delivery(Outcome.UNKNOWN, "the sender was stopped")
        elif error := call.exception():
            # A channel must not raise; one that does all the same may have delivered before.
            delivery = Delivery(Outcome.UNKNOWN, f"fault in the channel: {type(error).__name__}")
            log.error("channel.fault", channel=notice.channel, notice=notice.id, exc_info=error)
        else:
            delivery = call.result()
        now, line = self._clock.now(), (notice.channel, notice.address)
        if delivery.outcome in (Outcome.DELIVERED, Outcome.REFUSED):
            self._failing.discard(line)
        else:
            self._failing.add(line)
        misdirected = 0
        if delivery.outcome is Outcome.MISDIRECTED:
            misdirected = now - max(self._misdirected.setdefault(line, now), notice.created)
        else:
            self._misdirected.pop(line, None)
        key = (notice.channel, delivery.outcome)
        self.counts.outcomes[key] = self.counts.outcomes.get(key, 0) + 1
        after = settle(notice, delivery, now, self._retry, misdirected)
        if after.state is NoticeState.FAILED:
            self.counts.failed += 1
            log.warning("notice.failed", notice=notice.id, alert=notice.alert, error=after.error)
        self._settled.append(after)
        self._wake.set()

    async def _finish(self) -> None:
        if self._calls:
            _, unfinished = await asyncio.wait(self._calls, timeout=GRACE)
            for call in unfinished:
                call.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        try:
            await asyncio.to_thread(
                _exchange, self._engine, self._claims, self._settled, lambda line: False, self._clock.now()
            )
        except (DatabaseBusy, DatabaseUnwritable) as error:
            # They stand as "sending": the next start sends them again, marked.
            self._busy(error)

    def _busy(self, error: Exception) -> None:
        self.counts.database_busy += 1
        if not self._stalled:  # once for each time that it happens, not 20 times a second
            log.warning("sender.database_busy", error=str(error))
        self._stalled = True


def idle(connection: Connection, now: int) -> bool:
    """No notice is under way, and none that is due by now (µs) is waiting."""
    under_way = select(outbox.c.id).where(outbox.c.state == NoticeState.SENDING).limit(1)
    waiting = select(outbox.c.id).where(outbox.c.state == NoticeState.WAITING, outbox.c.due <= now).limit(1)
    return connection.scalar(under_way) is None and connection.scalar(waiting) is None


_ORDER = (
    outbox.c.role != Role.ASKED,
    -outbox.c.tier,
    outbox.c.attempts > 0,
    outbox.c.due,
    outbox.c.created,
    outbox.c.id,
)
_place = func.row_number().over(partition_by=(outbox.c.channel, outbox.c.address), order_by=_ORDER)
_WAITING = (outbox.c.state == NoticeState.WAITING, outbox.c.due <= bindparam("now"))
_called = outbox.alias("called")
_IS_FREE = ~exists().where(
    _called.c.channel == outbox.c.channel,
    _called.c.address == outbox.c.address,
    _called.c.state == NoticeState.SENDING,
    _called.c.id.not_in(bindparam("settled", expanding=True)),
)


def _heads(*which: ColumnElement[bool]) -> Select[Any]:
    ranked = (
        select(outbox.c.id, outbox.c.channel, outbox.c.address, _place.label("place"))
        .where(*_WAITING, *which)
        .subquery()
    )
    return (
        select(ranked.c.id, ranked.c.channel, ranked.c.address)
        .where(ranked.c.place == 1)
        .join(outbox, outbox.c.id == ranked.c.id)
        .order_by(*_ORDER)
    )


HEADS = _heads()
"""The notice that each line with any due should send next."""

HEADS_OF_FREE = _heads(_IS_FREE)
"""The same, but of no line that a sender is calling now."""

NEXT_DUE = select(func.min(outbox.c.due)).where(
    outbox.c.state == NoticeState.WAITING, outbox.c.due > bindparam("now")
)

CLAIMABLE = (
    select(outbox.c.id)
    .where(outbox.c.id.in_(bindparam("notices", expanding=True)), *_WAITING)
    .with_for_update()
)
"""What is still there to claim: another may have claimed and settled it since it was read."""

CLAIM = (
    update(outbox)
    .where(outbox.c.id == bindparam("notice"))
    .values(state=NoticeState.SENDING, attempts=outbox.c.attempts + 1)
)

CLAIMED = (
    select(outbox, alerts.c.confirmed.label("alert_confirmed"), alerts.c.closed.label("alert_closed"))
    .join(alerts, alerts.c.id == outbox.c.alert)
    .where(outbox.c.id.in_(bindparam("claimed", expanding=True)))
)

SETTLE = (
    update(outbox)
    .where(outbox.c.id == bindparam("notice"))
    .values(
        state=bindparam("state"),
        error=bindparam("error"),
        due=bindparam("due"),
        maybe_delivered=bindparam("maybe_delivered"),
        delivered=bindparam("delivered"),
    )
)

SETTLEABLE = (
    select(outbox.c.id, outbox.c.attempts)
    .where(outbox.c.id.in_(bindparam("notices", expanding=True)), outbox.c.state == NoticeState.SENDING)
    .with_for_update()
)
"""Of what was sent, what stands as being sent, and in which attempt: another sender, which took us for dead, may have
sent it again since, and then the outcome is its to write."""

UNDER_WAY = select(outbox.c.id).where(
    outbox.c.state == NoticeState.SENDING, outbox.c.id.not_in(bindparam("ours", expanding=True))
)

RECOVER = (
    update(outbox)
    .where(outbox.c.state == NoticeState.SENDING, outbox.c.id.in_(bindparam("left", expanding=True)))
    .values(state=NoticeState.WAITING, maybe_delivered=True)
)


def _recover(engine: Engine, claims: Claims, ours: Sequence[str]) -> int:
    """Notices that stand as being sent, but nobody has, are to be sent again, marked; how many."""
    with reading(engine) as connection:
        under_way = connection.scalars(UNDER_WAY, {"ours": ours}).all()
    left = claims.take(under_way)
    if not left:
        return 0
    with writing(engine) as connection:
        return connection.execute(RECOVER, {"left": left}).rowcount


def _exchange(
    engine: Engine, claims: Claims, settled: Sequence[Notice], take: Callable[[Line], bool], now: int
) -> tuple[list[Notice], int | None]:
    """Writes what was settled and claims what may be sent now, in one transaction.

    Returns the claimed notices, and when the next that is not due yet will be. A write lock is taken only
    if there is something to write.
    """
    shared = engine.dialect.name == "postgresql"
    values: dict[str, Any] = {"now": now} | ({"settled": [n.id for n in settled]} if shared else {})
    with reading(engine) as connection:
        heads = connection.execute(HEADS_OF_FREE if shared else HEADS, values).all()
        next_due = connection.scalar(NEXT_DUE, {"now": now})
    claimed = claims.take([head.id for head in heads if take((head.channel, head.address))])
    if not settled and not claimed:
        return [], next_due
    with writing(engine) as connection:
        if settled:
            sent = [notice.id for notice in settled]
            stands = {(row.id, row.attempts) for row in connection.execute(SETTLEABLE, {"notices": sent})}
            settled = [notice for notice in settled if (notice.id, notice.attempts) in stands]
        if settled:
            connection.execute(SETTLE, [_settled_row(notice) for notice in settled])
            record_undelivered(connection, (n for n in settled if n.state is NoticeState.FAILED), now)
        if claimed:
            free = set(connection.scalars(CLAIMABLE, {"notices": claimed, "now": now}))
            claimed = [notice for notice in claimed if notice in free]
        if claimed:
            connection.execute(CLAIM, [{"notice": notice} for notice in claimed])
        rows = connection.execute(CLAIMED, {"claimed": claimed}).all()
    by_id = {notice.id: notice for notice in (_to_send(row, now) for row in rows)}
    return [by_id[notice] for notice in claimed], next_due


def _to_send(row: Row[Any], now: int) -> Notice:
    """The notice as it goes out now: one that is late says so."""
    notice = msgspec.convert(row, Notice, from_attributes=True)
    late = lateness(notice, now)
    if not late:
        return notice
    confirmed, closed = row.alert_confirmed > notice.created, row.alert_closed > notice.created
    text = words.delayed(notice.text, notice.language, late, confirmed=confirmed, closed=closed)
    return msgspec.structs.replace(notice, text=text)


def _settled_row(notice: Notice) -> dict[str, object]:
    return {
        "notice": notice.id,
        "state": notice.state,
        "error": notice.error,
        "due": notice.due,
        "maybe_delivered": notice.maybe_delivered,
        "delivered": notice.delivered,
    }
