"""Which core does what: the measured server has the last one to itself.

PostgreSQL, the load generator and the harness share the others. They inherit the harness' own
affinity; on a machine with a single core everybody shares it, and the figures mean little.
"""

import os

ALL = sorted(os.sched_getaffinity(0))
SERVER = ALL[-1:]
OTHERS = ALL[:-1] or ALL


def leave_server_core() -> None:
    """Moves this process, and whatever it starts from now on, to the cores of the others."""
    os.sched_setaffinity(0, OTHERS)


def pinned(cores: list[int], command: list[str]) -> list[str]:
    """`command`, to run on `cores` alone."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
