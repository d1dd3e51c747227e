"""Which host names this server answers to: a request that asks for another is not for it.

A page that points its own name at somebody's server (DNS rebinding) shares that name's origin with it, so comparing
`Origin` with `Host` is worth nothing unless the host is known. Asked by `collab.server.guard` for HTTP and by
`collab.server.websocket` before an upgrade.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collab.server.problems import problem

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

    from collab.settings import Settings

_HOST = re.compile(rb"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names in lower case and without ports; None: every well-formed one."""

    known: frozenset[str] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Hosts:
        """The names these settings know."""
        return cls(settings.known_hosts)

    def refusal(self, scope: Scope) -> Response | None:
        """What to answer a request that names no host, several, none of ours, or no host at all; else None."""
        sent = [value for name, value in scope["headers"] if name == b"host"]
        found = _HOST.fullmatch(sent[0]) if len(sent) == 1 else None
        if found is None:
            return problem(400, "bad_host", "A request names one host.")
        if self.known is not None and found[1].decode("ascii").lower() not in self.known:
            return problem(421, "host_refused", "This server is not known by that name.")
        return None
