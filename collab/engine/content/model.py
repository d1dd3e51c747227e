"""Content apart from its history: what a shared type holds, read from a replica and written as new structs.

Every format is converted from or to this model. It knows no editor: `prosemirror.py` and `plain.py` do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, TypeAlias

from collab.engine.content.encoding import Encoder, write_any, write_json, write_string, write_uint
from collab.engine.content.replica import Replica, Shared
from collab.engine.content.wire import (
    ANY,
    ARRAY,
    BINARY,
    ELEMENT,
    EMBED,
    FORMAT,
    FRAGMENT,
    HOOK,
    JSON,
    MAP,
    STRING,
    SUBDOC,
    TEXT,
    TYPE,
    UNDEFINED,
    XMLTEXT,
    Id,
    Opaque,
    Struct,
    clean,
    utf16_length,
)
from collab.errors import InvalidContent

MAX_DEPTH: Final = 200
"""Levels of nodes in one document. Guessed; editors stay below thirty, and Python recurses to a thousand."""

MAX_PIECES: Final = 200_000
"""Lines of text or Markdown, and elements of HTML, of which one document is made. Guessed: a thick book has 20,000.
They become four structs each and take up to 17 s (Markdown, measured): within what updates and the engine may."""

Marks: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Run:
    """A string with the formatting it stands under."""

    text: str
    marks: Marks = field(default_factory=dict)


@dataclass(slots=True)
class Embed:
    """A JSON value inside a text."""

    value: Any
    marks: Marks = field(default_factory=dict)


@dataclass(slots=True)
class Value:
    """One element of an array: a JSON value, bytes, or `Opaque`."""

    value: Any


@dataclass(slots=True)
class Node:
    """A shared type. ``kind`` is a type reference of `wire`, or None for a root."""

    kind: int | None
    name: str = ""
    attrs: dict[str, Any] = field(default_factory=dict)
    """Map entries and XML attributes: a `Node`, or a value as in `Value`."""
    children: list[Run | Embed | Value | Node] = field(default_factory=list)
    marks: Marks = field(default_factory=dict)
    """The formatting this node stands under when it is embedded in a text."""


def read_roots(replica: Replica) -> dict[str, Node]:
    """Every root by name, empty ones included."""
    return {name: read(shared) for name, shared in replica.roots.items()}


def read(shared: Shared, depth: int = 0) -> Node:
    """The content of ``shared``. Raises `InvalidContent` past `MAX_DEPTH`."""
    if depth > MAX_DEPTH:
        raise InvalidContent(f"the document nests more than {MAX_DEPTH} levels")
    node = Node(shared.kind, shared.name)
    for key, item in shared.entries.items():
        if not item.deleted:
            node.attrs[key] = _value(item, depth)
    marks: Marks = {}
    at = shared.start
    while at is not None:
        if not at.deleted:
            if at.ref == FORMAT:
                marks = apply_format(marks, at)
            elif at.ref == TYPE:
                child = read(at.content, depth + 1)
                child.marks = marks
                node.children.append(child)
            else:
                _append(node.children, at, marks)
        at = at.right
    return node


def apply_format(marks: Marks, item: Struct) -> Marks:
    """The formatting that holds after a format item; ``marks`` itself is shared and stays as it is."""
    key, value = item.content
    changed = {name: old for name, old in marks.items() if name != key}
    if value is not None:
        changed[key] = value
    return changed


def _append(children: list[Run | Embed | Value | Node], item: Struct, marks: Marks) -> None:
    if item.ref == STRING:
        last = children[-1] if children else None
        if isinstance(last, Run) and (last.marks is marks or last.marks == marks):
            last.text += item.content
        else:
            children.append(Run(item.content, marks))
    elif item.ref == EMBED:
        children.append(Embed(item.content, marks))
    elif item.ref in (ANY, JSON):
        children.extend(Value(value) for value in item.content)
    else:
        children.append(Value(item.content))


def _value(item: Struct, depth: int) -> Any:
    if item.ref == TYPE:
        return read(item.content, depth + 1)
    if item.ref in (ANY, JSON):
        return item.content[-1]
    return item.content


def fingerprint(thing: Any) -> bytes:
    """Bytes equal for equal content: of a `Node`, another child, or a plain value. The order of keys does not count."""
    if isinstance(thing, Node):
        digest = sha256(repr((thing.kind, thing.name)).encode())
        for key in sorted(thing.attrs):
            digest.update(fingerprint(key) + fingerprint(thing.attrs[key]))
        for child in thing.children:
            digest.update(fingerprint(child))
        digest.update(_marks_key(thing.marks).encode())
        return digest.digest()
    if isinstance(thing, Run):
        text = ("run", thing.text, _marks_key(thing.marks))
    elif isinstance(thing, Embed):
        text = ("embed", canonical(thing.value), _marks_key(thing.marks))
    else:
        text = ("value", canonical(thing.value if isinstance(thing, Value) else thing), "")
    return sha256(repr(text).encode("utf-8", "surrogatepass")).digest()


def canonical(value: Any) -> str:
    """One text for equal JSON values, with bytes, undefined and subdocuments told apart."""
    return json.dumps(value, sort_keys=True, default=lambda odd: {"\0": repr(odd)})


def _marks_key(marks: Marks) -> str:
    return canonical(marks) if marks else ""


def write_root(encoder: Encoder, name: str, node: Node) -> None:
    """Write all of ``node`` into the empty root ``name``."""
    write_entries(encoder, name, node)
    write_children(encoder, name, node.children)


def write_entries(encoder: Encoder, parent: str | Id, node: Node) -> None:
    """Write the map entries of ``node`` into a shared type that has none of these keys."""
    for key, value in node.attrs.items():
        write_entry(encoder, parent, key, value, None)


def write_entry(encoder: Encoder, parent: str | Id, key: str, value: Any, origin: Id | None) -> None:
    """Write one map entry; ``origin`` is the last item that ever stood under ``key``, which this one replaces."""
    if isinstance(value, Node):
        identifier = encoder.item(TYPE, _type_body(value), parent=parent, sub=key, origin=origin)
        _write_inside(encoder, identifier, value)
    else:
        ref, body = _plain_body(value)
        encoder.item(ref, body, parent=parent, sub=key, origin=origin)


def write_children(
    encoder: Encoder,
    parent: str | Id,
    children: list[Run | Embed | Value | Node],
    *,
    origin: Id | None = None,
    right_origin: Id | None = None,
    before: Marks | None = None,
    after: Marks | None = None,
) -> None:
    """Write ``children`` between two neighbours (None: the start, the end).

    ``before`` is the formatting that holds at that place and ``after`` the one that must hold behind it; both are
    empty for a new type.
    """
    marks = dict(before or {})

    def put(ref: int, body: bytes, length: int = 1) -> Id:
        nonlocal origin
        origin = encoder.item(ref, body, length=length, parent=parent, origin=origin, right_origin=right_origin)
        return origin

    def turn(wanted: Marks) -> None:
        for key in [key for key in marks if key not in wanted]:
            del marks[key]
            put(FORMAT, write_string(key) + write_json(None))
        for key, value in wanted.items():
            if key not in marks or canonical(marks[key]) != canonical(value):
                marks[key] = value
                put(FORMAT, write_string(key) + write_json(value))

    for child in children:
        if isinstance(child, Value):
            put(*_plain_body(child.value))
            continue
        turn(child.marks)
        if isinstance(child, Node):
            _write_inside(encoder, put(TYPE, _type_body(child)), child)
        elif isinstance(child, Embed):
            put(EMBED, write_json(child.value))
        elif child.text:
            text = clean(child.text)
            put(STRING, write_string(text), utf16_length(text))
    turn(after or {})


def _write_inside(encoder: Encoder, identifier: Id, node: Node) -> None:
    write_entries(encoder, identifier, node)
    write_children(encoder, identifier, node.children)


def _type_body(node: Node) -> bytes:
    kind = MAP if node.kind is None else node.kind
    return write_uint(kind) + (write_string(node.name) if kind in (ELEMENT, HOOK) else b"")


def _plain_body(value: Any) -> tuple[int, bytes]:
    if isinstance(value, bytes):
        return BINARY, write_uint(len(value)) + value
    if isinstance(value, Opaque):
        return value.ref, value.raw
    return ANY, b"\x01" + write_any(value)


__all__ = [
    "ARRAY", "ELEMENT", "FRAGMENT", "HOOK", "MAP", "MAX_DEPTH", "SUBDOC", "TEXT", "UNDEFINED", "XMLTEXT",
    "Embed", "Marks", "Node", "Run", "Value",
    "apply_format", "canonical", "fingerprint", "read", "read_roots",
    "write_children", "write_entries", "write_entry", "write_root",
]  # fmt: skip
