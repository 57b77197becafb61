"""The errors themselves: for each a class that carries status, code, text and meaning.

Its examples and its meaning stand in the OpenAPI document: a new code needs no table there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import orjson
from django.conf import settings
from rest_framework import exceptions, status

# Seconds after which a client should try again while the database is away: Neon wakes in less.
RETRY_AFTER_SECONDS = 2

EXAMPLE_ETAG = '"5f1c0a9be2d34c77-3fa09c-42"'


class ApiException(exceptions.APIException):
    """An error of the API. A subclass that names a `default_code` of its own is a code."""

    meaning: ClassVar[str]  # when a client gets the code, for the document
    # REST framework's own exception with this code. It may be raised as well, and is answered with
    # the text of this class, if it has one.
    stands_for: ClassVar[type[exceptions.APIException] | None] = None

    details: Mapping[str, Any] = {}  # nobody writes into it
    headers: Mapping[str, str] = {}  # likewise
    wait: float | None = None  # seconds, for Retry-After

    @classmethod
    def example(cls) -> exceptions.APIException:
        """One for the document."""
        return (cls.stands_for or cls)()

    @classmethod
    def is_possible(cls) -> bool:
        """Whether the settings let it happen."""
        return True


# --- 400 ----------------------------------------------------------------------------------------


class ValidationError(ApiException):
    """Named by field, with faults of their own codes: FIELD_CODES."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "VALIDATION_ERROR"
    default_detail = "The request is not valid. `details` names what is wrong."
    meaning = "What is sent is wrong or not known: nothing is ignored."
    stands_for = exceptions.ValidationError

    @classmethod
    def example(cls) -> exceptions.APIException:
        fault = exceptions.ErrorDetail("A valid integer is required.", "invalid")
        return exceptions.ValidationError({"limit": [fault]})


class ParseError(ApiException):
    """Its text is what the parser says."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "PARSE_ERROR"
    default_detail = ""
    meaning = "The body is not a JSON object."
    stands_for = exceptions.ParseError

    @classmethod
    def example(cls) -> exceptions.APIException:
        return exceptions.ParseError("The body must be a JSON object, such as {}.")


# --- 401 ----------------------------------------------------------------------------------------


class Unauthorized(ApiException):
    """401, on public routes too: there REST framework turns its own exception into 403."""

    status_code = status.HTTP_401_UNAUTHORIZED


class NotAuthenticated(Unauthorized):
    default_code = "NOT_AUTHENTICATED"
    default_detail = "This needs an access token: `Authorization: Bearer <token>`."
    meaning = "No token was sent."
    stands_for = exceptions.NotAuthenticated


class TokenExpired(Unauthorized):
    """An access token past its time."""

    default_code = "TOKEN_EXPIRED"
    meaning = "The token is past its time."

    def __init__(self, detail: str | None = None) -> None:
        """Without local accounts no refresh token is good, of a session from before either."""
        cure = "Use the refresh token to get a new one."
        if not settings.LOCAL_ACCOUNTS:
            cure = "Sign in at your identity provider."
        super().__init__(detail or f"The access token has expired. {cure}")


class TokenInvalid(Unauthorized):
    """A token that is not, or no longer, good for this."""

    default_code = "TOKEN_INVALID"
    default_detail = "The token is not valid. Sign in again."
    meaning = "The token is not good, or not any more."


class SessionEnded(TokenInvalid):
    """A good token, whose session has ended: by its owner, an operator, or the owner's deletion."""

    default_detail = "The session has ended. Sign in again."


class SignedOut(TokenInvalid):
    """A good token of the identity provider, from before its owner signed out everywhere here.

    Or from before the account was deleted, or this way into it taken away.
    """

    default_detail = "The token is from before you signed out here. Sign in again."


class SignInTooOld(TokenInvalid):
    """A good token, of a sign-in that is too long ago for what is asked for."""

    default_detail = "Sign in again at your identity provider, and try within five minutes."


class InvalidCredentials(Unauthorized):
    """Unknown address, wrong password and inactive account alike."""

    default_code = "INVALID_CREDENTIALS"
    default_detail = "The e-mail address or the password is wrong."
    meaning = "The e-mail address or the password is wrong."

    @classmethod
    def is_possible(cls) -> bool:
        return settings.LOCAL_ACCOUNTS


# --- 403 ----------------------------------------------------------------------------------------


class PermissionDenied(ApiException):
    status_code = status.HTTP_403_FORBIDDEN
    default_code = "PERMISSION_DENIED"
    default_detail = "This path is not yours. Use your own id, or `me`."
    meaning = (
        "`user_id` is not the caller's, the token is not good for this, or the account has been "
        "deactivated."
    )
    stands_for = exceptions.PermissionDenied


class AccountDeactivated(PermissionDenied):
    """A good token of the identity provider, of somebody whom an operator shut out.

    Not a 401, upon which front ends would fetch a new token, and try for ever.
    """

    default_detail = "This account has been deactivated."


