"""An envelope as bytes: what one node writes and another believes only when the check at its end is right.

    version (1 byte) | node | kind | document | epoch (8 bytes) | sequence | payload | check

The node comes first so that a node drops its own envelopes unread. The check is a CRC-32 against accidents, or, with a
secret, the first 16 bytes of an HMAC-SHA256 against strangers who reach the bus. It does not hide what is carried, and
does not keep a stranger from repeating an envelope: whoever acts on one must bear hearing it twice, or remember the
numbers it has acted on, as `collab.node.cluster` does of wishes.
"""

from __future__ import annotations

import hmac
from typing import Final
from zlib import crc32

from collab.bus.port import Envelope
from collab.errors import MalformedMessage
from collab.protocol.varint import read_bytes, read_varuint, write_bytes, write_varuint

VERSION: Final = b"\x01"
"""Nodes of another version are not understood; they find each other through the database."""

_EPOCH_BYTES = 8
"""An epoch is a time in nanoseconds, more than a variable-length integer of ours holds."""
_CRC_BYTES = 4
_MAC_BYTES = 16


def pack(envelope: Envelope, secret: bytes | None = None) -> bytes:
    """Write ``envelope``, whose numbers must be at least 0."""
    body = b"".join(
        (
            head(envelope.node),
            write_varuint(envelope.kind),
            write_bytes(envelope.document.encode()),
            envelope.epoch.to_bytes(_EPOCH_BYTES, "big"),
            write_varuint(envelope.sequence),
            envelope.payload,
        )
    )
    return body + _check(body, secret)


def unpack(data: bytes, secret: bytes | None = None) -> Envelope:
    """Read what `pack` wrote with the same secret. Raises `MalformedMessage` for everything else."""
    if data[:1] != VERSION:
        raise MalformedMessage("envelope of another version")
    end = len(data) - (_CRC_BYTES if secret is None else _MAC_BYTES)
    if end < 1 or not hmac.compare_digest(_check(memoryview(data)[:end], secret), data[end:]):
        raise MalformedMessage("envelope changed, or signed with another secret")
    node, position = read_bytes(data, 1)
    kind, position = read_varuint(data, position)
    document, position = read_bytes(data, position)
    epoch, position = int.from_bytes(data[position : position + _EPOCH_BYTES], "big"), position + _EPOCH_BYTES
    sequence, position = read_varuint(data, position)
    if position > end:
        raise MalformedMessage("envelope too short")
    try:
        return Envelope(document.decode(), node.decode(), epoch, sequence, kind, data[position:end])
    except UnicodeDecodeError as error:
        raise MalformedMessage("envelope with a name that is no UTF-8") from error


def head(node: str) -> bytes:
    """What every envelope of ``node`` begins with, and none of another node."""
    return VERSION + write_bytes(node.encode())


def _check(body: bytes | memoryview, secret: bytes | None) -> bytes:
    if secret is None:
        return crc32(body).to_bytes(_CRC_BYTES, "big")
    return hmac.digest(secret, body, "sha256")[:_MAC_BYTES]
