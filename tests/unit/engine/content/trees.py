"""Random documents for the content tests, and comparison up to the order of marks."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from collab.engine.content import run_content_job
from collab.engine.port import Compose, Render, Revert, RootType

Json = dict[str, Any]

MARK_NAMES = ("bold", "italic", "strike", "underline")
LINKS = ("https://example.org/a?b=1&c=2", "mailto:a@example.org", "/relative/path_(x)", "#top")


def compose(content: Any, kind: RootType | None = None, root: str | None = None) -> bytes:
    """The update that JSON content becomes."""
    return run_content_job(Compose(json.dumps(content).encode(), "json", root, kind))


def rendered(update: bytes, root: str | None = None, kind: RootType | None = None) -> Any:
    """The JSON form of a document."""
    return json.loads(run_content_job(Render((update,), "json", root, kind)))


def shown(update: bytes, form: Any, root: str | None = None, kind: RootType | None = None) -> str:
    """A text form of a document."""
    return run_content_job(Render((update,), form, root, kind)).decode()


def reverted(current: bytes, target: bytes) -> bytes:
    """The forward change from one document to the content of the other."""
    return run_content_job(Revert((current,), (target,)))


def normal(value: Any) -> Any:
    """Marks in one order, and neighbouring texts under the same marks joined: equal for equal content."""
    if isinstance(value, dict):
        value = {key: normal(entry) for key, entry in value.items()}
        if "marks" in value:
            value["marks"] = sorted(value["marks"], key=lambda mark: json.dumps(mark, sort_keys=True))
        return value
    if not isinstance(value, list):
        return value
    out: list[Any] = []
    for entry in map(normal, value):
        last = out[-1] if out else None
        if not _joins(last, entry, "text", "marks") and not _joins(last, entry, "insert", "attributes"):
            out.append(entry)
    return out


def _joins(last: Any, entry: Any, text: str, marks: str) -> bool:
    if not isinstance(last, dict) or not isinstance(entry, dict) or last.get(marks) != entry.get(marks):
        return False
    if not isinstance(last.get(text), str) or not isinstance(entry.get(text), str):
        return False
    last[text] += entry[text]
    return True


def _marks(names: list[str], href: str | None) -> list[Json]:
    marks: list[Json] = [{"type": name, "attrs": {}} for name in names]
    return marks + ([{"type": "link", "attrs": {"href": href}}] if href else [])


marks = st.builds(_marks, st.lists(st.sampled_from(MARK_NAMES), unique=True), st.none() | st.sampled_from(LINKS))
any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def texts(strings: st.SearchStrategy[str], marked: st.SearchStrategy[list[Json]]) -> st.SearchStrategy[Json]:
    """Text nodes; an empty list of marks is left out, as editors leave it out."""

    def build(text: str, marks: list[Json]) -> Json:
        return {"type": "text", "text": text} | ({"marks": marks} if marks else {})

    return st.builds(build, strings, marked)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


def _element(kind: str, attrs: Json, content: list[Json]) -> Json:
    kept = {key: value for key, value in attrs.items() if value is not None}
    return {"type": kind} | ({"attrs": kept} if kept else {}) | ({"content": content} if content else {})


node_names = st.sampled_from(
    ["paragraph", "heading", "bulletList", "customThing", "codeBlock", "hardBreak", "<script>", "x y"]
)
attributes = st.dictionaries(st.sampled_from(["level", "id", "textAlign", "data", "ünï"]), values, max_size=2)
nodes = st.recursive(
    texts(any_text, marks) | st.builds(_element, node_names, attributes, st.just([])),
    lambda inner: st.builds(_element, node_names, attributes, st.lists(inner, max_size=4)),
    max_leaves=20,
)
documents = st.builds(lambda content: {"type": "doc", "content": content}, st.lists(nodes, max_size=6))

deltas = st.lists(
    st.builds(
        lambda insert, attrs: {"insert": insert} | ({"attributes": attrs} if attrs else {}),
        any_text | st.dictionaries(st.sampled_from(["image", "video"]), any_text, min_size=1, max_size=1),
        st.dictionaries(st.sampled_from(["bold", "link", "color"]), st.just(True) | any_text, max_size=2),
    ),
    max_size=8,
)
