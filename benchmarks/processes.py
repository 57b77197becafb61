"""What a process and its descendants use, as Linux counts it in /proc."""

import os
from contextlib import suppress
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class ProcessTree:
    """A process, its children, theirs and so on; whoever is there at the moment of the question."""

    def __init__(self, root: int) -> None:
        self.root = root

    def pids(self) -> list[int]:
        """The root first."""
        found = [self.root]
        for pid in found:  # grows meanwhile
            with suppress(FileNotFoundError, ProcessLookupError):  # just ended
                for children in (_PROC / str(pid) / "task").glob("*/children"):
                    found.extend(map(int, children.read_text().split()))
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, that of ended children included. Resolution: 10 ms."""
        while True:
            # Parents first: where a child ends meanwhile, its time may be in neither's count yet.
            with suppress(FileNotFoundError, ProcessLookupError):
                return sum(_cpu_ticks(pid) for pid in self.pids()) / _TICKS_PER_SECOND

    def pss_bytes(self) -> int:
        """Proportional set size: memory that n processes share counts as an n-th in each."""
        return sum(_memory_bytes(pid, "Pss") for pid in self.pids())

    def rss_bytes(self) -> int:
        """Resident set size; what processes share counts in each of them."""
        return sum(_memory_bytes(pid, "Rss") for pid in self.pids())


def _cpu_ticks(pid: int) -> int:
    # proc_pid_stat(5): after the name, which may hold anything and ends with the last `)`, come the
    # fields 3 and on. 14 to 17 are utime, stime, cutime and cstime.
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _memory_bytes(pid: int, name: str) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0
