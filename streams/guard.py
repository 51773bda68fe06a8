"""The guard around an evaluator: what it fails over is left out, told, and stops nothing else; pure.

What is left of a round on which the engine fails is left out, in life and in every replay alike: it is in the journal
and acknowledged, and to stop over it at every start would leave all the others unguarded.
"""

import structlog

from ingest.readings import Round
from streams.configuration import Configuration
from streams.evaluator import Evaluator
from streams.finding import Finding

log = structlog.get_logger()


def evaluate(engine: Evaluator, round_: Round) -> tuple[list[Finding], str]:
    """What a round gives; and the engine's fault, "" if it did not fail over it."""
    try:
        return engine.apply(round_), ""
    except Exception as error:
        log.exception("round_not_judged", time=round_.time)
        return engine.salvage(), f"{type(error).__name__}: {error}"


def reconfigure(
    engine: Evaluator, coming: Configuration, round_: Round
) -> tuple[Evaluator, list[Finding], str]:
    """The engine under another version, and what that gives; or as it was, and the fault for which it stays so.

    Costs a copy of all state. The local judge spares every edit that: it dies over such a version, and its next start,
    a replay, leaves it out.
    """
    was, before = engine.configuration, engine.snapshot()
    try:
        return engine, engine.reconfigure(coming, round_.time, round_.listening), ""
    except Exception as error:
        log.exception("version_not_in_force", version=coming.registry.version, time=round_.time)
        return Evaluator.restore(was, before), [], f"{type(error).__name__}: {error}"
