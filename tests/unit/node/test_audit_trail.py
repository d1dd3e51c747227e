"""What is noted reaches the audit log in batches, waits for a database that is away, and never without bound."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import structlog
from structlog.testing import capture_logs

from collab.errors import StoreUnavailable
from collab.node import Counters, audit_trail
from collab.node.audit_trail import AuditTrail
from collab.store import MemoryStore
from collab.store.access_port import AuditEvent


class Log:
    """The memory store's audit log, which refuses when told."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.inner = self.store.audit
        self.store.audit = self  # type: ignore[assignment]
        self.failures = 0
        self.batches: list[int] = []
        self.written = asyncio.Event()

    async def append(self, events: tuple[AuditEvent, ...]) -> None:
        self.batches.append(len(events))
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        await self.inner.append(events)
        self.written.set()

    async def actors(self) -> list[str | None]:
        return [entry.event.actor for entry in reversed(await self.inner.page(limit=100))]


def event(actor: str) -> AuditEvent:
    return AuditEvent("document.open", datetime.now(UTC), actor=actor)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "GATHER_S", 0.001)
    monkeypatch.setattr(audit_trail, "RETRY_S", 0.001)


async def test_what_is_noted_together_is_written_together_and_in_order() -> None:
    log, counters = Log(), Counters()
    trail = AuditTrail(log.store, counters)
    for name in "abc":
        trail.note(event(name))
    await log.written.wait()
    assert (log.batches, await log.actors()) == ([3], ["a", "b", "c"])
    await trail.close()


async def test_a_database_that_was_away_gets_everything_once() -> None:
    log, counters = Log(), Counters()
    trail = AuditTrail(log.store, counters)
    log.failures = 3
    trail.note(event("a"))
    await log.written.wait()
    assert await log.actors() == ["a"]
    await trail.close()


async def test_what_does_not_fit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "MAX_WAITING", 2)
    log, counters = Log(), Counters()
    trail = AuditTrail(log.store, counters)
    for name in "abcd":
        trail.note(event(name))
    assert counters.audit_dropped == 2
    await trail.close()
    assert await log.actors() == ["a", "b"]


async def test_the_end_of_a_node_waits_for_what_was_noted_but_not_for_ever() -> None:
    log, counters = Log(), Counters()
    trail = AuditTrail(log.store, counters)
    log.failures = 1_000_000
    trail.note(event("a"))
    await trail.close()
    assert counters.audit_dropped == 1


async def test_what_must_be_there_is_there_or_raises() -> None:
    log = Log()
    trail = AuditTrail(log.store, Counters())
    await trail.append(event("a"))
    assert await log.actors() == ["a"]
    log.failures = 1
    with pytest.raises(StoreUnavailable):
        await trail.append(event("b"))
    await trail.close()


async def test_h10_a_log_that_cannot_be_written_is_not_the_fault_of_the_request_that_noted_first() -> None:
    log = Log()
    trail = AuditTrail(log.store, Counters())
    log.failures = 1
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        with structlog.contextvars.bound_contextvars(request="of a stranger"):
            trail.note(event("a"))
        await log.written.wait()
    await trail.close()
    assert [(line["event"], "request" in line) for line in lines] == [("audit_not_written", False)]
