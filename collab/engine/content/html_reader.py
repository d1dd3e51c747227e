"""HTML as a ProseMirror document in the names of Tiptap's StarterKit.

Forgiving, as pages in the wild demand: unknown elements give up their content, scripts and styles give up nothing, and
links must pass `rich.safe_url`. Only the standard library parses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final

from collab.engine.content.model import MAX_DEPTH, MAX_PIECES
from collab.engine.content.rich import safe_url
from collab.errors import InvalidContent

_MARKS: Final[dict[str, str]] = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "s": "strike",
    "del": "strike",
    "strike": "strike",
    "code": "code",
    "kbd": "code",
    "samp": "code",
    "u": "underline",
    "ins": "underline",
}
_SKIPPED: Final = frozenset(
    {
        "script",
        "style",
        "head",
        "title",
        "template",
        "noscript",
        "iframe",
        "object",
        "embed",
        "svg",
        "math",
        "select",
        "textarea",
    }
)
_VOID: Final = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
)
_BLOCKS: Final = frozenset(
    {
        "address",
        "article",
        "aside",
        "body",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "html",
        "main",
        "nav",
        "section",
        "summary",
    }
)
_ENDS_PARAGRAPH: Final = _BLOCKS | frozenset(
    {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "hr", "table"}
)
_ENDS_SAME: Final[dict[str, frozenset[str]]] = {
    "li": frozenset({"ul", "ol"}),
    "tr": frozenset({"table"}),
    "td": frozenset({"tr", "table"}),
    "th": frozenset({"tr", "table"}),
}
"""An opening tag that ends an open one of its kind, unless one of these stands between."""

_BLANK: Final = re.compile(r"[ \t\n\r\f]+")
_LANGUAGE: Final = re.compile(r"(?:^|\s)lang(?:uage)?-(\S+)")

Attrs = dict[str, str]


@dataclass(slots=True)
class _Element:
    tag: str
    attrs: Attrs = field(default_factory=dict)
    children: list[_Element | str] = field(default_factory=list)


class _Tree(HTMLParser):
    """Elements and texts, with the few implied end tags that hand-written HTML leaves out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = _Element("body")
        self.open = [self.root]
        self._elements = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._elements += 1
        if self._elements > MAX_PIECES:
            raise InvalidContent(f"the HTML has more than {MAX_PIECES} elements")
        self._end_implied(tag)
        element = _Element(tag, {name: value or "" for name, value in reversed(attrs)})
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)
            if len(self.open) > MAX_DEPTH:
                raise InvalidContent(f"the HTML nests more than {MAX_DEPTH} levels")

    def handle_endtag(self, tag: str) -> None:
        for index in range(len(self.open) - 1, 0, -1):
            if self.open[index].tag == tag:
                del self.open[index:]
                return

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def _end_implied(self, tag: str) -> None:
        if tag in _ENDS_PARAGRAPH and any(element.tag == "p" for element in self.open):
            self.handle_endtag("p")
        fences = _ENDS_SAME.get(tag)
        if fences is None:
            return
        for element in reversed(self.open):
            if element.tag in fences:
                return
            if element.tag == tag or {element.tag, tag} == {"td", "th"}:
                self.handle_endtag(element.tag)
                return


def from_html(text: str) -> dict[str, Any]:
    """The document node for a piece of HTML. Raises `InvalidContent` when it nests too deeply or holds too much."""
    tree = _Tree()
    tree.feed(text)
    tree.close()
    blocks = _Blocks()
    _walk(tree.root, [], blocks)
    return {"type": "doc", "content": blocks.finish()}


class _Blocks:
    """Blocks written so far, and the line that is being written."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []
        self.line: list[dict[str, Any]] = []

    def text(self, text: str, marks: list[dict[str, Any]]) -> None:
        text = _BLANK.sub(" ", text)
        last = self.line[-1] if self.line else None
        if text.startswith(" ") and (last is None or last["type"] != "text" or last["text"].endswith(" ")):
            text = text[1:]
        if text:
            self.line.append({"type": "text", "text": text} | ({"marks": list(marks)} if marks else {}))

    def block(self, node: dict[str, Any]) -> None:
        self.flush()
        self.done.append(node)

    def flush(self) -> None:
        """End the line; one with nothing but blanks is none."""
        line, self.line = self.line, []
        if line and line[-1]["type"] == "text":
            line[-1]["text"] = line[-1]["text"].removesuffix(" ")
            if not line[-1]["text"]:
                line.pop()
        if line:
            self.done.append({"type": "paragraph", "content": line})

    def finish(self) -> list[dict[str, Any]]:
        self.flush()
        return self.done


def _walk(element: _Element, marks: list[dict[str, Any]], out: _Blocks) -> None:
    for child in element.children:
        if isinstance(child, str):
            out.text(child, marks)
        elif child.tag not in _SKIPPED:
            _element(child, marks, out)


def _element(element: _Element, marks: list[dict[str, Any]], out: _Blocks) -> None:
    tag, attrs = element.tag, element.attrs
    if tag in _MARKS or tag == "a":
        _walk(element, _with(marks, element), out)
    elif tag == "br":
        out.line.append({"type": "hardBreak"})
    elif tag == "hr":
        out.block({"type": "horizontalRule"})
    elif tag == "img":
        _image(attrs, out)
    elif tag == "p" or re.fullmatch("h[1-6]", tag):
        _paragraph(element, marks, out)
    elif tag in ("ul", "ol"):
        out.block(_list(element, marks))
    elif tag == "blockquote":
        out.block({"type": "blockquote", "content": _inside(element, marks)})
    elif tag == "pre":
        _code_block(element, out)
    elif tag == "table":
        _table(element, marks, out)
    elif tag in _BLOCKS or tag == "li":
        out.flush()
        _walk(element, marks, out)
        out.flush()
    else:
        _walk(element, marks, out)


def _with(marks: list[dict[str, Any]], element: _Element) -> list[dict[str, Any]]:
    if element.tag == "a":
        href = safe_url(element.attrs.get("href"))
        mark: dict[str, Any] = {"type": "link", "attrs": {"href": href}}
        if href is None:
            return marks
    else:
        mark = {"type": _MARKS[element.tag]}
    return [other for other in marks if other["type"] != mark["type"]] + [mark]


def _image(attrs: Attrs, out: _Blocks) -> None:
    source = safe_url(attrs.get("src"), image=True)
    if source is not None:
        named = {name: attrs[name] for name in ("alt", "title") if attrs.get(name)}
        out.block({"type": "image", "attrs": {"src": source} | named})


def _paragraph(element: _Element, marks: list[dict[str, Any]], out: _Blocks) -> None:
    out.flush()
    heading = {"type": "heading", "attrs": {"level": int(element.tag[1])}} if element.tag != "p" else {}
    inside = _Blocks()
    _walk(element, marks, inside)
    for block in inside.finish() or [{"type": "paragraph"}]:
        out.done.append(block | heading if block["type"] == "paragraph" else block)


def _inside(element: _Element, marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks of a container, at least one: the editors' schemas ask for it."""
    inside = _Blocks()
    _walk(element, marks, inside)
    return inside.finish() or [{"type": "paragraph"}]


