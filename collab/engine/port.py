"""The engine port: everything that needs CRDT code, batched and asynchronous.

An engine holds replicas of documents and computes with document bytes. It has no network, no credentials and no
say in what is recorded or sent. Two adapters: `inline` (this process; tests and embedding among trusted users) and
`isolated` (a child process; what `collab serve` uses). The live room is its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

from collab.errors import CloseCode, CollabError
from collab.protocol.values import value

Format = Literal["update", "json", "text", "html", "markdown"]
RootType = Literal["xml", "text", "map", "array"]


class Verdict(Enum):
    """What became of one proposed update."""

    INTEGRATED = "integrated"
    """New, complete, and now part of the document."""
    REDUNDANT = "redundant"
    """Everything in it (clocks and deletions) was part of the document already."""
    PENDING = "pending"
    """Some of it waits for an update that is not here yet: kept aside, integrated as soon as that one comes."""
    STILL_PENDING = "still_pending"
    """Everything in it was there already, and some of that still waits."""
    REFUSED = "refused"
    """Malformed, over a bound, or deadly; nothing of it is in the document. `Outcome.code` says why."""


REPEATS = (Verdict.REDUNDANT, Verdict.STILL_PENDING)
"""Nothing in it is new."""


@value()
class Outcome:
    """The verdict on one update; ``code`` and ``detail`` are set for REFUSED only."""

    verdict: Verdict
    code: CloseCode | None = None
    detail: str = ""
    empty: bool = False
    """True when the update carries no structs (at most deletions)."""


INTEGRATED = Outcome(Verdict.INTEGRATED)
"""The outcome of nearly every update, made once."""


@value()
class Integration:
    """The answer to `Engine.integrate`."""

    outcomes: tuple[Outcome, ...]
    """One per proposed update, in order."""
    merged: bytes | None
    """One self-contained update holding what every INTEGRATED and PENDING one of this batch brought, or None when there
    is none, or it was not asked for. A single one that repeats nothing comes back as the very bytes received."""
    clocks: Mapping[int, int] = field(default_factory=dict)
    """Client -> next expected clock, of the clients whose clock moved by anything but one typed string
    (`yjs_keystroke.read_typed`), which tells by itself."""
    crowded: bool = False
    """The document is more than half of what it may be: the next update may be the one that does not fit."""
    brought: Mapping[int, bytes] = field(default_factory=dict)
    """Index -> what was lacking of an update that repeats structs which the document held, or which waited for it.
    Whoever wrote those may take them for confirmed when it sees them again."""


@dataclass(frozen=True, slots=True)
class Diff:
    """The answer to `Engine.diff`: a point in the document's life, seen from a state vector."""

    update: bytes
    """What a replica with that state vector lacks, pending updates included."""
    state_vector: bytes
    """The document's own state vector at that point."""


@value()
class Digest:
    """The answer to `Engine.digest`."""

    hash: bytes
    """16 bytes over the ids of all structs held, integrated or waiting, and of all that is deleted: equal on two
    replicas exactly when these are, whatever the order in which they came. What can never integrate (structs that wait
    for each other) does not count: it is kept or refused after the order in which it came."""
    state_vector: bytes
    """The document's own state vector at that point."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The answer to `Engine.load`."""

    state_vector: bytes
    waiting: tuple[int, ...]
    """Indexes, in the updates given, of those that still wait for a dependency."""
    refused: tuple[int, ...]
    """Indexes of those that could not be read at all (poison); the document was built without them."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Job: build one compact update out of many, in a fresh document. Answer: `Folded`."""

    updates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """One update equal to all the covered ones; deleted text is gone from it."""

    update: bytes
    state_vector: bytes
    covered: tuple[int, ...]
    """Indexes of the updates whose content is in ``update``; one that waits for a dependency is not among them."""


