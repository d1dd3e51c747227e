"""A program that writes one update over REST: the call returns after the commit (SPEC H1), or fails in doubt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from collab.errors import CollabError
from collab.protocol.yjs import scan_update
from tests.simulation.client import Written
from tests.simulation.replica import Replica

if TYPE_CHECKING:
    from tests.simulation.node import Life
    from tests.simulation.world import World


class Program:
    """One call of `Hub.submit`."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number

    def write(self) -> None:
        """Send the update to some node."""
        world = self._world
        lives = world.serving()
        if not lives:
            return
        document = world.plan.documents[world.roll(len(world.plan.documents))]
        life = lives[world.roll(len(lives))]
        token = f"c{self._number}.1;"
        replica = Replica(1_000_000 + self._number)
        update = replica.edit(lambda: replica.texts["title"].insert(0, token))
        assert update is not None
        written = Written(f"p{self._number}", document, f"+{token}", update, scan_update(update), 1)
        world.checker.submitted(written)
        world.note(written.author, f"submits {token} to {life.name}")
        life.spawn(partial(self._submit, life, written), "submit")

    async def _submit(self, life: Life, written: Written) -> None:
        try:
            await life.hub.submit(written.document, written.update, author=written.author)
        except CollabError as error:
            self._world.note(written.author, f"failed: {error!r}")
            return
        self._world.note(written.author, "saved")
        written.saved = True
        self._world.checker.saved(written, "rest")
