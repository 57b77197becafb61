"""Which core does what: the measured server has the last one to itself.

PostgreSQL, the load generator and the harness share the others. They inherit the harness' own
affinity; on a machine with a single core everybody shares it, and the figures mean little.
"""

import os

_USABLE = sorted(os.sched_getaffinity(0))
SERVER = _USABLE[-1:]
OTHERS = _USABLE[:-1] or _USABLE


def leave_server_core() -> None:
    """Moves this process, and whatever it starts from now on, to the cores of the others."""
    os.sched_setaffinity(0, OTHERS)


def pinned(cores: list[int], command: list[str]) -> list[str]:
    """`command`, to run on `cores` alone."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


def use_all_cores() -> None:
    """Lets this process, and whatever it starts from now on, run anywhere."""
    os.sched_setaffinity(0, _USABLE)
