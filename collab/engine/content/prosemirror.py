"""XML shared types as ProseMirror JSON, in the encoding of y-prosemirror 1.3 and @tiptap/y-tiptap 3.0.

An element is a node, its attributes the node's; neighbouring text nodes are one XmlText, whose formatting attributes
are marks: name -> attrs. Several marks of one type on one text are stored as ``name--hash``.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any, Final

from collab.engine.content.encoding import write_any
from collab.engine.content.model import ELEMENT, FRAGMENT, MAX_DEPTH, XMLTEXT, Embed, Marks, Node, Run
from collab.engine.content.plain import entries, jsonable
from collab.engine.content.wire import clean
from collab.errors import InvalidContent

_HASHED_MARK: Final = re.compile(r"(.*)(--[a-zA-Z0-9+/=]{8})$", re.DOTALL)

_NOT_STORED: Final = "ychange"
"""y-prosemirror's own marking of what changed between versions; never content."""


def to_prosemirror(root: Node) -> dict[str, Any]:
    """The document node of a fragment."""
    return {"type": "doc", "content": _content(root)}


def _content(node: Node) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for child in node.children:
        if isinstance(child, Run):
            content.append(_text(child))
        elif isinstance(child, Embed):
            content.append({"type": "embed", "attrs": {"value": jsonable(child.value)}})
        elif isinstance(child, Node) and child.kind in (XMLTEXT, FRAGMENT):
            content.extend(_content(child))
        elif isinstance(child, Node):
            content.append(_element(child))
    return content


def _element(node: Node) -> dict[str, Any]:
    element: dict[str, Any] = {"type": node.name}
    if node.attrs:
        element["attrs"] = entries(node)
    content = _content(node)
    if content:
        element["content"] = content
    return element


def _text(run: Run) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "text", "text": run.text}
    if run.marks:
        text["marks"] = [{"type": mark_name(key), "attrs": jsonable(attrs)} for key, attrs in run.marks.items()]
    return text


def mark_name(key: str) -> str:
    """The mark's name without the hash that tells overlapping ones apart."""
    match = _HASHED_MARK.fullmatch(key)
    return match[1] if match else key


def from_prosemirror(document: Any) -> Node:
    """The fragment for a document node, one node, or a list of nodes. Raises `InvalidContent`."""
    if isinstance(document, dict) and document.get("type") == "doc":
        document = document.get("content") or []
    nodes = document if isinstance(document, list) else [document]
    return Node(FRAGMENT, children=[*_children(nodes, 1)])


def _children(nodes: Any, depth: int) -> list[Node]:
    if depth > MAX_DEPTH:
        raise InvalidContent(f"the content nests more than {MAX_DEPTH} levels")
    if not isinstance(nodes, list):
        raise InvalidContent("the content of a node must be a list of nodes")
    children: list[Node] = []
    for node in nodes:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str) or not node["type"]:
            raise InvalidContent("every node must be an object with a type")
        if node["type"] != "text":
            attrs = _attributes(node)
            inside = _children(node.get("content") or [], depth + 1)
            children.append(Node(ELEMENT, clean(node["type"]), attrs, [*inside]))
        elif not isinstance(node.get("text"), str):
            raise InvalidContent("a text node must have a text")
        elif node["text"]:
            run = Run(clean(node["text"]), _marks(node.get("marks") or []))
            if not children or children[-1].kind != XMLTEXT:
                children.append(Node(XMLTEXT))
            _join(children[-1], run)
    return children


def _join(text: Node, run: Run) -> None:
    last = text.children[-1] if text.children else None
    if isinstance(last, Run) and last.marks == run.marks:
        last.text += run.text
    else:
        text.children.append(run)


def _attributes(node: dict[str, Any]) -> dict[str, Any]:
    attrs = {} if node.get("attrs") is None else node["attrs"]
    if not isinstance(attrs, dict):
        raise InvalidContent("the attributes of a node must be an object")
    # null means "not set" to the editors' bindings, which never store it.
    return {clean(key): value for key, value in attrs.items() if value is not None and key != _NOT_STORED}


def _marks(marks: Any) -> Marks:
    if not isinstance(marks, list):
        raise InvalidContent("the marks of a text must be a list")
    named: list[tuple[str, Any]] = []
    for mark in marks:
        if not isinstance(mark, dict) or not isinstance(mark.get("type"), str) or not mark["type"]:
            raise InvalidContent("every mark must be an object with a type")
        attrs = {} if mark.get("attrs") is None else mark["attrs"]
        if not isinstance(attrs, dict):
            raise InvalidContent("the attributes of a mark must be an object")
        if mark["type"] != _NOT_STORED:
            named.append((clean(mark["type"]), attrs))
    names = [name for name, _ in named]
    return {(f"{name}--{_hash(name, attrs)}" if names.count(name) > 1 else name): attrs for name, attrs in named}


def _hash(name: str, attrs: dict[str, Any]) -> str:
    """What the bindings append to an overlapping mark: 48 bits of a SHA-256 of its JSON in lib0's encoding."""
    digest = bytearray(sha256(write_any({"type": name} | ({"attrs": attrs} if attrs else {}))).digest())
    for index in range(6, len(digest)):
        digest[index % 6] ^= digest[index]
    return b64encode(digest[:6]).decode()
