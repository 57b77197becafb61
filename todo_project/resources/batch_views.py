"""The batch route: reads operations, and answers what became of each. batch.py does them."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast
from uuid import UUID

import orjson
from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from uuid_utils.compat import uuid7

from todo_project import metrics
from todo_project.api.envelope import json_response
from todo_project.api.errors import BatchFailed, KeyReused
from todo_project.api.limits import admit, count
from todo_project.api.serializers import ApiErrorField, BooleanField, StrictSerializer, StringField
from todo_project.api.views import read_uuid, validated

from .base import OwnedView, refuse_header
from .batch import Batch, End, Operation, Performed
from .idempotency import Key, fingerprint, read_key
from .parameters import chosen_id
from .preconditions import expected_version
from .resource import RESOURCES, KindField, Resource, ResourceField

_DEFAULT_KIND = "task"
_WRITES = ("create", "update", "delete", "restore")
_VERSION_MAX = 2**63 - 1  # PostgreSQL's bigint


class OperationNameField(StringField):
    """What an operation does: what can be done with everything, or a command of some resource."""

    default_error_messages: ClassVar = {"invalid_choice": "Not a valid choice. Valid: {names}."}

    @property
    def names(self) -> Sequence[str]:
        commands = {name for resource in RESOURCES.values() for name in resource.commands}
        return (*_WRITES[:2], *sorted(commands), *_WRITES[2:])

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if name not in self.names:
            self.fail("invalid_choice", names=", ".join(self.names))
        return name


class VersionNumberField(serializers.IntegerField):
    """A version, as answers have it."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class DataField(serializers.Field[Any, Any, Any, Any]):
    """A JSON object."""

    default_error_messages: ClassVar = {"invalid": "Must be an object."}

    def to_internal_value(self, data: Any) -> Mapping[str, Any]:
        if not isinstance(data, dict):
            self.fail("invalid")
        return cast("Mapping[str, Any]", data)

    def to_representation(self, value: Any) -> Any:
        return value


class OperationSerializer(StrictSerializer):
    """One write of a batch."""

    examples: ClassVar = {"op": "create", "data": {"title": "Buy milk"}}

    op = OperationNameField(help_text="What to do.")
    type = KindField(required=False, help_text=f"With what. Left out: `{_DEFAULT_KIND}`.")
    id = StringField(
        required=False,
        help_text="Of what is there; of what is created, where you choose it: any UUID.",
    )
    if_version = VersionNumberField(
        required=False,
        min_value=0,
        max_value=_VERSION_MAX,
        help_text="Do it only where the version is still this one; like If-Match.",
    )
    data = DataField(required=False, help_text="As the body of the operation's own route.")  # type: ignore[assignment]


class OperationsField(serializers.Field[Any, Any, Any, Any]):
    """Some operations, each read strictly. A fault names the operation by its number, from 0."""

    default_error_messages: ClassVar = {
        "invalid": "Must be a list of operations.",
        "empty": "Send at least one operation.",
        "max_length": "Send at most {most} operations at once.",
    }

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list):
            self.fail("invalid")
        if not data:
            self.fail("empty")
        if len(data) > settings.BATCH_OPERATIONS_MAX:
            self.fail("max_length", most=settings.BATCH_OPERATIONS_MAX)
        read, faults = [], []
        for index, sent in enumerate(data):
            if not isinstance(sent, dict):
                faults.append(_numbered(index, ErrorDetail("Must be an object.", "invalid")))
                continue
            try:
                read.append(_shaped(validated(OperationSerializer, sent)))
            except ValidationError as error:
                detail = cast("Mapping[str, Sequence[ErrorDetail]]", error.detail)
                faults += [
                    _numbered(index, fault, field)
                    for field, found in detail.items()
                    for fault in found
                ]
        if faults:
            raise ValidationError(faults)
        return read

    def to_representation(self, value: Any) -> Any:
        return value


class BatchSerializer(StrictSerializer):
    """Writes that are done together."""

    examples: ClassVar = {"operations": [OperationSerializer.examples], "atomic": True}

    operations = OperationsField(help_text="In the order in which they are to be done.")
    atomic = BooleanField(
        required=False,
        help_text="`true`, also where it is left out: all are done, or none. `false`: those that "
        "can be done are.",
    )


class OutcomeSerializer(StrictSerializer):
    """What became of an operation: `data`, or `error` where it was not done."""

    may_lack = frozenset({"data", "error"})

    status = serializers.IntegerField(help_text="As its own route would answer.")
    data = ResourceField(allow_null=True, required=False, help_text="As it is now.")  # type: ignore[assignment]
    error = ApiErrorField(required=False, help_text="As its own route would say.")


