"""Leases: which collector has which slots, for how long, and under which term; kept in PostgreSQL.

All times are the database's own (``now()``): no machine's clock says who owns what. Who is alive takes what is free
up to a fair share and gives up what is beyond it, a few at a time, so that one who joins gets work and nothing flaps.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from ingest.lease_tables import collectors, ready, slots, upgrade
from registry.clock import SECOND
from registry.database import writing

__all__ = ["Held", "Shares", "decide", "keep", "leave", "lift", "ready", "release", "upgrade"]

NOBODY = ""


class Shares(NamedTuple):
    """What an owner is to do for fair shares."""

    take: list[int]  # slots that are free
    give: list[int]  # of its own


class Held(NamedTuple):
    """What an owner has. terms: by slot. give: those that it should give up. free: slots that nobody has.
    now: by the database's clock, µs; 0 if it was not asked."""

    terms: dict[int, int]
    give: list[int]
    free: int
    now: int = 0


def decide(owners: Mapping[int, str], alive: Collection[str], owner: str) -> Shares:
    """What ``owner`` takes and gives, so that soon each of the living has as many slots as another, or one more.

    Those that have most now are those that keep one more: who has a fair share changes nothing. Pure.

    Args:
        owners: who has each slot, "" for nobody; one that is not alive has it until its lease is over.
        alive: all collectors, ``owner`` among them.
    """
    count = Counter(owners.values())
    share, more = divmod(len(owners), len(alive))
    by_load = sorted(alive, key=lambda one: (-count[one], one))
    fair = share + (by_load.index(owner) < more)
    own = sorted(slot for slot, has in owners.items() if has == owner)
    free = sorted(slot for slot, has in owners.items() if has == NOBODY)
    if len(own) <= fair:
        return Shares(free[: fair - len(own)], [])
    few = max(1, len(owners) // 16)
    return Shares([], own[fair:][:few])


def keep(
    engine: Engine, owner: str, count: int, lease: float, *, take: bool = True, share: bool = True
) -> Held:
    """Say that we are alive, renew what is ours, and take what we should have; in one transaction.

    A slot whose lease is over is still ours if nobody has taken it.

    Args:
        owner: another for every process that ever was: who comes back has to raise the terms.
        count: of slots. lease: seconds from now for which others leave them to us.
        take: whether we take anything. share: whether others leave us a share; who has none gives nothing of what it
            has, and takes what is free only where nobody else is alive.

    Raises:
        DatabaseBusy, DatabaseUnwritable: it is not known what we have; nobody was told of us.
    """
    until = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lease)
    with writing(engine) as connection:
        _complete(connection, count)
        rows = connection.execute(
            select(slots.c.slot, slots.c.owner, slots.c.term, slots.c.until < func.now())
            .where(slots.c.slot < count)
            .order_by(slots.c.slot)
            .with_for_update()  # one decides at a time
        ).all()
        alive = _alive(connection, owner, until if share else func.now())
        owners = {slot: NOBODY if over and has != owner else has for slot, has, _, over in rows}
        terms = {slot: term for slot, has, term, _ in rows if has == owner}
        alone = take and not alive
        taken, give = decide(owners, alive | {owner}, owner) if share or alone else Shares([], [])
        if not take:
            taken = []
        for slot, _, term, _ in rows:
            if slot in taken:
                terms[slot] = term + 1
        table = slots.c
        connection.execute(
            update(slots).where(table.slot.in_(taken)).values(owner=owner, term=table.term + 1)
        )
        connection.execute(update(slots).where(table.slot.in_(terms)).values(until=until))
        free = sum(has == NOBODY for has in owners.values()) - len(taken)
        epoch = func.extract("epoch", func.clock_timestamp())  # now() is when the transaction began
        now = connection.execute(select(epoch)).scalar_one()
    return Held(terms, give, free, int(now * SECOND))


def lift(engine: Engine, owner: str, slot: int, above: int) -> None:
    """Raise the term of a slot of ours above one that was found in its partition: a database that was set up anew
    knows of none. Raises DatabaseBusy, DatabaseUnwritable: nothing was done."""
    table = slots.c
    with writing(engine) as connection:
        connection.execute(
            update(slots)
            .where(table.slot == slot, table.owner == owner, table.term <= above)
            .values(term=above + 1)
        )


def release(engine: Engine, owner: str, given: Iterable[int]) -> None:
    """Leave slots to others at once. Raises DatabaseBusy, DatabaseUnwritable: their leases go on."""
    table = slots.c
    with writing(engine) as connection:
        connection.execute(
            update(slots).where(table.slot.in_(list(given)), table.owner == owner).values(owner=NOBODY)
        )


def leave(engine: Engine, owner: str) -> None:
    """Leave all to others, and be none of them. Raises DatabaseBusy, DatabaseUnwritable: until the leases are over."""
    with writing(engine) as connection:
        connection.execute(update(slots).where(slots.c.owner == owner).values(owner=NOBODY))
        connection.execute(delete(collectors).where(collectors.c.owner == owner))


def _complete(connection: Connection, count: int) -> None:
    """A row for every slot; the first collector ever makes them."""
    have = connection.execute(select(func.count()).select_from(slots)).scalar_one()
    if have < count:
        rows = [{"slot": slot, "owner": NOBODY, "term": 0, "until": func.now()} for slot in range(count)]
        for row in rows:
            connection.execute(insert(slots).values(row).on_conflict_do_nothing())


def _alive(connection: Connection, owner: str, until: object) -> set[str]:
    """Everybody who has said lately that they are alive; we say so too (``until`` now: that we are not)."""
    mine = insert(collectors).values(owner=owner, until=until)
    connection.execute(mine.on_conflict_do_update(index_elements=["owner"], set_={"until": until}))
    connection.execute(delete(collectors).where(collectors.c.until <= func.now()))
    return set(connection.execute(select(collectors.c.owner)).scalars())
