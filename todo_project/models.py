"""Tables of the service itself."""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Value
from django.db.models.functions import Cast, Left, Now, Replace

from .owners import owner_key

EPOCH_DIGITS = 16  # 60 random bits: of so many people no two ever have the same


def random_epoch() -> Left:
    """An epoch that nobody had before, made by the database; for each row another one."""
    digits = Replace(Cast(RandomUUID(), models.TextField()), Value("-"), Value(""))
    return Left(digits, EPOCH_DIGITS)


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


class Clock(models.Model):
    """How often a person's data changed. Everybody has one: a trigger makes it (migration 0005).

    Whoever changes something of a person's locks their clock before any of their rows, advances
    it, and stamps what changed with the new version. The lock is held to the commit, so versions
    of one person commit in their order. Triggers do it for whoever doesn't (owners.Stamped).
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        primary_key=True,
        on_delete=models.DO_NOTHING,  # by the database: see owners.owner_key
        db_constraint=False,
        related_name="+",
    )
    # Another one makes every tag and position of before invalid: `manage.py new_epochs`.
    epoch = models.TextField(db_default=random_epoch())
    version = models.BigIntegerField(db_default=1)
    purged_version = models.BigIntegerField(db_default=0)  # changes up to it aren't kept any more
    # The transaction for which a trigger advanced it last: all that it writes shares one version.
    # Not by xmin, which is another one for each savepoint.
    stamped_by = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return f"{self.epoch} {self.version}"


class Change(models.Model):
    """That something of a person's changed. Only ever added to, and purged after CHANGES_KEPT.

    What it is now stands in its own table, with the version of its last change; where that is
    another than this row's, a later row of the log tells of it.
    """

    pk = models.CompositePrimaryKey("user_id", "version", "type", "id")
    user = owner_key("+")
    version = models.BigIntegerField()
    type = models.TextField(db_collation="C")
    id = models.UUIDField()
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [
            # Serves `manage.py purge_expired`. Rows are added in the order of time, so that it
            # needs a few bytes for each hundred pages.
            BrinIndex(fields=["changed_at"], name="todo_change_changed_at"),
        ]

    def __str__(self) -> str:
        return f"{self.version} {self.type} {self.id}"


class Purged(models.Model):
    """That something of a person's was deleted for good, and as of which version it was deleted.

    Goes when the change of that version does: whoever hasn't seen it then starts anew.
    """

    pk = models.CompositePrimaryKey("user_id", "type", "id")
    user = owner_key("+")
    type = models.TextField(db_collation="C")
    id = models.UUIDField()
    version = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "purged"

    def __str__(self) -> str:
        return f"{self.version} {self.type} {self.id}"


class IdempotencyKey(models.Model):
    """The answer of a write that a client named by a key, to be given again if it repeats it."""

    pk = models.CompositePrimaryKey("user_id", "key")
    user = owner_key("+")
    key = models.TextField()
    fingerprint = models.UUIDField()  # 128 bits of a hash of method, path and body
    status = models.SmallIntegerField()
    body = models.TextField(null=True)  # the JSON of `data`; null for 204
    location = models.TextField(null=True)
    etag = models.TextField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [
            # Serves `manage.py purge_expired`.
            models.Index(fields=["created_at"], name="todo_idempotency_created_at"),
        ]

    def __str__(self) -> str:
        return self.key
