"""Hostile peers and pages against the editor in a real browser: nothing they write runs, and nothing they do ends it.

A peer here is a raw client that writes into the CRDT and into presence whatever it likes, past every editor. Another
server, on another port, is the elsewhere that nothing may be sent to.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_hex
from threading import Thread
from typing import TYPE_CHECKING, Any

import jwt
import pycrdt
import pytest
from playwright.async_api import Error, expect
from websockets.asyncio.client import connect

from tests.support import wire
from tests.support.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from tests.browser.conftest import People, Person

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

SECRET = token_hex(32)
MARKUP = '<img src=x onerror="__pwned=1"><svg onload="__pwned=1"><script>__pwned=1</script>'
PATIENCE_S = 20.0


class Elsewhere:
    """A server of another origin: what it was asked for, and the pages it serves."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pages: dict[str, str] = {}
        elsewhere = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                elsewhere.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(elsewhere.pages.get(self.path, "").encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    made = Elsewhere()
    yield made
    made.close()


@asynccontextmanager
async def peer(server: RunningServer, name: str, token: str = "") -> AsyncIterator[ClientConnection]:
    """A raw client of a document, which reads all it is sent so that nothing waits for it."""
    async with connect(f"{server.ws_url}/{name}{token and f'?token={token}'}") as socket:

        async def read() -> None:
            async for _ in socket:
                pass

        reading = asyncio.create_task(read())
        try:
            yield socket
        finally:
            reading.cancel()


def element(tag: str, *children: Any, **attributes: Any) -> pycrdt.XmlElement:
    return pycrdt.XmlElement(tag, attributes, [pycrdt.XmlText(c) if isinstance(c, str) else c for c in children])


def document(*parts: Any) -> pycrdt.Doc[Any]:
    made: pycrdt.Doc[Any] = pycrdt.Doc()
    children = made.get("default", type=pycrdt.XmlFragment).children
    for part in parts:
        children.append(part)
    return made


def link(text: str, **attributes: Any) -> Callable[[pycrdt.XmlText], None]:
    return lambda into: into.insert(len(str(into)), text, {"link": attributes})


async def until(holds: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Wait until the browser says so; it does some things in processes of their own."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with suppress(Error):  # a page that is being replaced answers nothing
            if await holds():
                return
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.05)


async def is_unharmed(person: Person, elsewhere: Elsewhere) -> None:
    """Nothing ran, nothing left, and the page can be typed in."""
    assert await person.page.evaluate("window.__pwned") is None
    mark = f"still-usable-{token_hex(4)}"
    await person.write(f" {mark}")
    await person.see(mark)
    await person.be("Saved")
    assert elsewhere.asked == []


async def test_h01_h02_what_a_peer_writes_into_the_crdt_is_text_and_links_carry_only_their_address(
    people: People, server: RunningServer, elsewhere: Elsewhere
) -> None:
    one = await people.join(server)
    await one.open("peer-links")
    await one.be("Saved")
    bad = [
        "javascript:__pwned=1",
        "JaVaScRiPt:__pwned=1",
        "java\tscript:__pwned=1",
        "java\nscript:__pwned=1",
        "\x01javascript:__pwned=1",
        " javascript:__pwned=1",
        "java&#x73;cript:__pwned=1",
        "data:text/html,<script>__pwned=1</script>",
        "vbscript:x",
        "blob:x",
        "//evil.example/x",
        "https:javascript:1",
    ]
    text = pycrdt.XmlText()
    made = document(element("paragraph", text), element("codeBlock", MARKUP, language="x", onclick="__pwned=1"))
    text.insert(0, MARKUP)
    tricks = {"rel": "opener", "target": "_self", "class": "notice", "onclick": "__pwned=1", "style": "position:fixed"}
    for number, href in enumerate([*bad, "https://example.org/", 7, ["https://x/"]]):
        link(f"link {number} ", href=href, **tricks)(text)
    async with peer(server, "peer-links") as hostile:
        await hostile.send(wire.update(made.get_update()))
        await one.see("link 14", MARKUP)
        links = one.text.locator("a")
        hrefs = await links.evaluate_all("found => found.map(a => a.getAttribute('href'))")
        assert [href for href in hrefs if href] == ["https:javascript:1", "https://example.org/"]
        drawn = await links.evaluate_all("found => found.map(a => a.getAttributeNames().join() + a.rel + a.target)")
        assert {each.removeprefix("href,") for each in drawn} == {"rel,targetnoopener noreferrer nofollow_blank"}
        assert await one.text.locator("img:not(.ProseMirror-separator), script, svg").count() == 0
        for number in range(len(bad)):
            await links.nth(number).dispatch_event("click")
        await is_unharmed(one, elsewhere)


async def test_h01_pasted_and_dropped_html_runs_nothing_and_loads_nothing(
    people: People, server: RunningServer, elsewhere: Elsewhere
) -> None:
    one = await people.join(server)
    await one.open("pasted")
    await one.be("Saved")
    html = f"<b>strong words</b>{MARKUP}<img src='{elsewhere.url}/i'><iframe src='{elsewhere.url}/f'></iframe>"
    for kind in ("paste", "drop"):
        await one.text.evaluate(HAND_OVER, [kind, f"<p>{kind}ed {html}</p>"])
        await one.see(f"{kind}ed strong words")
    await expect(one.text.locator("strong").first).to_have_text("strong words")
    await is_unharmed(one, elsewhere)
    # ProseMirror parses in a document of its own that runs nothing; Chromium notes there, too, what it does not run.
    assert all("Executing inline event handler violates" in each for each in one.complaints)
    one.complaints.clear()


async def test_h03_no_presence_of_a_peer_ends_the_editor_or_reaches_a_style(
    people: People, server: RunningServer, elsewhere: Elsewhere
) -> None:
    one, honest = await people.join(server), await people.join(server)
    await one.open("peer-presence")
    await one.write("some words")  # carets are drawn in a text that has some
    await one.be("Saved")
    here = {"type": None, "tname": "default", "item": None, "assoc": 0}
    cursor = {"anchor": here, "head": here}
    color = f"red;background:url({elsewhere.url}/x)"
    states: list[Any] = [
        {"user": {"name": MARKUP, "color": color}, "cursor": cursor},
        {"user": {"name": {"toString": 1}, "color": ["#ffffff"]}, "cursor": cursor},
        {"user": "a text", "cursor": cursor},
        {"user": None, "cursor": cursor},
        {"cursor": "x"},
        {"cursor": {"anchor": {}, "head": {}}},
        {"cursor": {"anchor": None, "head": 7}},
        {"cursor": {"anchor": {"item": "x"}, "head": {"item": {"client": "a", "clock": -1}}}},
        {"cursor": {"anchor": {"item": {"client": 1, "clock": 0.5}}, "head": {"type": {"client": 1}}}},
        {"cursor": {"anchor": {"tname": "__proto__", "assoc": "x"}, "head": {"tname": ["x"]}}},
        {"cursor": {"anchor": {**here, "tname": "other"}, "head": here}},
        {"titled": 1e308, "user": []},
    ]
    sockets = []
    for number, state in enumerate(states):
        opened = peer(server, "peer-presence")
        sockets.append(opened)
        await (await opened.__aenter__()).send(wire.awareness((1000 + number, 1, json.dumps(state))))
    try:
        await expect(one.page.locator(".people .avatar").first).to_be_visible()
        await expect(one.page.locator(".caret-name").first).to_be_visible()
        styles = await one.page.evaluate("[...document.querySelectorAll('[style]')].map(e => e.getAttribute('style'))")
        assert not any("url" in style for style in styles)
        await honest.open("peer-presence")
        await honest.write("hello")
        await one.see("hello")
        name = (await honest.page.locator(".me .hidden").inner_text()).removesuffix(" (you)")
        await expect(one.page.locator(".caret-name").filter(has_text=name)).to_have_count(1)
        await is_unharmed(one, elsewhere)
    finally:
        for opened in sockets:
            await opened.__aexit__(None, None, None)


async def test_h04_embeds_of_a_peer_are_not_fetched(
    people: People, server: RunningServer, elsewhere: Elsewhere
) -> None:
    one, two = await people.join(server), await people.join(server)
    await one.open("peer-embeds")
    tags = {"image": "src", "img": "src", "iframe": "src", "video": "poster", "embed": "src", "link": "href"}
    parts = [element(tag, **{attribute: f"{elsewhere.url}/{tag}"}) for tag, attribute in tags.items()]
    async with peer(server, "peer-embeds") as hostile:
        await hostile.send(wire.update(document(element("paragraph", "visible words"), *parts).get_update()))
        await expect(one.page.locator(".as-text")).to_contain_text("visible words")
        await two.page.goto(f"{server.url}/d/peer-embeds")
        await expect(two.page.locator(".as-text")).to_contain_text("visible words")
    assert elsewhere.asked == []


STRANGE: dict[str, Callable[[], Any]] = {
    "an unknown node in a known one": lambda: element("blockquote", element("scriptNode", "x", src="javascript:1")),
    "a span as wide as memory": lambda: _table({"colspan": 4294967295.0}),
    "spans that multiply": lambda: _table(*[{"colspan": 1_000_000.0}] * 3),
    "a span that is no number": lambda: _table({"colspan": "9" * 300}),
    "a width that is a style": lambda: _table({"colwidth": ["1px;position:fixed;inset:0"]}),
    "a language that is a class": lambda: element("codeBlock", "x", language="x notice document-header"),
}
MISFIT: dict[str, Callable[[], Any]] = {
    "a row outside a table": lambda: element("tableRow", element("tableCell", element("paragraph", "x"))),
    "an item outside a list": lambda: element("listItem", element("paragraph", "x")),
    "a list without items": lambda: element("bulletList", element("paragraph", "x")),
    "a document in a document": lambda: element("doc", element("paragraph", "x")),
    "text as a node": lambda: element("text", "x"),
    "a paragraph in a paragraph": lambda: element("paragraph", element("paragraph", "x")),
    "a heading of level 1e9": lambda: element("heading", "x", level=1e9),
    "attributes nobody knows": lambda: element("paragraph", "x", onclick="__pwned=1", style="position:fixed"),
}


def _table(*cells: dict[str, Any]) -> pycrdt.XmlElement:
    made = [element("tableCell", element("paragraph", "x"), **cell) for cell in cells]
    return element("table", element("tableRow", *made))


@pytest.mark.parametrize("name", STRANGE)
async def test_h05_what_cannot_be_drawn_is_shown_as_text(people: People, server: RunningServer, name: str) -> None:
    one, address = await people.join(server), "strange-" + name.replace(" ", "-")
    await one.open(address)
    await one.be("Saved")
    async with peer(server, address) as hostile:
        await hostile.send(wire.update(document(element("paragraph", "known words"), STRANGE[name]()).get_update()))
        await expect(one.page.locator(".as-text")).to_contain_text("known words")
        await one.be("Saved")
    late = await people.join(server)
    await late.page.goto(f"{server.url}/d/{address}")
    await expect(late.page.locator(".as-text")).to_contain_text("known words")


@pytest.mark.parametrize("name", MISFIT)
async def test_h05_what_fits_nowhere_leaves_the_editor_usable(
    people: People, server: RunningServer, elsewhere: Elsewhere, name: str
) -> None:
    one, address = await people.join(server), "misfit-" + name.replace(" ", "-")
    await one.open(address)
    await one.be("Saved")
    async with peer(server, address) as hostile:
        await hostile.send(wire.update(document(element("paragraph", "known words"), MISFIT[name]()).get_update()))
        await one.see("known words")
        await is_unharmed(one, elsewhere)


async def test_h05_r3_no_content_makes_a_readers_page_write(people: People, tmp_path: Path) -> None:
    """What fits nowhere is removed from the text by the editor's binding: in a reader's page only from its copy."""
    claims = {"sub": "x", "exp": int(time.time()) + 600}
    writer, reader = (jwt.encode({**claims, "access": role}, SECRET) for role in ("write", "read"))
    with RunningServer.start(
        database=f"sqlite:///{tmp_path / 'collab.db'}", env={"COLLAB_AUTH": "jwt", "COLLAB_JWT_SECRET": SECRET}
    ) as guarded:
        one = await people.join(guarded)
        await one.open(f"d#token={reader}")
        await one.be("Saved")
        async with peer(guarded, "d", writer) as hostile:
            for made in MISFIT.values():
                await hostile.send(wire.update(document(made()).get_update()))
            await hostile.send(wire.update(document(element("paragraph", "the end")).get_update()))
            await one.see("the end")
            await hostile.send(wire.update(document(element("paragraph", "really")).get_update()))
            await one.see("really")
        await expect(one.page.get_by_text("Read only")).to_be_visible()
        await expect(one.page.locator(".notice")).to_be_hidden()
        await one.be("Saved")
        await people.leave()


async def test_opening_a_document_writes_nothing(people: People, server: RunningServer) -> None:
    one = await people.join(server)
    await one.open("only-opened")
    await one.be("Saved")
    answer = await one.context.request.get(f"{server.url}/v1/documents/only-opened")
    assert answer.status == 404


async def test_h08_no_other_page_frames_the_editor_or_holds_on_to_it(
    people: People, server: RunningServer, elsewhere: Elsewhere
) -> None:
    one = await people.join(server, outages=True)
    elsewhere.pages["/frame"] = f"<iframe src='{server.url}/d/framed'></iframe>"
    one.page.remove_listener("console", one._heard)  # the refusal is logged, as it should be
    await one.page.goto(f"{elsewhere.url}/frame")
    frame = one.page.frames[1]
    await until(lambda: frame.evaluate("location.href.startsWith('chrome-error')"), "the editor is framed")
    async with one.context.expect_page() as opened:
        await one.page.evaluate(f"window.held = window.open('{server.url}/d/opened')")
    editor = await opened.value
    await expect(editor.get_by_role("textbox", name="Document")).to_be_visible()
    assert await editor.evaluate("window.opener") is None
    await until(lambda: one.page.evaluate("window.held.closed"), "the editor is held on to")


async def test_a03_e16_another_page_opens_no_socket_and_reads_no_document(
    people: People, server: RunningServer, elsewhere: Elsewhere
) -> None:
    one = await people.join(server)
    one.page.remove_listener("console", one._heard)
    elsewhere.pages["/attack"] = "<p>attack</p>"
    await one.page.goto(f"{elsewhere.url}/attack")
    assert await one.page.evaluate(OPEN_SOCKET, f"{server.ws_url}/d") == "refused"
    documents = f"{server.url}/v1/documents"
    assert await one.page.evaluate("url => fetch(url).then(() => 'read', () => 'refused')", documents) == "refused"
    await one.page.evaluate(FORGE, documents)
    assert (await one.context.request.get(f"{server.url}/v1/documents/forged")).status == 404


HAND_OVER = """(text, [kind, html]) => {
  const data = new DataTransfer()
  data.setData("text/html", html)
  const at = text.getBoundingClientRect()
  const where = { bubbles: true, cancelable: true, clientX: at.x + 5, clientY: at.y + 5 }
  text.focus()
  text.dispatchEvent(kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, ...where })
    : new DragEvent("drop", { dataTransfer: data, ...where }))
}"""


OPEN_SOCKET = """url => new Promise((done) => {
  const socket = new WebSocket(url)
  socket.onopen = () => done("open")
  socket.onclose = () => done("refused")
})"""

FORGE = """url => fetch(url, { method: "POST", mode: "no-cors", body: '{"name": "forged"}' }).catch(() => null)"""
