"""What a task is, and which rules the database keeps for it whoever writes."""

from typing import Any, ClassVar, Self
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.expressions import RawSQL
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
REPEATS_FROM = ("due", "completion")  # likewise
TASK_LEVELS_MAX = 5  # of a task with those above it and those below
# When a task is due, as lists sort it: a day without a time stands before all times of that day.
DUE = "(due_on + coalesce(due_time - time '00:00', interval '-1 microsecond'))"
# As the indexes of open tasks say it, and not as filters do: see `_hint` in fields.py.
OPEN = "completed_at IS NULL"


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
    # One of the owner's living tasks of the same list; no circles. By a key of both columns and by
    # triggers (migration 0025), as of lists.
    parent = models.ForeignKey(
        "Task",
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="subtasks",
    )
    position = position_field()
    # RFC 5545's RRULE. Those that follow are set by triggers (migration 0026), whoever writes.
    recurrence = models.TextField(null=True, blank=True)
    repeat_from = models.PositiveSmallIntegerField(
        choices=[*enumerate(REPEATS_FROM)], db_default=0, default=0
    )
    series_id = models.UUIDField(null=True, editable=False)
    next_task_id = models.UUIDField(null=True, editable=False)
    occurrence_on = models.DateField(null=True, editable=False)
    series_start_on = models.DateField(null=True, editable=False)
    # The day of the completion, in the calendar of whoever completed it: recurring.py.
    completed_on = models.DateField(null=True, editable=False)
    # The days of the rule that come next, as far as they are reckoned, and of which rule they are:
    # recurring.py. The database can read them, and no rule.
    upcoming = ArrayField(models.DateField(), null=True, blank=True, editable=False)
    upcoming_of = models.TextField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = TaskQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
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
            # Serves the subtasks of a task, in their order, and what goes along with it.
            models.Index(
                fields=["user", "parent", "position", "id"],
                condition=Q(parent__isnull=False),
                name="tasks_task_user_parent",
            ),
            # Serves open tasks by `due`, those without a day last, and the filters by day of these.
            models.Index(
                F("user"),
                RawSQL(f"coalesce({DUE}, 'infinity')", ()),  # noqa: S611  # of constants
                F("id"),
                condition=Q(deleted_at=None, completed_at=None),
                name="tasks_task_open_due",
            ),
            # Serves the open tasks of one list and of the inbox in the manual order.
            models.Index(
                fields=["user", "list", "position", "id"],
                condition=Q(deleted_at=None, completed_at=None),
                name="tasks_task_open_list",
            ),
        ]
        constraints: ClassVar = [
            # What a parent is referred to by. Serves admin's list of one owner's tasks, and the
            # deletion of the owner, as well.
            models.UniqueConstraint(fields=["user", "id"], name="tasks_task_own"),
            # One occurrence for each day of a series [Q2], and what finds a series.
            models.UniqueConstraint(
                fields=["user", "series_id", "occurrence_on"],
                condition=Q(series_id__isnull=False, deleted_at=None),
                name="tasks_task_occurrence",
            ),
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
            models.CheckConstraint(
                condition=Q(recurrence=None) | Q(due_on__isnull=False),
                name="tasks_task_recurrence",
            ),
            models.CheckConstraint(
                condition=Q(recurrence=None)
                | Q(
                    series_id__isnull=False,
                    series_start_on__isnull=False,
                    occurrence_on__isnull=False,
                ),
                name="tasks_task_series",
            ),
            models.CheckConstraint(
                condition=Q(completed_on=None) | Q(completed_at__isnull=False),
                name="tasks_task_completed_on",
            ),
            models.CheckConstraint(
                condition=Q(repeat_from__lt=len(REPEATS_FROM)), name="tasks_task_repeat_from"
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
