"""Tasks and lists in Django admin, which finds each module here: operators see everybody's."""

from . import lists, tasks

__all__ = ["lists", "tasks"]
