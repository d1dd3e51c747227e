"""The page in a real browser against a real server: two people, an outage, a crash, a deletion."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import jwt
import pycrdt
import pytest
from playwright.async_api import expect

from tests.support.server import RunningServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import People

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


def ask(server: RunningServer, method: str, path: str, body: object = None) -> Any:
    """One REST call; JSON where there is some."""
    request = urllib.request.Request(
        f"{server.url}/v1/documents{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        text = reply.read().decode()
        return json.loads(text) if "json" in reply.headers.get("Content-Type", "") else text


def send_update(server: RunningServer, name: str, update: bytes) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    address = f"{server.url}/v1/documents/{name}/updates"
    with urllib.request.urlopen(urllib.request.Request(address, data=update, headers=headers), timeout=20):
        pass


def token(secret: str, role: str, *, name: str) -> str:
    claims = {"sub": role, "name": name, "documents": {"acme:*": role}, "exp": int(time.time()) + 600}
    return jwt.encode(claims, secret, algorithm="HS256")


def content(server: RunningServer, name: str) -> str:
    return str(ask(server, "GET", f"/{name}/content?format=text"))


async def test_two_people_who_type_at_once_see_both_texts_and_each_others_names(
    people: People, server: RunningServer
) -> None:
    given = {"format": "markdown", "value": "Above:\n\nBelow:"}
    ask(server, "POST", "", {"name": "shared", "content": given})
    one, two = await people.join(server), await people.join(server)
    await asyncio.gather(one.open("shared"), two.open("shared"))
    await asyncio.gather(one.be("Saved"), two.be("Saved"))
    await asyncio.gather(one.write(" first words", paragraph=0), two.write(" other words", paragraph=1))
    for person, other in ((one, two), (two, one)):
        await person.see("first words", "other words")
        name = await other.page.locator(".me .hidden").inner_text()
        await expect(person.page.locator(".caret-name")).to_have_text(name.removesuffix(" (you)"))
        await expect(person.page.locator(".people li")).to_have_count(1)
        await person.be("Saved")
    assert await one.words() == await two.words()
    assert "first words" in content(server, "shared")
    await two.page.close()
    await expect(one.page.locator(".people li")).to_have_count(0)
    await expect(one.page.locator(".caret-name")).to_have_count(0)


async def test_a_name_and_colour_are_remembered_and_shown_to_others(people: People, server: RunningServer) -> None:
    one, two = await people.join(server), await people.join(server)
    await asyncio.gather(one.open("names"), two.open("names"))
    await one.page.get_by_role("button", name="Your name and colour").click()
    await one.page.get_by_label("Name", exact=True).fill("<b>Quiet & keen</b>")
    await one.page.get_by_label("Colour 3").check()
    await one.page.get_by_role("button", name="Save").click()
    await one.write("x")
    await expect(two.page.locator(".caret-name")).to_have_text("<b>Quiet & keen</b>")
    await expect(two.page.locator(".caret-name")).to_have_css("background-color", "rgb(161, 98, 7)")
    await one.page.reload()
    await expect(one.page.locator(".me .hidden")).to_have_text("<b>Quiet & keen</b> (you)")


async def test_k1_edits_made_while_the_server_is_away_are_kept_and_saved_when_it_is_back(
    people: People, mortal: RunningServer
) -> None:
    one, two = await people.join(mortal, outages=True), await people.join(mortal, outages=True)
    await asyncio.gather(one.open("away"), two.open("away"))
    await one.write("before ")
    await two.see("before")
    await one.be("Saved")
    mortal.kill()
    await one.be("Offline")
    await one.write("meanwhile ")
    await one.be("Offline")
    mortal.launch()
    await one.be("Saved")
    await two.see("before meanwhile")
    assert "before meanwhile" in content(mortal, "away")


async def test_k1_a_browser_that_loses_its_network_says_offline_and_catches_up(
    people: People, server: RunningServer
) -> None:
    one, two = await people.join(server, outages=True), await people.join(server)
    await asyncio.gather(one.open("cut"), two.open("cut"))
    for person in (one, two):
        await person.be("Saved")
        await expect(person.page.locator(".people li")).to_have_count(1)
    # Whoever hears anything after it lost its network believes that it did not, so nothing may be on its way now.
    await one.context.set_offline(True)
    await one.write("alone ")
    await one.be("Offline")
    await two.write("meanwhile ")
    await two.be("Saved")
    await one.context.set_offline(False)
    await one.be("Saved")
    await one.see("alone", "meanwhile")
    await two.see("alone", "meanwhile")


async def test_edits_made_offline_outlive_a_closed_tab(people: People, mortal: RunningServer) -> None:
    one = await people.join(mortal, outages=True)
    await one.open("closed-tab")
    await one.be("Saved")
    mortal.kill()
    await one.be("Offline")
    await one.write("kept in this browser")
    await one.page.evaluate(STORED)
    await one.page.close()
    mortal.launch()
    one.page = await one.context.new_page()
    one.watch()
    await one.open("closed-tab")
    await one.see("kept in this browser")
    await one.be("Saved")
    assert "kept in this browser" in content(mortal, "closed-tab")


async def test_k1_what_was_called_saved_survives_kill_9(people: People, mortal: RunningServer) -> None:
    one = await people.join(mortal, outages=True)
    await one.open("crash")
    await one.write("this must not be lost")
    await one.be("Saved")
    mortal.kill()
    await one.context.close()
    people.all.remove(one)
    mortal.launch()
    two = await people.join(mortal, outages=True)
    await two.open("crash")
    await two.see("this must not be lost")
    await two.page.reload()
    await two.see("this must not be lost")


async def test_k1_without_an_echo_the_page_does_not_say_saved(people: People, server: RunningServer) -> None:
    one = await people.join(server)
    await one.page.add_init_script(SWALLOW_STATUS)
    await one.open("no-echo")
    await one.be("Unsaved")
    await one.write("never confirmed")
    await one.be("Unsaved")
    async with one.page.expect_event("dialog") as asked:
        await one.page.close(run_before_unload=True)
    question = await asked.value
    assert question.type == "beforeunload"
    await question.dismiss()
    await one.be("Unsaved")
    await one.page.evaluate("window.passOn = true")
    await one.write("!")
    await one.be("Saved")


async def test_c2_a_deleted_document_says_so_and_stops_pretending(people: People, server: RunningServer) -> None:
    one, two = await people.join(server), await people.join(server)
    await asyncio.gather(one.open("doomed"), two.open("doomed"))
    await one.write("soon gone")
    await two.see("soon gone")
    await two.page.get_by_role("button", name="Delete document").click()
    await two.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(two.page.get_by_role("heading", name="Documents")).to_be_visible()
    await expect(one.page.get_by_role("alert")).to_contain_text("Document deleted")
    await one.be("Closed")
    await expect(one.text).to_have_attribute("contenteditable", "false")
    late = await people.join(server)
    await late.open("doomed")
    await expect(late.page.get_by_role("alert")).to_contain_text("Document deleted")


async def test_a_new_document_is_made_titled_listed_and_deleted(people: People, server: RunningServer) -> None:
    one, two = await people.join(server), await people.join(server)
    await one.page.goto(server.url)
    await one.page.get_by_role("button", name="New document").click()
    await one.be("Saved")
    await two.page.goto(one.page.url)
    await two.be("Saved")
    await one.page.get_by_label("Title").fill("Minutes <1>")
    await one.page.keyboard.press("Enter")
    await expect(two.page.get_by_label("Title")).to_have_value("Minutes <1>")
    await one.page.get_by_role("link", name="All documents").click()
    row = one.page.get_by_role("listitem").filter(has_text="Minutes <1>")
    await expect(row).to_be_visible()
    await row.get_by_role("button", name="Delete").click()
    await one.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(row).to_have_count(0)
    assert "Minutes <1>" not in [document["title"] for document in ask(server, "GET", "")["documents"]]


async def test_the_toolbar_formats_and_can_be_used_without_a_mouse(people: People, server: RunningServer) -> None:
    one = await people.join(server)
    await one.open("tools")
    await one.be("Saved")
    await one.write("plain ")
    await one.page.get_by_role("button", name="Undo").focus()
    for _ in range(4):
        await one.page.keyboard.press("ArrowRight")
    await expect(one.page.get_by_role("button", name="Bold")).to_be_focused()
    await one.page.keyboard.press("Enter")
    await expect(one.text).to_be_focused()
    await one.page.keyboard.type("strong")
    await expect(one.text.locator("strong")).to_have_text("strong")
    await expect(one.page.get_by_role("button", name="Bold")).to_have_attribute("aria-pressed", "true")
    await one.page.get_by_role("button", name="Large heading").click()
    await expect(one.text.locator("h1")).to_have_text("plain strong")
    await one.page.get_by_role("button", name="Undo").click()
    await expect(one.text.locator("h1")).to_have_count(0)


async def test_h01_h02_hostile_content_stays_text_and_its_links_lead_nowhere(
    people: People, server: RunningServer
) -> None:
    image = '<img src=x onerror="window.__pwned = 1">'
    bad = ["javascript:window.__pwned=1", " java\tscript:window.__pwned=1", "data:text/html,x", "vbscript:x"]
    marked = [
        {"type": "text", "text": f"link {index} ", "marks": [{"type": "link", "attrs": {"href": href}}]}
        for index, href in enumerate([*bad, "https://example.org/"])
    ]
    paragraph = {"type": "paragraph", "content": [{"type": "text", "text": image}, *marked]}
    given = {"format": "json", "value": {"type": "doc", "content": [paragraph]}}
    ask(server, "POST", "", {"name": "hostile", "title": image, "content": given})
    one = await people.join(server)
    await one.page.goto(server.url)
    await expect(one.page.get_by_role("listitem").filter(has_text="onerror")).to_contain_text(image)
    await one.open("hostile")
    await one.see(image, "link 4")
    hrefs = await one.text.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert [href for href in hrefs if href] == ["https://example.org/"]
    assert await one.text.locator("img:not(.ProseMirror-separator)").count() == 0
    assert await one.page.evaluate("window.__pwned") is None


async def test_h05_content_unknown_to_this_editor_is_shown_and_never_touched(
    people: People, server: RunningServer
) -> None:
    strange = {"type": "video", "content": [{"type": "text", "text": "from another editor"}]}
    given = {"format": "json", "value": {"type": "doc", "content": [strange]}}
    ask(server, "POST", "", {"name": "strange", "content": given})
    before = ask(server, "GET", "/strange/content?format=json")
    one = await people.join(server)
    await one.page.goto(f"{server.url}/d/strange")
    await expect(one.page.get_by_role("alert")).to_contain_text("left untouched")
    await expect(one.page.locator(".as-text")).to_contain_text("from another editor")
    await one.be("Saved")
    assert ask(server, "GET", "/strange/content?format=json") == before


async def test_h05_unknown_content_that_arrives_while_editing_is_not_deleted_either(
    people: People, server: RunningServer
) -> None:
    one = await people.join(server)
    await one.open("strange-later")
    await one.write("known text")
    await one.be("Saved")
    strange = pycrdt.Doc()
    strange.get("default", type=pycrdt.XmlFragment).children.append(
        pycrdt.XmlElement("video", contents=[pycrdt.XmlText("from another editor")])
    )
    send_update(server, "strange-later", strange.get_update())
    await expect(one.page.get_by_role("alert")).to_contain_text("left untouched")
    await expect(one.page.locator(".as-text")).to_contain_text("known text")
    await one.be("Saved")
    shown = json.dumps(ask(server, "GET", "/strange-later/content?format=json"))
    assert "video" in shown
    assert "from another editor" in shown


async def test_a_token_from_the_link_decides_who_may_write_and_leaves_the_address_bar(
    people: People, tmp_path: Path
) -> None:
    secret = token_hex(32)
    with RunningServer.start(
        database=f"sqlite:///{tmp_path / 'collab.db'}", env={"COLLAB_AUTH": "jwt", "COLLAB_JWT_SECRET": secret}
    ) as guarded:
        stranger, writer, reader = [await people.join(guarded) for _ in range(3)]
        await stranger.page.goto(f"{guarded.url}/d/acme:plan")
        await expect(stranger.page.get_by_role("alert")).to_contain_text("Please sign in")
        await stranger.be("Closed")
        await writer.open(f"acme:plan#token={token(secret, 'write', name='Chief gardener')}")
        await writer.be("Saved")
        await expect(writer.page.locator(".me .hidden")).to_have_text("Chief gardener (you)")
        assert writer.page.url == f"{guarded.url}/d/acme:plan"
        await reader.open(f"acme:plan#token={token(secret, 'read', name='Reader')}")
        await writer.write("for your eyes")
        await writer.be("Saved")
        await reader.see("for your eyes")
        await expect(reader.page.get_by_text("Read only")).to_be_visible()
        await expect(reader.text).to_have_attribute("contenteditable", "false")
        await expect(reader.page.get_by_role("toolbar")).to_have_count(0)
        await expect(writer.page.locator(".people li")).to_contain_text("Reader")
        await reader.page.reload()
        await reader.see("for your eyes")
        await people.leave()  # before the server does, which they would complain about


@pytest.mark.parametrize("width", [375, 1280])
async def test_nothing_is_wider_than_the_screen(people: People, server: RunningServer, width: int) -> None:
    name = f"a-long-name-of-{width}-" + "and-so-on-" * 10
    ask(server, "POST", "", {"name": name, "title": "A title that goes on and on " * 5})
    one = await people.join(server, viewport={"width": width, "height": 700})
    for path in ("/", f"/d/{name}"):
        await one.page.goto(server.url + path)
        await expect(one.page.locator(".documents li, .toolbar").first).to_be_visible()
        assert await one.page.evaluate("document.documentElement.scrollWidth") == width


STORED = """async () => {
  // y-indexeddb writes in the order of the edits; a read in a later transaction sees them all.
  const names = (await indexedDB.databases()).map(({ name }) => name).filter((name) => name.startsWith("collab/"))
  for (const name of names) {
    const database = await new Promise((done) => {
      const request = indexedDB.open(name)
      request.onsuccess = () => done(request.result)
    })
    await new Promise((done) => {
      const request = database.transaction("updates", "readwrite").objectStore("updates").count()
      request.onsuccess = done
    })
    database.close()
  }
}"""

SWALLOW_STATUS = """
  const Real = window.WebSocket
  window.WebSocket = class extends Real {
    set onmessage(heard) {
      super.onmessage = heard && ((event) => {
        if (window.passOn || new Uint8Array(event.data)[0] !== 102) heard(event)
      })
    }
    get onmessage() { return super.onmessage }
  }
"""
