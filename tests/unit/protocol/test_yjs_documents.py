"""The bounded reader against real documents: whatever pycrdt writes is accepted, and means what the document says.

Hypothesis edits a few replicas of one document in every way pycrdt has, lets them exchange state now and then, and
keeps each update in the order of its making.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text, UndoManager, XmlElement, XmlFragment, XmlText, get_update, merge_updates

from collab.protocol.yjs import UpdateScan, read_state_vector, scan_update, write_state_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Ranges = dict[int, list[tuple[int, int]]]

CLIENT_IDS = [(3, 1 << 31), (1 << 40, (1 << 53) - 1), (127, 128)]
WORDS = ["a", "hello", "ü", "日本", "😀x", " ", "line\n", "x" * 200, "😀😀"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.floats(allow_nan=False) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)
VALUES = JSON | st.binary(max_size=5)
NESTED = st.sampled_from(
    [lambda: Map({"a": [1]}), lambda: Array([1, "x"]), lambda: Text("t"), lambda: Map({"m": Map({"deep": Text("日")})})]
)
KEYS = st.sampled_from(["k", "ü", "bold", "long key" * 20])


def made(make: Callable[[], Any]) -> Any:
    return make()


class Editor:
    """One replica, its roots, and how to change them at hypothesis' whim."""

    def __init__(self, client: int, updates: list[bytes]) -> None:
        self.doc: Doc[Any] = Doc(client_id=client)
        self.text = self.doc.get("text", type=Text)
        self.map = self.doc.get("map", type=Map)
        self.array = self.doc.get("array", type=Array)
        self.xml = self.doc.get("xml", type=XmlFragment)
        self.undo = UndoManager(scopes=[self.text, self.map])
        self.remote = False
        self.subscription = self.doc.observe(lambda event: None if self.remote else updates.append(event.update))

    def close(self) -> None:
        self.doc.unobserve(self.subscription)

    def receive(self, update: bytes) -> None:
        self.remote = True
        self.doc.apply_update(update)
        self.remote = False

    def type_text(self, draw: st.DataObject) -> None:
        attributes = draw.draw(st.none() | st.just({"b": True}))
        self.text.insert(self.some_edge(draw), draw.draw(st.sampled_from(WORDS)), attributes)

    def embed(self, draw: st.DataObject) -> None:
        self.text.insert_embed(self.some_edge(draw), draw.draw(JSON), None)

    def erase(self, draw: st.DataObject) -> None:
        if span := self.some_span(draw):
            del self.text[slice(*span)]

    def format(self, draw: st.DataObject) -> None:
        if span := self.some_span(draw):
            self.text.format(*span, {draw.draw(KEYS): draw.draw(JSON)})

    def set(self, draw: st.DataObject) -> None:
        self.map[draw.draw(KEYS)] = draw.draw(VALUES | NESTED.map(made))

    def unset(self, draw: st.DataObject) -> None:
        if len(self.map):
            del self.map[draw.draw(st.sampled_from(sorted(self.map.keys())))]

    def append(self, draw: st.DataObject) -> None:
        self.array.extend(draw.draw(st.lists(VALUES, min_size=1, max_size=3)))

    def append_type(self, draw: st.DataObject) -> None:
        make: Callable[[], Any] = draw.draw(NESTED)
        self.array.append(make())

    def remove(self, draw: st.DataObject) -> None:
        if len(self.array):
            del self.array[draw.draw(st.integers(0, len(self.array) - 1))]

    def add_element(self, draw: st.DataObject) -> None:
        self.xml.children.append(XmlElement(draw.draw(st.sampled_from(["p", "ü"]))))

    def write_in_element(self, draw: st.DataObject) -> None:
        if len(self.xml.children):
            element = self.xml.children[len(self.xml.children) - 1]
            element.children.append(XmlText(draw.draw(st.sampled_from(WORDS))))
            element.attributes[draw.draw(KEYS)] = draw.draw(st.sampled_from(WORDS))

    def prune(self, draw: st.DataObject) -> None:
        if len(self.xml.children):
            del self.xml.children[0]

    def take_back(self, draw: st.DataObject) -> None:
        self.undo.undo()

    def some_edge(self, draw: st.DataObject) -> int:
        """The start or the end: pycrdt counts UTF-8 bytes, and these are never inside a character."""
        return draw.draw(st.sampled_from([0, len(self.text)]))

    def some_span(self, draw: st.DataObject) -> tuple[int, int] | None:
        """A part of the text when bytes and characters are the same and nothing is embedded."""
        content = str(self.text)
        if not content or not content.isascii() or len(self.text) != len(content):
            return None
        start = draw.draw(st.integers(0, len(content) - 1))
        return start, draw.draw(st.integers(start + 1, len(content)))


