"""The routes that machines ask: alive, ready, metrics. They are open to whoever can reach the port, so metrics can
have a port of their own.

`/livez` depends on nothing but this process, so an outage of the database never makes an orchestrator restart nodes
that hold unsaved edits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collab.server.metrics import CONTENT_TYPE
from collab.server.problems import RETRY_AFTER_S
from collab.store.port import StoreStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from collab.server.metrics import Metrics
    from collab.store.port import Store

CHECK_EVERY_S = 1.0
"""How long an answer of the database is believed: a flood of questions costs it one query per second."""
CHECK_TIMEOUT_S = 3.0
_NO_STORE = {"Cache-Control": "no-store"}


class Health:
    """What to answer. ``draining`` tells whether the node is shutting down; ``clock`` gives monotonic seconds."""

    def __init__(
        self, store: Store, *, draining: Callable[[], bool], clock: Callable[[], float], metrics: Metrics | None = None
    ) -> None:
        self._store = store
        self._draining = draining
        self._clock = clock
        self._metrics = metrics
        self._checked: tuple[float, StoreStatus] | None = None
        self._checking = asyncio.Lock()

    def routes(self, *, metrics: bool = True) -> list[Route]:
        """/livez, /readyz, and /metrics when there are any and ``metrics`` does not leave them out."""
        routes = [Route("/livez", self.livez), Route("/readyz", self.readyz)]
        return [*routes, Route("/metrics", self.metrics)] if metrics and self._metrics is not None else routes

    async def livez(self, _: Request) -> Response:
        """200 while the event loop turns."""
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    async def readyz(self, _: Request) -> Response:
        """200 while new sessions are welcome, else 503 with the reason."""
        if self._draining():
            return _unready("this node is shutting down")
        status = await self._store_status()
        return (
            JSONResponse({"status": "ok"}, headers=_NO_STORE) if status.ok else _unready("the database does not answer")
        )

    async def metrics(self, _: Request) -> Response:
        """Prometheus' text format."""
        assert self._metrics is not None  # noqa: S101 - the route exists only with metrics
        return Response(self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE, **_NO_STORE})

    async def _store_status(self) -> StoreStatus:
        async with self._checking:  # many probes at once make one query
            if self._checked is None or self._clock() - self._checked[0] >= CHECK_EVERY_S:
                self._checked = (self._clock(), await self._check())
            return self._checked[1]

    async def _check(self) -> StoreStatus:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return await self._store.check()
        except TimeoutError:
            return StoreStatus(ok=False, detail=f"no answer within {CHECK_TIMEOUT_S:g} seconds")


def _unready(reason: str) -> Response:
    # The reason is a fixed sentence: the database's own words may name hosts.
    body = {"status": "unready", "reason": reason}
    return JSONResponse(body, 503, headers={**_NO_STORE, "Retry-After": str(RETRY_AFTER_S)})