@dataclass(frozen=True, slots=True)
class Render:
    """Job: read a shared type out of a document. Answer: bytes (UTF-8 for text formats, JSON text for ``json``)."""

    updates: tuple[bytes, ...]
    format: Format
    root: str | None = None
    """Name of the shared type; None means the only root, else the best-known editor name among them."""
    type: RootType | None = None
    """Overrides what is inferred from the shared type's items (the wire does not say what a root is)."""


@dataclass(frozen=True, slots=True)
class Compose:
    """Job: make the update that creates content in an empty document. Answer: bytes (a Yjs v1 update)."""

    content: bytes
    """UTF-8 text, HTML, Markdown, or JSON text, after ``format``; for ``update`` it is checked and returned."""
    format: Format
    root: str | None = None
    type: RootType | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """Job: read the JSON body that describes a document to create, and compose its content. Answer: `Drafted`."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the body of a `Draft`."""

    kind: Literal["form", "size", "content"]
    """It has not the right form; it holds too much beside the content; its content cannot become a document."""
    what: str
    """For whoever sent it."""
    where: str = ""
    """Place in the body, of a wrong form: a field, a position in the text, or nothing for all of it."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A body taken apart: the small rest of it, and what became of its content. The content's value is never here."""

    rest: bytes = b""
    """JSON text with null in place of the content's value, at most `collab.engine.draft.MAX_REST_BYTES`. Nobody has
    checked its fields. Empty when nothing could be read: then ``flaw`` says why."""
    update: bytes | None = None
    """What creates the content (Yjs v1). None when there is none, when its fields are not those of content, and when
    ``flaw`` says what is wrong with it."""
    flaw: Flaw | None = None


@dataclass(frozen=True, slots=True)
class Revert:
    """Job: make the update that, applied to ``current``, gives it the content of ``target``. Answer: bytes."""

    current: tuple[bytes, ...]
    target: tuple[bytes, ...]


Followed = Callable[["Integration | CollabError"], None]
"""What is called with the answer to `Engine.follow`."""

Job = Fold | Render | Compose | Draft | Revert
JobAnswer = Folded | Drafted | bytes


class Engine(Protocol):
    """Replicas of documents, and computation on document bytes.

    Calls for one document are executed in the order they were made. Calls of one event-loop turn travel together.
    Every call may raise `EngineDied`: the document is then no longer loaded and the caller loads it again from what
    is recorded and unsaved; no socket is touched and no other document notices more than a short wait. Jobs raise
    `InvalidContent` when the content is at fault.

    All updates are untrusted bytes: they are checked against the bounds of `collab.protocol.yjs` before any native
    code reads them.
    """

    async def load(self, document: str, updates: Sequence[bytes]) -> Loaded:
        """Hold a replica of ``document`` built from ``updates`` (any order), replacing what was held."""
        ...

    async def integrate(self, document: str, updates: Sequence[bytes], *, probe: bool = False) -> Integration:
        """Apply ``updates`` in order to a loaded document.

        With ``probe`` nothing is applied: the outcomes say what would happen (INTEGRATED: it holds something new).
        Raises `Misuse` when the document was never loaded; a culprit in `EngineDied` counts in ``updates``.
        """
        ...

    def follow(self, document: str, updates: Sequence[bytes], done: Followed) -> None:
        """`integrate` for what people were shown before: nothing is merged, and no task stands in between.

        ``done``, which must not raise, is called later, once, with the answer or with what `integrate` would raise.
        """
        ...

    async def diff(self, document: str, state_vector: bytes) -> Diff:
        """What a replica with ``state_vector`` lacks. Raises `MalformedMessage` for an unreadable vector."""
        ...

    async def digest(self, document: str) -> Digest:
        """What the replica hashes to: equal for two replicas exactly when they hold and delete the same."""
        ...

    async def forget(self, document: str) -> None:
        """Let go of the replica; a document that is not loaded is no mistake."""
        ...

    async def run(self, job: Job) -> JobAnswer:
        """Do work that needs no loaded document, beside the replicas and never in their way."""
        ...

    async def close(self) -> None:
        """End every process and task of the engine. Calls under way raise `EngineDied`."""
        ...
