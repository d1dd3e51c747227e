"""Markdown as a ProseMirror document in the names of Tiptap's StarterKit: CommonMark, tables, strikethrough, tasks.

Raw HTML in Markdown stays text, so nothing passes here that `html_reader` would have had to check.
"""

from __future__ import annotations

import re
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from collab.engine.content.model import MAX_DEPTH, MAX_PIECES
from collab.engine.content.rich import safe_url
from collab.errors import InvalidContent

_CONTAINERS: Final[dict[str, str]] = {
    "paragraph_open": "paragraph",
    "bullet_list_open": "bulletList",
    "list_item_open": "listItem",
    "blockquote_open": "blockquote",
    "table_open": "table",
    "tr_open": "tableRow",
    "th_open": "tableHeader",
    "td_open": "tableCell",
}
_MARKS: Final[dict[str, str]] = {"strong_open": "bold", "em_open": "italic", "s_open": "strike"}
_TASK: Final = re.compile(r"\[([ xX])\](?: |$)")
_BOX: Final = "box"
"""Key that a paragraph carries until its list item is finished: what stood in its box."""

Json = dict[str, Any]


def from_markdown(text: str) -> Json:
    """The document node for Markdown text. Raises `InvalidContent` when it nests too deeply or has too many lines."""
    if text.count("\n") + text.count("\r") - text.count("\r\n") >= MAX_PIECES:
        raise InvalidContent(f"the Markdown has more than {MAX_PIECES} lines")
    # Deeper than maxNesting the parser would drop content without a word; our own bound speaks first.
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 4 * MAX_DEPTH}).enable(["table", "strikethrough"])
    document: Json = {"type": "doc", "content": []}
    stack = [document]
    for token in parser.parse(text):
        if token.nesting == 1:
            if token.type in ("thead_open", "tbody_open"):
                continue
            node = _container(token)
            stack[-1]["content"].append(node)
            stack.append(node)
            if len(stack) > MAX_DEPTH:
                raise InvalidContent(f"the Markdown nests more than {MAX_DEPTH} levels")
        elif token.nesting == -1:
            if token.type not in ("thead_close", "tbody_close"):
                _closed(stack.pop(), stack[-1])
        elif token.type == "inline":
            stack[-1]["content"] = _line(token.children or [])
            # Looked for in the source: an escaped bracket is text, and the parsed line no longer tells.
            if (
                stack[-1]["type"] == "paragraph"
                and stack[-2]["type"] == "listItem"
                and (box := _TASK.match(token.content))
            ):
                stack[-1][_BOX] = box[1]
        elif token.type in ("fence", "code_block"):
            stack[-1]["content"].append(_code_block(token))
        elif token.type == "hr":
            stack[-1]["content"].append({"type": "horizontalRule"})
    return document


def _container(token: Token) -> Json:
    if token.type == "heading_open":
        return {"type": "heading", "attrs": {"level": int(token.tag[1])}, "content": []}
    if token.type == "ordered_list_open":
        start = token.attrGet("start")
        attrs = {"attrs": {"start": int(start)}} if start is not None and int(start) != 1 else {}
        return {"type": "orderedList", **attrs, "content": []}
    return {"type": _CONTAINERS[token.type], "content": []}


def _closed(node: Json, parent: Json) -> None:
    """Give a finished node the shape the editors' schemas ask for."""
    content = node["content"]
    if node["type"] in ("paragraph", "heading"):
        parent["content"][-1:] = _without_images(node)
    elif node["type"] in ("tableHeader", "tableCell"):
        node["content"] = _without_images({"type": "paragraph", "content": content})
    elif node["type"] == "listItem" and (not content or content[0]["type"] != "paragraph"):
        content.insert(0, {"type": "paragraph"})
    elif node["type"] == "blockquote" and not content:
        content.append({"type": "paragraph"})
    elif node["type"] == "bulletList":
        parent["content"][-1:] = _with_tasks(content)


def _without_images(node: Json) -> list[Json]:
    """``node`` cut at its images, which are blocks in Tiptap."""
    line: list[Json] = []
    blocks: list[Json] = []
    for piece in node["content"]:
        if piece["type"] != "image":
            line.append(piece)
            continue
        if line:
            blocks.append({**node, "content": line})
            line = []
        blocks.append(piece)
    if line or not blocks:
        blocks.append({**node, "content": line})
    return blocks


def _with_tasks(items: list[Json]) -> list[Json]:
    """Lists of the items, a new one wherever tasks and plain items meet."""
    lists: list[Json] = []
    for item in items:
        kind = "taskList" if _tick(item) else "bulletList"
        if not lists or lists[-1]["type"] != kind:
            lists.append({"type": kind, "content": []})
        lists[-1]["content"].append(item)
    return lists


def _tick(item: Json) -> bool:
    """Make a task of an item that begins with a box; whether it did."""
    box = item["content"][0].pop(_BOX, None)
    if box is None:
        return False
    line = item["content"][0]["content"]
    line[0]["text"] = line[0]["text"][len("[ ] ") :]
    if not line[0]["text"]:
        line.pop(0)
    item |= {"type": "taskItem", "attrs": {"checked": box != " "}}
    return True


def _code_block(token: Token) -> Json:
    language = token.info.strip().split(maxsplit=1)
    text = token.content.removesuffix("\n")
    node: Json = {"type": "codeBlock"}
    if language:
        node["attrs"] = {"language": language[0]}
    if text:
        node["content"] = [{"type": "text", "text": text}]
    return node


def _line(tokens: list[Token]) -> list[Json]:
    line: list[Json] = []
    marks: list[Json | None] = []
    for token in tokens:
        if token.type == "link_open":
            href = safe_url(token.attrGet("href"))
            marks.append({"type": "link", "attrs": {"href": href}} if href else None)
        elif token.nesting == 1:
            marks.append({"type": _MARKS[token.type]})
        elif token.nesting == -1:
            marks.pop()
        elif token.type == "hardbreak":
            line.append({"type": "hardBreak"})
        elif token.type == "image":
            _image(token, line)
        else:
            code: list[Json | None] = [{"type": "code"}] if token.type == "code_inline" else []
            _text(" " if token.type == "softbreak" else token.content, marks + code, line)
    return line


def _text(text: str, marks: list[Json | None], line: list[Json]) -> None:
    kept: dict[str, Json] = {mark["type"]: mark for mark in marks if mark}
    node: Json = {"type": "text", "text": text} | ({"marks": list(kept.values())} if kept else {})
    if line and line[-1]["type"] == "text" and line[-1].get("marks") == node.get("marks"):
        line[-1]["text"] += text
    elif text:
        line.append(node)


def _image(token: Token, line: list[Json]) -> None:
    source = safe_url(token.attrGet("src"), image=True)
    if source is None:
        _text(token.content, [], line)
        return
    alt = "".join(child.content for child in token.children or [])
    title = token.attrGet("title")
    attrs = {"src": source} | ({"alt": alt} if alt else {}) | ({"title": title} if title else {})
    line.append({"type": "image", "attrs": attrs})
