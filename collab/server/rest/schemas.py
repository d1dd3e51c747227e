"""The forms of what REST takes and answers. Unknown fields are refused, never ignored; every text and object is
bounded and can be stored anywhere. Nothing here touches a document.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from collab.engine.draft import encoded_json
from collab.engine.port import RootType
from collab.protocol.names import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from collab import node
    from collab.store import port

MAX_META_BYTES = 8 * 1024
MAX_META_DEPTH = 20
MAX_ID = 2**53 - 1
"""Numbers above this are not exact in JavaScript."""


def _storable(text: str) -> str:
    if any(ord(c) < 32 or c == "\x7f" for c in text):
        raise ValueError("must not hold control characters")
    return text


def _meta(meta: dict[str, Any]) -> dict[str, Any]:
    encoded = encoded_json(meta, MAX_META_DEPTH)
    if len(encoded) > MAX_META_BYTES:
        raise ValueError(f"must not be larger than {MAX_META_BYTES} bytes of JSON")
    if b"\\u0000" in encoded:
        raise ValueError("must not hold NUL characters")
    return meta


Title = Annotated[str, StringConstraints(max_length=300), AfterValidator(_storable)]
Meta = Annotated[dict[str, Any], AfterValidator(_meta)]
RootName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
DocumentName = Annotated[
    str,
    Path(
        description="Letters, digits and `. _ : ~ -`, no leading dot; colons make namespaces.",
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        examples=["acme:specs:42"],
    ),
]
SnapshotId = Annotated[int, Path(description="Number of the snapshot.", ge=1, le=MAX_ID, examples=[7])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewContent(_Strict):
    """What a document starts with."""

    format: Literal["json", "text", "html", "markdown"] = Field(description="What `value` is.")
    # Judged by `collab.engine.draft`; null in every object of this class.
    value: Any = Field(description="A string, except for json: then the JSON itself.")
    root: RootName | None = Field(default=None, description="Name of the shared type to fill.")
    type: RootType | None = Field(default=None, description="Kind of the shared type to fill.")


class NewDocument(_Strict):
    """A document to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "acme:specs:42",
                    "title": "Specification",
                    "meta": {"team": "acme"},
                    "content": {"format": "markdown", "value": "# Specification\n\nFirst draft."},
                }
            ]
        },
    )

    name: str = Field(description="Its name for good.", examples=["acme:specs:42"])
    title: Title | None = None
    meta: Meta | None = Field(default=None, description=f"Any JSON object up to {MAX_META_BYTES} bytes.")
    content: NewContent | None = None


class DocumentChange(_Strict):
    """What to change; a field left out stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"title": "Specification, second draft"}]}
    )

    title: Title | None = None
    meta: Meta | None = Field(default=None, description="Takes the place of the old object.")


class NewSnapshot(_Strict):
    """A snapshot to take."""

    label: Title | None = Field(default=None, examples=["sent to the printer"])


class Document(BaseModel):
    """What is known of a document."""

    name: str = Field(examples=["acme:specs:42"])
    title: str | None
    meta: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    bytes: int = Field(description="Size of the newest compaction and the updates after it.")
    seq: int = Field(description="Durable sequence: how many updates are committed.")

    @classmethod
    def of(cls, document: port.Document) -> Self:
        """As REST shows it."""
        return cls(
            name=document.name,
            title=document.title,
            meta=dict(document.meta),
            created_at=document.created_at,
            updated_at=document.updated_at,
            bytes=document.bytes,
            seq=document.seq,
        )


class OwnRole(BaseModel):
    """What the caller may do with a document. A change of it reaches live sessions; who asked before asks again."""

    role: Literal["read", "comment", "write", "admin"] = Field(
        description="Only write and admin change the document; read and comment look."
    )


class Present(BaseModel):
    """Somebody who has the document open."""

    subject: str = Field(description='"anonymous" where nobody is asked who they are.')
    name: str | None
    color: str | None
    role: Literal["read", "comment", "write", "admin"]
    connected_at: datetime

    @classmethod
    def of(cls, presence: node.Presence) -> Self:
        """As REST shows it."""
        who = presence.identity
        return cls(
            subject=who.subject,
            name=who.name,
            color=who.color,
            role=presence.role.value,
            connected_at=presence.connected_at,
        )


class Presence(BaseModel):
    """Who is connected to a document."""

    present: list[Present]
    complete: bool = Field(description="False when a node did not answer in time: then its sessions are missing.")


class DocumentPage(BaseModel):
    """Documents in name order."""

    documents: list[Document]
    next: str | None = Field(description="Pass as `cursor` for the next page; null at the end.")


class Saved(BaseModel):
    """A change that is committed."""

    seq: int = Field(description="The document's durable sequence afterwards.", examples=[42])


class Snapshot(BaseModel):
    """A labelled version."""

    id: int = Field(examples=[7])
    label: str | None
    author: str | None = Field(description="Subject of whoever made it.")
    created_at: datetime
    bytes: int
    seq: int = Field(description="Durable sequence of the document it was made at.")

    @classmethod
    def of(cls, snapshot: port.Snapshot) -> Self:
        """As REST shows it."""
        return cls(
            id=snapshot.id,
            label=snapshot.label,
            author=snapshot.author,
            created_at=snapshot.created_at,
            bytes=snapshot.bytes,
            seq=snapshot.seq,
        )


class SnapshotPage(BaseModel):
    """Snapshots, newest first."""

    snapshots: list[Snapshot]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end.")
