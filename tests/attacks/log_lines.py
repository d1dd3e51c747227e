"""What a server with `COLLAB_LOG_FORMAT=json` wrote, line by line."""

from __future__ import annotations

import json
from itertools import dropwhile
from typing import Any


def log_lines(output: str) -> list[dict[str, Any]]:
    """Every line as an object, without the greeting for people before the first. Raises `ValueError` for any other."""
    lines = dropwhile(lambda line: not line.startswith("{"), output.splitlines())
    return [json.loads(line) for line in lines]
