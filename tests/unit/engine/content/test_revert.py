"""Revert: a forward change to any earlier content, which leaves alone what is equal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Assoc, Doc, Text

from collab.engine.content import run_content_job
from collab.engine.content.differences import differences
from collab.engine.content.encoding import Encoder
from collab.engine.content.model import TEXT, XMLTEXT, Node, Run, write_root
from collab.engine.port import Render
from collab.protocol.yjs import scan_update
from tests.unit.engine.content.trees import compose, deltas, documents, rendered, reverted, shown, values


def applied(current: bytes, change: bytes) -> bytes:
    """The document after a live editor received the change."""
    doc: Doc[Any] = Doc()
    doc.apply_update(current)
    doc.apply_update(change)
    return doc.get_update()


@settings(deadline=None, max_examples=50)
@given(documents, documents)
def test_a_reverted_fragment_renders_as_the_target(old: dict[str, Any], new: dict[str, Any]) -> None:
    current, target = compose(new), compose(old)
    after = applied(current, reverted(current, target))
    assert rendered(after, "default", "xml") == rendered(target, "default", "xml")


@settings(deadline=None, max_examples=50)
@given(deltas, deltas)
def test_a_reverted_text_renders_as_the_target(old: list[Any], new: list[Any]) -> None:
    current, target = compose({"ops": new}, "text"), compose({"ops": old}, "text")
    after = applied(current, reverted(current, target))
    assert rendered(after, "content", "text") == rendered(target, "content", "text")


plain_maps = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@settings(deadline=None, max_examples=50)
@given(plain_maps, plain_maps, st.lists(values, max_size=5), st.lists(values, max_size=5))
def test_reverted_maps_and_arrays_render_as_the_target(old: Any, new: Any, before: Any, now: Any) -> None:
    for target, current, kind in (
        (compose(old, "map"), compose(new, "map"), "map"),
        (compose(before), compose(now), "array"),
    ):
        after = applied(current, reverted(current, target))
        root = "content"
        assert rendered(after, root, kind) == rendered(target, root, kind)


def test_roots_the_target_lacks_are_emptied() -> None:
    current = compose("gone", root="extra")
    after = applied(current, reverted(current, b"\x00\x00"))
    assert shown(after, "text", "extra") == ""


def test_an_equal_document_needs_no_change() -> None:
    update = compose({"type": "doc", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "same"}]}]})
    assert reverted(update, update) == b"\x00\x00"


def paragraphs(*lines: str) -> bytes:
    content = [{"type": "paragraph", "content": [{"type": "text", "text": line}]} for line in lines]
    return compose({"type": "doc", "content": content})


def test_only_what_differs_is_written_and_deleted() -> None:
    lines = [f"line {number} of a document that is long enough" for number in range(200)]
    current = paragraphs(*lines[:50], "an inserted paragraph", *lines[50:100], "line 100 was rewritten", *lines[101:])
    change = reverted(current, paragraphs(*lines))
    assert len(change) < 300
    assert sum(end - start for ranges in scan_update(change).deletes.values() for start, end in ranges) < 80


def test_a_cursor_in_unchanged_text_stays_where_it_is() -> None:
    doc: Doc[Any] = Doc()
    text = doc.get("text", type=Text)
    text.insert(0, "first line\nsecond line\nthird line\n")
    target = doc.get_update()
    cursor = text.sticky_index(len("first line\nsec"), Assoc.AFTER)
    text.insert(0, "new line\n")
    del text[len(text) - 6 : len(text) - 3]
    doc.apply_update(reverted(doc.get_update(), target))
    assert str(text) == "first line\nsecond line\nthird line\n"
    with doc.transaction():
        assert cursor.get_index() == len("first line\nsec")


def test_the_client_of_a_change_is_new_and_depends_on_nothing_but_the_documents() -> None:
    current, target = paragraphs("a", "b"), paragraphs("a", "c")
    change = reverted(current, target)
    assert change == reverted(current, target)
    assert not set(scan_update(change).ranges) & set(scan_update(current).ranges)
    assert set(scan_update(change).ranges) != set(scan_update(reverted(current, paragraphs("a", "d"))).ranges)


def test_two_nodes_that_restore_at_once_restore_once() -> None:
    current, target = paragraphs("x"), paragraphs("x", "back again")
    change = reverted(current, target)
    both = run_content_job(Render((current, change, change), "text"))
    assert both == b"x\nback again"


def test_a_restore_can_be_restored() -> None:
    first, second = paragraphs("a", "b", "c"), paragraphs("a", "X", "c", "d")
    there = applied(first, reverted(first, second))
    back = applied(there, reverted(there, first))
    assert shown(there, "text") == "a\nX\nc\nd"
    assert shown(back, "text") == "a\nb\nc"


@pytest.mark.parametrize("size", [0, 1, 7])
@given(data=st.data())
def test_differences_turn_one_sequence_into_the_other(size: int, data: st.DataObject) -> None:
    keys = st.lists(
        st.tuples(st.sampled_from(["a", "b", "\n", b"n", b"m"]), st.sampled_from(["", "bold"])), max_size=size * 3
    )
    have, want = data.draw(keys), data.draw(keys)
    out, at = [], 0
    for start, end, first, last in differences(have, want):
        out += have[at:start] + want[first:last]
        at = end
    assert out + have[at:] == want


def lexical(*lines: str) -> bytes:
    """What Lexical and Slate store: texts with attributes inside a root text."""
    blocks = [Node(XMLTEXT, attrs={"__type": "paragraph"}, children=[Run(line)]) for line in lines]
    encoder = Encoder()
    write_root(encoder, "root", Node(TEXT, attrs={"__dir": "ltr"}, children=[*blocks]))
    return encoder.finish()


def test_texts_inside_texts_are_read_and_brought_back() -> None:
    current, target = lexical("one", "two", "three"), lexical("one", "2", "three", "four")
    assert shown(target, "text") == "one\n2\nthree\nfour"
    after = applied(current, reverted(current, target))
    assert rendered(after) == rendered(target)
    assert rendered(after)["ops"][0] == {
        "insert": {"attrs": {"__type": "paragraph"}, "ops": [{"insert": "one"}]},
    }


def test_a_restore_is_the_same_bytes_every_time_whatever_order_native_code_likes() -> None:
    deep = {name: dict.fromkeys("zyxwv", 1) for name in "fedcba"}
    current, target = compose({"a": 1}, "map"), compose({"deep": deep}, "map")
    assert len({reverted(current, target) for _ in range(8)}) == 1
    assert len({run_content_job(Render((target,), "json")) for _ in range(8)}) == 1
