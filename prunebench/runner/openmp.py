"""How the OpenMP threads of a cell's processes wait: they spin for a bounded while, then they sleep.

A thread that waits for the others spins. By default it does so for so long that, where another process has taken a
core, much of its time goes to spinning that keeps the thread that is waited for from running; one that sleeps at once
(``OMP_WAIT_POLICY=PASSIVE``) is slow to wake, which an idle machine pays for. A spin of some 25 µs is between the
two: in two runs of ``benchmarks/waiting.py`` on two cores (7 and 5 rounds) a step took 1.03 and 1.05 times as long as
by default when idle, and 1.22 and 1.24 times as long as with PASSIVE beside a busy process, the default 1.75 and 2.16
times. The runtime of PyTorch's Linux wheels is GCC's libgomp, which reads ``GOMP_SPINCOUNT`` once, when it is loaded.
"""

import os

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SPIN = {"GOMP_SPINCOUNT": "1000"}


def own_setting() -> dict[str, str]:
    """What the user has set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def waiting() -> dict[str, str]:
    """Environment variables for the processes of cells: the user's own if there are any, else a bounded spin."""
    return own_setting() or SPIN
