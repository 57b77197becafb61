"""What can be done with a resource: one ViewSet, which sees nobody's rows but the caller's."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

import orjson
from django.db import IntegrityError
from django.http import HttpResponse
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet
from uuid_utils.compat import uuid7

from todo_project.api.envelope import empty_response, json_response
from todo_project.api.errors import NoStrongTag, PreconditionFailed
from todo_project.api.serializers import QuerySerializer
from todo_project.api.views import read_uuid

from . import reads, writes
from .base import OwnedView, not_modified, refuse_header, tag_headers
from .idempotency import Key, fingerprint, read_key
from .pages import PATH_PREFIX, CursorCodec, next_link
from .parameters import FlagField, chosen_id, page_binding
from .preconditions import ANY, expected_versions, known_tags
from .resource import Resource, constraint_of
from .schema import OwnedSchema
from .statement import Work
from .writes import NO_TERMS, Terms, Written

# The headers by which a write has terms, as WSGI has them.
_ASKING = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IDEMPOTENCY_KEY")


class DeletionQuery(QuerySerializer):
    """The query parameters of a deletion."""

    permanent = FlagField(
        default=False, help_text="`true`: for good, from the trash as well, and not into it."
    )


class OwnedViewSet(OwnedView, ViewSet):
    """Lists, reads and writes the caller's own rows of a resource, which subclasses name.

    reads.py and writes.py have the statements; what they give is what the serializer would.
    """

    resource: ClassVar[Resource]
    schema = OwnedSchema()
    has_etag = frozenset({"list", "retrieve", "create", "update", "partial_update", "restore"})
    conditional = frozenset({"update", "partial_update", "destroy", "restore"})
    keyed = frozenset({"create", "update", "partial_update", "destroy", "restore"})

    def __init_subclass__(cls, **options: Any) -> None:
        """Derives the tables of serializers from the resource; subclasses may name more."""
        super().__init_subclass__(**options)
        serializer, commands = cls.resource.serializer_class, cls.resource.commands
        bodies = dict.fromkeys(("create", "update", "partial_update"), serializer)
        of_commands = {name: command.serializer_class for name, command in commands.items()}
        cls.body_serializers = {
            **bodies,
            **of_commands,
            **cls.__dict__.get("body_serializers", {}),
        }
        cls.has_etag, cls.conditional, cls.keyed = (
            table | commands.keys() for table in (cls.has_etag, cls.conditional, cls.keyed)
        )
        cls.query_serializers = {
            "list": cls.resource.query_serializer,
            "destroy": DeletionQuery,
            **cls.__dict__.get("query_serializers", {}),
        }

    def list(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """List your {things}, page by page."""
        cursors = CursorCodec(self.query["ordering"], page_binding(self.query, self.caller.user_id))
        position, known = self.position(cursors), known_tags(request)
        page = reads.fetch_page(self.caller, self.resource, self.query, position, known)
        tag = f"W/{page.tag}"
        if page.is_known:
            return not_modified(tag)
        meta: dict[str, Any] = {"limit": self.query["limit"], "next_cursor": None}
        headers = tag_headers(tag)
        if page.has_more:
            next_cursor = cursors.encode(orjson.loads(page.rows[-1]))
            meta["next_cursor"] = next_cursor
            headers["Link"] = next_link(self.list_path, self.parameters, next_cursor)
        if page.total is not None:
            meta["total"] = page.total
        rows = [orjson.Fragment(row) for row in page.rows]
        return json_response(request, rows, meta=meta, headers=headers)

    def create(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Create a {thing}."""
        return self._create(uuid7())

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Read a {thing}."""
        row = reads.fetch(self.caller, self.resource, self.row_id, known_tags(request))
        if row is None:
            self.is_settled = True
            raise NotFound()
        if row.json is None:
            return not_modified(row.tag)
        return json_response(request, orjson.Fragment(row.json), headers=tag_headers(row.tag))

    def update(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Replace a {thing}, or create it under an id that you choose.

        A field that is left out keeps its value. With `If-None-Match: *` it is created.
        """
        if "HTTP_IF_NONE_MATCH" in request.META:
            return self._create_at_chosen_id()
        return self.change(self.body)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Change the fields that are sent."""
        return self.change(self.body)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Delete a {thing}: into the trash, from which it can be restored for 30 days."""
        terms = self._terms(status.HTTP_204_NO_CONTENT)
        written = self.write(self.deletion(), {"id": self.row_id}, terms)
        return self.replayed(written) or empty_response()

    @action(detail=True, methods=["post"])
    def restore(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Take a {thing} out of the trash, as it was. One that isn't there stays as it is."""
        return self.bring_back()

    @property
    def row_id(self) -> UUID | None:
        """The id in the path; None, which no row has, for what is none."""
        return read_uuid(self.kwargs[self._id_name])

    @property
    def _id_name(self) -> str:
        return f"{self.resource.name}_id"

    @property
    def list_path(self) -> str:
        return f"{self.own_path}/{self.resource.segment}"

    def require_object(self) -> None:
        if self._id_name not in self.kwargs or self._chooses_id():
            return
        rows = self.resource.model._default_manager.filter(
            pk=self.row_id, user_id=self.caller.user_id
        )
        is_purge = vars(self).get("query", {}).get("permanent", False)
        if self.operation != "restore" and not is_purge:
            rows = rows.filter(deleted_at=None)
        if self.row_id is None or not rows.exists():
            raise NotFound()

    def deletion(self) -> Work:
        """What DELETE does, as its query has it."""
        work = writes.purge if self.query["permanent"] else writes.trashing
        return work(self.resource)

    def bring_back(self) -> HttpResponse:
        """Takes the row in the path out of the trash."""
        work = writes.restoration(self.resource)
        written = self.write(work, {"id": self.row_id}, self._terms(status.HTTP_200_OK))
        return self._answer_row(written)

    def change(self, changes: Mapping[str, Any]) -> HttpResponse:
        """Changes some fields of the row in the path."""
        changes = self.resource.with_derived(changes, self.request.META)
        work = writes.change(self.resource, self.resource.changed_fields(changes))
        values = {**changes, "id": self.row_id}
        return self._answer_row(self.write(work, values, self._terms(status.HTTP_200_OK)))

    def command(self, name: str) -> HttpResponse:
        """Does the resource's command of this name to the row in the path."""
        command = self.resource.commands[name]
        values = command.values(self.body)
        if command.work is None:
            return self.change(values)
        work, values = command.work(values), {**values, "id": self.row_id}
        return self._answer_row(self.write(work, values, self._terms(status.HTTP_200_OK)))

    def write(self, work: Work, parameters: Mapping[str, Any], terms: Terms) -> Written:
        try:
            return super().write(work, parameters, terms)
        except IntegrityError as error:
            raise self._refusal(error) from None

    def _create(self, row_id: UUID) -> HttpResponse:
        location = f"{self.list_path}/{row_id}"
        terms = self._terms(status.HTTP_201_CREATED, location)
        work = writes.creation(self.resource, at_chosen_id=self._chooses_id())
        written = self.resource.with_derived(self.body, self.request.META)
        values = {**self.resource.defaults, **written, "id": row_id}
        created = self.write(work, values, terms)
        return self._answer_row(created, status.HTTP_201_CREATED, location)

    def _create_at_chosen_id(self) -> HttpResponse:
        """PUT with `If-None-Match: *`."""
        if not self._chooses_id():
            raise refuse_header("If-None-Match", "A PUT takes no other than `*`, to create.")
        if "HTTP_IF_MATCH" in self.request.META:
            raise refuse_header("If-Match", "Send either If-Match or If-None-Match.")
        return self._create(chosen_id(self.kwargs[self._id_name]))

    def nothing_written(self, written: Written, terms: Terms) -> Exception:
        if written.current is not None:
            kind = PreconditionFailed if terms.versions else NoStrongTag
            is_trashed = self.operation == "restore"  # what lives is restored already
            return kind(written.current, written.current_tag, is_trashed=is_trashed)
        if not self._chooses_id():
            return NotFound()
        # The id is taken: by the caller, or by somebody else. One query more.
        row = reads.fetch(self.caller, self.resource, self.row_id, among_trashed=True)
        if row is None:
            return writes.id_taken(None, None, is_trashed=False)
        return writes.id_taken(row.json, row.tag, is_trashed=row.is_trashed)

    def _chooses_id(self) -> bool:
        header = self.request.META.get("HTTP_IF_NONE_MATCH", "")
        return self.operation == "update" and header.strip() == ANY

    def _terms(self, success: int, location: str | None = None) -> Terms:
        """What the request's headers ask for. Raises ValidationError."""
        meta = self.request.META
        if meta.keys().isdisjoint(_ASKING):
            return NO_TERMS
        if self.operation not in self.conditional and "HTTP_IF_MATCH" in meta:
            raise refuse_header("If-Match", "There is nothing here yet that could match.")
        if "HTTP_IF_NONE_MATCH" in meta and not self._chooses_id():
            raise refuse_header("If-None-Match", "Of writes only PUT takes it, as `*`, to create.")
        versions = expected_versions(self.request)
        text = read_key(self.request)
        if text is None:
            return Terms(versions)
        row_id: object = self.kwargs.get(self._id_name, "").lower()
        name = f"{self.resource.name}.{self.operation}"
        request_print = fingerprint(name, row_id, self.parameters, self.request.data)
        return Terms(versions, Key(text, request_print, success, location))

    def _answer_row(
        self, written: Written, success: int = status.HTTP_200_OK, location: str | None = None
    ) -> HttpResponse:
        replayed = self.replayed(written)
        if replayed is not None:
            return replayed
        assert written.json is not None
        assert written.tag is not None
        headers = tag_headers(written.tag)
        if location is not None:
            headers["Location"] = f"{PATH_PREFIX}{location}"
        return json_response(
            self.request, orjson.Fragment(written.json), status=success, headers=headers
        )

    def _refusal(self, error: IntegrityError) -> Exception:
        """What a constraint of the database says to the client."""
        if constraint_of(error) == f"{self.resource.table}_user_fk":
            return self.caller.refusal()  # the account has gone since the statement began
        return self.resource.refusal(error) or error
