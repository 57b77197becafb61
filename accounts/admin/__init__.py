"""People, their ways in, groups and what operators did in Django admin, which finds them here."""

from . import audit, groups, users, ways_in

__all__ = ["audit", "groups", "users", "ways_in"]
