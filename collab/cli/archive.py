"""The folder `collab export --all` writes: one file per document and a manifest, which is written last.

Files are numbered, because document names never touch the file system (`A` and `a` are two documents, but one file on
some systems). A folder without a manifest is an export that did not end.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from collab.cli.console import fail
from collab.protocol.names import canonical_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from collab.store.port import Document

MANIFEST = "manifest.json"
VERSION = 1
_OWN_NAME = re.compile(r"\d{8,}(-\d+)?\.update")


@dataclass(frozen=True, slots=True)
class File:
    """One file to import."""

    path: Path
    sha256: str | None

    def content(self) -> bytes:
        """Its bytes, checked."""
        content = self.path.read_bytes()
        if self.sha256 is not None and sha256(content).hexdigest() != self.sha256:
            fail(f"{self.path} is not the file that was exported: its checksum differs.")
        return content


@dataclass(frozen=True, slots=True)
class Entry:
    """One document to import."""

    name: str
    file: File
    title: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    waiting: tuple[File, ...] = ()
    """Updates that wait for another one, which never came; kept, so that nothing that was saved is lost."""


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

    def add(self, document: Document, update: bytes, waiting: Sequence[bytes] = ()) -> None:
        """Write one document."""
        number = f"{len(self._entries) + 1:08}"
        self._entries.append(
            {
                "name": document.name,
                "title": document.title,
                "meta": dict(document.meta),
                "created_at": document.created_at.isoformat(),
                "seq": document.seq,
                **self._write(f"{number}.update", update),
                "waiting": [self._write(f"{number}-{at}.update", one) for at, one in enumerate(waiting, 1)],
            }
        )

    def _write(self, name: str, update: bytes) -> dict[str, str]:
        (self._folder / name).write_bytes(update)
        return {"file": name, "sha256": sha256(update).hexdigest()}

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
    waiting = tuple(_file(folder, file) for file in item["waiting"])
    return Entry(canonical_name(item["name"]), _file(folder, item), item["title"], dict(item["meta"]), waiting)


def _file(folder: Path, item: Mapping[str, Any]) -> File:
    if not _OWN_NAME.fullmatch(item["file"]):  # there is no way out of the folder
        raise ValueError("not a file of ours")
    return File(folder / item["file"], str(item["sha256"]))
