"""Every error that the API answers with, from whatever source, in one shape.

    ApiException (of REST framework's APIException)
    ├── ValidationError      400 VALIDATION_ERROR       a field or query parameter is wrong
    ├── ParseError           400 PARSE_ERROR            the body is not a JSON object
    ├── Unauthorized         401
    │   ├── NotAuthenticated     NOT_AUTHENTICATED      no credentials
    │   ├── TokenExpired         TOKEN_EXPIRED          an access token past its time
    │   ├── TokenInvalid         TOKEN_INVALID          any other fault of a token
    │   │   ├── SessionEnded
    │   │   ├── SignedOut
    │   │   └── SignInTooOld
    │   └── InvalidCredentials   INVALID_CREDENTIALS    wrong e-mail or password
    ├── PermissionDenied     403 PERMISSION_DENIED      not the caller's path
    │   ├── AccountDeactivated                          of a good token of the identity provider
    │   ├── AccountMissing                              and none is made
    │   └── SignInRequired                              not with a token that has scopes
    ├── InsufficientScope    403 INSUFFICIENT_SCOPE     not with the scopes that the token has
    ├── NotFound             404 NOT_FOUND
    ├── MethodNotAllowed     405 METHOD_NOT_ALLOWED
    ├── NotAcceptable        406 NOT_ACCEPTABLE
    ├── Conflict             409 CONFLICT               not as things are
    │   └── BatchFailed                                 a batch that had to be whole
    ├── Gone                 410 GONE                   a position that is too old
    ├── PreconditionFailed   412 PRECONDITION_FAILED    If-Match or If-None-Match doesn't hold
    │   ├── NoStrongTag                                 nor could it
    │   ├── IdTaken                                     a creation at an id of the caller's
    │   └── IdInTrash                                   the same, in the trash
    ├── PayloadTooLarge      413 PAYLOAD_TOO_LARGE
    ├── UnsupportedMediaType 415 UNSUPPORTED_MEDIA_TYPE
    │   ├── EncodedBody                                 sent compressed
    │   └── FormBody                                    a form in place of a file
    ├── KeyReused            422 IDEMPOTENCY_KEY_REUSED the key of another request
    ├── Throttled            429 RATE_LIMITED
    ├── Defect               500 INTERNAL_ERROR         nothing of it leaves the server
    └── ServiceUnavailable   503 SERVICE_UNAVAILABLE    the database is away or too slow
        ├── HashingBusy                                 too many passwords are being hashed
        ├── ExportBusy                                  too many exports are under way
        ├── ImportBusy                                  a file is being imported already
        ├── IssuerUnavailable                           no key of the identity provider is known
        └── CallerMoved                                 an identity became another account's

    kinds.py            these classes: status, code, text and meaning of each
    field_codes.py      what may be wrong with a field
    answers.py          from an exception to the answer
    database_faults.py  which faults of the database are no defects, and their line in the log

Views raise these, or REST framework's own, for which those of the same name stand. A view's end in
`exception_handler`, all others in `error_response`.
"""

from .answers import (
    as_api_exception,
    error_object,
    error_response,
    exception_handler,
    internal_error,
    own_error,
)
from .database_faults import is_database_fault, log_database_fault
from .field_codes import FIELD_CODES
from .kinds import (
    CODES,
    EXAMPLE_ETAG,
    AccountDeactivated,
    AccountMissing,
    ApiException,
    BatchFailed,
    CallerMoved,
    Conflict,
    EncodedBody,
    ExportBusy,
    FormBody,
    Gone,
    HashingBusy,
    IdInTrash,
    IdTaken,
    ImportBusy,
    InsufficientScope,
    InvalidCredentials,
    IssuerUnavailable,
    KeyReused,
    NoStrongTag,
    PayloadTooLarge,
    PreconditionFailed,
    ServiceUnavailable,
    SessionEnded,
    SignedOut,
    SignInRequired,
    SignInTooOld,
    TokenExpired,
    TokenInvalid,
)

__all__ = [
    "CODES",
    "EXAMPLE_ETAG",
    "FIELD_CODES",
    "AccountDeactivated",
    "AccountMissing",
    "ApiException",
    "BatchFailed",
    "CallerMoved",
    "Conflict",
    "EncodedBody",
    "ExportBusy",
    "FormBody",
    "Gone",
    "HashingBusy",
    "IdInTrash",
    "IdTaken",
    "ImportBusy",
    "InsufficientScope",
    "InvalidCredentials",
    "IssuerUnavailable",
    "KeyReused",
    "NoStrongTag",
    "PayloadTooLarge",
    "PreconditionFailed",
    "ServiceUnavailable",
    "SessionEnded",
    "SignInRequired",
    "SignInTooOld",
    "SignedOut",
    "TokenExpired",
    "TokenInvalid",
    "as_api_exception",
    "error_object",
    "error_response",
    "exception_handler",
    "internal_error",
    "is_database_fault",
    "log_database_fault",
    "own_error",
]
