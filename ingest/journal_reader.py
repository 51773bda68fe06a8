"""Reading the journal: by offset, or its dead letters; in any process, while the writer goes on.

All raise JournalDamaged where a file or what is in it cannot be read, and JournalUnreadable where only the
disk does not let them now.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ingest.journal_file import first_offset, paths, query, reading, unpacked
from ingest.pack import unpack
from ingest.readings import DeadLetter, Round

_CHUNK = 100  # rounds taken at a time: between chunks a reader holds up no checkpoint


def read(folder: Path, after: int) -> Iterator[tuple[int, Round]]:
    """The committed rounds after an offset, in order, across files, up to the newest.

    Offsets go up by one; a larger step is a span that is no longer there (dropped, or a file moved away).
    """
    while files := paths(folder):
        index = max(0, sum(first_offset(path) <= after + 1 for path in files) - 1)
        path = files[index]
        try:
            with reading(path) as db:
                while chunk := db.execute(
                    "SELECT offset, blob FROM round WHERE offset > ? ORDER BY offset LIMIT ?", (after, _CHUNK)
                ).fetchall():
                    for offset, blob in chunk:
                        yield offset, unpacked(unpack, path, offset, blob)
                    after = chunk[-1][0]
        except FileNotFoundError:
            continue  # retention has dropped it since it was listed
        if index + 1 < len(files):  # it had a successor before it was read, so nothing was added since
            after = max(after, first_offset(files[index + 1]) - 1)
        elif paths(folder) == files:
            return


def version_at(folder: Path, offset: int) -> str | None:
    """The registry version in force at an offset; None before the first one, or where it is dropped."""
    for path in reversed(paths(folder)):
        if first_offset(path) <= offset:
            statement = "SELECT version FROM version WHERE offset <= ? ORDER BY offset DESC LIMIT 1"
            for (version,) in query(path, statement, (offset,)):
                return str(version)
            return None
    return None


def dead_letters(
    folder: Path, *, limit: int, before: int | None = None, topic_prefixes: Sequence[str] | None = None
) -> list[tuple[int, DeadLetter]]:
    """Dead letters with their ids, newest first.

    Args:
        before: only ids below this one: the last id of the page before.
        topic_prefixes: only topics that start with one of these; None for all.
    """
    where, values = _topics(topic_prefixes)
    statement = f"""
        SELECT id, time, topic, reason, detail, head, count FROM dead_letter
        WHERE id < ? AND {where} ORDER BY id DESC LIMIT ?"""  # noqa: S608
    rows = _newest(folder, statement, ((1 << 62) if before is None else before, *values), limit)
    return [(row[0], DeadLetter(*row[1:])) for row in rows]


def dead_letter_id(
    folder: Path, *, time: int, place: int, topic_prefixes: Sequence[str] | None = None
) -> int:
    """The id of the dead letter that is, newest first, the ``place``-th (from 1) of those of this arrival time.

    So a page of them can be asked for without an id, which counts what others have sent. 0 if there is none.
    """
    where, values = _topics(topic_prefixes)
    statement = f"SELECT id FROM dead_letter WHERE time = ? AND {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
    rows = _newest(folder, statement, (time, *values), place)
    return int(rows[-1][0]) if len(rows) == place else 0


def _newest(folder: Path, statement: str, values: Sequence[object], limit: int) -> list[tuple[Any, ...]]:
    """The rows of a statement whose last value is its limit, over all files, the newest first."""
    rows: list[tuple[Any, ...]] = []
    for path in reversed(paths(folder)):
        if len(rows) >= limit:
            break
        rows += query(path, statement, (*values, limit - len(rows)))
    return rows


def _topics(prefixes: Sequence[str] | None) -> tuple[str, tuple[object, ...]]:
    """An SQL condition for topics that start with one of the prefixes, and its values.

    A look-up for each length of prefix, of which there are few, and not a term for each prefix: SQLite
    refuses an expression of a thousand.
    """
    if prefixes is None:
        return "true", ()
    lengths = sorted({len(prefix) for prefix in prefixes})
    given = json.dumps(list(prefixes))
    tests = ["false", *["substr(topic, 1, ?) IN (SELECT value FROM json_each(?))"] * len(lengths)]
    return f"({' OR '.join(tests)})", tuple(value for length in lengths for value in (length, given))
