"""What a thing is: something with a name, a note and a time."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from todo_project.owners import Versioned, owner_key
from todo_project.resources.lines import Fold
from todo_project.text import validate_line

NAME_MAX_CHARACTERS = 100
NOTE_MAX_CHARACTERS = 1000


class Thing(Versioned):
    """Something that a person has."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = owner_key("things", verbose_name="owner")
    name = models.CharField(max_length=NAME_MAX_CHARACTERS, validators=[validate_line])
    name_folded = models.GeneratedField(
        expression=Fold("name"), output_field=models.TextField(db_collation="C"), db_persist=True
    )
    note = models.TextField(null=True, blank=True)
    starts_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["user", "id"], name="things_thing_user_id"),
            models.Index(
                fields=["user", "-created_at", "-id"],
                condition=Q(deleted_at=None),
                name="things_thing_user_live",
            ),
            models.Index(
                fields=["user", "-deleted_at", "-id"],
                condition=Q(deleted_at__isnull=False),
                name="things_thing_user_trash",
            ),
        ]

    def __str__(self) -> str:
        return self.name
