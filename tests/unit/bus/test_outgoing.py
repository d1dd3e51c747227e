"""What waits to be published is bounded in number, bytes and age, and stays in order."""

from __future__ import annotations

from collab.bus.outgoing import BATCH_BYTES, BATCH_COMMANDS, Bounds, Outgoing


def test_commands_leave_in_order_and_stay_until_answered() -> None:
    outgoing = Outgoing(Bounds())
    for number in range(5):
        outgoing.add(b"%d" % number, 0.0)
    assert outgoing.batch(0.0) == outgoing.batch(0.0) == [b"0", b"1", b"2", b"3", b"4"]
    outgoing.sent(2)
    outgoing.add(b"5", 0.0)
    assert outgoing.batch(0.0) == [b"2", b"3", b"4", b"5"]
    outgoing.sent(4)
    assert (len(outgoing), outgoing.batch(0.0), outgoing.dropped) == (0, [], 0)


def test_f09_what_does_not_fit_is_dropped_and_counted() -> None:
    outgoing = Outgoing(Bounds(commands=3, bytes=10))
    for command in (b"aaaa", b"bbbb", b"ccc", b"cc", b"", b"d"):
        outgoing.add(command, 0.0)
    assert outgoing.batch(0.0) == [b"aaaa", b"bbbb", b"cc"]
    assert outgoing.dropped == 3
    outgoing.sent(3)
    outgoing.add(b"x" * 10, 0.0)
    assert (outgoing.batch(0.0), outgoing.dropped) == ([b"x" * 10], 3)


def test_what_is_too_old_is_dropped_and_counted() -> None:
    outgoing = Outgoing(Bounds(seconds=5.0, bytes=2))
    outgoing.add(b"a", 0.0)
    outgoing.add(b"b", 3.0)
    assert outgoing.batch(5.0) == [b"a", b"b"]
    assert outgoing.batch(6.0) == [b"b"]
    outgoing.add(b"c", 6.0)
    assert (outgoing.batch(6.0), outgoing.dropped) == ([b"b", b"c"], 1)


def test_a_batch_is_bounded_but_never_empty() -> None:
    outgoing = Outgoing(Bounds())
    outgoing.add(b"x" * (BATCH_BYTES * 2), 0.0)
    outgoing.add(b"y" * BATCH_BYTES, 0.0)
    for _ in range(BATCH_COMMANDS + 1):
        outgoing.add(b"z", 0.0)
    sizes = []
    while batch := outgoing.batch(0.0):
        sizes.append(len(batch))
        outgoing.sent(len(batch))
    assert sizes == [1, 1, BATCH_COMMANDS, 1]
