"""Registration, tokens, and the caller's own account."""

from typing import Any, ClassVar

from django.contrib.auth import authenticate
from django.db import IntegrityError, transaction
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from uuid_utils.compat import uuid7

from todo_project.addresses import client_address
from todo_project.api.errors import InvalidCredentials, TokenInvalid
from todo_project.api.views import StrictInputMixin

from .authentication import note_user
from .models import Session, User, hash_token
from .serializers import (
    ConfirmationSerializer,
    CredentialsSerializer,
    PasswordChangeSerializer,
    ProfileSerializer,
    RefreshSerializer,
    RegistrationSerializer,
    TokenPairSerializer,
    UserSerializer,
)
from .tokens import Claims, TokenPair, issue_pair, read_refresh

USER_AGENT_MAX_CHARACTERS = 512


class PublicView(StrictInputMixin):
    """A route that needs no access token, and ignores one."""

    authentication_classes: ClassVar[list[Any]] = []
    permission_classes: ClassVar[list[Any]] = [AllowAny]


class RegisterView(PublicView):
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


class TokenView(PublicView):
    body_serializers: ClassVar = {"post": CredentialsSerializer}

    @extend_schema(operation_id="auth_token", responses=TokenPairSerializer)
    def post(self, request: Request) -> Response:
        """Sign in: begins a session, and answers its tokens."""
        user = authenticate(request._request, **self.body)
        if not isinstance(user, User):
            raise InvalidCredentials()
        note_user(request, user.pk)
        claims = Claims(user_id=user.pk, session_id=uuid7(), signed_in_at=timezone.now())
        pair = issue_pair(claims)
        with transaction.atomic():
            # Under the lock of the user's row: a change of password either sees this session and
            # ends it, or came first and is seen here.
            unchanged = User.objects.filter(pk=user.pk, password=user.password, is_active=True)
            if unchanged.select_for_update(no_key=True).first() is None:
                raise InvalidCredentials()
            Session.objects.create(
                id=claims.session_id,
                user=user,
                refresh_hash=hash_token(pair.refresh),
                expires_at=pair.refresh_expires_at,
                user_agent=_user_agent(request),
                address=client_address(request._request),
            )
            user.sessions.end_beyond_limit()
        return Response(_token_pair(pair))


class RefreshView(PublicView):
    body_serializers: ClassVar = {"post": RefreshSerializer}

    @extend_schema(operation_id="auth_token_refresh", responses=TokenPairSerializer)
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair. The old one is spent."""
        spent = self.body["refresh"]
        claims = read_refresh(spent)
        note_user(request, claims.user_id)
        pair = issue_pair(claims)
        if not Session.objects.rotate(
            claims.session_id,
            spent=spent,
            issued=pair.refresh,
            expires_at=pair.refresh_expires_at,
        ):
            Session.objects.punish_reuse(claims.session_id, spent=spent)
            raise TokenInvalid("The refresh token is spent, or its session has ended. Sign in.")
        return Response(_token_pair(pair))


class LogoutView(PublicView):
    body_serializers: ClassVar = {"post": RefreshSerializer}

    @extend_schema(operation_id="auth_logout", responses={204: None})
    def post(self, request: Request) -> Response:
        """End the session of a refresh token. Ending it again changes nothing."""
        claims = read_refresh(self.body["refresh"])
        note_user(request, claims.user_id)
        Session.objects.filter(pk=claims.session_id).end()
        return Response(status=status.HTTP_204_NO_CONTENT)


class MeView(StrictInputMixin):
    body_serializers: ClassVar = {"patch": ProfileSerializer, "delete": ConfirmationSerializer}

    @extend_schema(operation_id="auth_me_read", responses=UserSerializer)
    def get(self, request: Request) -> Response:
        """Read your account."""
        return Response(UserSerializer(request.user).data)

    @extend_schema(operation_id="auth_me_update", responses=UserSerializer)
    def patch(self, request: Request) -> Response:
        """Change your name."""
        user: User = request.user
        if "name" in self.body:
            user.name = self.body["name"]
            user.save(update_fields=["name"])
        return Response(UserSerializer(user).data)

    @extend_schema(operation_id="auth_me_delete", responses={204: None})
    def delete(self, request: Request) -> Response:
        """Delete your account with its tasks. This can't be undone."""
        with transaction.atomic():
            _confirmed_user(request, "password", self.body["password"]).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


class PasswordView(StrictInputMixin):
    body_serializers: ClassVar = {"post": PasswordChangeSerializer}

    @extend_schema(operation_id="auth_password_change", responses={204: None})
    def post(self, request: Request) -> Response:
        """Change your password. Ends your other sessions."""
        session: Session = request.auth
        with transaction.atomic():
            user = _confirmed_user(request, "current_password", self.body["current_password"])
            user.set_password(self.body["new_password"])
            user.save(update_fields=["password"], keep_session=session.pk)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _confirmed_user(request: Request, field: str, password: str) -> User:
    """The caller, locked, after the password was checked. Raises ValidationError on `field`."""
    user = User.objects.filter(pk=request.user.pk).select_for_update(no_key=True).first()
    if user is None:
        raise TokenInvalid("The account has been deleted.")
    if not user.check_password(password):
        raise ValidationError({field: [ErrorDetail("The password is wrong.", "wrong_password")]})
    return user


def _address_taken() -> ValidationError:
    return ValidationError({"email": [ErrorDetail("This e-mail address is taken.", "unique")]})


def _user_agent(request: Request) -> str:
    # PostgreSQL stores no NUL; a header can't hold one, but a test client's can.
    return request.headers.get("User-Agent", "").replace("\x00", "")[:USER_AGENT_MAX_CHARACTERS]


def _token_pair(pair: TokenPair) -> dict[str, Any]:
    return {
        "access": pair.access,
        "refresh": pair.refresh,
        "expires_in": pair.access_lifetime_seconds,
    }
