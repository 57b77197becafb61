"""Tables of the service itself."""

from django.db import models


class RateCounter(models.Model):
    """How often something was done in the present window of time. See api/limits.py.

    The table is unlogged (migration 0001): it is written often, and forgetting it after a crash of
    the database costs an attacker's victim nothing but one window.
    """

    key = models.UUIDField(primary_key=True)  # 128 bits of a hash of what is counted
    window = models.BigIntegerField()
    hits = models.IntegerField()
    expires_at = models.DateTimeField()  # not indexed, so that counting stays a HOT update

    def __str__(self) -> str:
        return str(self.key)
