"""Compiled versions of the registry in a folder, a file each under its version, and which one is wanted.

One process writes (the supervisor); any may read, and the judge discards.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

import zstandard

from registry import packed
from registry.model import Registry

_SUFFIX = ".registry"
_WANTED = "wanted"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,31}")


class NoSuchVersion(LookupError):
    """The folder has no file of this version."""


class BrokenVersion(ValueError):
    """The file of this version is not what was written."""


def save(folder: Path, registry: Registry) -> None:
    """Make this version durable under its name; to save it again changes nothing. Raises OSError."""
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    _write(_path(folder, registry.version), compressor.compress(packed.pack(registry)))


def load(folder: Path, version: str) -> Registry:
    """The registry of this version. Raises NoSuchVersion, BrokenVersion, or OSError."""
    path = _path(folder, version)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NoSuchVersion(f"{folder} has no registry of version {version}") from None
    try:
        registry = packed.unpack(zstandard.ZstdDecompressor().decompress(content))
    except (zstandard.ZstdError, ValueError) as error:
        raise BrokenVersion(f"{path}: {error}") from error
    if registry.version != version:
        raise BrokenVersion(f"{path} holds version {registry.version}")
    return registry


def present(folder: Path) -> set[str]:
    """The versions that can be loaded."""
    return {path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}")}


def discard_all_but(folder: Path, keep: Collection[str]) -> set[str]:
    """Remove all versions but these; returns those removed. Raises OSError.

    The wanted version stays, and so does what was saved since it was named: that is about to be wanted.
    """
    try:
        named = (folder / _WANTED).stat().st_mtime_ns
    except FileNotFoundError:
        return set()
    gone = set()
    for version in present(folder) - {*keep, wanted(folder)}:
        path = _path(folder, version)
        if path.stat().st_mtime_ns < named:
            path.unlink()
            gone.add(version)
    return gone


def want(folder: Path, version: str) -> None:
    """Note durably which version should take force next. Raises NoSuchVersion, or OSError."""
    if not _path(folder, version).exists():
        raise NoSuchVersion(f"{folder} has no registry of version {version}")
    _write(folder / _WANTED, version.encode())


def wanted(folder: Path) -> str | None:
    """The version that should take force; None if none was ever wanted. Raises OSError."""
    try:
        return (folder / _WANTED).read_text("ascii")
    except FileNotFoundError:
        return None


def _path(folder: Path, version: str) -> Path:
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is no version of a registry")
    return folder / f"{version}{_SUFFIX}"


def _write(path: Path, content: bytes) -> None:
    """Replace the file in one step that survives the loss of power; readers see the old one or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob("*.tmp"):
        left_over.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
