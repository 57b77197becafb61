"""What the processes of a server take, by what Linux tells of them in /proc. Elsewhere: OSError."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def children(parent: int) -> Sequence[int]:
    """Those that its first thread started, and has not seen the end of."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(process) for process in found.split()]


def cpu_seconds(parent: int) -> float:
    """Of a process and all its children, those that have ended included: it never goes back.

    When the parent sees a child's end, that one's time goes over to its own. Where it happens while
    this looks, it looks again.
    """
    while True:
        own, ended = _ticks(parent)
        at_work = children(parent)
        with suppress(FileNotFoundError, ProcessLookupError):
            working = sum(sum(_ticks(child)) for child in at_work)
            if _ticks(parent)[1] == ended:
                return (own + ended + working) / os.sysconf("SC_CLK_TCK")


def memory_bytes(processes: Sequence[int]) -> int:
    """What they take together; what several share counts once (PSS)."""
    kibibytes = 0
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            kibibytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kibibytes * 1024


def _ticks(process: int) -> tuple[int, int]:
    """The processor time of a process, and of its children that have ended. proc(5)."""
    # Behind its name, which may have any characters.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    user, system, ended_user, ended_system = (int(field) for field in fields[11:15])
    return user + system, ended_user + ended_system
