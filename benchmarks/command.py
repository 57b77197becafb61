"""What the commands of this package have in common."""

import argparse
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import django

from . import cores, service
from .conformance import DifferenceError
from .dataset import Dataset, OtherDataError, Scale
from .postgres import PrivatePostgres, private_postgres
from .processes import ProcessTree
from .wrk import LoadError


class FailedError(Exception):
    """What was measured is not fit to be reported."""


class Bench:
    """Where a benchmark works; everything ends with it."""

    def __init__(self, folder: Path, postgres: PrivatePostgres | None, url: str | None) -> None:
        self.folder = folder  # for files of this run
        self._postgres = postgres
        self._url = url

    @property
    def postgres(self) -> ProcessTree | None:
        """None where the database is a given one, whose processes may run anywhere."""
        return self._postgres.processes() if self._postgres else None

    def dataset(self, scale: Scale) -> Dataset:
        """A database with the data of `scale`, which is seeded where it is not there yet."""
        if self._postgres is None:
            assert self._url is not None
            return Dataset(self._url, scale)
        return self._own_dataset(scale.database, scale, service.PROJECT)

    def dataset_apart(self, name: str, scale: Scale, checkout: Path = service.PROJECT) -> Dataset:
        """The same, beside it, as another checkout of this project makes it."""
        if self._postgres is None:
            raise FailedError("This takes several databases: leave --database-url out.")
        return self._own_dataset(f"{scale.database}_{name}", scale, checkout)

    def _own_dataset(self, database: str, scale: Scale, checkout: Path) -> Dataset:
        assert self._postgres is not None
        try:
            return Dataset(self._postgres.ensure_database(database), scale, checkout)
        except OtherDataError:  # a seeding that was interrupted
            self._postgres.drop_database(database)
            return Dataset(self._postgres.ensure_database(database), scale, checkout)


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that every command has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--database-url",
        metavar="URL",
        help="a database to use, empty or seeded by an earlier run, such as "
        "postgresql://role:password@127.0.0.1/bench (default: one of the benchmarks' own)",
    )
    return made


def run(main: Callable[[], None]) -> None:
    """Runs a command: failures become a message and status 1; SIGTERM cleans up as Ctrl-C does."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # 1,000 connections and more; wrk and the servers inherit it.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    try:
        main()
    except (DifferenceError, FailedError, LoadError, OtherDataError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def open_bench(database_url: str | None) -> Iterator[Bench]:
    """Starts the benchmarks' PostgreSQL, where no other one is given."""
    cores.leave_server_core()
    with tempfile.TemporaryDirectory(prefix="todo-bench-") as folder:
        if database_url is not None:
            yield Bench(Path(folder), None, database_url)
        else:
            with private_postgres() as postgres:
                yield Bench(Path(folder), postgres, None)
