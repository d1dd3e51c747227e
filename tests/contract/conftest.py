"""Both engines, for the tests of what every engine promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from collab.engine.inline import InlineEngine
from collab.engine.isolated import IsolatedEngine
from collab.engine.port import Engine


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["inline", "isolated"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """One engine for all tests: each has documents of its own."""
    made = InlineEngine() if request.param == "inline" else IsolatedEngine(keep_warm=False)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A document of this test's own."""
    node: pytest.Item = request.node
    return node.name
