"""Which web pages may talk to this server, by the `Origin` header that browsers send and programs do not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from collab.settings import Settings


@dataclass(frozen=True, slots=True)
class Origins:
    """Which web pages may talk to this server. Programs send no `Origin` and are not asked."""

    allowed: frozenset[str] = field(default_factory=frozenset)
    """Exact origins in lower case, or "*"."""
    https_only: bool = False
    """Browsers reach this server over TLS: a page of the same host over plain HTTP is anybody's on the way."""

    @classmethod
    def of(cls, settings: Settings) -> Origins:
        """The allowed origins and that of the public URL, which says whether browsers come over TLS."""
        public = {origin_of(settings.public_url)} if settings.public_url else set()
        return cls(frozenset(settings.allowed_origins) | public, https_only=settings.is_https)

    def allows(self, request: HTTPConnection) -> bool:
        """Whether the page behind ``request`` may: it is allowed by name, or of the same origin as this server.

        Behind a proxy that ends TLS this server sees plain HTTP, so there the page's `https` counts as the same, and
        only that where `https_only` says so: the scheme of a request is that of its last hop.
        """
        sent = request.headers.getlist("origin")
        if not sent:
            return True
        if len(sent) > 1:
            return False
        origin = sent[0].lower()
        if origin in self.allowed or "*" in self.allowed:
            return True
        scheme, _, host = origin.partition("://")
        over_tls = self.https_only or request.scope.get("scheme") in {"https", "wss"}
        schemes = {"https"} if over_tls else {"http", "https"}
        return scheme in schemes and host != "" and host == request.headers.get("host", "").lower()


def origin_of(url: str) -> str:
    """Scheme, host and port of ``url``, in lower case."""
    return "/".join(url.lower().split("/")[:3])


def without_port(host: str) -> str:
    """A `Host` header without its port, in lower case."""
    return re.sub(r":\d*$", "", host.lower())
