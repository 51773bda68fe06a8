"""The registry in its database: what is so now, and every edit that made it so, with who, when and why."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, Select, and_, bindparam, delete, func, insert, or_, select, text

from registry.checks import Source, check, spliced
from registry.database import Watch, execute_many, reading, writing
from registry.files import Data
from registry.mistakes import Mistakes, RegistryErrors
from registry.records import Body, Record, decode, encode, gather, kinds, missing_of_key, record
from registry.store_tables import changes as changes_table
from registry.store_tables import edits as edits_table
from registry.store_tables import records as records_table

TOGETHER = 5_000
"""Rows that are written, and keys that are asked for, at once."""

TRIES = 3
"""So often an edit is judged while others may edit; if each time they did, they wait for the next."""

FEW = 50
"""Enterprises that an edit may touch and still be judged without all the others."""

T = TypeVar("T")
Done = TypeVar("Done")

_GRID = ("id", "name", "level", "parent")

_TREE = ("settings", "cell")
"""Kinds on which the reading of everything else hangs."""

_LEAVES = ("duty", "warnings")
"""Kinds of what belongs to no enterprise, and which nothing refers to."""


@dataclass(frozen=True, slots=True)
class Change:
    """One record of an edit: the fields that are to be set ("" takes one away), or None to remove it."""

    kind: str
    key: str
    set: Mapping[str, Data] | None


@dataclass(frozen=True, slots=True)
class Edit:
    """Who changed the registry, when (µs), why and by what way."""

    id: int
    time: int
    who: str
    why: str
    origin: str  # "import", "command", "api" or "serve"


@dataclass(frozen=True, slots=True)
class Changed:
    """What an edit did to one record."""

    edit: Edit
    number: int  # within the edit
    kind: str
    key: str
    enterprise: str
    old: Body | None  # None: it was not there
    new: Body | None  # None: it was removed


class Difference(NamedTuple):
    """A record as it was and as it shall be, as JSON."""

    kind: str
    key: str
    enterprise: str
    old: str | None
    new: str | None


class Look:
    """One consistent look at the registry."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self) -> int:
        """The number of the newest edit; 0 if the registry is empty."""
        return _newest(self._connection)

    def find(self, kind: str, key: str) -> Record | None:
        """One record; None if there is none."""
        return _find(self._connection, kind, key)

    def bodies(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Enterprise and body, as JSON, of all records, by kind and key."""
        table = records_table.c
        rows = self._connection.execute(select(table.kind, table.key, table.enterprise, table.body))
        return {(kind, key): (enterprise, body) for kind, key, enterprise, body in rows}

    def differences(self, changes: Sequence[Change]) -> list[Difference]:
        """What these changes make of what is there. Raises RegistryErrors if that would be no registry."""
        mistakes = Mistakes()
        before: dict[tuple[str, str], Record | None] = {}
        after: dict[tuple[str, str], Record | None] = {}
        for change in changes:
            name = (change.kind, change.key)
            if change.kind not in kinds():
                expected = f"one of {', '.join(kinds())}"
                mistakes.add(" ".join(name), 0, "kind", f"is {change.kind!r}", expected)
                continue
            if name not in before:
                before[name] = after[name] = self.find(*name)
            after[name] = _changed(change, after[name], mistakes)
        if mistakes.found:
            raise RegistryErrors(mistakes.found)
        differences = [
            Difference(kind, key, (new or old or _NOTHING).enterprise, *map(_json, (old, new)))
            for (kind, key), old in before.items()
            for new in (after[kind, key],)
        ]
        differences = [one for one in differences if one.old != one.new]
        if differences:
            _check(self._connection, before, after)
        return differences


class Editing(Look):
    """A transaction that changes the registry: nobody else does meanwhile."""

    def write(
        self,
        differences: Sequence[Difference],
        *,
        who: str,
        why: str,
        now: int,
        origin: str,
        told: Callable[[int], None] = lambda _: None,
    ) -> Edit | None:
        """Write an edit whose outcome has been checked; None if it changes nothing. ``told``: rows written."""
        if not differences:
            return None
        edit = Edit(self.newest() + 1, now, who, why, origin)
        self._connection.execute(
            insert(edits_table).values(id=edit.id, time=now, who=who, why=why, origin=origin)
        )
        for begin in range(0, len(differences), TOGETHER):
            some = differences[begin : begin + TOGETHER]
            names = ("edit", "number", "kind", "key", "enterprise", "old", "new")
            rows = [
                dict(zip(names, (edit.id, number, *one), strict=True))
                for number, one in enumerate(some, begin + 1)
            ]
            execute_many(self._connection, insert(changes_table), rows)
            gone = [{"this_kind": one.kind, "this_key": one.key} for one in some if one.old is not None]
            if gone:
                self._connection.execute(_REMOVE, gone)
            there = [
                {"kind": one.kind, "key": one.key, "enterprise": one.enterprise, "body": one.new}
                for one in some
                if one.new is not None
            ]
            execute_many(self._connection, insert(records_table), there)
            told(begin + len(some))
        return edit


class RegistryStore:
    """The registry in a database that has its tables (store_tables.upgrade).

    Every method raises as ``database.reading`` and ``writing``.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._watch = Watch(engine, _newest)
        self._loaded: tuple[int, Source] | None = None  # what was loaded last, and its newest edit

    @contextmanager
    def looking(self) -> Iterator[Look]:
        """A transaction that only reads, and keeps nobody from editing."""
        with reading(self._engine) as connection:
            yield Look(connection)

    @contextmanager
    def editing(self) -> Iterator[Editing]:
        """A transaction for an edit that its caller checks; nothing is done if an exception leaves it."""
        with writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one that writes anyway
                connection.execute(_ALONE)
            yield Editing(connection)

    def edit(
        self,
        changes: Sequence[Change],
        *,
        who: str,
        why: str,
        now: int,
        origin: str,
        permit: Callable[[Look], None] = lambda _: None,
    ) -> Edit | None:
        """Make these changes in one edit; None if they change nothing.

        Args:
            permit: judges, by what is there just before the edit, whether it may be made, and raises if not.

        Raises:
            RegistryErrors: what would be is no registry. All mistakes; nothing was done.
        """

        def judged(look: Look) -> list[Difference]:
            permit(look)
            return look.differences(changes)

        def written(editing: Editing, differences: list[Difference]) -> Edit | None:
            return editing.write(differences, who=who, why=why, now=now, origin=origin)

        return self.change(judged, written)

    def change(self, judge: Callable[[Look], T], write: Callable[[Editing, T], Done]) -> Done:
        """Judge while others may edit, for that may take long, and write by it in one transaction.

        If others did edit, it is judged again; after TRIES with them kept out, so that it ends.
        """
        for _ in range(TRIES):
            with self.looking() as look:
                newest, judged = look.newest(), judge(look)
            with self.editing() as editing:
                if editing.newest() == newest:
                    return write(editing, judged)
        with self.editing() as editing:
            return write(editing, judge(editing))

    def newest(self) -> int:
        """The number of the newest edit; 0 if the registry is empty. To ask again costs microseconds."""
        return self._watch.look()

    @property
    def loaded(self) -> int:
        """The number of the newest edit in what was loaded last; 0 if nothing was."""
        return self._loaded[0] if self._loaded is not None else 0

    def load(self) -> Source:
        """All of it, checked; what is known to be as it was when it was loaded last is not read again.

        Raises RegistryErrors where a stricter Fenghuo finds mistakes in it.
        """
        mistakes = Mistakes()
        with reading(self._engine) as connection:
            newest = _edit(connection, _newest(connection))
            number = newest.id if newest else 0
            then, loaded = self._loaded or (0, None)
            touched = _touched(connection, then)
            codes = {code for code, _ in touched if code}
            kinds_shared = {kind for code, kind in touched if not code}
            few = loaded is not None and len(codes) <= FEW and kinds_shared.isdisjoint(_TREE)
            found = (
                _of_enterprises(connection, codes, (), shared=bool(kinds_shared))
                if few
                else _read(connection, select(records_table))
            )
            raw = gather(found, mistakes)
        source = check(raw, mistakes)
        if source is None:
            raise RegistryErrors(mistakes.found)
        if few and loaded is not None:
            source = spliced(loaded, codes, source, shared=bool(kinds_shared))
        self._loaded = (number, source)
        return replace(source, edit=_words(newest, then))

    def records(
        self,
        kind: str,
        enterprise: str = "",
        *,
        among: Collection[str] | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> list[Record]:
        """The records of a kind by their keys; only those of an enterprise, or of several, if that is given."""
        table = records_table.c
        query = select(records_table).where(table.kind == kind, table.key > after).order_by(table.key)
        if enterprise:
            query = query.where(table.enterprise == enterprise)
        if among is not None:
            query = query.where(table.enterprise.in_(among))
        with reading(self._engine) as connection:
            return list(_read(connection, query.limit(limit)))

    def find(self, kind: str, key: str) -> Record | None:
        """One record; None if there is none."""
        with self.looking() as look:
            return look.find(kind, key)

    def history(
        self,
        kind: str = "",
        key: str = "",
        enterprise: str = "",
        *,
        before: tuple[int, int] | None = None,
        limit: int = 100,
    ) -> list[Changed]:
        """What edits did to records, the newest edit first; ``before``: only what follows this edit and number."""
        table, edits = changes_table.c, edits_table.c
        query = (
            select(edits_table, table.number, table.kind, table.key, table.enterprise, table.old, table.new)
            .join_from(changes_table, edits_table)
            .order_by(table.edit.desc(), table.number)
            .limit(limit)
        )
        for column, wanted in ((table.kind, kind), (table.key, key), (table.enterprise, enterprise)):
            if wanted:
                query = query.where(column == wanted)
        if before is not None:
            edit, number = before
            query = query.where(or_(edits.id < edit, and_(edits.id == edit, table.number > number)))
        with reading(self._engine) as connection:
            return [
                Changed(Edit(*row[:5]), *row[5:9], *(body and decode(body) for body in row[9:]))
                for row in connection.execute(query)
            ]


_ALONE = text(f"LOCK TABLE {edits_table.name} IN SHARE ROW EXCLUSIVE MODE")
"""Else what an edit was judged by could change before it is written."""

_REMOVE = delete(records_table).where(
    records_table.c.kind == bindparam("this_kind"), records_table.c.key == bindparam("this_key")
)
_NOTHING = Record("", "", "", {})


def _json(found: Record | None) -> str | None:
    return None if found is None else encode(found.body)


def _changed(change: Change, before: Record | None, mistakes: Mistakes) -> Record | None:
    """The record after the change; None if it is removed. Its key must be made of what it says."""
    name = f"{change.kind} {change.key}"
    if change.set is None:
        if before is None:
            mistakes.add(name, 0, "", "is not there", "the key of a record")
        return None
    if change.kind == "settings" and "grid" in change.set:
        mistakes.add(name, 0, "grid", "is not here", "its cells, each a record of kind cell")
    body = {**(before.body if before else {}), **change.set}
    after = record(change.kind, {field: value for field, value in body.items() if value not in ("", [], {})})
    missing = missing_of_key(after, change.key)
    for field, value in missing.items():
        problem = "is no text" if field in after.body else "is missing"
        expected = (
            f"{value!r}: a record says itself what its key says" if value else "a value, and in the key too"
        )
        mistakes.add(name, 0, field, problem, expected)
    if not missing and after.key != change.key:
        mistakes.add(name, 0, "", f"says that it is {after.key!r}", "the key that follows from what it says")
    return after


def _check(
    connection: Connection,
    before: Mapping[tuple[str, str], Record | None],
    after: Mapping[tuple[str, str], Record | None],
) -> None:
    """Judge what would be: all of it, or only the enterprises that are touched, where nothing else is.

    Raises RegistryErrors.
    """
    mistakes = Mistakes()
    touched = {found.enterprise for found in chain(before.values(), after.values()) if found is not None}
    new = [found for found in after.values() if found is not None]
    referred = {
        kind
        for (kind, key), old in before.items()
        if (old or after[kind, key] or _NOTHING).enterprise == ""
        and kind not in _LEAVES
        and not (kind == "person" and _can_be_asked_as_before(old, after[kind, key]))
    }
    codes = touched - {""}
    if referred or len(codes) > FEW:
        stored = _read(connection, select(records_table))
    else:
        stored = _of_enterprises(connection, codes, new)
    kept = (found for found in stored if (found.kind, found.key) not in after)
    if check(gather(chain(kept, new), mistakes), mistakes) is None:
        if not _newest(connection):
            problem, expected = (
                "is empty",
                "`fenghuo registry import FOLDER` before an edit of single records",
            )
            mistakes.add("registry", 0, "", problem, expected)
        raise RegistryErrors(mistakes.found)


def _can_be_asked_as_before(old: Record | None, new: Record | None) -> bool:
    """Whether what refers to a person may go on doing so: that asks for no more than somebody with a contact."""
    return new is not None and (
        old is None or bool(new.body.get("contacts")) >= bool(old.body.get("contacts"))
    )


def _of_enterprises(
    connection: Connection, codes: Collection[str], new: Sequence[Record], *, shared: bool = False
) -> Iterator[Record]:
    """The records of these enterprises, and what they can refer to: all that belongs to no enterprise, but of
    the cells only the tree, no duties, and of the people only those who are named.

    Args:
        new: records that will be judged with them.
        shared: all people, and the duties that belong to no enterprise, too.
    """
    table = records_table.c
    apart = ["person", "cell"] if shared else ["person", "cell", "duty"]
    wanted = or_(and_(table.enterprise == "", table.kind.not_in(apart)), table.enterprise.in_(list(codes)))
    own = list(_read(connection, select(records_table).where(wanted)))
    yield from own
    for cell in _read(connection, select(records_table).where(table.kind == "cell")):
        yield cell._replace(body={name: cell.body[name] for name in _GRID if name in cell.body})
    people = select(records_table).where(table.kind == "person")
    if shared:
        yield from _read(connection, people)
        return
    named = iter({text for found in chain(own, new) for text in _texts(found.body)})
    while some := list(islice(named, TOGETHER)):
        yield from _read(connection, people.where(table.key.in_(some)))


def _texts(data: Data) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    else:
        for inner in data.values() if isinstance(data, dict) else data:
            yield from _texts(inner)


def _read(connection: Connection, query: Select[Any]) -> Iterator[Record]:
    for kind, key, enterprise, body in connection.execute(query).yield_per(TOGETHER):
        yield Record(kind, key, enterprise, decode(body))


def _find(connection: Connection, kind: str, key: str) -> Record | None:
    table = records_table.c
    query = select(records_table).where(table.kind == kind, table.key == key)
    return next(_read(connection, query), None)


def _newest(connection: Connection) -> int:
    return connection.execute(select(func.max(edits_table.c.id))).scalar() or 0


def _touched(connection: Connection, since: int) -> set[tuple[str, str]]:
    """Of which enterprise, and of what kind, records were changed after this edit; "" belongs to none."""
    table = changes_table.c
    query = select(table.enterprise, table.kind).where(table.edit > since).distinct()
    return {(enterprise, kind) for enterprise, kind in connection.execute(query)}


def _words(newest: Edit | None, then: int) -> str:
    """Who made the newest edit, and why; and how many it is one of, where there were more since one was loaded."""
    if newest is None:
        return ""
    several = f"edits {then + 1}–{newest.id}, the last: " if 0 < then < newest.id - 1 else ""
    return f"{several}{newest.who}: {newest.why}"


def _edit(connection: Connection, number: int) -> Edit | None:
    row = connection.execute(select(edits_table).where(edits_table.c.id == number)).first()
    return Edit(*row) if row else None
