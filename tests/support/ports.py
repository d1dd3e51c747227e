"""Loopback ports for servers that have to be told theirs, and that come back to it after they were stopped.

They lie below those that the kernel gives to whoever asks for any, so that neither a connection nor another test's
server has one of them by the time its own server listens. Two runs of the tests beside each other begin at different
places, and each gives every port once before one again.
"""

from __future__ import annotations

import itertools
import random
import socket

LOWEST, HIGHEST = 20_000, 32_000
"""Linux gives from 32768 on. Browsers refuse some that are lower."""

_next = itertools.count(random.randrange(HIGHEST - LOWEST))


def free_port() -> int:
    """A port that nobody listens on now. Raises `RuntimeError` when there is none."""
    for _ in range(HIGHEST - LOWEST):
        port = LOWEST + next(_next) % (HIGHEST - LOWEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port from {LOWEST} to {HIGHEST} is free")
