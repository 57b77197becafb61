"""How much a piece of code does, told by its calls: time says more of the machine's other work."""

import sys
from collections import Counter
from collections.abc import Callable


def count_calls(work: Callable[[], object]) -> int:
    """The events of a profiler in this thread: calls of Python's functions and of C's, returns."""
    events: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, argument: events.update([event]))
    try:
        work()
    finally:
        sys.setprofile(None)
    return events.total()
