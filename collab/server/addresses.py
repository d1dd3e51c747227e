"""Addresses that knock too often: how many of an address were refused for want of an identity or a right, per minute.

Only refusals count, so an office behind one address may come back all at once; requests under way are bounded by the
node's sessions. Where this node was too slow to say who somebody is, nobody was refused. Pure: the time is passed in.
`collab.server.refusals` asks.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    from collections.abc import Collection, Container

    from starlette.types import Scope

WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
"""So many are remembered; then those that were refused least recently are forgotten. Guessed: 2 MiB."""
NETWORK_BITS = 64
"""Of an IPv6 address: one customer has all the rest."""


class Addresses:
    """Of one node."""

    def __init__(self, *, per_minute: int) -> None:
        """``per_minute`` refusals are answered; 0 means any number."""
        self._per_minute = per_minute
        self._tokens: dict[str, tuple[float, float]] = {}
        """Address -> refusals it has left, and when that was so; a full one is not kept. The newest stand last."""

    def wait(self, address: str | None, now: float) -> float:
        """Seconds for which ``address`` is to be told to stay away; 0 when it may knock."""
        if not self._tokens or address is None:
            return 0.0
        left = self._left(_network(address), now)
        return 0.0 if left >= 1.0 else (1.0 - left) * WINDOW_S / self._per_minute

    def refused(self, address: str | None, now: float) -> bool:
        """``address`` knocked and could not say who it is, or had no right to come in; whether that was its last."""
        if not self._per_minute or address is None:
            return False
        network = _network(address)
        left = self._left(network, now)
        self._tokens.pop(network, None)
        # Those under way were all let through before the first was refused: together they cost no more than the rest.
        self._tokens[network] = max(left - 1.0, 0.0), now
        if len(self._tokens) > MAX_ADDRESSES:
            del self._tokens[next(iter(self._tokens))]
        return left < 2.0

    def _left(self, network: str, now: float) -> float:
        left, then = self._tokens.get(network, (float(self._per_minute), now))
        return min(float(self._per_minute), left + (now - then) * self._per_minute / WINDOW_S)


def trusted_hosts(proxies: Collection[str]) -> Container[str]:
    """The addresses that uvicorn takes for those of ``proxies``: addresses and networks, or `*` for any."""
    nothing: Any = None
    return cast("Container[str]", ProxyHeadersMiddleware(nothing, trusted_hosts=list(proxies)).trusted_hosts)


def client_address(scope: Scope, proxies: Container[str]) -> str | None:
    """Whom to hold responsible for a request; None when nobody can tell.

    The ``client`` of a scope is what the server believes of the proxies it trusts. A proxy that names nobody is not
    held responsible itself: that would shut out everybody behind it.
    """
    client = scope.get("client")
    if client is None:
        return None
    host = str(client[0])
    named = any(name == b"x-forwarded-for" for name, _ in scope["headers"])
    return None if host in proxies and not named else host


def _network(address: str) -> str:
    """``address``, or the network a customer has of an IPv6 one; whatever is no address stands for itself."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> NETWORK_BITS << NETWORK_BITS, NETWORK_BITS)))
