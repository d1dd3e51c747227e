"""The servers under attack: one that lets everybody in and one that asks for tokens, both with an isolated engine.

They are shared by all tests of the suite. A test that takes `ground` or `guarded` passes only when, after it, the
process is alive, two honest clients beside still sync, and nothing that looks like a mistake is in the log.
"""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Iterator

import pytest

from tests.attacks.bystander import Bystander
from tests.conftest import document_name
from tests.support.door import Door, Doors
from tests.support.server import NO_RATES
from tests.support.tokens import AUTH, token

ROOMY = {**NO_RATES, "COLLAB_MAX_REFUSALS_PER_ADDRESS": "0"}
"""Settings of both servers: lifts limits that a suite which comes from one address meets without meaning to."""
APP = "https://app.example"
"""The one foreign origin that may connect."""


class Ground:
    """A server under attack and one document of it, this test's own."""

    def __init__(self, door: Door, bystander: Bystander) -> None:
        self.door = door
        self.bystander = bystander

    @property
    def port(self) -> int:
        """Where the server listens."""
        return self.door.server.port

    @property
    def path(self) -> str:
        """Of the document's WebSocket."""
        return f"/yjs/{self.door.document}"

    def counted(self, metric: str) -> float:
        """The value of a metric, all labels together; with a label (`closes_total{code="4400"}`) of that alone."""
        with urllib.request.urlopen(f"{self.door.http}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        name = re.escape(metric) + ("" if "{" in metric else r"(?:\{.*\})?")
        return sum(float(value) for value in re.findall(rf"(?m)^collab_{name} (\S+)$", text))


@pytest.fixture(scope="session")
def open_server(servers: Doors) -> Iterator[tuple[Door, Bystander]]:
    """Everybody may write."""
    door = asyncio.run(servers.shared("ground", {"COLLAB_ALLOWED_ORIGINS": APP, **ROOMY}))
    with Bystander(door.server) as bystander:
        yield door, bystander


@pytest.fixture(scope="session")
def jwt_server(servers: Doors) -> Iterator[tuple[Door, Bystander]]:
    """Whoever comes needs a token."""
    door = asyncio.run(servers.shared("ground", {**AUTH, "COLLAB_ALLOWED_ORIGINS": APP, **ROOMY}))
    with Bystander(door.server, token=token(sub="bystander", access="write")) as bystander:
        yield door, bystander


@pytest.fixture
def ground(open_server: tuple[Door, Bystander], request: pytest.FixtureRequest) -> Iterator[Ground]:
    """A document of the open server; see the module for what is checked afterwards."""
    yield from _ground(*open_server, request.node.nodeid)


@pytest.fixture
def guarded(jwt_server: tuple[Door, Bystander], request: pytest.FixtureRequest) -> Iterator[Ground]:
    """A document of the server that asks for tokens; nobody's token goes with requests by itself."""
    yield from _ground(*jwt_server, request.node.nodeid)


def _ground(door: Door, bystander: Bystander, nodeid: str) -> Iterator[Ground]:
    yield Ground(door.beside(document_name(nodeid)), bystander)
    bystander.unharmed()
