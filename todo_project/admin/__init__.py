"""What the admins of accounts and tasks share, so that operators can work on a million rows.

For the `admin` modules of both apps, and for the site. Django imports it with them.
"""

from .actions import log_changes, tell
from .figures import Figure, Plot, capped_figure, one_row, plot, table_figure, todays_figure
from .filters import ChoiceFilter, CreatedFilter, DayFilter
from .owned import OwnedRowsAdmin, lists_of
from .shown import link_to, page_of, tick, time_of
from .tables import (
    COUNT_LIMIT,
    SEARCHED_ROWS,
    CappedPaginator,
    EmptyToFieldMixin,
    LargeTableAdmin,
    capped,
    capped_count,
    large_tables,
)

__all__ = [
    "COUNT_LIMIT",
    "SEARCHED_ROWS",
    "CappedPaginator",
    "ChoiceFilter",
    "CreatedFilter",
    "DayFilter",
    "EmptyToFieldMixin",
    "Figure",
    "LargeTableAdmin",
    "OwnedRowsAdmin",
    "Plot",
    "capped",
    "capped_count",
    "capped_figure",
    "large_tables",
    "link_to",
    "lists_of",
    "log_changes",
    "one_row",
    "page_of",
    "plot",
    "table_figure",
    "tell",
    "tick",
    "time_of",
    "todays_figure",
]
