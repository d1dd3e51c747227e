"""The ticket route: for clients that open a WebSocket and can send neither headers nor a token they may keep."""

from __future__ import annotations

from fastapi import APIRouter

from collab.protocol.names import canonical_name
from collab.room import Role
from collab.server.audit import event
from collab.server.guard import GuardedRoute, TheAccess, TheHub, TheRights
from collab.server.problems import documented
from collab.server.rest.access_schemas import NewTicket, Ticket

router = APIRouter(prefix="/v1/tickets", tags=["access"], route_class=GuardedRoute)


@router.post("", status_code=201, responses=documented(400, 401, 403, 409, 413, 415, 422, 503), summary="Make a ticket")
async def create_ticket(new: NewTicket, hub: TheHub, access: TheAccess, rights: TheRights) -> Ticket:
    """Make a secret that opens one WebSocket to one document, or renews one that is open, once, within 30 seconds.

    The session has the role of the ticket, and ends when the token does with which the ticket was made.
    """
    document = canonical_name(new.document)
    asked = None if new.role is None else Role(new.role)
    held = await rights.highest(access, document, asked or Role.READ)
    role = asked or held
    ticket, ends = await rights.make_ticket(access, document, role)
    await hub.audit.append(event("ticket.create", access, document, role=role.value))
    return Ticket(ticket=ticket, expires_at=ends)
