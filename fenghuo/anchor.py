"""The anchor of the clock that the supervisor shares with its processes, through their environment."""

import os

from registry.clock import Anchor

VARIABLE = "FENGHUO_CLOCK_ANCHOR"


def shared_anchor() -> Anchor | None:
    """The supervisor's anchor; None in a process that was started by itself."""
    text = os.environ.get(VARIABLE)
    return Anchor.parse(text) if text else None
