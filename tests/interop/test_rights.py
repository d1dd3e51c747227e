"""Tokens with stock clients: who has none stays out, who may only read changes nothing and is otherwise at home."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import jwt
import pytest

from collab.errors import CloseCode
from tests.support import wire

if TYPE_CHECKING:
    from tests.support.clients import StockClient, StockClients
    from tests.support.door import Door, TestDoors

SECRET = "0123456789abcdef-fedcba9876543210-only-for-tests"


def token(document: str, role: str, *, name: str | None = None, minutes: int = 5) -> str:
    claims = {
        "sub": f"user-{role}",
        "exp": datetime.now(UTC) + timedelta(minutes=minutes),
        "documents": {document: role},
        "name": name,
    }
    return jwt.encode({key: value for key, value in claims.items() if value is not None}, SECRET, "HS256")


@pytest.fixture
async def guarded(doors: TestDoors) -> Door:
    """A server that asks for tokens."""
    door = await doors.shared(COLLAB_AUTH="jwt", COLLAB_JWT_SECRET=SECRET)
    door.token = token(door.document, "write")
    return door


async def pair(stock: StockClients, door: Door) -> tuple[StockClient, StockClient]:
    """A writer that has written, and a reader that has read it."""
    writer = await stock.open(door.ws, door.document, token=token(door.document, "write", name="Writer"))
    reader = await stock.open(door.ws, door.document, token=token(door.document, "read", name="Reader"))
    await writer.synced()
    await writer.insert("for all to read")
    await reader.until_text("for all to read")
    return writer, reader


@pytest.mark.parametrize("presented", ["none", "expired", "forged"])
async def test_no_valid_token_no_entry(stock: StockClients, guarded: Door, presented: str) -> None:
    tokens = {
        "none": None,
        "expired": token(guarded.document, "write", minutes=-5),
        "forged": token(guarded.document, "write")[:-4] + "AAAA",
    }
    client = await stock.open(guarded.ws, guarded.document, token=tokens[presented])
    await client.until("log.closed !== null || log.errors.length > 0")
    assert await client.get("provider.synced") is False
    assert await client.get("log.received.length") == 0


async def test_r3_an_honest_reader_reads_is_seen_and_stays(stock: StockClients, guarded: Door) -> None:
    writer, reader = await pair(stock, guarded)
    await reader.run("awareness.setLocalStateField('cursor', 3)")
    await writer.until("awareness.getStates().get(arg)?.cursor === 3", reader.client_id)
    await writer.insert("!")
    await reader.until_text("for all to read!")
    # A return is where a reader sends a SyncStep2 of its own, which repeats what it has.
    await reader.run("provider.disconnect(); provider.connect()")
    await reader.synced()
    await writer.insert("!")
    await reader.until_text("for all to read!!")
    assert await reader.get("log.closed") is None


async def test_r3_a_readers_update_changes_nothing(stock: StockClients, guarded: Door) -> None:
    writer, reader = await pair(stock, guarded)
    await reader.insert("graffiti")
    await writer.insert(" more")
    await reader.until("doc.getText('t').toString().includes(' more')")
    assert await writer.text() == "for all to read more"
    assert await guarded.until_committed("for all to read more")


async def test_r3_a_readers_offline_edits_are_refused_on_return(stock: StockClients, guarded: Door) -> None:
    writer, reader = await pair(stock, guarded)
    await reader.run("provider.disconnect()")
    await reader.insert("smuggled")
    await reader.run("doc.getText('t').delete(0, 3); provider.connect()")
    await writer.insert(" more")
    await reader.until("doc.getText('t').toString().includes(' more')")
    newcomer = await stock.open(guarded.ws, guarded.document, token=token(guarded.document, "read"))
    await newcomer.until_text("for all to read more")
    assert await guarded.until_committed("for all to read more")


async def test_k2_a_refused_write_is_never_called_saved(stock: StockClients, guarded: Door) -> None:
    await pair(stock, guarded)
    reader = await stock.open(guarded.ws, guarded.document, kind="y-sweet", token=token(guarded.document, "read"))
    await reader.until("!provider.hasLocalChanges")
    await reader.insert("never saved")
    await reader.until("log.awareness.filter(frame => frame[2] === 0).length >= 3")
    assert await reader.get("provider.hasLocalChanges")
    assert 1 not in await reader.get("log.acks")


async def test_r3_a_reader_that_keeps_writing_is_closed_for_good(guarded: Door) -> None:
    async with guarded.socket(token=token(guarded.document, "read")) as socket:
        update = bytes([1, 1, 9, 0, 4, 1, 1, 116, 1, 120, 0])
        for _ in range(5):
            await socket.send(wire.update(update))
        await socket.wait_closed()
        assert socket.close_code == CloseCode.FORBIDDEN.code


async def test_nobody_wears_anothers_name(stock: StockClients, guarded: Door) -> None:
    writer, reader = await pair(stock, guarded)
    await reader.run("awareness.setLocalStateField('user', { name: 'Writer', color: '#ff0000' })")
    await writer.until("awareness.getStates().get(arg)?.user?.color === '#ff0000'", reader.client_id)
    assert await writer.get("awareness.getStates().get(arg).user.name", reader.client_id) == "Reader"
