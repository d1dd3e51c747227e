"""Rare branches, forced: each scenario brings a history to one hard spot, whatever else its seed does to it.

A scenario is played beside the edits and the faults of its plan, and leaves the mending to `World.mend`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from collab.bus.port import Envelope, Kind

if TYPE_CHECKING:
    from collab.store.port import LogEntry
    from tests.simulation.client import Client
    from tests.simulation.node import Life, Node
    from tests.simulation.plan import Plan
    from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to play, and what its plan needs for it."""

    play: Callable[[World, Random], Awaitable[None]]
    prepare: Callable[[Plan], None] = lambda _: None


def _node_of(world: World, life: Life) -> Node | None:
    return next((node for node in world.nodes if node.life is life), None)


def _pin(world: World, clients: Sequence[Client], index: int | None) -> None:
    """Route ``clients`` to one node only, and have them connect anew."""
    for client in clients:
        client.node = index
        client.set_offline(True)
        client.set_offline(False)


async def _write(world: World, rng: Random, clients: Sequence[Client], edits: int, *, within: float) -> None:
    for _ in range(edits):
        rng.choice(clients).write()
        await world.pass_time(rng.uniform(0.0, 2 * within / edits))


async def crash_after_commit(world: World, rng: Random) -> None:
    """F03: a node dies between the commit and the reply, three times."""
    for _ in range(3):
        await world.pass_time(rng.uniform(0.5, 1.5))
        crashed: list[Node] = []

        def crash(life: Life, _: Sequence[LogEntry], crashed: list[Node] = crashed) -> None:
            node = _node_of(world, life)
            if node is not None and not crashed:
                crashed.append(node)
                node.crash()

        world.database.after_commit.append(crash)
        await _write(world, rng, world.clients, 6, within=0.5)
        await world.until(lambda crashed=crashed: bool(crashed), within=2.0)  # type: ignore[misc]
        world.database.after_commit.remove(crash)
        for node in crashed:
            await world.pass_time(rng.uniform(0.0, 2.0))
            node.start()


def _everybody_writes(plan: Plan) -> None:
    # What a client that never comes back told only its neighbour's tab, or a reader, no server can know.
    plan.shares_tabs = False
    plan.clients = tuple(replace(client, reads_only=False) for client in plan.clients)


async def _crash_before_commit(world: World, rng: Random, *, author_returns: bool) -> None:
    await world.pass_time(rng.uniform(1.0, 2.0))
    victim = rng.choice(world.nodes)
    other = rng.choice([node for node in world.nodes if node is not victim])
    documents = {client.document: client for client in world.clients}
    authors = list(documents.values())
    _pin(world, authors, victim.index)
    _pin(world, [client for client in world.clients if client not in authors], other.index)
    await world.until(lambda: all(client.synced for client in world.clients), within=4.0)
    await world.pass_time(rng.uniform(0.0, 4.0))
    if victim.life is None:
        return
    said: list[Envelope] = []
    world.database.hold(victim.life)
    world.bus.on_publish.append(lambda life, envelope: said.append(envelope) if life is victim.life else None)
    for author in authors:
        author.write()
    await world.until(lambda: any(one.kind == Kind.UPDATE for one in said), within=0.5)
    await world.pass_time(rng.choice((0.0, 0.03, 0.3)))
    for author in authors:
        if author_returns:
            author.node = other.index
        else:
            author.leave()
    victim.crash()
    # Somebody writes on top of what the dead node may have published.
    await _write(world, rng, [client for client in world.clients if not client.gone] or world.clients, 4, within=0.4)


async def crash_before_commit(world: World, rng: Random) -> None:
    """F03: a node dies between publishing and committing; its client goes to another node, which has the update."""
    await _crash_before_commit(world, rng, author_returns=True)


async def adoption(world: World, rng: Random) -> None:
    """The same, and the client never comes back: only other nodes can still write its update to the log."""
    await _crash_before_commit(world, rng, author_returns=False)


async def hop_before_commit(world: World, rng: Random) -> None:
    """Clients change nodes while the old one has not committed what they wrote, so the new one hears it twice."""
    for _ in range(3):
        await world.pass_time(rng.uniform(0.5, 1.5))
        lives = [node.life for node in world.nodes if node.life is not None]
        for life in lives:
            world.database.hold(life)
        client = rng.choice(world.clients)
        client.write()
        await world.pass_time(rng.uniform(0.0, 0.05))
        if client.link is not None:
            client.link.cut()
        await _write(world, rng, world.clients, 3, within=0.6)
        for life in lives:
            world.database.release(life)


