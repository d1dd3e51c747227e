"""The REST application: its routes, its middleware, its description of itself.

The routes stand in `collab.server.rest`, the door before them in `collab.server.guard`. `server/app.py` calls `api`
and adds the WebSocket, the page and the health routes to what it returns.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from collab.server import problems
from collab.server.guard import REQUEST_ID, Bodies, BodyLimits, Guard
from collab.server.hosts import Hosts
from collab.server.jobs import Jobs
from collab.server.rest import routers
from collab.server.rest.schemas import NewDocument

if TYPE_CHECKING:
    from starlette.types import Lifespan

    from collab.server.guard import Rest

_DESCRIPTION = """Documents that are edited together, their content and their snapshots.

Every write answers after it is committed. Reads show what is committed, so every node answers the same. Errors are
`application/problem+json` (RFC 9457); `code` tells them apart. With `auth=jwt`, send the token as
`Authorization: Bearer`; reading needs the role read for the document, changing the role write, grants, links and the
audit log the role admin, and revocations admin of every document (`*`).
"""
_TAGS = [
    {"name": "documents", "description": "Create, find, describe and delete documents."},
    {"name": "content", "description": "What is in a document, in five formats, and updates from programs."},
    {"name": "snapshots", "description": "Labelled versions that are kept until deleted."},
    {"name": "access", "description": "Who may do what with a document, and who did."},
    {"name": "presence", "description": "Who is connected to a document, and sending people away."},
]


def api(
    rest: Rest,
    *,
    version: str,
    limits: BodyLimits | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
    hosts: Hosts | None = None,
    https: bool = False,
    openapi: bool = True,
) -> FastAPI:
    """The application with every REST route. Its OpenAPI is at /openapi.json unless ``openapi`` is off; pages that
    would load scripts from elsewhere to show it are always off. ``hosts`` and ``https`` are `Guard`'s.
    """
    app = FastAPI(
        title="collab",
        version=version,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        openapi_url="/openapi.json" if openapi else None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.rest = rest
    app.state.jobs = Jobs(rest.hub.engine, clock=time.monotonic)
    problems.install(app)
    for router in routers:
        app.include_router(router)
    app.add_middleware(Bodies, limits=limits or BodyLimits())
    if rest.origins.allowed:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(rest.origins.allowed),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", REQUEST_ID],
            expose_headers=["ETag", "Location", "Retry-After", REQUEST_ID],
            max_age=600,
        )
    # Added last, so around the others: a preflight is guarded too, and what is refused inside can be read by a page
    # that may read answers.
    app.add_middleware(Guard, hosts=hosts or Hosts(), https=https)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, tags=app.openapi_tags, routes=app.routes
        )
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        schema["security"] = [{"token": []}, {}]
        parts = components.setdefault("schemas", {})
        for model in (problems.Problem, NewDocument):  # what no signature of a route names
            parts[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
            parts.update(parts[model.__name__].pop("$defs", {}))
        app.openapi_schema = schema
    return app.openapi_schema
