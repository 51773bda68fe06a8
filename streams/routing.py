"""Routing: which partition of the findings a finding belongs to, by the cell whose compound rules may need it; pure."""

from zlib import crc32

from registry.model import Registry
from streams.finding import Finding


class Routing:
    """By one registry. All of a cell of ``level`` goes to one of ``shards`` partitions, in every version.

    What lies in no such cell, and the system's own, goes together.
    """

    def __init__(self, registry: Registry, level: str, shards: int) -> None:
        self._registry, self._level, self._shards = registry, level, shards
        self._of_cell: dict[str, int] = {}

    def of(self, finding: Finding) -> int:
        enterprise = self._registry.enterprises.get(finding.enterprise)
        if enterprise is not None:
            return self._partition(enterprise.cell)
        kind, _, id = finding.subject.partition(":")
        return self._partition(id if kind == "cell" and id in self._registry.cells else "")

    def _partition(self, cell: str) -> int:
        found = self._of_cell.get(cell)
        if found is None:
            above = (one.id for one in self._registry.ancestors(cell) if one.level == self._level)
            found = self._of_cell[cell] = crc32(next(above, "").encode()) % self._shards
        return found
