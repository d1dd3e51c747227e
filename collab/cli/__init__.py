"""The command line: serve, migrate, export, import, doctor, token.

Each command is a short module beside this one. What goes wrong is told in one sentence on standard error; exit codes
are 0 for success, 1 for failure and 2 for a wrong command line.
"""

from __future__ import annotations

from collab.cli.main import app, main

__all__ = ["app", "main"]
