"""How else the caller signs in: identities at the provider, to list, to add and to take away."""

from typing import ClassVar

from django.conf import settings
from django.db import IntegrityError, transaction
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import current_identity_id, current_user
from accounts.identities import Known, is_removed, remember
from accounts.issuers import OutsideClaims, is_outside, read_outside
from accounts.letters import send_identity_added
from accounts.models import Identity, IdentityQuerySet, User
from accounts.serializers import IdentityLinkSerializer, IdentitySerializer
from accounts.throttles import OwnPasswordThrottle
from todo_project.api.errors import CallerMoved, Conflict, TokenExpired, TokenInvalid
from todo_project.api.views import StrictInputMixin, read_uuid

from .base import HashingMixin, confirmed_user, locked_user


class IdentityListView(HashingMixin):
    throttle_classes = (OwnPasswordThrottle,)
    body_serializers: ClassVar = {"post": IdentityLinkSerializer}

    @extend_schema(operation_id="auth_identities_list", responses=IdentitySerializer(many=True))
    def get(self, request: Request) -> Response:
        """List your identities at the identity provider, the newest first, in one page."""
        identities = current_user(request).identities.order_by("-created_at", "-id")
        context = {"current_identity_id": current_identity_id(request)}
        return Response(IdentitySerializer(identities, many=True, context=context).data)

    @extend_schema(
        operation_id="auth_identities_add", responses={201: IdentitySerializer, 409: None}
    )
    def post(self, request: Request) -> Response:
        """Let a person of the identity provider into this account, by one of their tokens.

        An account of their own, made by an earlier request, goes if it is empty.
        """
        claims = _claims(self.body["token"])
        with transaction.atomic():
            user = confirmed_user(request, "password", self.body["password"])
            identity = _linked(user, claims)
        remember(claims, Known(identity.pk, user.pk))
        send_identity_added(user, identity)
        context = {"current_identity_id": current_identity_id(request)}
        return Response(
            IdentitySerializer(identity, context=context).data, status=status.HTTP_201_CREATED
        )


class IdentityView(StrictInputMixin):
    @extend_schema(operation_id="auth_identities_remove", responses={204: None, 409: None})
    def delete(self, request: Request, identity_id: str) -> Response:
        """Take away one of your identities, though not your last way to sign in.

        Tokens that the provider has issued until now lead nowhere; one that it issues later makes
        an account of its own.
        """
        with transaction.atomic():
            user = locked_user(request)
            identity = self._the_identity().first()
            if identity is None:
                raise NotFound()
            has_password = settings.LOCAL_ACCOUNTS and user.has_usable_password()
            if not has_password and not user.identities.exclude(pk=identity.pk).exists():
                raise Conflict("This is your last way to sign in. Add another one before.")
            identity.delete()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def require_object(self) -> None:
        if not self._the_identity().exists():
            raise NotFound()

    def _the_identity(self) -> IdentityQuerySet:
        identity_id = read_uuid(self.kwargs["identity_id"])
        if identity_id is None:
            raise NotFound()
        identities: IdentityQuerySet = current_user(self.request).identities.filter(pk=identity_id)
        return identities


def _claims(token: str) -> OutsideClaims:
    """Raises ValidationError for a token that the provider's people could not come with."""
    raw_token = token.encode()
    if not is_outside(raw_token):
        raise _bad_token()
    try:
        claims = read_outside(raw_token)
    except (TokenExpired, TokenInvalid):
        raise _bad_token() from None
    if is_removed(claims):
        raise _bad_token()
    return claims


def _linked(user: User, claims: OutsideClaims) -> Identity:
    """The identity of the token, from now on `user`'s, who is locked. For a transaction.

    Raises Conflict where it is somebody's who has more than just it.
    """
    try:
        with transaction.atomic():
            made: Identity = Identity.objects.create(
                user=user, issuer=claims.issuer, subject=claims.subject
            )
            return made
    except IntegrityError:  # somebody has it
        identity = (
            Identity.objects.filter(issuer=claims.issuer, subject=claims.subject)
            .select_for_update()
            .first()
        )
    if identity is None:  # not any more
        raise CallerMoved()
    if identity.valid_after > claims.issued_at:
        raise _bad_token()
    if identity.user_id != user.pk:
        # Against key shares, too: what is being inserted for that account now, such as a task, is
        # seen here, or finds no account afterwards.
        owner = User.objects.select_for_update().get(pk=identity.user_id)
        if not owner.has_nothing_but(identity):
            raise Conflict("That sign-in has an account with things in it. Delete those first.")
        identity.user = user
        identity.save(update_fields=["user"])
        owner.delete()
    return identity


def _bad_token() -> ValidationError:
    message = "No good token of the identity provider, or an old one. Sign in there again."
    return ValidationError({"token": [ErrorDetail(message, "invalid")]})
