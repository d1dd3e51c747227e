"""collab beside Django in one process: what a Django project's `asgi.py` becomes.

`authenticate` reads Django's session cookie and asks for Django's user, so whoever is signed in to the site is signed
in to their documents. Run it with `uvicorn mysite.asgi:application`. Needs Django 5.2 or newer.
"""

from __future__ import annotations

import os
from importlib import import_module

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
django_application = get_asgi_application()  # before anything that needs models

from django.conf import settings  # noqa: E402
from django.contrib.auth import aget_user  # noqa: E402
from django.http import HttpRequest  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.requests import HTTPConnection  # noqa: E402
from starlette.routing import Mount  # noqa: E402

from collab.errors import Unauthenticated  # noqa: E402
from collab.room import Identity, Role  # noqa: E402
from collab.server import Collab  # noqa: E402
from collab.server.auth import Access  # noqa: E402
from collab.settings import Settings  # noqa: E402

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore


async def authenticate(connection: HTTPConnection, document: str | None) -> Access:
    """Django's user behind the session cookie, and what their groups may do.

    `aget_user` also refuses sessions from before a change of password, and users who are not active any more. It is
    called for every REST request and every WebSocket upgrade, so keep what you add to one or two queries that await.
    """
    request = HttpRequest()
    request.session = SessionStore(connection.cookies.get(settings.SESSION_COOKIE_NAME))
    user = await aget_user(request)
    if not user.is_authenticated:
        raise Unauthenticated("Sign in first.")
    grants = {f"user:{user.pk}:*": Role.ADMIN}
    async for group in user.groups.all():
        grants[f"{group.name}:*"] = Role.WRITE
    expires = await request.session.aget_expiry_date()
    # str: a subject is a text, whatever the primary key is.
    return Access(Identity(str(user.pk), name=user.get_username()), grants, expires_at=expires.timestamp())


collab = Collab(
    Settings(database=os.environ.get("COLLAB_DATABASE", "sqlite:///collab.db"), serve_page=False),
    authenticate=authenticate,
)
# Editors connect to /collab/yjs/<document>; everything else is Django's.
application = Starlette(
    lifespan=collab.lifespan,
    routes=[Mount("/collab", collab.app), Mount("/", django_application)],
)
