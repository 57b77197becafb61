"""Makes a client in TypeScript, and checks programs that use it: a walk, and typos."""

from collections.abc import Sequence
from pathlib import Path
from shutil import copy

from tests.clients.conftest import run

# What a generator and the compiler said.
GENERATED, COMPILED = "generated.txt", "compiled.txt"


def make(folder: Path, source: Path, command: Sequence[str | Path]) -> None:
    """Generates a client into `folder`, beside the programs of `source`, and compiles them all.

    `command` is run there; its program is one of the packages of `source`.
    """
    for path in (*source.glob("*.ts"), source / "package.json", source / "tsconfig.json"):
        copy(path, folder)
    (folder / "node_modules").symlink_to(source / "node_modules")
    programs = folder / "node_modules" / ".bin"
    generator, *arguments = command
    generated = run([programs / generator, *arguments], folder, NO_COLOR="1")
    (folder / GENERATED).write_text(generated.stdout + generated.stderr)
    compiled = run([programs / "tsc"], folder)
    (folder / COMPILED).write_text(compiled.stdout + compiled.stderr)
