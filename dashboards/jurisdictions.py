"""Jurisdictions: the cells whose people have a Grafana organisation of their own, and what is named after them."""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from history.influx_setup import cells
from registry.model import Registry

_OURS = "烽火 Fenghuo · "

LONGEST = 63
"""Bytes of a name in PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Jurisdiction:
    """A cell with all below it; or everything, where ``cell`` is ""."""

    cell: str
    name: str

    @property
    def id(self) -> str:
        """Its cell; "system" of everything, which no cell is called."""
        return self.cell or "system"

    @property
    def organisation(self) -> str:
        """What its organisation in Grafana is called."""
        return f"{_OURS}{self.name}{self._ending}"

    def has_named(self, organisation: str) -> bool:
        """Whether an organisation is its own: by its id, for a cell may get another name."""
        return organisation.startswith(_OURS) and organisation.endswith(self._ending)

    @property
    def _ending(self) -> str:
        return f" ({self.id})"

    def password_file(self, folder: Path) -> Path:
        """Where the password of its PostgreSQL role is."""
        return folder / f"postgres-{self.id}.password"

    def token_file(self, folder: Path) -> Path:
        """Where the InfluxDB token of its bucket is."""
        return folder / f"influx-{self.id}.token"

    def role(self, database: str) -> str:
        """The name of its PostgreSQL role: a server has roles for all its databases."""
        name = f"{database}_{self.id}_grafana"
        encoded = name.encode()
        if len(encoded) <= LONGEST:
            return name
        digest = blake2b(encoded, digest_size=8).hexdigest()
        return encoded[: LONGEST - len(digest) - 1].decode(errors="ignore") + f"_{digest}"


SYSTEM = Jurisdiction("", "系统 System")
"""Those who run Fenghuo itself: they see all alerts, and the metrics."""


def jurisdictions(registry: Registry, level: str) -> list[Jurisdiction]:
    """One for each cell that has a bucket in InfluxDB, by id. Raises SetupError for a level that the grid has not."""
    return [Jurisdiction(cell, registry.cells[cell].name) for cell in cells(registry, level)]
