"""People, and what lets them in: sessions, identities at a provider, personal tokens."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple, Self
from uuid import UUID

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import connections, models, transaction
from django.db.models import F, Q, Value
from django.db.models.fields.reverse_related import ForeignObjectRel
from django.db.models.functions import Greatest, Lower, Now
from uuid_utils.compat import uuid7

from todo_project.owners import owner_key
from todo_project.text import validate_line

from .credentials import (
    EMAIL_MAX_CHARACTERS,
    MailboxField,
    canonical_email,
    normalize_password,
    validate_mailable,
)

NAME_MAX_CHARACTERS = 150
ISSUER_MAX_CHARACTERS = 255
SUBJECT_MAX_CHARACTERS = 255  # OpenID Connect Core 1.0, section 2
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UserQuerySet(models.QuerySet["User"]):
    def with_email(self, email: str) -> Self:
        """The user of an address, in whatever form; by the unique index on Lower(email)."""
        return self.alias(lower_email=Lower("email")).filter(lower_email=canonical_email(email))

    def activate(self) -> int:
        """Lets these users sign in again; returns how many users changed."""
        return self.filter(is_active=False).update(is_active=True)

    @transaction.atomic
    def deactivate(self) -> int:
        """Ends these users' sessions and tokens, and lets none begin; returns how many changed."""
        users = self.filter(is_active=True).select_for_update(no_key=True)
        ids = list(users.values_list("pk", flat=True))
        User.objects.filter(pk__in=ids).update(is_active=False)
        Session.objects.filter(user__in=ids).end()
        Identity.objects.filter(user__in=ids).refuse_tokens()
        PersonalToken.objects.filter(user__in=ids).delete()
        return len(ids)


class UserManager(BaseUserManager["User"]):
    def get_queryset(self) -> UserQuerySet:
        return UserQuerySet(self.model, using=self._db)

    def with_email(self, email: str) -> UserQuerySet:
        return self.get_queryset().with_email(email)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.with_email(username or "").get()

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Makes a user with a hashed password. Raises IntegrityError where the address is taken."""
        user = self.model(email=canonical_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db, force_insert=True)
        return user

    def create_unless_taken(self, email: str, password: str, name: str = "") -> "User":
        """A user whose address is to be confirmed; in the database only where it wasn't taken.

        Whether it was, nobody can tell by the time: the password is hashed, and one statement
        writes a row, the new one or, as it is, that of whoever has the address.
        """
        email = canonical_email(email)
        user = self.model(email=email, pending_email=email, name=name)
        user.set_password(password)
        columns = ("id", "email", "pending_email", "name", "password")
        with connections[self.db].cursor() as cursor:
            cursor.execute(_INSERT_UNLESS_TAKEN, {name: getattr(user, name) for name in columns})
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """An operator, made by one: there is nobody to prove an address to."""
        fields |= {"is_staff": True, "is_superuser": True, "email_verified": True}
        return self.create_user(email, password, **fields)


_INSERT_UNLESS_TAKEN = """
    INSERT INTO accounts_user AS person
        (id, email, pending_email, name, password, is_active, is_staff, is_superuser)
    VALUES
        (%(id)s, %(email)s, %(pending_email)s, %(name)s, %(password)s, true, false, false)
    ON CONFLICT (lower(email)) DO UPDATE SET pending_email = person.pending_email
