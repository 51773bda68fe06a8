"""Compiled versions of the registry in a folder, a file each under its version, and which one is wanted.

One process writes (the supervisor); any may read, and the judge discards.
"""

import fcntl
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from registry import packed
from registry.clock import HOUR, SystemClock
from registry.model import Registry

KEPT = HOUR
"""How long a version that nothing uses is kept after it was saved last, µs."""

_SUFFIX = ".registry"
_WANTED = "wanted"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,31}")


class NoSuchVersion(LookupError):
    """The folder has no file of this version."""


class BrokenVersion(ValueError):
    """The file of this version is not what was written."""


def save(folder: Path, registry: Registry) -> None:
    """Make this version durable under its name; to save it again only makes it young. Raises OSError."""
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    content = compressor.compress(packed.pack(registry))
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, fcntl.LOCK_EX):
        _write(_path(folder, registry.version), content)


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

    The wanted version stays, and so does what was saved within the hour or since the wanted one was named:
    that may be about to be wanted. Nothing is removed while another process saves.
    """
    gone: set[str] = set()
    try:
        named = (folder / _WANTED).stat().st_mtime_ns
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            old = min(named, (SystemClock().now() - KEPT) * 1000)
            for version in present(folder) - {*keep, wanted(folder)}:
                path = _path(folder, version)
                if path.stat().st_mtime_ns < old:
                    path.unlink()
                    gone.add(version)
    except (FileNotFoundError, BlockingIOError):
        pass  # nothing was ever wanted, or a save is under way: the next call sees to it
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


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Between save and discard: what is saved anew is not removed for the age that it had."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


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
