"""collab inside a FastAPI application that signs its users in with a session cookie, and out again.

Run it in this folder; a real application has a user table and pages to sign in and out on:

    uvicorn fastapi_app:app --ws-per-message-deflate false --ws-max-size 16777216

The first option keeps small frames from unpacking to large ones, the second says COLLAB_MAX_FRAME_BYTES to uvicorn.
One process is one node: run one worker, or several, with COLLAB_REDIS and a COLLAB_DATABASE in PostgreSQL. All else is
set by COLLAB_ variables too; with COLLAB_ENVIRONMENT=production it does not start with what is open or default.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from collab.errors import Unauthenticated, Unavailable
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
    blocks here blocks every editor. `expires_at` closes the editor's socket when the session is over, and `token_id`
    says which sockets to close when it is ended before.
    """
    session = request.cookies.get(COOKIE, "")
    user, since = sessions.get(session, ("", 0.0))
    if not user or time.time() - since > SESSION_S:
        raise Unauthenticated("Sign in first.")
    _, team = USERS[user]
    return Access(
        Identity(user, name=user.capitalize()),
        {f"{team}:*": Role.WRITE, "handbook": Role.READ},
        issued_at=since,
        expires_at=since + SESSION_S,
        token_id=token_id_of(session),
    )


def token_id_of(session: str) -> str:
    """What collab knows a session by. It is kept in the audit log, so never the cookie itself."""
    return hashlib.sha256(session.encode()).hexdigest()


collab = Collab(Settings(serve_page=False), authenticate=authenticate)
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


@app.post("/logout", status_code=204)
async def logout(request: Request, response: Response) -> None:
    """End this browser's session, and with it its editors: on every node, within five seconds.

    In this order: while collab's database is away nobody is told that they are signed out whose editor goes on.
    `collab.sign_out(user)` alone ends all sessions of a user, of which your own table must then be rid too.
    """
    session = request.cookies.get(COOKIE, "")
    if session in sessions:
        user, _ = sessions[session]
        try:
            await collab.sign_out(user, token_id=token_id_of(session))
        except Unavailable:
            raise HTTPException(503, "You are still signed in. Try again in a moment.") from None
        sessions.pop(session, None)
    response.delete_cookie(COOKIE)
