"""collab beside Django in one process: what a Django project's `asgi.py` becomes.

`authenticate` reads Django's session cookie and asks for Django's user, so whoever is signed in to the site is signed
in to their documents, and whoever signs out of it is signed out of them. Needs Django 5.2 or newer. Run it with

    uvicorn mysite.asgi:application --ws-per-message-deflate false --ws-max-size 16777216

The first option keeps small frames from unpacking to large ones, the second says COLLAB_MAX_FRAME_BYTES to uvicorn.
One process is one node: run one worker, or several, with COLLAB_REDIS and a COLLAB_DATABASE in PostgreSQL. All else is
set by COLLAB_ variables too; with COLLAB_ENVIRONMENT=production it does not start with what is open or default.
"""

from __future__ import annotations

import os
import secrets
import time
from importlib import import_module
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
django_application = get_asgi_application()  # before anything that needs models

from django.conf import settings  # noqa: E402
from django.contrib.auth import aget_user  # noqa: E402
from django.contrib.auth.signals import user_logged_in, user_logged_out  # noqa: E402
from django.dispatch import receiver  # noqa: E402
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
SIGN_IN = "collab_sign_in"
"""Where a session keeps by what name collab knows it, and when its user last signed in."""


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
    token_id, since = await request.session.aget(SIGN_IN, (None, None))
    # str: a subject is a text, whatever the primary key is. `user.last_login` would be the wrong time: it is that of
    # the newest of all their sessions, so an old one that was revoked would be believed again.
    return Access(
        Identity(str(user.pk), name=user.get_username()),
        grants,
        expires_at=expires.timestamp(),
        issued_at=since,
        token_id=token_id,
    )


collab = Collab(Settings(serve_page=False), authenticate=authenticate)


@receiver(user_logged_in)
def note_sign_in(request: HttpRequest, **_: Any) -> None:
    """Give the session a name; one that goes on keeps it, and with it the editors that are open."""
    token_id, _since = request.session.get(SIGN_IN, (secrets.token_hex(16), None))
    request.session[SIGN_IN] = (token_id, time.time())


@receiver(user_logged_out)
async def close_editors(request: HttpRequest, user: Any, **_: Any) -> None:
    """Whoever signs out in a browser has no open editor in it five seconds later, whatever node it is on.

    While collab's database is away it raises, and Django signs nobody out whose editors go on. Sessions from before
    this was installed have no name: then all of the user's editors are closed. Where you change a password or
    deactivate a user, await `collab.sign_out(str(user.pk))` too: Django lets nobody in who was signed in before, this
    closes what is open, and who stays signed in has to sign in again for their documents.
    """
    if user is not None:
        token_id, _since = await request.session.aget(SIGN_IN, (None, None))
        await collab.sign_out(str(user.pk), token_id=token_id)


# Editors connect to /collab/yjs/<document>; everything else is Django's.
application = Starlette(
    lifespan=collab.lifespan,
    routes=[Mount("/collab", collab.app), Mount("/", django_application)],
)
