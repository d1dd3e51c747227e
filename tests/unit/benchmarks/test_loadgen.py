"""What the load generator makes is valid Yjs, and what it reads of merged updates is what a CRDT library knows.

Runs the compiled generator's self-test; skipped where there is no C compiler.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pycrdt
import pytest

from benchmarks import install

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, install.COMPILERS)), reason="the load generator needs a C compiler"
)

Runs = dict[int, list[tuple[int, int]]]
FIRST_CLIENT = 2_000_000_000


def _generator(*arguments: str, given: str = "") -> list[str]:
    binary = install.compile_generator()
    done = subprocess.run([binary, *arguments], input=given, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def _made(client: int, count: int, chars: int = 1) -> list[bytes]:
    return [bytes.fromhex(line) for line in _generator("--make", str(client), str(count), str(chars))]


def _read(updates: Iterable[bytes]) -> list[Runs | None]:
    lines = _generator("--selftest", given="".join(f"{update.hex()}\n" for update in updates))
    return [None if line.endswith("malformed") else _runs(line) for line in lines]


def _runs(line: str) -> Runs:
    found: Runs = {}
    for part in line.split(","):
        if not part or part.startswith("-"):  # a deletion
            continue
        client, _, span = part.partition(":")
        start, _, end = span.removesuffix("!").partition("-")
        found.setdefault(int(client), []).append((int(start), int(end)))
    return found


def _ends(runs: Runs | None) -> dict[int, int]:
    """Each client's clock after runs that leave no gap, from 0 on."""
    assert runs is not None
    ends = {}
    for client, spans in runs.items():
        at = 0
        for start, end in spans:
            assert start == at
            at = end
        ends[client] = at
    return ends


def _state(update: bytes) -> dict[int, int]:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.apply_update(update)
    return _decode_state(doc.get_state())


def _decode_state(state: bytes) -> dict[int, int]:
    decoder = pycrdt.Decoder(state)
    return {decoder.read_var_uint(): decoder.read_var_uint() for _ in range(decoder.read_var_uint())}


def _rich_update() -> bytes:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    text = doc.get("text", type=pycrdt.Text)
    text += "plain, ünicode, \U0001f600 and more"
    text.format(0, 5, {"bold": True, "link": {"href": "x"}})
    text.insert_embed(3, {"image": "a.png"})
    del text[10:14]
    entries = doc.get("map", type=pycrdt.Map)
    entries["any"] = {"n": 1.5, "list": [None, True, "s", b"bytes", -3]}
    entries["any"] = "replaced"
    entries["nested"] = pycrdt.Map({"inner": pycrdt.Array([1, "two", pycrdt.Text("three")])})
    page = doc.get("page", type=pycrdt.XmlFragment)
    page.children.append(pycrdt.XmlElement("p", {"class": "x"}, [pycrdt.XmlText("words")]))
    return doc.get_update()


def test_made_updates_integrate_and_read_as_typed() -> None:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in _made(FIRST_CLIENT, 30):
        doc.apply_update(update)
    assert str(doc.get("t", type=pycrdt.Text)) == "abcdefghijklmnopqrstuvwxyzabcd"
    assert _decode_state(doc.get_state()) == {FIRST_CLIENT: 30}


def test_longer_updates_follow_on_one_another() -> None:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    made = _made(FIRST_CLIENT, 3, 1_000)
    for update in made:
        doc.apply_update(update)
    assert _decode_state(doc.get_state()) == {FIRST_CLIENT: 3_000}
    assert _read([doc.get_update()]) == [{FIRST_CLIENT: [(0, 3_000)]}]
    assert "!" not in _generator("--selftest", given=f"{doc.get_update().hex()}\n")[0]


def test_deletions_are_read_as_ranges() -> None:
    doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=7)
    text = doc.get("t", type=pycrdt.Text)
    text += "abcdefgh"
    del text[2:5]
    assert _generator("--selftest", given=f"{doc.get_update().hex()}\n")[0].endswith(",-7:2-5")


def test_every_made_update_reads_as_its_one_clock() -> None:
    assert _read(_made(7, 300)) == [{7: [(clock, clock + 1)]} for clock in range(300)]


@pytest.mark.parametrize("seed", range(20))
def test_merges_in_any_order_read_as_every_writers_clocks(seed: int) -> None:
    rng = random.Random(seed)
    writers = {FIRST_CLIENT + i: rng.randrange(1, 40) for i in range(5)}
    updates = [update for client, count in writers.items() for update in _made(client, count)]
    rng.shuffle(updates)
    merged = pycrdt.merge_updates(*updates)
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.apply_update(merged)
    assert [_ends(runs) for runs in _read([merged, doc.get_update()])] == [writers, writers]


def test_a_gap_in_a_merge_is_not_read_as_delivered() -> None:
    updates = _made(7, 6)
    assert _read([pycrdt.merge_updates(updates[0], updates[1], updates[4])]) == [{7: [(0, 1), (1, 2), (4, 5)]}]


def test_text_that_was_not_typed_by_the_generator_is_marked() -> None:
    made = _made(FIRST_CLIENT, 60)
    other = made[59].replace(b"h", b"i")
    assert other != made[59]
    lines = _generator("--selftest", given="".join(f"{update.hex()}\n" for update in [*made, other]))
    assert [line.endswith("!") for line in lines] == [False] * 60 + [True]
    merged = [pycrdt.merge_updates(*made), pycrdt.merge_updates(*made[:59], other)]
    lines = _generator("--selftest", given="".join(f"{update.hex()}\n" for update in merged))
    assert ["!" in line for line in lines] == [False, True]


def test_every_kind_of_content_reads_to_the_documents_clocks() -> None:
    update = _rich_update()
    assert _ends(_read([update])[0]) == _state(update)


def test_every_truncation_and_every_extra_byte_is_malformed() -> None:
    update = _rich_update()
    broken = [update[:length] for length in range(1, len(update))]
    assert _read([*broken, update + b"\x00"]) == [None] * len(update)
