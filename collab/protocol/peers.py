"""What the nodes that serve one document say to each other about it, as values and as bytes.

The bus carries the bytes (`collab.bus.port.Kind` names them); `collab.node.sender` packs them, `collab.node.exchange`
reads them. Nodes trust each other, but bytes may come from another version: readers are bounded, and what follows a
known message is ignored, so that fields can be added at its end.
"""

from __future__ import annotations

from collections.abc import Iterator

from collab.errors import MalformedMessage
from collab.protocol.messages import AwarenessEntry
from collab.protocol.values import value
from collab.protocol.varint import read_bytes, read_varuint, write_bytes, write_varuint

MAX_ITEMS = 1_000_000


@value()
class PeerUpdate:
    """Updates the sender took from its sessions, as one self-contained update."""

    first: int
    """Number of the first of their log entries; they follow one another."""
    count: int
    update: bytes


@value()
class PeerCommitted:
    """The sender's updates of this document are in the log."""

    through: int
    """Number of the newest log entry that is."""
    rows: tuple[tuple[int, int], ...] = ()
    """(first, count) of sequence numbers the sender's updates got since it last said so."""


@value()
class PeerEntry:
    """An awareness entry one of the sender's sessions speaks for."""

    entry: AwarenessEntry
    subject: str
    """Who that session belongs to."""
    age_ms: int
    """How long that session has been there: of two sessions that speak for one client, the younger counts."""


@value()
class PeerAwareness:
    """What changed in the presence of the sender's sessions."""

    entries: tuple[PeerEntry, ...]


@value()
class PeerDigest:
    """What the sender holds, to be compared."""

    hash: bytes
    """`collab.engine.port.Digest.hash`."""
    state_vector: bytes
    """Empty when it would be large: then only the hash can be compared."""
    presence: bytes
    """`AwarenessTable.digest` of the sender's own entries."""
    through: int
    """As in `PeerCommitted`."""
    sequence: int
    """Everything the sender said up to this number is in what it holds."""


@value()
class PeerAsk:
    """Send me what I lack."""

    hash: bytes
    state_vector: bytes


@value()
class PeerAnswer:
    """What the asker lacks."""

    sequence: int
    """Sequence number of the newest envelope the sender published about the document: all up to it is in the answer."""
    same: bool
    """Whether the sender's document hashes to what the asker's did."""
    update: bytes
    """Relative to the state vector that was sent."""
    through: int
    """As in `PeerCommitted`."""
    entries: tuple[PeerEntry, ...]
    """The presence of all the sender's sessions."""


PeerMessage = PeerUpdate | PeerCommitted | PeerAwareness | PeerDigest | PeerAsk | PeerAnswer


def pack(message: PeerMessage) -> bytes:
    """Encode."""
    match message:
        case PeerUpdate(first, count, update):
            return write_varuint(first) + write_varuint(count) + update
        case PeerCommitted(through, rows):
            return write_varuint(through) + _numbers(len(rows), *(number for row in rows for number in row))
        case PeerAwareness(entries):
            return _entries(entries)
        case PeerDigest(digest, state_vector, presence, through, sequence):
            held = write_bytes(digest) + write_bytes(state_vector) + write_bytes(presence)
            return held + write_varuint(through) + write_varuint(sequence)
        case PeerAsk(digest, state_vector):
            return write_bytes(digest) + write_bytes(state_vector)
        case PeerAnswer(sequence, same, update, through, entries):
            return _numbers(sequence, int(same)) + write_bytes(update) + write_varuint(through) + _entries(entries)


def read_update(payload: bytes) -> PeerUpdate:
    """Decode. Raises `MalformedMessage`, like every reader here."""
    first, position = read_varuint(payload, 0)
    count, position = read_varuint(payload, position)
    return PeerUpdate(first, count, payload[position:])


def read_committed(payload: bytes) -> PeerCommitted:
    """Decode."""
    through, position = read_varuint(payload, 0)
    count, position = read_varuint(payload, position, MAX_ITEMS)
    rows = []
    for _ in range(count):
        first, position = read_varuint(payload, position)
        length, position = read_varuint(payload, position)
        rows.append((first, length))
    return PeerCommitted(through, tuple(rows))


def read_awareness(payload: bytes) -> PeerAwareness:
    """Decode."""
    return PeerAwareness(tuple(_read_entries(payload, 0)))


def read_digest(payload: bytes) -> PeerDigest:
    """Decode."""
    digest, position = read_bytes(payload, 0)
    state_vector, position = read_bytes(payload, position)
    presence, position = read_bytes(payload, position)
    through, position = read_varuint(payload, position)
    sequence, _ = read_varuint(payload, position)
    return PeerDigest(digest, state_vector, presence, through, sequence)


def read_ask(payload: bytes) -> PeerAsk:
    """Decode."""
    digest, position = read_bytes(payload, 0)
    state_vector, _ = read_bytes(payload, position)
    return PeerAsk(digest, state_vector)


def read_answer(payload: bytes) -> PeerAnswer:
    """Decode."""
    sequence, position = read_varuint(payload, 0)
    same, position = read_varuint(payload, position, 1)
    update, position = read_bytes(payload, position)
    through, position = read_varuint(payload, position)
    return PeerAnswer(sequence, bool(same), update, through, tuple(_read_entries(payload, position)))


def _numbers(*numbers: int) -> bytes:
    return b"".join(map(write_varuint, numbers))


def _entries(entries: tuple[PeerEntry, ...]) -> bytes:
    parts = [write_varuint(len(entries))]
    for peer in entries:
        entry = peer.entry
        parts += (
            _numbers(entry.client, entry.clock, peer.age_ms),
            write_bytes(peer.subject.encode()),
            write_bytes(entry.state or b""),  # a state is JSON and never empty
        )
    return b"".join(parts)


def _read_entries(payload: bytes, position: int) -> Iterator[PeerEntry]:
    count, position = read_varuint(payload, position, MAX_ITEMS)
    for _ in range(count):
        client, position = read_varuint(payload, position)
        clock, position = read_varuint(payload, position)
        age_ms, position = read_varuint(payload, position)
        subject, position = read_bytes(payload, position)
        state, position = read_bytes(payload, position)
        try:
            name = subject.decode()
        except UnicodeDecodeError as error:
            raise MalformedMessage("a subject that is not UTF-8") from error
        yield PeerEntry(AwarenessEntry(client, clock, state or None), name, age_ms)
