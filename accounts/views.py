"""Registration, tokens, and the caller's own account."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, ClassVar

from django.contrib.admin.models import LogEntry
from django.contrib.auth import authenticate
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from uuid_utils.compat import uuid7

from todo_project.addresses import client_address
from todo_project.api.errors import InvalidCredentials, TokenInvalid
from todo_project.api.views import StrictInputMixin, read_uuid
from todo_project.text import header_text

from .authentication import caller, current_session, note_user
from .credentials import canonical_email
from .hashers import hashing, require_place
from .mail import send_password_reset
from .models import Session, SessionQuerySet, User, hash_token
from .serializers import (
    AcceptedSerializer,
    ConfirmationSerializer,
    CredentialsSerializer,
    PasswordChangeSerializer,
    PasswordResetConfirmSerializer,
    PasswordResetSerializer,
    ProfileUpdateSerializer,
    RefreshSerializer,
    RegistrationSerializer,
    SessionSerializer,
    TokenPairSerializer,
    UserSerializer,
    validate_new_password,
)
from .throttles import (
    OwnPasswordThrottle,
    OwnProfileThrottle,
    RefreshThrottle,
    RegisterThrottle,
    ResetThrottle,
    SignInThrottle,
    enforce_password_tries,
    give_try_back,
    keep_try,
)
from .tokens import (
    Claims,
    TokenPair,
    issue_pair,
    read_refresh,
    succeeding_pair,
    user_of_reset_token,
)

USER_AGENT_MAX_CHARACTERS = 512
HASHING_METHODS = frozenset({"POST", "DELETE"})  # of the routes that hash


class PublicView(StrictInputMixin):
    """A route that needs no access token, and ignores one."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class HashingMixin(StrictInputMixin):
    """A route that hashes a password. Refused at once where too many do, before anything is done.

    The place is taken once limits and input are passed: what is refused for these keeps nobody from
    signing in. It is kept until the answer is there, so that nobody is refused with locks in hand.

    A try of a password that turned out to be none is given back to the account, unless something
    failed here.
    """

    place: ExitStack

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method not in HASHING_METHODS:
            return super().dispatch(request, *args, **kwargs)
        require_place()
        with ExitStack() as self.place:
            response = super().dispatch(request, *args, **kwargs)
        if response.status_code < 500:
            give_try_back(request)
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in HASHING_METHODS:
            self.place.enter_context(hashing())


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


class TokenView(HashingMixin, PublicView):
    throttle_classes = (SignInThrottle,)
    body_serializers: ClassVar = {"post": CredentialsSerializer}

    @extend_schema(operation_id="auth_token", responses=TokenPairSerializer)
    def post(self, request: Request) -> Response:
        """Sign in: begins a session, and answers its tokens."""
        enforce_password_tries(request._request, self.body["email"])
        user = authenticate(request._request, **self.body)
        if not isinstance(user, User):
            keep_try(request._request)
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
    throttle_classes = (RefreshThrottle,)
    body_serializers: ClassVar = {"post": RefreshSerializer}

    @extend_schema(operation_id="auth_token_refresh", responses=TokenPairSerializer)
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair. The old one is spent.

        Whoever lost the answer asks again within 60 seconds, before the new refresh token is used,
        and gets the same pair. A spent token at any other time ends the session: it may be stolen.
        """
        spent = self.body["refresh"]
        claims = read_refresh(spent)
        note_user(request, claims.user_id)
        issued_at = timezone.now()
        pair = succeeding_pair(spent, claims, issued_at=issued_at)
        if not Session.objects.rotate(
            claims.session_id,
            spent=spent,
            issued=pair.refresh,
            issued_at=issued_at,
            expires_at=pair.refresh_expires_at,
        ):
            pair = _pair_of_last_rotation(spent, claims)
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


class LogoutAllView(StrictInputMixin):
    @extend_schema(operation_id="auth_logout_all", responses={204: None})
    def post(self, request: Request) -> Response:
        """End all of your sessions, this one included."""
        caller(request).sessions.end()
        return Response(status=status.HTTP_204_NO_CONTENT)


class SessionListView(StrictInputMixin):
    @extend_schema(operation_id="auth_sessions_list", responses=SessionSerializer(many=True))
    def get(self, request: Request) -> Response:
        """List where you are signed in, the newest first. At most 50, in one page."""
        sessions = caller(request).sessions.live().order_by("-created_at", "-id")
        context = {"current_session": current_session(request)}
        return Response(SessionSerializer(sessions, many=True, context=context).data)


class SessionView(StrictInputMixin):
    @extend_schema(operation_id="auth_sessions_end", responses={204: None})
    def delete(self, request: Request, session_id: str) -> Response:
        """End one of your sessions."""
        if not self._the_session().end():
            raise NotFound()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def require_object(self) -> None:
        if not self._the_session().exists():
            raise NotFound()

    def _the_session(self) -> SessionQuerySet:
        session_id = read_uuid(self.kwargs["session_id"])
        if session_id is None:
            raise NotFound()
        sessions: SessionQuerySet = caller(self.request).sessions.live().filter(pk=session_id)
        return sessions


class MeView(HashingMixin):
    throttle_classes = (OwnPasswordThrottle, OwnProfileThrottle)
    body_serializers: ClassVar = {
        "patch": ProfileUpdateSerializer,
        "delete": ConfirmationSerializer,
    }

    @extend_schema(operation_id="auth_me_read", responses=UserSerializer)
    def get(self, request: Request) -> Response:
        """Read your account."""
        return Response(UserSerializer(caller(request)).data)

    @extend_schema(operation_id="auth_me_update", responses=UserSerializer)
    def patch(self, request: Request) -> Response:
        """Change your name."""
        user = caller(request)
        if "email" in self.body and self.body["email"] != canonical_email(user.email):
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


class MeDeletionView(StrictInputMixin):
    throttle_classes = (OwnPasswordThrottle,)
    body_serializers: ClassVar = {"post": ConfirmationSerializer}

    @extend_schema(operation_id="auth_me_delete_by_post", responses={204: None})
    def post(self, request: Request) -> Response:
        """Delete your account, for clients that can't send a body with DELETE."""
        _delete_account(request, self.body["password"])
        return Response(status=status.HTTP_204_NO_CONTENT)


