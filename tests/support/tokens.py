"""Tokens for servers started with `AUTH`: made here so that every one of them is looked for in every log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from tests.support import issued

KEY = "k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_"
"""Of no server but those of tests."""
AUTH = {"COLLAB_AUTH": "jwt", "COLLAB_JWT_SECRET": KEY}
"""Settings of a server that believes tokens of `token`."""


def token(*, key: str = KEY, **claims: Any) -> str:
    """A token of "ann", good for an hour, unless ``claims`` say otherwise; a claim of None is left out."""
    claims = {"sub": "ann", "exp": datetime.now(UTC) + timedelta(hours=1), **claims}
    kept = {claim: value for claim, value in claims.items() if value is not None}
    return issued.secret(jwt.encode(kept, key, "HS256"), "token")


def bearer(**claims: Any) -> dict[str, str]:
    """The header that carries `token`."""
    return {"Authorization": f"Bearer {token(**claims)}"}