"""


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Signs in with e-mail and password, or at a provider; there is no user name."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Null where an identity provider doesn't say that an address is the person's.
    email = MailboxField(
        max_length=EMAIL_MAX_CHARACTERS, null=True, blank=True, validators=[validate_mailable]
    )
    email_verified = models.BooleanField(
        "e-mail verified", db_default=False, default=False, help_text="Mail to it was answered."
    )
    # The address to which a link is on its way that makes it the person's `email`, verified.
    pending_email = MailboxField(
        max_length=EMAIL_MAX_CHARACTERS, null=True, blank=True, editable=False
    )
    name = models.CharField(max_length=NAME_MAX_CHARACTERS, blank=True, validators=[validate_line])
    is_active = models.BooleanField("active", default=True)
    is_staff = models.BooleanField("operator", default=False, help_text="May use this admin.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints: ClassVar = [
            # Serves sign-in, registration and admin's search by address.
            models.UniqueConstraint(
                Lower("email"),
                name="accounts_user_email_unique",
                violation_error_code="unique",
                violation_error_message="This e-mail address is taken.",
            ),
            models.CheckConstraint(
                condition=Q(email_verified=False) | Q(email__isnull=False),
                name="accounts_user_email_verified",
            ),
        ]

    def __str__(self) -> str:
        # A name is its owner's to choose, and must not look like somebody's address.
        return self.email or f"{self.name or self.pk} (no address)"

    @property
    def can_sign_in_here(self) -> bool:
        return bool(settings.LOCAL_ACCOUNTS and self.email and self.has_usable_password())

    @transaction.atomic
    def sign_out_everywhere(self) -> None:
        """Refuses every token that was issued until now, whatever its kind.

        Under the lock of the user's row: a personal token that is just being made ends, too.
        """
        User.objects.select_for_update(no_key=True).filter(pk=self.pk).first()
        self.sessions.end()
        self.identities.refuse_tokens()
        self.personal_tokens.all().delete()

    def has_nothing_but(self, identity: "Identity") -> bool:
        """Whether the account is as the first request with a token of this identity made it."""
        if not self.is_active or self.is_staff or self.is_superuser or self.has_usable_password():
            return False
        if self.logentry_set.exists():  # of an operator, once
            return False
        rows = [getattr(self, str(relation.get_accessor_name())).all() for relation in belongings()]
        return not any(queryset.exclude(pk=identity.pk).exists() for queryset in rows)

    def set_password(self, raw_password: str | None) -> None:
        """Django's, of the normalized password; the hashes of all passwords are made here."""
        super().set_password(raw_password and normalize_password(raw_password))

    def check_password(self, raw_password: str | None) -> bool:
        return super().check_password(raw_password and normalize_password(raw_password))

    def save(
        self,
        *args: Any,
        keep_session: UUID | None = None,
        keep_personal_tokens: bool = False,
        **kwargs: Any,
    ) -> None:
        """Saves; ends the user's sessions where a password was set, or nobody can sign in.

        Personal tokens end with them, but not for want of a password: whoever signs in at a
        provider has none. Admin, `manage.py changepassword` and the API all come through here.
        `keep_session` is the id of the one session that survives a change of password;
        `keep_personal_tokens` says that it is the user's own, whose scripts go on.
        """
        has_new_password = self._password is not None  # type: ignore[attr-defined]  # set_password's
        may_sign_in = self.is_active and self.has_usable_password()
        signs_out = not self._state.adding and (has_new_password or not may_sign_in)
        with transaction.atomic():
            super().save(*args, **kwargs)
            if signs_out:
                sessions: SessionQuerySet = self.sessions.all()
                if keep_session is not None:
                    sessions = sessions.exclude(pk=keep_session)
                sessions.end()
            if signs_out and not self.is_active:
                self.identities.refuse_tokens()
            if signs_out and (has_new_password or not self.is_active) and not keep_personal_tokens:
                self.personal_tokens.all().delete()


def belongings() -> list[ForeignObjectRel]:
    """The relations whose rows the database deletes with their user, and that are things of theirs.

    What keeps track of these, such as the clock and the log of changes, has no name on the user.
    """
    return [
        relation
        for relation in User._meta.related_objects
        if getattr(relation, "on_delete", None) is models.DO_NOTHING
    ]


class Rotation(NamedTuple):
    """When a refresh token was replaced, and by which one."""

    refresh_hash: str  # of the new one
    issued_at: datetime
    age: timedelta


class SessionQuerySet(models.QuerySet["Session"]):
    def live(self) -> Self:
        """Sessions that are neither ended nor expired."""
        return self.filter(ended_at=None, expires_at__gt=Now())

    def end(self) -> int:
        """Ends those of these sessions that have not ended; returns how many."""
        return self.filter(ended_at=None).update(ended_at=Now())

    def of_token(self, session_id: UUID, user_id: UUID) -> Self:
        """The session that an access token names, while it lives and its user is active.

        Looking it up, by two primary keys, costs each request some 0.1 ms of the database, and
        buys that logout, a change of password, deactivation and deletion take effect at once
        instead of when the access token expires.
        """
        return self.live().filter(pk=session_id, user=user_id, user__is_active=True)

    def rotate(
        self,
        session_id: UUID,
        *,
        spent: str,
        issued: str,
        issued_at: datetime,
        expires_at: datetime,
    ) -> bool:
        """Replaces refresh token `spent` by `issued`; False where `spent` isn't the current one.

        A single conditional UPDATE: of simultaneous calls with one token exactly one succeeds,
        because the others find the row changed when its lock is released.
        """
        rotated = (
            self.live()
            .filter(pk=session_id, refresh_hash=hash_token(spent))
            .filter(user__in=User.objects.filter(is_active=True))
            .update(
                refresh_hash=hash_token(issued),
                previous_refresh_hash=F("refresh_hash"),
                rotated_at=Now(),
                issued_at=issued_at,
                expires_at=expires_at,
            )
        )
        return rotated == 1

    def last_rotation(self, session_id: UUID, *, spent: str) -> Rotation | None:
        """The rotation that spent `spent`, where its answer may be given again.

        That is: the session lives, this was its last rotation, so that what it issued isn't spent
        in turn, and it is at most settings.REFRESH_REUSE_INTERVAL ago. One that is neither this
        nor `rotate`d never becomes so later: whatever runs meanwhile, `spent` is too old for good.
        """
        rows = (
            self.live()
            .filter(pk=session_id, previous_refresh_hash=hash_token(spent))
            .filter(rotated_at__gt=Now() - settings.REFRESH_REUSE_INTERVAL)
            .filter(user__in=User.objects.filter(is_active=True))
            .values_list("refresh_hash", "issued_at", Now() - F("rotated_at"))
        )
        for row in rows:
            return Rotation(*row)
        return None

    def end_beyond_limit(self) -> None:
        """Ends the oldest of these sessions beyond settings.SESSIONS_PER_USER."""
        newest_first = self.live().order_by("-created_at", "-id")
        surplus = newest_first[settings.SESSIONS_PER_USER :].values("pk")
        Session.objects.filter(pk__in=surplus).end()


