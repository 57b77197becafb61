"""Locks that tell who is alive, and keep those apart who start and stop the server.

By flock(2), never by process ids: the kernel drops a lock however its holder ends, and ids are used
again. The files lie in the folder of the cluster. Always taken in this order:

    watcher.lock  the watcher; there is one at most
    users.lock    shared: every process that uses the server, for its life;
                  exclusive: the one that stops the server because nobody uses it any more
    start.lock    the one that prepares and starts the server
    server.lock   the PostgreSQL processes, which inherit it
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":  # so that settings can be imported there, for use with DATABASE_URL
    import fcntl


def open_lock(path: Path) -> int:
    # O_NOFOLLOW: root's home belongs to nobody, who must not choose which file root opens.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


@contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """A descriptor to lock; closing it unlocks."""
    descriptor = open_lock(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
