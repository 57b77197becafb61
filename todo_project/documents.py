"""What the service says of itself: the OpenAPI document, and the contract. For urls.py."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .api.envelope import EnvelopeRenderer
from .api.serializers import QuerySerializer
from .api.views import StrictInputMixin


class DocumentQuery(QuerySerializer):
    format = serializers.ChoiceField(choices=["json", "yaml"], required=False)


class DocumentNegotiation(DefaultContentNegotiation):
    """The format that the query names, else the one that Accept asks for."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: Any = None
    ) -> tuple[BaseRenderer, str]:
        renderers = list(renderers)
        for renderer in renderers:
            if renderer.format == request.query_params.get("format"):
                return renderer, renderer.media_type
        accepted: tuple[BaseRenderer, str] = super().select_renderer(request, renderers)
        return accepted


class DocumentView(StrictInputMixin, SpectacularAPIView):
    """The OpenAPI document, in YAML or JSON."""

    content_negotiation_class = DocumentNegotiation  # type: ignore[assignment]
    query_serializers: ClassVar = {"get": DocumentQuery}

    def handle_exception(self, exc: Exception) -> Response:
        """Errors as everywhere, whatever the document was to come in."""
        self.request.accepted_renderer = EnvelopeRenderer()
        self.request.accepted_media_type = EnvelopeRenderer.media_type
        return super().handle_exception(exc)


@require_safe
def contract(request: HttpRequest) -> HttpResponse:
    """The contract, which the OpenAPI document refers to. As plain text, which browsers show."""
    text = (settings.BASE_DIR / "docs" / "contract.md").read_text()
    return HttpResponse(text, content_type="text/plain; charset=utf-8")
