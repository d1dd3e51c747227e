"""Render and Compose: round trips, roots and their types, and every way content can be at fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from collab.engine.content import encoding, run_content_job
from collab.engine.content.model import MAX_PIECES
from collab.engine.port import Compose, Format, Render
from collab.errors import InvalidContent
from collab.protocol.yjs import EMPTY_UPDATE, Bounds, scan_update
from tests.unit.engine.content.trees import any_text, compose, deltas, documents, normal, rendered, shown, values


def composed(content: str | bytes, form: Format, **where: Any) -> bytes:
    return run_content_job(Compose(content if isinstance(content, bytes) else content.encode(), form, **where))


@settings(deadline=None, max_examples=60)
@given(documents)
def test_a_composed_prosemirror_document_is_rendered_unchanged(document: dict[str, Any]) -> None:
    update = compose(document)
    assert normal(rendered(update, "default", "xml")) == normal(document)


@settings(deadline=None)
@given(deltas)
def test_a_composed_delta_is_rendered_unchanged(ops: list[dict[str, Any]]) -> None:
    assert normal(rendered(compose({"ops": ops}, "text"), "content", "text")["ops"]) == normal(ops)


@given(st.dictionaries(any_text, values, max_size=4), st.lists(values, max_size=5))
def test_composed_maps_and_arrays_are_rendered_unchanged(entries: dict[str, Any], elements: list[Any]) -> None:
    assert rendered(compose(entries, "map"), kind="map") == entries
    assert rendered(compose(elements, "array"), kind="array") == elements


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_text_is_rendered_to_the_very_string(text: str) -> None:
    assert shown(composed(text, "text", type="text"), "text") == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20), max_size=6))
def test_lines_become_paragraphs_and_lines_again(lines: list[str]) -> None:
    assert shown(composed("\n".join(lines), "text"), "text") == "\n".join(lines)


@settings(deadline=None, max_examples=50)
@given(documents)
def test_f22_the_same_content_is_the_same_update_and_is_there_once(document: dict[str, Any]) -> None:
    first, second = compose(document), compose(document)
    assert first == second
    assert run_content_job(Render((first, second), "json")) == run_content_job(Render((first,), "json"))


def test_f22_different_seeds_have_different_client_ids() -> None:
    clients = {next(iter(scan_update(composed(text, "text")).ranges)) for text in ("a", "b", "c")}
    assert len(clients) == 3


@pytest.mark.parametrize("form", ["update", "json", "text", "html", "markdown"])
def test_a_document_without_roots_has_empty_content(form: Format) -> None:
    expected = {"update": EMPTY_UPDATE, "json": b'{"ops":[]}'}.get(form, b"")
    assert run_content_job(Render((), form)) == expected
    assert run_content_job(Render((), "json", "default")) == b'{"type":"doc","content":[]}'
    assert run_content_job(Render((), "json", "anything", "map")) == b"{}"


def many_roots() -> bytes:
    doc = Doc()
    fragment = doc.get("default", type=XmlFragment)
    element = XmlElement("paragraph")
    fragment.children.append(element)
    element.children.append(XmlText("hello"))
    doc.get("notes", type=Text).insert(0, "ab", {"bold": True})
    array = doc.get("a-list", type=Array)
    array.append(1)
    array.append({"deep": [1.5, None]})
    array.append(Map({"text": Text("inner"), "bytes": b"\x00\xff"}))
    entries = doc.get("settings", type=Map)
    entries["n"] = 3
    return doc.get_update()


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (None, {"type": "doc", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "hello"}]}]}),
        ("notes", {"ops": [{"insert": "ab", "attributes": {"bold": True}}]}),
        ("a-list", [1, {"deep": [1.5, None]}, {"text": "inner", "bytes": "AP8="}]),
        ("settings", {"n": 3}),
        ("absent", {"ops": []}),
    ],
)
def test_the_type_of_a_root_is_inferred_from_its_items(root: str | None, expected: Any) -> None:
    assert rendered(many_roots(), root) == expected


def test_integers_come_back_as_integers() -> None:
    assert b"3.0" not in run_content_job(Render((many_roots(),), "json", "settings"))


def test_a_type_overrides_what_was_inferred() -> None:
    assert rendered(many_roots(), "notes", "array") == ["ab"]
    assert rendered(many_roots(), "notes", "map") == {}


def test_without_a_known_name_the_first_in_name_order_is_meant() -> None:
    doc = Doc()
    doc.get("zz", type=Text).insert(0, "last")
    doc.get("bb", type=Text).insert(0, "first")
    assert shown(doc.get_update(), "text") == "first"


def test_deleted_text_is_gone_from_a_rendered_update() -> None:
    doc = Doc()
    text = doc.get("text", type=Text)
    updates = []
    doc.observe(lambda event: updates.append(event.update))
    for _ in range(50):
        text.insert(0, "secret")
        del text[0:6]
    folded = run_content_job(Render(tuple(updates), "update"))
    assert b"secret" not in folded
    assert len(folded) < 60


def test_an_update_is_composed_only_when_it_is_whole() -> None:
    doc = Doc()
    text = doc.get("text", type=Text)
    text.insert(0, "a")
    before = doc.get_state()
    text.insert(1, "b")
    assert shown(composed(doc.get_update(), "update"), "text") == "ab"
    with pytest.raises(InvalidContent, match="needs other updates"):
        composed(doc.get_update(before), "update")
    state = doc.get_state()
    del text[0:2]
    with pytest.raises(InvalidContent, match="needs other updates"):
        composed(doc.get_update(state), "update")


ODD = "a\x00b\u202ec\ud800d\udc00\U0001f600"


@pytest.mark.parametrize("form", ["json", "text", "html", "markdown"])
def test_odd_characters_never_break_utf8(form: Format) -> None:
    node = {"type": "p" + ODD, "attrs": {"x" + ODD: ODD}, "content": [{"type": "text", "text": ODD}]}
    update = compose({"type": "doc", "content": [node]})
    out = run_content_job(Render((update,), form)).decode()
    assert "\u202e" in out
    assert "\U0001f600" in out
    assert "\ufffd" in out


def nested(levels: int) -> bytes:
    return b'{"type":"doc","content":[' + b'{"type":"x","content":[' * levels + b"]}" * levels + b"]}"


def test_depth_is_bounded_and_never_the_stack() -> None:
    update = composed(nested(90), "json")
    for form in ("json", "text", "html", "markdown"):
        run_content_job(Render((update,), form))
    for levels in (300, 100_000):
        with pytest.raises(InvalidContent):
            composed(nested(levels), "json")


def test_a_deep_document_made_elsewhere_is_refused() -> None:
    doc = Doc()
    element = XmlElement("x")
    doc.get("default", type=XmlFragment).children.append(element)
    for _ in range(250):
        inner = XmlElement("x")
        element.children.append(inner)
        element = inner
    with pytest.raises(InvalidContent, match="nests more than 200 levels"):
        run_content_job(Render((doc.get_update(),), "json"))


@pytest.mark.parametrize(
    ("content", "form", "kind"),
    [
        (b"\xff", "text", None),
        (b"\xff", "json", None),
        (b"{", "json", None),
        (b"7", "json", None),
        (b'{"type":"doc","content":7}', "json", None),
        (b'{"type":"doc","content":[{"type":7}]}', "json", None),
        (b'{"type":"doc","content":[{"type":"text"}]}', "json", None),
        (b'{"type":"doc","content":[{"type":"text","text":"x","marks":7}]}', "json", None),
        (b'{"type":"doc","content":[{"type":"text","text":"x","marks":[{"type":"a","attrs":7}]}]}', "json", None),
        (b'{"type":"doc","content":[{"type":"x","attrs":[]}]}', "json", None),
        (b'[{"retain":1}]', "json", "text"),
        (b'[{"insert":"a","attributes":[]}]', "json", "text"),
        (b"[]", "json", "map"),
        (b"{}", "json", "array"),
        (b"x", "markdown", "map"),
        (b"x", "text", "array"),
        (b"x", "update", None),
        (b"\x01\x01\x01\x00\x00", "update", None),
    ],
)
def test_content_at_fault_is_refused_in_a_sentence(content: bytes, form: Format, kind: Any) -> None:
    with pytest.raises(InvalidContent) as refusal:
        composed(content, form, type=kind)
    assert len(str(refusal.value).split()) > 3


def test_a_number_beyond_a_double_is_refused() -> None:
    with pytest.raises(InvalidContent, match="too large"):
        compose({"n": 10**400})


def test_a_quill_text_is_shown_as_rich_text() -> None:
    ops = [
        {"insert": "Title"},
        {"insert": "\n", "attributes": {"header": 2}},
        {"insert": "one", "attributes": {"bold": True}},
        {"insert": "\n", "attributes": {"list": "bullet"}},
        {"insert": "x = 1"},
        {"insert": "\n", "attributes": {"code-block": True}},
        {"insert": "a", "attributes": {"link": "https://example.org"}},
        {"insert": "\n"},
    ]
    update = compose({"ops": ops})
    assert shown(update, "markdown") == "## Title\n\n- **one**\n\n```\nx = 1\n```\n\n[a](https://example.org)"
    assert shown(update, "html").startswith("<h2>Title</h2><ul><li><p><strong>one</strong></p></li></ul>")


def test_maps_are_shown_as_json_in_text_forms() -> None:
    assert json.loads(shown(compose({"a": [1]}), "text")) == {"a": [1]}
    assert shown(compose({"a": [1]}), "markdown").startswith("```json\n")


def test_l7_a_row_that_is_no_update_is_left_out_and_the_rest_is_rendered() -> None:
    update = composed("kept", "text")
    assert run_content_job(Render((update, b"\xff" * 40), "text")) == b"kept"
    with pytest.raises(InvalidContent):
        composed(b"\xff" * 40, "update")


@pytest.mark.parametrize(
    ("form", "piece"), [("html", "<li>"), ("html", "<br>"), ("markdown", "-\n"), ("markdown", "-\r"), ("text", "\n")]
)
def test_e11_what_is_made_of_very_many_pieces_is_refused_before_it_is_taken_apart(form: Format, piece: str) -> None:
    with pytest.raises(InvalidContent, match=f"more than {MAX_PIECES}"):
        composed(piece * (MAX_PIECES + 1), form)


def test_e11_content_is_refused_as_soon_as_no_update_could_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "DEFAULT_BOUNDS", Bounds(max_structs=10))
    assert rendered(composed(json.dumps([0] * 10), "json")) == [0] * 10
    with pytest.raises(InvalidContent, match="too large"):
        composed(json.dumps([0] * 11), "json")
