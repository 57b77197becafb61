"""The walk of ../walk.py with the client that openapi-python-client makes of openapi.yaml."""

import os
from datetime import date
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from todo_api_client import AuthenticatedClient, Client
from todo_api_client.api.auth import auth_register, auth_token, auth_token_refresh
from todo_api_client.api.changes import changes_list
from todo_api_client.api.tasks import (
    tasks_complete,
    tasks_create,
    tasks_delete,
    tasks_list,
    tasks_read,
    tasks_update,
)
from todo_api_client.models import (
    ApiError,
    ChangeList,
    Completion,
    CredentialsRequest,
    ErrorEnvelope,
    Priority,
    RefreshRequest,
    RegistrationRequest,
    Task,
    TaskEnvelope,
    TaskPage,
    TaskRequest,
    TasksListOrderingItem,
    TaskUpdate,
    TokenPairEnvelope,
    UserEnvelope,
)
from todo_api_client.types import UNSET, Response

T = TypeVar("T")

URL = os.environ["TODO_URL"]
EMAIL, PASSWORD = "walker@example.com", "blue bicycle at noon"
ME = "me"
TRIES_MAX = 500


def join(request: httpx.Request) -> None:
    """Several values are one parameter, with commas: the client would repeat its name."""
    sent = request.url.params
    joined = {name: ",".join(sent.get_list(name)) for name in sent}
    request.url = request.url.copy_with(params=joined)


def signed_in(access: str) -> AuthenticatedClient:
    hooks = {"request": [join]}
    return AuthenticatedClient(URL, token=access, httpx_args={"event_hooks": hooks})


def see(step: str, response: Response[Any], *more: object) -> None:
    print(f"{step}:", int(response.status_code), *more)


def must(kind: type[T], answer: object) -> T:
    assert isinstance(answer, kind), answer
    return answer


def error(response: Response[Any]) -> ApiError:
    return must(ErrorEnvelope, response.parsed).error


anybody = Client(URL)
registration = auth_register.sync_detailed(
    client=anybody, body=RegistrationRequest(email=EMAIL, password=PASSWORD)
)
see("register", registration, must(UserEnvelope, registration.parsed).data.email)

credentials = CredentialsRequest(email=EMAIL, password=PASSWORD)
sign_in = auth_token.sync_detailed(client=anybody, body=credentials)
first = must(TokenPairEnvelope, sign_in.parsed).data
see("sign in", sign_in, first.expires_in)

late = tasks_list.sync_detailed(ME, client=signed_in(os.environ["TODO_PAST_ACCESS"]))
see("past token", late, error(late).code)

refresh = auth_token_refresh.sync_detailed(
    client=anybody, body=RefreshRequest(refresh=first.refresh)
)
second = must(TokenPairEnvelope, refresh.parsed).data
see("refresh", refresh, "the same" if second.refresh == first.refresh else "another")
client = signed_in(second.access)

key = str(uuid4())


def create(title: str) -> Response[ErrorEnvelope | TaskEnvelope]:
    body = TaskRequest(title, priority=Priority.HIGH, due_on=date(2036, 12, 31))
    return tasks_create.sync_detailed(ME, client=client, body=body, idempotency_key=key)


creation = create("Buy milk")
task = must(TaskEnvelope, creation.parsed).data
see("create", creation, task.title, task.priority, task.due_on)

retry = create("Buy milk")
is_replayed = retry.headers["Idempotent-Replayed"] == "true"
is_same = is_replayed and must(TaskEnvelope, retry.parsed).data.id == task.id
see("retry with the key", retry, "the same task" if is_same else "another")

other = create("Buy bread")
see("key of another request", other, error(other).code)

for number in range(1, 7):
    tasks_create.sync_detailed(ME, client=client, body=TaskRequest(f"Task {number}"))
tasks: list[Task] = []
pages, cursor = 0, None
while not pages or cursor is not None:
    listing = tasks_list.sync_detailed(
        ME,
        client=client,
        limit=3,
        ordering=[TasksListOrderingItem.TITLE],
        cursor=UNSET if cursor is None else cursor,
    )
    page = must(TaskPage, listing.parsed)
    tasks += page.data
    pages += 1
    cursor = page.meta.next_cursor
see("all pages", listing, len(tasks), "tasks,", pages, "pages")

filtered = tasks_list.sync_detailed(
    ME,
    client=client,
    search="milk buy",
    priority=[task.priority, Priority.URGENT],
    is_completed=False,
    list_id="inbox",
)
see("filters", filtered, *(found.title for found in must(TaskPage, filtered.parsed).data))

completion = tasks_complete.sync_detailed(ME, task.id, client=client, body=Completion(True))
completed = must(TaskEnvelope, completion.parsed).data
see("complete", completion, "done" if completed.is_completed else "open")


def rename(title: str, etag: str) -> Response[ErrorEnvelope | TaskEnvelope]:
    body = TaskUpdate(title=title)
    return tasks_update.sync_detailed(ME, task.id, client=client, body=body, if_match=etag)


rename("Buy oat milk", completed.etag)
conflict = rename("Buy soy milk", completed.etag)
problem = error(conflict)
current = must(Task, problem.details.current)
see("conflict", conflict, problem.code, current.title)

again = rename("Buy soy milk", current.etag)
see("with the new tag", again, must(TaskEnvelope, again.parsed).data.title)

changes = changes_list.sync_detailed(ME, client=client)
feed = must(ChangeList, changes.parsed)
see("changes", changes, len(feed.data), "and more" if feed.meta.has_more else "and no more")

tasks_delete.sync_detailed(ME, task.id, client=client)
later = changes_list.sync_detailed(ME, client=client, since=feed.meta.next_since)
(change,) = must(ChangeList, later.parsed).data
see("changes since", later, change.type_, "deleted" if change.deleted else "there")

blank = tasks_create.sync_detailed(ME, client=client, body=TaskRequest(" "))
(fault,) = error(blank).details["title"]
see("blank title", blank, error(blank).code, fault.code)

missing = tasks_read.sync_detailed(ME, task.id, client=client)
see("deleted task", missing, error(missing).code)

theirs = tasks_list.sync_detailed(str(uuid4()), client=client)
see("somebody else's", theirs, error(theirs).code)

for _ in range(TRIES_MAX):
    burst = tasks_create.sync_detailed(ME, client=client, body=TaskRequest("Too much"))
    if isinstance(burst.parsed, ErrorEnvelope):
        break
wait = int(burst.headers["Retry-After"])
see("too many", burst, error(burst).code, "wait" if wait >= 1 else "no time")

nobody = AuthenticatedClient(URL, token="", prefix="")
nobody.get_httpx_client().headers.pop("Authorization")
unknown = tasks_list.sync_detailed(ME, client=nobody)
see("no token", unknown, error(unknown).code)
