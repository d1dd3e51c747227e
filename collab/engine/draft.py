"""The JSON body that describes a document to create, taken apart into its content and the small rest.

The only place that reads such bodies: the engine process does so with large ones, which would hold up every session of
a node, and the gateway with small ones. Standard library only, so that the gateway need not load what composes.
Whether the rest has the right fields is for `collab.server.rest` to say.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from collab.engine.port import Compose, Flaw
from collab.protocol.json_text import nests_within

MAX_REST_BYTES: Final = 64 * 1024
"""Longest rest, as JSON text in ASCII. The longest that is valid is shorter, with every character an escape."""
MAX_CONTENT_DEPTH: Final = 200
"""JSON content nested deeper is refused before it is parsed."""

_AROUND_CONTENT: Final = 2
"""Levels at which the value of the content stands in the body."""
_FIELDS: Final = frozenset({"format", "value", "root", "type"})
_FORMATS: Final = ("json", "text", "html", "markdown")
_TYPES: Final = ("xml", "text", "map", "array")
_ROOT: Final = re.compile(r"[^\ud800-\udfff]{1,200}")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a body was taken apart into."""

    rest: bytes = b""
    """As in `Drafted`."""
    content: Compose | None = None
    """None when there is none, when its fields are not those of content, and when ``flaw`` says what is wrong."""
    flaw: Flaw | None = None


def take_apart(body: bytes) -> Parts:
    """Take ``body`` apart, in time linear in its length; it may be anything."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _misshapen("must be JSON text in UTF-8")
    if not text:
        return _misshapen("Field required")
    if not nests_within(body, MAX_CONTENT_DEPTH + _AROUND_CONTENT):
        return _misshapen(f"must not nest deeper than {MAX_CONTENT_DEPTH} levels")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return _misshapen("JSON decode error", str(error.pos))
    except ValueError:
        return _misshapen("must not hold numbers of so many digits")
    content = value.get("content") if isinstance(value, dict) else None
    if isinstance(content, dict) and "value" in content:
        value = {**value, "content": {**content, "value": None}}
    rest = json.dumps(value).encode()
    if len(rest) > MAX_REST_BYTES:
        return Parts(flaw=Flaw("size", "The body holds too much beside the content."))
    if not isinstance(content, dict) or not _is_content(content):
        return Parts(rest)
    try:
        return Parts(rest, Compose(_encoded(content), content["format"], content.get("root"), content.get("type")))
    except ValueError as error:
        return Parts(rest, flaw=Flaw("form", str(error), "content"))


def _misshapen(what: str, where: str = "") -> Parts:
    return Parts(flaw=Flaw("form", what, where))


def _is_content(content: dict[str, Any]) -> bool:
    """Whether the fields are those of content, with nothing said of the value."""
    root, kind = content.get("root"), content.get("type")
    return (
        "value" in content
        and content.keys() <= _FIELDS
        and content.get("format") in _FORMATS
        and (root is None or (isinstance(root, str) and _ROOT.fullmatch(root) is not None))
        and (kind is None or kind in _TYPES)
    )


def _encoded(content: dict[str, Any]) -> bytes:
    """UTF-8 of the value, as `Compose` wants it."""
    value = content["value"]
    if content["format"] == "json":
        return encoded_json(value, MAX_CONTENT_DEPTH)
    if not isinstance(value, str):
        raise ValueError("value must be a string")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("value holds half a surrogate pair") from error


def encoded_json(value: Any, depth: int) -> bytes:
    """``value`` as JSON text in UTF-8. Raises `ValueError` with a reason when not every reader can take it."""
    try:
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # NaN, lone surrogates, or nested past what can be walked
        raise ValueError("is not JSON that every reader understands") from error
    if not nests_within(encoded, depth):
        raise ValueError(f"must not nest deeper than {depth} levels")
    return encoded
