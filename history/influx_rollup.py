"""Roll-ups in InfluxDB: the Flux of the tasks that make them, and of making an hour of them once more; pure.

A task rolls up what has been written when it runs. What comes later, after an outage or from a gateway that had kept
it, and what the tasks have missed, is rolled up again by the hour (history/influx.py).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from history.influx_access import BY_HOUR, BY_MINUTE, Access
from history.lines import READINGS
from registry.clock import HOUR, MINUTE, SECOND

APART = 30 * SECOND
"""How far the server's clock, by which tasks run, may be ahead of ours, µs: if it is farther, what comes late is not
always known to be."""

STATS = ("min", "max", "mean", "last", "count", "sum")
"""Values of the tag ``stat``; all are floats, since a field has one type. Of mean, none of a longer time can be made:
of sum and count it can."""

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
        ran = now - self.offset + APART
        return ran // self.every * self.every


BY = (RollUp(BY_MINUTE, MINUTE, 5 * MINUTE, MINUTE), RollUp(BY_HOUR, HOUR, HOUR, 6 * MINUTE))


def task_name(access: Access, cell: str, roll_up: RollUp) -> str:
    return access.bucket(cell, roll_up.of)


def task(access: Access, cell: str, roll_up: RollUp) -> str:
    """The Flux of a task that rolls up the time since it ran last."""
    name = text(task_name(access, cell, roll_up))
    option = f"option task = {{name: {name}, every: {span(roll_up.every)}, offset: {span(roll_up.offset)}}}"
    return f"{option}\n\n{_body(access, cell, roll_up, 'start: -task.every')}"


def again(
    access: Access,
    cell: str,
    roll_up: RollUp,
    start: int,
    stop: int,
    enterprises: Collection[str] | None = None,
    without: Collection[str] = (),
) -> str:
    """The Flux that rolls up a stretch of time, µs UTC, whole windows of it.

    Args:
        enterprises: their readings alone, if not those of all.
        without: fields to leave out.
    """
    which = [f"r._field != {text(field)}" for field in sorted(without)]
    if enterprises is not None:
        which.append(joined("or", [f"r.enterprise == {text(code)}" for code in sorted(enterprises)]))
    return _body(access, cell, roll_up, f"start: {moment(start)}, stop: {moment(stop)}", which)


def strangers(access: Access, cell: str, start: int, stop: int) -> str:
    """The Flux that names the fields of readings that are no floats, as ``_value``: somebody else wrote them, and they
    cannot be rolled up. A filter by type in the roll-up itself is not pushed down, and so costs several times as much.
    """
    lines = [
        'import "types"',
        "",
        f"from(bucket: {text(access.bucket(cell))})",
        f"    |> range(start: {moment(start)}, stop: {moment(stop)})",
        f'    |> filter(fn: (r) => r._measurement == "{READINGS}")',
        "    |> first()",
        '    |> filter(fn: (r) => not types.isType(v: r._value, type: "float"))',
        '    |> keep(columns: ["_field"])',
        "    |> group()",
        '    |> distinct(column: "_field")',
    ]
    return "\n".join(lines) + "\n"


def _body(access: Access, cell: str, roll_up: RollUp, stretch: str, which: Sequence[str] = ()) -> str:
    """A pass of its own for each stat, from the bucket on: only so does the storage engine do the work. Series are put
    together before they are written: a table for each costs as much as all else."""
    source, target = text(access.bucket(cell)), text(access.bucket(cell, roll_up.of))
    wanted = joined("and", [f'r._measurement == "{READINGS}"', *which])
    lines = [
        f"roll = (fn, stat) => from(bucket: {source})",
        f"    |> range({stretch})",
        f"    |> filter(fn: (r) => {wanted})",
        f'    |> aggregateWindow(every: {span(roll_up.window)}, fn: fn, createEmpty: false, timeSrc: "_start")',
        '    |> group(columns: ["_measurement", "enterprise", "unit"])',
        '    |> set(key: "stat", value: stat)',
        "",
        "write = (stat, tables=<-) => tables",
        f"    |> to(bucket: {target}, org: {text(access.organisation)})",
        "    |> count()",
        "    |> yield(name: stat)",
        "",
        *(f'roll(fn: {stat}, stat: "{stat}"){_FLOAT[stat]} |> write(stat: "{stat}")' for stat in STATS),
    ]
    return "\n".join(lines) + "\n"


def joined(by: str, conditions: Sequence[str]) -> str:
    """Conditions of a filter joined by "and" or "or": in halves, since Flux takes no deep nesting."""
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    return f"({joined(by, conditions[:half])} {by} {joined(by, conditions[half:])})"


def text(value: str) -> str:
    """As a string of Flux."""
    for special in ("\\", '"', "${"):
        value = value.replace(special, f"\\{special}")
    return f'"{value}"'


def span(length: int) -> str:
    return f"{length // HOUR}h" if length % HOUR == 0 else f"{length // MINUTE}m"


def moment(time: int) -> str:
    """A time, µs, of the years 1970 to 9999."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
