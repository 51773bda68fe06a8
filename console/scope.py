"""A token's scope: as it is written and checked, and what it covers in a registry."""

from dataclasses import dataclass
from typing import Self

from alerting import store
from registry import credit
from registry.model import Enterprise, Registry

KINDS = ("enterprise", "cell", "system")


class ScopeError(ValueError):
    """A text is no scope; says what was expected."""


@dataclass(frozen=True, slots=True)
class Scope:
    """``enterprise:CODE``, ``cell:ID`` (the whole subtree), or ``system`` (everything)."""

    kind: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ScopeError."""
        kind, _, name = text.partition(":")
        if kind not in KINDS or (kind == "system") != (text == "system") or (kind != "system" and not name):
            raise ScopeError(f"{text!r} is no scope: expected enterprise:CODE, cell:ID or system")
        if kind == "enterprise" and (wrong := credit.check(name)):
            raise ScopeError(f"{name!r} is no credit code: it {wrong}")
        return cls(kind, name)

    def covered(self, registry: Registry) -> store.Scope:
        """What may be seen; nothing of a cell that the registry no longer has."""
        match self.kind:
            case "system":
                return store.Scope(system=True)
            case "enterprise":
                return store.Scope(enterprise=self.name)
            case _:
                return store.Scope(cells=store.subtree(registry, self.name))

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


def enterprise(registry: Registry, scope: store.Scope, code: str) -> Enterprise | None:
    """The enterprise of this code; None if there is none or the scope does not cover it."""
    found = registry.enterprises.get(code)
    return found if found is not None and scope.covers(found.code, found.cell) else None


def enterprises(registry: Registry, scope: store.Scope) -> list[str]:
    """The codes of all enterprises that the scope covers."""
    return [code for code, found in registry.enterprises.items() if scope.covers(code, found.cell)]
