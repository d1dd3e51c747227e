"""Public keys from an address (a JSON Web Key Set by URL): fetched once for everybody, kept through an outage.

PyJWT's client for this is synchronous and fetches at every unknown key id. Here keys are used for ten minutes, then
fetched anew in the background while the old ones go on being believed, for a day at most. A key id nobody knows leads
to one fetch a minute, however many tokens name one. The address comes from the settings, never from a token.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextvars import Context
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import structlog

from collab.errors import Misuse, Unavailable
from collab.server.auth.keys import keys_of_set
from collab.settings.key_rules import PUBLIC_KEY_ALGORITHMS, is_loopback, may_bring_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from collab.server.auth.keys import Key

FRESH_S = 600.0
MAX_STALE_S = 24 * 3600.0
LOOK_AGAIN_S = 60.0
"""Least time between two fetches for unknown key ids, which anybody can make up."""
RETRY_S = 10.0
"""Least time between two fetches that age asks for. Guessed: an outage of an identity provider lasts minutes."""
DEADLINE_S = 5.0
"""For the whole of one fetch."""
MAX_BYTES = 256 * 1024

log = structlog.get_logger(__name__)


class JwksKeys:
    """The keys at ``url``. Raises `Misuse` for an address that somebody on the way could answer for.

    ``clock`` tells monotonic seconds. Not to be used after `close`.
    """

    def __init__(
        self,
        url: str,
        *,
        algorithms: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        if not may_bring_keys(url):
            raise Misuse("Keys come over https, or from this machine.")
        self._url = url
        self._algorithms = frozenset(algorithms or PUBLIC_KEY_ALGORITHMS)
        self._clock = clock
        self._client = client or _client(url)
        self._fetching: asyncio.Task[None] | None = None
        self._closed = False
        self._failed = False
        self._fetched_at = self._tried_at = self._looked_at = -math.inf
        self.known: tuple[Key, ...] = ()

    def start(self) -> None:
        """Fetch the keys before the first token comes; nobody waits for it."""
        self._begin()

    async def close(self) -> None:
        """End what is under way."""
        self._closed = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._client.aclose()

    async def ready(self) -> None:
        """Have keys that may be believed; raises `Unavailable` when there are none and they cannot be fetched."""
        age = self._clock() - self._fetched_at
        if age < FRESH_S:
            return
        if self._fetching is None and self._clock() - self._tried_at >= RETRY_S:
            self._begin()
        if age < MAX_STALE_S:
            return
        self.known = ()
        await self._fetched()
        if not self.known:
            raise Unavailable("the keys of tokens cannot be fetched")

    async def look_again(self) -> None:
        """Fetch anew for a key id that is not known, at most every `LOOK_AGAIN_S`; joins a fetch that is under way.

        Raises `Unavailable` when the last fetch failed: then nobody can say that the token is bad.
        """
        if self._fetching is None and self._clock() - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = self._clock()
            self._begin()
        await self._fetched()
        if self._failed:
            raise Unavailable("the keys of tokens cannot be fetched")

    def _begin(self) -> None:
        if not self._closed:
            self._tried_at = self._clock()
            # In a context of its own: it is everybody's, and logs nothing in the name of the request that began it.
            self._fetching = asyncio.create_task(self._fetch(), name="jwks-fetch", context=Context())

    async def _fetched(self) -> None:
        if self._fetching is not None:
            # Shielded: a client that goes away must not take the keys from those who wait with it.
            await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(DEADLINE_S):
                document = json.loads(await self._read())
            keys = tuple(key for key in keys_of_set(document) if key.algorithm in self._algorithms)
            if not keys:
                raise Unavailable("no usable key")
        except Exception as error:  # whatever it is, the keys we have are better than none
            self._failed = True
            host = urlsplit(self._url).hostname
            log.warning("jwks_failed", host=host, error=type(error).__name__, reason=str(error)[:200])
        else:
            self._failed, self._fetched_at, self.known = False, began, keys
            log.info("jwks_fetched", host=urlsplit(self._url).hostname, keys=len(keys))
        finally:
            self._fetching = None

    async def _read(self) -> bytes:
        # Identity, and the raw bytes: a compressed answer could be a thousand times larger than what was counted.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._client.stream("GET", self._url, headers=headers, follow_redirects=False) as response:
            encoding = response.headers.get("content-encoding", "identity")
            if response.status_code != 200 or encoding != "identity":
                raise Unavailable(f"status {response.status_code}, encoding {encoding}")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise Unavailable(f"more than {MAX_BYTES} bytes")
        return bytes(body)


def _client(url: str) -> httpx.AsyncClient:
    # A proxy from the environment may be the way out, but never the way to this machine. One fetch in ten minutes: a
    # connection kept open would only die meanwhile.
    on_this_machine = is_loopback(urlsplit(url).hostname or "")
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(trust_env=not on_this_machine, timeout=DEADLINE_S, limits=limits)
