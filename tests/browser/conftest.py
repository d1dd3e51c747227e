"""A Chromium, and people in it: each has a browser context of their own, on a real server.

Without a Chromium the tests are skipped and say so, except under CI, where that is a failure. Every page is watched:
an error or a content-security-policy violation fails the test at its end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from tests.support.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page

CHROMIUM_VARIABLE = "PLAYWRIGHT_CHROMIUM_EXECUTABLE_PATH"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 20_000
"""Longest wait for something that must come; nothing waits this long unless it is broken."""

expect.set_options(timeout=PATIENCE_MS)


def chromium() -> str | None:
    """The browser to use, or None."""
    given = os.environ.get(CHROMIUM_VARIABLE)
    if given:
        return given if Path(given).is_file() else None
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def executable() -> str:
    found = chromium()
    if found is None:
        sentence = f"no Chromium: install one of {', '.join(NAMES)}, or name one in {CHROMIUM_VARIABLE}"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return found


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One server for every test that leaves it alone; each uses documents of its own."""
    with RunningServer.start() as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of the test's own, to be killed."""
    with RunningServer.start(database=f"sqlite:///{tmp_path / 'collab.db'}", log=tmp_path / "server.log") as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(executable: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield launched
        finally:
            await launched.close()


@dataclass
class Person:
    """One user: a browser context (own storage, own network) and the page open in it."""

    server: RunningServer
    context: BrowserContext
    page: Page
    outages: bool = False
    """Whether this person's server or network goes away in the test."""
    complaints: list[str] = field(default_factory=list)

    async def open(self, name: str) -> None:
        """Open a document and wait until it can be typed in."""
        await self.page.goto(f"{self.server.url}/d/{name}")
        await expect(self.text).to_be_visible()

    @property
    def text(self) -> Any:
        """The text being edited."""
        return self.page.get_by_role("textbox", name="Document")

    @property
    def status(self) -> Any:
        """The pill."""
        return self.page.locator(".status .label")

    async def write(self, words: str, *, paragraph: int | None = None) -> None:
        """Put the cursor at the end, of the text or of one paragraph, and type key by key."""
        await expect(self.text).to_be_editable()
        if paragraph is None:
            await self.text.focus()
            await self.page.keyboard.press("ControlOrMeta+End")
        else:
            await self.text.locator("p").nth(paragraph).click()
            await self.page.keyboard.press("End")
        await self.page.keyboard.type(words)

    async def see(self, *words: str) -> None:
        """Wait until all of it is in the text."""
        for each in words:
            await expect(self.text).to_contain_text(each)

    async def words(self) -> str:
        """What is written, as HTML, without what the editor adds to show it."""
        return str(
            await self.text.evaluate(
                "text => { const copy = text.cloneNode(true);"
                " copy.querySelectorAll('.caret, .ProseMirror-separator, .ProseMirror-trailingBreak')"
                ".forEach(added => added.remove()); return copy.innerHTML }"
            )
        )

    async def be(self, status: str) -> None:
        """Wait until the page says so."""
        await expect(self.status).to_have_text(status)

    def watch(self) -> None:
        """Note every error the page or the browser reports."""
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not self._is_the_browsers_own(message):
            self.complaints.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _is_the_browsers_own(self, message: ConsoleMessage) -> bool:
        """A browser logs each refused request; what REST refuses is the page's business, what is away the test's."""
        refused = "the server responded with a status of" in message.text
        if refused and message.location["url"].startswith(f"{self.server.url}/v1/"):
            return True
        return self.outages and "net::ERR_" in message.text


class People:
    """Makes them, and holds what they complained about."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.all: list[Person] = []

    async def join(self, server: RunningServer, *, outages: bool = False, **options: Any) -> Person:
        """A new person with an empty page, about to use ``server``; ``options`` go to the browser context."""
        context = await self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(PATIENCE_MS)
        person = Person(server, context, await context.new_page(), outages)
        person.watch()
        self.all.append(person)
        return person

    async def leave(self) -> None:
        """Close every context; closing again is no mistake."""
        await asyncio.gather(*(person.context.close() for person in self.all))

    def complaints(self) -> list[str]:
        """Every error and warning of the page."""
        return [complaint for person in self.all for complaint in person.complaints]


@pytest_asyncio.fixture(loop_scope="session")
async def people(browser: Browser) -> AsyncIterator[People]:
    crowd = People(browser)
    yield crowd
    await crowd.leave()
    assert crowd.complaints() == []
