"""What roll-ups need beside their tasks: hours that these missed, or that something came late to, are made anew."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import structlog
from influxdb_client.client.flux_csv_parser import FluxQueryException
from influxdb_client.rest import ApiException
from influxdb_client.service.tasks_service import TasksService

from history.influx_access import FAILURES, Access
from history.influx_notes import LATE, Late, Notes
from history.influx_rollup import APART, BY, again, strangers, task_name
from registry.clock import DAY, HOUR, MINUTE, SECOND, Clock

SETTLE = 10 * MINUTE
"""How long an hour waits for more that comes late, µs, before it is rolled up again; likewise a server that has not
answered, before it is asked again."""

RAN = 4 * MINUTE
"""How long after an hour's last task is to run, µs, all its runs are over."""

LONGEST = DAY
"""Of what is looked through at once, µs: the server lists no more than RUNS, and there are 288 of them in a day."""

RUNS = 500

SHARD = 7 * DAY
"""Of what the server keeps together, µs, at most: a field that is in its way may be anywhere in there."""

QUERY = 60.0
"""Seconds for an answer: nothing is written meanwhile."""

log = structlog.get_logger()


class Upkeep:
    """One thread, that of its home.

    Args:
        whose: see InfluxHome.

    ``counts``: hours "missed" by the tasks, "rolled_up" again, "not_rolled_up" when that was tried, "forgotten" since
    too many wait; "not_looked": times that the server did not say what its tasks had done.
    """

    def __init__(
        self,
        access: Access,
        notes: Notes,
        clock: Clock,
        counts: Counter[str],
        whose: Callable[[], Collection[str]] | None,
    ) -> None:
        self.counts = counts
        self._access, self._notes, self._clock, self._whose = access, notes, clock, whose
        self._rests = self._looks = 0  # nothing, or no look, before that time

    def step(self, cells: Sequence[str]) -> bool:
        """Look once an hour what the tasks of these cells have missed, or roll up one hour again; whether that was due,
        and done. What fails waits for its turn again. Raises sqlite3.OperationalError.
        """
        now = self._clock.now()
        if now < self._rests:
            return False
        looked, ran = self._notes.looked, BY[-1].too_late(now - RAN)
        if not looked and cells:  # before it began nothing was its own
            self._notes.look(ran)
        elif looked < ran and cells and now >= self._looks:
            return self._look(cells, looked, min(ran, looked + LONGEST), now)
        late = self._notes.late()
        return late is not None and now >= late.since + SETTLE and self._make_good(late, now)

    def forgotten(self, hours: int) -> None:
        """So many could not be noted."""
        if hours:
            self.counts["forgotten"] += hours
            log.error("influx_hours_forgotten", hours=hours, waiting=LATE)

    def _look(self, cells: Sequence[str], begin: int, end: int, now: int) -> bool:
        """Note the hours of [begin, end) that the tasks have missed."""
        try:
            with self._access.client(QUERY) as client:
                late = [
                    Late(cell, hour, now) for cell in cells for hour in self._missed(client, cell, begin, end)
                ]
                self._compare(client, now)
        except FAILURES as error:
            log.warning("influx_runs_not_known", why=self._access.why(error))
            self.counts["not_looked"] += 1
            self._looks = now + SETTLE
            return False
        if late:
            first = {"cell": late[0].cell, "hour": late[0].hour}
            log.warning("influx_runs_missed", hours=len(late), **first)
            self.counts["missed"] += len(late)
        self.forgotten(self._notes.look(end, late))
        return True

    def _missed(self, client: Any, cell: str, begin: int, end: int) -> list[int]:
        """Hours, of whole ones, of which a task has not done all, or the server no longer knows. Raises FAILURES."""
        service: Any = TasksService(client.api_client)  # type: ignore[no-untyped-call]
        found: set[int] = set()
        for roll_up in BY:
            name = task_name(self._access, cell, roll_up)
            tasks = service.get_tasks(org=self._access.organisation, name=name).tasks
            if not tasks:
                why = "`fenghuo history setup` makes it; if it is there, our token has to be allowed to read tasks"
                log.warning("influx_task_not_seen", task=name, why=why)
            stretch = {"after_time": _rfc3339(begin), "before_time": _rfc3339(end + SECOND), "limit": RUNS}
            done = {
                int(run.scheduled_for.timestamp()) * SECOND
                for task in tasks
                for run in service.get_tasks_id_runs(task.id, **stretch).runs
                if run.status == "success"
            }
            due = range(begin + roll_up.every, end + 1, roll_up.every)  # a run is of what was before it
            found |= {(time - roll_up.every) // HOUR * HOUR for time in due if time not in done}
        return sorted(found)

    def _compare(self, client: Any, now: int) -> None:
        """Tell of the server's clock, which its last answer says to the second."""
        said = client.api_client.last_response.getheader("Date")
        apart = now - int(parsedate_to_datetime(said).timestamp()) * SECOND if said else 0
        if abs(apart) > APART:
            why = "tasks may roll up before all is written, and nobody knows of it: set both clocks by NTP"
            log.warning("influx_clock_differs", seconds=apart // SECOND, why=why)

    def _make_good(self, late: Late, now: int) -> bool:
        """Roll up an hour again."""
        enterprises = None if self._whose is None else self._whose()
        if enterprises is not None and not enterprises:  # it is not known yet
            return False
        try:
            with self._access.client(QUERY) as client:
                self._roll_up_known(client.query_api(), late, now, enterprises)
        except (*FAILURES, FluxQueryException) as error:
            answered = isinstance(error, (ApiException, FluxQueryException))
            why = self._access.why(error) if isinstance(error, FAILURES) else str(error.message)
            log.warning("influx_not_rolled_up", cell=late.cell, hour=late.hour, why=why)
            self.counts["not_rolled_up"] += 1
            if not answered:  # another hour would not be answered either
                self._rests = now + SETTLE
            self._notes.wait(late, now)
            return False
        self.counts["rolled_up"] += 1
        self._notes.rolled_up(late)
        return True

    def _roll_up_known(self, queries: Any, late: Late, now: int, enterprises: Collection[str] | None) -> None:
        """Without what somebody else wrote there, if that is in its way."""
        try:
            self._roll_up(queries, late, now, enterprises)
        except (ApiException, FluxQueryException):
            around = late.hour - SHARD, late.hour + SHARD
            found = queries.query(strangers(self._access, late.cell, *around))
            fields = [record["_value"] for table in found for record in table]
            if not fields:
                raise
            bucket = self._access.bucket(late.cell)
            log.warning("influx_foreign_fields", bucket=bucket, count=len(fields), fields=fields[:10])
            self._roll_up(queries, late, now, enterprises, fields)

    def _roll_up(
        self,
        queries: Any,
        late: Late,
        now: int,
        enterprises: Collection[str] | None,
        without: Collection[str] = (),
    ) -> None:
        """As far as the tasks have come, in stretches as short as theirs."""
        for roll_up in BY:
            for start in range(late.hour, min(late.hour + HOUR, roll_up.too_late(now)), roll_up.every):
                stretch = (start, start + roll_up.every)
                queries.query(again(self._access, late.cell, roll_up, *stretch, enterprises, without))


def _rfc3339(time: int) -> str:
    return datetime.fromtimestamp(time // SECOND, UTC).isoformat()
