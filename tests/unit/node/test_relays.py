"""Who brings what somebody else wrote: its author must not take it for the confirmation of its own (SPEC R4, K1)."""

from __future__ import annotations

import asyncio

from pycrdt import merge_updates

from collab.protocol.messages import SyncStep2
from collab.protocol.peers import PeerUpdate
from collab.protocol.yjs import scan_update

from .conftest import Build, Client
from .support import FlakyStore, Writer, text_of


def clients_seen(client: Client) -> set[int]:
    return {author for update in client.connection.updates() for author in scan_update(update).ranges}


async def unsaved(build: Build) -> tuple[FlakyStore, Client, Client, Writer, bytes]:
    """Ann has written, Ben has seen it, and the database does not answer."""
    store = FlakyStore()
    hub = build(store=store)
    ann, ben = await Client(hub, "ann").enter(), await Client(hub, "ben").enter()
    store.flaky.gate.clear()
    writer = Writer()
    update = writer.type("a")
    ann.send(SyncStep2(update))
    await ben.connection.until(lambda: update in ben.connection.updates())
    return store, ann, ben, writer, update


async def test_r4_a_session_that_repeats_what_another_wrote_confirms_nothing(build: Build) -> None:
    store, ann, ben, writer, update = await unsaved(build)
    own = Writer()
    ben.send(SyncStep2(merge_updates(update, own.type("b"))))
    await ann.connection.until(lambda: clients_seen(ann) == {own.doc.client_id})
    await asyncio.sleep(0.05)
    assert writer.doc.client_id not in clients_seen(ann)
    store.flaky.gate.set()
    await ann.connection.until(lambda: "a" in text_of(*ann.connection.updates()))


async def test_r4_nor_does_a_node_that_brings_it(build: Build) -> None:
    store, ann, _, writer, update = await unsaved(build)
    assert ann.room is not None
    own = Writer()
    ann.room._pump.hear("another", PeerUpdate(1, 1, update))
    ann.room._pump.hear("another", PeerUpdate(2, 1, merge_updates(update, own.type("b"))))
    await ann.connection.until(lambda: own.doc.client_id in clients_seen(ann))
    assert writer.doc.client_id not in clients_seen(ann)
    store.flaky.gate.set()
    await ann.connection.until(lambda: writer.doc.client_id in clients_seen(ann))
