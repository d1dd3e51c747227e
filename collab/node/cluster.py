"""The other nodes, as this one knows them: who is alive, who went, what they wish, who is connected where.

Each node says every few seconds that it is there. One that falls silent is taken for dead, unless this node may itself
be the deaf one: while its bus is away, and after it was stopped for a while, it waits anew for everybody.

A wish is carried out once, however often somebody repeats it on the bus: it names the nodes it is for, and each takes
from another only wishes with greater numbers than the last. So a node must be heard of before it can be told of a wish:
one that is heard of anew is told what it missed in the last minute.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from collab.bus.port import EVERYWHERE, Envelope, Kind
from collab.errors import MalformedMessage
from collab.node import control

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from collab.bus.port import Bus, Subscription
    from collab.node.control import Control
    from collab.node.counters import Counters

LONGEST_SILENCE = 1.1
"""Times `ClusterTimes.alive_every`: by then a living node has said so."""
TOLD_ANEW_WITHIN = 60.0
"""Seconds in which a node that was not heard of when somebody was to be sent away is told as soon as it is. Guessed."""
MOST_TOLD_ANEW = 1_000
"""Wishes, the newest."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterTimes:
    """How often nodes look after each other, in seconds."""

    alive_every: float = 2.0
    dead_after: float = 7.0
    """A node unheard of for this long is dead: its presence goes, what it may not have committed is adopted."""
    digest_every: float = 3.0
    """Rooms that other nodes have open too say so often what they hold."""
    follow_every: float = 3.0
    """How often the log is looked at for rows nobody told of."""
    follow_every_when_cut: float = 1.0
    """The same while the bus is away: then it is the only way from node to node."""
    adopt_after: float = 0.2
    """How long a confirmation waits for another node's commit before this node writes the update to the log itself."""
    access_every: float = 2.0
    """How often the database is asked what changed in grants, links and revocations. The promise is 5 s."""
    answer_within: float = 1.0
    """How long `Cluster.who` waits for the other nodes."""


