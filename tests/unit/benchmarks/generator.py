"""Runs the load generator in a test."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from benchmarks import install


async def generate(**options: object) -> dict[str, Any]:
    """Its result with these options, named with ``_`` for ``-``. Fails the test when it fails."""
    process = await asyncio.create_subprocess_exec(
        install.compile_generator(),
        *(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complained
    result = json.loads(said.splitlines()[-1])
    assert isinstance(result, dict)
    return result
