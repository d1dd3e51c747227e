"""Wishes that concern every node, as values and as bytes. Each may arrive twice, late or not at all.

A wish names the nodes it is for. Their names are new at every start, so a wish that somebody kept is for nobody who
starts later; against hearing it twice, see `collab.node.cluster`. What must not be lost is in the database too:
deletion is found by the log follower, rights by asking again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collab.errors import CloseCode, MalformedMessage

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class CloseDocument:
    """Tell everybody in a document why it ends, and let go of it."""

    document: str
    code: CloseCode


@dataclass(frozen=True, slots=True)
class CloseUser:
    """Tell every session of a user, or only those in one document, to go: it comes back when its rights allow.

    Sent when rights have changed, so that whoever is connected is asked again who he is, or to put somebody out.
    """

    subject: str
    code: CloseCode
    document: str | None = None


@dataclass(frozen=True, slots=True)
class AccessChanged:
    """A grant, a link or a revocation changed: ask the database what, if it is not known yet."""

    epoch: int
    """The access epoch that the sender knows; 0 when it does not."""


Control = CloseDocument | CloseUser | AccessChanged


def pack(control: Control, nodes: Iterable[str]) -> bytes:
    """Encode, for these nodes."""
    fields: dict[str, str | int | list[str] | None]
    match control:
        case CloseDocument(document, code):
            fields = {"do": "close_document", "document": document, "code": code.name}
        case CloseUser(subject, code, document):
            fields = {"do": "close_user", "subject": subject, "document": document, "code": code.name}
        case AccessChanged(epoch):
            fields = {"do": "access_changed", "epoch": epoch}
    fields["for"] = list(nodes)
    return json.dumps(fields, separators=(",", ":")).encode()


def unpack(payload: bytes, node: str) -> Control | None:
    """Decode; None for what is not for ``node``, and for a wish only a newer version knows. Raises `MalformedMessage`.

    What names no nodes, as versions before this one wrote it, is for nobody: it could be repeated without end.
    """
    try:
        fields = json.loads(payload)
        nodes = fields.get("for", [])
        if not isinstance(nodes, list):
            raise TypeError(nodes)
        if node not in nodes:
            return None
        match fields["do"]:
            case "close_document":
                return CloseDocument(str(fields["document"]), CloseCode[fields["code"]])
            case "close_user":
                document = fields["document"]
                return CloseUser(
                    str(fields["subject"]), CloseCode[fields["code"]], None if document is None else str(document)
                )
            case "access_changed":
                return AccessChanged(int(fields["epoch"]))
            case _:
                return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MalformedMessage("a control message that cannot be read") from error
