"""The caller's own account: to read, to change and to delete."""

from typing import ClassVar

from django.contrib.admin.models import LogEntry
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import current_user
from accounts.credentials import canonical_email
from accounts.models import User
from accounts.serializers import ConfirmationSerializer, ProfileUpdateSerializer, UserSerializer
from accounts.throttles import OwnPasswordThrottle, OwnProfileThrottle
from todo_project.api.errors import TokenInvalid

from .base import HashingMixin, confirmed_user


class MeView(HashingMixin):
    throttle_classes = (OwnPasswordThrottle, OwnProfileThrottle)
    body_serializers: ClassVar = {
        "patch": ProfileUpdateSerializer,
        "delete": ConfirmationSerializer,
    }

    @extend_schema(operation_id="auth_me_read", responses=UserSerializer)
    def get(self, request: Request) -> Response:
        """Read your account."""
        return Response(UserSerializer(current_user(request)).data)

    @extend_schema(operation_id="auth_me_update", responses=UserSerializer)
    def patch(self, request: Request) -> Response:
        """Change your name."""
        user = current_user(request)
        present = user.email and canonical_email(user.email)
        if "email" in self.body and self.body["email"] != present:
            raise _email_immutable()
        if "name" in self.body:
            user.name = self.body["name"]
            if not User.objects.filter(pk=user.pk).update(name=user.name):
                raise TokenInvalid("The account has been deleted.")
        return Response(UserSerializer(user).data)

    @extend_schema(operation_id="auth_me_delete", responses={204: None})
    def delete(self, request: Request) -> Response:
        """Delete your account with its tasks. This can't be undone."""
        _delete_account(request, self.body["password"])
        return Response(status=status.HTTP_204_NO_CONTENT)


class MeDeletionView(HashingMixin):
    throttle_classes = (OwnPasswordThrottle,)
    body_serializers: ClassVar = {"post": ConfirmationSerializer}

    @extend_schema(operation_id="auth_me_delete_by_post", responses={204: None})
    def post(self, request: Request) -> Response:
        """Delete your account, for clients that can't send a body with DELETE."""
        _delete_account(request, self.body["password"])
        return Response(status=status.HTTP_204_NO_CONTENT)


def _delete_account(request: Request, password: str) -> None:
    with transaction.atomic():
        user = confirmed_user(request, "password", password)
        if LogEntry.objects.filter(user=user).exists():
            raise _operators_stay()
        user.delete()


def _operators_stay() -> ValidationError:
    message = "What an operator did in admin stays on record. An operator can only be deactivated."
    return ValidationError({"non_field_errors": [ErrorDetail(message, "operator")]})


def _email_immutable() -> ValidationError:
    message = "The e-mail address is changed by POST /api/auth/email. Leave it out here."
    return ValidationError({"email": [ErrorDetail(message, "immutable")]})
