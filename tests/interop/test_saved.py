"""What a stock client believes is saved is committed: y-websocket by the echo of its update, y-sweet by message 102.

To see the moment between "received" and "committed", a test holds the database's write lock: nothing can be committed
until it lets go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support import wire

if TYPE_CHECKING:
    from tests.support.clients import StockClients
    from tests.support.door import Door

OWN_ECHO = "log.updates.some(update => toBase64(update) === toBase64(log.sentUpdates[0]))"
SIGNS_OF_LIFE = "log.awareness.filter(frame => frame[2] === 0).length >= arg"


async def test_r4_an_author_sees_its_own_update_again_after_the_commit(stock: StockClients, door: Door) -> None:
    author, reader = [await stock.open(door.ws, door.document) for _ in range(2)]
    await author.synced()
    await reader.synced()
    async with door.commits_held():
        await author.insert("kept")
        await reader.until_text("kept")
        await author.run("provider.ws.send(new Uint8Array([3]))")
        assert not await author.get(OWN_ECHO)
    await author.until(OWN_ECHO)
    assert await door.committed_text() == "kept"


async def test_r4_two_authors_at_once_see_no_echo_before_the_commit(stock: StockClients, door: Door) -> None:
    authors = [await stock.open(door.ws, door.document) for _ in range(2)]
    for author in authors:
        await author.synced()
    async with door.commits_held():
        for author in authors:
            await author.insert("x")
        for author in authors:
            # The other's edit comes through although nothing is committed, but not with the author's own inside it.
            await author.until("doc.getText('t').toString() === 'xx'")
            assert not await author.get("log.updates.some(update => Y.parseUpdateMeta(update).to.has(doc.clientID))")
    for author in authors:
        await author.until("log.updates.some(update => Y.parseUpdateMeta(update).to.has(doc.clientID))")


async def test_r4_authors_of_one_batch_get_each_others_edits_in_order(stock: StockClients, door: Door) -> None:
    """What depends on an edit must not arrive before it: Yjs would park it, replicas built on yrs may never recover."""
    one, other = [await stock.open(door.ws, door.document) for _ in range(2)]
    for author in (one, other):
        await author.synced()
    await one.run("client.parked = 0; doc.on('afterTransactionCleanup', () => { if (pending(doc)) client.parked++ })")
    length = 0
    for _ in range(30):
        await asyncio.gather(one.insert("a"), other.insert("b"))
        await other.insert("c")
        length += 3
        await one.until("doc.getText('t').length === arg", length)
    assert await one.get("client.parked") == 0


async def test_k1_y_sweet_has_local_changes_until_the_commit(stock: StockClients, door: Door) -> None:
    client = await stock.open(door.ws, door.document, kind="y-sweet")
    await client.until("!provider.hasLocalChanges")
    async with door.commits_held():
        await client.insert("not yet")
        # It leaves three seconds after a version without any frame: the server must not be mute.
        await client.until(SIGNS_OF_LIFE, 5)
        assert await client.get("provider.hasLocalChanges")
        assert await client.get("log.closes") == []
    await client.until("!provider.hasLocalChanges")
    assert await door.committed_text() == "not yet"


async def test_k1_versions_never_exceed_what_was_sent(stock: StockClients, door: Door) -> None:
    client = await stock.open(door.ws, door.document, kind="y-sweet")
    for turn in range(50):
        await client.insert(f"{turn} ")
        assert await client.get("Math.max(-1, ...log.acks) <= Math.max(-1, ...log.versions)")
    await client.until("!provider.hasLocalChanges")
    assert await client.get("Math.max(...log.acks)") == 50
    assert await client.get("log.acks.every((version, at, all) => at === 0 || version >= all[at - 1])")


async def test_k3_nothing_is_saved_before_offline_edits_are(stock: StockClients, door: Door) -> None:
    client = await stock.open(door.ws, door.document, kind="y-sweet")
    await client.until("!provider.hasLocalChanges")
    await client.run("log.online = false; log.socket.terminate()")
    await client.until("provider.status === 'error'")
    await client.insert("written offline")
    acks = await client.get("log.acks.length")
    async with door.commits_held():
        await client.run("log.online = true")
        await client.until("provider.status === 'connected'")
        await client.until(SIGNS_OF_LIFE, 2)
        assert await client.get("log.acks.length") == acks
        assert await client.get("provider.hasLocalChanges")
    await client.until("!provider.hasLocalChanges")
    assert await door.committed_text() == "written offline"


async def test_k3_a_status_waits_for_the_answer_to_the_greeting(door: Door) -> None:
    """y-sweet sends its version before it has sent what it wrote offline: acknowledging that would be a lie."""
    async with door.socket() as socket:
        await socket.send(wire.step1() + wire.status(3))
        await door.receive(socket, wire.SYNC, wire.STEP2)
        await socket.send(wire.awareness((77, 1, "{}")))
        async with door.socket() as witness:
            await door.receive(witness, wire.AWARENESS)
        await socket.send(bytes([wire.QUERY_AWARENESS]))
        frames = await door.receive_until(socket, wire.AWARENESS)
        assert wire.SYNC_STATUS not in {kind for kind, _, _ in frames}
        await socket.send(wire.step2(b"\x00\x00"))
        assert await door.receive(socket, wire.SYNC_STATUS) == b"\x03"


async def test_idle_heartbeats_are_answered(stock: StockClients, door: Door) -> None:
    client = await stock.open(door.ws, door.document, kind="y-sweet")
    await client.until("!provider.hasLocalChanges")
    acks = await client.get("log.acks.length")
    await client.until("log.acks.length >= arg", acks + 2)
    assert await client.get("log.closes") == []
    assert await client.get("provider.status") == "connected"
