"""A forward change that gives a document the content it once had, so that live editors simply receive it.

What is equal stays untouched: lines of a text, elements of a list, map entries, and nodes that can be changed in
place. So cursors and concurrent edits outside the difference survive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from collab.engine.content.differences import differences
from collab.engine.content.encoding import Encoder
from collab.engine.content.fold import fold_stored
from collab.engine.content.model import (
    Embed,
    Marks,
    Node,
    Run,
    Value,
    apply_format,
    canonical,
    fingerprint,
    read,
    read_roots,
    write_children,
    write_entry,
)
from collab.engine.content.replica import Replica, Shared
from collab.engine.content.wire import ANY, EMBED, FORMAT, JSON, STRING, TYPE, Id, Struct
from collab.errors import InvalidContent


def revert(current: bytes, target: bytes) -> bytes:
    """The update that gives ``current`` the content of ``target``; both are folded updates.

    The client id comes from a hash of the current state vector and of the change itself: it is new to the document, two
    nodes that make the same change make the same bytes, and different changes never share an id. Raises
    `InvalidContent` when the content cannot be brought back exactly.
    """
    replica = Replica(current)
    wanted = read_roots(Replica(target))
    change = _Change(Encoder(), {})
    for name in sorted(replica.roots.keys() | wanted.keys()):
        change.bring(replica.roots.get(name) or Shared(name, None), wanted.get(name) or Node(None))
    update = change.encoder.finish(deletes=change.deletes, taken=replica.clients, salt=repr(replica.state()).encode())
    after = read_roots(Replica(fold_stored((current, update))))
    for name in after.keys() | wanted.keys():
        if fingerprint(after.get(name) or Node(None)) != fingerprint(wanted.get(name) or Node(None)):
            raise InvalidContent("the content cannot be brought back exactly")
    return update


@dataclass(slots=True)
class _Unit:
    """One visible thing of a shared type: a character, an embed, a value or a nested type."""

    item: Struct
    offset: int
    """Where in the item it begins, in units of its clock."""
    length: int
    marks: Marks
    key: tuple[Any, str]
    """Equal for equal content under equal formatting."""

    @property
    def first_id(self) -> Id:
        return self.item.client, self.item.clock + self.offset

    @property
    def last_id(self) -> Id:
        return self.item.client, self.item.clock + self.offset + self.length - 1


@dataclass(slots=True)
class _Wanted:
    child: Run | Embed | Value | Node
    key: tuple[Any, str]


class _Change:
    """What is written and deleted so far."""

    def __init__(self, encoder: Encoder, deletes: dict[int, list[tuple[int, int]]]) -> None:
        self.encoder = encoder
        self.deletes = deletes

    def bring(self, shared: Shared, node: Node) -> None:
        """Make ``shared`` hold what ``node`` says."""
        self._bring_entries(shared, node)
        self._bring_sequence(shared, node)

    def _bring_entries(self, shared: Shared, node: Node) -> None:
        for key in sorted(shared.entries.keys() - node.attrs.keys()):
            if not shared.entries[key].deleted:
                self._delete(shared.entries[key])
        for key, value in node.attrs.items():
            item = shared.entries.get(key)
            if item is None:
                write_entry(self.encoder, shared.place, key, value, None)
                continue
            if not item.deleted:
                if _fits(item, value):
                    self.bring(item.content, value)
                    continue
                if item.ref != TYPE and not isinstance(value, Node) and _same_value(item, value):
                    continue
                self._delete(item)
            write_entry(self.encoder, shared.place, key, value, item.last_id)

    def _bring_sequence(self, shared: Shared, node: Node) -> None:
        have, want = _units(shared), _wanted(node)
        for start, end, first, last in differences([unit.key for unit in have], [wanted.key for wanted in want]):
            gone, new = have[start:end], want[first:last]
            # Nodes at both ends of a difference that can be changed in place are; what is left is replaced.
            while gone and new and _pairs(gone[0], new[0]):
                self.bring(gone.pop(0).item.content, new.pop(0).child)  # type: ignore[arg-type]
                start += 1
            while gone and new and _pairs(gone[-1], new[-1]):
                self.bring(gone.pop().item.content, new.pop().child)  # type: ignore[arg-type]
                end -= 1
            if gone or new:
                self._replace(shared, have, start, end, new)

    def _replace(self, shared: Shared, have: list[_Unit], start: int, end: int, new: list[_Wanted]) -> None:
        """Put ``new`` in the place of the units from ``start`` to ``end``, formatting in between included."""
        left = have[start - 1] if start else None
        right = have[end] if end < len(have) else None
        for unit in have[start:end]:
            self._delete(unit.item, unit.offset, unit.length)
        at = left.item.right if left else shared.start
        if left and right and left.item is right.item:
            at = None
        while at is not None and (right is None or at is not right.item):
            if at.ref == FORMAT and not at.deleted:
                self._delete(at)
            at = at.right
        write_children(
            self.encoder,
            shared.place,
            _joined(new),
            origin=left.last_id if left else None,
            right_origin=_neighbour(shared, left),
            before=left.marks if left else None,
            after=right.marks if right else None,
        )

    def _delete(self, item: Struct, offset: int = 0, length: int | None = None) -> None:
        ranges = self.deletes.setdefault(item.client, [])
        start, size = item.clock + offset, item.length if length is None else length
        if ranges and ranges[-1][0] + ranges[-1][1] == start:
            ranges[-1] = ranges[-1][0], ranges[-1][1] + size
        else:
            ranges.append((start, size))


def _neighbour(shared: Shared, left: _Unit | None) -> Id | None:
    """The id of whatever stands right of ``left``, deleted or not, as an editor would name it."""
    if left is not None and left.offset + left.length < left.item.length:
        return left.item.client, left.item.clock + left.offset + left.length
    item = left.item.right if left else shared.start
    return (item.client, item.clock) if item else None


def _units(shared: Shared) -> list[_Unit]:
    units: list[_Unit] = []
    marks: Marks = {}
    marks_key = ""
    item = shared.start
    while item is not None:
        if item.deleted:
            pass
        elif item.ref == FORMAT:
            marks = apply_format(marks, item)
            marks_key = canonical(marks) if marks else ""
        elif item.ref == STRING:
            offset = 0
            for char in item.content:
                size = 2 if char > "\uffff" else 1
                units.append(_Unit(item, offset, size, marks, (char, marks_key)))
                offset += size
        elif item.ref in (ANY, JSON):
            for offset, value in enumerate(item.content):
                units.append(_Unit(item, offset, 1, marks, (fingerprint(Value(value)), "")))
        else:
            units.append(_Unit(item, 0, 1, marks, (_item_key(item), marks_key)))
        item = item.right
    return units


def _item_key(item: Struct) -> bytes:
    if item.ref == TYPE:
        return fingerprint(read(item.content))
    return fingerprint(Embed(item.content) if item.ref == EMBED else Value(item.content))


def _wanted(node: Node) -> list[_Wanted]:
    wanted: list[_Wanted] = []
    for child in node.children:
        if isinstance(child, Value):
            wanted.append(_Wanted(child, (fingerprint(child), "")))
            continue
        marks_key = canonical(child.marks) if child.marks else ""
        if isinstance(child, Run):
            wanted.extend(_Wanted(Run(char, child.marks), (char, marks_key)) for char in child.text)
        elif isinstance(child, Embed):
            wanted.append(_Wanted(child, (fingerprint(Embed(child.value)), marks_key)))
        else:
            bare = Node(child.kind, child.name, child.attrs, child.children)
            wanted.append(_Wanted(child, (fingerprint(bare), marks_key)))
    return wanted


def _pairs(unit: _Unit, wanted: _Wanted) -> bool:
    return _fits(unit.item, wanted.child) and unit.key[1] == wanted.key[1]


def _fits(item: Struct, child: Any) -> bool:
    """Whether ``item`` is a shared type that can become ``child`` by changes inside it."""
    if item.ref != TYPE or not isinstance(child, Node):
        return False
    return bool(item.content.kind == child.kind and item.content.name == child.name)


def _same_value(item: Struct, value: Any) -> bool:
    have = item.content[-1] if item.ref in (ANY, JSON) else item.content
    return fingerprint(Value(have)) == fingerprint(Value(value))


def _joined(new: list[_Wanted]) -> list[Run | Embed | Value | Node]:
    children: list[Run | Embed | Value | Node] = []
    for wanted in new:
        child, last = wanted.child, children[-1] if children else None
        if isinstance(child, Run) and isinstance(last, Run) and last.marks == child.marks:
            last.text += child.text
        else:
            children.append(Run(child.text, child.marks) if isinstance(child, Run) else child)
    return children
