"""What a thing is to clients: its fields, each once."""

from typing import ClassVar

from todo_project.api.serializers import StrictSerializer
from todo_project.resources.fields import Identifier, Instant, Line, Number, Tag, Text
from todo_project.resources.resource import Resource

from .models import NAME_MAX_CHARACTERS, NOTE_MAX_CHARACTERS, Thing


class ThingSerializer(StrictSerializer):
    """A thing."""

    examples: ClassVar = {"name": "Bicycle", "note": "Blue", "starts_at": None}

    id = Identifier(read_only=True)
    user_id = Identifier(read_only=True)
    name = Line(max_length=NAME_MAX_CHARACTERS, sorts=True)
    note = Text(max_length=NOTE_MAX_CHARACTERS, allow_null=True, allow_blank=True, required=False)
    starts_at = Instant(allow_null=True, required=False, sorts=True)
    created_at = Instant(read_only=True, sorts=True)
    updated_at = Instant(read_only=True, sorts=True)
    version = Number(read_only=True)
    etag = Tag(read_only=True)


THING = Resource(
    model=Thing,
    serializer_class=ThingSerializer,
    name="thing",
    segment="things",
)
