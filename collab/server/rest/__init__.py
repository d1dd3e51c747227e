"""The routes under /v1, one module per noun, and the forms of their bodies."""

from collab.server.rest import content, documents, presence, snapshots

routers = (documents.router, content.router, snapshots.router, presence.router)
