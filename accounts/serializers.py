"""What the account routes read and write."""

from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from todo_project.api.permissions import Scope
from todo_project.api.serializers import (
    ChoicesField,
    LineField,
    StrictSerializer,
    StringField,
    TimeField,
)
from todo_project.resources.export import DocumentSerializer

from .credentials import (
    EMAIL_MAX_CHARACTERS,
    canonical_email,
    normalize_password,
    validate_mailable,
)
from .models import NAME_MAX_CHARACTERS, Identity, Session, User

# For the OpenAPI document: one person's, throughout.
_EMAIL = "alice@example.com"
_NAME = "Alice"
_PASSWORD = "blue bicycle at noon"  # noqa: S105  # nobody's
_NEW_PASSWORD = "green bicycle at dawn"  # noqa: S105  # likewise
_NEW_PASSWORD_HELP = (
    f"At least {settings.PASSWORD_MIN_CHARACTERS} characters in Unicode's form NFKC, and otherwise "
    "taken as it comes. Not a common one, and not like the address or the name."
)


class EmailField(StringField, serializers.EmailField):
    """An e-mail address; it is turned into the form in which it is kept."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=EMAIL_MAX_CHARACTERS, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        email = canonical_email(super().to_internal_value(data))
        validate_mailable(email)
        return email


class PasswordField(StringField):
    """A password, not trimmed, in the form in which it is hashed: so its characters count."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", settings.PASSWORD_MAX_CHARACTERS)
        super().__init__(write_only=True, trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return normalize_password(super().to_internal_value(data))


class NewPasswordField(PasswordField):
    """A password that somebody chooses.

    Its least length is no `minLength` of the document: that counts characters as they are sent, of
    which nine may be ten in the form that is hashed.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("help_text", _NEW_PASSWORD_HELP)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        password = super().to_internal_value(data)
        if len(password) < settings.PASSWORD_MIN_CHARACTERS:
            self.fail("min_length", min_length=settings.PASSWORD_MIN_CHARACTERS)
        return password


def validate_new_password(field: str, password: str, user: User) -> None:
    """Raises ValidationError on `field` with whatever Django's validators have against it."""
    try:
        password_validation.validate_password(password, user)
    except DjangoValidationError as error:
        faults = [
            ErrorDetail(message, code=fault.code or "invalid")
            for fault in error.error_list
            for message in fault.messages
        ]
        raise ValidationError({field: faults}) from None


class UserSerializer(StrictSerializer):
    """A person's account."""

    examples: ClassVar = {"email": _EMAIL, "name": _NAME}

    id = serializers.UUIDField(read_only=True)
    email = EmailField(
        read_only=True,
        allow_null=True,
        help_text="Null for people of an identity provider that doesn't say that it is theirs.",
    )
    email_verified = serializers.BooleanField(
        read_only=True,
        help_text="Whether a mailed link, or the identity provider, proved the address.",
    )
    name = LineField(max_length=NAME_MAX_CHARACTERS, allow_blank=True, required=False)
    created_at = serializers.DateTimeField(read_only=True)


class RegistrationSerializer(UserSerializer):
    examples: ClassVar = {**UserSerializer.examples, "password": _PASSWORD}

    email = EmailField()
    password = NewPasswordField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        user = User(email=attrs["email"], name=attrs.get("name", ""))
        validate_new_password("password", attrs["password"], user)
        return attrs


class ProfileUpdateSerializer(UserSerializer):
    """The caller's account, as it may be changed."""

    email = EmailField(
        required=False,
        allow_null=True,
        help_text="Only the present one is accepted here.",
    )


class CredentialsSerializer(StrictSerializer):
    """What a person signs in with."""

    examples: ClassVar = {"email": _EMAIL, "password": _PASSWORD}

    email = StringField(max_length=EMAIL_MAX_CHARACTERS)
    password = PasswordField()


class TokenPairSerializer(StrictSerializer):
    """A session's tokens."""

    access = serializers.CharField(help_text="Send it as `Authorization: Bearer <access>`.")
    refresh = serializers.CharField(help_text="Good for one refresh.")
    expires_in = serializers.IntegerField(help_text="Seconds until `access` expires.", min_value=1)


class RefreshSerializer(StrictSerializer):
    """A refresh token."""

    refresh = StringField(max_length=4096)


class ConfirmationSerializer(StrictSerializer):
    """The caller's password, once more."""

    examples: ClassVar = {"password": _PASSWORD}

    password = PasswordField()


class DeletionSerializer(StrictSerializer):
    """The caller's password, where they have one."""

    examples: ClassVar = {"password": _PASSWORD}

    password = PasswordField(
        required=False,
        help_text="Required of whoever has one. People of an identity provider need a token of a "
        "sign-in that is at most five minutes old.",
    )


class PasswordChangeSerializer(StrictSerializer):
    """The caller's password, and what it shall become."""

    examples: ClassVar = {"current_password": _PASSWORD, "new_password": _NEW_PASSWORD}

    current_password = PasswordField()
    new_password = NewPasswordField()


class PasswordResetSerializer(StrictSerializer):
    """Whose password was forgotten."""

    examples: ClassVar = {"email": _EMAIL}

    email = StringField(max_length=EMAIL_MAX_CHARACTERS)


class AcceptedSerializer(StrictSerializer):
    """What is said whether or not the address is known."""

    message = serializers.CharField()


class PasswordResetConfirmSerializer(StrictSerializer):
    """The token of the mailed link, and the new password."""

    examples: ClassVar = {"new_password": _NEW_PASSWORD}

    token = StringField(max_length=256)
    new_password = NewPasswordField()


class IdentityLinkSerializer(ConfirmationSerializer):
    """A token of the identity provider, and the password of the account that it is for."""

    token = StringField(max_length=settings.OUTSIDE_TOKEN_MAX_BYTES)


class IdentitySerializer(StrictSerializer):
    """What the caller is called at the identity provider."""

    id = serializers.UUIDField()
    issuer = serializers.CharField()
    subject = serializers.CharField(help_text="`sub` of the tokens.")
    created_at = serializers.DateTimeField()
    is_current = serializers.SerializerMethodField(help_text="The one that makes this request.")

    def get_is_current(self, identity: Identity) -> bool:
        return bool(identity.pk == self.context["current_identity_id"])


class EmailChangeSerializer(StrictSerializer):
    """The address that the caller wants to have, and their password."""

    examples: ClassVar = {"email": _EMAIL, "password": _PASSWORD}

    email = EmailField()
    password = PasswordField()


class EmailConfirmationSerializer(StrictSerializer):
    """The token of the mailed link."""

    token = StringField(max_length=256)


class SessionSerializer(StrictSerializer):
    """Where the caller is signed in."""

    id = serializers.UUIDField()
    user_agent = serializers.CharField(help_text="As the device named itself at the sign-in.")
    address = serializers.IPAddressField(
        allow_null=True, help_text="From where the sign-in came; null where it can't be told."
    )
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(
        source="rotated_at", help_text="When it was given its present tokens."
    )
    expires_at = serializers.DateTimeField()
    is_current = serializers.SerializerMethodField(help_text="The one that makes this request.")

    def get_is_current(self, session: Session) -> bool:
        return bool(session.pk == self.context["current_session_id"])


class ExpiryField(TimeField):
    """When something ends: a time to come."""

    default_error_messages: ClassVar = {"past": "This has passed."}

    def to_internal_value(self, value: Any) -> datetime:
        moment = super().to_internal_value(value)
        if moment <= timezone.now():
            self.fail("past")
        return moment


def _in_a_year() -> datetime:
    return timezone.now() + settings.PERSONAL_TOKEN_LIFETIME


class PersonalTokenSerializer(StrictSerializer):
    """A token for scripts, without the token itself."""

    examples: ClassVar = {
        "name": "Backup",
        "scopes": [str(Scope.TASKS_READ)],
        "expires_at": "2036-12-31T00:00:00.000000Z",
    }

    id = serializers.UUIDField(read_only=True)
    name = LineField(max_length=NAME_MAX_CHARACTERS, help_text="What it is for.")
    scopes = ChoicesField(list(Scope), help_text="What it is good for.")
    created_at = serializers.DateTimeField(read_only=True)
    expires_at = ExpiryField(
        allow_null=True,
        default=_in_a_year,
        help_text="Left out, it is a year from now; null: never.",
    )
    last_used_on = serializers.DateField(
        read_only=True, allow_null=True, help_text="The last day, in UTC. Null: not yet."
    )


class NewPersonalTokenSerializer(PersonalTokenSerializer):
    """A token for scripts, with the token itself."""

    token = serializers.CharField(
        read_only=True, help_text="Send it as `Authorization: Bearer <token>`. Shown this once."
    )


class ExportSerializer(DocumentSerializer):
    """Everything that the caller has. A file, and not in an envelope."""

    account = UserSerializer()
    sessions = SessionSerializer(many=True)
    tokens = PersonalTokenSerializer(many=True)
    identities = IdentitySerializer(many=True)