class AccountMissing(PermissionDenied):
    """A good token of the identity provider, of somebody unknown (AUTH_CREATES_ACCOUNTS=false)."""

    default_detail = "There is no account for you here, and none is made."


class SignInRequired(PermissionDenied):
    """A token with scopes, where none of them is enough: the person has to come."""

    default_detail = "A personal token is no good for this. Sign in, and send an access token."


class InsufficientScope(ApiException):
    """A good token, but not for this."""

    status_code = status.HTTP_403_FORBIDDEN
    default_code = "INSUFFICIENT_SCOPE"
    meaning = "A personal token lacks the scope in `details.scope`."

    def __init__(self, scope: str) -> None:
        super().__init__(f"The token lacks the scope {scope}. Make one that has it.")
        self.scope = scope
        self.details = {"scope": scope}

    @classmethod
    def example(cls) -> exceptions.APIException:
        return cls("tasks:write")


# --- 404 to 422 ---------------------------------------------------------------------------------


class NotFound(ApiException):
    status_code = status.HTTP_404_NOT_FOUND
    default_code = "NOT_FOUND"
    default_detail = "Nothing is here for you."
    meaning = "Nothing of the caller's has this id."
    stands_for = exceptions.NotFound


class MethodNotAllowed(ApiException):
    """Its text names the method."""

    status_code = status.HTTP_405_METHOD_NOT_ALLOWED
    default_code = "METHOD_NOT_ALLOWED"
    default_detail = ""
    meaning = "The path has no such method; see `Allow`."
    stands_for = exceptions.MethodNotAllowed

    @classmethod
    def example(cls) -> exceptions.APIException:
        return exceptions.MethodNotAllowed("GET")


class NotAcceptable(ApiException):
    status_code = status.HTTP_406_NOT_ACCEPTABLE
    default_code = "NOT_ACCEPTABLE"
    default_detail = "Only application/json can be answered."
    meaning = "`Accept` rules JSON out."
    stands_for = exceptions.NotAcceptable


class Conflict(ApiException):
    """What is asked for is not possible as things are; the message says what stands against it."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "CONFLICT"
    meaning = "Not possible as things are; the message says what stands against it."

    @classmethod
    def example(cls) -> exceptions.APIException:
        return cls("This is your last way to sign in. Add another one before.")


class BatchFailed(Conflict):
    """A batch that had to be whole, and was undone."""

    default_detail = "Nothing was done: `details.operations` names what could not be."

    def __init__(self, operations: "orjson.Fragment | Sequence[Mapping[str, Any]]") -> None:
        """Takes those that failed: `index`, `status`, and `error` as error_object() makes it."""
        super().__init__()
        self.details = {"operations": operations}


class Gone(ApiException):
    """A position that is too old to go on from."""

    status_code = status.HTTP_410_GONE
    default_code = "GONE"
    default_detail = "This position is too old to go on from. Begin anew, without it."
    meaning = "The position is too old to go on from: begin anew."


class PreconditionFailed(ApiException):
    """If-Match or If-None-Match doesn't hold."""

    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_code = "PRECONDITION_FAILED"
    default_detail = (
        "It has changed since. `details.current` is what it is now: if your change still makes "
        "sense, send it again with that `etag`."
    )
    meaning = (
        "`If-Match` or `If-None-Match` does not hold. `details.current` is the resource as it is, "
        "and `ETag` its tag; `details.deleted` is true where it is in the trash."
    )

    def __init__(self, current: str | None, etag: str | None, *, is_trashed: bool = False) -> None:
        """Takes the resource as it is, in JSON, and its tag; None where none can be shown."""
        super().__init__()
        self.details = {"current": None if current is None else orjson.Fragment(current)}
        if is_trashed:
            self.details = {**self.details, "deleted": True}
        self.headers = {} if etag is None else {"ETag": etag}

    @classmethod
    def example(cls) -> exceptions.APIException:
        return cls(None, EXAMPLE_ETAG)  # resources/schema.py shows one


class NoStrongTag(PreconditionFailed):
    """An If-Match that matches nothing, whatever there is: nobody need have changed anything."""

    default_detail = (
        "If-Match names no strong tag, and so matches nothing. Send the `etag` of the body as it "
        "came, with its quotation marks."
    )


class IdTaken(PreconditionFailed):
    """A creation at an id that the caller has already."""

    default_detail = (
        "You have something with this id. `details.current` is what it is now: to change it, send "
        "its `etag` in If-Match, and no If-None-Match."
    )


class IdInTrash(PreconditionFailed):
    """The same, in the trash, where a GET doesn't find it."""

    default_detail = (
        "What has this id is in your trash. Bring it back by POST to its `/restore`, or choose "
        "another id."
    )

    def __init__(self, current: str | None, etag: str | None) -> None:
        super().__init__(current, etag, is_trashed=True)


