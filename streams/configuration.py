"""Configuration: a registry and the rulebook that judges it, as one version; saved in parts, loaded as one."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from registry import versions
from registry.model import Registry
from registry.versions import RULEBOOK, BrokenVersion
from streams import rulebook as rules
from streams.rulebook import Rulebook
from streams.templates import effective


class Configuration(NamedTuple):
    """What is in force. The registry's points have what their templates give them."""

    registry: Registry
    rulebook: Rulebook

    @classmethod
    def of(cls, registry: Registry, rulebook: Rulebook) -> "Configuration":
        """Of a registry as it was compiled; its version becomes that of both."""
        whole = replace(registry, version=f"{registry.version}.{rulebook.version}")
        return cls(effective(whole, rulebook), rulebook)


def save(folder: Path, registry: Registry, rulebook: Rulebook) -> str:
    """Make both parts durable; returns the version of both. Raises OSError.

    Args:
        registry: as it was compiled, its version its own.
    """
    versions.save(folder, registry)
    versions.save_part(folder, rulebook.version, RULEBOOK, rules.pack(rulebook))
    return f"{registry.version}.{rulebook.version}"


def load(folder: Path, version: str, like: Registry | None = None) -> Configuration:
    """What was in force under this version. Raises NoSuchVersion, BrokenVersion, or OSError.

    like: a registry in hand; see registry.packed.unpack.
    """
    rulebook = load_rulebook(folder, version)
    return Configuration(effective(versions.load(folder, version, like), rulebook), rulebook)


def load_rulebook(folder: Path, version: str) -> Rulebook:
    """That of this version, without its registry. Raises NoSuchVersion, BrokenVersion, or OSError."""
    content = versions.load_part(folder, version, RULEBOOK)
    try:
        return rules.unpack(content)
    except ValueError as error:
        raise BrokenVersion(f"the rulebook of version {version}: {error}") from error
