"""The mails that a test made leave, and what stands in them."""

import re
from typing import Any
from urllib.parse import unquote

from django.core import mail as outgoing

from accounts import mail
from tests.processes import PATIENCE_S


def sent() -> list[Any]:
    """All so far, once the queue is empty."""
    assert mail.queue.wait(PATIENCE_S)
    return outgoing.outbox


def token_of(message: Any) -> str:
    match = re.search(r"token=(\S+)", message.body)
    assert match is not None
    return unquote(match[1])