async def bus_outage(world: World, rng: Random) -> None:
    """F07, F08: the bus is away for long; everybody goes on, everywhere."""
    await world.pass_time(rng.uniform(0.5, 2.0))
    world.bus.stop()
    await _write(world, rng, world.clients, 20, within=rng.uniform(3.0, 8.0))
    if rng.random() < 0.7:
        world.bus.restart()
        await _write(world, rng, world.clients, 4, within=1.0)


async def lost_envelopes(world: World, rng: Random) -> None:
    """F12, and its silent kind: nothing arrives for a while, or nothing of one kind, and nobody is told."""
    await world.pass_time(rng.uniform(0.5, 2.0))
    kind = rng.choice((None, Kind.UPDATE, Kind.COMMITTED, Kind.AWARENESS, Kind.ANSWER, Kind.ASK, Kind.DIGEST))
    world.note("bus", f"every envelope is lost: {kind.name if kind else 'all'}")
    world.bus.deaf_to = lambda envelope: kind in (None, envelope.kind)
    await _write(world, rng, world.clients, 12, within=rng.uniform(1.0, 6.0))
    world.bus.deaf_to = lambda _: False


async def cold_loads(world: World, rng: Random) -> None:
    """F22: every node opens the same documents at the same moment, while somebody writes."""
    await world.pass_time(1.0)
    for client in world.clients:
        client.set_offline(True)
    await world.pass_time(world.plan.unload_after + 2.5)
    for client in world.clients:
        client.write()
        client.node = client.number % len(world.nodes)
        client.set_offline(False)
    await _write(world, rng, world.clients, 8, within=0.5)
    for client in world.clients:
        client.node = None


def _unload_early(plan: Plan) -> None:
    plan.unload_after = 0.2


async def flapping(world: World, rng: Random) -> None:
    """F23: the last client leaves and a new one comes while the room is being closed; eight times."""
    for _ in range(8):
        for client in world.clients:
            client.write()
            client.set_offline(True)
        await world.pass_time(rng.uniform(0.8, 1.6))
        for client in world.clients:
            client.set_offline(False)
        await world.pass_time(rng.uniform(0.05, 0.3))


def _compact_often(plan: Plan) -> None:
    plan.compact_after = 2


async def compactions(world: World, rng: Random) -> None:
    """F24: every node folds the same documents again and again while all of them append."""
    for _ in range(4):
        await _write(world, rng, world.clients, 8, within=2.0)
        if rng.random() < 0.5:
            rng.choice(world.nodes).crash()
        for node in world.nodes:
            node.start()


async def crash_everything(world: World, rng: Random) -> None:
    """F02: every node and the bus die at once; what is left is the database."""
    await world.pass_time(rng.uniform(1.0, 3.0))
    await _write(world, rng, world.clients, 6, within=0.3)
    for node in world.nodes:
        node.crash()
    world.bus.stop()
    await world.pass_time(rng.uniform(0.0, 1.0))
    world.bus.restart()
    for node in world.nodes:
        node.start()
        await world.pass_time(rng.uniform(0.0, 1.0))


async def long_pause(world: World, rng: Random) -> None:
    """F09 for a node: stopped for longer than it takes to be counted as dead, then going on as if nothing were."""
    await world.pass_time(rng.uniform(0.5, 2.0))
    node = rng.choice(world.nodes)
    world.clients[0].node = node.index
    node.pause()
    await _write(world, rng, world.clients, 10, within=world.plan.times.dead_after + rng.uniform(0.5, 4.0))
    node.resume()
    await _write(world, rng, world.clients, 5, within=0.5)


async def one_way(world: World, rng: Random) -> None:
    """F10: a node speaks and does not hear, or hears and does not speak, again and again for short whiles."""
    for _ in range(4):
        life = rng.choice(world.nodes).life
        if life is not None:
            hears = rng.random() < 0.5
            life.bus.cut(hears=hears, speaks=not hears)
            await _write(world, rng, world.clients, 5, within=rng.uniform(0.2, 2.0))
            life.bus.heal()
        await world.pass_time(rng.uniform(0.0, 0.5))


async def lost_replies(world: World, rng: Random) -> None:
    """F20: most commits are done and not confirmed."""
    world.weather.store_loses_reply = 0.7
    await _write(world, rng, world.clients, 15, within=3.0)
    world.weather.store_loses_reply = 0.1


async def late_commits(world: World, rng: Random) -> None:
    """F20, the other order: a writer is told that it failed, or dies, and then it is done after all."""
    world.weather.store_commits_late = 0.6
    for _ in range(3):
        await _write(world, rng, world.clients, 5, within=1.0)
        node = rng.choice(world.nodes)
        if rng.random() < 0.6:
            node.crash()
            await world.pass_time(rng.uniform(0.1, 1.5))
            node.start()
    world.weather.store_commits_late = 0.1


