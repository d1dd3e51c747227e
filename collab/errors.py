"""Every exception of the house, and the one table of close codes.

    CollabError
    ├── RemoteError             somebody else's mistake: fails one session or one request, nothing more
    │   ├── MalformedMessage    bytes that are not a message of the dialect, or break a bound
    │   ├── InvalidName         not a document name
    │   ├── InvalidContent      content that cannot become, or be read from, a document
    │   ├── Unauthenticated     no identity, or one that cannot be believed
    │   ├── Forbidden           an identity without the right
    │   ├── DocumentMissing     no such document
    │   ├── DocumentExists      a document of that name is there already
    │   ├── DocumentDeleted     it was there and was deleted; the name stays taken
    │   ├── DocumentTooLarge    the document would grow beyond its bound
    │   ├── SnapshotMissing     no such snapshot of that document
    │   └── LinkMissing         no such link to that document
    ├── Unavailable             nobody's mistake now; the same call may succeed later
    │   ├── StoreUnavailable    the database did not answer, or refused to write
    │   │   └── DocumentsBusy   only some documents are to blame: somebody else holds them locked
    │   ├── EngineDied          the engine was lost while it held this work
    │   ├── DocumentQuarantined the document keeps killing engines
    │   ├── Overloaded          this node, room or user has all the sessions or work it may have
    │   ├── DeadlinePassed      what had to happen in time did not
    │   └── Draining            this node is shutting down
    └── Misuse                  our own mistake: a caller broke a contract

Adapters translate their driver's errors into these at the border and keep the cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CollabError(Exception):
    """Base of everything collab raises on purpose."""


class RemoteError(CollabError):
    """A mistake of whoever is on the other side."""


class MalformedMessage(RemoteError):
    """Bytes that are not what the dialect allows, or that break a bound."""


class InvalidName(RemoteError):
    """Not a document name."""


class InvalidContent(RemoteError):
    """Content that cannot become a document, or a document that cannot be shown in the asked form."""


class Unauthenticated(RemoteError):
    """No identity, or one that cannot be believed."""


class Forbidden(RemoteError):
    """The identity has no right to do this."""


class DocumentMissing(RemoteError):
    """No document of that name."""


class DocumentExists(RemoteError):
    """A document of that name is there already."""


class DocumentDeleted(RemoteError):
    """The document was deleted; its name stays taken."""


class DocumentTooLarge(RemoteError):
    """The document would grow beyond its bound."""


class SnapshotMissing(RemoteError):
    """No such snapshot of that document."""


class LinkMissing(RemoteError):
    """No such link to that document."""


class Unavailable(CollabError):
    """The same call may succeed later."""


class StoreUnavailable(Unavailable):
    """The database did not answer, or refused to write."""


class DocumentsBusy(StoreUnavailable):
    """Somebody else holds some documents of an append locked, and nothing of it was stored.

    ``documents`` names them, at least one; the rest of the append need not wait for them.
    """

    def __init__(self, reason: str, documents: frozenset[str]) -> None:
        super().__init__(reason)
        self.documents = documents


class EngineDied(Unavailable):
    """The engine was lost while it held this work; its documents must be loaded again.

    ``culprit`` is the index, in the call's updates, of the update that was being applied when the engine died, or
    None when this call was not the one being worked on.
    """

    def __init__(self, reason: str, *, culprit: int | None = None) -> None:
        super().__init__(reason)
        self.culprit = culprit


class DocumentQuarantined(Unavailable):
    """The document keeps killing engines and is left alone for a while."""


class Overloaded(Unavailable):
    """This node, room or user has all the sessions or work it may have."""


class DeadlinePassed(Unavailable):
    """What had to happen in time did not."""


class Draining(Unavailable):
    """This node is shutting down and takes nothing new."""


class Misuse(CollabError):
    """A caller inside collab broke a contract."""


@dataclass(frozen=True, slots=True)
class _Close:
    code: int
    reason: str
    retry: bool


class CloseCode(Enum):
    """Why the server closes a WebSocket, and whether the client may come back.

    The range is a contract with stock clients: y-websocket 3.1 and later stops for good on 4400 to 4499 and
    comes back after everything else (SPEC C1, C2).
    """

    RESTART = _Close(1012, "server restarting", retry=True)
    UNSUPPORTED_DATA = _Close(1003, "binary frames only", retry=True)
    TOO_BIG = _Close(1009, "frame too big", retry=True)
    MALFORMED = _Close(4400, "malformed message", retry=False)
    UNAUTHENTICATED = _Close(4401, "authentication required", retry=False)
    FORBIDDEN = _Close(4403, "not allowed", retry=False)
    NOT_FOUND = _Close(4404, "no such document", retry=False)
    DELETED = _Close(4410, "document deleted", retry=False)
    QUOTA = _Close(4413, "document too large", retry=False)
    UNSUPPORTED_ENCODING = _Close(4415, "unsupported encoding", retry=False)
    FAULT = _Close(4500, "server fault", retry=True)
    UNAVAILABLE = _Close(4503, "storage or engine unavailable", retry=True)
    DEADLINE = _Close(4508, "deadline passed", retry=True)
    QUARANTINED = _Close(4509, "document quarantined, retry later", retry=True)
    OVERLOADED = _Close(4529, "too much at once", retry=True)

    @property
    def code(self) -> int:
        """The number on the wire."""
        return self.value.code

    @property
    def reason(self) -> str:
        """The fixed text sent with it; never internals."""
        return self.value.reason

    @property
    def retry(self) -> bool:
        """Whether a client may come back without being changed first."""
        return self.value.retry


_CODES: tuple[tuple[type[CollabError], CloseCode], ...] = (
    (DocumentTooLarge, CloseCode.QUOTA),
    (DocumentDeleted, CloseCode.DELETED),
    (DocumentMissing, CloseCode.NOT_FOUND),
    (DocumentQuarantined, CloseCode.QUARANTINED),
    (Draining, CloseCode.RESTART),
    (Overloaded, CloseCode.OVERLOADED),
    (DeadlinePassed, CloseCode.DEADLINE),
    (Unavailable, CloseCode.UNAVAILABLE),
    (Unauthenticated, CloseCode.UNAUTHENTICATED),
    (Forbidden, CloseCode.FORBIDDEN),
    (InvalidName, CloseCode.NOT_FOUND),
    (MalformedMessage, CloseCode.MALFORMED),
    (RemoteError, CloseCode.MALFORMED),
)


def close_code_for(error: Exception) -> CloseCode:
    """The code that tells a client about ``error``; anything unexpected is a server fault."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), CloseCode.FAULT)


def error_for(code: CloseCode, detail: str) -> CollabError:
    """The exception that means ``code`` to a caller without a socket."""
    if code in (CloseCode.FAULT, CloseCode.RESTART):
        return Unavailable(detail)
    return next((kind(detail) for kind, known in _CODES if known is code), MalformedMessage(detail))
