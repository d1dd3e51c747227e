"""The folder `collab export --all` writes: one file per document and a manifest, which is written last.

Files are numbered, because document names never touch the file system (`A` and `a` are two documents, but one file on
some systems). A folder without a manifest is an export that did not end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from collab.cli.console import fail
from collab.protocol.names import canonical_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from collab.store.port import Document

MANIFEST = "manifest.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One document to import."""

    name: str
    title: str | None
    meta: Mapping[str, Any]
    file: Path
    sha256: str | None

    def content(self) -> bytes:
        """The file's bytes, checked."""
        content = self.file.read_bytes()
        if self.sha256 is not None and sha256(content).hexdigest() != self.sha256:
            fail(f"{self.file} is not the file that was exported: its checksum differs.")
        return content


class Writer:
    """Writes an export. The manifest appears only when the block ends well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: list[dict[str, Any]] = []

    @property
    def count(self) -> int:
        """Documents written."""
        return len(self._entries)

    def __enter__(self) -> Self:
        """Make the folder; it must be empty."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if any(self._folder.iterdir()):
            fail(f"{self._folder} is not empty; an export needs a folder of its own.", code=2)
        return self

    def add(self, document: Document, update: bytes) -> None:
        """Write one document."""
        file = self._folder / f"{len(self._entries) + 1:08}.update"
        file.write_bytes(update)
        self._entries.append(
            {
                "name": document.name,
                "title": document.title,
                "meta": dict(document.meta),
                "created_at": document.created_at.isoformat(),
                "seq": document.seq,
                "file": file.name,
                "sha256": sha256(update).hexdigest(),
            }
        )

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Write the manifest, unless something went wrong."""
        if kind is not None:
            return
        manifest = {"collab_export": VERSION, "documents": self._entries}
        partial = self._folder / f"{MANIFEST}.part"
        partial.write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        partial.rename(self._folder / MANIFEST)


def read(folder: Path) -> list[Entry]:
    """The documents of an export; ends the command when it is none. Contents are read later, one by one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["collab_export"] != VERSION:
            fail(f"{folder} was exported by another version of collab.")
        return [_entry(folder, item) for item in manifest["documents"]]
    except FileNotFoundError:
        fail(f"{folder} has no {MANIFEST}: it is no export, or one that did not end.")
    except (ValueError, KeyError, TypeError, AttributeError):
        fail(f"The {MANIFEST} in {folder} is damaged.")


def _entry(folder: Path, item: Mapping[str, Any]) -> Entry:
    file = str(item["file"])
    if not file.removesuffix(".update").isdigit():  # nothing but our own names: no way out of the folder
        raise ValueError(file)
    return Entry(canonical_name(item["name"]), item["title"], dict(item["meta"]), folder / file, str(item["sha256"]))
