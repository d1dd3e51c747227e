"""collab inside a FastAPI application that signs its users in with a session cookie.

Run it with `uvicorn fastapi_app:app` in this folder; a real application has a user table and a page to sign in on.
"""

from __future__ import annotations

import os
import secrets
import time

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from collab.errors import Unauthenticated
from collab.room import Identity, Role
from collab.server import Collab
from collab.server.auth import Access
from collab.settings import Settings

USERS = {"ann": ("correct horse", "acme"), "ben": ("battery staple", "umbrella")}
"""Name -> password and team: stands for your table of users."""
COOKIE = "session"
SESSION_S = 8 * 3600
sessions: dict[str, tuple[str, float]] = {}
"""Session id -> user and when it began: stands for your table of sessions."""


async def authenticate(request: HTTPConnection, document: str | None) -> Access:
    """Who holds the session cookie, and what their team may do.

    Called for every REST request and every WebSocket upgrade, so it is one indexed query or two, and it awaits: what
    blocks here blocks every editor. `expires_at` closes the editor's socket when the session is over.
    """
    user, since = sessions.get(request.cookies.get(COOKIE, ""), ("", 0.0))
    if not user or time.time() - since > SESSION_S:
        raise Unauthenticated("Sign in first.")
    _, team = USERS[user]
    return Access(
        Identity(user, name=user.capitalize()),
        {f"{team}:*": Role.WRITE, "handbook": Role.READ},
        issued_at=since,
        expires_at=since + SESSION_S,
    )


collab = Collab(
    Settings(database=os.environ.get("DATABASE_URL", "sqlite:///collab.db"), serve_page=False),
    authenticate=authenticate,
)
app = FastAPI(lifespan=collab.lifespan)
app.mount("/collab", collab.app)  # editors connect to /collab/yjs/<document>


class Login(BaseModel):
    """What the page to sign in on sends, as JSON: no form of another site can."""

    user: str
    password: str


@app.post("/login")
async def login(given: Login, response: Response) -> dict[str, str]:
    """Begin a session. The cookie is for this site's own pages (Lax) and for no script (HttpOnly)."""
    known, _ = USERS.get(given.user, (secrets.token_hex(), ""))
    if not secrets.compare_digest(known.encode(), given.password.encode()):
        raise HTTPException(401, "Wrong name or password.")
    session = secrets.token_urlsafe(32)
    sessions[session] = (given.user, time.time())
    secure = os.environ.get("INSECURE_COOKIES") is None  # set it to try this without TLS
    response.set_cookie(COOKIE, session, max_age=SESSION_S, httponly=True, samesite="lax", secure=secure)
    return {"user": given.user}
