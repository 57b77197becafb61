"""Registration."""

from typing import ClassVar

from django.db import IntegrityError
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import note_user
from accounts.models import User
from accounts.serializers import RegistrationSerializer, UserSerializer
from accounts.throttles import RegisterThrottle

from .base import HashingMixin, PublicView


class RegisterView(HashingMixin, PublicView):
    throttle_classes = (RegisterThrottle,)
    body_serializers: ClassVar = {"post": RegistrationSerializer}

    @extend_schema(operation_id="auth_register", responses={201: UserSerializer})
    def post(self, request: Request) -> Response:
        """Make an account."""
        try:
            user = User.objects.create_user(**self.body)
        except IntegrityError:
            raise _address_taken() from None
        note_user(request, user.pk)
        return Response(UserSerializer(user).data, status=status.HTTP_201_CREATED)


def _address_taken() -> ValidationError:
    return ValidationError({"email": [ErrorDetail("This e-mail address is taken.", "unique")]})
