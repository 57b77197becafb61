"""How passwords are kept, and how many of them are hashed at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher

from todo_project import metrics
from todo_project.api.errors import HashingBusy

_places = threading.BoundedSemaphore(settings.PASSWORD_HASHES_AT_ONCE)
_this_thread = threading.local()


@contextmanager
def hashing() -> Iterator[None]:
    """Takes this thread a place among those that hash; it keeps it within a further such block.

    Raises HashingBusy at once where settings.PASSWORD_HASHES_AT_ONCE others have theirs. A command
    of manage.py is alone in its process, and never refused.
    """
    if getattr(_this_thread, "has_place", False):
        yield
        return
    if not _places.acquire(blocking=False):
        raise _busy()
    _this_thread.has_place = True
    try:
        yield
    finally:
        _this_thread.has_place = False
        _places.release()


def require_place() -> None:
    """Raises HashingBusy where no place is free; takes none, and so keeps nobody from having it."""
    if _places._value <= 0:  # noqa: SLF001  # a semaphore has no other way to tell
        raise _busy()


def _busy() -> HashingBusy:
    metrics.REFUSALS.add("hashing")
    return HashingBusy()


class OWASPArgon2Hasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane, for which there must be a place.

    Routes take theirs before they lock anything; whatever forgets to is refused here.

    Source: https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
    """

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        with hashing():
            return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        with hashing():
            return super().verify(password, encoded)
