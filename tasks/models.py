"""What a task is, and which rules the database keeps for it whoever writes."""

from typing import Any, ClassVar, Self
from uuid import UUID

from django.db import models
from django.db.models import Func, Q, Value
from django.db.models.functions import Length, Now
from django.db.models.lookups import LessThanOrEqual
from uuid_utils.compat import uuid7

from todo_project.owners import Versioned, owner_key
from todo_project.text import validate_line, validate_marks

TITLE_MAX_CHARACTERS = 255
DESCRIPTION_MAX_CHARACTERS = 20_000


class Fold(Func):
    """Text as search compares it and titles are sorted: without case, accents, Unicode forms.

    By a function of the database (migration 0004), the same for what is stored and asked for.
    """

    function = "tasks_fold"
    arity = 1


class TaskQuerySet(models.QuerySet["Task"]):
    def owned_by(self, user_id: UUID) -> Self:
        """The tasks of a user. The statements of queries.py say the same by themselves."""
        return self.filter(user_id=user_id)

    def change(self, **fields: Any) -> int:
        """Changes `fields` of these tasks, in one statement that touches no other column.

        Tasks that have these values already are left alone, `updated_at` included. Returns how
        many tasks changed.
        """
        if not fields:
            return 0
        return self.exclude(**fields).update(**fields, updated_at=Now())

    def titled(self, text: str) -> Self:
        """The tasks in whose title each word of `text` stands, in any order, folded."""
        tasks = self
        for word in text.split():
            tasks = tasks.filter(title_folded__contains=Fold(Value(word)))
        return tasks


class Task(Versioned):
    """Something that a person wants to get done."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = owner_key("tasks", verbose_name="owner")
    title = models.CharField(max_length=TITLE_MAX_CHARACTERS, validators=[validate_line])
    description = models.TextField(null=True, blank=True, validators=[validate_marks])
    completed_at = models.DateTimeField(null=True, blank=True)
    # Stored, so that an index could use it; generated, so that nothing can set it apart from
    # completed_at. `save()` leaves it stale on the instance, and assigning to it does nothing.
    is_completed = models.GeneratedField(
        expression=Q(completed_at__isnull=False),  # type: ignore[arg-type]  # Django takes a Q
        output_field=models.BooleanField(),
        db_persist=True,
    )
    # What search reads; titles are sorted by theirs, in the order of code points. Computed when the
    # text is written, and by no other write. `save()` leaves them stale, as is_completed.
    title_folded = models.GeneratedField(
        expression=Fold("title"), output_field=models.TextField(db_collation="C"), db_persist=True
    )
    description_folded = models.GeneratedField(
        expression=Fold("description"),
        output_field=models.TextField(db_collation="C"),
        db_persist=True,
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = TaskQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            # Serves admin's list of one owner's tasks, and the deletion of the owner.
            models.Index(fields=["user", "id"], name="tasks_task_user_id"),
            # Serves lists in their default order, and every page of them.
            models.Index(
                fields=["user", "-created_at", "-id"],
                condition=Q(deleted_at=None),
                name="tasks_task_user_live",
            ),
            # Serves the trash, and `manage.py purge_expired`.
            models.Index(
                fields=["user", "-deleted_at", "-id"],
                condition=Q(deleted_at__isnull=False),
                name="tasks_task_user_trash",
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(title__regex=r"\S"), name="tasks_task_title_visible"
            ),
            models.CheckConstraint(
                condition=LessThanOrEqual(Length("description"), DESCRIPTION_MAX_CHARACTERS),
                name="tasks_task_description_length",
            ),
        ]

    def __str__(self) -> str:
        return self.title
