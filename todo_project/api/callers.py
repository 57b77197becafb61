"""What an app may know of who calls, where another app authenticates."""

from typing import Protocol
from uuid import UUID


class Caller(Protocol):
    """Whoever bears a good access token, before it was looked up whether its session has ended.

    `request.auth` in views that `defers_session_check`. They look it up in the very statement that
    does their work, which saves a round trip; whoever answers without such a statement first calls
    `check`.
    """

    @property
    def user_id(self) -> UUID: ...

    @property
    def session_id(self) -> UUID: ...

    @property
    def live_sql(self) -> str:
        """SQL that gives `user_id` while the session lives, else no row.

        Its parameters are `%(user_id)s` and `%(session_id)s`.
        """

    def check(self) -> None:
        """Raises SessionEnded where the session has ended. One query."""
