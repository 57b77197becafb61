"""Settings: environment variables in, values out. Importing this module starts nothing.

What the service must not start with is refused here and not by a system check, because a WSGI
server runs no system checks. `docs/operations.md` explains the variables one by one.
"""

import os
import re
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

from . import VERSION, embedded_postgres
from .environment import Environment, is_fetchable, is_pooled

BASE_DIR = Path(__file__).resolve().parent.parent

env = Environment()

# --- Mode and secrets -------------------------------------------------------------------------

DEBUG = env.boolean("DEBUG", default=False)
PORT = env.integer("PORT", default=8000, minimum=1, maximum=65535)

# Without DEBUG both are required. With it a process that has none makes its own, which ends every
# sign-in when it restarts: `make run` therefore writes lasting ones into .env.
SECRET_KEY = env.secret(
    "SECRET_KEY", minimum_bytes=50, fallback=secrets.token_urlsafe(50) if DEBUG else None
)
JWT_SIGNING_KEY = env.secret(
    "JWT_SIGNING_KEY", minimum_bytes=32, fallback=secrets.token_urlsafe(50) if DEBUG else None
)
# What was signed before a key was changed, or by a process that has the new one already, is still
# good: docs/operations.md has the steps.
SECRET_KEY_FALLBACKS = env.secrets("SECRET_KEY_FALLBACKS", minimum_bytes=50)
JWT_PREVIOUS_SIGNING_KEYS = env.secrets("JWT_PREVIOUS_SIGNING_KEYS", minimum_bytes=32)
# Whoever has it may read /metrics; without it there are none, and nothing is counted.
METRICS_TOKEN = env.bearer("METRICS_TOKEN")
env.refuse_repeated(
    {
        "SECRET_KEY": [SECRET_KEY],
        "JWT_SIGNING_KEY": [JWT_SIGNING_KEY],
        "SECRET_KEY_FALLBACKS": SECRET_KEY_FALLBACKS,
        "JWT_PREVIOUS_SIGNING_KEYS": JWT_PREVIOUS_SIGNING_KEYS,
        "METRICS_TOKEN": [METRICS_TOKEN],
    }
)

ALLOWED_HOSTS = env.hosts(
    "ALLOWED_HOSTS", default=("localhost", "127.0.0.1", "[::1]") if DEBUG else ()
)
if not ALLOWED_HOSTS:
    env.refuse("ALLOWED_HOSTS", "required with DEBUG off; valid: host names separated by commas")

# Where the service stands below a path of its host, such as /todo; empty: at the root. Proxies pass
# the path on whole.
PATH_PREFIX = env.path_prefix("PATH_PREFIX")

# How many proxies stand before the service; X-Forwarded-* is believed only as far as they go.
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", default=0, minimum=0, maximum=10)

# --- Database ---------------------------------------------------------------------------------

_pooled_database = env.database("DATABASE_URL")
_direct_database = env.database("DIRECT_DATABASE_URL")
PREPARED_STATEMENTS = env.boolean("DATABASE_PREPARED_STATEMENTS", default=True)

# True: manage.py and the tests start the PostgreSQL that lives in .postgres/.
EMBEDDED_POSTGRES = DEBUG and not env.text("DATABASE_URL") and not env.text("DIRECT_DATABASE_URL")
if EMBEDDED_POSTGRES:
    _pooled_database = Environment({"url": embedded_postgres.database_url()}).database("url")
elif not env.text("DATABASE_URL"):
    env.refuse(
        "DATABASE_URL",
        f"required with {'DIRECT_DATABASE_URL' if DEBUG else 'DEBUG off'}; "
        "valid: postgresql://user:password@host/database",
    )

