"""`fenghuo doctor`: is this machine fit to guard people, and what is missing?"""

import socket
import sqlite3
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.exc import DBAPIError

import registry.versions
from alerting.ladder import Ladder
from alerting.lifecycle import SYSTEM
from alerting.words import moment
from fenghuo import historian_status, reach, settings, status
from fenghuo.judge import WALL_STEP
from ingest import journal
from registry.clock import DAY, MINUTE, SECOND, SystemClock
from registry.database import DatabaseError, open_database, writing
from registry.model import Registry

console = Console()
stderr = Console(stderr=True, highlight=False)
GOOD, DOUBTFUL, BAD = "[green]good[/]", "[yellow]look[/]", "[red]bad[/]"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TRIED = 1 << 20
"""Bytes that are written to the desk's database to see whether its disk takes them; then rolled back."""


BEHIND = 120.0
"""Seconds that history may be behind the journal before somebody should look."""


class Finding(NamedTuple):
    """One thing looked at, and what was found."""

    what: str
    verdict: str
    said: str


def doctor(
    file: Annotated[Path | None, typer.Argument(help="Settings (YAML) of a cluster.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data folder of `fenghuo serve`.", envvar="FENGHUO_DATA")
    ] = None,
) -> None:
    """Look at broker, database, clock, disk and duty rota, and say what a person should do.

    Example: `fenghuo doctor --data build/data`, or `fenghuo doctor cluster.yaml`

    Exit status: 0 if nothing is bad.
    """
    try:
        if file is not None:
            chosen = settings.load(file)
        elif data is not None:
            chosen = settings.of_run(data)
        else:
            raise typer.BadParameter("give --data of `fenghuo serve`, or a cluster's settings file")
    except settings.SettingsError as error:
        stderr.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(1) from error
    table = Table("what", "verdict", "said")
    now = SystemClock().now()
    if chosen.cluster is None:
        findings = list(examine(chosen, now))
    else:
        from fenghuo.commands import doctor_cluster

        findings = list(doctor_cluster.examine(chosen, chosen.cluster, now))
    for finding in findings:
        table.add_row(finding.what, finding.verdict, escape(finding.said))
    console.print(table)
    if any(finding.verdict == BAD for finding in findings):
        raise typer.Exit(1)


def examine(chosen: settings.Settings, now: int) -> Iterator[Finding]:
    """All that a doctor looks at; ``now`` is the wall's time, µs."""
    said = status.read(chosen.status)
    yield _broker(chosen, said)
    yield _judge(chosen, said, now)
    yield _database(chosen)
    yield _clock(chosen, said, now)
    yield _disk(chosen)
    yield from _history(chosen, said, now)
    if chosen.refused.exists():
        mistakes = chosen.refused.read_text("utf-8").splitlines()
        first = mistakes[0] if mistakes else "no reason was stored"
        yield Finding(
            "registry", BAD, f"a change was refused for {len(mistakes)} mistakes, the first: {first}"
        )
    try:
        version = registry.versions.wanted(chosen.versions)
        compiled = registry.versions.load(chosen.versions, version) if version else None
    except (registry.versions.NoSuchVersion, registry.versions.BrokenVersion, OSError) as error:
        yield Finding("registry", BAD, f"it cannot be loaded: {error}")
        return
    if compiled is None:
        yield Finding("registry", BAD, "none has ever been compiled")
        return
    yield from of_registry(compiled, chosen, now)


def of_registry(compiled: Registry, chosen: settings.Settings, now: int) -> Iterator[Finding]:
    """Who is on duty, whom the channels reach, and whose silence is noticed."""
    yield _rota(compiled, now)
    yield _channels(compiled, chosen)
    yield _silence(compiled)


def broker_answers(chosen: settings.Settings) -> Finding:
    """Whether the MQTT broker can be reached."""
    if chosen.broker is None:
        return Finding("broker", BAD, "none is set")
    try:
        socket.create_connection((chosen.broker.host, chosen.broker.port), timeout=3).close()
    except OSError as error:
        return Finding("broker", BAD, f"{chosen.broker.url} does not answer: {error}")
    return Finding("broker", GOOD, f"{chosen.broker.url} answers")