class BatchView(OwnedView):
    """Many writes in one request."""

    body_serializers: ClassVar = {"post": BatchSerializer}
    body_max_bytes = settings.MAX_BATCH_BODY_BYTES
    keyed = frozenset({"post"})
    zoned = frozenset({"post"})

    @extend_schema(operation_id="batch", responses={200: OutcomeSerializer(many=True), 409: None})
    def post(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Do up to 100 writes at once.

        They are done in their order, in one transaction. Where `atomic` is true, which it is if you
        leave it out, one that fails undoes them all: 409, and `details.operations` names each that
        failed. Where it is false the others stand. Each counts as a write.
        """
        for header in ("If-Match", "If-None-Match"):
            if f"HTTP_{header.upper().replace('-', '_')}" in request.META:
                raise refuse_header(header, "Send if_version with the operations that need it.")
        operations = _operations(self.body["operations"], request.META)
        counter = self.counter
        if counter is not None and counter.rate.limit < len(operations):
            message = f"At most {counter.rate.limit} writes are let through at once here."
            raise ValidationError({"operations": [ErrorDetail(message, code="max_length")]})
        key = self._key()
        performed = Batch(
            self.caller,
            counter,
            operations,
            self.body.get("atomic", True),
            settings.BATCH_ANSWER_BYTES_MAX,
            key,
        ).perform()
        if performed.end in (End.UNKNOWN, End.GONE):
            raise self.caller.refusal()
        self.is_settled = True
        if performed.usage is not None:
            admit(request, performed.usage)
        if performed.end in (End.UNDONE, End.TOO_LONG) and counter is not None:
            # What was counted was taken back with the rest.
            admit(request, count(counter, tries=len(operations)))
        match performed.end:
            case End.UNDONE:
                raise BatchFailed(orjson.Fragment(performed.answer))
            case End.TOO_LONG:
                raise _too_long()
            case End.REPLAYED:
                return self._replayed(performed, key)
        return json_response(request, orjson.Fragment(performed.answer))

    def _replayed(self, performed: Performed, key: Key | None) -> HttpResponse:
        replay = performed.replay
        assert key is not None
        assert replay is not None
        assert replay.body is not None
        if replay.fingerprint != key.fingerprint:
            raise KeyReused()
        metrics.REPLAYS.add()
        headers = {"Idempotent-Replayed": "true"}
        return json_response(self.request, orjson.Fragment(replay.body), headers=headers)

    def _key(self) -> Key | None:
        text = read_key(self.request)
        if text is None:
            return None
        request_print = fingerprint("batch", "", self.parameters, self.request.data)
        return Key(text, request_print, status.HTTP_200_OK)


def _numbered(index: int, fault: ErrorDetail, field: str = "") -> ErrorDetail:
    place = f"Operation {index}" + (f", {field}" if field else "")
    return ErrorDetail(f"{place}: {fault}", code=fault.code)


def _resource(sent: Mapping[str, Any]) -> Resource:
    return RESOURCES[sent.get("type", _DEFAULT_KIND)]


def _shaped(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is sent, if it fits the operation. Raises ValidationError."""
    name, resource = sent["op"], _resource(sent)
    faults: dict[str, list[ErrorDetail]] = {}
    if name not in (*_WRITES, *resource.commands):
        faults["op"] = [ErrorDetail(f"There is no such thing with a {resource.name}.", "invalid")]
    if name == "create" and "if_version" in sent:
        message = "There is nothing yet that could have it. Leave it out."
        faults["if_version"] = [ErrorDetail(message, "not_supported")]
    if name != "create" and "id" not in sent:
        faults["id"] = [ErrorDetail("Name the id of what this is done to.", "required")]
    if name in ("create", "update") and "data" not in sent:
        faults["data"] = [ErrorDetail("This field is required.", "required")]
    if name in ("delete", "restore") and sent.get("data"):
        faults["data"] = [ErrorDetail("This operation takes none.", "unknown")]
    if faults:
        raise ValidationError(faults)
    return sent


def _operations(
    sent: Sequence[Mapping[str, Any]], headers: Mapping[str, Any]
) -> Sequence[Operation]:
    """What is to be done. Raises ValidationError of headers, which are the same for all."""
    for resource in RESOURCES.values():
        resource.with_derived({}, headers)
    return [_operation(each, headers) for each in sent]


def _operation(sent: Mapping[str, Any], headers: Mapping[str, Any]) -> Operation:
    """What is to be done, or the fault of its data, as its own route would say."""
    name, resource = sent["op"], _resource(sent)
    versions = expected_version(sent["if_version"]) if "if_version" in sent else None
    try:
        row_id = _row_id(name, sent)
        values = resource.with_derived(_values(name, resource, sent.get("data", {})), headers)
    except ValidationError as error:
        return Operation(name, resource, None, {}, fault=error)
    return Operation(name, resource, row_id, values, versions)


def _row_id(name: str, sent: Mapping[str, Any]) -> UUID | None:
    if "id" not in sent:
        return uuid7()
    return chosen_id(sent["id"]) if name == "create" else read_uuid(sent["id"])


def _values(name: str, resource: Resource, data: Mapping[str, Any]) -> Mapping[str, Any]:
    if name in resource.commands:
        command = resource.commands[name]
        return command.values(validated(command.serializer_class, data, is_partial=True))
    if name in ("create", "update"):
        return validated(resource.serializer_class, data, is_partial=name == "update")
    return {}


def _too_long() -> ValidationError:
    most = settings.BATCH_ANSWER_BYTES_MAX // 1024 // 1024
    message = f"The answer would have more than {most} MiB. Send fewer operations at once."
    return ValidationError({"operations": [ErrorDetail(message, code="max_length")]})
