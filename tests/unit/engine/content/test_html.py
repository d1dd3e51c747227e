"""HTML: nothing that comes out can run, and what goes in becomes the names Tiptap knows."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collab.engine.content import run_content_job
from collab.engine.content.html_reader import from_html
from collab.engine.content.rich import safe_url
from collab.engine.port import Compose
from collab.errors import InvalidContent
from tests.unit.engine.content.trees import Json, any_text, compose, documents, shown

ALLOWED_ATTRIBUTES = {
    "href",
    "rel",
    "src",
    "alt",
    "title",
    "class",
    "start",
    "data-type",
    "data-checked",
    "colspan",
    "rowspan",
}
ALLOWED_TAGS = {
    "p",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "ul",
    "ol",
    "li",
    "blockquote",
    "pre",
    "code",
    "hr",
    "br",
    "img",
    "table",
    "tbody",
    "tr",
    "td",
    "th",
    "a",
    "strong",
    "em",
    "s",
    "u",
    "mark",
    "sub",
    "sup",
    "div",
    "span",
}


class Inspector(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)


def inspected(html: str) -> Inspector:
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()
    return inspector


@settings(deadline=None, max_examples=60)
@given(documents)
@example({"type": "doc", "content": [{"type": "heading", "attrs": {"level": True}}]})
def test_html_holds_only_known_tags_and_attributes_whatever_the_document_says(document: Json) -> None:
    seen = inspected(shown(compose(document), "html"))
    assert seen.tags <= ALLOWED_TAGS
    assert {name for name, _ in seen.attributes} <= ALLOWED_ATTRIBUTES


HOSTILE = [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    " javascript:alert(1)",
    "\x01javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    'x" onmouseover="alert(1)',
    "",
    None,
    7,
    {"a": 1},
]


@pytest.mark.parametrize("href", HOSTILE)
def test_a_hostile_link_or_image_leaves_no_target(href: object) -> None:
    link = {"type": "text", "text": "x", "marks": [{"type": "link", "attrs": {"href": href}}]}
    document = {
        "type": "doc",
        "content": [{"type": "paragraph", "content": [link]}, {"type": "image", "attrs": {"src": href}}],
    }
    seen = inspected(shown(compose(document), "html"))
    assert not [name for name, _ in seen.attributes if name in ("href", "src") or name.startswith("on")]


@pytest.mark.parametrize(
    "url", ["https://example.org/?a=1&b=2#c", "mailto:a@example.org", "/x/y:z", "x/y", "#top", "?q=a:b"]
)
def test_ordinary_links_are_kept(url: str) -> None:
    assert safe_url(url) == url


@given(any_text)
def test_text_comes_back_from_html_unescaped(text: str) -> None:
    document = {"type": "doc", "content": [{"type": "codeBlock", "content": [{"type": "text", "text": "x" + text}]}]}
    html = shown(compose(document), "html")
    read = from_html(html)["content"][0]["content"][0]["text"]
    visible = "".join(
        "\ufffd" if char in "\ufffe\uffff\x7f" or (char < " " and char not in "\t\n\r") else char for char in text
    )
    assert read == "x" + visible


def test_unknown_nodes_keep_their_content_under_their_name() -> None:
    document = {"type": "doc", "content": [{"type": 'call"out', "content": [{"type": "text", "text": "hi"}]}]}
    assert shown(compose(document), "html") == '<div data-type="call&quot;out">hi</div>'


@settings(deadline=None)
@given(st.text(st.sampled_from('<>/="abpulitdr!-&; \n'), max_size=60))
def test_any_html_becomes_a_document(html: str) -> None:
    update = run_content_job(Compose(html.encode(), "html"))
    assert inspected(shown(update, "html")).tags <= ALLOWED_TAGS


def test_scripts_and_styles_give_up_nothing() -> None:
    assert from_html("<style>p{}</style><script>alert(1)</script><p>a<iframe>b</iframe></p>")["content"] == [
        {"type": "paragraph", "content": [{"type": "text", "text": "a"}]}
    ]


def test_loose_html_gets_the_shape_of_tiptap() -> None:
    document = from_html(
        "intro <b>bold <i>both</i></b><h2>Title</h2><ul><li>one<li>two<ol start=3><li>three</ol></ul>"
        "<pre><code class='language-py'>\nx = 1\n  y</code></pre><hr><blockquote>q</blockquote>"
        '<ul><li><input type="checkbox" checked> done</li></ul>'
    )
    kinds = [node["type"] for node in document["content"]]
    assert kinds == ["paragraph", "heading", "bulletList", "codeBlock", "horizontalRule", "blockquote", "taskList"]
    nested = document["content"][2]["content"][1]["content"]
    assert [node["type"] for node in nested] == ["paragraph", "orderedList"]
    assert nested[1]["attrs"] == {"start": 3}
    assert document["content"][3] == {
        "type": "codeBlock",
        "attrs": {"language": "py"},
        "content": [{"type": "text", "text": "x = 1\n  y"}],
    }
    assert document["content"][6]["content"][0]["attrs"] == {"checked": True}


def test_deep_html_is_refused_in_a_sentence() -> None:
    with pytest.raises(InvalidContent, match="nests more than"):
        from_html("<div>" * 5000)
