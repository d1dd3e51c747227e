"""Documents as Markdown that `markdown_reader` reads back to the same document.

What Markdown cannot say is left out and its text kept: underlines, empty paragraphs, spans of cells, unknown nodes.
`markdown_line` writes the lines; here are the blocks.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from collab.engine.content.markdown_line import escape_url, write_line
from collab.engine.content.rich import attributes, is_inline, safe_url
from collab.engine.content.text_writer import inline_text

Json = dict[str, Any]
_LISTS = ("bulletList", "orderedList", "taskList")


def to_markdown(document: Json) -> str:
    """The Markdown of a document node, without a newline at its end."""
    return "\n".join(_blocks(document.get("content", [])))


def _blocks(nodes: list[Json]) -> list[str]:
    """The lines of ``nodes``, with a blank one between blocks."""
    if is_inline(nodes):
        return _paragraph(nodes)
    lines: list[str] = []
    other = False
    before = ""
    for node in nodes:
        # Neighbouring lists would become one; a different mark keeps them apart.
        family = "orderedList" if node["type"] == "orderedList" else "bulletList"
        other = node["type"] in _LISTS and before == family and not other
        block = _block(node, other=other)
        if block:
            lines += ["", *block] if lines else block
            before = family if node["type"] in _LISTS else ""
    return lines


def _paragraph(nodes: list[Json]) -> list[str]:
    text = write_line(nodes)
    return text.split("\n") if text else []


def _block(node: Json, *, other: bool) -> list[str]:
    kind, content, attrs = node["type"], node.get("content", []), attributes(node)
    if kind == "heading":
        level = attrs.get("level")
        depth = level if isinstance(level, int) and 1 <= level <= 6 else 1
        return [f"{'#' * depth} {write_line(content, one_line=True)}".rstrip(" ")]
    if kind == "horizontalRule":
        return ["___"]
    if kind == "image":
        return _image(attrs)
    if kind == "codeBlock":
        return _code_block(inline_text(content), attrs.get("language"))
    if kind == "blockquote":
        return [f"> {line}" if line else ">" for line in _blocks(content) or [""]]
    if kind in _LISTS:
        return _list(node, content, other=other)
    if kind == "table":
        return _table(content)
    return _blocks(content)


def _image(attrs: Json) -> list[str]:
    source = safe_url(attrs.get("src"), image=True)
    alt, title = attrs.get("alt"), attrs.get("title")
    shown = write_line([{"type": "text", "text": alt}], one_line=True) if isinstance(alt, str) and alt else ""
    if source is None:
        return [shown] if shown else []
    quoted = ""
    if isinstance(title, str) and title:
        escaped = re.sub(r'([\\"&])', r"\\\1", title)
        quoted = ' "' + "".join("&#10;" if char in "\r\n" else char for char in escaped) + '"'
    return [f"![{shown}]({escape_url(source)}{quoted})"]


def _code_block(text: str, language: Any) -> list[str]:
    longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
    name = language if isinstance(language, str) and re.fullmatch(r"[^\s`\\&]+", language) else ""
    fence = "`" * (longest + 1)
    return [fence + name, *(text.split("\n") if text else []), fence]


def _list(node: Json, items: list[Json], *, other: bool) -> list[str]:
    start = attributes(node).get("start", 1)
    number = start if isinstance(start, int) and 0 <= start <= 999_999_999 - len(items) else 1
    lines: list[str] = []
    for item in items:
        mark = ("*" if other else "-") if node["type"] != "orderedList" else f"{number}{')' if other else '.'}"
        number += 1
        box = ""
        if node["type"] == "taskList":
            box = "[x] " if attributes(item).get("checked") is True else "[ ] "
        first, *rest = _item(item.get("content", []))
        lines.append(f"{mark} {box}{first}".rstrip(" "))
        lines += [" " * (len(mark) + 1) + line if line else "" for line in rest]
    return lines


def _item(blocks: list[Json]) -> list[str]:
    """The lines of a list item; a list right under its text needs no blank line between."""
    lines = _blocks(blocks[:1]) or [""]
    for before, block in pairwise(blocks):
        written = _block(block, other=block["type"] in _LISTS and before["type"] in _LISTS)
        if not written:
            continue
        tight = block["type"] in _LISTS and before["type"] == "paragraph" and re.match(r"([-*]|1[.)]) \S", written[0])
        lines += written if tight and lines != [""] else ["", *written]
    if lines[0] == "" and len(lines) > 1:
        # An item may begin with one blank line at most: put what follows on the first line instead.
        while lines and not lines[0]:
            lines.pop(0)
    return lines or [""]


def _table(rows: list[Json]) -> list[str]:
    cells = [[_cell(cell) for cell in row.get("content", [])] for row in rows]
    width = max((len(row) for row in cells), default=0)
    if not width:
        return []
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in cells]
    return [lines[0], "|" + " --- |" * width, *lines[1:]]


def _cell(cell: Json) -> str:
    lines = [write_line(block.get("content", []), one_line=True, table=True) for block in cell.get("content", [])]
    return " ".join(line for line in lines if line)
