"""What a client accepts, where JSON is all that there is."""

from collections.abc import Iterable
from typing import Any

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

ACCEPT_MAX_CHARACTERS = 8192  # parsing more costs more than it can say
_USUAL = ("", "*/*", "application/json")
_RANGES = frozenset({("application", "json"), ("application", "*"), ("*", "*")})


class JSONNegotiation(DefaultContentNegotiation):
    """The first renderer for whoever accepts JSON; raises NotAcceptable for whoever doesn't.

    Unlike REST framework's own it heeds `q=0` and takes an empty header for none. RFC 9110, 12.5.1.
    """

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: Any = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        accept: str = request.META.get("HTTP_ACCEPT", "").strip()
        if accept not in _USUAL:
            if len(accept) > ACCEPT_MAX_CHARACTERS:
                raise NotAcceptable()
            accepted = {(t.main_type, t.sub_type) for t in request.accepted_types}
            if not accepted & _RANGES:
                raise NotAcceptable()
        return renderer, renderer.media_type
