"""The routes under /v1, one module per noun, and the forms of their bodies."""

from collab.server.rest import (
    audit,
    content,
    documents,
    grants,
    links,
    presence,
    revocations,
    snapshots,
    tickets,
)

routers = (
    documents.router,
    content.router,
    snapshots.router,
    grants.router,
    links.router,
    tickets.router,
    revocations.router,
    audit.router,
    presence.router,
)
