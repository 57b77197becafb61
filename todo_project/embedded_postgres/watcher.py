"""The watcher, a process of its own: stops the server that nobody uses, starts one that was killed.

It tries for users.lock and so stops the server after its last user has ended in whatever way,
SIGKILL included. A server that was killed while somebody uses it, it starts again: its users find
it back without a hand.
"""

import fcntl
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from .locks import lock_file, open_lock, try_lock
from .server import ensure_server, stop

WATCH_POLL_S = 0.5  # until an unused server is stopped, and a crashed one is started


def main() -> None:
    """Of the arguments the first is the project, for server.py's WATCHER."""
    watch(Path(sys.argv[2]), Path(sys.argv[3]))


def watch(home: Path, programs: Path) -> None:
    """The watcher. Returns as soon as it watches; what goes on is an orphan."""
    watcher_lock = open_lock(home / "watcher.lock")
    if not try_lock(watcher_lock, fcntl.LOCK_EX):
        return
    if os.fork() != 0:
        os._exit(0)
    with lock_file(home / "users.lock") as lock:
        while not try_lock(lock, fcntl.LOCK_EX):
            if _has_crashed(home) and try_lock(lock, fcntl.LOCK_SH):
                _revive(home, programs)
                fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(WATCH_POLL_S)
        stop(home, programs)
        # Before users.lock: whoever starts the server next must find the watcher's place free.
        os.close(watcher_lock)


def _has_crashed(home: Path) -> bool:
    """Whether no process of the server lives, and none has taken leave.

    One that is stopped, or can't start, takes postmaster.pid away.
    """
    with lock_file(home / "server.lock") as server_lock:
        is_gone = try_lock(server_lock, fcntl.LOCK_SH)
    return is_gone and (home / "data" / "postmaster.pid").exists()


def _revive(home: Path, programs: Path) -> None:
    """Starts a crashed server again. The caller holds users.lock, so that no one stops it yet."""
    with lock_file(home / "start.lock") as start_lock:
        fcntl.flock(start_lock, fcntl.LOCK_EX)
        if _has_crashed(home):  # nobody else was quicker
            with suppress(OSError, RuntimeError):  # the next command's start says why
                ensure_server(home, programs)
