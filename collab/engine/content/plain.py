"""Shared types as plain JSON: maps, arrays, and texts as Quill deltas; and the same JSON as shared types.

What JSON cannot say: bytes become base64 strings, undefined and subdocuments null, NaN and infinities null.
"""

from __future__ import annotations

import json
from base64 import b64encode
from math import isfinite
from typing import Any

from collab.engine.content.model import ARRAY, ELEMENT, FRAGMENT, HOOK, MAP, TEXT, UNDEFINED, Embed, Node, Run, Value
from collab.engine.content.wire import Opaque, clean
from collab.errors import InvalidContent


def load(content: bytes) -> Any:
    """Parse JSON text. Raises `InvalidContent`."""
    try:
        return json.loads(content.decode())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidContent("the content is not JSON text in UTF-8") from error


def dump(value: Any) -> bytes:
    """JSON text in UTF-8, whatever characters are in it."""
    return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()


def jsonable(value: Any) -> Any:
    """A value, or a `Node`, in terms JSON has."""
    if isinstance(value, dict):
        return {key: jsonable(entry) for key, entry in value.items() if entry is not UNDEFINED}
    if isinstance(value, list):
        return [jsonable(entry) for entry in value]
    if isinstance(value, Node):
        return _node(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if value is UNDEFINED or isinstance(value, Opaque) or (isinstance(value, float) and not isfinite(value)):
        return None
    return value


def _node(node: Node) -> Any:
    if node.kind == MAP:
        return entries(node)
    if node.kind == ARRAY:
        return elements(node)
    if node.kind in (ELEMENT, FRAGMENT, HOOK):
        return {"type": node.name or "fragment", "attrs": entries(node), "content": elements(node)}
    if not node.attrs and all(isinstance(child, Run) and not child.marks for child in node.children):
        return string(node)
    return ({"attrs": entries(node)} if node.attrs else {}) | delta(node)


def entries(node: Node) -> dict[str, Any]:
    """The map side of a shared type."""
    return {key: jsonable(value) for key, value in node.attrs.items() if value is not UNDEFINED}


def elements(node: Node) -> list[Any]:
    """The sequence side of a shared type, one element each."""
    return [
        child.text if isinstance(child, Run) else jsonable(child if isinstance(child, Node) else child.value)
        for child in node.children
    ]


def string(node: Node) -> str:
    """Only the characters of a text."""
    return "".join(child.text for child in node.children if isinstance(child, Run))


def delta(node: Node) -> dict[str, Any]:
    """A text as a Quill delta: ``{"ops": [{"insert": ..., "attributes": {...}}]}``."""
    ops = []
    for child in node.children:
        if isinstance(child, Run):
            op: dict[str, Any] = {"insert": child.text}
        else:
            op = {"insert": jsonable(child if isinstance(child, Node) else child.value)}
        if not isinstance(child, Value) and child.marks:
            op["attributes"] = jsonable(child.marks)
        ops.append(op)
    return {"ops": ops}


def from_delta(ops: Any) -> Node:
    """The text a Quill delta of inserts describes. Raises `InvalidContent` for anything else."""
    node = Node(TEXT)
    for op in ops if isinstance(ops, list) else [None]:
        if not isinstance(op, dict) or "insert" not in op:
            raise InvalidContent("a delta must be a list of inserts")
        marks = {} if op.get("attributes") is None else op["attributes"]
        if not isinstance(marks, dict):
            raise InvalidContent("the attributes of a delta must be an object")
        marks = {key: value for key, value in marks.items() if value is not None}
        insert = op["insert"]
        node.children.append(Run(clean(insert), marks) if isinstance(insert, str) else Embed(insert, marks))
    return node


def from_entries(value: Any) -> Node:
    """A map whose entries are the members of a JSON object; what nests inside stays a plain value."""
    if not isinstance(value, dict):
        raise InvalidContent("a map is made from a JSON object")
    return Node(MAP, attrs=dict(value))


def from_elements(value: Any) -> Node:
    """An array whose elements are those of a JSON array; what nests inside stays a plain value."""
    if not isinstance(value, list):
        raise InvalidContent("an array is made from a JSON array")
    return Node(ARRAY, children=[Value(entry) for entry in value])
