"""The body of `POST /v1/documents`: taken apart where it holds nobody up, then checked like any other body.

It is as long as a document and can be read by nobody but a JSON parser, which takes up to a second for it. So what is
not small is read by the engine's process; what comes back of it is small.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from collab.engine.draft import take_apart
from collab.engine.port import Draft, Drafted, Flaw
from collab.errors import InvalidContent, Misuse
from collab.server.rest.schemas import NewDocument

if TYPE_CHECKING:
    from collab.server.jobs import Jobs

READ_HERE_BYTES = 16 * 1024
"""A longer body is read by the engine. One of this length takes a millisecond at most (measured), and no engine."""


async def drafted(body: bytes, jobs: Jobs, author: str) -> Drafted:
    """Take ``body`` apart and have its content composed, with the same answer whatever its length.

    Raises what `Jobs.run` raises; what kills engines counts against ``author``, since nobody knows the document yet.
    """
    on_behalf = f"what {author} creates"  # no document's name: those have no blanks
    if len(body) > READ_HERE_BYTES:
        return cast("Drafted", await jobs.run(on_behalf, Draft(body)))
    parts = take_apart(body)
    if parts.content is None:
        return Drafted(parts.rest, flaw=parts.flaw)
    try:
        return Drafted(parts.rest, cast("bytes", await jobs.run(on_behalf, parts.content)))
    except InvalidContent as error:
        return Drafted(parts.rest, flaw=Flaw("content", str(error)))


def described(draft: Drafted) -> NewDocument:
    """What the body says besides the content's value.

    Raises `RequestValidationError` when it has not the right form, and 413 when it is too long.
    """
    flaw = draft.flaw
    if flaw is not None and flaw.kind == "size":
        raise HTTPException(413, flaw.what)
    faults: list[dict[str, Any]] = []
    new = None
    if draft.rest:
        try:
            new = NewDocument.model_validate(json.loads(draft.rest), from_attributes=True)
        except ValidationError as error:
            faults += ({"loc": ("body", *found["loc"]), "msg": found["msg"]} for found in error.errors())
    if flaw is not None and flaw.kind == "form":
        faults.append({"loc": ("body", flaw.where) if flaw.where else ("body",), "msg": flaw.what})
    if new is None or faults:
        raise RequestValidationError(faults)
    return new


def content_of(draft: Drafted, new: NewDocument) -> bytes | None:
    """The update that creates the content, or None without content. Raises `InvalidContent`."""
    if draft.flaw is not None:
        raise InvalidContent(draft.flaw.what)
    if (draft.update is None) != (new.content is None):
        raise Misuse("content was taken for none")
    return draft.update
