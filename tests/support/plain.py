"""How tests ask a server of theirs that speaks HTTP without TLS."""

from __future__ import annotations

from typing import Any

PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}
"""Options of an httpx client. Without them it reads every certificate there is first, which takes longer than most
requests do."""
