"""What `Engine.digest` promises, on the inline and on the isolated engine: equal when the same is held and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from pycrdt import merge_updates

from collab.engine.digest import MAX_SCANNED_BYTES
from collab.engine.inline import InlineEngine
from collab.engine.isolated import IsolatedEngine
from collab.engine.port import Digest, Engine, Fold, Folded, Verdict
from collab.errors import EngineDied, Misuse
from collab.protocol.varint import write_varuint
from collab.protocol.yjs import read_state_vector
from tests.unit.engine.histories import circle, deleted, history, inserted, shuffled, typed

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHILD_OF_TEXT = b"\x01\x01\x02\x00\x04\x00\x01\x00\x01x\x00"
"""Claims to be a child of a character: native code panics."""


async def digest_of(engine: Engine, name: str, updates: Sequence[bytes]) -> bytes:
    """The hash of a replica that got ``updates`` one by one."""
    await engine.load(name, [])
    for update in updates:
        await engine.integrate(name, [update])
    return (await engine.digest(name)).hash


async def cold_digest_of(engine: Engine, name: str, updates: Sequence[bytes]) -> bytes:
    await engine.load(name, updates)
    return (await engine.digest(name)).hash


def every_other(clocks: int) -> bytes:
    """Deletes every other one of ``clocks`` of client 1: as many ranges as there can be."""
    ranges = b"".join(write_varuint(clock) + b"\x01" for clock in range(0, clocks, 2))
    return b"\x00\x01\x01" + write_varuint(clocks // 2) + ranges


async def test_e20_a_digest_is_16_bytes_and_the_state_vector(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("abc"), inserted("z", client=2, clock=5)])
    digest = await engine.digest(name)
    assert len(digest.hash) == 16
    assert read_state_vector(digest.state_vector) == {1: 3}


async def test_e20_an_empty_document_has_a_digest(engine: Engine, name: str) -> None:
    empty = await cold_digest_of(engine, name, [])
    assert empty != await cold_digest_of(engine, name, [inserted("a")])
    assert empty == await cold_digest_of(engine, name, [b"\x00\x00"])


@pytest.mark.parametrize("seed", range(12))
async def test_e20_any_order_and_any_batching_give_one_digest(engine: Engine, name: str, seed: int) -> None:
    log = history(seed)
    expected = await digest_of(engine, name, log)
    assert await digest_of(engine, name, shuffled(log, seed)) == expected
    assert await digest_of(engine, name, shuffled(log, seed, merge_some=True)) == expected
    assert await digest_of(engine, name, [merge_updates(*log)]) == expected
    assert await cold_digest_of(engine, name, shuffled(log, seed + 1, merge_some=True)) == expected
    await engine.load(name, [])
    await engine.integrate(name, shuffled(log, seed + 2))
    assert (await engine.digest(name)).hash == expected


@pytest.mark.parametrize("seed", range(12))
async def test_e20_any_order_gives_one_digest_while_something_waits(engine: Engine, name: str, seed: int) -> None:
    log = history(seed)
    del log[seed::9]
    expected = await digest_of(engine, name, log)
    assert await digest_of(engine, name, shuffled(log, seed)) == expected
    assert await digest_of(engine, name, shuffled(log, seed, merge_some=True)) == expected
    assert await cold_digest_of(engine, name, shuffled(log, seed + 1, merge_some=True)) == expected


@pytest.mark.parametrize("seed", range(4))
async def test_e20_a_folded_document_has_the_digest_of_its_updates(engine: Engine, name: str, seed: int) -> None:
    log = history(seed)
    folded = await engine.run(Fold(tuple(log)))
    assert isinstance(folded, Folded)
    assert await cold_digest_of(engine, name, [folded.update]) == await cold_digest_of(engine, name, log)


@pytest.mark.parametrize("seed", range(4))
async def test_e20_without_any_one_update_the_digest_is_another(engine: Engine, name: str, seed: int) -> None:
    log = history(seed)
    complete = await digest_of(engine, name, log)
    for left_out in range(len(log)):
        rest = log[:left_out] + log[left_out + 1 :]
        without = await cold_digest_of(engine, name, rest)
        verdict = (await engine.integrate(name, [log[left_out]])).outcomes[0].verdict
        assert (without == complete) is (verdict is Verdict.REDUNDANT)
        assert (await engine.digest(name)).hash == complete


async def test_e20_one_more_deletion_makes_another_digest(engine: Engine, name: str) -> None:
    digests = [await cold_digest_of(engine, name, [inserted("abcd")])]
    for span in ((0, 1), (1, 1), (2, 2)):
        await engine.integrate(name, [deleted(1, *span)])
        digests.append((await engine.digest(name)).hash)
    assert len(set(digests)) == len(digests)
    assert await cold_digest_of(engine, name, [deleted(1, 0, 4), inserted("abcd")]) == digests[-1]


async def test_e20_what_waits_counts_structs_and_deletions(engine: Engine, name: str) -> None:
    base = [inserted("ab")]
    digests = {
        await cold_digest_of(engine, name, base),
        await digest_of(engine, name, [*base, inserted("z", clock=5)]),
        await digest_of(engine, name, [*base, inserted("z", clock=6)]),
        await digest_of(engine, name, [*base, deleted(1, 5, 1)]),
        await digest_of(engine, name, [*base, deleted(9, 5, 1)]),
        await digest_of(engine, name, [*base, inserted("z", clock=5), deleted(1, 5, 1)]),
    }
    assert len(digests) == 6


async def test_e20_what_waits_twice_counts_once(engine: Engine, name: str) -> None:
    *_, fourth, fifth, sixth = typed(6)
    alone = await digest_of(engine, name, [fourth, fifth, sixth])
    assert await digest_of(engine, name, [merge_updates(fourth, fifth), merge_updates(fifth, sixth)]) == alone


async def test_e20_what_nobody_can_integrate_does_not_count(engine: Engine, name: str) -> None:
    """Alone it is refused, with something sound it is kept aside, and a cold load keeps it either way."""
    sound = inserted("sound", client=7)
    mixed = merge_updates(circle(), sound)
    expected = await digest_of(engine, name, [sound])
    assert await digest_of(engine, name, [circle(), sound]) == expected
    assert await digest_of(engine, name, [mixed]) == expected
    assert await cold_digest_of(engine, name, [mixed, circle()]) == expected


async def test_e20_a_digest_is_fresh_after_each_change_only(engine: Engine, name: str) -> None:
    keystrokes = typed(5)
    await engine.load(name, [])
    seen = [await engine.digest(name)]
    for update in keystrokes:
        await engine.integrate(name, [update])
        seen.append(await engine.digest(name))
        await engine.integrate(name, [update])
        await engine.integrate(name, [deleted(1, 0, 1)], probe=True)
        assert await engine.digest(name) == seen[-1]
    assert len({digest.hash for digest in seen}) == len(seen)


async def test_e20_as_many_deletions_as_there_can_be_are_compared_too(engine: Engine, name: str) -> None:
    clocks = MAX_SCANNED_BYTES
    text, mine, other = inserted("x" * clocks), every_other(clocks), inserted("y" * clocks, client=2)
    more = [deleted(2, 10, 5), deleted(1, 1, 1), deleted(3, 4, 1)]  # of another client, between two, and one that waits
    expected = await digest_of(engine, name, [text, other, mine, *more])
    assert await digest_of(engine, name, [*more, mine, merge_updates(other, text)]) == expected
    assert await cold_digest_of(engine, name, [*more, text, other, mine]) == expected
    for left_out in range(len(more)):
        rest = more[:left_out] + more[left_out + 1 :]
        assert await cold_digest_of(engine, name, [text, other, mine, *rest]) != expected


async def test_e13_a_digest_is_of_the_moment_it_was_asked_for(engine: Engine, name: str) -> None:
    first, second = typed(2)
    calls = [
        engine.load(name, []),
        engine.digest(name),
        engine.integrate(name, [first]),
        engine.digest(name),
        engine.digest(name),
        engine.integrate(name, [second]),
        engine.digest(name),
    ]
    digests = [answer for answer in await asyncio.gather(*calls) if isinstance(answer, Digest)]
    clocks = [read_state_vector(digest.state_vector).get(1, 0) for digest in digests]
    assert clocks == [0, 1, 1, 2]
    assert [digest.hash for digest in digests] == [
        await cold_digest_of(engine, name, typed(2)[:count]) for count in clocks
    ]


async def test_e14_a_digest_of_what_was_never_loaded_is_the_callers_mistake(engine: Engine, name: str) -> None:
    with pytest.raises(Misuse):
        await engine.digest(name)
    await engine.load(name, [])
    await engine.forget(name)
    with pytest.raises(Misuse):
        await engine.digest(name)


async def test_e14_a_digest_of_what_was_lost_says_so(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("ab")])
    await engine.digest(name)
    with pytest.raises(EngineDied):
        await engine.integrate(name, [CHILD_OF_TEXT])
    with pytest.raises(EngineDied):
        await engine.digest(name)


async def test_e17_a_closed_engine_gives_no_digest(engine: Engine) -> None:
    closed = InlineEngine() if isinstance(engine, InlineEngine) else IsolatedEngine(keep_warm=False)
    await closed.start()
    await closed.load("d", [])
    await closed.close()
    with pytest.raises((EngineDied, Misuse)):
        await closed.digest("d")
