"""E-mail addresses: to give another one, and to prove that it is one's own."""

from typing import ClassVar

from django.db import IntegrityError, transaction
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.letters import send_change_of_email
from accounts.mailed_tokens import user_of_confirmation_token
from accounts.serializers import (
    AcceptedSerializer,
    EmailChangeSerializer,
    EmailConfirmationSerializer,
)
from accounts.throttles import OwnPasswordThrottle, ResetThrottle

from .base import HashingMixin, PublicView, confirmed_user, used_link


class EmailView(HashingMixin):
    throttle_classes = (OwnPasswordThrottle,)
    body_serializers: ClassVar = {"post": EmailChangeSerializer}

    @extend_schema(operation_id="auth_email_change", responses={202: AcceptedSerializer})
    def post(self, request: Request) -> Response:
        """Change your e-mail address. It changes when the link is used that goes to the new one.

        One that is taken gets the same answer, and no link. The present address gets its link once
        more, while it isn't verified; once it is, this takes back what was asked for before.
        """
        email = self.body["email"]
        with transaction.atomic():
            user = confirmed_user(request, "password", self.body["password"])
            has_it = user.email_verified and user.email == email
            user.pending_email = None if has_it else email
            user.save(update_fields=["pending_email"])
        send_change_of_email(user.pk)
        message = "If it is free for you, a link is on its way to the address."
        return Response({"message": message}, status=status.HTTP_202_ACCEPTED)


class EmailConfirmView(PublicView):
    throttle_classes = (ResetThrottle,)
    body_serializers: ClassVar = {"post": EmailConfirmationSerializer}

    @extend_schema(operation_id="auth_email_confirm", responses={204: None})
    def post(self, request: Request) -> Response:
        """Confirm an e-mail address with the token of a mailed link."""
        try:
            with transaction.atomic():
                user = user_of_confirmation_token(self.body["token"])
                if user is None:
                    raise used_link()
                user.email, user.email_verified = user.pending_email, True
                user.pending_email = None
                user.save(update_fields=["email", "email_verified", "pending_email"])
        except IntegrityError:
            raise _taken_meanwhile() from None
        return Response(status=status.HTTP_204_NO_CONTENT)


def _taken_meanwhile() -> ValidationError:
    message = "The address belongs to another account by now."
    return ValidationError({"token": [ErrorDetail(message, "unique")]})
