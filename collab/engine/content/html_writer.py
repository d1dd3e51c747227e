"""Documents as HTML that is safe to put into a page: every character escaped, every link checked, no script ever.

Nodes this module does not know become ``<div data-type="name">`` around their content, so nothing is lost from sight.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, Final

from collab.engine.content.rich import attributes, is_inline, safe_url

_BLOCKS: Final[dict[str, str]] = {
    "paragraph": "p",
    "blockquote": "blockquote",
    "bulletList": "ul",
    "listItem": "li",
    "tableRow": "tr",
    "tableCell": "td",
    "tableHeader": "th",
}
_MARKS: Final[dict[str, str]] = {
    "bold": "strong",
    "italic": "em",
    "strike": "s",
    "code": "code",
    "underline": "u",
    "highlight": "mark",
    "subscript": "sub",
    "superscript": "sup",
}
_NAME: Final = re.compile(r"[\w.+#-]{1,64}", re.ASCII)
_INVISIBLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def to_html(document: dict[str, Any]) -> str:
    """The HTML of a document node, without ``<html>`` and ``<body>``."""
    return _content(document.get("content", []))


def _content(nodes: list[dict[str, Any]]) -> str:
    return "".join([_node(node) for node in nodes])


def _node(node: dict[str, Any]) -> str:
    kind, content, attrs = node["type"], node.get("content", []), attributes(node)
    if kind == "text":
        return _text(node)
    if kind == "hardBreak":
        return "<br>"
    if kind == "horizontalRule":
        return "<hr>"
    if kind == "image":
        return _image(attrs)
    if kind == "codeBlock":
        language = attrs.get("language")
        name = f' class="language-{language}"' if isinstance(language, str) and _NAME.fullmatch(language) else ""
        return f"<pre><code{name}>{_content(content)}</code></pre>"
    opening, closing = _tags(kind, attrs, content)
    return opening + _content(content) + closing


def _tags(kind: str, attrs: dict[str, Any], content: list[dict[str, Any]]) -> tuple[str, str]:
    if kind == "heading":
        level = attrs.get("level")
        name = f"h{level:d}" if isinstance(level, int) and 1 <= level <= 6 else "h1"
        return f"<{name}>", f"</{name}>"
    if kind == "orderedList":
        start = attrs.get("start")
        numbered = isinstance(start, int) and not isinstance(start, bool) and start != 1
        return (f'<ol start="{start}">' if numbered else "<ol>"), "</ol>"
    if kind == "taskList":
        return '<ul data-type="taskList">', "</ul>"
    if kind == "taskItem":
        checked = "true" if attrs.get("checked") is True else "false"
        return f'<li data-type="taskItem" data-checked="{checked}">', "</li>"
    if kind == "table":
        return "<table><tbody>", "</tbody></table>"
    if kind in ("tableCell", "tableHeader"):
        return f"<{_BLOCKS[kind]}{_spans(attrs)}>", f"</{_BLOCKS[kind]}>"
    if kind in _BLOCKS:
        return f"<{_BLOCKS[kind]}>", f"</{_BLOCKS[kind]}>"
    name = "span" if kind in ("mention", "emoji") or (not content and "label" in attrs) else "div"
    label = attrs.get("label") if name == "span" and not is_inline(content) else None
    shown = _escape("@" + label) if isinstance(label, str) else ""
    return f'<{name} data-type="{_escape(kind)}">{shown}', f"</{name}>"


def _spans(attrs: dict[str, Any]) -> str:
    out = ""
    for name in ("colspan", "rowspan"):
        span = attrs.get(name)
        if isinstance(span, int) and not isinstance(span, bool) and 1 < span <= 1000:
            out += f' {name}="{span}"'
    return out


def _image(attrs: dict[str, Any]) -> str:
    source = safe_url(attrs.get("src"), image=True)
    shown = "".join(
        f' {name}="{_escape(attrs[name])}"' for name in ("alt", "title") if isinstance(attrs.get(name), str)
    )
    return f'<img src="{_escape(source)}"{shown}>' if source else f"<img{shown}>"


def _text(node: dict[str, Any]) -> str:
    out = _escape(str(node.get("text", "")))
    for mark in reversed(node.get("marks", [])):
        name = _MARKS.get(mark["type"])
        if name is not None:
            out = f"<{name}>{out}</{name}>"
        elif mark["type"] == "link" and (href := safe_url(attributes(mark).get("href"))):
            out = f'<a href="{_escape(href)}" rel="noopener noreferrer nofollow">{out}</a>'
    return out


def _escape(text: str) -> str:
    # HTML has no way to write these at all; a replacement character shows that something stood here.
    return escape(_INVISIBLE.sub("\ufffd", text), quote=True)
