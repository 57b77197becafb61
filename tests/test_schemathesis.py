"""The document against the running application: generated requests, and every check there is.

Schemathesis makes requests that the document allows, requests that it forbids, and sequences of
them. All come from one seed, so that a failure repeats.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import hypothesis
import pytest
import schemathesis
from django.core.exceptions import ValidationError
from django.utils import timezone
from schemathesis import Case, CheckFunction, Config, Response
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from accounts import mail
from accounts.models import Identity, PersonalToken, Session, User
from tasks.models import TITLE_MAX_CHARACTERS, Task, TaskList
from tests.conftest import begin_session
from tests.processes import PATIENCE_S
from tests.resources import service_alone
from todo_project.models import Change, IdempotencyKey, Purged
from todo_project.text import read_word
from todo_project.wsgi import application

# Requests that the document allows and the service refuses, because no schema can tell them: by
# operation, the codes of the errors or of their faults. They are excused from one check alone,
# positive_data_acceptance, and only where the answer has no other code.
PASSWORD_FAULTS = {
    *("password_blank", "password_entirely_numeric", "password_too_common"),
    # Counted in Unicode's form NFKC, which no schema can.
    *("password_too_similar", "min_length"),
}
# Nothing to see. No regular expression has Unicode's properties, and not all take U+001C to U+001F
# and U+0085 for the white space that they are to Python.
BLANK = {"blank"}
# Labels that are one in NFC, or have a line break or a comma.
WORDS = {"repeated", "control_characters", "combining_marks", "comma"}
# A zone that there isn't, in the header as well.
ZONES = {"time_zone"}
# A time without a day, a zone without a time, a list that isn't there, a rule without a day.
FITTING = {"invalid", "absent", "rule", "circle"} | ZONES
USED_KEY = {"IDEMPOTENCY_KEY_REUSED"}  # by an earlier request of the same test
OTHER_VERSION = {"PRECONDITION_FAILED"}  # only the service makes tags
REFUSALS: Mapping[str, set[str]] = {
    # The address is in use; a name that may be empty.
    "auth_register": {"unique", "control_characters"} | BLANK | PASSWORD_FAULTS,
    "auth_token": {"INVALID_CREDENTIALS"} | BLANK,  # nobody's
    "auth_token_refresh": {"TOKEN_INVALID"} | BLANK,  # only the service makes tokens
    "auth_logout": {"TOKEN_INVALID"} | BLANK,
    "auth_me_update": {"immutable", "control_characters"} | BLANK,  # any but the present address
    # Nobody guesses the right one; who has one may not leave it out.
    "auth_me_delete": {"wrong_password", "required"},
    "auth_me_delete_by_post": {"wrong_password", "required"},
    "auth_identities_add": {"wrong_password", "invalid"} | BLANK,  # only a provider makes tokens
    "auth_password_change": {"wrong_password"} | PASSWORD_FAULTS,
    "auth_password_reset": BLANK,
    "auth_tokens_create": {"control_characters", "past", "rfc3339"} | BLANK,
    "auth_password_reset_confirm": {"invalid"} | PASSWORD_FAULTS | BLANK,  # nobody's link
    "auth_email_change": {"wrong_password"},
    "auth_email_confirm": {"invalid"} | BLANK,
    # Only the service makes cursors; RFC 3339 knows times beyond the years 1 to 9999 in UTC; and a
    # key with `-` and the same without are two names.
    # A label of the query has a comma, which makes two of it, and so 51.
    "tasks_list": {"invalid_cursor", "rfc3339", "wall_clock", "max_length"} | BLANK | WORDS,
    "tasks_create": BLANK | WORDS | FITTING | USED_KEY,
    # Two conditions.
    "tasks_replace": {"not_supported"} | BLANK | WORDS | FITTING | USED_KEY | OTHER_VERSION,
    "tasks_update": BLANK | WORDS | FITTING | USED_KEY | OTHER_VERSION,
    "tasks_delete": USED_KEY | OTHER_VERSION,
    "tasks_complete": ZONES | USED_KEY | OTHER_VERSION,
    "tasks_move": {"invalid", "absent", "circle"} | USED_KEY | OTHER_VERSION,
    "tasks_restore": USED_KEY | OTHER_VERSION,
    "tasks_skip": {"CONFLICT"} | USED_KEY | OTHER_VERSION,
    "lists_list": {"invalid_cursor", "rfc3339", "repeated"} | BLANK,
    "lists_create": {"combining_marks"} | BLANK | USED_KEY,
    "lists_replace": {"not_supported", "combining_marks"} | BLANK | USED_KEY | OTHER_VERSION,
    "lists_update": {"combining_marks"} | BLANK | USED_KEY | OTHER_VERSION,
    "lists_delete": USED_KEY | OTHER_VERSION,
    "lists_restore": USED_KEY | OTHER_VERSION,
    "labels_list": {"invalid_cursor"},
    # Of the name in the path as well, which no task can have then.
    "labels_rename": {"NOT_FOUND", "max_length"} | BLANK | WORDS | USED_KEY,
    "labels_delete": {"NOT_FOUND"} | USED_KEY,
    "changes_list": {"invalid_cursor"},
    "trash_list": {"invalid_cursor"},
    # What each operation takes is said by its own route alone; and it may fail as that may.
    "batch": {"CONFLICT", "invalid", "required", "unknown", "not_supported"}
    | ZONES
    | BLANK
    | USED_KEY,
    # A file is of its format, which no schema tells; a format with lists takes no name of one.
    "import_file": {"PARSE_ERROR", "not_supported"} | ZONES | BLANK | WORDS,
}

CONFIG = Config.from_dict(
    {
        "seed": 1,
        "generation": {
            "deterministic": True,
            "database": "none",
            "max-examples": 20,
            # PostgreSQL stores no NUL, so text that has one is refused.
            "allow-x00": False,
            # No made-up tokens beside the real one: the check ignored_auth sends some anyway.
            "with-security-parameters": False,
        },
        "parameters": {"path.user_id": "me"},  # anybody else's is 403
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "304"]}},
        "phases": {
            "coverage": {"generate-duplicate-query-parameters": True},
            "stateful": {
                # 404: a task that no step made, or that one deleted.
                "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "304", "404"]}}
            },
        },
    }
)

with service_alone():
    schema = schemathesis.openapi.from_wsgi("/api/schema", application, config=CONFIG)


@pytest.fixture
def alice(transactional_db: None, settings: Any) -> Iterator[User]:
    """Has a password that is none of the document's examples, and may try as often as she likes."""
    settings.RATE_LIMITS = dict.fromkeys(settings.RATE_LIMITS)
    yield User.objects.create_user("alice@example.org", "what nobody guesses", name="Alice")
    assert mail.queue.wait(PATIENCE_S)


