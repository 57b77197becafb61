"""The walk of ../walk.py with the Python client that openapi-generator makes of openapi.yaml."""

import os
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import uuid4

from openapi_client import ApiClient, ApiException, AuthApi, ChangesApi, Configuration, TasksApi
from openapi_client.models import (
    ApiError,
    Completion,
    CredentialsRequest,
    Priority,
    RefreshRequest,
    RegistrationRequest,
    TaskRequest,
    TaskUpdate,
)

URL = os.environ["TODO_URL"]
EMAIL, PASSWORD = "walker@example.com", "blue bicycle at noon"
ME = "me"
TRIES_MAX = 500

configuration = Configuration(host=URL)
client = ApiClient(configuration)
auth, tasks, changes = AuthApi(client), TasksApi(client), ChangesApi(client)


def see(step: str, status: int | None, *more: object) -> None:
    print(f"{step}:", status, *more)


def error(call: Callable[[], Any]) -> tuple[ApiException, ApiError]:
    """What a call fails with: the exception, and the error of the envelope that it carries."""
    try:
        done = call()
    except ApiException as exception:
        assert exception.data.meta.request_id == exception.headers["X-Request-ID"]
        return exception, exception.data.error
    raise AssertionError(done)


registered = auth.auth_register_with_http_info(RegistrationRequest(email=EMAIL, password=PASSWORD))
see("register", registered.status_code, registered.data.data.email)

credentials = CredentialsRequest(email=EMAIL, password=PASSWORD)
signed_in = auth.auth_token_with_http_info(credentials)
first = signed_in.data.data
see("sign in", signed_in.status_code, first.expires_in)

configuration.access_token = os.environ["TODO_PAST_ACCESS"]
late, expired = error(lambda: tasks.tasks_list(ME))
see("past token", late.status, expired.code.value)

refreshed = auth.auth_token_refresh_with_http_info(RefreshRequest(refresh=first.refresh))
second = refreshed.data.data
configuration.access_token = second.access
see("refresh", refreshed.status_code, "the same" if second.refresh == first.refresh else "another")

key = str(uuid4())


def create(title: str) -> Any:
    body = TaskRequest(title=title, priority=Priority.HIGH, due_on=date(2036, 12, 31))
    return tasks.tasks_create_with_http_info(ME, body, idempotency_key=key)


created = create("Buy milk")
task = created.data.data
see("create", created.status_code, task.title, task.priority.value, task.due_on)

retried = create("Buy milk")
is_same = retried.headers["Idempotent-Replayed"] == "true" and retried.data.data.id == task.id
see("retry with the key", retried.status_code, "the same task" if is_same else "another")

other, reused = error(lambda: create("Buy bread"))
see("key of another request", other.status, reused.code.value)

for number in range(1, 7):
    tasks.tasks_create(ME, TaskRequest(title=f"Task {number}"))
found, pages, cursor = [], 0, None
while not pages or cursor is not None:
    listed = tasks.tasks_list_with_http_info(ME, limit=3, ordering=["title"], cursor=cursor)
    found += listed.data.data
    pages += 1
    cursor = listed.data.meta.next_cursor
see("all pages", listed.status_code, len(found), "tasks,", pages, "pages")

filtered = tasks.tasks_list_with_http_info(
    ME,
    search="milk buy",
    priority=[task.priority, Priority.URGENT],
    is_completed=False,
    list_id="inbox",
)
see("filters", filtered.status_code, *(row.title for row in filtered.data.data))

completion = tasks.tasks_complete_with_http_info(
    ME, task.id, completion=Completion(is_completed=True)
)
completed = completion.data.data
see("complete", completion.status_code, "done" if completed.is_completed else "open")


def rename(title: str, etag: str) -> Any:
    body = TaskUpdate(title=title)
    return tasks.tasks_update_with_http_info(ME, task.id, task_update=body, if_match=etag)


rename("Buy oat milk", completed.etag)
conflict, problem = error(lambda: rename("Buy soy milk", completed.etag))
current = problem.details.current.actual_instance.actual_instance
see("conflict", conflict.status, problem.code.value, current.title)

again = rename("Buy soy milk", current.etag)
see("with the new tag", again.status_code, again.data.data.title)

feed = changes.changes_list_with_http_info(ME)
more = "and more" if feed.data.meta.has_more else "and no more"
see("changes", feed.status_code, len(feed.data.data), more)

tasks.tasks_delete(ME, task.id)
later = changes.changes_list_with_http_info(ME, since=feed.data.meta.next_since)
(change,) = later.data.data
see("changes since", later.status_code, change.type.value, "deleted" if change.deleted else "there")

blank, refused = error(lambda: tasks.tasks_create(ME, TaskRequest.model_construct(title=" ")))
(fault,) = refused.details.additional_properties["title"]
see("blank title", blank.status, refused.code.value, fault["code"])

missing, absent = error(lambda: tasks.tasks_read(ME, task.id))
see("deleted task", missing.status, absent.code.value)

theirs, forbidden = error(lambda: tasks.tasks_list(str(uuid4())))
see("somebody else's", theirs.status, forbidden.code.value)


def burst() -> None:
    for _ in range(TRIES_MAX):
        tasks.tasks_create(ME, TaskRequest(title="Too much"))


many, limited = error(burst)
wait = int(many.headers["Retry-After"])
see("too many", many.status, limited.code.value, "wait" if wait >= 1 else "no time")

configuration.access_token = None
nobody, unknown = error(lambda: tasks.tasks_list(ME))
see("no token", nobody.status, unknown.code.value)
