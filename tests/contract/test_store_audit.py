"""The audit log's contract, on every adapter."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import pytest

from collab.errors import Misuse
from collab.store.access_port import AuditEvent
from tests.support.stores import START, Bench, bench

__all__ = ["bench"]


async def actions(bench: Bench, **query: Any) -> list[str]:
    return [entry.event.action for entry in await bench.store.audit.page(**query)]


async def test_an_event_is_read_as_it_was_written(bench: Bench) -> None:
    detail = {"role": "write", "deep": {"n": [1.5, None]}, "nul": "\x00", "half": "\ud800"}
    event = AuditEvent("document.open", START, "ann", "agent", "never-made", detail)
    bare = AuditEvent("node.start", START.astimezone(timezone(timedelta(hours=3))))
    await bench.store.audit.append([event, bare])
    newest, older = await bench.store.audit.page()
    assert (older.event, newest.event) == (event, bare)
    assert newest.id > older.id
    assert newest.event.at.utcoffset() == timedelta(0)


async def test_events_appended_twice_are_stored_once(bench: Bench) -> None:
    events = [AuditEvent("document.open", START, "ann") for _ in range(3)]
    await bench.store.audit.append(events[:2])
    await bench.store.audit.append(events)
    await bench.store.audit.append([])
    assert await actions(bench) == ["document.open"] * 3


async def test_pages_are_newest_first_and_may_ask_for_a_document_or_an_actor(bench: Bench) -> None:
    told = [("a", "ann"), ("b", "ann"), ("a", "bob"), ("a", "ann"), (None, None)]
    await bench.store.audit.append(
        [AuditEvent(f"{number}", START, actor, document=document) for number, (document, actor) in enumerate(told)]
    )
    assert await actions(bench) == ["4", "3", "2", "1", "0"]
    assert await actions(bench, document="a") == ["3", "2", "0"]
    assert await actions(bench, actor="ann") == ["3", "1", "0"]
    assert await actions(bench, document="a", actor="ann", limit=1) == ["3"]
    [newest] = await bench.store.audit.page(document="a", actor="ann", limit=1)
    assert await actions(bench, document="a", actor="ann", before=newest.id) == ["0"]
    assert await actions(bench, before=1 << 80, limit=2) == ["4", "3"]
    assert await actions(bench, before=-1) == []


@pytest.mark.parametrize("hostile", ["a\x00\ud800", "x" * 100_000, "𝄞" * 3000, "'; DROP TABLE audit_log; --", "a\nb"])
async def test_g04_no_text_keeps_an_event_out(bench: Bench, hostile: str) -> None:
    await bench.store.audit.append([AuditEvent(hostile, START, hostile, hostile, hostile, {hostile: hostile})])
    [entry] = await bench.store.audit.page(document=hostile, actor=hostile)
    kept = hostile.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")[:500]
    assert {entry.event.action, entry.event.actor, entry.event.actor_kind, entry.event.document} == {kept}
    assert entry.event.detail == {hostile: hostile}


async def test_one_event_that_cannot_be_kept_keeps_all_out(bench: Bench) -> None:
    with pytest.raises(Misuse):
        await bench.store.audit.append([AuditEvent("a", START), AuditEvent("b", START, detail={"x": object()})])
    assert await actions(bench) == []
