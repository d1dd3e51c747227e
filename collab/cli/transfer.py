"""`collab migrate`, `collab export` and `collab import`: straight to the database, whether or not a server runs.

Documents are only ever created here, never changed, so a running server is not disturbed. Labelled snapshots are not
part of an export; a backup of the database holds them.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from uuid import uuid4

import typer

from collab.cli import archive
from collab.cli.console import fail, note, settings
from collab.cli.progress import progress
from collab.cli.workshop import open_both, open_store
from collab.engine.port import Compose, Engine, Fold, Folded, Format, Render
from collab.errors import CollabError, DocumentExists, DocumentMissing
from collab.protocol.names import canonical_name
from collab.protocol.yjs import scan_update
from collab.store.port import LogEntry, Store, StoreStatus

_Database = Annotated[
    str | None,
    typer.Option(
        "--database", envvar="COLLAB_DATABASE", help="sqlite:///path or postgresql://user:password@host/name."
    ),
]
_FORMATS: dict[str, Format] = {".yjs": "update", ".update": "update", ".json": "json", ".txt": "text"}
_FORMATS |= {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown"}
PAGE = 100


def migrate(*, database: _Database = None) -> None:
    """Bring the database's schema up to date.

    Safe to repeat, and to run from several machines at once.
    """
    wanted = settings(database=database, migrate=True)

    async def run() -> StoreStatus:
        async with open_store(wanted) as store:
            return await store.check()

    status = asyncio.run(run())
    if not status.ok:
        fail(f"{status.detail}.")
    note(f"{wanted.database_shown} is at schema {status.schema}.")


def export(
    document: Annotated[str | None, typer.Argument(help="Name of one document.")] = None,
    *,
    all_to: Annotated[Path | None, typer.Option("--all", metavar="DIR", help="Write every document into DIR.")] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["update", "json", "text", "html", "markdown"], typer.Option(help="Of one document.")
    ] = "update",
    root: Annotated[str | None, typer.Option(help="Name of the shared type to read.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")
    ] = None,
    database: _Database = None,
) -> None:
    """Write one document to a file, or all of them to a folder.

    A folder holds one Yjs update per document and a manifest; `collab import DIR` reads it back.
    """
    if (document is None) == (all_to is None):
        fail("Name one document, or say --all DIR.", code=2)
    wanted = settings(database=database)
    if document is not None:
        content = asyncio.run(_export_one(wanted, canonical_name(document), format, root))
        if output is not None:
            output.write_bytes(content)
        else:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
    elif all_to is not None:
        skipped = asyncio.run(_export_all(wanted, all_to))
        if skipped:
            fail(f"{skipped} documents could not be exported; they are named above.")


async def _export_one(wanted: Any, name: str, form: Format, root: str | None) -> bytes:
    async with open_both(wanted) as (store, engine):
        try:
            await store.documents.get(name)
        except DocumentMissing:
            fail(f"There is no document named {name}.")
        return await _render(store, engine, name, form, root)


async def _render(store: Store, engine: Engine, name: str, form: Format, root: str | None) -> bytes:
    return cast("bytes", await engine.run(Render(await _load(store, name), form, root)))


async def _fold(store: Store, engine: Engine, name: str) -> tuple[bytes, list[bytes]]:
    updates = await _load(store, name)
    folded = cast("Folded", await engine.run(Fold(updates)))
    waiting = set(range(len(updates))).difference(folded.covered)
    return folded.update, [updates[at] for at in sorted(waiting)]


async def _load(store: Store, name: str) -> tuple[bytes, ...]:
    stored = await store.log.load(name)
    for damage in stored.damage:
        note(f"collab: {name}: {damage}.")
    return stored.all_updates


async def _export_all(wanted: Any, folder: Path) -> int:
    skipped = 0
    async with open_both(wanted) as (store, engine):
        with archive.Writer(folder) as writer, progress("Exporting") as advance:
            after: str | None = None
            while True:
                page = await store.documents.list(after=after, limit=PAGE)
                for document in page.documents:
                    try:
                        writer.add(document, *await _fold(store, engine, document.name))
                    except CollabError as error:
                        note(f"collab: {document.name}: {error}.")
                        skipped += 1
                    advance(None)
                if page.next is None:
                    break
                after = page.next
    note(f"{writer.count} documents in {folder}")
    return skipped


def import_(
    source: Annotated[Path, typer.Argument(exists=True, help="A folder from `collab export --all`, or one file.")],
    *,
    name: Annotated[
        str | None, typer.Option("--as", help="Name for the document in a file; default: the file's.")
    ] = None,
    format: Annotated[  # noqa: A002
        Literal["update", "json", "text", "html", "markdown"] | None,
        typer.Option(help="Of a file; default: from its ending."),
    ] = None,
    root: Annotated[str | None, typer.Option(help="Name of the shared type to fill.")] = None,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out documents that are there.")] = False,
    database: _Database = None,
) -> None:
    """Create documents from an export or a file. Never overwrites: a name that is taken ends the import."""
    wanted = settings(database=database)
    if source.is_dir():
        entries = archive.read(source)
        created, skipped = asyncio.run(_import(wanted, entries, skip_existing=skip_existing))
    else:
        form = format or _FORMATS.get(source.suffix.lower())
        if form is None:
            fail(f"What {source.name} holds is not clear from its ending; say --format.", code=2)
        entry = archive.Entry(canonical_name(name or source.stem), archive.File(source, None))
        created, skipped = asyncio.run(_import(wanted, [entry], form, root, skip_existing=skip_existing))
    note(f"{created} documents created" + (f", {skipped} were there already" if skipped else ""))


async def _import(
    wanted: Any,
    entries: list[archive.Entry],
    form: Format = "update",
    root: str | None = None,
    *,
    skip_existing: bool,
) -> tuple[int, int]:
    node, numbers, created, skipped = f"import-{uuid4().hex}", count(1), 0, 0
    async with open_both(wanted) as (store, engine):
        if not skip_existing:
            await _refuse_taken(store, entries)
        with progress("Importing") as advance:
            for entry in entries:
                update = cast("bytes", await engine.run(Compose(entry.file.content(), form, root)))
                waiting = [_scanned(file.content()) for file in entry.waiting]
                logged = [LogEntry(entry.name, one, node, next(numbers)) for one in (update, *waiting)]
                try:
                    await store.documents.create(entry.name, title=entry.title, meta=entry.meta, entry=logged[0])
                    await store.log.append(logged[1:])
                    created += 1
                except DocumentExists:
                    if not skip_existing:
                        fail(f"{entry.name} was created by somebody else meanwhile; {created} were imported before it.")
                    skipped += 1
                advance(len(entries))
    return created, skipped


def _scanned(update: bytes) -> bytes:
    # The engine refuses to take an update that waits for others as a document, so only its form is checked.
    scan_update(update)
    return update


async def _refuse_taken(store: Store, entries: list[archive.Entry]) -> None:
    taken = []
    for entry in entries:
        try:
            await store.documents.get(entry.name)
        except DocumentMissing:
            continue
        except CollabError:  # deleted: the name stays taken
            pass
        taken.append(entry.name)
    if taken:
        more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
        fail(
            f"Nothing was imported, since {', '.join(taken[:3])}{more} exist already; --skip-existing leaves them out."
        )