# Neon suspends an idle compute after 300 s, and a connection to it dies then. Younger connections
# are reused; an older one is replaced before the next request uses it, which needs no round trip.
CONNECTION_MAX_AGE_SECONDS = 60
# A server that does not answer the handshake in this time counts as away (503), however many
# addresses its host has: two of them are tried, since psycopg gives none less than two seconds.
CONNECT_TIMEOUT_SECONDS = 5
# Whatever a request waits for but its own client, it ends after this time: as 503 where the
# database is to blame. A body that comes slowly is the proxy's to wait for.
REQUEST_TIME_LIMIT_SECONDS = 10
# How long a request may wait for one before it to end. A database that wakes up takes less.
TURN_TIME_LIMIT_SECONDS = 2
# How long a request may have waited in a proxy before it, where that says so (X-Request-Start).
QUEUE_TIME_LIMIT_SECONDS = 5
# The time limit, seen by the database and for requests only: `manage.py set_role_timeouts` puts
# these on the role, because a pooled endpoint refuses them at the start of a session.
ROLE_TIMEOUTS = {
    "statement_timeout": "8s",
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "10s",
}
# What else requests count on (conditions.py), as far as a role can set it for itself.
ROLE_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "timezone": "UTC",
}
# Every connection begins with these, whatever its role or database has been given: libpq sends
# them when it connects, and poolers pass them on. Otherwise Django would ask for UTC anew each
# time, and psycopg can't read times in another style. (For client_encoding Django sees to it.)
os.environ.update(PGDATESTYLE="ISO, MDY", PGTZ="UTC")


def _served(database: dict[str, Any], *, prepared_statements: bool) -> dict[str, Any]:
    options = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # A network that drops packets is noticed as soon as a server that doesn't answer.
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": REQUEST_TIME_LIMIT_SECONDS * 1000,
        # Only server-side binding lets psycopg prepare, and only preparing soon pays for it: at the
        # second use, so that a rare statement takes one round trip, and not another to prepare it
        # and a third to forget one. Prepared by name in the protocol, they work through PgBouncer
        # from 1.21.
        "server_side_binding": prepared_statements,
        "prepare_threshold": 1 if prepared_statements else None,
        **database["OPTIONS"],
    }
    return {
        **database,
        "ENGINE": "todo_project.postgresql",
        "OPTIONS": options,
        "CONN_MAX_AGE": CONNECTION_MAX_AGE_SECONDS,
        # A cursor WITH HOLD outlives its transaction, which a transaction-mode pool can't give.
        "DISABLE_SERVER_SIDE_CURSORS": is_pooled(database),
    }


# `default` serves requests. `direct` is for what needs a session of its own: migrate, bulk loads.
DATABASES: dict[str, dict[str, Any]] = {}
if _pooled_database is not None:
    if is_pooled(_pooled_database) and "options" in _pooled_database["OPTIONS"]:
        env.refuse(
            "DATABASE_URL",
            "a pooled endpoint refuses startup options; remove `options` from the URL and set "
            "what it asked for on the role (ALTER ROLE ... SET ...)",
        )
    DATABASES["default"] = _served(_pooled_database, prepared_statements=PREPARED_STATEMENTS)
    DATABASES["direct"] = {
        **(_direct_database or _pooled_database),
        "TEST": {"MIRROR": "default"},
    }
if _direct_database is not None and is_pooled(_direct_database):
    env.refuse(
        "DIRECT_DATABASE_URL",
        "this is the pooled endpoint; valid: the direct one, whose host has no `-pooler`",
    )

# --- Django -----------------------------------------------------------------------------------

