"""The page in a real browser against a real server: two people, an outage, a crash, a deletion."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from tests.browser.conftest import People
    from tests.support.server import RunningServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


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


def content(server: RunningServer, name: str) -> str:
    return str(ask(server, "GET", f"/{name}/content?format=text"))


async def test_two_people_who_type_at_once_see_both_texts_and_each_others_names(
    people: People, server: RunningServer
) -> None:
    ada, ben = await people.join(), await people.join()
    await asyncio.gather(ada.open("shared"), ben.open("shared"))
    await asyncio.gather(ada.be("Saved"), ben.be("Saved"))
    await asyncio.gather(ada.write("first words "), ben.write("other words "))
    for person, other in ((ada, ben), (ben, ada)):
        await person.see("first words", "other words")
        name = await other.page.locator(".me .hidden").inner_text()
        await expect(person.page.locator(".caret-name")).to_have_text(name.removesuffix(" (you)"))
        await expect(person.page.locator(".people li")).to_have_count(1)
        await person.be("Saved")
    assert await ada.text.inner_text() == await ben.text.inner_text()
    assert "first words" in content(server, "shared")
    await ben.page.close()
    await expect(ada.page.locator(".people li")).to_have_count(0)
    await expect(ada.page.locator(".caret-name")).to_have_count(0)


async def test_a_name_and_colour_are_remembered_and_shown_to_others(people: People) -> None:
    ada, ben = await people.join(), await people.join()
    await asyncio.gather(ada.open("names"), ben.open("names"))
    await ada.page.get_by_role("button", name="Your name and colour").click()
    await ada.page.get_by_label("Name", exact=True).fill("<b>Quiet & keen</b>")
    await ada.page.get_by_label("Colour 3").check()
    await ada.page.get_by_role("button", name="Save").click()
    await ada.write("x")
    await expect(ben.page.locator(".caret-name")).to_have_text("<b>Quiet & keen</b>")
    await expect(ben.page.locator(".caret-name")).to_have_css("background-color", "rgb(161, 98, 7)")
    await ada.page.reload()
    await expect(ada.page.locator(".me .hidden")).to_have_text("<b>Quiet & keen</b> (you)")


async def test_k1_edits_made_while_the_server_is_away_are_kept_and_saved_when_it_is_back(
    people: People, server: RunningServer
) -> None:
    ada, ben = await people.join(), await people.join()
    await asyncio.gather(ada.open("away"), ben.open("away"))
    await ada.write("before ")
    await ben.see("before")
    await ada.be("Saved")
    server.kill()
    await ada.be("Offline")
    await ada.write("meanwhile ")
    await ada.be("Offline")
    server.launch()
    await ada.be("Saved")
    await ben.see("before meanwhile")
    assert "before meanwhile" in content(server, "away")


async def test_k1_a_browser_that_loses_its_network_says_offline_and_catches_up(
    people: People, server: RunningServer
) -> None:
    ada, ben = await people.join(), await people.join()
    await asyncio.gather(ada.open("cut"), ben.open("cut"))
    await ada.be("Saved")
    await ada.context.set_offline(True)
    await ada.write("alone ")
    await ada.be("Offline")
    await ben.write("meanwhile ")
    await ben.be("Saved")
    assert "alone" not in content(server, "cut")
    await ada.context.set_offline(False)
    await ada.be("Saved")
    await ada.see("alone", "meanwhile")
    await ben.see("alone", "meanwhile")


async def test_edits_made_offline_outlive_a_closed_tab(people: People, server: RunningServer) -> None:
    ada = await people.join()
    await ada.open("closed-tab")
    await ada.be("Saved")
    await ada.context.set_offline(True)
    await ada.write("kept in this browser")
    await ada.be("Offline")
    await ada.page.evaluate(STORED)
    await ada.page.close()
    assert content(server, "closed-tab") == ""
    await ada.context.set_offline(False)
    ada.page = await ada.context.new_page()
    ada.watch()
    await ada.open("closed-tab")
    await ada.see("kept in this browser")
    await ada.be("Saved")
    assert "kept in this browser" in content(server, "closed-tab")


async def test_k1_what_was_called_saved_survives_kill_9(people: People, server: RunningServer) -> None:
    ada = await people.join()
    await ada.open("crash")
    await ada.write("this must not be lost")
    await ada.be("Saved")
    server.kill()
    await ada.context.close()
    people.all.remove(ada)
    server.launch()
    ben = await people.join()
    await ben.open("crash")
    await ben.see("this must not be lost")
    await ben.page.reload()
    await ben.see("this must not be lost")


async def test_k1_without_an_echo_the_page_does_not_say_saved(people: People) -> None:
    ada = await people.join()
    await ada.page.add_init_script(SWALLOW_STATUS)
    await ada.open("no-echo")
    await ada.be("Unsaved")
    await ada.write("never confirmed")
    await ada.page.evaluate("window.passOn = true")
    await ada.be("Unsaved")
    await ada.write("!")
    await ada.be("Saved")


async def test_c2_a_deleted_document_says_so_and_stops_pretending(people: People, server: RunningServer) -> None:
    ada, ben = await people.join(), await people.join()
    await asyncio.gather(ada.open("doomed"), ben.open("doomed"))
    await ada.write("soon gone")
    await ben.see("soon gone")
    await ben.page.get_by_role("button", name="Delete document").click()
    await ben.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(ben.page.get_by_role("heading", name="Documents")).to_be_visible()
    await expect(ada.page.get_by_role("alert")).to_contain_text("Document deleted")
    await ada.be("Closed")
    await expect(ada.text).to_have_attribute("contenteditable", "false")
    late = await people.join()
    await late.open("doomed")
    await expect(late.page.get_by_role("alert")).to_contain_text("Document deleted")


async def test_a_new_document_is_made_titled_listed_and_deleted(people: People, server: RunningServer) -> None:
    ada, ben = await people.join(), await people.join()
    await ada.page.goto(server.url)
    await expect(ada.page.get_by_text("No documents yet")).to_be_visible()
    await ada.page.get_by_role("button", name="New document").click()
    await ada.be("Saved")
    await ben.page.goto(ada.page.url)
    await ben.be("Saved")
    await ada.page.get_by_label("Title").fill("Minutes <1>")
    await ada.page.keyboard.press("Enter")
    await expect(ben.page.get_by_label("Title")).to_have_value("Minutes <1>")
    await ada.page.get_by_role("link", name="All documents").click()
    row = ada.page.get_by_role("listitem").filter(has_text="Minutes <1>")
    await expect(row).to_be_visible()
    await row.get_by_role("button", name="Delete").click()
    await ada.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(row).to_have_count(0)
    assert ask(server, "GET", "")["documents"] == []


async def test_the_toolbar_formats_and_can_be_used_without_a_mouse(people: People, server: RunningServer) -> None:
    ada = await people.join()
    await ada.open("tools")
    await ada.be("Saved")
    await ada.write("plain ")
    await ada.page.get_by_role("button", name="Undo").focus()
    for _ in range(4):
        await ada.page.keyboard.press("ArrowRight")
    await expect(ada.page.get_by_role("button", name="Bold")).to_be_focused()
    await ada.page.keyboard.press("Enter")
    await ada.page.keyboard.type("strong")
    await expect(ada.text.locator("strong")).to_have_text("strong")
    await expect(ada.page.get_by_role("button", name="Bold")).to_have_attribute("aria-pressed", "true")
    await ada.page.get_by_role("button", name="Large heading").click()
    await expect(ada.text.locator("h1")).to_have_text("plain strong")
    await ada.page.get_by_role("button", name="Undo").click()
    await expect(ada.text.locator("h1")).to_have_count(0)


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
    ada = await people.join()
    await ada.page.goto(server.url)
    await expect(ada.page.get_by_role("listitem")).to_contain_text(image)
    await ada.open("hostile")
    await ada.see(image, "link 4")
    hrefs = await ada.text.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert [href for href in hrefs if href] == ["https://example.org/"]
    assert await ada.text.locator("img:not(.ProseMirror-separator)").count() == 0
    assert await ada.page.evaluate("window.__pwned") is None


async def test_h05_content_unknown_to_this_editor_is_shown_and_never_touched(
    people: People, server: RunningServer
) -> None:
    strange = {"type": "video", "content": [{"type": "text", "text": "from another editor"}]}
    given = {"format": "json", "value": {"type": "doc", "content": [strange]}}
    ask(server, "POST", "", {"name": "strange", "content": given})
    before = ask(server, "GET", "/strange/content?format=json")
    ada = await people.join()
    await ada.page.goto(f"{server.url}/d/strange")
    await expect(ada.page.get_by_role("alert")).to_contain_text("left untouched")
    await expect(ada.page.locator(".as-text")).to_contain_text("from another editor")
    await ada.be("Saved")
    assert ask(server, "GET", "/strange/content?format=json") == before


@pytest.mark.parametrize("width", [375, 1280])
async def test_nothing_is_wider_than_the_screen(people: People, server: RunningServer, width: int) -> None:
    ask(server, "POST", "", {"name": f"a-long-{'name-' * 20}", "title": "A title that goes on and on " * 5})
    ada = await people.join(viewport={"width": width, "height": 700})
    for path in ("/", f"/d/a-long-{'name-' * 20}"):
        await ada.page.goto(server.url + path)
        await expect(ada.page.locator(".documents li, .toolbar").first).to_be_visible()
        assert await ada.page.evaluate("document.documentElement.scrollWidth") == width


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