def _broker(chosen: settings.Settings, said: status.Status | None) -> Finding:
    found = broker_answers(chosen)
    if found.verdict == GOOD and said is not None and not said.connected:
        return Finding("broker", BAD, f"{found.said}, but the judge is not connected to it")
    return found


def _judge(chosen: settings.Settings, said: status.Status | None, now: int) -> Finding:
    if said is None:
        return Finding("judge", BAD, "it has never written its status")
    age = now - _written(chosen)  # by the wall at both ends, since the judge's clock may be another
    if age > 10 * SECOND and not chosen.clock:
        return Finding("judge", BAD, f"its status is {age / SECOND:.0f} s old; is `fenghuo serve` running?")
    if said.unwritable:
        return Finding("judge", BAD, f"it cannot write its journal: {said.unwritable}")
    if said.waiting or not said.listening:
        return Finding(
            "judge", DOUBTFUL, f"{said.waiting} findings wait for the desk; listening: {said.listening}"
        )
    return Finding(
        "judge", GOOD, f"{said.readings:,} readings, {sum(said.dead.values())} dead letters since its start"
    )


def _database(chosen: settings.Settings) -> Finding:
    path = chosen.data / "desk.sqlite"
    if not path.exists():
        return Finding("desk", BAD, f"its database {path} is not there")
    database = open_database(path, busy=2)
    try:
        with writing(database) as connection:
            connection.exec_driver_sql("PRAGMA cache_size = 10")  # so that it goes to the disk at once
            connection.exec_driver_sql("CREATE TABLE doctor (body BLOB)")
            connection.exec_driver_sql("INSERT INTO doctor VALUES (zeroblob(?))", (TRIED,))
            connection.rollback()
    except (DatabaseError, DBAPIError, sqlite3.Error) as error:
        return Finding("desk", BAD, f"its database cannot be written: {error.__cause__ or error}")
    finally:
        database.dispose()
    return Finding("desk", GOOD, "its database can be written")


def _clock(chosen: settings.Settings, said: status.Status | None, now: int) -> Finding:
    """The wall against Fenghuo's own clock, at the moment of the judge's last word and since then."""
    if chosen.clock:
        return Finding("clock", GOOD, f"it is stepped from {chosen.clock}")
    if said is None:
        return Finding("clock", GOOD, "there is no record yet that the wall could be behind")
    if said.time - now > MINUTE:
        behind = (said.time - now) / SECOND
        return Finding("clock", BAD, f"the wall is {behind:.0f} s behind the last record; set it right")
    away = _written(chosen) - said.time
    if abs(away) > WALL_STEP:
        return Finding(
            "clock",
            BAD,
            f"the wall is {abs(away) / SECOND:.0f} s {'ahead of' if away > 0 else 'behind'} Fenghuo's clock: it was "
            "set, or the machine slept. If the wall is right now, start `fenghuo serve` anew; else set it right",
        )
    return Finding("clock", GOOD, "the wall and Fenghuo's clock agree")


def _written(chosen: settings.Settings) -> int:
    """When the judge last wrote its status, by the wall, µs."""
    return chosen.status.stat().st_mtime_ns // 1000


def _disk(chosen: settings.Settings) -> Finding:
    try:
        usage = journal.usage(chosen.journal, chosen.journal_bytes)
    except (OSError, journal.JournalDamaged, journal.JournalUnreadable) as error:
        return Finding("disk", BAD, f"the journal cannot be looked at: {error}")
    text = f"{usage.free / 1e9:.1f} GB free for the journal"
    if usage.free < 2 * chosen.journal_reserve:
        return Finding("disk", BAD, f"{text}: nearly full")
    if usage.hours is None:
        return Finding("disk", DOUBTFUL, f"{text}; it is too young to say for how long that is enough")
    wanted = chosen.journal_days * 24
    text += (
        f"; at this rate disk and budget hold {usage.hours:,.0f} h of readings (asked for: {wanted:,.0f} h)"
    )
    return Finding("disk", GOOD if usage.hours >= wanted else DOUBTFUL, text)


