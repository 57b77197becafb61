"""Where the cluster and its socket lie, and whose these folders are.

PostgreSQL refuses to run as root. For root it runs as the user nobody, to whom the folders belong.
"""

import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":  # so that settings can be imported there, for use with DATABASE_URL
    import pwd

PROJECT = Path(__file__).resolve().parent.parent.parent
LINK = PROJECT / ".postgres"
RELOCATED_HOMES = Path("/var/lib/todo-postgres")
PORT = 5432  # only part of the socket's name
# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS; the rest is for the lock's suffix.
SOCKET_PATH_BYTES = 100
ADVICE = "Or set DATABASE_URL to use a PostgreSQL server of your own."


def home_folder() -> Path:
    """The folder of the cluster and its locks. As root it must be within reach of nobody."""
    if os.path.lexists(LINK):
        return LINK.resolve()
    folders = (PROJECT, *PROJECT.parents)
    if is_root() and not all(folder.stat().st_mode & stat.S_IXOTH for folder in folders):
        return RELOCATED_HOMES / _digest(PROJECT)
    return LINK


def prepare_home(home: Path) -> None:
    if home.parent == RELOCATED_HOMES and not RELOCATED_HOMES.exists():
        RELOCATED_HOMES.mkdir(parents=True, exist_ok=True)
        RELOCATED_HOMES.chmod(0o755)  # whatever the umask
    claim_folder(home)
    if not os.path.lexists(LINK):
        with suppress(FileExistsError):  # a simultaneous start
            LINK.symlink_to(home)


def socket_folder_of(home: Path) -> Path:
    """The home, unless its path is too long for a socket or reads as a list (comma).

    Then a folder in /tmp, not in the folder that TMPDIR names: every process must find the same.
    """
    if len(os.fsencode(home / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES and "," not in str(home):
        return home
    return Path("/tmp") / f"todo-postgres-{_digest(home)}"


def claim_folder(folder: Path) -> None:
    """Makes a private folder of the server's user, or raises RuntimeError if it is another's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if is_root() and status.st_uid == 0 and not any(folder.iterdir()):
        give_to_nobody(folder)
        status = folder.lstat()
    owner = pwd.getpwnam("nobody").pw_uid if is_root() else os.geteuid()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner:
        raise RuntimeError(
            f"{folder} belongs to the user id {status.st_uid}, but the embedded PostgreSQL would "
            f"run as {owner} (root runs it as nobody): run this as the user who ran it first, or "
            f"delete the folder to begin with an empty database. {ADVICE}"
        )


@contextmanager
def completed_folder(target: Path) -> Iterator[Path]:
    """A new folder that is named `target` when the block ends: no half of it is ever seen."""
    for leftover in target.parent.glob(f"{target.name}-*"):
        shutil.rmtree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    if is_root():
        give_to_nobody(folder)
    yield folder
    folder.rename(target)


def is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def give_to_nobody(path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
