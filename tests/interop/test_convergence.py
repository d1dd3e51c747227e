"""Stock clients on one document end up with the same content, whatever the shared type and whoever comes late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import wire

if TYPE_CHECKING:
    from tests.support.clients import StockClients
    from tests.support.door import Door

PARAGRAPH = """
const paragraph = new Y.XmlElement('paragraph')
const text = new Y.XmlText()
text.insert(0, arg)
paragraph.insert(0, [text])
paragraph.setAttribute('by', arg)
const body = doc.getXmlFragment('default')
body.insert(body.length, [paragraph])
"""


async def test_p3_two_clients_converge_on_text(stock: StockClients, door: Door) -> None:
    one, other = [await stock.open(door.ws, door.document) for _ in range(2)]
    await one.synced()
    await other.synced()
    await one.insert("collab")
    await other.until_text("collab")
    await other.insert("oration", at=6)
    await one.until_text("collaboration")
    assert await one.canonical() == await other.canonical()


async def test_p3_concurrent_edits_of_many_clients_converge(stock: StockClients, door: Door) -> None:
    clients = [await stock.open(door.ws, door.document) for _ in range(5)]
    for client in clients:
        await client.synced()
    for client in clients:
        await client.run("const t = doc.getText('t'); for (let i = 0; i < 40; i++) t.insert(i % (t.length + 1), 'x')")
        await client.run("doc.getText('t').delete(3, 5)")
    for client in clients:
        expected = {str(other.client_id): 40 for other in clients}
        await client.until("Object.entries(arg).every(([id, clock]) => canonical(doc).state[id] === clock)", expected)
    first, *others = [await client.canonical() for client in clients]
    texts = {await client.text() for client in clients}
    assert len(texts) == 1
    assert all(other == first for other in others)


async def test_p3_maps_and_arrays_converge(stock: StockClients, door: Door) -> None:
    one, other = [await stock.open(door.ws, door.document) for _ in range(2)]
    await one.run("doc.getMap('m').set('title', 'Minutes'); doc.getArray('a').push([1, 'two', { three: [3] }])")
    await other.until("doc.getMap('m').get('title') === 'Minutes' && doc.getArray('a').length === 3")
    await other.run("doc.getMap('m').set('title', 'Notes'); doc.getArray('a').delete(0)")
    await one.until("doc.getMap('m').get('title') === 'Notes' && doc.getArray('a').length === 2")
    assert await one.get("doc.getArray('a').toJSON()") == ["two", {"three": [3]}]


async def test_p3_rich_text_trees_converge(stock: StockClients, door: Door) -> None:
    one, other = [await stock.open(door.ws, door.document) for _ in range(2)]
    await one.run(PARAGRAPH, "first")
    await other.until("doc.getXmlFragment('default').length === 1")
    await other.run(PARAGRAPH, "second")
    await one.until("doc.getXmlFragment('default').length === 2")
    markup = '<paragraph by="first">first</paragraph><paragraph by="second">second</paragraph>'
    assert await one.get("doc.getXmlFragment('default').toString()") == markup
    assert await other.get("doc.getXmlFragment('default').toString()") == markup


async def test_r2_a_late_client_gets_everything(stock: StockClients, door: Door) -> None:
    early = await stock.open(door.ws, door.document)
    await early.synced()
    await early.run("for (let i = 0; i < 200; i++) doc.getText('t').insert(0, i + ' ')")
    await early.run("doc.getText('t').delete(0, 100)")
    late = await stock.open(door.ws, door.document)
    await late.until_text(await early.text())
    assert await late.canonical() == await early.canonical()


async def test_p3_edits_made_offline_merge_on_return(stock: StockClients, door: Door) -> None:
    away, here = [await stock.open(door.ws, door.document) for _ in range(2)]
    await away.insert("base")
    await here.until_text("base")
    await away.run("provider.disconnect()")
    await away.insert("offline ", at=0)
    await here.insert(" online")
    await away.run("provider.connect()")
    await here.until_text("offline base online")
    await away.until_text("offline base online")
    assert await away.canonical() == await here.canonical()


async def test_p3_clients_of_both_families_share_a_document(stock: StockClients, door: Door) -> None:
    websocket = await stock.open(door.ws, door.document)
    sweet = await stock.open(door.ws, door.document, kind="y-sweet")
    await sweet.synced()
    await websocket.insert("from one family")
    await sweet.until_text("from one family")
    await sweet.insert(" to the other")
    await websocket.until_text("from one family to the other")


async def test_messages_in_one_frame_are_all_taken(stock: StockClients, door: Door) -> None:
    author = await stock.replica()
    await author.insert("two in one")
    frame = wire.update(await author.update()) + wire.step1() + wire.status(7)
    reader = await stock.open(door.ws, door.document)
    async with door.socket() as socket:
        await socket.send(wire.step2(b"\x00\x00") + frame)
        await reader.until_text("two in one")
        seen = await door.receive_until(socket, wire.SYNC_STATUS)
        assert seen[-1][2] == b"\x07"
        if not any(message[:2] == (wire.SYNC, wire.STEP2) for message in seen):  # the commit may win the race
            assert await door.receive(socket, wire.SYNC, wire.STEP2)


async def test_an_update_ahead_of_its_past_waits_and_then_shows(stock: StockClients, door: Door) -> None:
    """Two tabs of one browser tell each other directly, so the second one's edit may reach the server first."""
    first = await stock.replica()
    await first.insert("first ")
    past = await first.update()
    second = await stock.replica(past)
    await second.run("client.before = Y.encodeStateVector(doc)")
    await second.insert("second")
    ahead = await second.run("return Array.from(Y.encodeStateAsUpdate(doc, client.before))")
    reader = await stock.open(door.ws, door.document)
    await reader.synced()
    async with door.socket() as early, door.socket() as late:
        await early.send(wire.update(bytes(ahead)))
        # The server asks its sender once more for what is missing: a second SyncStep1 on this connection.
        await door.receive(early, wire.SYNC, wire.STEP1)
        await door.receive(early, wire.SYNC, wire.STEP1)
        assert await reader.text() == ""
        await late.send(wire.update(past))
        await reader.until_text("first second")
    assert not await reader.get("pending(doc)")
    newcomer = await stock.open(door.ws, door.document)
    await newcomer.until_text("first second")
    assert not await newcomer.get("pending(doc)")
