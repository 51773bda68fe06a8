"""The sections of pipelines that the records name, for the engine that balances their flows."""

from collections.abc import Mapping, Sequence
from typing import Any

from registry.model import Section


def sections(
    records: Mapping[str, Mapping[str, Sequence[Any]]], rows: Mapping[tuple[str, str], tuple[int, str]]
) -> tuple[Section, ...]:
    """Sorted by enterprise and id.

    Args:
        records: the checked columns of pipelines.csv, by stem; it may be left out.
        rows: row and engineering unit of every point, by enterprise and id.
    """
    columns = records.get("pipelines")
    if not columns:
        return ()
    ends = ("flow_in", "flow_out", "pressure_in", "pressure_out")
    numbers = ("line_pack", "length", "wave_speed", "leak", "over")
    found = []
    for row, enterprise in enumerate(columns["enterprise"]):
        points = [columns[name][row] for name in ends]
        found.append(
            Section(
                enterprise,
                columns["id"][row],
                columns["name"][row] or columns["id"][row],
                *(rows[enterprise, point][0] if point else -1 for point in points),
                *(columns[name][row] for name in numbers),
            )
        )
    return tuple(sorted(found, key=lambda section: (section.enterprise, section.id)))
