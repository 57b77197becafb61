"""Lines that people see, as the database compares them."""

from django.db.models import Func

# A function of the database (migration tasks.0005), the same for what is stored and asked for.
FOLD = "tasks_fold"


class Fold(Func):
    """Text as search compares it and lists are sorted: without case, accents, Unicode forms."""

    function = FOLD
    arity = 1
