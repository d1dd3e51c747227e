"""Says once when a document has grown large: half of what it may be, or written in by very many clients.

Neither is refused: people can still make it smaller, and every page that was ever opened is a client. A metric and a
line in the log tell whoever runs the server. `collab.node.loaded_document.LoadedDocument` asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from collab.protocol.varint import read_uint

if TYPE_CHECKING:
    from collab.node.counters import Counters

log = structlog.get_logger(__name__)


class Growth:
    """Of one document."""

    def __init__(self, name: str, counters: Counters, *, many_clients: int) -> None:
        self._name = name
        self._counters = counters
        self._many_clients = many_clients
        self._said: set[str] = set()

    def crowded(self) -> None:
        """The engine says that it is more than half of what it may be."""
        self._say("document_size", "document_half_full")

    def look_at(self, state_vector: bytes) -> None:
        """This is its state vector; the number of clients stands first."""
        clients, _ = read_uint(state_vector, 0)
        if clients > self._many_clients:
            self._say("clients", "document_has_many_clients", clients=clients)

    def _say(self, limit: str, event: str, **fields: int) -> None:
        if limit not in self._said:
            self._said.add(limit)
            self._counters.limits.add(limit)
            log.warning(event, document=self._name, **fields)
