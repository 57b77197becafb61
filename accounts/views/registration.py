"""Registration."""

from typing import ClassVar

from django.conf import settings
from django.db import IntegrityError
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import note_user
from accounts.letters import send_registration
from accounts.models import User
from accounts.serializers import AcceptedSerializer, RegistrationSerializer, UserSerializer
from accounts.throttles import RegisterThrottle

from .base import HashingMixin, PublicView


class RegisterView(HashingMixin, PublicView):
    throttle_classes = (RegisterThrottle,)
    body_serializers: ClassVar = {"post": RegistrationSerializer}

    @extend_schema(
        operation_id="auth_register", responses={201: UserSerializer, 202: AcceptedSerializer}
    )
    def post(self, request: Request) -> Response:
        """Make an account.

        Where addresses have to be confirmed before the first sign-in the answer is 202, the same
        for an address that is taken: a mail says how to go on.
        """
        if settings.REQUIRE_VERIFIED_EMAIL:
            return self._accept()
        # Without the page that links lead to there are none.
        pending_email = self.body["email"] if settings.EMAIL_CONFIRMATION_URL else None
        try:
            user = User.objects.create_user(**self.body, pending_email=pending_email)
        except IntegrityError:
            raise _address_taken() from None
        note_user(request, user.pk)
        if pending_email:
            send_registration(user)
        return Response(UserSerializer(user).data, status=status.HTTP_201_CREATED)

    def _accept(self) -> Response:
        """Does and answers the same, whether or not somebody has the address."""
        send_registration(User.objects.create_unless_taken(**self.body))
        message = "A mail is on its way to the address. It says how to go on."
        return Response({"message": message}, status=status.HTTP_202_ACCEPTED)


def _address_taken() -> ValidationError:
    return ValidationError({"email": [ErrorDetail("This e-mail address is taken.", "unique")]})