INSTALLED_APPS = [
    # By name: the module has admin's configuration, too.
    "todo_project.apps.TodoProjectConfig",
    "accounts",
    "tasks",
    "todo_project.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

# The order matters: what is listed first sees a request first and its answer last.
MIDDLEWARE = [
    "todo_project.middleware.requests.RequestMiddleware",
    "todo_project.middleware.prefix.PathPrefixMiddleware",
    "todo_project.middleware.origins.FrameMiddleware",
    "todo_project.middleware.hosts.HostAndTransportMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "todo_project.middleware.origins.OriginMiddleware",
    "todo_project.middleware.gate.GateMiddleware",
    "todo_project.middleware.admin.AdminSessionMiddleware",
    "todo_project.middleware.admin.AdminCsrfMiddleware",
    "todo_project.middleware.admin.AdminAuthenticationMiddleware",
    "todo_project.middleware.admin.AdminMessageMiddleware",
]

ROOT_URLCONF = "todo_project.urls"
WSGI_APPLICATION = "todo_project.wsgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = "todo_project.formats"

# What Django puts before the paths that it makes; the middleware takes it off those that come.
FORCE_SCRIPT_NAME = PATH_PREFIX or None
STATIC_URL = f"{PATH_PREFIX}/static/"
# Files are served from the packages that bring them; nothing has to be collected first.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
# /favicon.ico, which browsers look for at the root of a site; below a prefix pages have to name it.
WHITENOISE_ROOT = BASE_DIR / "todo_project" / "site_root"

# --- Accounts ---------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
# Argon2id at the parameters of OWASP's Password Storage Cheat Sheet: 39 ms a hash, where Django's
# own take 273 ms and 100 MiB.
PASSWORD_HASHERS = ["accounts.hashers.OWASPArgon2Hasher"]
# So many requests may hash at once in a process; what comes beyond is refused. argon2 lets other
# threads run meanwhile, but needs a core: with two, sign-ins took both from whoever works.
PASSWORD_HASHES_AT_ONCE = 1
PASSWORD_MIN_CHARACTERS = 10
PASSWORD_MAX_CHARACTERS = 128  # hashing more buys nothing and costs the server
_DJANGO_VALIDATORS = "django.contrib.auth.password_validation"
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "accounts.validators.NormalizedValidator",
        "OPTIONS": {"validator": validator, **options},
    }
    for validator, options in (
        (
            f"{_DJANGO_VALIDATORS}.UserAttributeSimilarityValidator",
            {"user_attributes": ("email", "name")},
        ),
        (f"{_DJANGO_VALIDATORS}.MinimumLengthValidator", {"min_length": PASSWORD_MIN_CHARACTERS}),
        ("accounts.validators.MaximumLengthValidator", {"max_length": PASSWORD_MAX_CHARACTERS}),
        ("accounts.validators.NotBlankValidator", {}),
        (f"{_DJANGO_VALIDATORS}.CommonPasswordValidator", {}),
        (f"{_DJANGO_VALIDATORS}.NumericPasswordValidator", {}),
    )
]

ACCESS_TOKEN_LIFETIME = timedelta(minutes=15)
# So many access tokens need not be verified again by a process, nor personal ones looked for:
# enough for 10,000 people who use it at once, at 1 KB each.
ACCESS_TOKENS_REMEMBERED = 16384
REFRESH_TOKEN_LIFETIME = timedelta(days=14)
SESSION_LIFETIME = timedelta(days=90)  # from the sign-in, however often it is refreshed
SESSIONS_PER_USER = 50  # the oldest ends when one more begins
# For so long a refresh whose answer was lost, or that another tab made, is answered again. It is
# also how long a thief who is as quick as the owner goes unnoticed.
REFRESH_REUSE_INTERVAL = timedelta(seconds=60)
# People without a password delete their account by a token of a sign-in that was so recent.
RECENT_SIGN_IN = timedelta(minutes=5)
PERSONAL_TOKEN_LIFETIME = timedelta(days=365)  # where whoever makes it says nothing else
PERSONAL_TOKENS_PER_USER = 50  # each is a way in that somebody has to keep in mind
# For so long one that has expired is told from one that never was.
PERSONAL_TOKENS_KEPT = timedelta(days=30)
TRASH_KEPT = timedelta(days=30)  # from the deletion until it is for good
# For so long a device that was away is told what changed; after that it fetches everything anew.
# Longer than TRASH_KEPT, so that the log of what is purged from the trash is still there.
CHANGES_KEPT = timedelta(days=90)
IDEMPOTENCY_KEYS_KEPT = timedelta(hours=24)  # for so long a repeated write gets the first answer
# How far the clocks of two instances may be apart: what one has just issued the other accepts.
CLOCK_SKEW = timedelta(seconds=60)

SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_SIGNING_KEY,
    "ISSUER": "todo-api",
    "AUDIENCE": "todo-api",
    "ACCESS_TOKEN_LIFETIME": ACCESS_TOKEN_LIFETIME,
    "REFRESH_TOKEN_LIFETIME": REFRESH_TOKEN_LIFETIME,
    "LEEWAY": CLOCK_SKEW,
    "USER_ID_CLAIM": "sub",
    "UPDATE_LAST_LOGIN": False,
}

# A link to choose a new password is good for this long.
PASSWORD_RESET_TIMEOUT = 3600  # seconds

# A link to confirm an address is good for this long: mail is read once a day.
EMAIL_CONFIRMATION_LIFETIME = timedelta(hours=24)

# --- Identity provider ------------------------------------------------------------------------

