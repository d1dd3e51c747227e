"""The refusals of one node, counted by address whichever way somebody knocked: REST and WebSocket have one budget.

Both ask before anything that was shown is looked at, and tell when somebody could not say who they are. How the budget
is kept is in `collab.server.addresses`.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import structlog

from collab.server.addresses import Addresses, client_address
from collab.server.problems import problem

if TYPE_CHECKING:
    from collections.abc import Container

    from starlette.responses import Response
    from starlette.types import Scope

    from collab.node.counters import Counters

PER_MINUTE = 50
"""Of one address, unless settings say otherwise."""

log = structlog.get_logger(__name__)


class Refusals:
    """Of one node. Call it within an event loop."""

    def __init__(
        self, counters: Counters, *, per_minute: int = PER_MINUTE, proxies: Container[str] = frozenset()
    ) -> None:
        """``per_minute`` there may be of one address; 0: any number. ``proxies`` are as in `client_address`."""
        self._counters = counters
        self._addresses = Addresses(per_minute=per_minute)
        self._proxies = proxies

    def answer(self, scope: Scope) -> Response | None:
        """What to answer a request whose address was refused too often, or None."""
        wait = self._addresses.wait(client_address(scope, self._proxies), asyncio.get_running_loop().time())
        if not wait:
            return None
        self._counters.limits.add("refusals")
        headers = {"Retry-After": str(math.ceil(wait))}
        return problem(429, "too_many_refusals", "This address was refused too often.", headers=headers)

    def note(self, scope: Scope) -> None:
        """Whoever sent this request was refused."""
        address = client_address(scope, self._proxies)
        if self._addresses.refused(address, asyncio.get_running_loop().time()):
            # Should it be a proxy's, COLLAB_TRUSTED_PROXIES lacks it, and everybody behind it is one address.
            log.warning("address_refused_too_often", address=address)
