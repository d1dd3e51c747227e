"""The routes of the editor page: what is served, how long it may be kept, and what browsers are told not to do."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette

from collab.server import page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.routing import BaseRoute

INDEX = "<!doctype html><script type=module src=/assets/index-abc.js></script>"
SCRIPT = "console.log(1)\n" * 100


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "index-abc.js").write_text(SCRIPT)
    (tmp_path / "secret.txt").write_text("not part of the page")
    return folder


def ask(routes: Sequence[BaseRoute]) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=routes))
    return httpx.AsyncClient(transport=transport, base_url="http://collab.test")


@pytest.fixture
def client(built: Path) -> httpx.AsyncClient:
    return ask(page.page_routes(built))


@pytest.mark.parametrize("path", ["/", "/d/notes", "/d/acme:specs:42"])
async def test_the_list_and_every_document_are_the_same_page_and_asked_for_anew(
    client: httpx.AsyncClient, path: str
) -> None:
    reply = await client.get(path)
    assert reply.status_code == 200
    assert reply.text == INDEX
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["content-type"] == "text/html; charset=utf-8"


async def test_a_file_with_its_hash_in_its_name_is_kept_for_good_and_others_are_not(client: httpx.AsyncClient) -> None:
    script, icon = await client.get("/assets/index-abc.js"), await client.get("/favicon.svg")
    assert script.text == SCRIPT
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert icon.headers["cache-control"] == "no-cache"
    assert icon.headers["content-type"] == "image/svg+xml"


async def test_who_takes_gzip_gets_it_and_who_does_not_gets_the_file(client: httpx.AsyncClient) -> None:
    small = await client.get("/assets/index-abc.js", headers={"Accept-Encoding": "gzip"})
    plain = await client.get("/assets/index-abc.js", headers={"Accept-Encoding": "identity"})
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) == len(gzip.compress(SCRIPT.encode(), mtime=0)) < len(SCRIPT)
    assert "content-encoding" not in plain.headers
    assert small.text == plain.text == SCRIPT
    assert small.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/", "/d/notes", "/assets/index-abc.js"])
async def test_every_answer_forbids_scripts_styles_and_frames_from_elsewhere(
    client: httpx.AsyncClient, path: str
) -> None:
    headers = (await client.get(path)).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == policy["object-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    ["/assets/../../secret.txt", "/assets/%2e%2e/%2e%2e/secret.txt", "/index.html", "/d/", "/d/a/b", "/secret.txt"],
)
async def test_nothing_but_the_built_files_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_page_can_only_be_read(client: httpx.AsyncClient) -> None:
    assert (await client.head("/")).status_code == 200
    assert (await client.post("/")).status_code == 405


async def test_a_page_that_was_not_built_says_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "FOLDERS", (tmp_path / "one", tmp_path / "two"))
    client = ask(page.page_routes())
    for path in ("/", "/d/notes"):
        reply = await client.get(path)
        assert reply.status_code == 503
        assert "npm run build" in reply.text
        assert reply.headers["cache-control"] == "no-store"


async def test_the_page_of_the_installed_package_comes_before_the_checkouts(
    monkeypatch: pytest.MonkeyPatch, built: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(page, "FOLDERS", (tmp_path / "missing", built))
    assert page.page_folder() == built
    assert page.FOLDERS[0] == tmp_path / "missing"