# Whose access tokens are accepted beside the service's own; empty: nobody's.
AUTH_ISSUER = env.text("AUTH_ISSUER")
# What binds a token to this service: one of these in `aud`, values of claims, or both.
AUTH_AUDIENCE = env.names("AUTH_AUDIENCE")
AUTH_REQUIRED_CLAIMS = env.claims("AUTH_REQUIRED_CLAIMS")
# Where its keys are; empty: where its discovery document says.
AUTH_JWKS_URL = env.text("AUTH_JWKS_URL")
AUTH_SHARED_SECRET = env.text("AUTH_SHARED_SECRET")
AUTH_ALGORITHMS = ["HS256"]
if not AUTH_SHARED_SECRET:  # never both kinds: a public key is no secret to make an HMAC with
    AUTH_ALGORITHMS = env.choices(
        "AUTH_ALGORITHMS",
        valid=("EdDSA", "ES256", "ES384", "RS256", "PS256"),
        default=("EdDSA", "ES256", "RS256"),
    )
AUTH_CREATES_ACCOUNTS = env.boolean("AUTH_CREATES_ACCOUNTS", default=True)

_VALID_AUTH_ISSUER = (
    "valid: `iss` of the provider's tokens to the letter, a last slash included; at most 255 "
    "characters, and neither blanks nor { }"
)
_auth_variables = [
    f"AUTH_{name}"
    for name in (
        *("AUDIENCE", "REQUIRED_CLAIMS", "JWKS_URL", "SHARED_SECRET", "ALGORITHMS"),
        "CREATES_ACCOUNTS",
    )
    if env.text(f"AUTH_{name}")
]
if _auth_variables and not AUTH_ISSUER:
    env.refuse("AUTH_ISSUER", f"required with {', '.join(_auth_variables)}; {_VALID_AUTH_ISSUER}")
elif SIMPLE_JWT["ISSUER"] == AUTH_ISSUER:
    env.refuse("AUTH_ISSUER", f"the service's own; {_VALID_AUTH_ISSUER}")
elif not AUTH_ISSUER.isprintable() or not re.fullmatch(r"[^\s{}]{0,255}", AUTH_ISSUER):
    env.refuse("AUTH_ISSUER", f"no token has it; {_VALID_AUTH_ISSUER}")
if (
    AUTH_ISSUER
    and not AUTH_AUDIENCE
    and all(None in values for values in AUTH_REQUIRED_CLAIMS.values())
):
    env.refuse(
        "AUTH_AUDIENCE",
        "required with AUTH_ISSUER, or AUTH_REQUIRED_CLAIMS, or both: tokens for another service "
        "must not be good here; valid: what `aud` of the provider's tokens has for this one, or a "
        "required claim without null among its values",
    )
if "aud" in AUTH_REQUIRED_CLAIMS:
    env.refuse("AUTH_REQUIRED_CLAIMS", "`aud` may be a list; valid for it: AUTH_AUDIENCE")
if AUTH_JWKS_URL and AUTH_SHARED_SECRET:
    env.refuse("AUTH_SHARED_SECRET", "never beside AUTH_JWKS_URL; valid: one of the two")
elif AUTH_JWKS_URL and not is_fetchable(AUTH_JWKS_URL, debug=DEBUG):
    env.refuse(
        "AUTH_JWKS_URL",
        "keys can't be fetched from there; valid: https://host/..., with DEBUG also http:// on "
        "localhost, in ASCII, without user, # and { }",
    )
elif (
    AUTH_ISSUER
    and not (AUTH_JWKS_URL or AUTH_SHARED_SECRET)
    and ("?" in AUTH_ISSUER or not is_fetchable(AUTH_ISSUER, debug=DEBUG))
):
    env.refuse(
        "AUTH_JWKS_URL",
        "required, because AUTH_ISSUER is no https:// URL that could have a discovery document; "
        "valid: the https:// URL of the provider's keys (of Better Auth <its URL>/api/auth/jwks, "
        "of Neon Auth <its URL>/.well-known/jwks.json, neither of which has such a document), or "
        "AUTH_SHARED_SECRET in its place",
    )

LOCAL_ACCOUNTS = env.boolean("LOCAL_ACCOUNTS", default=True)
if not LOCAL_ACCOUNTS and not AUTH_ISSUER:
    env.refuse("LOCAL_ACCOUNTS", "false without AUTH_ISSUER: nobody could sign in; valid: true")

