"""What a revocation is about when it names no time, for how long it is kept, and whom it cannot be about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection

from collab.engine.inline import InlineEngine
from collab.errors import CloseCode
from collab.room import Identity, Role
from collab.server.app import Collab
from collab.server.auth import LEEWAY_S, Access, Authenticate
from collab.settings import Settings
from collab.store import MemoryStore
from tests.support.live import ROOT, SECRET, LiveNode, bearer, live_nodes, token

READ = {"documents": {"d": "read"}}
AHEAD = timedelta(seconds=LEEWAY_S - 1)
"""How far ahead of ours the clock of whoever issues tokens may be, and a second for the test."""


@pytest.fixture
async def node() -> AsyncIterator[LiveNode]:
    async with live_nodes() as (made,):
        await made.ask("post", "/v1/documents", json={"name": "d"})
        yield made


async def revoke(node: LiveNode, **what: Any) -> dict[str, Any]:
    answer = await node.ask("post", "/v1/revocations", json=what)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_g7_a_token_revoked_by_its_id_is_over_however_far_ahead_it_is_dated(node: LiveNode) -> None:
    dated = token("ben", **READ, jti="p", iat=datetime.now(UTC) + AHEAD)
    ben = await (await node.connect("d", dated)).joined()
    await revoke(node, token_id="p")
    assert await ben.closed() == CloseCode.UNAUTHENTICATED.code
    assert (await node.ask("get", "/v1/documents/d", {"Authorization": f"Bearer {dated}"})).status_code == 401


async def test_g7_of_a_subject_what_is_dated_ahead_goes_on_unless_a_later_time_is_named(node: LiveNode) -> None:
    ahead = datetime.now(UTC) + AHEAD
    ben = await (await node.connect("d", token("ben", **READ, iat=ahead))).joined()
    await revoke(node, subject="ben")
    assert (await node.ask("get", "/v1/documents/d", bearer("ben", **READ, iat=ahead))).status_code == 200
    assert ben.closed_with is None
    await revoke(node, subject="ben", not_before=(ahead + timedelta(seconds=1)).isoformat())
    assert await ben.closed() == CloseCode.UNAUTHENTICATED.code


async def test_g7_nobody_revokes_everybody_nobody_knows(node: LiveNode) -> None:
    link = (await node.ask("post", "/v1/documents/d/links", json={"role": "read"})).json()["secret"]
    visitor = await (await node.connect("d", link)).joined()
    answer = await node.ask("post", "/v1/revocations", json={"subject": "anonymous"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "revoke the link" in answer.json()["detail"]
    assert visitor.closed_with is None
    await (await node.connect("d", link)).joined()


async def everybody_is_root(_: HTTPConnection, __: str | None) -> Access:
    return Access(Identity("root"), {"*": Role.ADMIN})


@pytest.mark.parametrize(
    ("authenticate", "kept"),
    [(None, timedelta(hours=1, seconds=2 * LEEWAY_S)), (everybody_is_root, timedelta(days=366))],
    ids=["tokens that live an hour", "nobody knows"],
)
async def test_g7_a_revocation_is_kept_while_a_token_it_is_about_may_be_good(
    authenticate: Authenticate | None, kept: timedelta
) -> None:
    settings = Settings(auth="jwt", jwt_secret=SECRET, jwt_max_lifetime_s=3600, serve_page=False)  # type: ignore[arg-type]
    collab = Collab(settings, authenticate=authenticate, store=MemoryStore(), engine=InlineEngine())
    transport = httpx.ASGITransport(collab.app)
    async with (
        collab.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=bearer(**ROOT)) as client,
    ):
        made = (await client.post("/v1/revocations", json={"subject": "ben"})).json()
        assert datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["not_before"]) == kept
