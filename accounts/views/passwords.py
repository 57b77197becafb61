"""A password that is changed, or was forgotten."""

from typing import ClassVar

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import current_session_id, current_user
from accounts.letters import send_password_reset
from accounts.mailed_tokens import user_of_reset_token
from accounts.serializers import (
    AcceptedSerializer,
    PasswordChangeSerializer,
    PasswordResetConfirmSerializer,
    PasswordResetSerializer,
    validate_new_password,
)
from accounts.throttles import OwnPasswordThrottle, ResetThrottle

from .base import HashingMixin, PublicView, confirmed_user, no_password, used_link


class PasswordView(HashingMixin):
    throttle_classes = (OwnPasswordThrottle,)
    body_serializers: ClassVar = {"post": PasswordChangeSerializer}

    @extend_schema(operation_id="auth_password_change", responses={204: None})
    def post(self, request: Request) -> Response:
        """Change your password. Ends your other sessions, and no personal token."""
        if not current_user(request).has_usable_password():
            raise no_password("current_password")
        validate_new_password("new_password", self.body["new_password"], current_user(request))
        with transaction.atomic():
            user = confirmed_user(request, "current_password", self.body["current_password"])
            user.set_password(self.body["new_password"])
            user.save(
                update_fields=["password"],
                keep_session=current_session_id(request),
                keep_personal_tokens=True,
            )
        return Response(status=status.HTTP_204_NO_CONTENT)


class PasswordResetView(PublicView):
    throttle_classes = (ResetThrottle,)
    body_serializers: ClassVar = {"post": PasswordResetSerializer}

    @extend_schema(operation_id="auth_password_reset", responses={202: AcceptedSerializer})
    def post(self, request: Request) -> Response:
        """Ask for a link to choose a new password. Known and unknown addresses look the same."""
        send_password_reset(self.body["email"])
        message = "If the address belongs to an account, a link is on its way to it."
        return Response({"message": message}, status=status.HTTP_202_ACCEPTED)


class PasswordResetConfirmView(HashingMixin, PublicView):
    throttle_classes = (ResetThrottle,)
    body_serializers: ClassVar = {"post": PasswordResetConfirmSerializer}

    @extend_schema(operation_id="auth_password_reset_confirm", responses={204: None})
    def post(self, request: Request) -> Response:
        """Choose a new password with the token of a mailed link.

        Ends all of your sessions and personal tokens. The link also proves that the address is
        yours.
        """
        with transaction.atomic():
            user = user_of_reset_token(self.body["token"])
            if user is None:
                raise used_link()
            validate_new_password("new_password", self.body["new_password"], user)
            user.set_password(self.body["new_password"])
            if not user.email_verified:
                # They were added by somebody who had proved less than this.
                user.identities.all().delete()
            # The link went to the address. One to another address has died with the old password.
            user.email_verified, user.pending_email = True, None
            user.save(update_fields=["password", "email_verified", "pending_email"])
        return Response(status=status.HTTP_204_NO_CONTENT)