if AUTH_SHARED_SECRET:
    if len(AUTH_SHARED_SECRET.encode()) < 32:
        env.refuse("AUTH_SHARED_SECRET", "too short; valid: at least 32 bytes")
    elif AUTH_SHARED_SECRET in (
        SECRET_KEY,
        JWT_SIGNING_KEY,
        *SECRET_KEY_FALLBACKS,
        *JWT_PREVIOUS_SIGNING_KEYS,
        METRICS_TOKEN,
    ):
        env.refuse(
            "AUTH_SHARED_SECRET",
            "the same as a secret of the service; valid: one that only the two share",
        )
    elif "-----BEGIN" in AUTH_SHARED_SECRET:
        env.refuse(
            "AUTH_SHARED_SECRET", "a key in PEM, and no secret; valid: at least 32 random bytes"
        )
    if env.text("AUTH_ALGORITHMS"):
        env.refuse(
            "AUTH_ALGORITHMS",
            "with AUTH_SHARED_SECRET it is HS256 alone; valid: empty, or no secret",
        )

# A token with many groups in it is larger than a header may be with most providers' proxies.
OUTSIDE_TOKEN_MAX_BYTES = 8192
# Whose account was deleted is remembered for so long, and tokens from before are refused: one that
# lived longer would make the account anew.
OUTSIDE_TOKEN_MAX_LIFETIME = timedelta(days=30)
# From then on keys are fetched anew behind the back of requests; from the double on, after a time
# without any, requests wait for it. So within the double is refused what the issuer took away.
ISSUER_KEYS_FRESH = timedelta(minutes=10)
# How long the issuer may be away: its people go on working, with the keys that were known.
ISSUER_KEYS_GOOD = timedelta(hours=24)
# For everything, from the host's address to the last byte; the request that needs a key waits.
ISSUER_TIME_LIMIT_SECONDS = 3
# So long requests wait for a fetch that another began, or in place of old keys: less than
# TURN_TIME_LIMIT_SECONDS, so that an issuer that hangs, and all whose turn it is wait for it,
# refuses nobody who needs no key.
ISSUER_PATIENCE_SECONDS = 1
# Whoever invents names of keys makes this process ask the issuer so often, and no more.
ISSUER_FORCED_INTERVAL_SECONDS = 30
ISSUER_REST_SECONDS = 10  # after a failure
ISSUER_DOCUMENT_MAX_BYTES = 64 * 1024
ISSUER_KEYS_MAX = 64

# --- Mail -------------------------------------------------------------------------------------

# Without EMAIL_URL a production server hands its mail to a relay on the same machine, which
# listens on port 25 and has no certificate to speak STARTTLS with.
_mail = env.email("EMAIL_URL", default="console:" if DEBUG else "smtp://localhost:25?tls=false")
globals().update(_mail)
EMAIL_IS_CONFIGURED = bool(env.text("EMAIL_URL"))
if not DEBUG and _mail.get("EMAIL_BACKEND", "").endswith("console.EmailBackend"):
    env.refuse(
        "EMAIL_URL",
        "console: writes links that set passwords into the log; valid with DEBUG off: "
        "smtp://user:password@host:587, smtps://...",
    )
EMAIL_TIMEOUT = 10  # seconds; a mail server that takes longer is asked again later
DEFAULT_FROM_EMAIL = env.sender("DEFAULT_FROM_EMAIL", default="Todo <todo@localhost>")

# Where the client's own page asks for the new password. The link never comes from the Host header,
# which whoever asks for the mail could choose.
PASSWORD_RESET_URL = env.link(
    "PASSWORD_RESET_URL",
    default="http://localhost:3000/password-reset?token={token}" if DEBUG else "",
    placeholder="{token}",
)

# Where the client's own page sends the token that proves an address.
EMAIL_CONFIRMATION_URL = env.link(
    "EMAIL_CONFIRMATION_URL",
    default="http://localhost:3000/email-confirmation?token={token}" if DEBUG else "",
    placeholder="{token}",
)
# Nobody signs in by an address that isn't proved, and nobody learns whether one is taken. Both by
# mail alone, so that everything has to be there that mails need.
REQUIRE_VERIFIED_EMAIL = env.boolean("REQUIRE_VERIFIED_EMAIL", default=False)
_missing_for_mail = [
    name
    for name, is_set in (
        ("EMAIL_CONFIRMATION_URL", bool(EMAIL_CONFIRMATION_URL)),
        ("PASSWORD_RESET_URL", bool(PASSWORD_RESET_URL)),
        ("EMAIL_URL", EMAIL_IS_CONFIGURED or DEBUG),
    )
    if not is_set
]
if REQUIRE_VERIFIED_EMAIL and _missing_for_mail:
    env.refuse(
        "REQUIRE_VERIFIED_EMAIL",
        f"nobody could sign in without mail; valid with {', '.join(_missing_for_mail)}, or false",
    )

