"""What the task routes read and write."""

from typing import ClassVar

from rest_framework import serializers

from todo_project.api.serializers import BooleanField, LineField, StrictSerializer, StringField
from todo_project.text import validate_marks

from .models import DESCRIPTION_MAX_CHARACTERS, TITLE_MAX_CHARACTERS


class TaskSerializer(StrictSerializer):
    """A task."""

    examples: ClassVar = {
        "title": "Buy milk",
        "description": "Two litres",
        "is_completed": False,
        "completed_at": None,
    }

    id = serializers.UUIDField(read_only=True)
    user_id = serializers.UUIDField(read_only=True, help_text="The owner.")
    title = LineField(
        max_length=TITLE_MAX_CHARACTERS,
        help_text="One line, with something to see. White space around it is trimmed, and does not "
        "count.",
    )
    description = StringField(
        max_length=DESCRIPTION_MAX_CHARACTERS,
        allow_null=True,
        allow_blank=True,
        trim_whitespace=False,
        required=False,
        validators=[validate_marks],
    )
    is_completed = BooleanField(required=False)
    completed_at = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text="When the task was completed, while it is."
    )
    created_at = serializers.DateTimeField(read_only=True)
    updated_at = serializers.DateTimeField(read_only=True)


class CompletionSerializer(StrictSerializer):
    """Whether the task shall be completed. Set, never toggled, so that it can be repeated."""

    examples: ClassVar = {"is_completed": True}

    is_completed = BooleanField(required=False, help_text="Left out: true.")
