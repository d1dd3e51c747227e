"""Who is asking, and what they may do with a document: the one place that REST and the WebSocket endpoint ask.

A role comes from three sources, and the highest counts: the token's most specific pattern (`Access.grants`), the grant
stored for the subject (`Store.grants`; there is none for `ANONYMOUS`), and the link presented. A token that was revoked
is worth nothing. While the database does not answer, nobody gets more than is known: `StoreUnavailable` (503, 4503).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from collab.errors import Unauthenticated
from collab.node.connections import ANONYMOUS
from collab.room import Identity, Role
from collab.server.auth import Access
from collab.server.passes import TICKET, PresentedLink, hash_of, new_secret, passes_of, with_token, without
from collab.server.tickets import access_of, payload_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import HTTPConnection

    from collab.node import Hub
    from collab.server.auth import Authenticate

TICKET_S = 30
"""Seconds a ticket is good for."""


def is_nobody(access: Access) -> bool:
    """Whether nobody was asked who they are (auth=open): then there is nothing to watch, to grant or to revoke."""
    return access.identity.subject == ANONYMOUS and access.link is None and access.expires_at is None


@dataclass(frozen=True, slots=True)
class Standing:
    """What somebody may do with a document."""

    role: Role | None
    heard: int
    """`AccessWatch.heard` before the role was asked for."""


class Rights:
    """Asked by every route and every upgrade of a node."""

    def __init__(
        self,
        hub: Hub,
        authenticate: Authenticate,
        *,
        token_in_url: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without ``token_in_url`` links are not taken from the address either; ``clock`` tells Unix time."""
        self._token_in_url = token_in_url
        self._watch = hub.access
        self._store = hub.store
        self._authenticate = authenticate
        self._clock = clock

    async def who(self, request: HTTPConnection, document: str | None) -> Access:
        """Who is behind a request or an upgrade, like `Authenticate`; also believes links, and tickets in upgrades.

        Raises `Unauthenticated`, `Forbidden`, `StoreUnavailable`.
        """
        passes = passes_of(request, link_in_url=self._token_in_url)
        if passes.ticket is not None:
            access = await self._redeem(request, passes.ticket, document)
        elif passes.link is not None:
            access = await self._with_link(request, passes.link, document, beside=passes.beside)
        else:
            access = await self._authenticate(request, document)
        return await self._believed(access)

    async def renewed(self, token: str, document: str, old: Access, client: object) -> Access:
        """Who is behind a token that a client at address ``client`` sends within its session: the same as before.

        Raises what `who` raises. The link it came with stays, and so does the most a ticket was made out for.
        """
        access = await self.who(with_token(token, client), document)
        if access.identity.subject != old.identity.subject or access.identity.subject == ANONYMOUS:
            raise Unauthenticated("The new token is somebody else's.")
        caps = [cap for cap in (old.at_most, access.at_most) if cap is not None]
        at_most = min(caps, key=lambda cap: cap.rank, default=None)
        return replace(access, link=old.link or access.link, at_most=at_most)

    async def standing(self, access: Access, document: str) -> Standing:
        """What ``access`` is worth now. Raises `Unauthenticated` when it was revoked, and `StoreUnavailable`."""
        heard = self._watch.heard
        await self._believed(access)
        # Of an admin by token, too: nothing can raise the role, but with the database away what is known here of
        # revocations may be old, and nobody comes in.
        roles = [access.role(document), await self._granted(access, document)]
        if access.link is not None and access.link.document == document:
            roles.append(await self._linked(access.link))
        role = max((role for role in roles if role is not None), key=lambda role: role.rank, default=None)
        if role is not None and access.at_most is not None and role.reaches(access.at_most):
            role = access.at_most
        return Standing(role, heard)

    async def require(self, access: Access, document: str, needed: Role) -> Role:
        """The role, or `Forbidden` when it does not reach. Says the same whether or not the document exists."""
        known = access.role(document)
        if known is not None and known.reaches(needed) and access.at_most is None:
            return known
        return await self.highest(access, document, needed)

    async def highest(self, access: Access, document: str, needed: Role) -> Role:
        """The same, and never less than the highest role."""
        role = (await self.standing(access, document)).role
        return Access(access.identity, {} if role is None else {document: role}).require(document, needed)

    async def named(self, access: Access, *, prefix: str, after: str | None, limit: int) -> list[str]:
        """Names of documents that somebody may read by a grant or the link presented, whatever the token says."""
        names: list[str] = []
        if access.identity.subject != ANONYMOUS:
            subject = access.identity.subject
            page = await self._store.grants.documents_of(subject, prefix=prefix, after=after, limit=limit)
            names += (grant.document for grant in page.grants)
        return names if access.link is None else [*names, access.link.document]

    async def make_ticket(self, access: Access, document: str, role: Role) -> tuple[str, datetime]:
        """A ticket for ``role``, which the caller has seen that ``access`` has; and when it ends."""
        secret = new_secret(TICKET)
        ends = datetime.fromtimestamp(self._clock(), UTC) + timedelta(seconds=TICKET_S)
        await self._store.tickets.put(hash_of(secret), payload_of(access, document, role), ends)
        return secret, ends

    async def _redeem(self, request: HTTPConnection, ticket: str, document: str | None) -> Access:
        if request.scope["type"] != "websocket":
            raise Unauthenticated("A ticket opens a WebSocket, nothing else.")
        payload = await self._store.tickets.take(hash_of(ticket))
        if payload is None or payload["document"] != document:
            raise Unauthenticated("The ticket is not good: it was used, is older than 30 s, or is for something else.")
        return access_of(payload)

    async def _with_link(self, request: HTTPConnection, secret: str, document: str | None, *, beside: bool) -> Access:
        found = await self._store.links.find(hash_of(secret))
        if found is None:
            raise Unauthenticated("The link is not good: it was revoked, has expired, or never was.")
        link = PresentedLink(found.id, hash_of(secret), found.document, found.expires_at)
        try:
            access = await self._authenticate(without(request, secret), document)
        except Unauthenticated:
            if beside:
                raise  # a token that is not good is said so, whatever stands beside it
            access = Access(Identity(ANONYMOUS), {})
        return replace(access, link=link)

    async def _believed(self, access: Access) -> Access:
        if is_nobody(access):
            return access
        if access.expires_at is not None and access.expires_at <= self._clock():
            # A ticket may be taken after the end of the token it was made with.
            raise Unauthenticated("The token has expired.")
        await self._watch.known()
        if self._watch.revoked(access.identity.subject, access.token_id, access.issued_at):
            raise Unauthenticated("The token was revoked.")
        return access

    async def _granted(self, access: Access, document: str) -> Role | None:
        if is_nobody(access):
            return None
        subject = access.identity.subject
        role = await self._store.grants.role(document, subject)
        return None if role is None or subject == ANONYMOUS else Role(role)

    async def _linked(self, link: PresentedLink) -> Role | None:
        found = await self._store.links.find(link.secret_hash)
        return None if found is None else Role(found.role)
