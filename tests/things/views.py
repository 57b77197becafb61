"""The thing routes."""

from todo_project.resources.views import OwnedViewSet

from .fields import THING


class ThingViewSet(OwnedViewSet):
    """What everything has that belongs to a person."""

    resource = THING
