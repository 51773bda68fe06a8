"""Compiled versions in a folder, a file for each part of them, and which one is wanted.

A version is named after its parts, "REGISTRY.RULEBOOK", each a digest of what it says; so a change of one leaves the
file of the other as it is. The registry's part is read here, the rulebook's in streams/configuration.py.
One process writes (the supervisor); any may read, and the judge discards. In a cluster each machine's folder holds
copies of what is in the database (registry/shared_versions.py); there any process writes what it lacks.
"""

import fcntl
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import zstandard

from registry import packed
from registry.clock import HOUR, SystemClock
from registry.model import Registry

KEPT = HOUR
"""How long a version that nothing uses is kept after it was saved last, µs."""

REGISTRY, RULEBOOK = ".registry", ".rulebook"
"""Endings of the files of a version's two parts."""

_WANTED = "wanted"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,31}")


class NoSuchVersion(LookupError):
    """The folder has no file of a part of this version."""


class BrokenVersion(ValueError):
    """A file of this version is not what was written."""


def save(folder: Path, registry: Registry) -> None:
    """Make the registry's part of its version durable. Raises OSError."""
    save_part(folder, registry.version, REGISTRY, packed.pack(registry))


def load(folder: Path, version: str, like: Registry | None = None) -> Registry:
    """The registry of this version, as its sources say it. Raises NoSuchVersion, BrokenVersion, or OSError.

    like: one in hand; see registry.packed.unpack.
    """
    name = part(version, REGISTRY)
    content = load_part(folder, version, REGISTRY)
    try:
        registry = packed.unpack(content, like)
    except ValueError as error:
        raise BrokenVersion(f"{_path(folder, name, REGISTRY)}: {error}") from error
    if registry.version != name:
        raise BrokenVersion(f"{_path(folder, name, REGISTRY)} holds version {registry.version}")
    return replace(registry, version=version)


def kinds(version: str) -> tuple[str, ...]:
    """The kinds of the parts that a version has."""
    return tuple(kind for kind in (REGISTRY, RULEBOOK) if kind == REGISTRY or part(version, kind))


def part(version: str, kind: str) -> str:
    """The name of a part in a version's name; "" if the version has no such part."""
    registry, _, rulebook = version.partition(".")
    return registry if kind == REGISTRY else rulebook


def save_part(folder: Path, name: str, kind: str, content: bytes) -> None:
    """Make a part durable under its name; to save it again only makes it young. Raises OSError."""
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, fcntl.LOCK_EX):
        _write(_path(folder, name, kind), compressor.compress(content))


def load_part(folder: Path, version: str, kind: str) -> bytes:
    """What was saved of this part of a version. Raises NoSuchVersion, BrokenVersion, or OSError."""
    return _opened(folder, version, kind)[1]


def copy_out(folder: Path, version: str, kind: str) -> bytes:
    """The file of this part, as it is kept. Raises NoSuchVersion, BrokenVersion, or OSError."""
    return _opened(folder, version, kind)[0]


def copy_in(folder: Path, name: str, kind: str, content: bytes) -> None:
    """Make durable what :meth:`copy_out` gave of another folder. Raises BrokenVersion (nothing is done), or OSError."""
    path = _path(folder, name, kind)
    _decompressed(path, content)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, fcntl.LOCK_EX):
        _write(path, content)


def present(folder: Path, kind: str = REGISTRY) -> set[str]:
    """The names of the parts of this kind that can be loaded."""
    return {path.name.removesuffix(kind) for path in folder.glob(f"*{kind}")}


def discard_all_but(folder: Path, keep: Collection[str]) -> set[str]:
    """Remove all parts but those of these versions; returns the files removed. Raises OSError.

    The wanted version stays, and so does what was saved within the hour or since the wanted one was named:
    that may be about to be wanted. Nothing is removed while another process saves.
    """
    gone: set[str] = set()
    try:
        named = (folder / _WANTED).stat().st_mtime_ns
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            old = min(named, (SystemClock().now() - KEPT) * 1000)
            kept = {*keep, wanted(folder) or ""}
            for kind in (REGISTRY, RULEBOOK):
                for name in present(folder, kind) - {part(version, kind) for version in kept}:
                    path = _path(folder, name, kind)
                    if path.stat().st_mtime_ns < old:
                        path.unlink()
                        gone.add(path.name)
    except (FileNotFoundError, BlockingIOError):
        pass  # nothing was ever wanted, or a save is under way: the next call sees to it
    return gone


def want(folder: Path, version: str) -> None:
    """Note durably which version should take force next. Raises NoSuchVersion, or OSError."""
    for kind in kinds(version):
        if not _path(folder, part(version, kind), kind).exists():
            raise NoSuchVersion(f"{folder} has no {kind[1:]} of version {version}")
    _write(folder / _WANTED, version.encode())


def wanted(folder: Path) -> str | None:
    """The version that should take force; None if none was ever wanted. Raises OSError."""
    try:
        return (folder / _WANTED).read_text("ascii")
    except FileNotFoundError:
        return None


def _opened(folder: Path, version: str, kind: str) -> tuple[bytes, bytes]:
    """A part as its file has it, and as it was saved."""
    path = _path(folder, part(version, kind), kind)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NoSuchVersion(f"{folder} has no {kind[1:]} of version {version}") from None
    return content, _decompressed(path, content)


def _decompressed(path: Path, content: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(content)
    except zstandard.ZstdError as error:
        raise BrokenVersion(f"{path}: {error}") from error


def discard_older(folder: Path, than: int, keep: str) -> None:
    """Remove all parts that were saved here before ``than`` (µs), but those of the version ``keep``. Raises OSError.

    For a folder of copies: what is needed once more is copied again.
    """
    with _locked(folder, fcntl.LOCK_EX):
        for kind in (REGISTRY, RULEBOOK):
            for name in present(folder, kind) - {part(keep, kind)}:
                path = _path(folder, name, kind)
                if path.stat().st_mtime_ns < than * 1000:
                    path.unlink()


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Between save and discard: what is saved anew is not removed for the age that it had."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _path(folder: Path, name: str, kind: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a version's {kind[1:]}")
    return folder / f"{name}{kind}"


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
