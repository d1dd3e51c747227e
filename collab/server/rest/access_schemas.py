"""The forms of grants, links, tickets, revocations and the audit log. As in `schemas`, unknown fields are refused."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from fastapi import Path
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from collab.server.audit import Action
from collab.server.rest.schemas import MAX_ID
from collab.store.access_port import MAX_SUBJECT_CHARS

if TYPE_CHECKING:
    from collab.store import access_port

RoleName = Literal["read", "comment", "write", "admin"]
LinkRole = Literal["read", "comment", "write"]


def _names_somebody(text: str) -> str:
    if any(ord(c) < 32 or c == "\x7f" or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise ValueError("must not hold control characters or half a surrogate pair")
    return text


_Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SUBJECT_CHARS), AfterValidator(_names_somebody)]
Subject = Annotated[_Name, Path(description="Of the user, as in the token's `sub`.", examples=["user-1742"])]
LinkId = Annotated[int, Path(description="Number of the link.", ge=1, le=MAX_ID, examples=[7])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _near(moment: datetime) -> datetime:
    if not 1970 < moment.year < 2200:
        raise ValueError("must be a time somebody may live to see")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_near)]


class NewGrant(_Strict):
    """What somebody is to have."""

    role: RoleName


class Grant(BaseModel):
    """That somebody has a role on a document. Tokens and links grant beside it; the highest counts."""

    subject: str
    role: RoleName
    granted_by: str = Field(description="Subject of whoever put it there.")
    granted_at: datetime

    @classmethod
    def of(cls, grant: access_port.Grant) -> Self:
        """As REST shows it."""
        return cls.model_validate(
            {
                "subject": grant.subject,
                "role": grant.role,
                "granted_by": grant.granted_by,
                "granted_at": grant.granted_at,
            }
        )


class GrantPage(BaseModel):
    """Grants in order of subjects."""

    grants: list[Grant]
    next: str | None = Field(description="Pass as `cursor` for the next page; null at the end.")


class NewLink(_Strict):
    """A link to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "comment"}]})

    role: LinkRole = Field(description="What whoever holds it may; fixed for good.")
    expires_at: Moment | None = Field(default=None, description="When it stops; without, it lasts until revoked.")


class Link(BaseModel):
    """That whoever holds a secret has a role on a document."""

    id: int = Field(examples=[7])
    role: LinkRole
    created_by: str
    created_at: datetime
    expires_at: datetime | None

    @classmethod
    def of(cls, link: access_port.Link, **more: Any) -> Self:
        """As REST shows it."""
        known = {name: getattr(link, name) for name in ("id", "role", "created_by", "created_at", "expires_at")}
        return cls.model_validate({**known, **more})


class MadeLink(Link):
    """A new link, and its secret, which nobody can show again."""

    secret: str = Field(description="Presented as bearer, as subprotocol `collab.token.<secret>`, or as `?token=`.")


class LinkPage(BaseModel):
    """Links, newest first; expired ones, too, revoked ones not."""

    links: list[Link]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end.")


class NewTicket(_Strict):
    """A ticket to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"document": "acme:specs:42"}]})

    document: str = Field(description="The one document it opens.", examples=["acme:specs:42"])
    role: RoleName | None = Field(default=None, description="At most what you have; without, exactly that.")


class Ticket(BaseModel):
    """What opens one WebSocket, once."""

    ticket: str = Field(description="Offered as subprotocol `collab.token.<ticket>`, or as `?token=`.")
    expires_at: datetime


class _NewRevocation(_Strict):
    not_before: Moment | None = Field(
        default=None,
        description="Tokens issued before this, or without `iat`, are refused. Default: now; of one token half a "
        "minute later, since clocks differ. A subject's tokens may be dated ahead as much: name a later time to end "
        "those too.",
    )


class SubjectRevocation(_NewRevocation):
    """Believe none of a subject's tokens any more."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"subject": "user-1742"}]})

    subject: _Name = Field(description="As in the tokens' `sub`.", examples=["user-1742"])


class TokenRevocation(_NewRevocation):
    """Believe one token no more."""

    token_id: _Name = Field(description="As in the token's `jti`.", examples=["5f3a"])


class Revocation(BaseModel):
    """What is not believed any more."""

    subject: str | None
    token_id: str | None
    not_before: datetime
    expires_at: datetime = Field(description="When it is forgotten: no token it is about is good so long.")

    @classmethod
    def of(cls, revocation: access_port.Revocation) -> Self:
        """As REST shows it."""
        by_subject = revocation.kind == "subject"
        return cls(
            subject=revocation.value if by_subject else None,
            token_id=None if by_subject else revocation.value,
            not_before=revocation.not_before,
            expires_at=revocation.expires_at,
        )


class AuditEntry(BaseModel):
    """Something somebody did."""

    id: int
    action: str = Field(description=f"One of {', '.join(get_args(Action))}.", examples=["grant.put"])
    at: datetime
    actor: str | None = Field(description="Subject; null when nobody knows.")
    actor_kind: str | None = Field(description="`link`: somebody who came by a link and is not known otherwise.")
    document: str | None
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: access_port.AuditEntry) -> Self:
        """As REST shows it."""
        event = entry.event
        return cls(
            id=entry.id,
            action=event.action,
            at=event.at,
            actor=event.actor,
            actor_kind=event.actor_kind,
            document=event.document,
            detail=dict(event.detail),
        )


class AuditPage(BaseModel):
    """The audit log, newest first."""

    entries: list[AuditEntry]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end.")
