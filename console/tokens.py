"""Tokens of the API: made once, kept only as a digest, looked up by it, revoked for good."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, Engine, String, insert, select, update

from alerting import tables
from console.scope import Scope
from registry.database import DatabaseError, reading, writing

PREFIX = "fenghuo_"
"""So that a token is known for what it is where it leaks into a log or a repository."""


class TokenRefused(DatabaseError):
    """A token cannot be made so; says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token; times in µs, ``revoked`` 0 while it is valid."""

    digest: str  # SHA-256, hex
    name: str  # what it is for
    person: str  # person id for whom it answers, "" for none
    scope: str
    created: int
    revoked: int


def create(database: Engine, *, name: str, scope: Scope, person: str = "", now: int) -> str:
    """Makes a token and returns it: the only time that it can be seen.

    Raises:
        TokenRefused: a text is too long, or holds a NUL character, which not every database takes.
        DatabaseBusy, DatabaseUnwritable.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    row = {"digest": digest(token), "name": name, "person": person, "scope": str(scope)}
    for column, text in row.items():
        longest = cast(String, tables.tokens.c[column].type).length or 0
        if len(text) > longest or "\0" in text:
            raise TokenRefused(f"{column}: expected up to {longest} characters, none of them NUL: {text!r}")
    with writing(database) as connection:
        connection.execute(insert(tables.tokens).values(**row, created=now, revoked=0))
    return token


def listing(database: Engine) -> list[Token]:
    """All tokens, revoked ones too, the oldest first."""
    query = select(tables.tokens).order_by(tables.tokens.c.created, tables.tokens.c.digest)
    with reading(database) as connection:
        return [Token(*row) for row in connection.execute(query)]


def revoke(database: Engine, start: str, *, now: int) -> int:
    """Revokes the one valid token whose digest starts so; returns how many do, and unless 1, does nothing."""
    column = tables.tokens.c
    with writing(database) as connection:
        valid = connection.scalars(select(column.digest).where(column.revoked == 0))
        found = [whole for whole in valid if whole.startswith(start)]
        if len(found) == 1:
            connection.execute(update(tables.tokens).where(column.digest == found[0]).values(revoked=now))
    return len(found)


def find(connection: Connection, token: str) -> Token | None:
    """The valid token of this text. Found by its digest, so the time it takes tells nothing of the text."""
    column = tables.tokens.c
    query = select(tables.tokens).where(column.digest == digest(token), column.revoked == 0)
    row = connection.execute(query).one_or_none()
    return None if row is None else Token(*row)


def digest(token: str) -> str:
    """SHA-256, hex. Enough without salt or stretching, since the token is 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()
