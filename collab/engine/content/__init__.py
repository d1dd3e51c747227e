"""Documents as content and content as documents: the work behind REST's formats, snapshots and restores.

`run_content_job` and `run_draft` are the only entries. They run inside an engine: they apply updates with native code,
in a document of their own that nobody else sees.
"""

from __future__ import annotations

from collab.engine.content.jobs import run_content_job, run_draft

__all__ = ["run_content_job", "run_draft"]
