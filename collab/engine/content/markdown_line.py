"""One line of Markdown: marks as delimiters, and every character escaped that would mean something else.

Emphasis is the hard part. CommonMark opens and closes ``**`` and ``_`` after what stands on both sides of them
(section 6.2, "left-flanking"), so a letter that stands in the way is written as a character reference, which counts
as punctuation.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Any, Final
from unicodedata import category

from collab.engine.content.rich import attributes, safe_url
from collab.engine.content.text_writer import inline_text

Json = dict[str, Any]

_DELIMITERS: Final[dict[str, str]] = {"bold": "**", "italic": "_", "strike": "~~"}
_ORDER: Final = ("link", "bold", "italic", "strike", "code")
"""From the outside in. Fixed, so that runs that share marks share delimiters."""

_ESCAPED: Final = frozenset("\\`*_[]<>&~|!")
_LINE_START: Final = re.compile(r"[#+\-=:]|\d{1,9}[.)]")


@dataclass(slots=True)
class _Unit:
    """A character as written, or a delimiter (``side`` -1 opens, 1 closes)."""

    written: str
    char: str = ""
    side: int = 0


def escape_url(url: str) -> str:
    """A link's target between parentheses."""
    escaped = url.replace("&", "&amp;")
    return f"<{escaped}>" if re.search(r"[()]", escaped) else escaped


def write_line(nodes: list[Json], *, one_line: bool = False, table: bool = False) -> str:
    """The inline ``nodes`` of one block. With ``one_line`` hard breaks become blanks, as in headings and cells."""
    units: list[_Unit] = []
    opened: list[tuple[str, str]] = []
    for node in [*_normalised(nodes, one_line=one_line), {"type": "end"}]:
        wanted = _wanted(node)
        shared = 0
        while shared < min(len(opened), len(wanted)) and opened[shared] == wanted[shared]:
            shared += 1
        while len(opened) > shared:
            units.append(_closing(*opened.pop()))
        for mark in wanted[shared:]:
            units.append(_opening(mark[0]))
            opened.append(mark)
        units += _characters(node, table=table, code=("code", "") in wanted)
    _make_flanking(units)
    _guard_ends(units)
    return "".join(unit.written for unit in units)


def _normalised(nodes: list[Json], *, one_line: bool) -> list[Json]:
    """Only texts and breaks; blanks at the ends of a marked run stand outside of its marks, where they can be read."""
    out: list[Json] = []
    for node in nodes:
        if node["type"] == "hardBreak":
            out.append({"type": "text", "text": " "} if one_line else node)
            continue
        text = node["text"] if isinstance(node.get("text"), str) else inline_text([node])
        marks = node.get("marks", [])
        if "]" in text and any(mark["type"] == "link" for mark in marks):
            # In code nothing can be escaped, and `[...]:` at the start of a line would be a definition, not text.
            marks = [mark for mark in marks if mark["type"] != "code"]
        if not marks or any(mark["type"] == "code" for mark in marks):
            out.append({"type": "text", "text": text, "marks": marks})
            continue
        inner = text.strip()
        begin = len(text) - len(text.lstrip())
        outer = [mark for mark in marks if mark["type"] == "link"]
        for piece, kept in ((text[:begin], outer), (inner, marks), (text[begin + len(inner) :], outer)):
            if piece:
                out.append({"type": "text", "text": piece, "marks": kept})
    while out and out[-1]["type"] == "hardBreak":  # at the end of a block Markdown has no hard break
        out.pop()
    return out


def _wanted(node: Json) -> list[tuple[str, str]]:
    marks = {mark["type"]: mark for mark in node.get("marks", [])}
    wanted = []
    for name in _ORDER:
        if name in marks:
            target = safe_url(attributes(marks[name]).get("href")) if name == "link" else ""
            if target is not None:
                wanted.append((name, target))
    return wanted


def _opening(name: str) -> _Unit:
    return _Unit("[", side=-2) if name == "link" else _Unit(_DELIMITERS.get(name, ""), side=-1)


def _closing(name: str, target: str) -> _Unit:
    return _Unit(f"]({escape_url(target)})", side=2) if name == "link" else _Unit(_DELIMITERS.get(name, ""), side=1)


def _characters(node: Json, *, table: bool, code: bool) -> list[_Unit]:
    if node["type"] == "hardBreak":
        return [_Unit("\\\n", "\n")]
    text = str(node.get("text", ""))
    if code:
        return [_Unit(_code(text, table=table), "`")] if text else []
    return [_Unit(_escaped(char), char) for char in text]


def _escaped(char: str) -> str:
    if char in _ESCAPED:
        return "\\" + char
    return _reference(char) if char in "\n\r\t" else char


def _reference(char: str) -> str:
    return f"&#{ord(char)};"


def _code(text: str, *, table: bool) -> str:
    text = re.sub(r"[\r\n]", " ", text)
    if table:
        text = text.replace("|", "\\|")
    runs = {len(run) for run in re.findall("`+", text)}
    fence = "`" * next(size for size in range(1, len(runs) + 2) if size not in runs)
    pad = " " if text[0] == "`" or text[-1] == "`" or (text[0] == text[-1] == " " and text.strip(" ")) else ""
    return fence + pad + text + pad + fence


def _make_flanking(units: list[_Unit]) -> None:
    """Write letters beside delimiters as references where the delimiter would not open or close otherwise."""
    delimiters = [index for index, unit in enumerate(units) if unit.side in (-1, 1) and unit.written]
    # A reference is punctuation to the delimiter on its other side too, so one may ask for another.
    while any(_frees(units, index) for index in delimiters):
        pass


def _frees(units: list[_Unit], index: int) -> bool:
    """Whether the letter outside of the delimiter had to be written as a reference, and was not yet."""
    unit = units[index]
    inner, outer = _beside(units, index, -unit.side), _beside(units, index, unit.side)
    if outer is None or outer.written != outer.char or outer.char.isspace() or _is_punctuation(outer.char):
        return False
    if unit.written != "_" and inner is not None and inner.written == inner.char and inner.char.isalnum():
        return False
    outer.written = _reference(outer.char)
    return True


def _is_punctuation(char: str) -> bool:
    """Whether every version of CommonMark calls it so: symbols beyond ASCII changed sides in 0.31."""
    return char in string.punctuation or category(char).startswith("P")


def _beside(units: list[_Unit], index: int, step: int) -> _Unit | None:
    index += step
    while 0 <= index < len(units) and not units[index].written:
        index += step
    return units[index] if 0 <= index < len(units) else None


def _guard_ends(units: list[_Unit]) -> None:
    """Keep what begins a line from beginning a block, and blanks at both ends from being dropped."""
    start = 0
    for index in range(len(units) + 1):
        if index == len(units) or units[index].char == "\n":
            _guard(units[start:index])
            start = index + 1


def _guard(line: list[_Unit]) -> None:
    for side in (line, line[::-1]):
        for unit in side:
            if not unit.char.isspace():
                break
            unit.written = _reference(unit.char)
    text = "".join(unit.written for unit in line[:12])
    match = _LINE_START.match(text)
    if match:
        mark = line[match.end() - 1]
        if mark.char == mark.written:
            mark.written = "\\" + mark.char