# --- Limits -----------------------------------------------------------------------------------

RATE_LIMITS = {
    "sign-in": env.rate("RATE_LIMIT_SIGN_IN", default="10/minute"),
    "sign-in-address": env.rate("RATE_LIMIT_SIGN_IN_ADDRESS", default="60/minute"),
    "sign-in-account": env.rate("RATE_LIMIT_SIGN_IN_ACCOUNT", default="100/hour"),
    "register": env.rate("RATE_LIMIT_REGISTER", default="60/minute"),
    "refresh": env.rate("RATE_LIMIT_REFRESH", default="120/minute"),
    "reset": env.rate("RATE_LIMIT_RESET", default="10/minute"),
    "writes": env.rate("RATE_LIMIT_WRITES", default="1200/minute"),
    "exports": env.rate("RATE_LIMIT_EXPORTS", default="10/hour"),
    "imports": env.rate("RATE_LIMIT_IMPORTS", default="60/hour"),
}
# Under way in a process. Each is some work whenever its client has read a page, and holds one.
EXPORTS_AT_ONCE = 8
# Whoever reads slowly gives the place up in the end. 100,000 tasks have 76 MB: at 0.7 Mbit/s they
# take that long.
EXPORT_TIME_LIMIT_SECONDS = 15 * 60

# --- REST -------------------------------------------------------------------------------------

MAX_BODY_BYTES = 256 * 1024
BATCH_OPERATIONS_MAX = 100
MAX_BATCH_BODY_BYTES = 1024 * 1024
# As JSON, of what a batch changed. 100 tasks with the longest texts would have 8 MiB.
BATCH_ANSWER_BYTES_MAX = 4 * 1024 * 1024
# Of a file to import. The servers read that much on its path alone, before it is known who sends
# it; what all clients of a process together may have it hold is the same (server/worker.py).
MAX_IMPORT_BODY_BYTES = 5 * 1024 * 1024
LONG_BODIES = {b"import": MAX_IMPORT_BODY_BYTES}  # by the last part of a path
# What a file of that size has where each task says everything; and what takes seconds.
IMPORT_ROWS_MAX = 5_000
# So many files may be read at once in a process: the largest one, of the dearest form, takes some
# hundred MiB, and a core for seconds.
IMPORTS_AT_ONCE = 1
# After so long no further rows are begun: the request has a time limit, and has to be answered.
IMPORT_TIME_LIMIT_SECONDS = REQUEST_TIME_LIMIT_SECONDS * 0.7
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
MAX_JSON_DEPTH = 32
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
CHANGES_PAGE_DEFAULT = 100
# Of the rows of a page as JSON. 200 tasks may have 24 MiB, and 500 clients who don't read them.
PAGE_BYTES_MAX = 1024 * 1024
EXPORT_PAGE_ROWS = 200  # between two pages of an export others have their turn

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "todo_project.api.permissions.HasScope",
    ],
    "DEFAULT_PARSER_CLASSES": [
        "todo_project.api.parsers.StrictJSONParser",
        "todo_project.api.parsers.MergePatchParser",
    ],
    "DEFAULT_RENDERER_CLASSES": ["todo_project.api.envelope.EnvelopeRenderer"],
    "DEFAULT_PAGINATION_CLASS": None,
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "todo_project.api.schema.EnvelopeSchema",
    "EXCEPTION_HANDLER": "todo_project.api.errors.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": None,
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Todo API",
    "VERSION": VERSION,
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "CONTACT": {"name": "Whoever operates the service"},
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": f"{PATH_PREFIX}/favicon.ico",
    "REDOC_DIST": "SIDECAR",
    # A text, because it has a function. drf-spectacular's own would show a CSRF token, which
    # nothing reads, in each command that people copy.
    "SWAGGER_UI_SETTINGS": """{
        persistAuthorization: true,
        displayOperationId: true,
        validatorUrl: null,
        requestInterceptor: (request) => request,
        // For lists of ids it has no field of its own, and says so in the console.
        plugins: [(ui) => ({components: {JsonSchema_string_uuid: (props) =>
            ui.React.createElement(ui.getComponent("JsonSchema_string"), props)}})],
    }""",
    "SERVERS": [{"url": PATH_PREFIX or "/"}],
    "SORT_OPERATIONS": False,  # as the routes stand: in the order of use
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_NO_READ_ONLY_REQUIRED": False,
    "PREPROCESSING_HOOKS": ["todo_project.api.schema.keep_canonical_paths"],
    "POSTPROCESSING_HOOKS": [
        "todo_project.api.schema.finish_document",
        "todo_project.resources.schema.show_current",
    ],
    "TAGS": [
        {"name": "auth", "description": "Make an account, sign in, stay signed in."},
        {"name": "tasks", "description": "Your own tasks."},
        {"name": "lists", "description": "What your tasks are sorted into."},
        {"name": "labels", "description": "What stands on your tasks."},
        {"name": "batch", "description": "Many writes in one request."},
        {"name": "import", "description": "What you had elsewhere."},
        {"name": "changes", "description": "What other devices of yours changed."},
        {"name": "trash", "description": "What you deleted."},
        {"name": "account", "description": "Your account, and the ways into it."},
    ],
}

