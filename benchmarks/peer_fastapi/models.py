"""The table of tasks, and what goes in and out."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StrictBool, StringConstraints
from sqlalchemy import Computed, DateTime, func
from sqlmodel import Field, SQLModel
from uuid_utils.compat import uuid7

Title = Annotated[
    str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=255)
]
Description = Annotated[str, StringConstraints(strict=True, max_length=20_000)]


class Task(SQLModel, table=True):
    __tablename__ = "tasks_task"
    # What the database fills in comes back with the write itself, by RETURNING.
    __mapper_args__ = {"eager_defaults": True}

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    user_id: UUID
    title: str = Field(max_length=255)
    description: str | None = None
    is_completed: bool | None = Field(
        default=None, sa_column_args=[Computed("completed_at IS NOT NULL", persisted=True)]
    )
    completed_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now()},
    )
    updated_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "onupdate": func.now()},
    )
    # One of the row's own, so that the triggers of the service's table have nothing to do.
    version: int = 1
    deleted_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class TaskCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Description | None = None
    is_completed: StrictBool = False


class TaskReplace(TaskCreate):
    """A field that is left out keeps its value."""


class TaskUpdate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Title = ""
    description: Description | None = None
    is_completed: StrictBool = False


class Completion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    is_completed: StrictBool = True


class TaskRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: UUID
    title: str
    description: str | None
    is_completed: bool
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Meta(BaseModel):
    request_id: str


class PageMeta(Meta):
    limit: int
    next_cursor: str | None


class TaskAnswer(BaseModel):
    data: TaskRead
    meta: Meta


class PageAnswer(BaseModel):
    data: list[TaskRead]
    meta: PageMeta