class PayloadTooLarge(ApiException):
    """A body over what the operation reads."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "PAYLOAD_TOO_LARGE"
    meaning = "The body is too large."

    def __init__(self, most: int = settings.MAX_BODY_BYTES) -> None:
        super().__init__(f"The body is too large. At most {most} bytes are read.")


class UnsupportedMediaType(ApiException):
    status_code = status.HTTP_415_UNSUPPORTED_MEDIA_TYPE
    default_code = "UNSUPPORTED_MEDIA_TYPE"
    default_detail = "Send the body as application/json in UTF-8, and not compressed."
    meaning = "The body is not sent as JSON in UTF-8, or compressed; a file, within a form."
    stands_for = exceptions.UnsupportedMediaType

    @classmethod
    def example(cls) -> exceptions.APIException:
        return EncodedBody()


class EncodedBody(UnsupportedMediaType):
    """A body with a Content-Encoding."""

    headers: Mapping[str, str] = {"Accept-Encoding": "identity"}  # RFC 9110, section 15.5.16


class FormBody(UnsupportedMediaType):
    """A form, or text in another encoding, where a file itself is wanted."""

    default_detail = (
        "Send the file itself as the body, in UTF-8 and with no form around it, as "
        "`curl --data-binary @file` does."
    )


class KeyReused(ApiException):
    """The Idempotency-Key of another request."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "IDEMPOTENCY_KEY_REUSED"
    default_detail = "This Idempotency-Key came with another request. Use a new one for each."
    meaning = "The `Idempotency-Key` came with another method, path or body before."


# --- 429, 500, 503 ------------------------------------------------------------------------------


class Throttled(ApiException):
    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_code = "RATE_LIMITED"
    default_detail = "Too many requests. Try again after the seconds in Retry-After."
    meaning = "Too many tries in this window of time. Operators choose the limits."
    stands_for = exceptions.Throttled

    @classmethod
    def example(cls) -> exceptions.APIException:
        return exceptions.Throttled(wait=30)


class Defect(ApiException):
    """A 500 that says nothing of its cause."""

    status_code = status.HTTP_500_INTERNAL_SERVER_ERROR
    default_code = "INTERNAL_ERROR"
    default_detail = "Something went wrong on the server. It has been noted."
    meaning = "A defect of the server."


class ServiceUnavailable(ApiException):
    """The database is away, asleep too long, restarting or too slow."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "SERVICE_UNAVAILABLE"
    default_detail = "The service is not available at the moment. Try again in a few seconds."
    meaning = "Something that this needs is away, or too much is asked at once; see `Retry-After`."
    wait = RETRY_AFTER_SECONDS


class HashingBusy(ServiceUnavailable):
    """As many passwords are being hashed in this process as may be at once."""

    default_detail = "Too many people sign in at once. Try again after the seconds in Retry-After."
    wait = 1  # a hash takes some 40 ms, and the header has whole seconds


class ExportBusy(ServiceUnavailable):
    """As many exports are under way in this process as may be at once."""

    default_detail = "Too many exports are under way. Try again after the seconds in Retry-After."
    wait = 10  # of 10,000 tasks one takes a second, and as long as its reader lets it


class ImportBusy(ServiceUnavailable):
    """As many files are being imported in this process as may be at once."""

    default_detail = "Another file is being imported. Try again after the seconds in Retry-After."
    wait = 3  # a large file takes about as long


class CallerMoved(ServiceUnavailable):
    """An identity that became another account's, or somebody's again, while it was looked up."""

    default_detail = "Your sign-in has just been given another account. Try again."
    wait = 1


class IssuerUnavailable(ServiceUnavailable):
    """Whether a token of the identity provider is good can't be told at the moment.

    Not a 401, with which clients would sign their people out.
    """

    default_detail = (
        "The keys of the identity provider can't be had at the moment. Try again after the seconds "
        "in Retry-After."
    )

    def __init__(self, wait: int = settings.ISSUER_REST_SECONDS) -> None:
        super().__init__()
        self.wait = wait  # before that nobody is asked


# --- All of them --------------------------------------------------------------------------------


def _all_below(kind: type[ApiException]) -> Iterator[type[ApiException]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _all_below(subclass)


# Each code by the class that brings it in.
CODES: Mapping[str, type[ApiException]] = {
    kind.default_code: kind
    for kind in sorted(_all_below(ApiException), key=lambda kind: kind.status_code)
    if "default_code" in vars(kind)
}
_STANDING_FOR = {kind.stands_for: kind for kind in CODES.values() if kind.stands_for}


def kind_of(error: exceptions.APIException) -> type[ApiException]:
    """The class that says what an error is called, be it REST framework's own."""
    return type(error) if isinstance(error, ApiException) else _STANDING_FOR[type(error)]