def _history(chosen: settings.Settings, judge: status.Status | None, now: int) -> Iterator[Finding]:
    """Each home of history, and how far it is behind the journal."""
    if not chosen.has_historian:
        return
    try:
        said = historian_status.read(chosen.history_status)
        age = now - chosen.history_status.stat().st_mtime_ns // 1000
    except OSError as error:
        said, why = None, f": {error.strerror}"
    else:
        why = f" for {age / SECOND:.0f} s" if age > 10 * SECOND and not chosen.clock else ""
    if said is None or why:
        yield Finding("history", BAD, f"the historian has said nothing{why}; is `fenghuo serve` running?")
        return
    for name, home in said.homes.items():
        if home.problem:
            yield Finding("history", BAD, f"{name} takes nothing: {home.problem}")
            continue
        behind = (judge.time - home.time) / SECOND if judge is not None else 0.0
        text = f"{name} is {max(0.0, behind):,.0f} s behind"
        if home.lost:
            text += f"; {home.lost:,} rounds were gone from the journal before it came to them"
        if refused := home.counts.get("refused", 0):
            text += f"; {refused_by_influxdb(refused, chosen.history_folder)}"
        yield Finding("history", DOUBTFUL if behind > BEHIND or home.lost or refused else GOOD, text)


def refused_by_influxdb(count: int, folder: Path) -> str:
    """What a historian says of this; its home's notes are in the folder."""
    notes = folder / "influx.sqlite"
    return f"InfluxDB refused {count:,} fields since the historian's start: they are in {notes}, with the reasons"


def _rota(compiled: Registry, now: int) -> Finding:
    places = {
        SYSTEM: "the system's administrator",
        **{code: f"operator of {enterprise.name}" for code, enterprise in compiled.enterprises.items()},
        **{cell.id: f"duty officer of {cell.name}" for cell in compiled.cells.values()},
    }
    ladder = Ladder(compiled)
    minutes: dict[str, set[int]] = {place: {0} for place in places}
    for duty in compiled.duty:
        minutes[duty.place] |= {duty.start, duty.end}
    empty = []
    for place, title in places.items():
        changes = _moments(minutes[place], compiled.time_zone, now)
        gap = next((time for time in changes if not ladder.on_duty(place, time)), None)
        if gap is not None:
            empty.append(f"{title} (from {moment(gap, compiled.time_zone)})")
    if not empty:
        return Finding("duty", GOOD, f"someone is on duty at all {len(places)} places, for the next 7 days")
    shown = "; ".join(empty[:5]) + (f"; and {len(empty) - 5} more" if len(empty) > 5 else "")
    return Finding("duty", BAD, f"within 7 days nobody is on duty as: {shown}")


def _moments(minutes: Collection[int], time_zone: str, now: int) -> list[int]:
    """Now, and every time in the next 7 days at which a duty that begins or ends at these minutes of a local
    day can change: between two of them it cannot. µs."""
    local = (EPOCH + timedelta(microseconds=now)).astimezone(ZoneInfo(time_zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    changes = {
        (midnight + timedelta(days=day, minutes=minute) - EPOCH) // timedelta(microseconds=1)
        for day in range(8)
        for minute in minutes
    }
    return [now, *sorted(time for time in changes if now < time < now + 7 * DAY)]


def _channels(compiled: Registry, chosen: settings.Settings) -> Finding:
    if warning := reach.warning(compiled, chosen.channels):
        return Finding("channels", BAD, warning)
    return Finding("channels", GOOD, "everyone on duty has a contact on a channel that is configured")


def _silence(compiled: Registry) -> Finding:
    count = int((compiled.points.interval == 0).sum())
    if count:
        return Finding(
            "silence",
            DOUBTFUL,
            f"{count:,} of {len(compiled.points):,} points have no interval: if they fall "
            "silent nobody will notice",
        )
    return Finding("silence", GOOD, f"the silence of all {len(compiled.points):,} points is noticed")