class Session(models.Model):
    """A sign-in on one device, and the one refresh token that is good for it.

    Tokens are kept as hashes, so that nobody who reads the table can use them. Whoever has the one
    that was spent last can have its successor made again (session_tokens.succeeding_pairs).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = owner_key("sessions")
    refresh_hash = models.CharField(max_length=64)
    previous_refresh_hash = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # The last refresh, by the database's clock, which is the same for all instances.
    rotated_at = models.DateTimeField(db_default=Now(), editable=False)
    # What the tokens of the last refresh say of it, by the clock of the instance that made them.
    issued_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    user_agent = models.CharField(max_length=512, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)

    objects: ClassVar = SessionQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            # Serves ending a user's sessions, their limit, and the user's deletion.
            models.Index(fields=["user", "-created_at"], name="accounts_session_user_created"),
            # Serves `manage.py purge_expired`.
            models.Index(fields=["expires_at"], name="accounts_session_expires"),
        ]

    def __str__(self) -> str:
        where = f" at {self.address}" if self.address else ""
        return f"{self.user}{where} since {self.created_at:%Y-%m-%d %H:%M} UTC"


class IdentityQuerySet(models.QuerySet["Identity"]):
    def of_token(self, identity_id: UUID, user_id: UUID, issued_at: datetime) -> Self:
        """The identity that a provider's token names, while its user is active.

        Tokens issued until `valid_after` count no longer: the person has signed out everywhere.
        """
        return self.filter(
            pk=identity_id, user=user_id, user__is_active=True, valid_after__lt=issued_at
        )

    def refuse_tokens(self) -> int:
        """Refuses what the provider has issued until now; returns of how many identities."""
        return self.update(valid_after=Greatest("valid_after", Now()))


class Identity(models.Model):
    """A person as an identity provider knows them. What a session is to the service's own tokens.

    Only issuer and subject together tell who it is; an address never does.
    Source: OpenID Connect Core 1.0, section 5.7
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = owner_key("identities")
    # Compared byte for byte, whatever the database's own collation holds for equal.
    issuer = models.CharField(max_length=ISSUER_MAX_CHARACTERS, db_collation="C")
    subject = models.CharField(max_length=SUBJECT_MAX_CHARACTERS, db_collation="C")
    valid_after = models.DateTimeField(
        db_default=Value(EPOCH), editable=False, help_text="Tokens issued until then are refused."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = IdentityQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "identities"
        indexes: ClassVar = [
            # Serves a person's identities, and the person's deletion.
            models.Index(fields=["user"], name="accounts_identity_user"),
        ]
        constraints: ClassVar = [
            # Serves the look-up of a token's person.
            models.UniqueConstraint(fields=["issuer", "subject"], name="accounts_identity_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} of {self.issuer}"


class RemovedIdentity(models.Model):
    """That an identity was removed, alone or with its person; of whom, only a hash tells.

    A trigger writes it (migration 0008), whoever removes. Tokens issued before are refused, or the
    next request of a front end that is still open would make the account again, an empty one.
    """

    # SHA-256 of issuer and subject, parted by a line feed, which neither can have.
    hash = models.CharField(primary_key=True, max_length=64)
    removed_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            # Serves `manage.py purge_expired`.
            models.Index(fields=["removed_at"], name="accounts_removed_removed_at"),
        ]

    def __str__(self) -> str:
        return self.hash


class PersonalTokenQuerySet(models.QuerySet["PersonalToken"]):
    def live(self) -> Self:
        """Tokens that have not expired. Those that were ended are gone."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()))

    def of_token(self, token_id: UUID, user_id: UUID) -> Self:
        """A token while it lives and its user is active."""
        return self.live().filter(pk=token_id, user=user_id, user__is_active=True)


class PersonalToken(models.Model):
    """A token that a person made for a script. Kept as a hash, as those of sessions are."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = owner_key("personal_tokens")
    name = models.CharField(max_length=NAME_MAX_CHARACTERS, validators=[validate_line])
    hash = models.CharField(max_length=64)
    scopes = ArrayField(models.CharField(max_length=32))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_on = models.DateField(null=True, blank=True)

    objects: ClassVar = PersonalTokenQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            # Serves a person's list of tokens, and the person's deletion.
            models.Index(fields=["user", "-created_at"], name="accounts_ptoken_user_created"),
            # Serves `manage.py purge_expired`.
            models.Index(fields=["expires_at"], name="accounts_ptoken_expires"),
        ]
        constraints: ClassVar = [
            # Serves the look-up of a token that a process meets for the first time.
            models.UniqueConstraint(fields=["hash"], name="accounts_ptoken_hash"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"


def hash_token(token: str) -> str:
    """SHA-256 in hexadecimal. Tokens are random enough to need neither salt nor a slow hash."""
    return sha256(token.encode()).hexdigest()
