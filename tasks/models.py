"""What a task is, and which rules the database keeps for it whoever writes."""

from typing import Any, ClassVar, Self
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Length, Now
from django.db.models.lookups import LessThanOrEqual
from uuid_utils.compat import uuid7

from todo_project.owners import Versioned, owner_key, position_field
from todo_project.resources.lines import Fold
from todo_project.text import WORDS_MAX, validate_line, validate_marks

TITLE_MAX_CHARACTERS = 255
DESCRIPTION_MAX_CHARACTERS = 20_000
LIST_NAME_MAX_CHARACTERS = 150
LISTS_MAX = 500  # of one person; what lies in the trash doesn't count
PRIORITIES = ("none", "low", "medium", "high", "urgent")  # kept as their rank


class TaskQuerySet(models.QuerySet["Task"]):
    def owned_by(self, user_id: UUID) -> Self:
        """The tasks of a user. The statements of the routes say the same by themselves."""
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
    priority = models.PositiveSmallIntegerField(
        choices=list(enumerate(PRIORITIES)), db_default=0, default=0
    )
    labels = ArrayField(models.TextField(), db_default=[], default=list, blank=True)
    # In the person's calendar, and on the clock of wherever they are.
    due_on = models.DateField(null=True, blank=True)
    due_time = models.TimeField(null=True, blank=True)
    time_zone = models.TextField(null=True, blank=True)
    # Set by triggers (migration 0020), whoever writes; `save()` leaves it stale on the instance.
    due_at = models.DateTimeField(null=True, blank=True, editable=False)
    start_on = models.DateField(null=True, blank=True, help_text="Not to be begun before.")
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
    # None: the inbox. One of the owner's living lists, by a key of both columns and a trigger
    # (migration 0016), which Django can't declare. The database deletes tasks with their list.
    list = models.ForeignKey(
        "TaskList",
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="tasks",
    )
    position = position_field()
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
            # Serves pages of one list and of the inbox in the manual order, and what moves, trashes
            # and deletes the tasks of a list. Whole, because the foreign key's own DELETE is.
            models.Index(fields=["user", "list", "position", "id"], name="tasks_task_user_list"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(title__regex=r"\S"), name="tasks_task_title_visible"
            ),
            models.CheckConstraint(
                condition=LessThanOrEqual(Length("description"), DESCRIPTION_MAX_CHARACTERS),
                name="tasks_task_description_length",
            ),
            models.CheckConstraint(
                condition=Q(priority__lt=len(PRIORITIES)), name="tasks_task_priority"
            ),
            models.CheckConstraint(
                condition=Q(labels__len__lte=WORDS_MAX), name="tasks_task_labels"
            ),
            models.CheckConstraint(
                condition=Q(due_time=None) | Q(due_on__isnull=False), name="tasks_task_due_time"
            ),
            models.CheckConstraint(
                condition=Q(time_zone=None) | Q(due_time__isnull=False), name="tasks_task_time_zone"
            ),
            models.CheckConstraint(
                condition=Q(start_on=None) | Q(due_on=None) | Q(start_on__lte=F("due_on")),
                name="tasks_task_start_on",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class TaskList(Versioned):
    """Some tasks of a person's, under a name.

    Behind Task, so that `manage.py purge_expired` comes to the tasks first, batch by batch.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = owner_key("task_lists", verbose_name="owner")
    name = models.CharField(
        max_length=LIST_NAME_MAX_CHARACTERS, validators=[validate_line, validate_marks]
    )
    color = models.CharField(
        max_length=7,
        null=True,
        blank=True,
        validators=[RegexValidator(r"^#[0-9a-f]{6}\Z", "Write it as #1e90ff, in lower case.")],
    )
    position = position_field()
    archived_at = models.DateTimeField(null=True, blank=True)
    # As of tasks: stored and generated, and stale after `save()`.
    is_archived = models.GeneratedField(
        expression=Q(archived_at__isnull=False),  # type: ignore[arg-type]  # Django takes a Q
        output_field=models.BooleanField(),
        db_persist=True,
    )
    name_folded = models.GeneratedField(
        expression=Fold("name"), output_field=models.TextField(db_collation="C"), db_persist=True
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "tasks_list"
        verbose_name = "list"
        indexes: ClassVar = [
            # Serves lists in their default order, and the count of them.
            models.Index(
                fields=["user", "position", "id"],
                condition=Q(deleted_at=None),
                name="tasks_list_user_live",
            ),
            # Serves the trash, and `manage.py purge_expired`.
            models.Index(
                fields=["user", "-deleted_at", "-id"],
                condition=Q(deleted_at__isnull=False),
                name="tasks_list_user_trash",
            ),
        ]
        constraints: ClassVar = [
            # What tasks refer to: a list of their own owner's. Serves what reads one, as well.
            models.UniqueConstraint(fields=["user", "id"], name="tasks_list_user_id"),
            models.CheckConstraint(
                condition=Q(color__regex=r"^#[0-9a-f]{6}$"), name="tasks_list_color"
            ),
        ]

    def __str__(self) -> str:
        return self.name
