"""The registry over HTTP: records, their history, and edits; within a token's scope."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Query, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse
from pydantic import Field, StringConstraints

from alerting.store import Scope
from console import scope as scopes
from console.guard import Refused, not_found
from console.models import NO_NUL, Model, Time
from registry.clock import Clock
from registry.files import DEEPEST, Data
from registry.mistakes import Mistake, RegistryErrors
from registry.model import Registry
from registry.records import Record, kinds, owner
from registry.store import Change, Look, RegistryStore

TOGETHER = 500
"""Enterprises whose records are asked for at once."""

OWN: Mapping[str, frozenset[str] | None] = {
    "chemicals": frozenset({"declared", "declared_on"}),
    "permits": None,
}
"""What an enterprise may edit of its own: fields of records that are there, or (None) whole records."""

Kind = Annotated[str, InPath(max_length=32, pattern=NO_NUL, examples=["point"])]
Key = Annotated[str, InPath(max_length=300, pattern=NO_NUL, examples=["91370200MA0001XX0H/TI-1101"])]
Code = Annotated[str | None, Query(max_length=18, pattern=NO_NUL, description="credit code")]
Limit = Annotated[int, Query(ge=1, le=1000)]


class Caller(Protocol):
    """Who asks."""

    @property
    def person(self) -> str: ...

    @property
    def scope(self) -> Scope: ...


class RecordOut(Model):
    """A record, its fields as a file would have them."""

    kind: str
    key: str
    enterprise: str = Field(description="credit code; empty for what belongs to none")
    body: dict[str, Any]


class Records(Model):
    items: list[RecordOut]
    next: str | None = Field(description="`cursor` of the next page; null on the last")


class EditOut(Model):
    """Who changed the registry, when and why."""

    id: int
    time: Time
    who: str
    why: str
    origin: str = Field(description="by what way: import, command, api or serve")


class ChangedOut(Model):
    """What an edit did to one record."""

    edit: EditOut
    number: int
    kind: str
    key: str
    enterprise: str
    old: dict[str, Any] | None = Field(description="null: it was not there")
    new: dict[str, Any] | None = Field(description="null: it was removed")


class History(Model):
    items: list[ChangedOut]
    next: str | None


class ChangeIn(Model):
    """Set fields of a record (an empty value takes one away; one that is not there is made), or remove it."""

    kind: str = Field(max_length=32, pattern=NO_NUL)
    key: str = Field(max_length=300, pattern=NO_NUL)
    set: dict[str, Any] | None = None
    remove: bool = False


class EditIn(Model):
    why: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=NO_NUL)
    ]
    changes: list[ChangeIn] = Field(min_length=1, max_length=1000)


class MistakeOut(Model):
    record: str
    field: str
    problem: str
    expected: str


def router(
    store: RegistryStore,
    registry: Callable[[], Registry],
    clock: Clock,
    caller: Callable[..., Caller],
    prefix: str,
    documented: Callable[..., dict[int | str, dict[str, Any]]],
) -> APIRouter:
    """The routes.

    Args:
        registry: the version in force.
        caller: the dependency that gives who asks.
    """
    Asking = Annotated[Caller, Depends(caller)]
    api = APIRouter(prefix=f"{prefix}/registry", tags=["registry"], responses=documented(401, 404, 422))

    @api.get("/history", operation_id="listRegistryHistory")
    def list_history(
        asking: Asking,
        kind: Annotated[str, Query(max_length=32, pattern=NO_NUL)] = "",
        key: Annotated[str, Query(max_length=300, pattern=NO_NUL)] = "",
        enterprise: Code = None,
        limit: Limit = 100,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,9}-[0-9]{1,9}$")] = None,
    ) -> History:
        """What edits did to records, the newest edit first. A token of an enterprise sees its own; one of a cell
        must name an enterprise."""
        code = enterprise or asking.scope.enterprise or ""
        if not asking.scope.system:
            _seen(asking.scope, registry(), code)
        edit, _, number = (cursor or "").partition("-")
        before = (int(edit), int(number)) if cursor else None
        found = store.history(kind, key, code, before=before, limit=limit + 1)
        page = found[:limit]
        return History(
            items=[ChangedOut.model_validate(changed, from_attributes=True) for changed in page],
            next=f"{page[-1].edit.id}-{page[-1].number}" if len(found) > limit else None,
        )

    @api.get("/{kind}", operation_id="listRegistryRecords")
    def list_records(
        kind: Kind,
        asking: Asking,
        enterprise: Code = None,
        limit: Limit = 100,
        cursor: Annotated[str, Query(max_length=300, pattern=NO_NUL)] = "",
    ) -> Records:
        """The records of a kind that the token may see, by their keys."""
        _known(kind)
        if enterprise is not None and not asking.scope.system:
            _seen(asking.scope, registry(), enterprise)
        found = []
        if enterprise is not None or asking.scope.system:
            found = store.records(kind, enterprise or "", after=cursor, limit=limit + 1)
        else:  # keys of what belongs to an enterprise begin with its code
            codes = sorted(
                code for code in scopes.enterprises(registry(), asking.scope) if code >= cursor[: len(code)]
            )
            for begin in range(0, len(codes), TOGETHER):
                missing = limit + 1 - len(found)
                some = codes[begin : begin + TOGETHER]
                found += store.records(kind, among=some, after=cursor, limit=missing)
                if len(found) > limit:
                    break
        page = found[:limit]
        return Records(
            items=[_out(record) for record in page], next=page[-1].key if len(found) > limit else None
        )

    @api.get("/{kind}/{key:path}", operation_id="readRegistryRecord")
    def read_record(kind: Kind, key: Key, asking: Asking) -> RecordOut:
        """One record."""
        _known(kind)
        found = store.find(kind, key)
        if found is None:
            raise not_found()
        if not asking.scope.system:
            _seen(asking.scope, registry(), found.enterprise)
        return _out(found)

    @api.post(
        "/edits",
        operation_id="editRegistry",
        status_code=201,
        response_model=EditOut,
        responses={200: {"description": "It changes nothing: no edit is made"}, **documented(403)},
    )
    def edit(body: EditIn, asking: Asking) -> Response:
        """Make an edit of one change or more: all of it, or, with a mistake anywhere, nothing."""
        if not asking.person:
            raise Refused(403, "nobody", "this token speaks for no person, so it cannot edit the registry")
        mistakes: list[Mistake] = []
        changes = list(_changes(body, mistakes))
        try:
            if mistakes:
                raise RegistryErrors(mistakes)
            done = store.edit(
                changes,
                who=asking.person,
                why=body.why,
                now=clock.now(),
                origin="api",
                permit=lambda look: _may_edit(asking.scope, look, changes),
            )
        except RegistryErrors as error:
            return _refused(error)
        if done is None:
            return JSONResponse(None, 200)
        return JSONResponse(EditOut.model_validate(done, from_attributes=True).model_dump(), 201)

    return api


def _out(record: Record) -> RecordOut:
    return RecordOut(kind=record.kind, key=record.key, enterprise=record.enterprise, body=record.body)


def _refused(error: RegistryErrors) -> JSONResponse:
    """The one form of every error, with all mistakes apart too."""
    mistakes = [
        MistakeOut(record=one.file, field=one.field, problem=one.problem, expected=one.expected).model_dump()
        for one in error.mistakes
    ]
    return JSONResponse({"error": {"code": "invalid", "message": str(error), "mistakes": mistakes}}, 422)


def _known(kind: str) -> None:
    if kind not in kinds():
        raise not_found()


def _seen(scope: Scope, registry: Registry, code: str) -> None:
    """Raises Refused unless the scope covers this enterprise."""
    if not code or scopes.enterprise(registry, scope, code) is None:
        raise not_found()


def _changes(body: EditIn, mistakes: list[Mistake]) -> Iterator[Change]:
    for number, change in enumerate(body.changes):
        name = f"{change.kind} {change.key}"
        if change.remove == (change.set is not None):
            mistakes.append(Mistake(name, 0, f"changes[{number}]", "is unclear", "either set or remove"))
        try:
            fields = {_text(field): _data(value) for field, value in (change.set or {}).items()}
        except UnicodeEncodeError:
            mistakes.append(Mistake(name, 0, "set", "has half a character in it", "UTF-8"))
            fields = {}
        except ValueError as error:
            mistakes.append(Mistake(name, 0, "set", str(error), "texts, numbers, lists and mappings"))
            fields = {}
        yield Change(change.kind, change.key, None if change.remove else fields)


def _data(value: Any, deep: int = 0) -> Data:
    """The texts that a file would hold. Raises ValueError."""
    if deep > DEEPEST:
        raise ValueError(f"is nested over {DEEPEST} deep")
    if isinstance(value, bool):
        raise ValueError("has true or false in it")
    if isinstance(value, int | float):
        return json.dumps(value)
    if isinstance(value, list):
        return [_data(item, deep + 1) for item in value]
    if isinstance(value, dict):
        return {_text(str(key)): _data(item, deep + 1) for key, item in value.items()}
    return _text(value) if isinstance(value, str) else ""


def _text(value: str) -> str:
    """Raises ValueError for what cannot be stored: half a surrogate pair, a NUL."""
    if not value.isascii():
        value.encode()  # UnicodeEncodeError is a ValueError
    if "\0" in value:
        raise ValueError("has a NUL in it")
    return value


def _may_edit(scope: Scope, look: Look, changes: list[Change]) -> None:
    """Raises Refused unless the scope lets all of these changes be made.

    A cell's: all of the enterprises below it, which stay below it. An enterprise's: what OWN says.
    """
    if scope.system:
        return
    codes = {owner(change.kind, change.key): change.kind for change in changes}
    if "" in codes:
        problem = f"{codes['']} belongs to no enterprise: it needs a token of scope system"
        raise Refused(403, "forbidden", problem)
    if scope.enterprise is not None:
        if codes.keys() != {scope.enterprise}:
            raise not_found()
        for change in changes:
            fields = OWN.get(change.kind, frozenset())
            known = look.find(change.kind, change.key) is not None
            if fields is not None and (change.set is None or not known or not change.set.keys() <= fields):
                raise Refused(403, "forbidden", f"an enterprise may edit {_own()} of its own, nothing else")
        return
    for code in codes:
        there = look.find("enterprise", code)
        cells = {str(there.body.get("cell", ""))} if there else set()
        cells |= {
            str(change.set["cell"])
            for change in changes
            if (change.kind, change.key) == ("enterprise", code) and change.set and "cell" in change.set
        }
        if not cells:
            raise not_found()
        if not cells <= scope.cells:
            if there is None or not scope.covers("", str(there.body.get("cell", ""))):
                raise not_found()  # and so it is, whether or not others have it
            raise Refused(403, "forbidden", "the enterprise would lie outside the token's cell")


def _own() -> str:
    return ", ".join(
        kind if fields is None else f"{' and '.join(sorted(fields))} of {kind}"
        for kind, fields in OWN.items()
    )
