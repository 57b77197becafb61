"""Reads JSON bodies strictly: what RFC 8259 leaves to the reader is refused, not guessed.

Hand-written, because no JSON library for Python refuses duplicate keys, bounds the depth and
names what is wrong at once.
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError, UnsupportedMediaType, ValidationError
from rest_framework.parsers import BaseParser

# A JSON escape of a UTF-16 surrogate: well-formed only in pairs, which json.loads does not check.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def content_length(environ: Mapping[str, Any]) -> int | None:
    """How many bytes the body is said to have: 0 without the header, None where it is no number."""
    length: str = environ.get("CONTENT_LENGTH") or "0"
    is_number = length.isascii() and length.isdigit() and len(length) <= 18
    return int(length) if is_number else None


class StrictJSONParser(BaseParser):
    """A JSON object in UTF-8; raises ParseError, or ValidationError for a key that is repeated."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        _refuse_other_charsets(media_type or "")
        try:
            # Editors write the mark, and RFC 8259, section 8.1, lets a reader skip it.
            text = stream.read().removeprefix(BOM_UTF8).decode("utf-8")
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8. Encode its text in UTF-8.") from None
        try:
            value = _decoder.decode(text)
        except RecursionError:
            raise ParseError(_TOO_DEEP) from None
        except ValueError as error:  # json.JSONDecodeError, or a number too long to be converted
            raise ParseError(f"The body is not JSON: {_reason(error)}") from None
        if not isinstance(value, dict):
            raise ParseError("The body must be a JSON object, such as {}.")
        if _depth_exceeds(value, settings.MAX_JSON_DEPTH):
            raise ParseError(_TOO_DEEP)
        if _SURROGATE_ESCAPE.search(text):
            _refuse_lone_surrogates(value)
        return value


class MergePatchParser(StrictJSONParser):
    """The same by the name that RFC 7396 has for what a PATCH of JSON does anyway; PATCH alone."""

    media_type = "application/merge-patch+json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        if (parser_context or {})["request"].method != "PATCH":
            raise UnsupportedMediaType(media_type or self.media_type)
        return super().parse(stream, media_type, parser_context)


PATCH_PARSERS: tuple[type[StrictJSONParser], ...] = (StrictJSONParser, MergePatchParser)

_TOO_DEEP = f"The body is nested too deep. At most {settings.MAX_JSON_DEPTH} levels are read."


def _refuse_other_charsets(media_type: str) -> None:
    for parameter in media_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in ("utf-8", "utf8"):
            raise UnsupportedMediaType(media_type)


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen: set[str] = set()
        repeated = {key for key, _ in pairs if key in seen or seen.add(key)}  # type: ignore[func-returns-value]
        raise ValidationError(
            {
                _printable(key): [
                    f"This key stands there more than once, give it once: {_printable(key)}"
                ]
                for key in repeated
            },
            code="duplicate_key",
        )
    return unique


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object_of_unique_keys, parse_constant=_refuse_constant
)


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})."
    if "integer string conversion" in str(error):
        return "a number has too many digits."
    return f"{error}."


def _depth_exceeds(value: object, levels: int) -> bool:
    children: Any
    match value:
        case dict():
            children = value.values()
        case list():
            children = value
        case _:
            return False
    return levels == 0 or any(_depth_exceeds(child, levels - 1) for child in children)


def _refuse_lone_surrogates(value: dict[str, Any]) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ParseError(
            "The body is not Unicode text: it has one half of a surrogate pair alone. Send both "
            "halves, or the character itself in UTF-8."
        ) from None


def _printable(key: str) -> str:
    return key.encode("utf-8", "replace").decode()
