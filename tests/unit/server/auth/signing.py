"""Keys, tokens good and forged, requests that carry them, and an identity provider that publishes its keys."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from starlette.requests import HTTPConnection

SECRET = "k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_"
NOW = int(time.time())
GOOD: dict[str, Any] = {"sub": "ann", "exp": NOW + 3600, "access": "write"}
PRIVATE: dict[str, Any] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
}
"""One key for each public-key algorithm."""


def token(claims: dict[str, Any] | None = None, *, key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    """A signed token; claims that are None are left out."""
    kept = {claim: value for claim, value in {**GOOD, **(claims or {})}.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers=header or None)


def signed(algorithm: str, claims: dict[str, Any] | None = None, **header: Any) -> str:
    """A token signed by the key of ``algorithm``."""
    return token(claims, key=PRIVATE[algorithm], algorithm=algorithm, **header)


def base64url(raw: bytes) -> str:
    """Without padding, as JOSE has it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: Any, claims: Any = None, *, secret: bytes | None = None, signature: bytes = b"") -> str:
    """A token made by hand: any header, any payload, and any signature or that of an HMAC with ``secret``."""
    said = GOOD if claims is None else claims
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, said)]
    text = ".".join(map(base64url, parts))
    if secret is not None:
        signature = hmac.digest(secret, text.encode(), hashlib.sha256)
    return f"{text}.{base64url(signature)}"


def pem(private: Any) -> bytes:
    """The public part."""
    raw: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return raw


def private_pem(private: Any) -> bytes:
    raw: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return raw


def jwk(algorithm: str, private: Any = None, **more: Any) -> dict[str, Any]:
    """The public part as a JSON Web Key."""
    private = private or PRIVATE[algorithm]
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
    return {**made, **more}


def private_jwk(algorithm: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(PRIVATE[algorithm], as_dict=True)
    return {**made, **more}


def connection(
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    *,
    query: str = "",
    subprotocols: list[str] | None = None,
    scheme: str = "http",
) -> HTTPConnection:
    pairs = headers.items() if isinstance(headers, dict) else headers or []
    return HTTPConnection(
        {
            "type": "http" if subprotocols is None else "websocket",
            "scheme": scheme,
            "path": "/yjs/d",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
            **({} if subprotocols is None else {"subprotocols": subprotocols}),
        }
    )


def bearing(text: str) -> HTTPConnection:
    """A request with a token."""
    return connection({"Authorization": f"Bearer {text}"})


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Provider:
    """An identity provider: what it publishes, how often it was asked, and whether it answers."""

    URL = "https://id.example/keys"

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == self.URL
        self.asked += 1
        await self.answers.wait()
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, content=self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        yield json.dumps({"keys": self.keys}).encode()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