def signed_in(user: User) -> dict[str, str]:
    """A session for one request, because some end it."""
    return {"Authorization": f"Bearer {begin_session(user).access}"}


@schema.parametrize()
@hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck))
def test_operation(case: Case[Any], alice: User) -> None:
    Task.objects.exclude(labels=[]).delete()
    with suppress(KeyError, ValueError):  # no operation on a task; no UUID
        task_id = UUID(case.path_parameters["task_id"])
        Task.objects.update_or_create(
            id=task_id, user=alice, defaults={"title": "Buy milk", "deleted_at": None}
        )
    TaskList.objects.all().delete()  # as of personal tokens
    with suppress(KeyError, ValueError):
        list_id = UUID(case.path_parameters["list_id"])
        TaskList.objects.create(id=list_id, user=alice, name="Groceries")
    with suppress(KeyError, ValidationError):
        label = read_word(unquote(case.path_parameters["label"]))
        Task.objects.create(user=alice, title="Buy milk", labels=[label])
    with suppress(KeyError, ValueError):
        session_id = UUID(case.path_parameters["session_id"])
        tomorrow = timezone.now() + timedelta(days=1)
        session = {"user": alice, "expires_at": tomorrow, "ended_at": None}
        Session.objects.update_or_create(id=session_id, defaults=session)
    PersonalToken.objects.all().delete()  # or there would soon be as many as there may be
    with suppress(KeyError, ValueError):
        token_id = UUID(case.path_parameters["token_id"])
        PersonalToken.objects.create(id=token_id, user=alice, name="Backup", scopes=["tasks:read"])
    with suppress(KeyError, ValueError):
        identity_id = UUID(case.path_parameters["identity_id"])
        identity = {"user": alice, "issuer": "https://id.example.com", "subject": str(identity_id)}
        Identity.objects.get_or_create(id=identity_id, defaults=identity)
    headers = signed_in(alice)

    response = case.call(headers=headers)

    case.validate_response(
        response,
        headers=headers,
        transport_kwargs={"headers": headers},
        excluded_checks=excused_checks(case, response),
    )


def excused_checks(case: Case[Any], response: Response) -> list[CheckFunction]:
    if response.status_code < 400 and _is_too_long_untrimmed(case.body):
        return [negative_data_rejection]
    if response.status_code not in (400, 401, 404, 409, 412, 422):
        return []
    error = response.json()["error"]
    details = error["details"] if response.status_code == 400 else {}
    faults = {fault["code"] for faults in details.values() for fault in faults}
    refusals = REFUSALS.get(case.operation.definition.raw["operationId"], set())
    return [positive_data_acceptance] if (faults or {error["code"]}) <= refusals else []


def _is_too_long_untrimmed(body: Any) -> bool:
    """Whether a title has white space around it that `maxLength` counts and the service doesn't."""
    title = body.get("title") if isinstance(body, dict) else None
    return isinstance(title, str) and len(title.strip()) <= TITLE_MAX_CHARACTERS < len(title)


def test_sequences_of_operations(alice: User) -> None:
    """What was created is there, and what was deleted is gone, in whatever order they are used."""
    # Without registration: nobody signs in to the accounts that it would make.
    machine: Any = schema.exclude(operation_id="auth_register").as_state_machine()

    class Sequences(machine):  # type: ignore[misc]
        def setup(self) -> None:
            """As it was before the sequence of before: what is drawn depends on the answers."""
            models = (Task, TaskList, Change, Purged, IdempotencyKey, PersonalToken, Identity)
            for model in models:
                model.objects.all().delete()

        def before_call(self, case: Case[Any]) -> None:
            case.path_parameters["user_id"] = "me"

        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            self.headers = signed_in(alice)
            return {"headers": self.headers}

        def validate_response(self, response: Response, case: Case[Any], **kwargs: Any) -> None:
            case.validate_response(
                response,
                headers=self.headers,
                transport_kwargs={"headers": self.headers},
                excluded_checks=excused_checks(case, response),
                recorder=self.recorder,
            )

    Sequences.run(
        settings=hypothesis.settings(
            max_examples=20,
            stateful_step_count=8,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
    )