class Cluster:
    """This node among the others. ``start`` it once, ``leave`` it when everything is saved, ``close`` it once."""

    def __init__(
        self,
        *,
        node: str,
        epoch: int,
        bus: Bus,
        times: ClusterTimes,
        rng: random.Random,
        counters: Counters,
        wished: Callable[[Control], None],
        gone: Callable[[str], None],
        returned: Callable[[str], None],
        present: Callable[[str], list[dict[str, Any]]],
    ) -> None:
        """``wished`` carries a wish out here, ``gone`` is told of a dead node, ``returned`` why somebody
        was deaf for a while, ``present`` says who is connected to a document here."""
        self._node = node
        self._epoch = epoch
        self._bus = bus
        self._times = times
        self._rng = rng
        self._counters = counters
        self._wished = wished
        self._gone = gone
        self._returned = returned
        self._present = present
        self._now: Callable[[], float] = lambda: 0.0
        self._sequence = 0
        self._heard_at: dict[str, float] = {}
        self._dead: set[str] = set()
        """Nodes that fell silent. One that is heard of again was only cut off, and rooms must find each other anew."""
        self._gone_for_good: set[str] = set()
        """Nodes that said so. What of theirs is still under way, or is said again, brings none back."""
        self._all_heard_at = 0.0
        """When every node there is has been heard of; unless it is cut off."""
        self._wishes: deque[_Wish] = deque(maxlen=MOST_TOLD_ANEW)
        self._carried_out: dict[str, int] = {}
        """Node -> the number of its last wish. Never forgotten, or an older one could be repeated: a few bytes each."""
        self._questions: dict[int, _Question] = {}
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def nodes(self) -> tuple[str, ...]:
        """The other nodes that are alive, as far as is known."""
        return tuple(self._heard_at)

    def start(self) -> None:
        """Begin to work; on a bus that is not shared there is nothing to do."""
        self._now = asyncio.get_running_loop().time
        if self._bus.shared:
            self._task = asyncio.create_task(self._run(), name="cluster")

    def leave(self) -> None:
        """Tell the others that this node goes."""
        if self._bus.shared:
            self._publish(Kind.LEAVING)

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._subscription is not None:
            await self._subscription.close()

    def wish(self, wish: Control) -> None:
        """Tell every other node. The caller does it here itself."""
        if not self._bus.shared:
            return
        told = set(self._heard_at)
        self._publish(Kind.CONTROL, control.pack(wish, told))
        if not isinstance(wish, control.AccessChanged):  # that one the others find by themselves, in the database
            self._wishes.append(_Wish(wish, self._now(), told))

    def heard_of(self, node: str) -> None:
        """A node gave a sign of life, on whatever channel."""
        if node in self._gone_for_good:
            return
        if node in self._dead:
            self._dead.discard(node)
            self._returned("returned")
        is_new = node not in self._heard_at
        self._heard_at[node] = self._now()
        if is_new:
            self._counters.nodes = len(self._heard_at)
            self._tell_anew(node)

    async def who(self, document: str) -> tuple[list[dict[str, Any]], bool]:
        """Who is connected to a document on the other nodes; False when not every node has answered."""
        if not self._bus.shared:
            return [], True
        asked, knows_all = set(self._heard_at), self._bus.connected and self._now() >= self._all_heard_at
        if not asked:
            return [], knows_all
        number = self._sequence + 1
        question = self._questions[number] = _Question(asked)
        try:
            self._publish(Kind.WHO, json.dumps({"question": number, "document": document}).encode())
            async with asyncio.timeout(self._times.answer_within):
                await question.answered.wait()
        except TimeoutError:
            return question.present, False
        finally:
            del self._questions[number]
        return question.present, knows_all

    def _tell_anew(self, node: str) -> None:
        while self._wishes and self._now() - self._wishes[0].at > TOLD_ANEW_WITHIN:
            self._wishes.popleft()
        for one in self._wishes:
            if node not in one.told:
                one.told.add(node)
                self._publish(Kind.CONTROL, control.pack(one.wish, (node,)), to=node)

    def _publish(self, kind: Kind, payload: bytes = b"", to: str | None = None) -> None:
        self._sequence += 1
        self._bus.publish(Envelope(EVERYWHERE, self._node, self._epoch, self._sequence, kind, payload), to=to)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._subscription = await self._bus.subscribe(EVERYWHERE, self._hear, self._wait_anew)
        self._wait_anew()
        while True:
            before = loop.time()
            self._publish(Kind.ALIVE)
            await asyncio.sleep(self._times.alive_every * (LONGEST_SILENCE - self._rng.random() / 5))
            now = loop.time()
            if now - before > self._times.dead_after:
                # Stopped for so long, this node counts as dead with the others, and heard nothing of them.
                self._wait_anew()
                self._returned("paused")
            elif self._bus.connected:
                self._bury_the_dead(now)
            else:
                self._wait_anew()

    def _wait_anew(self) -> None:
        now = self._now()
        self._heard_at = dict.fromkeys(self._heard_at, now)
        self._all_heard_at = now + LONGEST_SILENCE * self._times.alive_every

    def _bury_the_dead(self, now: float) -> None:
        for node, heard_at in tuple(self._heard_at.items()):
            if now - heard_at > self._times.dead_after:
                log.warning("node_died", node=node)
                self._dead.add(node)
                self._forget(node)

    def _forget(self, node: str) -> None:
        if self._heard_at.pop(node, None) is not None:
            self._counters.nodes = len(self._heard_at)
            self._gone(node)
            for question in self._questions.values():
                question.note(node, [])

    def _hear(self, envelope: Envelope) -> None:
        if envelope.node == self._node:
            return
        if envelope.kind == Kind.LEAVING:
            self._gone_for_good.add(envelope.node)
            self._forget(envelope.node)
            return
        self.heard_of(envelope.node)
        try:
            self._take(envelope)
        except (MalformedMessage, ValueError, KeyError, TypeError) as error:
            log.error("peer_message_malformed", kind=envelope.kind, error=str(error))

    def _take(self, envelope: Envelope) -> None:
        match envelope.kind:
            case Kind.CONTROL:
                wish = control.unpack(envelope.payload, self._node)
                if wish is not None and envelope.sequence > self._carried_out.get(envelope.node, 0):
                    self._carried_out[envelope.node] = envelope.sequence
                    self._wished(wish)
            case Kind.WHO:
                asked = json.loads(envelope.payload)
                answer = {"question": asked["question"], "present": self._present(asked["document"])}
                self._publish(Kind.PRESENT, json.dumps(answer).encode(), to=envelope.node)
            case Kind.PRESENT:
                told = json.loads(envelope.payload)
                question = self._questions.get(told["question"])
                if question is not None:
                    question.note(envelope.node, told["present"])
            case _:
                pass  # alive, or from a newer version


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was wished lately."""

    wish: Control
    at: float
    told: set[str]
    """Nodes it was meant for."""


class _Question:
    """Answers to one `Cluster.who`."""

    def __init__(self, asked: set[str]) -> None:
        self._asked = asked
        self.present: list[dict[str, Any]] = []
        self.answered = asyncio.Event()

    def note(self, node: str, present: list[dict[str, Any]]) -> None:
        if node in self._asked:
            self._asked.discard(node)
            self.present += present
            if not self._asked:
                self.answered.set()