ACTIONS = (
    Editor.type_text,
    Editor.embed,
    Editor.erase,
    Editor.format,
    Editor.set,
    Editor.unset,
    Editor.append,
    Editor.append_type,
    Editor.remove,
    Editor.add_element,
    Editor.write_in_element,
    Editor.prune,
    Editor.take_back,
)


def history(draw: st.DataObject) -> tuple[list[bytes], list[Editor]]:
    updates: list[bytes] = []
    editors = [Editor(client, updates) for client in draw.draw(st.sampled_from(CLIENT_IDS))]
    for action in draw.draw(st.lists(st.none() | st.sampled_from(ACTIONS), min_size=1, max_size=25)):
        one, other = draw.draw(st.permutations(editors))
        if action is None:
            one.receive(other.doc.get_update(one.doc.get_state()))
        else:
            action(one, draw)
    return updates, editors


def union(found: Iterable[Ranges]) -> dict[int, set[int]]:
    clocks: dict[int, set[int]] = {}
    for ranges in found:
        for client, pairs in ranges.items():
            clocks.setdefault(client, set()).update(*(range(start, end) for start, end in pairs))
    return clocks


def ends(scan: UpdateScan) -> dict[int, int]:
    return {client: found[-1][1] for client, found in scan.ranges.items()}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_update_of_real_documents_is_accepted_and_adds_up(draw: st.DataObject) -> None:
    updates, editors = history(draw)
    scans = [scan_update(update) for update in updates]
    whole = scan_update(merge_updates(*updates)) if updates else UpdateScan({}, {}, {})
    assert union([whole.ranges]) == union(scan.ranges for scan in scans)
    assert union([whole.deletes]) == union(scan.deletes for scan in scans)
    for editor in editors:
        state = read_state_vector(editor.doc.get_state())
        full = scan_update(editor.doc.get_update())
        assert full.ranges == {client: [(0, clock)] for client, clock in state.items() if clock}
        assert full.missing({}) == {}
        editor.close()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_diffs_merges_and_parked_updates_are_accepted(draw: st.DataObject) -> None:
    updates, editors = history(draw)
    for editor in editors:
        editor.close()
    if not updates:
        return
    some = draw.draw(st.lists(st.sampled_from(updates), min_size=1, unique=True))
    part = merge_updates(*some)
    assert union([scan_update(part).ranges]) == union(scan_update(update).ranges for update in some)
    parked: Doc[Any] = Doc()
    parked.apply_update(part)
    scan_update(parked.get_update())
    state = write_state_vector(read_state_vector(parked.get_state()))
    diff = scan_update(get_update(merge_updates(*updates), state))
    assert union([diff.ranges]).keys() <= union([scan_update(merge_updates(*updates)).ranges]).keys()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_update_integrates_exactly_when_nothing_is_missing(draw: st.DataObject) -> None:
    updates, editors = history(draw)
    for editor in editors:
        editor.close()
    if not updates:
        return
    known = draw.draw(st.lists(st.sampled_from(updates), unique=True))
    chosen = draw.draw(st.sampled_from(updates))
    replica: Doc[Any] = Doc()
    if known:
        replica.apply_update(merge_updates(*known))
    before = read_state_vector(replica.get_state())
    scan = scan_update(chosen)
    replica.apply_update(chosen)
    reached = read_state_vector(replica.get_state())
    integrated = all(reached.get(client, 0) >= end for client, end in ends(scan).items())
    # yrs lets a struct in whose neighbour stands beyond a gap, where the state vector does not reach.
    gapless = not known or not scan_update(merge_updates(*known)).missing({})
    assert integrated or scan.missing(before)
    assert not integrated or not scan.missing(before) or not gapless
