"""People, their ways in and groups in Django admin, which finds each module here."""

from . import groups, users, ways_in

__all__ = ["groups", "users", "ways_in"]
