"""Content jobs of REST requests, and patience with documents that kill engines.

A live room quarantines its own document; this does the same for documents that are only read over REST, where every
request would otherwise cost the node an engine process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from collab.errors import DocumentQuarantined, EngineDied

if TYPE_CHECKING:
    from collections.abc import Callable

    from collab.engine.port import Engine, Job, JobAnswer

DEATHS = 2
WITHIN_S = 600.0
"""So many engines lost to one document within this time (faults matrix F29) ..."""
REST_S = 60.0
"""... and it is left alone for this long. Guessed; the same as for live rooms."""

log = structlog.get_logger("collab.rest")


class Jobs:
    """Runs jobs on the engine on behalf of documents. ``clock`` gives monotonic seconds."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._deaths: dict[str, list[float]] = {}

    async def run(self, document: str, job: Job) -> JobAnswer:
        """The job's answer. Raises `DocumentQuarantined`, and what `Engine.run` raises."""
        now = self._clock()
        deaths = self._deaths.get(document, [])
        if len(deaths) >= DEATHS and now - deaths[-1] < REST_S:
            raise DocumentQuarantined(document)
        try:
            return await self._engine.run(job)
        except EngineDied:
            self._note(document, self._clock())
            raise

    def _note(self, document: str, now: float) -> None:
        recent = {name: [at for at in times if now - at < WITHIN_S] for name, times in self._deaths.items()}
        self._deaths = {name: times for name, times in recent.items() if times}
        deaths = self._deaths.setdefault(document, [])
        deaths.append(now)
        log.error("engine lost to a job", document=document, deaths=len(deaths))
