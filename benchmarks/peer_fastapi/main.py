"""The application and its routes.

uvicorn benchmarks.peer_fastapi.main:app --loop uvloop --http httptools --no-access-log
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response, status
from sqlalchemy import tuple_
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .database import Session
from .models import (
    Completion,
    Meta,
    PageAnswer,
    PageMeta,
    Task,
    TaskAnswer,
    TaskCreate,
    TaskRead,
    TaskReplace,
    TaskUpdate,
    due_at,
    require_fitting_days,
)
from .security import CallerId

GIVEN_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

tasks = APIRouter(prefix="/api/{user_id}/tasks")


class RequestIdMiddleware:
    """Keeps the caller's X-Request-ID, where it is a fit one, or makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if GIVEN_REQUEST_ID.fullmatch(given) else str(uuid4())
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


@tasks.get("")
async def list_tasks(
    request: Request,
    caller_id: CallerId,
    session: Session,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=4096)] = None,
) -> PageAnswer:
    query = (
        select(Task)
        .where(Task.user_id == caller_id, col(Task.deleted_at).is_(None))
        .order_by(Task.created_at.desc(), Task.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(tuple_(Task.created_at, Task.id) < tuple_(*decode(cursor)))
    rows = (await session.exec(query)).all()
    page = rows[:limit]
    return PageAnswer(
        data=[TaskRead.model_validate(task) for task in page],
        meta=PageMeta(
            request_id=request.state.request_id,
            limit=limit,
            next_cursor=encode(page[-1]) if len(rows) > limit else None,
        ),
    )


@tasks.post("", status_code=status.HTTP_201_CREATED)
async def create_task(
    request: Request, response: Response, caller_id: CallerId, session: Session, body: TaskCreate
) -> TaskAnswer:
    task = Task(
        user_id=caller_id,
        completed_at=datetime.now(UTC) if body.is_completed else None,
        due_at=due_at(body.due_on, body.due_time, body.time_zone),
        **body.model_dump(exclude={"is_completed"}),
    )
    session.add(task)
    await commit(session)
    response.headers["Location"] = f"/api/{caller_id}/tasks/{task.id}"
    return answer(request, task)


@tasks.get("/{task_id}")
async def read_task(
    request: Request, caller_id: CallerId, session: Session, task_id: UUID
) -> TaskAnswer:
    return answer(request, await own_task(session, task_id, caller_id))


@tasks.put("/{task_id}")
async def replace_task(
    request: Request, caller_id: CallerId, session: Session, task_id: UUID, body: TaskReplace
) -> TaskAnswer:
    task = await own_task(session, task_id, caller_id)
    return answer(request, await change(session, task, body.model_dump(exclude_unset=True)))


@tasks.patch("/{task_id}")
async def update_task(
    request: Request, caller_id: CallerId, session: Session, task_id: UUID, body: TaskUpdate
) -> TaskAnswer:
    task = await own_task(session, task_id, caller_id)
    return answer(request, await change(session, task, body.model_dump(exclude_unset=True)))


@tasks.delete("/{task_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_task(caller_id: CallerId, session: Session, task_id: UUID) -> None:
    task = await own_task(session, task_id, caller_id)
    task.deleted_at = datetime.now(UTC)
    task.version += 1
    session.add(task)
    await session.commit()


@tasks.patch("/{task_id}/complete")
async def complete_task(
    request: Request,
    caller_id: CallerId,
    session: Session,
    task_id: UUID,
    body: Completion | None = None,
) -> TaskAnswer:
    task = await own_task(session, task_id, caller_id)
    is_completed = body is None or body.is_completed
    return answer(request, await change(session, task, {"is_completed": is_completed}))


async def own_task(session: Session, task_id: UUID, caller_id: UUID) -> Task:
    task = await session.get(Task, task_id)
    if task is None or task.user_id != caller_id or task.deleted_at is not None:
        raise HTTPException(status.HTTP_404_NOT_FOUND)
    return task


async def change(session: Session, task: Task, changes: dict[str, Any]) -> Task:
    """Writes what differs; a task that is completed again keeps its time."""
    is_completed = changes.pop("is_completed", task.is_completed)
    if is_completed != task.is_completed:
        task.completed_at = datetime.now(UTC) if is_completed else None
    task.sqlmodel_update(changes)
    try:
        require_fitting_days(task)
    except ValueError as error:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, str(error)) from None
    task.due_at = due_at(task.due_on, task.due_time, task.time_zone)
    task.version += 1
    session.add(task)
    await commit(session)
    return task


async def commit(session: Session) -> None:
    """Refuses what breaks a rule that only the database can look after: a list is the caller's."""
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(
            status.HTTP_422_UNPROCESSABLE_CONTENT, "list_id is none of your lists"
        ) from None


def answer(request: Request, task: Task) -> TaskAnswer:
    return TaskAnswer(
        data=TaskRead.model_validate(task), meta=Meta(request_id=request.state.request_id)
    )


def encode(task: Task) -> str:
    """The cursor of the page after `task`."""
    return urlsafe_b64encode(f"{task.created_at.isoformat()} {task.id}".encode()).decode()


def decode(cursor: str) -> tuple[datetime, UUID]:
    try:
        created_at, _, task_id = urlsafe_b64decode(cursor).decode().partition(" ")
        return datetime.fromisoformat(created_at), UUID(task_id)
    except ValueError:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "Not a cursor.") from None


app = FastAPI(title="Todo API, the peer")
app.add_middleware(RequestIdMiddleware)
app.include_router(tasks)
