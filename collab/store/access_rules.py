"""What every adapter of the access ports must agree on: which text names somebody, which values may be kept.

Pure functions, used by memory and SQL alike. See `rules` for those of documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from collab.errors import Misuse
from collab.store import rules
from collab.store.access_port import MAX_SUBJECT_CHARS, ROLES, AccessChange, AccessTail, AuditEvent, Link

HASH_BYTES = 32
"""Of a SHA-256."""

KEPT_CHANGES = 10_000
"""Access changes that are kept for nodes to read. Guessed: a node asks every few seconds, and one that is farther
behind asks about all its sessions again."""

TICKETS_PER_PURGE = 100
"""After so many tickets an adapter removes those that were never used."""

AUDIT_TEXT_CHARS = 500
"""Longer text in the audit log is cut: PostgreSQL indexes no value above 2,700 bytes, and the row must not fail."""


def names_somebody(subject: str) -> bool:
    """Whether ``subject`` (or a token id) is kept as it is, so that it cannot be taken for another."""
    return 0 < len(subject) <= MAX_SUBJECT_CHARS and rules.storable(subject) == subject


def checked_subject(subject: str) -> str:
    """Raise `Misuse` for a subject or token id that could be taken for another."""
    if not names_somebody(subject):
        raise Misuse(f"a subject or token id is 1 to {MAX_SUBJECT_CHARS} characters without NUL and lone surrogates")
    return subject


def checked_role(role: str) -> str:
    """Raise `Misuse` for what is no role."""
    if role not in ROLES:
        raise Misuse("a role is one of read, comment, write, admin")
    return role


def checked_hash(secret_hash: bytes) -> bytes:
    """Raise `Misuse` for what is no SHA-256: it might be the secret itself."""
    if len(secret_hash) != HASH_BYTES:
        raise Misuse("of a secret its SHA-256 is kept, nothing else")
    return secret_hash


def used_hash() -> Misuse:
    """For a hash that belongs to something else already."""
    return Misuse("the hash of this secret belongs to something else already")


def plain_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Copy ``value`` as what will be read back. Raises `Misuse` for what is not JSON."""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Misuse(f"not plain JSON: {error}") from error
    return copied


def audit_text(text: str) -> str:
    """Make text fit for the audit log; the same for writing and for asking."""
    return rules.storable(text)[:AUDIT_TEXT_CHARS]


def storable_event(event: AuditEvent) -> AuditEvent:
    """``event`` as it will be read back."""
    return AuditEvent(
        audit_text(event.action),
        event.at.astimezone(UTC),
        actor=None if event.actor is None else audit_text(event.actor),
        actor_kind=None if event.actor_kind is None else audit_text(event.actor_kind),
        document=None if event.document is None else audit_text(event.document),
        detail=plain_json(event.detail),
        key=audit_text(event.key),
    )


def no_link(document: str, link_id: int) -> str:
    """Sentence for `LinkMissing`."""
    return f"no link {link_id} to {document}"


def same_link(held: Link, document: str, role: str, expires_at: datetime | None) -> Link:
    """``held``, when it is what a repeated call asks for. Raises `Misuse` when its hash belongs to another."""
    if (held.document, held.role, held.expires_at) != (document, role, expires_at):
        raise used_hash()
    return held


def tail(after: int, newest: int, found: Sequence[AccessChange]) -> AccessTail:
    """Make the tail after an epoch of the oldest changes found there."""
    through = found[-1].epoch if found else newest
    if after + len(found) != through:
        return AccessTail((), newest, complete=False)
    return AccessTail(tuple(found), through)
