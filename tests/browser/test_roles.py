"""What the page lets its user do is what the server says: by link, by grant, by token, and after a change of these."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from tests.support.server import RunningServer
from tests.support.tokens import AUTH, bearer, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.conftest import People, Person

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that asks for tokens, with one document."""
    with RunningServer.start(database=f"sqlite:///{tmp_path / 'collab.db'}", env=AUTH) as running:
        ask(running, "POST", "", {"name": "plan", "content": {"format": "text", "value": "the plan"}})
        yield running


def ask(server: RunningServer, method: str, path: str, body: object) -> Any:
    """One REST call of an admin."""
    headers = {"Content-Type": "application/json", **bearer(sub="root", access="admin")}
    address, data = f"{server.url}/v1/documents{path}", json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data, headers, method=method), timeout=20) as reply:
        return json.loads(reply.read())


async def may_only_read(person: Person) -> None:
    await expect(person.page.get_by_text("Read only")).to_be_visible()
    await expect(person.text).to_have_attribute("contenteditable", "false")
    await expect(person.page.get_by_role("toolbar")).to_have_count(0)
    await expect(person.page.get_by_label("Title")).to_be_disabled()
    await expect(person.page.get_by_role("button", name="Delete document")).to_be_hidden()


async def may_write(person: Person) -> None:
    await expect(person.text).to_have_attribute("contenteditable", "true")
    await expect(person.page.get_by_role("toolbar")).to_have_count(1)
    await expect(person.page.get_by_text("Read only")).to_be_hidden()
    await expect(person.page.get_by_label("Title")).to_be_enabled()


async def test_r3_a_link_to_read_shows_a_reader_and_one_to_write_an_editor(
    people: People, guarded: RunningServer
) -> None:
    reader, writer = [await people.join(guarded) for _ in range(2)]
    for person, role in ((reader, "read"), (writer, "write")):
        link = ask(guarded, "POST", "/plan/links", {"role": role})["secret"]
        await person.open(f"plan#token={link}")
        await person.see("the plan")
    await may_only_read(reader)
    await may_write(writer)
    await reader.text.click()
    await reader.page.keyboard.type("never")
    await writer.write(" by link")
    await writer.be("Saved")
    await reader.see("the plan by link")
    await reader.be("Saved")
    await people.leave()


async def test_g8_a_grant_decides_where_the_token_says_nothing_or_less(people: People, guarded: RunningServer) -> None:
    ben = await people.join(guarded)
    ask(guarded, "PUT", "/plan/grants/ben", {"role": "write"})
    await ben.open(f"plan#token={token(sub='ben', documents={'plan': 'read'})}")
    await may_write(ben)
    await ben.write(" of ben")
    await ben.be("Saved")
    ask(guarded, "PUT", "/plan/grants/ben", {"role": "read"})
    await ben.page.reload()
    await may_only_read(ben)
    await people.leave()


async def test_g11_a_new_token_in_the_address_turns_a_reader_into_a_writer_and_back(
    people: People, guarded: RunningServer
) -> None:
    ben = await people.join(guarded)
    await ben.open(f"plan#token={token(sub='ben', documents={'plan': 'read'})}")
    await may_only_read(ben)
    for round_, word in enumerate(("one", "two")):
        await ben.page.evaluate("given => { location.hash = given }", f"token={token(sub='ben', access='write')}")
        await may_write(ben)
        await ben.write(f" {word}")
        await ben.be("Saved")
        again = token(sub="ben", documents={"plan": "read"}, jti=str(round_))
        await ben.page.evaluate("given => { location.hash = given }", f"token={again}")
        await may_only_read(ben)
    await ben.see("the plan one two")
    await people.leave()


async def test_the_text_can_be_read_while_the_server_cannot_say_what_we_may(
    people: People, guarded: RunningServer
) -> None:
    ben = await people.join(guarded, outages=True)
    away = True

    async def role(route: Any) -> None:
        await (route.abort() if away else route.continue_())

    await ben.page.route("**/v1/documents/plan/role", role)
    await ben.open(f"plan#token={token(sub='ben', access='write')}")
    await ben.see("the plan")
    await expect(ben.text).to_have_attribute("contenteditable", "false")
    away = False
    await may_write(ben)
    await people.leave()
