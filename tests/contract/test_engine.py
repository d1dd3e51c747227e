"""What every engine promises; each test runs on the inline and on the isolated one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio
from pycrdt import Doc, Text, merge_updates

from collab.engine.inline import InlineEngine
from collab.engine.isolated import IsolatedEngine
from collab.engine.port import Diff, Engine, Fold, Folded, Integration, Verdict
from collab.engine.process import ProcessOptions
from collab.engine.waiting import MAX_WAITING_BYTES, MAX_WAITING_UPDATES
from collab.errors import CloseCode, CollabError, EngineDied, MalformedMessage, Misuse
from collab.protocol.yjs import read_state_vector, scan_update
from tests.unit.engine.histories import (
    FIVE_BYTE_PANIC,
    LYING_STATE_VECTOR,
    NOTHING_KNOWN,
    bomb,
    circle,
    deleted,
    history,
    inserted,
    shuffled,
    text_of,
    typed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL_DOCUMENT_BYTES = 4_000
BROKEN = b"\x01\x01"
V2_UPDATE = bytes.fromhex("000003c2010100000002410000050161016201630601010000010203")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["inline", "isolated"])
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    engine = _engine(request.param)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def engine(shared: Engine) -> Engine:
    """One engine for all tests: each has documents of its own."""
    return shared


def _engine(kind: str, *, max_document_bytes: int = 20 * 1024 * 1024) -> InlineEngine | IsolatedEngine:
    if kind == "inline":
        return InlineEngine(max_document_bytes=max_document_bytes)
    return IsolatedEngine(options=ProcessOptions(max_document_bytes=max_document_bytes), keep_warm=False)


def verdicts(integration: Integration) -> list[Verdict]:
    return [outcome.verdict for outcome in integration.outcomes]


async def whole(engine: Engine, document: str) -> bytes:
    return (await engine.diff(document, NOTHING_KNOWN)).update


async def test_e6_every_update_gets_its_own_verdict_in_order(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("ab")])
    integration = await engine.integrate(
        name, [inserted("c", clock=2), inserted("ab"), b"\x07", inserted("e", clock=9)]
    )
    assert verdicts(integration) == [Verdict.INTEGRATED, Verdict.REDUNDANT, Verdict.REFUSED, Verdict.PENDING]
    assert [outcome.code for outcome in integration.outcomes] == [None, None, CloseCode.MALFORMED, None]
    assert text_of(await whole(engine, name)) == "abc"


async def test_e6_merged_holds_what_integrated_and_what_waits_and_nothing_else(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("ab")])
    integration = await engine.integrate(name, [inserted("c", clock=2), inserted("ab"), inserted("e", clock=9)])
    assert integration.merged is not None
    assert scan_update(integration.merged).ranges == {1: [(2, 3), (9, 10)]}


async def test_e6_a_single_update_comes_back_as_the_bytes_received(engine: Engine, name: str) -> None:
    odd = inserted("ab")[:-1] + b"\x01\x01\x00"  # a delete set with an empty client: no re-encoding would keep it
    await engine.load(name, [])
    assert (await engine.integrate(name, [odd])).merged == odd


async def test_e6_nothing_new_gives_no_merged_update(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("ab"), deleted(1, 0, 1)])
    integration = await engine.integrate(name, [inserted("ab"), deleted(1, 0, 1), b"\x00\x00"])
    assert verdicts(integration) == [Verdict.REDUNDANT] * 3
    assert integration.merged is None


async def test_e6_a_deletion_is_something_new_although_all_clocks_are_known(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("ab")])
    integration = await engine.integrate(name, [deleted(1, 0, 1)])
    assert verdicts(integration) == [Verdict.INTEGRATED]
    assert [outcome.empty for outcome in integration.outcomes] == [True]
    assert text_of(await whole(engine, name)) == "b"


async def test_e6_of_what_repeats_only_what_was_lacking_comes_back(engine: Engine, name: str) -> None:
    first, second, third, fourth = typed(4)
    await engine.load(name, [first])
    await engine.integrate(name, [fourth])  # waits
    answer = await engine.integrate(name, [merge_updates(first, second, fourth)])
    assert answer.merged is not None
    assert scan_update(answer.merged).ranges == {1: [(1, 2)]}, "neither what is known nor what waited before"
    assert answer.brought == {0: answer.merged}
    answer = await engine.integrate(name, [third])
    assert (answer.merged, answer.brought) == (third, {}), "what it woke was in an answer already"
    assert (await engine.integrate(name, [merge_updates(*typed(4))])).merged is None
    waits = inserted("x", client=9, clock=1)
    answer = await engine.integrate(name, [waits])
    assert answer.outcomes[0].verdict is Verdict.PENDING
    assert answer.merged is not None
    assert scan_update(answer.merged).ranges == {9: [(1, 2)]}


async def test_k6_what_a_repeating_update_wakes_does_not_come_back_with_it(engine: Engine, name: str) -> None:
    first, second, third = typed(3)
    await engine.load(name, [first])
    await engine.integrate(name, [third])  # waits; its author is not told that it is saved before second is
    answer = await engine.integrate(name, [merge_updates(first, second)])
    assert answer.merged is not None
    assert scan_update(answer.merged).ranges == {1: [(1, 2)]}
    assert text_of(await whole(engine, name)) == text_of(merge_updates(first, second, third))


async def test_e6_a_repeating_update_does_not_bring_the_deletions_of_others(engine: Engine, name: str) -> None:
    text = inserted("ab" * 500)
    await engine.load(name, [text, *(deleted(1, 2 * index, 1) for index in range(500))])
    answer = await engine.integrate(name, [merge_updates(text, inserted("c", clock=1000), deleted(1, 1, 1))])
    assert answer.merged is not None
    scan = scan_update(answer.merged)
    assert (scan.ranges, dict(scan.deletes)) == ({1: [(1000, 1001)]}, {1: [(1, 2)]})


async def follow(engine: Engine, name: str, updates: list[bytes]) -> Integration | CollabError:
    answered: asyncio.Future[Integration | CollabError] = asyncio.get_running_loop().create_future()
    engine.follow(name, updates, answered.set_result)
    assert not answered.done(), "called back before it returned"
    return await answered


async def test_e6_what_is_followed_gets_the_verdicts_of_integration_and_is_not_merged(
    engine: Engine, name: str
) -> None:
    await engine.load(name, [])
    first, second, third = typed(3)
    answer = await follow(engine, name, [first, third, second, second, BROKEN])
    assert isinstance(answer, Integration)
    assert [outcome.verdict.value for outcome in answer.outcomes] == [
        "integrated",
        "pending",
        "integrated",
        "redundant",
        "refused",
    ]
    assert answer.merged is None
    assert text_of((await engine.diff(name, NOTHING_KNOWN)).update) == "abc"


async def test_e6_an_answer_tells_the_clocks_that_no_typed_string_tells(engine: Engine, name: str) -> None:
    await engine.load(name, [])
    first, second, third = typed(3)
    assert (await engine.integrate(name, [first])).clocks == {1: 1}  # names its root, so it is no plain keystroke
    assert (await engine.integrate(name, [second])).clocks == {}
    assert (await engine.integrate(name, [merge_updates(third, inserted("ab", client=2))])).clocks == {1: 3, 2: 2}


async def test_e13_what_is_followed_keeps_its_place_among_other_calls(engine: Engine, name: str) -> None:
    await engine.load(name, [])
    keystrokes = typed(4)
    before = asyncio.ensure_future(engine.integrate(name, keystrokes[:2]))
    await asyncio.sleep(0)
    followed = asyncio.ensure_future(follow(engine, name, keystrokes[2:]))
    await asyncio.sleep(0)
    after = await engine.diff(name, NOTHING_KNOWN)
    assert text_of(after.update) == "abcd"
    await asyncio.gather(before, followed)


async def test_e14_following_what_was_never_loaded_is_the_callers_mistake(engine: Engine, name: str) -> None:
    assert isinstance(await follow(engine, name, typed(1)), Misuse)


async def test_e7_an_update_past_a_gap_waits_and_integrates_when_the_gap_is_filled(engine: Engine, name: str) -> None:
    first, second, third = typed(3)
    await engine.load(name, [first])
    assert verdicts(await engine.integrate(name, [third])) == [Verdict.PENDING]
    integration = await engine.integrate(name, [second])
    assert verdicts(integration) == [Verdict.INTEGRATED]
    assert integration.merged == second, "what waited was sent on when it came"
    assert text_of(await whole(engine, name)) == "abc"
    assert verdicts(await engine.integrate(name, [third])) == [Verdict.REDUNDANT]


async def test_e7_a_deletion_ahead_of_its_structs_waits(engine: Engine, name: str) -> None:
    await engine.load(name, [])
    assert verdicts(await engine.integrate(name, [deleted(1, 1, 1)])) == [Verdict.PENDING]
    assert verdicts(await engine.integrate(name, [inserted("abc")])) == [Verdict.INTEGRATED]
    assert text_of(await whole(engine, name)) == "ac"


async def test_e7_what_waits_is_part_of_every_diff(engine: Engine, name: str) -> None:
    first, second, third = typed(3)
    await engine.load(name, [first])
    await engine.integrate(name, [third])
    diff = await engine.diff(name, NOTHING_KNOWN)
    assert read_state_vector(diff.state_vector) == {1: 1}
    assert text_of(merge_updates(diff.update, second)) == "abc"


async def test_e6_an_update_that_repeats_what_waits_is_still_pending(engine: Engine, name: str) -> None:
    first, second, third, fourth = typed(4)
    erased = deleted(1, 3, 1)
    await engine.load(name, [first])
    await engine.integrate(name, [fourth, erased])
    repeats = [fourth, merge_updates(first, fourth), erased, merge_updates(fourth, erased)]
    for probe in (True, False):
        answer = await engine.integrate(name, repeats, probe=probe)
        assert verdicts(answer) == [Verdict.STILL_PENDING] * 4
        assert (answer.merged, answer.brought) == (None, {})
    more = merge_updates(second, fourth)
    assert verdicts(await engine.integrate(name, [more], probe=True)) == [Verdict.PENDING], "for what it is new in"
    answer = await engine.integrate(name, [more])
    assert verdicts(answer) == [Verdict.PENDING]
    assert answer.merged is not None
    assert scan_update(answer.merged).ranges == {1: [(1, 2)]}, "what waited was sent on when it came"
    await engine.integrate(name, [third])
    assert verdicts(await engine.integrate(name, repeats)) == [Verdict.REDUNDANT] * 4


async def test_e7_the_part_that_can_integrate_does_not_wait_for_the_rest(engine: Engine, name: str) -> None:
    first, second, _, fourth = typed(4)
    await engine.load(name, [first])
    assert verdicts(await engine.integrate(name, [merge_updates(second, fourth)])) == [Verdict.PENDING]
    assert read_state_vector((await engine.diff(name, NOTHING_KNOWN)).state_vector) == {1: 2}


@pytest.mark.parametrize("merge_some", [False, True], ids=["single", "merged"])
@pytest.mark.parametrize("seed", range(12))
async def test_e8_any_order_ends_in_the_same_document(
    engine: Engine, name: str, seed: int, *, merge_some: bool
) -> None:
    log = history(seed)
    expected: Doc[Text] = Doc()
    expected.apply_update(merge_updates(*log))
    any_order = shuffled(log, seed, merge_some=merge_some)
    await engine.load(name, [])
    for update in any_order:
        assert verdicts(await engine.integrate(name, [update])) != [Verdict.REFUSED]
    diff = await engine.diff(name, NOTHING_KNOWN)
    assert read_state_vector(diff.state_vector) == read_state_vector(expected.get_state())
    assert text_of(diff.update) == str(expected.get("t", type=Text))
    assert scan_update(diff.update).deletes == scan_update(expected.get_update()).deletes
    loaded = await engine.load(name + ":cold", any_order)
    assert (loaded.waiting, loaded.refused) == ((), ())
    assert text_of(await whole(engine, name + ":cold")) == text_of(diff.update)


async def test_e9_structs_that_wait_for_each_other_are_refused_and_hold_up_nothing(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("x", client=7)])
    integration = await engine.integrate(name, [circle(), inserted("y", client=7, clock=1)])
    assert verdicts(integration) == [Verdict.REFUSED, Verdict.INTEGRATED]
    diff = await engine.diff(name, NOTHING_KNOWN)
    assert read_state_vector(diff.state_vector) == {7: 2}
    assert text_of(diff.update) == "xy"


async def test_e9_of_an_update_with_a_circle_the_sound_part_stays(engine: Engine, name: str) -> None:
    await engine.load(name, [])
    mixed = merge_updates(circle(), inserted("sound", client=7))
    assert verdicts(await engine.integrate(name, [mixed])) == [Verdict.PENDING]
    assert read_state_vector((await engine.diff(name, NOTHING_KNOWN)).state_vector) == {7: 5}
    assert verdicts(await engine.integrate(name, [inserted("!", client=7, clock=5)])) == [Verdict.INTEGRATED]
    loaded = await engine.load(name, [circle(), mixed, inserted("!", client=7, clock=5)])
    assert (loaded.waiting, loaded.refused) == ((0, 1), ())
    assert read_state_vector(loaded.state_vector) == {7: 6}


async def test_e9_what_waits_for_itself_and_is_kept_may_be_repeated(engine: Engine, name: str) -> None:
    await engine.load(name, [])
    mixed = merge_updates(circle(), inserted("sound", client=7))
    await engine.integrate(name, [mixed])
    everything = (await engine.diff(name, NOTHING_KNOWN)).update
    for probe in (True, False):
        for repeated in (mixed, circle(), everything):
            assert verdicts(await engine.integrate(name, [repeated], probe=probe)) == [Verdict.STILL_PENDING]
    more = merge_updates(circle(), inserted("!", client=7, clock=5))
    assert verdicts(await engine.integrate(name, [more])) == [Verdict.PENDING]
    assert text_of((await engine.diff(name, NOTHING_KNOWN)).update) == "sound!"


async def test_e9_waiting_updates_have_a_budget(engine: Engine, name: str) -> None:
    await engine.load(name, [])
    gaps = [deleted(client, 0, 1) for client in range(1, MAX_WAITING_UPDATES + 2)]
    outcomes = (await engine.integrate(name, gaps)).outcomes
    assert {outcome.verdict for outcome in outcomes[:-1]} == {Verdict.PENDING}
    assert (outcomes[-1].verdict, outcomes[-1].code) == (Verdict.REFUSED, CloseCode.MALFORMED)


async def test_e9_waiting_bytes_have_a_budget(engine: Engine, name: str) -> None:
    await engine.load(name, [])
    outcome = (await engine.integrate(name, [inserted("x" * MAX_WAITING_BYTES, clock=5)])).outcomes[0]
    assert (outcome.verdict, outcome.code) == (Verdict.REFUSED, CloseCode.MALFORMED)
    assert verdicts(await engine.integrate(name, [inserted("ok")])) == [Verdict.INTEGRATED]


async def test_e10_a_probe_tells_and_changes_nothing(engine: Engine, name: str) -> None:
    first, second, third = typed(3)
    await engine.load(name, [first, second, deleted(1, 0, 1)])
    before = await engine.diff(name, NOTHING_KNOWN)
    proposed = [third, second, deleted(1, 0, 1), deleted(1, 1, 1), inserted("z", clock=8), FIVE_BYTE_PANIC]
    integration = await engine.integrate(name, proposed, probe=True)
    assert verdicts(integration) == [
        Verdict.INTEGRATED,
        Verdict.REDUNDANT,
        Verdict.REDUNDANT,
        Verdict.INTEGRATED,
        Verdict.PENDING,
        Verdict.REFUSED,
    ]
    assert integration.merged is None
    assert await engine.diff(name, NOTHING_KNOWN) == before


async def test_e10_a_probe_of_everything_the_document_told_finds_nothing_new(engine: Engine, name: str) -> None:
    await engine.load(name, [*history(3), inserted("far ahead", client=99, clock=5)])
    assert verdicts(await engine.integrate(name, [await whole(engine, name)], probe=True)) == [Verdict.STILL_PENDING]


@pytest.mark.parametrize(
    "update",
    [
        pytest.param(FIVE_BYTE_PANIC, id="five-byte-panic"),
        pytest.param(bomb(30_000), id="bomb"),
        pytest.param(bomb(101), id="just-too-deep"),
        pytest.param(inserted("ab") + b"\x00", id="trailing-byte"),
        pytest.param(inserted("ab")[:-1], id="truncated"),
        pytest.param(inserted("ab", client=1 << 53), id="client-too-large"),
        pytest.param(inserted("ab", clock=1 << 32), id="clock-too-large"),
        pytest.param(b"\xff\xff\xff\x7f", id="too-many-clients"),
        pytest.param(b"", id="empty"),
    ],
)
async def test_e6_what_native_code_must_not_read_is_refused_as_malformed(
    engine: Engine, name: str, update: bytes
) -> None:
    await engine.load(name, [inserted("ab")])
    outcomes = (await engine.integrate(name, [update, inserted("c", clock=2)])).outcomes
    assert (outcomes[0].verdict, outcomes[0].code) == (Verdict.REFUSED, CloseCode.MALFORMED)
    assert outcomes[0].detail
    assert outcomes[1].verdict is Verdict.INTEGRATED


async def test_e6_a_v2_update_is_refused_as_an_encoding_not_served(engine: Engine, name: str) -> None:
    await engine.load(name, [])
    outcome = (await engine.integrate(name, [V2_UPDATE])).outcomes[0]
    assert (outcome.verdict, outcome.code) == (Verdict.REFUSED, CloseCode.UNSUPPORTED_ENCODING)


async def test_e2_an_update_native_code_gives_up_on_is_named_and_loses_only_its_document(
    engine: Engine, name: str
) -> None:
    text_as_parent = b"\x01\x01\x02\x00\x04\x00\x01\x00\x01x\x00"  # claims to be a child of a character
    await engine.load(name, [inserted("ab")])
    await engine.load(name + ":other", [inserted("ab")])
    with pytest.raises(EngineDied) as died:
        await engine.integrate(name, [inserted("c", clock=2), text_as_parent])
    assert died.value.culprit == 1
    with pytest.raises(EngineDied):
        await engine.integrate(name, [inserted("c", clock=2)])
    assert verdicts(await engine.integrate(name + ":other", [inserted("c", clock=2)])) == [Verdict.INTEGRATED]
    loaded = await engine.load(name, [inserted("ab"), text_as_parent])
    assert loaded.refused == (1,)
    assert text_of(await whole(engine, name)) == "ab"


async def test_e2_an_update_is_not_blamed_for_what_it_wakes(engine: Engine, name: str) -> None:
    text_as_parent = b"\x01\x01\x02\x00\x04\x00\x01\x02\x01x\x00"
    await engine.load(name, [inserted("ab")])
    assert verdicts(await engine.integrate(name, [text_as_parent])) == [Verdict.PENDING]
    assert verdicts(await engine.integrate(name, [inserted("c", clock=2)])) == [Verdict.INTEGRATED]
    assert verdicts(await engine.integrate(name, [inserted("d", clock=3)])) == [Verdict.INTEGRATED]
    assert read_state_vector((await engine.diff(name, NOTHING_KNOWN)).state_vector) == {1: 4}


async def test_e11_poison_is_listed_and_the_document_is_built_without_it(engine: Engine, name: str) -> None:
    first, second, third = typed(3)
    loaded = await engine.load(name, [first, FIVE_BYTE_PANIC, third, bomb(30_000), second])
    assert (loaded.waiting, loaded.refused) == ((), (1, 3))
    assert text_of(await whole(engine, name)) == "abc"


async def test_e11_any_number_of_poisoned_rows_leaves_the_document_loadable(engine: Engine, name: str) -> None:
    keystrokes = typed(300)
    children_of_text = [b"\x01\x01" + bytes([client]) + b"\x00\x04\x00\x01\x00\x01x\x00" for client in range(2, 42)]
    rows = [row for pair in zip(keystrokes[:40], children_of_text, strict=True) for row in pair] + keystrokes[40:]
    followers = [inserted("y", client=client, clock=1) for client in range(2, 42)]
    loaded = await engine.load(name, rows + followers)
    assert loaded.refused == tuple(range(1, 80, 2))
    assert loaded.waiting == tuple(range(len(rows), len(rows) + 40)), "what follows on poison waits for it"
    assert read_state_vector(loaded.state_vector) == {1: 300}
    assert verdicts(await engine.integrate(name, [inserted("!", clock=300)])) == [Verdict.INTEGRATED]


async def test_e11_a_load_replaces_what_was_held(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("old")])
    await engine.load(name, [inserted("new", client=2)])
    assert text_of(await whole(engine, name)) == "new"


async def test_e12_a_diff_holds_exactly_what_is_lacking(engine: Engine, name: str) -> None:
    await engine.load(name, typed(10))
    diff = await engine.diff(name, b"\x01\x01\x04")
    assert scan_update(diff.update).ranges == {1: [(4, 10)]}
    assert read_state_vector(diff.state_vector) == {1: 10}
    assert (await engine.diff(name, diff.state_vector)).update == b"\x00\x00"


async def test_e12_a_diff_is_fresh_after_each_change(engine: Engine, name: str) -> None:
    keystrokes = typed(5)
    await engine.load(name, [])
    seen = [await whole(engine, name)]
    for update in keystrokes:
        await engine.integrate(name, [update])
        seen.append(await whole(engine, name))
    assert all(len(earlier) < len(later) for earlier, later in pairwise(seen))
    assert text_of(seen[-1]) == "abcde"


@pytest.mark.parametrize(
    "state_vector", [LYING_STATE_VECTOR, b"", b"\x01\x01", b"\x00\x00", b"\xff" * 64], ids=bytes.hex
)
async def test_e12_an_unreadable_state_vector_is_malformed_and_harms_nothing(
    engine: Engine, name: str, state_vector: bytes
) -> None:
    await engine.load(name, [inserted("ab")])
    with pytest.raises(MalformedMessage):
        await engine.diff(name, state_vector)
    assert text_of(await whole(engine, name)) == "ab"


async def test_e13_calls_for_one_document_are_executed_in_the_order_made(engine: Engine, name: str) -> None:
    calls = [engine.integrate(name, [update]) for update in typed(50)]
    _, *_, last = await asyncio.gather(engine.load(name, []), *calls, engine.diff(name, NOTHING_KNOWN))
    assert isinstance(last, Diff)
    assert text_of(last.update) == "".join(chr(97 + number % 26) for number in range(50))


async def test_e14_a_document_that_was_never_loaded_is_the_callers_mistake(engine: Engine, name: str) -> None:
    with pytest.raises(Misuse):
        await engine.integrate(name, [inserted("ab")])
    with pytest.raises(Misuse):
        await engine.diff(name, NOTHING_KNOWN)
    await engine.forget(name)


async def test_e14_a_forgotten_document_is_not_loaded(engine: Engine, name: str) -> None:
    await engine.load(name, [inserted("ab")])
    await engine.forget(name)
    with pytest.raises(Misuse):
        await engine.diff(name, NOTHING_KNOWN)


async def test_e15_a_fold_covers_what_it_holds_and_leaves_out_what_waits(engine: Engine) -> None:
    first, second, third, fourth = typed(4)
    folded = await engine.run(Fold((first, fourth, FIVE_BYTE_PANIC, second, deleted(1, 0, 1))))
    assert isinstance(folded, Folded)
    assert folded.covered == (0, 3, 4)
    assert read_state_vector(folded.state_vector) == {1: 2}
    assert text_of(merge_updates(folded.update, third, fourth)) == "bcd"


async def test_e15_a_fold_lets_go_of_deleted_text(engine: Engine) -> None:
    folded = await engine.run(Fold((inserted("secret " * 1_000), deleted(1, 0, 7_000))))
    assert isinstance(folded, Folded)
    assert len(folded.update) < 50


async def test_e16_a_full_document_takes_deletions_only(request: pytest.FixtureRequest, shared: Engine) -> None:
    engine = _engine(
        "inline" if isinstance(shared, InlineEngine) else "isolated", max_document_bytes=SMALL_DOCUMENT_BYTES
    )
    try:
        await engine.load("d", [inserted("x" * 3_000)])
        more = inserted("y" * 2_000, clock=3_000)
        integration = await engine.integrate("d", [more, inserted("x" * 3_000), deleted(1, 0, 2_500), more])
        assert verdicts(integration) == [Verdict.REFUSED, Verdict.REDUNDANT, Verdict.INTEGRATED, Verdict.INTEGRATED]
        assert integration.outcomes[0].code is CloseCode.QUOTA
    finally:
        await engine.close()


async def test_e17_a_closed_engine_takes_nothing_more(shared: Engine) -> None:
    engine = _engine("inline" if isinstance(shared, InlineEngine) else "isolated")
    await engine.start()
    await engine.load("d", [])
    await engine.close()
    with pytest.raises(EngineDied):
        await engine.load("d", [])
    with pytest.raises(EngineDied):
        await engine.run(Fold(()))
