"""One shape for every writer: a ProseMirror document under Tiptap's names, whatever the editor called things.

Text, HTML and Markdown are written from this shape. Deltas, maps and arrays are brought into it here; JSON never is,
because JSON must show what is there.
"""

from __future__ import annotations

import json
from typing import Any, Final

from collab.engine.content import plain
from collab.engine.content.model import XMLTEXT, Node
from collab.engine.content.prosemirror import to_prosemirror
from collab.engine.port import RootType

_NAMES: Final[dict[str, str]] = {
    "bullet_list": "bulletList",
    "ordered_list": "orderedList",
    "list_item": "listItem",
    "task_list": "taskList",
    "task_item": "taskItem",
    "code_block": "codeBlock",
    "hard_break": "hardBreak",
    "horizontal_rule": "horizontalRule",
    "table_row": "tableRow",
    "table_cell": "tableCell",
    "table_header": "tableHeader",
    "strong": "bold",
    "em": "italic",
    "s": "strike",
    "strikethrough": "strike",
}
"""Names of prosemirror-schema-basic, prosemirror-schema-list and Quill, and Tiptap's for the same."""

_BLOCKNOTE_LISTS: Final[dict[str, str]] = {
    "bulletListItem": "bulletList",
    "numberedListItem": "orderedList",
    "checkListItem": "taskList",
}
_TRANSPARENT: Final = frozenset({"blockGroup", "blockContainer"})
_QUILL_LISTS: Final[dict[str, tuple[str, bool | None]]] = {
    "bullet": ("bulletList", None),
    "ordered": ("orderedList", None),
    "checked": ("taskList", True),
    "unchecked": ("taskList", False),
}

INLINE: Final = frozenset({"text", "hardBreak", "mention", "emoji", "embed"})
"""Nodes that stand in a line. An image stands in one when text does too."""


def as_document(root: Node, kind: RootType) -> dict[str, Any]:
    """``root`` as a document node."""
    if kind == "xml":
        return {"type": "doc", "content": _renamed(to_prosemirror(root)["content"])}
    if kind == "text":
        return {"type": "doc", "content": _blocks(root)}
    value = plain.entries(root) if kind == "map" else plain.elements(root)
    return {"type": "doc", "content": [_code(json.dumps(value, ensure_ascii=False, indent=2), "json")] if value else []}


def _code(text: str, language: str | None) -> dict[str, Any]:
    return {"type": "codeBlock", "attrs": {"language": language}, "content": [{"type": "text", "text": text}]}


def _renamed(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for node in nodes:
        inside = _renamed(node.get("content", []))
        if node["type"] in _TRANSPARENT:
            out.extend(inside)
            continue
        renamed = {**node, "type": _NAMES.get(node["type"], node["type"])}
        if inside:
            renamed["content"] = inside
        if "marks" in node:
            renamed["marks"] = [{**mark, "type": _NAMES.get(mark["type"], mark["type"])} for mark in node["marks"]]
        if renamed["type"] in _BLOCKNOTE_LISTS:
            attrs = renamed.get("attrs", {})
            _add_item(out, _BLOCKNOTE_LISTS[renamed["type"]], attrs.get("checked"), inside)
        else:
            out.append(renamed)
    return out


def _add_item(out: list[dict[str, Any]], name: str, checked: Any, line: list[dict[str, Any]]) -> None:
    """Add one line to the list at the end of ``out``, or begin one."""
    if not out or out[-1]["type"] != name:
        out.append({"type": name, "content": []})
    item: dict[str, Any] = {"type": "listItem", "content": [{"type": "paragraph", "content": line}]}
    if name == "taskList":
        item |= {"type": "taskItem", "attrs": {"checked": bool(checked)}}
    out[-1]["content"].append(item)


def _blocks(root: Node) -> list[dict[str, Any]]:
    """A text as blocks: Quill puts a line's format on the newline that ends it; embedded texts are blocks."""
    out: list[dict[str, Any]] = []
    line: list[dict[str, Any]] = []
    for child in root.children:
        if isinstance(child, Node) and child.kind == XMLTEXT:
            if line:
                _end_line(out, line, {})
                line = []
            out.extend(_blocks(child) or [{"type": "paragraph"}])
            continue
        op = plain.delta(Node(None, children=[child]))["ops"][0]
        if not isinstance(op["insert"], str):
            line.extend(_inline(op["insert"]))
            continue
        marks = op.get("attributes", {})
        first, *rest = op["insert"].split("\n")
        line.extend(_run(first, marks))
        for text in rest:
            _end_line(out, line, marks)
            line = _run(text, marks)
    if line or (not out and root.children):
        _end_line(out, line, {})
    return out


def _inline(embed: Any) -> list[dict[str, Any]]:
    if isinstance(embed, dict) and isinstance(embed.get("image"), str):
        return [{"type": "image", "attrs": {"src": embed["image"]}}]
    return []


def _run(text: str, marks: dict[str, Any]) -> list[dict[str, Any]]:
    if not text:
        return []
    named = []
    for key, value in marks.items():
        attrs = {"href": value} if key == "link" and isinstance(value, str) else value
        named.append({"type": _NAMES.get(key, key), "attrs": attrs})
    return [{"type": "text", "text": text} | ({"marks": named} if named else {})]


def _end_line(out: list[dict[str, Any]], line: list[dict[str, Any]], marks: dict[str, Any]) -> None:
    if (kind := marks.get("list")) in _QUILL_LISTS:
        name, checked = _QUILL_LISTS[kind]
        _add_item(out, name, checked, line)
    elif isinstance(level := marks.get("header"), int) and 1 <= level <= 6:
        out.append({"type": "heading", "attrs": {"level": level}, "content": line})
    elif marks.get("blockquote"):
        out.append({"type": "blockquote", "content": [{"type": "paragraph", "content": line}]})
    elif marks.get("code-block"):
        text = "".join(piece.get("text", "") for piece in line)
        if out and out[-1]["type"] == "codeBlock":
            out[-1]["content"][0]["text"] += "\n" + text
        else:
            out.append(_code(text, None))
    else:
        out.append({"type": "paragraph", "content": line})


def is_inline(nodes: list[dict[str, Any]]) -> bool:
    """Whether ``nodes`` are a line rather than blocks."""
    return any(node["type"] in INLINE for node in nodes)


def attributes(node: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a node or mark; whatever is not an object counts as none."""
    attrs = node.get("attrs")
    return attrs if isinstance(attrs, dict) else {}


def safe_url(value: Any, *, image: bool = False) -> str | None:
    """``value`` when it is a link a reader may follow: http, https, mailto or relative. None otherwise.

    Browsers drop control characters and blanks inside a scheme, so any of them refuses the whole link.
    """
    if not isinstance(value, str) or not value or any(char <= " " or "\x7f" <= char <= "\xa0" for char in value):
        return None
    if any(char in value for char in "<>\"'`\\"):
        return None
    head = value.split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]
    if ":" not in head:
        return value
    scheme = head.split(":", 1)[0].lower()
    return value if scheme in ({"http", "https"} if image else {"http", "https", "mailto"}) else None
