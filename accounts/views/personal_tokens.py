"""The caller's personal tokens: to make, to list and to end."""

from typing import ClassVar

from django.conf import settings
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import current_user
from accounts.models import PersonalToken, PersonalTokenQuerySet, hash_token
from accounts.personal_tokens import make
from accounts.serializers import NewPersonalTokenSerializer, PersonalTokenSerializer
from accounts.throttles import OwnWriteThrottle
from todo_project.api.errors import Conflict
from todo_project.api.views import StrictInputMixin, read_uuid

from .base import locked_user


class PersonalTokenListView(StrictInputMixin):
    throttle_classes = (OwnWriteThrottle,)
    body_serializers: ClassVar = {"post": PersonalTokenSerializer}

    @extend_schema(
        operation_id="auth_tokens_create", responses={201: NewPersonalTokenSerializer, 409: None}
    )
    def post(self, request: Request) -> Response:
        """Make a personal token for a script. `token` is answered this once, and not kept."""
        secret = make()
        with transaction.atomic():
            # What ends sessions and tokens takes this lock, too: it either came first, and is seen
            # here, or finds the new token and ends it.
            user = locked_user(request)
            request.auth.check()
            if user.personal_tokens.live().count() >= settings.PERSONAL_TOKENS_PER_USER:
                raise Conflict(
                    f"At most {settings.PERSONAL_TOKENS_PER_USER} personal tokens live at a time. "
                    "End one first."
                )
            token = PersonalToken.objects.create(user=user, hash=hash_token(secret), **self.body)
        answer = {**PersonalTokenSerializer(token).data, "token": secret}
        return Response(answer, status=status.HTTP_201_CREATED)

    @extend_schema(operation_id="auth_tokens_list", responses=PersonalTokenSerializer(many=True))
    def get(self, request: Request) -> Response:
        """List your personal tokens, the newest first. At most 50, in one page."""
        tokens = current_user(request).personal_tokens.live().order_by("-created_at", "-id")
        return Response(PersonalTokenSerializer(tokens, many=True).data)


class PersonalTokenView(StrictInputMixin):
    @extend_schema(operation_id="auth_tokens_end", responses={204: None})
    def delete(self, request: Request, token_id: str) -> Response:
        """End one of your personal tokens, at once."""
        ended, _ = self._the_token().delete()
        if not ended:
            raise NotFound()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def require_object(self) -> None:
        if not self._the_token().exists():
            raise NotFound()

    def _the_token(self) -> PersonalTokenQuerySet:
        token_id = read_uuid(self.kwargs["token_id"])
        if token_id is None:
            raise NotFound()
        user = current_user(self.request)
        tokens: PersonalTokenQuerySet = user.personal_tokens.live().filter(pk=token_id)
        return tokens
