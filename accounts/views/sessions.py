"""Signing in, staying signed in, and signing out."""

from dataclasses import replace
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import authenticate
from django.db import transaction
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound, Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from uuid_utils.compat import uuid7

from accounts.authentication import (
    current_session_id,
    current_user,
    note_user,
    refuse_present_token,
)
from accounts.models import Session, SessionQuerySet, User, hash_token
from accounts.serializers import (
    CredentialsSerializer,
    RefreshSerializer,
    SessionSerializer,
    TokenPairSerializer,
)
from accounts.session_tokens import Claims, TokenPair, issue_pair, read_refresh, succeeding_pairs
from accounts.throttles import RefreshThrottle, SignInThrottle, enforce_password_tries, keep_try
from todo_project import metrics
from todo_project.addresses import client_address
from todo_project.api.errors import InvalidCredentials, TokenInvalid
from todo_project.api.views import StrictInputMixin, read_uuid
from todo_project.text import header_text

from .base import HashingMixin, PublicView, no_password

USER_AGENT_MAX_CHARACTERS = 512


class TokenView(HashingMixin, PublicView):
    throttle_classes = (SignInThrottle,)
    body_serializers: ClassVar = {"post": CredentialsSerializer}

    @extend_schema(operation_id="auth_token", responses={200: TokenPairSerializer, 401: None})
    def post(self, request: Request) -> Response:
        """Sign in: begins a session, and answers its tokens."""
        enforce_password_tries(request, self.body["email"])
        user = authenticate(request._request, **self.body)
        # Where addresses are to be confirmed first, the right password tells nobody that an account
        # was made: it may be the one that they just tried to register somebody else's address with.
        if not isinstance(user, User) or not (
            user.email_verified or not settings.REQUIRE_VERIFIED_EMAIL
        ):
            keep_try(request)
            metrics.SIGN_INS.add("wrong" if user is None else "unverified")
            raise _invalid_credentials()
        note_user(request, user.pk)
        claims = Claims(user_id=user.pk, session_id=uuid7(), signed_in_at=timezone.now())
        pair = issue_pair(claims)
        with transaction.atomic():
            # Under the lock of the user's row: a change of password either sees this session and
            # ends it, or came first and is seen here.
            unchanged = User.objects.filter(pk=user.pk, password=user.password, is_active=True)
            if unchanged.select_for_update(no_key=True).first() is None:
                metrics.SIGN_INS.add("wrong")
                raise _invalid_credentials()
            Session.objects.create(
                id=claims.session_id,
                user=user,
                refresh_hash=hash_token(pair.refresh),
                expires_at=pair.refresh_expires_at,
                user_agent=_user_agent(request),
                address=client_address(request),
            )
            user.sessions.end_beyond_limit()
        metrics.SIGN_INS.add("ok")
        return Response(_token_pair(pair))

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, Throttled):
            metrics.SIGN_INS.add("limited")
        return super().handle_exception(exc)


class RefreshView(PublicView):
    throttle_classes = (RefreshThrottle,)
    body_serializers: ClassVar = {"post": RefreshSerializer}

    @extend_schema(
        operation_id="auth_token_refresh", responses={200: TokenPairSerializer, 401: None}
    )
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair. The old one is spent.

        Whoever lost the answer asks again within 60 seconds, before the new refresh token is used,
        and gets the same pair. A spent token at any other time ends the session: it may be stolen.
        """
        spent = self.body["refresh"]
        claims = read_refresh(spent)
        note_user(request, claims.user_id)
        issued_at = timezone.now()
        pair = next(succeeding_pairs(spent, claims, issued_at=issued_at))
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

    @extend_schema(operation_id="auth_logout", responses={204: None, 401: None})
    def post(self, request: Request) -> Response:
        """End the session of a refresh token. Ending it again changes nothing."""
        claims = read_refresh(self.body["refresh"])
        note_user(request, claims.user_id)
        Session.objects.filter(pk=claims.session_id).end()
        return Response(status=status.HTTP_204_NO_CONTENT)


class LogoutAllView(StrictInputMixin):
    @extend_schema(operation_id="auth_logout_all", responses={204: None})
    def post(self, request: Request) -> Response:
        """Sign out everywhere: every token that you have until now is refused.

        Sessions, this one included, personal tokens, and what the identity provider has issued.
        """
        with transaction.atomic():
            current_user(request).sign_out_everywhere()
            refuse_present_token(request)
        return Response(status=status.HTTP_204_NO_CONTENT)


class SessionListView(StrictInputMixin):
    @extend_schema(operation_id="auth_sessions_list", responses=SessionSerializer(many=True))
    def get(self, request: Request) -> Response:
        """List where you are signed in, the newest first. At most 50, in one page."""
        _require_sessions(request)
        sessions = current_user(request).sessions.live().order_by("-created_at", "-id")
        context = {"current_session_id": current_session_id(request)}
        return Response(SessionSerializer(sessions, many=True, context=context).data)


class SessionView(StrictInputMixin):
    @extend_schema(operation_id="auth_sessions_end", responses={204: None})
    def delete(self, request: Request, session_id: str) -> Response:
        """End one of your sessions."""
        _require_sessions(request)
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
        sessions: SessionQuerySet = current_user(self.request).sessions.live().filter(pk=session_id)
        return sessions


def _require_sessions(request: Request) -> None:
    """Raises ValidationError for people of an identity provider, who can't have any."""
    if not current_user(request).has_usable_password() and current_session_id(request) is None:
        raise no_password("non_field_errors")


def _pair_of_last_rotation(spent: str, claims: Claims) -> TokenPair:
    """The tokens for which `spent` was exchanged a moment ago: their answer may have been lost.

    Raises TokenInvalid where it was exchanged before that, and ends the session: one of the two who
    had the token has stolen it.
    """
    rotation = Session.objects.last_rotation(claims.session_id, spent=spent)
    if rotation is None:
        Session.objects.filter(pk=claims.session_id).end()
        raise TokenInvalid("The refresh token is spent, or its session has ended. Sign in.")
    for pair in succeeding_pairs(spent, claims, issued_at=rotation.issued_at):
        if hash_token(pair.refresh) == rotation.refresh_hash:
            seconds_left = pair.access_lifetime_seconds - int(rotation.age.total_seconds())
            return replace(pair, access_lifetime_seconds=max(0, seconds_left))
    # By a key that isn't known here, or by other settings.
    raise TokenInvalid("The refresh token is spent, and its successor can't be made again.")


def _invalid_credentials() -> InvalidCredentials:
    """The same for everybody; what it says depends on the service's settings alone."""
    if not settings.REQUIRE_VERIFIED_EMAIL:
        return InvalidCredentials()
    return InvalidCredentials(
        "The e-mail address or the password is wrong, or the address is not confirmed yet."
    )


def _user_agent(request: Request) -> str:
    return header_text(request.headers.get("User-Agent", ""))[:USER_AGENT_MAX_CHARACTERS]


def _token_pair(pair: TokenPair) -> dict[str, Any]:
    return {
        "access": pair.access,
        "refresh": pair.refresh,
        "expires_in": pair.access_lifetime_seconds,
    }