# --- Web security -----------------------------------------------------------------------------

SECURE_SSL = env.boolean("SECURE_SSL", default=not DEBUG)
SECURE_SSL_REDIRECT = SECURE_SSL
# Probes speak plain HTTP to the process itself.
SECURE_REDIRECT_EXEMPT = [r"^livez/?$", r"^readyz/?$", r"^metrics/?$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if SECURE_SSL else 0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
# Cookies go to admin alone, and by names of their own: what else is served by the host may be made
# with Django, too, and browsers send its cookies of the root along.
SESSION_COOKIE_NAME = "todo_session"
SESSION_COOKIE_PATH = f"{PATH_PREFIX}/admin/"
SESSION_COOKIE_SECURE = SECURE_SSL
SESSION_COOKIE_AGE = 12 * 3600  # an operator's working day
CSRF_COOKIE_NAME = "todo_csrf"
CSRF_COOKIE_PATH = SESSION_COOKIE_PATH
CSRF_COOKIE_SECURE = SECURE_SSL
CSRF_TRUSTED_ORIGINS = env.csrf_origins("CSRF_TRUSTED_ORIGINS")

CORS_ALLOWED_ORIGINS = env.cors_origins("CORS_ALLOWED_ORIGINS")
# A client that is being developed is served from whatever port its tools choose.
CORS_ALLOWED_ORIGIN_REGEXES = [r"https?://(localhost|127\.0\.0\.1)(:[0-9]+)?$"] if DEBUG else []
CORS_URLS_REGEX = r"^/(api|users)/"
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "x-request-id",
    "x-time-zone",
    # What tracing adds to a page's requests (W3C Trace Context and Baggage, Sentry).
    "baggage",
    "sentry-trace",
    "traceparent",
    "tracestate",
]
CORS_EXPOSE_HEADERS = [
    "X-Request-ID",
    "Location",
    "Link",
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "ETag",
    "Idempotent-Replayed",
]

SILENCED_SYSTEM_CHECKS = [
    # Whether sibling hosts of the domain speak TLS, and whether browsers should carry the domain
    # in their preload lists, is for its owner to say and not for one service below it.
    "security.W005",
    "security.W021",
    # The project's own stand in MIDDLEWARE, and the checks look for the names of Django's alone.
    "security.W001",
    "security.W002",
    "security.W003",
    # The address is unique by Lower(email), which this check doesn't recognise.
    "auth.E003",
]

# --- Logs -------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request": {"()": "todo_project.logs.RequestFilter"}},
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.orjson.OrjsonFormatter",
            "format": "{levelname}{name}{message}",
            "style": "{",
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": "time",  # RFC 3339, UTC
        },
        "development": {"()": "todo_project.logs.DevelopmentFormatter"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "development" if DEBUG else "json",
            "filters": ["request"],
        }
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # Django's own handlers would write each line twice.
        "django": {"level": "INFO", "handlers": [], "propagate": True},
        "django.server": {"level": "CRITICAL", "handlers": [], "propagate": True},
        # The access log has the 400 already.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}

env.refuse_faults()
