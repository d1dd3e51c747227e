"""`Collab.sign_out`: an application that mounts collab closes its users' editors, on every node and without a bus."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection

from collab.engine.inline import InlineEngine
from collab.errors import CloseCode, Misuse, StoreUnavailable, Unauthenticated
from collab.room import Identity, Role
from collab.server import Collab
from collab.server.admission import MAX_SESSION_S
from collab.server.auth import LEEWAY_S, Access
from collab.settings import Settings
from collab.store import MemoryStore
from tests.support.live import SECRET, LiveNode, Socket, token

SINCE = time.time()


async def by_session(request: HTTPConnection, _: str | None) -> Access:
    """Whoever says "name.browser.seconds later" signed in there then."""
    said = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not said:
        raise Unauthenticated("Sign in first.")
    user, browser, later = said.split(".")
    return Access(Identity(user), {"*": Role.WRITE}, issued_at=SINCE + float(later), token_id=f"{user}-{browser}")


class Site:
    """Nodes of an application on one database."""

    def __init__(self, nodes: list[Collab]) -> None:
        self.nodes = nodes
        self._client = httpx.AsyncClient()
        """Of the REST side; nobody uses it here."""

    async def connect(self, node: int, session: str) -> Socket:
        """An open editor."""
        return await (await self.ask(node, session)).joined()

    async def ask(self, node: int, session: str) -> Socket:
        """One that may be turned away."""
        collab = self.nodes[node]
        return await LiveNode(collab.hub, collab.endpoint, self._client).connect("d", session)


def collab_on(store: MemoryStore, **settings: Any) -> Collab:
    authenticate = None if "auth" in settings else by_session
    return Collab(Settings(serve_page=False, **settings), authenticate=authenticate, store=store, engine=InlineEngine())


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def site(store: MemoryStore) -> AsyncIterator[Site]:
    """Two nodes that cannot hear each other."""
    nodes = [collab_on(store), collab_on(store)]
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.lifespan())
        yield Site(nodes)


UNAUTHENTICATED = CloseCode.UNAUTHENTICATED.code


async def test_g14_d13_who_signs_out_in_one_browser_is_signed_out_there_on_every_node(site: Site) -> None:
    here, there = await site.connect(0, "ann.laptop.0"), await site.connect(1, "ann.laptop.0")
    others = [await site.connect(1, session) for session in ("ann.phone.0", "ben.laptop.0")]
    await site.nodes[0].sign_out("ann", token_id="ann-laptop")
    assert [await here.closed(), await there.closed()] == [UNAUTHENTICATED, UNAUTHENTICATED]
    for node in (0, 1):
        assert await (await site.ask(node, "ann.laptop.0")).closed() == UNAUTHENTICATED
        assert await (await site.ask(node, "ann.laptop.5")).closed() == UNAUTHENTICATED, "whatever the clocks say"
    await site.connect(1, "ann.phone.0")
    assert [other.closed_with for other in others] == [None, None]


async def test_g14_d13_who_is_signed_out_everywhere_comes_in_after_signing_in_again(site: Site) -> None:
    laptop, phone = await site.connect(0, "ann.laptop.0"), await site.connect(1, "ann.phone.0")
    ben = await site.connect(1, "ben.laptop.0")
    await site.nodes[0].sign_out("ann")
    assert [await laptop.closed(), await phone.closed()] == [UNAUTHENTICATED, UNAUTHENTICATED]
    assert await (await site.ask(1, "ann.phone.0")).closed() == UNAUTHENTICATED
    await site.connect(1, "ann.phone.3600")
    assert ben.closed_with is None


async def test_g14_it_is_in_the_audit_log_and_kept_while_an_editor_may_be_open(site: Site, store: MemoryStore) -> None:
    before = datetime.now(UTC)
    await site.nodes[0].sign_out("ann")
    await site.nodes[0].sign_out("ben", token_id="ben-laptop")
    found = {one.value: one for one in await store.revocations.all_current()}
    assert {one.kind for one in found.values()} == {"subject", "token"}
    for one in found.values():
        assert one.not_before >= before
        assert one.expires_at - one.not_before == timedelta(seconds=MAX_SESSION_S + 2 * LEEWAY_S)
    entries = await store.audit.page()
    assert [(entry.event.action, entry.event.actor) for entry in entries] == [
        ("revocation.create", "ben"),
        ("revocation.create", "ann"),
    ]


async def test_g14_where_tokens_are_asked_for_it_is_kept_as_long_as_one_is_good() -> None:
    store = MemoryStore()
    collab = collab_on(store, auth="jwt", jwt_secret=SECRET, jwt_max_lifetime_s=72 * 3600.0)
    async with collab.lifespan():
        ann = await Site([collab]).connect(0, token("ann", documents={"*": "read"}))
        await collab.sign_out("ann")
        assert await ann.closed() == UNAUTHENTICATED
        (kept,) = await store.revocations.all_current()
        assert kept.expires_at - kept.not_before == timedelta(hours=72, seconds=2 * LEEWAY_S)


@pytest.mark.parametrize(
    ("subject", "more"), [("", {}), ("anonymous", {}), ("x" * 256, {}), ("ann", {"token_id": ""}), ("a\0", {})]
)
async def test_g14_what_is_nobodys_name_is_refused(
    site: Site, store: MemoryStore, subject: str, more: dict[str, str]
) -> None:
    with pytest.raises(Misuse):
        await site.nodes[0].sign_out(subject, **more)
    assert await store.revocations.all_current() == ()


async def test_g14_while_the_database_is_away_it_says_so(
    site: Site, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await site.connect(0, "ann.laptop.0")

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(store.revocations, "revoke", away)
        with pytest.raises(StoreUnavailable):
            await site.nodes[0].sign_out("ann")
    assert ann.closed_with is None
    await site.nodes[0].sign_out("ann")
    assert await ann.closed() == UNAUTHENTICATED
