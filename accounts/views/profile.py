"""The caller's own account: to read, to change and to delete."""

from typing import ClassVar

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import current_user, refuse_present_token, signed_in_outside_at
from accounts.credentials import canonical_email
from accounts.models import User
from accounts.serializers import DeletionSerializer, ProfileUpdateSerializer, UserSerializer
from accounts.throttles import OwnPasswordThrottle, OwnProfileThrottle
from todo_project.api.errors import SignInTooOld, TokenInvalid
from todo_project.api.permissions import Scope
from todo_project.clock import lock_clocks

from .base import HashingMixin, confirmed_user, locked_user


class DeletionMixin(HashingMixin):
    """Deletes the caller's account."""

    def hashes(self) -> bool:
        return "password" in self.body

    def delete_account(self, request: Request) -> Response:
        with transaction.atomic():
            lock_clocks([current_user(request).pk])
            user = _confirmed_for_deletion(request, self.body.get("password"))
            if LogEntry.objects.filter(user=user).exists():
                raise _operators_stay()
            refuse_present_token(request)
            user.delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


class MeView(DeletionMixin):
    throttle_classes = (OwnPasswordThrottle, OwnProfileThrottle)
    read_scope = Scope.ACCOUNT_READ
    body_serializers: ClassVar = {
        "patch": ProfileUpdateSerializer,
        "delete": DeletionSerializer,
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
        return self.delete_account(request)


class MeDeletionView(DeletionMixin):
    throttle_classes = (OwnPasswordThrottle,)
    body_serializers: ClassVar = {"post": DeletionSerializer}

    @extend_schema(operation_id="auth_me_delete_by_post", responses={204: None})
    def post(self, request: Request) -> Response:
        """Delete your account, for clients that can't send a body with DELETE."""
        return self.delete_account(request)


def _confirmed_for_deletion(request: Request, password: str | None) -> User:
    """The caller, locked. Without a password a recent sign-in at the provider stands for it."""
    if password is not None:
        return confirmed_user(request, "password", password)
    user = locked_user(request)
    signed_in_at = signed_in_outside_at(request)
    if user.can_sign_in_here or signed_in_at is None:
        raise ValidationError({"password": [ErrorDetail("This field is required.", "required")]})
    if timezone.now() - signed_in_at > settings.RECENT_SIGN_IN:
        raise SignInTooOld()
    return user


def _operators_stay() -> ValidationError:
    message = "What an operator did in admin stays on record. An operator can only be deactivated."
    return ValidationError({"non_field_errors": [ErrorDetail(message, "operator")]})


def _email_immutable() -> ValidationError:
    message = "The e-mail address can't be changed here. Leave it out."
    if settings.LOCAL_ACCOUNTS:
        message = "The e-mail address is changed by POST /api/auth/email. Leave it out here."
    return ValidationError({"email": [ErrorDetail(message, "immutable")]})
