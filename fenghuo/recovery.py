"""Recovery: the engines as they were, from its newest snapshot and the journal since; and how snapshots are kept."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

import registry.versions
from ingest.journal import Journal, Lost, version_at
from streams import configuration
from streams.configuration import Configuration
from streams.engine import SnapshotError
from streams.evaluator import Evaluator
from streams.finding import Finding, Phase
from streams.guard import evaluate, reconfigure

log = structlog.get_logger()


class CannotRecover(Exception):
    """Neither snapshot nor journal say from where to go on; the message says what is missing."""


class Snapshot(msgspec.Struct, frozen=True):
    """The engines' state after the round at ``offset``, under the ``version`` of registry and rulebook."""

    offset: int
    version: str
    engine: bytes


class Recovered(NamedTuple):
    """What a judge goes on from.

    findings: those of rounds that the desk has not absorbed, in their order. faults: times of rounds and
    versions that the engine failed over, µs, and why. snapshot: the offset of the snapshot that was used, 0 for none.
    lost: gaps in the journal. unfit: the newest version that was to take force, if the engine failed over it.
    """

    engine: Evaluator
    findings: Sequence[Finding]
    faults: Sequence[tuple[int, str]]
    snapshot: int
    lost: Sequence[Lost]
    unfit: str


def recover(
    journal: Journal,
    folder: Path,
    versions: Path,
    snapshot_file: Path,
    absorbed: int,
    told: Callable[[], Sequence[Finding]],
) -> Recovered:
    """Load the snapshot and evaluate the journal from there.

    A snapshot that cannot be used is left out, and what there is of the journal evaluated instead. Where the
    journal's beginning is gone too, a finding that began before it gets another id. So the newest message of
    each that is open at ``absorbed`` is given to the desk again: it knows it, or joins it to its alert by rule
    and subject. What is open at the desk under ids of which nothing is found is WITHDRAWN after that.

    Args:
        folder: the journal's. versions: where compiled registries are. absorbed: the desk's offset.
        told: the newest messages of the desk's findings that are not over, those of the system itself aside.

    Raises:
        CannotRecover: the journal is empty, or the version that it begins with is not known.
    """
    engine, after = _from_snapshot(snapshot_file, versions)
    used = after
    if engine is None:
        after = journal.first_offset - 1
    findings: list[Finding] = []
    faults: list[tuple[int, str]] = []
    opened: dict[str, Finding] = {}
    known = [] if used else told()
    epoch = f" after {after}" if after else ""
    unfit = ""
    for offset, round_ in journal.read(after):
        if offset != after + 1:
            log.error("journal_gap", after=after, next=offset)
        after = offset
        if engine is None:
            engine = Evaluator(_version(folder, offset, versions), round_.time, epoch)
        if round_.version is not None:
            before = engine.registry
            coming = configuration.load(versions, round_.version, before)
            engine, found, fault = reconfigure(engine, coming, round_)
            if round_.version != before.version:  # else it says that what was in force stays
                unfit = round_.version if fault else ""
        else:
            found, fault = evaluate(engine, round_)
        if fault and offset > absorbed:
            faults.append((round_.time, fault))
        if offset > absorbed:
            findings += found
        elif not used:
            for finding in found:
                opened[finding.id] = finding
                if finding.phase in (Phase.ENDED, Phase.WITHDRAWN):
                    del opened[finding.id]
    if engine is None:
        raise CannotRecover("the journal is empty")
    spoken_of = opened.keys() | {finding.id for finding in findings}
    gone = [_withdrawn(finding, engine) for finding in known if finding.id not in spoken_of]
    findings = [*opened.values(), *findings, *gone]  # last: what joins its alert under a new id keeps it open
    log.info("recovered", snapshot=used, absorbed=absorbed, offset=after, findings=len(findings))
    return Recovered(engine, findings, faults, used, journal.missing, unfit)


def _withdrawn(finding: Finding, engine: Evaluator) -> Finding:
    return msgspec.structs.replace(
        finding,
        seq=finding.seq + 1,
        phase=Phase.WITHDRAWN,
        time=engine.now,
        arrival=engine.now,
        version=engine.registry.version,
        evidence=("history lost",),
    )


def _version(folder: Path, offset: int, versions: Path) -> Configuration:
    version = version_at(folder, offset)
    if version is None:
        raise CannotRecover(f"the journal begins at offset {offset} without saying its version")
    try:
        return configuration.load(versions, version)
    except (registry.versions.NoSuchVersion, registry.versions.BrokenVersion) as error:
        raise CannotRecover(f"the journal begins with version {version}, and {error}") from error


def _from_snapshot(file: Path, versions: Path) -> tuple[Evaluator | None, int]:
    try:
        snapshot = msgspec.msgpack.decode(file.read_bytes(), type=Snapshot)
        return Evaluator.restore(
            configuration.load(versions, snapshot.version), snapshot.engine
        ), snapshot.offset
    except FileNotFoundError:
        return None, 0
    except (
        msgspec.DecodeError,
        SnapshotError,
        ValueError,
        OSError,
        registry.versions.NoSuchVersion,
        registry.versions.BrokenVersion,
    ) as error:
        log.error("snapshot_unusable", why=str(error))
        return None, 0


def save(file: Path, snapshot: Snapshot) -> None:
    """Replace the snapshot so that after a crash it is the old or the new, whole. Raises OSError."""
    fresh = file.with_suffix(".new")
    with fresh.open("wb") as out:
        out.write(msgspec.msgpack.encode(snapshot))
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
