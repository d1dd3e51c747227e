"""Documents as readable plain text: one line a block, list items with their mark, table cells between tabs."""

from __future__ import annotations

from typing import Any

from collab.engine.content.rich import attributes, is_inline


def to_text(document: dict[str, Any]) -> str:
    """The text of a document node. Paragraphs alone come back as the lines they were composed from."""
    return "\n".join(_lines(document.get("content", [])))


def _lines(nodes: list[dict[str, Any]]) -> list[str]:
    if is_inline(nodes):
        return inline_text(nodes).split("\n")
    lines: list[str] = []
    for node in nodes:
        lines.extend(_block(node))
    return lines


def _block(node: dict[str, Any]) -> list[str]:
    kind, content = node["type"], node.get("content", [])
    if kind == "horizontalRule":
        return ["---"]
    if kind == "image":
        return [inline_text([node])]
    if kind in ("bulletList", "orderedList", "taskList"):
        return _list(node, content)
    if kind == "tableRow":
        return ["\t".join(" ".join(_lines(cell.get("content", []))) for cell in content)]
    return _lines(content) if content else [""]


def _list(node: dict[str, Any], items: list[dict[str, Any]]) -> list[str]:
    lines = []
    start = attributes(node).get("start", 1)
    for number, item in enumerate(items, start if isinstance(start, int) else 1):
        mark = f"{number}. " if node["type"] == "orderedList" else "- "
        if node["type"] == "taskList":
            mark = "[x] " if attributes(item).get("checked") is True else "[ ] "
        first, *rest = _lines(item.get("content", [])) or [""]
        lines.append(mark + first)
        lines.extend("  " + line for line in rest)
    return lines


def inline_text(nodes: list[dict[str, Any]]) -> str:
    """The characters of one line; hard breaks are newlines, an image is its alternative text."""
    out = []
    for node in nodes:
        attrs = attributes(node)
        if isinstance(node.get("text"), str):
            out.append(node["text"])
        elif node["type"] == "hardBreak":
            out.append("\n")
        elif node["type"] == "image":
            out.append(_string(attrs.get("alt")))
        elif node["type"] == "mention":
            out.append("@" + (_string(attrs.get("label")) or _string(attrs.get("id"))))
        else:
            out.append(inline_text(node.get("content", [])))
    return "".join(out)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