async def engine_deaths(world: World, rng: Random) -> None:
    """F30: engines die under load, on every node, while the log is behind."""
    for _ in range(5):
        await _write(world, rng, world.clients, 4, within=0.4)
        for node in world.nodes:
            if node.life is not None and rng.random() < 0.7:
                node.life.call(node.life.engine.die)
        await world.pass_time(rng.uniform(0.1, 1.0))


async def tabs(world: World, rng: Random) -> None:
    """F45: one tab's edits reach another tab and not the server; the other builds on them, and is heard first."""
    for _ in range(3):
        await world.pass_time(rng.uniform(0.3, 1.0))
        one = rng.choice(world.clients)
        others = [client for client in world.clients if client.document == one.document and client is not one]
        if not others:
            return
        one.set_offline(True)
        for _ in range(2):
            written = one.write()
            if written is not None:
                for other in others[:2]:
                    other.overhear(written.update)
                    other.write()
        await world.pass_time(rng.uniform(0.0, 1.0))
        one.set_offline(False)


async def rolling_drain(world: World, rng: Random) -> None:
    """F06: one node after the other is told to go and is started again."""
    for node in world.nodes:
        await _write(world, rng, world.clients, 5, within=0.5)
        node.drain()
        await world.until(lambda node=node: node.life is None, within=10.0)  # type: ignore[misc]
        node.start()
        await world.pass_time(rng.uniform(0.1, 1.0))


async def swizzle(world: World, rng: Random) -> None:
    """F47: the wires of the nodes are cut one by one and healed in another order."""
    nodes = list(world.nodes)
    rng.shuffle(nodes)
    for node in nodes:
        if node.life is not None:
            node.life.bus.cut(hears=False, speaks=False)
        await _write(world, rng, world.clients, 3, within=rng.uniform(0.2, 1.5))
    rng.shuffle(nodes)
    for node in nodes:
        if node.life is not None:
            node.life.bus.heal()
        await _write(world, rng, world.clients, 3, within=rng.uniform(0.2, 1.5))


async def storms(world: World, rng: Random) -> None:
    """F35: every connection is cut at once, again and again, also while it is being made."""
    for _ in range(8):
        await _write(world, rng, world.clients, 3, within=rng.uniform(0.05, 0.6))
        for client in world.clients:
            if client.link is not None:
                client.link.cut()


async def slow_readers(world: World, rng: Random) -> None:
    """F36: half of the clients hardly read, while the others write much."""
    await world.pass_time(1.0)
    slow = world.clients[: (len(world.clients) + 1) // 2]
    for _ in range(3):
        for client in slow:
            if client.link is not None:
                client.link.down.slow_down(rng.choice((30.0, 100.0, 400.0)))
        await _write(world, rng, world.clients, 15, within=2.0)
        if rng.random() < 0.5:
            for client in slow:
                if client.link is not None:
                    client.link.down.slow_down(None)


async def deletion(world: World, rng: Random) -> None:
    """A document is deleted at one node while everybody writes; the other nodes may hear of it from the log only."""
    await _write(world, rng, world.clients, 10, within=2.0)
    if rng.random() < 0.5:
        world.bus.deaf_to = lambda envelope: envelope.kind == Kind.CONTROL
    world.delete(world.plan.documents[-1])
    await _write(world, rng, world.clients, 10, within=2.0)
    world.bus.deaf_to = lambda _: False


SCENARIOS: dict[str, Scenario] = {
    "crash after commit": Scenario(crash_after_commit),
    "crash before commit": Scenario(crash_before_commit),
    "adoption": Scenario(adoption, _everybody_writes),
    "hop before commit": Scenario(hop_before_commit),
    "bus outage": Scenario(bus_outage),
    "lost envelopes": Scenario(lost_envelopes),
    "cold loads": Scenario(cold_loads, _unload_early),
    "flapping": Scenario(flapping, _unload_early),
    "compactions": Scenario(compactions, _compact_often),
    "crash everything": Scenario(crash_everything),
    "long pause": Scenario(long_pause),
    "one way": Scenario(one_way),
    "lost replies": Scenario(lost_replies),
    "late commits": Scenario(late_commits),
    "engine deaths": Scenario(engine_deaths),
    "tabs": Scenario(tabs),
    "rolling drain": Scenario(rolling_drain),
    "swizzle": Scenario(swizzle),
    "storms": Scenario(storms),
    "slow readers": Scenario(slow_readers),
    "deletion": Scenario(deletion),
}
"""Name -> scenario, in the order in which seeds take them."""
