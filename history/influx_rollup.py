"""Roll-ups in InfluxDB: the Flux of the tasks that make them, and of making an hour of them once more; pure.

A task rolls up what has been written when it runs. What comes later, after an outage or from a gateway that had kept
it, is rolled up again by the hour (history/influx.py).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from history.influx_access import BY_HOUR, BY_MINUTE, Access
from history.lines import READINGS
from registry.clock import HOUR, MINUTE, SECOND

STATS = ("min", "max", "mean", "last", "count")
"""Values of the tag ``stat``; all are floats, since a field has one type."""

_FLOAT = {
    **dict.fromkeys(STATS, ""),
    "count": " |> toFloat()",
}  # it costs as much as all else: where it must be


@dataclass(frozen=True, slots=True)
class RollUp:
    """of: what its bucket's name ends with; window: µs that become one; every, offset: of its task, µs."""

    of: str
    window: int
    every: int
    offset: int

    def too_late(self, now: int) -> int:
        """What is written now and was measured before then has, or may have, missed its task."""
        ran = now - self.offset + 30 * SECOND  # a run takes a while to begin
        return ran // self.every * self.every


BY = (RollUp(BY_MINUTE, MINUTE, 5 * MINUTE, MINUTE), RollUp(BY_HOUR, HOUR, HOUR, 6 * MINUTE))


def task_name(access: Access, cell: str, roll_up: RollUp) -> str:
    return access.bucket(cell, roll_up.of)


def task(access: Access, cell: str, roll_up: RollUp) -> str:
    """The Flux of a task that rolls up the time since it ran last."""
    name = _text(task_name(access, cell, roll_up))
    option = f"option task = {{name: {name}, every: {_span(roll_up.every)}, offset: {_span(roll_up.offset)}}}"
    return f"{option}\n\n{_body(access, cell, roll_up, 'start: -task.every')}"


def again(access: Access, cell: str, roll_up: RollUp, start: int, stop: int) -> str:
    """The Flux that rolls up a stretch of time, µs UTC, whole windows of it."""
    return _body(access, cell, roll_up, f"start: {_moment(start)}, stop: {_moment(stop)}")


def _body(access: Access, cell: str, roll_up: RollUp, stretch: str) -> str:
    """A pass of its own for each stat, from the bucket on: only so does the storage engine do the work. Series are put
    together before they are written: a table for each costs as much as all else."""
    source, target = _text(access.bucket(cell)), _text(access.bucket(cell, roll_up.of))
    lines = [
        f"roll = (fn, stat) => from(bucket: {source})",
        f"    |> range({stretch})",
        f'    |> filter(fn: (r) => r._measurement == "{READINGS}")',
        f'    |> aggregateWindow(every: {_span(roll_up.window)}, fn: fn, createEmpty: false, timeSrc: "_start")',
        '    |> group(columns: ["_measurement", "enterprise", "unit"])',
        '    |> set(key: "stat", value: stat)',
        "",
        "write = (stat, tables=<-) => tables",
        f"    |> to(bucket: {target}, org: {_text(access.organisation)})",
        "    |> count()",
        "    |> yield(name: stat)",
        "",
        *(f'roll(fn: {stat}, stat: "{stat}"){_FLOAT[stat]} |> write(stat: "{stat}")' for stat in STATS),
    ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """As a string of Flux."""
    for special in ("\\", '"', "${"):
        value = value.replace(special, f"\\{special}")
    return f'"{value}"'


def _span(length: int) -> str:
    return f"{length // HOUR}h" if length % HOUR == 0 else f"{length // MINUTE}m"


def _moment(time: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)).strftime("%Y-%m-%dT%H:%M:%SZ")
