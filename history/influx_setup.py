"""What InfluxDB must have before readings are written to it: buckets, the tasks of roll-ups, tokens that may only read.

Safe to repeat: what is there as it is meant is left alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from influxdb_client.service.authorizations_service import AuthorizationsService
from influxdb_client.service.buckets_service import BucketsService
from influxdb_client.service.tasks_service import TasksService

from history.influx_access import BY_HOUR, BY_MINUTE, FAILURES, TESTED, Access
from history.influx_rollup import BY, task, task_name
from history.lines import jurisdiction
from ingest.broker import write_private
from registry.model import Registry

DAY = 24 * 3600
"""Seconds."""

PAGE = 100
"""Buckets and tasks that the server lists at once."""


class SetupError(Exception):
    """InfluxDB cannot be set up; says in a line what to mend. What was done before stays."""


@dataclass(frozen=True, slots=True)
class Days:
    """For how long each kind of bucket keeps what is in it; 0 is for ever."""

    readings: int
    minutes: int
    hours: int

    def of(self) -> Mapping[str, int]:
        """By the end of a bucket's name."""
        return {"": self.readings, BY_MINUTE: self.minutes, BY_HOUR: self.hours}


def cells(registry: Registry, level: str) -> list[str]:
    """Ids of the cells that have buckets: all of the level, and where enterprises are that lie in none of them.

    Raises SetupError for a level that the grid does not have, and for a cell whose bucket might be taken for another's
    roll-ups.
    """
    levels = dict.fromkeys(cell.level for cell in registry.cells.values())
    if level not in levels:
        raise SetupError(
            f"`history.influx.level` is {level!r}, but the grid has the levels {', '.join(levels)}"
        )
    found = {cell.id for cell in registry.cells.values() if cell.level == level}
    found |= {jurisdiction(registry, code, level) for code in registry.enterprises}
    for id in sorted(found):
        if id.endswith((BY_MINUTE, BY_HOUR)):
            raise SetupError(
                f"cell {id!r} cannot have a bucket: one whose name ends in {BY_MINUTE} or {BY_HOUR} has the roll-ups "
                "of another; give the cell another id, or set another `history.influx.level`"
            )
    return sorted(found)


def set_up(
    access: Access, cells: Sequence[str], days: Days, tokens: Path, *, dry: bool = False
) -> Iterator[str]:
    """Make what is missing and mend what is otherwise; a line for each such thing, as it is done.

    Args:
        tokens: folder of the files ``influx-CELL.token``, readable by their owner only.
        dry: only say it.

    Raises SetupError; OSError where a token cannot be written.
    """
    try:
        with access.client() as client:
            version = str(client.version())
            if version.removeprefix("v").split(".")[0] != "2":
                raise SetupError(f"{access.url} is InfluxDB {version}, but 2 is needed; tested with {TESTED}")
            yield from _Work(access, client, dry).all(cells, days, tokens)
    except FAILURES as error:
        if isinstance(error, OSError) and error.filename:
            raise
        raise SetupError(access.why(error)) from error


class _Work:
    """Requests are as the server's API says them; the client has types for few of them."""

    def __init__(self, access: Access, client: Any, dry: bool) -> None:
        self._access, self._dry = access, dry
        services: tuple[Any, ...] = (BucketsService, TasksService, AuthorizationsService)
        self._buckets, self._tasks, self._tokens = (service(client.api_client) for service in services)
        found = client.organizations_api().find_organizations(org=access.organisation)
        if not found:
            raise SetupError(
                f"{access.url} does not show this token the organisation {access.organisation!r}: it has to be an "
                "all-access token of it"
            )
        self._organisation = found[0].id

    def all(self, cells: Sequence[str], days: Days, tokens: Path) -> Iterator[str]:
        buckets, tasks = (
            self._pages(self._buckets.get_buckets, "buckets"),
            self._pages(self._tasks.get_tasks, "tasks"),
        )
        known = self._tokens.get_authorizations(org_id=self._organisation).authorizations
        for cell in cells:
            ids = []
            for of, kept in days.of().items():
                name = self._access.bucket(cell, of)
                id, done = self._bucket(name, buckets.get(name), kept)
                ids.append(id)
                yield from done
            for roll_up in BY:
                name = task_name(self._access, cell, roll_up)
                yield from self._task(name, tasks.get(name), task(self._access, cell, roll_up))
            yield from self._token(cell, ids, known, tokens / f"influx-{cell}.token")

    def _pages(self, get: Any, what: str) -> dict[str, Any]:
        """All there are, by name."""
        found: dict[str, Any] = {}
        after: dict[str, str] = {}
        while page := getattr(get(org_id=self._organisation, limit=PAGE, **after), what):
            found |= {one.name: one for one in page}
            after = {"after": page[-1].id}
        return found

    def _bucket(self, name: str, there: Any, days: int) -> tuple[str, list[str]]:
        """Its id ("" for one that is not made), and what was done."""
        shard = 7 * DAY if not days or days > 180 else DAY if days > 2 else 3600  # what is removed at once
        rules = [{"type": "expire", "everySeconds": days * DAY, "shardGroupDurationSeconds": shard}]
        if there is None:
            if self._dry:
                return "", [f"bucket {name}: is missing"]
            request = {"name": name, "orgID": self._organisation, "retentionRules": rules}
            return self._buckets.post_buckets(request).id, [f"bucket {name}: made, keeps {_stretch(days)}"]
        kept = sum(rule.every_seconds for rule in there.retention_rules)
        if kept == days * DAY:
            return there.id, []
        if not self._dry:
            self._buckets.patch_buckets_id(there.id, {"retentionRules": rules})
        return there.id, [f"bucket {name}: keeps {_stretch(days)} instead of {_stretch(kept / DAY)}"]

    def _task(self, name: str, there: Any, flux: str) -> Iterator[str]:
        right = {"flux": flux, "status": "active"}
        if there is None:
            if not self._dry:
                self._tasks.post_tasks({"orgID": self._organisation, **right})
            yield f"task {name}: {'is missing' if self._dry else 'made'}"
        elif (there.flux, there.status) != (flux, "active"):
            if not self._dry:
                self._tasks.patch_tasks_id(there.id, right)
            yield f"task {name}: {'is not as it should be' if self._dry else 'set right'}"

    def _token(self, cell: str, buckets: Sequence[str], known: Sequence[Any], path: Path) -> Iterator[str]:
        """One that may read these buckets and nothing else."""
        described = f"{self._access.bucket(cell)}: read only, for Grafana"
        earlier = [one for one in known if one.description == described]
        wanted = {("read", "buckets", id) for id in buckets}
        written = path.read_text("utf-8").strip() if path.exists() else ""
        if any(_rights(one) == wanted and one.token == written and one.status == "active" for one in earlier):
            return
        if not self._dry:
            request = {
                "orgID": self._organisation,
                "description": described,
                "permissions": [
                    {"action": "read", "resource": {"type": "buckets", "id": id, "orgID": self._organisation}}
                    for id in buckets
                ],
            }
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, self._tokens.post_authorizations(request).token)
            for one in earlier:  # nobody has them: they are not what the file says
                self._tokens.delete_authorizations_id(one.id)
        yield f"token {path}: {'is missing' if self._dry else 'made'}; reads the buckets of {cell}"


def _rights(token: Any) -> set[tuple[str, str, str]]:
    return {(one.action, one.resource.type, one.resource.id) for one in token.permissions}


def _stretch(days: float) -> str:
    return f"{days:g} days" if days else "for ever"
