"""Documents as content and content as documents: the work behind REST's formats, snapshots and restores.

`run_content_job` is the only entry. It runs inside an engine: it applies updates with native code, in a document of
its own that nobody else sees.
"""

from __future__ import annotations

from collab.engine.content.jobs import run_content_job

__all__ = ["run_content_job"]
