"""What the commands of this package have in common."""

import argparse
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import django

from . import cores
from .conformance import DifferenceError
from .dataset import Dataset, OtherDataError, Scale
from .postgres import private_postgres
from .processes import ProcessTree
from .wrk import LoadError


@dataclass(frozen=True)
class Bench:
    """What a benchmark works with; everything ends with it.

    `postgres` is None where the database is a given one, whose processes may run anywhere.
    """

    dataset: Dataset
    postgres: ProcessTree | None
    folder: Path  # for files of this run


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
    except (DifferenceError, LoadError, OtherDataError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def open_bench(database_url: str | None, scale: Scale) -> Iterator[Bench]:
    """A database with the data of `scale`, which is seeded where it is not there yet."""
    cores.leave_server_core()
    with tempfile.TemporaryDirectory(prefix="todo-bench-") as folder:
        if database_url is not None:
            yield Bench(Dataset(database_url, scale), None, Path(folder))
            return
        with private_postgres() as postgres:
            try:
                dataset = Dataset(postgres.ensure_database(scale.database), scale)
            except OtherDataError:  # a seeding that was interrupted
                postgres.drop_database(scale.database)
                dataset = Dataset(postgres.ensure_database(scale.database), scale)
            yield Bench(dataset, postgres.processes(), Path(folder))