class PasswordView(HashingMixin):
    throttle_classes = (OwnPasswordThrottle,)
    body_serializers: ClassVar = {"post": PasswordChangeSerializer}

    @extend_schema(operation_id="auth_password_change", responses={204: None})
    def post(self, request: Request) -> Response:
        """Change your password. Ends your other sessions."""
        session = current_session(request)
        validate_new_password("new_password", self.body["new_password"], caller(request))
        with transaction.atomic():
            user = _confirmed_user(request, "current_password", self.body["current_password"])
            user.set_password(self.body["new_password"])
            user.save(update_fields=["password"], keep_session=session.pk)
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
        """Choose a new password with the token of a mailed link. Ends all of your sessions."""
        with transaction.atomic():
            user = user_of_reset_token(self.body["token"])
            if user is None:
                message = "The link is used, too old, or was not made here. Ask for another."
                fault = ErrorDetail(message, "invalid")
                raise ValidationError({"token": [fault]})
            validate_new_password("new_password", self.body["new_password"], user)
            user.set_password(self.body["new_password"])
            user.save(update_fields=["password"])
        return Response(status=status.HTTP_204_NO_CONTENT)


def _delete_account(request: Request, password: str) -> None:
    with transaction.atomic():
        user = _confirmed_user(request, "password", password)
        if LogEntry.objects.filter(user=user).exists():
            raise _operators_stay()
        user.delete()


def _confirmed_user(request: Request, field: str, password: str) -> User:
    """The caller, locked, after the password was checked. Raises ValidationError on `field`."""
    user = User.objects.filter(pk=caller(request).pk).select_for_update(no_key=True).first()
    if user is None:
        raise TokenInvalid("The account has been deleted.")
    if not user.check_password(password):
        keep_try(request._request)
        raise ValidationError({field: [ErrorDetail("The password is wrong.", "wrong_password")]})
    return user


def _operators_stay() -> ValidationError:
    message = "What an operator did in admin stays on record. An operator can only be deactivated."
    return ValidationError({"non_field_errors": [ErrorDetail(message, "operator")]})


def _email_immutable() -> ValidationError:
    message = "The e-mail address can't be changed yet. Leave it out."
    return ValidationError({"email": [ErrorDetail(message, "immutable")]})


def _address_taken() -> ValidationError:
    return ValidationError({"email": [ErrorDetail("This e-mail address is taken.", "unique")]})


def _pair_of_last_rotation(spent: str, claims: Claims) -> TokenPair:
    """The tokens for which `spent` was exchanged a moment ago: their answer may have been lost.

    Raises TokenInvalid where it was exchanged before that, and ends the session: one of the two who
    had the token has stolen it.
    """
    rotation = Session.objects.last_rotation(claims.session_id, spent=spent)
    if rotation is None:
        Session.objects.filter(pk=claims.session_id).end()
        raise TokenInvalid("The refresh token is spent, or its session has ended. Sign in.")
    pair = succeeding_pair(spent, claims, issued_at=rotation.issued_at)
    if hash_token(pair.refresh) != rotation.refresh_hash:  # by another key, or other settings
        raise TokenInvalid("The refresh token is spent, and its successor can't be made again.")
    seconds_left = pair.access_lifetime_seconds - int(rotation.age.total_seconds())
    return replace(pair, access_lifetime_seconds=max(0, seconds_left))


def _user_agent(request: Request) -> str:
    return header_text(request.headers.get("User-Agent", ""))[:USER_AGENT_MAX_CHARACTERS]


def _token_pair(pair: TokenPair) -> dict[str, Any]:
    return {
        "access": pair.access,
        "refresh": pair.refresh,
        "expires_in": pair.access_lifetime_seconds,
    }
