"""How else the caller signs in: identities at the provider, to list, to add and to take away."""

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import current_identity_id, current_user, refuse_present_token
from accounts.identities import Known, is_removed, remember
from accounts.issuers import OutsideClaims, is_outside, read_outside
from accounts.letters import send_identity_added
from accounts.models import Identity, IdentityQuerySet, User
from accounts.serializers import IdentityLinkSerializer, IdentitySerializer
from accounts.throttles import OwnPasswordThrottle
from todo_project.api.errors import CallerMoved, Conflict, TokenExpired, TokenInvalid
from todo_project.api.views import StrictInputMixin, read_uuid
from todo_project.clock import lock_clocks

from .base import HashingMixin, confirmed_user, locked_user


class IdentityListView(HashingMixin):
    throttle_classes = (OwnPasswordThrottle,)
    body_serializers: ClassVar = {"post": IdentityLinkSerializer}

    claims: OutsideClaims  # of the token to be added

    def prepare(self) -> None:
        """Verifies the token, for which the issuer may have to be asked."""
        self.claims = _claims(self.body["token"])

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
        claims = self.claims
        with transaction.atomic():
            identity = _linked(request, self.body["password"], claims)
        user = current_user(request)
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
            others = user.identities.exclude(pk=identity.pk).filter(issuer=settings.AUTH_ISSUER)
            if not user.can_sign_in_here and not others.exists():
                raise Conflict("This is your last way to sign in. Add another one before.")
            refuse_present_token(request)
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


def _linked(request: Request, password: str, claims: OutsideClaims) -> Identity:
    """The identity of the token, from now on the caller's. For a transaction.

    Raises what confirmed_user does, and Conflict where it is somebody's who has more than just it.
    """
    identities = Identity.objects.filter(issuer=claims.issuer, subject=claims.subject)
    owner = _lock_owner(current_user(request).pk, identities)
    user = confirmed_user(request, "password", password)
    if owner is None:
        return _added(user, claims)
    identity = identities.select_for_update().first()
    if identity is None or identity.user_id != owner.pk:  # not any more
        raise CallerMoved()
    if identity.valid_after >= claims.issued_at:
        raise _bad_token()
    if owner.pk != user.pk:
        if not owner.has_nothing_but(identity):
            raise Conflict("That sign-in has an account with things in it. Delete those first.")
        identity.user = user
        identity.save(update_fields=["user"])
        owner.delete()
    return identity


def _lock_owner(caller_id: UUID, identities: IdentityQuerySet) -> User | None:
    """Whose identity it is, locked, and the caller; None where it is nobody's.

    The clock of whoever may go, then users before identities, in the order of their ids: as
    everybody, or two wait for each other.
    The owner against key shares, too: what is being inserted for that account now, such as a task,
    is seen afterwards, or finds no account.
    """
    owner_id: UUID | None = identities.values_list("user_id", flat=True).first()
    if owner_id is not None and owner_id != caller_id:
        lock_clocks([owner_id])
    locked: dict[UUID, User | None] = {}
    for user_id in sorted({caller_id, owner_id or caller_id}):
        users = User.objects.select_for_update(no_key=user_id == caller_id)
        locked[user_id] = users.filter(pk=user_id).first()
    if owner_id is None:
        return None
    if locked[owner_id] is None:  # deleted meanwhile
        raise CallerMoved()
    return locked[owner_id]


def _added(user: User, claims: OutsideClaims) -> Identity:
    try:
        with transaction.atomic():
            identity: Identity = Identity.objects.create(
                user=user, issuer=claims.issuer, subject=claims.subject
            )
    except IntegrityError:  # somebody's, since a moment ago
        raise CallerMoved() from None
    return identity


def _bad_token() -> ValidationError:
    message = "No good token of the identity provider, or an old one. Sign in there again."
    return ValidationError({"token": [ErrorDetail(message, "invalid")]})
