"""What an app may know of who calls, where another app authenticates."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol
from uuid import UUID

from rest_framework.exceptions import APIException


class Caller(Protocol):
    """Who bears a good token, before it was looked up whether it still counts. `request.auth`.

    What it was given for may have ended since: a session, an identity, a personal token. Views that
    `defers_caller_check` look that up in the very statement that does their work, which saves a
    round trip; whoever answers without such a statement first calls `check`.
    """

    @property
    def user_id(self) -> UUID: ...

    @property
    def subject(self) -> str | None:
        """What the identity provider calls the user; None where it doesn't vouch for them."""

    @property
    def scopes(self) -> Collection[str] | None:
        """What the token is good for; None for everything."""

    @property
    def live_sql(self) -> str:
        """SQL that gives `user_id` while the token counts, else no row. For a CTE: it may write."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of `live_sql`: `user_id`, and others."""

    def note_use(self) -> None:
        """To be called where `live_sql` gave its row."""

    def refusal(self) -> APIException:
        """Why `live_sql` gave no row. At most one query."""

    def check(self) -> None:
        """Raises `refusal` where `live_sql` gives no row."""