def _list(element: _Element, marks: list[dict[str, Any]]) -> dict[str, Any]:
    items = [child for child in element.children if isinstance(child, _Element) or child.strip()]
    rows = [
        item if isinstance(item, _Element) and item.tag == "li" else _Element("li", {}, [item])
        for item in items
        if isinstance(item, str) or item.tag not in _SKIPPED
    ] or [_Element("li")]
    boxes = [_checked(row) for row in rows]
    if element.tag == "ul" and any(box is not None for box in boxes):
        content = [
            {"type": "taskItem", "attrs": {"checked": bool(box)}, "content": _item(row, marks)}
            for row, box in zip(rows, boxes, strict=True)
        ]
        return {"type": "taskList", "content": content}
    content = [{"type": "listItem", "content": _item(row, marks)} for row in rows]
    if element.tag == "ul":
        return {"type": "bulletList", "content": content}
    start = element.attrs.get("start", "")
    attrs = {"attrs": {"start": int(start)}} if re.fullmatch(r"\d{1,9}", start, re.ASCII) and start != "1" else {}
    return {"type": "orderedList", **attrs, "content": content}


def _item(row: _Element, marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    blocks = _inside(row, marks)
    return blocks if blocks[0]["type"] == "paragraph" else [{"type": "paragraph"}, *blocks]


def _checked(row: _Element) -> bool | None:
    """Whether the item's box is ticked; None when it has no box."""
    if row.attrs.get("data-type") == "taskItem" or "data-checked" in row.attrs:
        return row.attrs.get("data-checked") == "true"
    for child in row.children:
        if isinstance(child, str):
            if child.strip():
                return None
        elif child.tag == "input" and child.attrs.get("type") == "checkbox":
            return "checked" in child.attrs
        elif child.tag in ("p", "label"):
            return _checked(child)
        else:
            return None
    return None


def _code_block(element: _Element, out: _Blocks) -> None:
    text = _raw_text(element).removeprefix("\n")
    language = _LANGUAGE.search(element.attrs.get("class", ""))
    for child in element.children:
        if isinstance(child, _Element) and child.tag == "code":
            language = language or _LANGUAGE.search(child.attrs.get("class", ""))
    node: dict[str, Any] = {"type": "codeBlock"}
    if language:
        node["attrs"] = {"language": language[1]}
    if text:
        node["content"] = [{"type": "text", "text": text}]
    out.block(node)


def _raw_text(element: _Element) -> str:
    out = []
    for child in element.children:
        if isinstance(child, str):
            out.append(child)
        elif child.tag not in _SKIPPED:
            out.append("\n" if child.tag == "br" else _raw_text(child))
    return "".join(out)


def _table(element: _Element, marks: list[dict[str, Any]], out: _Blocks) -> None:
    rows = [row for row in (_row(tr, marks) for tr in _rows(element)) if row["content"]]
    if rows:
        out.block({"type": "table", "content": rows})
    else:
        _walk(element, marks, out)


def _rows(element: _Element) -> list[_Element]:
    found = []
    for child in element.children:
        if isinstance(child, _Element):
            if child.tag == "tr":
                found.append(child)
            elif child.tag in ("thead", "tbody", "tfoot"):
                found.extend(_rows(child))
    return found


def _row(element: _Element, marks: list[dict[str, Any]]) -> dict[str, Any]:
    cells = []
    for child in element.children:
        if isinstance(child, _Element) and child.tag in ("td", "th"):
            spans = {
                name: int(child.attrs[name])
                for name in ("colspan", "rowspan")
                if re.fullmatch(r"[1-9]\d{0,2}", child.attrs.get(name, ""), re.ASCII)
            }
            cell: dict[str, Any] = {"type": "tableHeader" if child.tag == "th" else "tableCell"}
            cells.append(cell | ({"attrs": spans} if spans else {}) | {"content": _inside(child, marks)})
    return {"type": "tableRow", "content": cells}
