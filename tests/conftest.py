"""What tests against a running server share: servers, stock clients, no quiet skips where CI=1, no secret in a log."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator, Generator, Iterator

import pytest

from tests.support import issued
from tests.support.clients import StockClients
from tests.support.door import Door, Doors, TestDoors

LEAKS = pytest.StashKey[list[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=1 a skipped test has failed: continuous integration must have all that tests need."""
    report = yield
    if report.skipped and os.environ.get("CI") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a server's log holds anything that tests gave out as secret (attack D15)."""
    session.config.stash[LEAKS] = issued.leaks()
    if session.config.stash[LEAKS] and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which log holds what."""
    for leak in terminalreporter.config.stash.get(LEAKS, []):
        terminalreporter.write_line(f"LEAK {leak}", red=True)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Every server of this run."""
    doors = Doors(tmp_path_factory.mktemp("servers"))
    yield doors
    doors.close()


@pytest.fixture
async def doors(servers: Doors, request: pytest.FixtureRequest) -> AsyncIterator[TestDoors]:
    """Where this test gets its servers from."""
    async with servers.for_test(document_name(request.node.nodeid)) as opened:
        yield opened


@pytest.fixture
async def door(doors: TestDoors) -> Door:
    """This test's own document on a shared server with default settings."""
    return await doors.shared()


@pytest.fixture
async def stock() -> AsyncIterator[StockClients]:
    """A process of stock clients."""
    async with StockClients() as clients:
        yield clients


def document_name(nodeid: str) -> str:
    """A document name that says which test it belongs to."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", nodeid.rsplit("::", 1)[-1])[:80].strip("-")
    return f"{readable}:{hashlib.sha256(nodeid.encode()).hexdigest()[:8]}"
