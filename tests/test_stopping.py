"""A signal always ends what waits for it."""

import signal
import subprocess
import sys

from fenghuo.stopping import Stop

PROGRAM = """
import signal
from fenghuo.stopping import Stop
stop = Stop()
signal.signal(signal.SIGALRM, stop.set)
signal.setitimer(signal.ITIMER_REAL, 0.05)
while not stop.is_set():
    stop.wait(0.0001)
print("ended")
"""


def test_a_handler_sets_it_while_it_is_waited_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "ended\n"


def test_it_is_waited_for_so_long() -> None:
    stop = Stop()
    assert not stop.wait(0.01)
    stop.set(signal.SIGTERM, None)
    assert stop.wait()
