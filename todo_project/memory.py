"""What a process remembers: so much of it, and for no longer than it runs. For the apps."""

from threading import Lock
from typing import TypeVar

from django.conf import settings

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memory(dict[Key, Value]):
    """A dictionary of at most settings.ACCESS_TOKENS_REMEMBERED; what came first goes first.

    Read it as any other, without a lock; change it by `remember` and `forget` alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def remember(self, key: Key, value: Value) -> None:
        with self._lock:
            while len(self) >= settings.ACCESS_TOKENS_REMEMBERED and key not in self:
                del self[next(iter(self))]
            self[key] = value

    def forget(self, key: Key) -> None:
        with self._lock:
            self.pop(key, None)
