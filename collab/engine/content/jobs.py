"""The four content jobs of the engine port: Render, Compose, Draft and Revert.

Here formats meet: which root is meant, of which type it is, and who converts it. The conversions live next door.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from collab.engine.content import plain
from collab.engine.content.encoding import Encoder
from collab.engine.content.fold import fold_stored, fold_whole
from collab.engine.content.html_reader import from_html
from collab.engine.content.html_writer import to_html
from collab.engine.content.markdown_reader import from_markdown
from collab.engine.content.markdown_writer import to_markdown
from collab.engine.content.model import MAX_PIECES, Node, read_roots, write_root
from collab.engine.content.prosemirror import from_prosemirror, to_prosemirror
from collab.engine.content.replica import Replica
from collab.engine.content.revert import revert
from collab.engine.content.rich import as_document
from collab.engine.content.roots import COMPOSED_PLAIN_ROOT, COMPOSED_XML_ROOT, choose, infer
from collab.engine.content.text_writer import to_text
from collab.engine.content.wire import clean
from collab.engine.draft import take_apart
from collab.engine.port import Compose, Draft, Drafted, Flaw, Render, Revert, RootType
from collab.errors import InvalidContent, MalformedMessage
from collab.protocol.yjs import scan_update

_WRITERS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "html": to_html,
    "markdown": to_markdown,
    "text": to_text,
}


def run_content_job(job: Render | Compose | Revert) -> bytes:
    """Do ``job`` and return its bytes. ``Compose.content`` may be anything.

    Raises `InvalidContent` with one sentence when the content, or the document, cannot be converted.
    """
    try:
        if isinstance(job, Render):
            return _render(job)
        if isinstance(job, Compose):
            return _compose(job)
        return revert(fold_stored(job.current), fold_stored(job.target))
    except RecursionError as error:
        raise InvalidContent("the content nests too deeply") from error


def run_draft(job: Draft) -> Drafted:
    """Take the body apart and compose its content. Whatever is wrong with either is in the answer."""
    parts = take_apart(job.body)
    if parts.content is None:
        return Drafted(parts.rest, flaw=parts.flaw)
    try:
        return Drafted(parts.rest, run_content_job(parts.content))
    except InvalidContent as error:
        return Drafted(parts.rest, flaw=Flaw("content", str(error)))


def _render(job: Render) -> bytes:
    update = fold_stored(job.updates)
    if job.format == "update":
        return update
    name, root = choose(read_roots(Replica(update)), job.root)
    kind = job.type or infer(name, root)
    if job.format == "json":
        return plain.dump(_JSON[kind](root))
    if job.format == "text" and kind == "text" and all(not isinstance(child, Node) for child in root.children):
        return clean(plain.string(root)).encode()
    return clean(_WRITERS[job.format](as_document(root, kind))).encode()


_JSON: Final[dict[RootType, Callable[[Node], Any]]] = {
    "xml": to_prosemirror,
    "text": plain.delta,
    "map": plain.entries,
    "array": plain.elements,
}


def _compose(job: Compose) -> bytes:
    if job.format == "update":
        return _compose_update(job)
    kind, node = _from_json(job) if job.format == "json" else _from_text(job)
    encoder = Encoder()
    write_root(encoder, job.root or (COMPOSED_XML_ROOT if kind == "xml" else COMPOSED_PLAIN_ROOT), node)
    update = encoder.finish()
    try:
        scan_update(update)
    except MalformedMessage as error:
        raise InvalidContent(f"the content is too large or too deep for one document: {error}") from error
    return update


def _compose_update(job: Compose) -> bytes:
    try:
        scan_update(job.content)
    except MalformedMessage as error:
        raise InvalidContent(f"the content is not a Yjs update: {error}") from error
    return fold_whole(job.content)


def _from_text(job: Compose) -> tuple[RootType, Node]:
    try:
        text = job.content.decode()
    except UnicodeDecodeError as error:
        raise InvalidContent("the content is not UTF-8") from error
    if job.format == "text":
        if job.type == "text":
            return "text", plain.from_delta([{"insert": text}] if text else [])
        if text.count("\n") >= MAX_PIECES:
            raise InvalidContent(f"the text has more than {MAX_PIECES} lines")
        document = {"type": "doc", "content": [_paragraph(line) for line in text.split("\n")] if text else []}
    else:
        document = from_html(text) if job.format == "html" else from_markdown(text)
    if job.type not in (None, "xml"):
        raise InvalidContent(f"{job.format} makes rich text, which a shared type of type {job.type} cannot hold")
    return "xml", from_prosemirror(document)


def _paragraph(line: str) -> dict[str, Any]:
    line = line.removesuffix("\r")
    return {"type": "paragraph"} | ({"content": [{"type": "text", "text": line}]} if line else {})


def _from_json(job: Compose) -> tuple[RootType, Node]:
    value = plain.load(job.content)
    kind = job.type or _shape(value)
    if kind == "xml":
        return kind, from_prosemirror(value)
    if kind == "map":
        return kind, plain.from_entries(value)
    if kind == "array":
        return kind, plain.from_elements(value)
    if isinstance(value, str):
        value = [{"insert": value}] if value else []
    return kind, plain.from_delta(value["ops"] if isinstance(value, dict) and "ops" in value else value)


def _shape(value: Any) -> RootType:
    """The type a JSON value looks like: a document node, a delta, a string, an array or an object."""
    if isinstance(value, dict):
        if value.get("type") == "doc":
            return "xml"
        return "text" if isinstance(value.get("ops"), list) and len(value) == 1 else "map"
    if isinstance(value, list):
        inserts = [isinstance(entry, dict) and "insert" in entry for entry in value]
        return "text" if inserts and all(inserts) else "array"
    if isinstance(value, str):
        return "text"
    raise InvalidContent("the JSON must be a document node, a delta, a string, an array or an object")
