"""What only the isolated engine promises: whatever its processes do, a call is answered or raises EngineDied."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from collab.engine.isolated import BULK_DOCUMENT_BYTES, BULK_UPDATE_BYTES, IsolatedEngine
from collab.engine.port import Fold, Folded, Integration, Verdict
from collab.engine.process import ProcessOptions
from collab.errors import EngineDied
from tests.attacks.fuzz_engine import fuzz
from tests.unit.engine.failing_child import ABORT, BABBLE, BURN, HANG
from tests.unit.engine.histories import NOTHING_KNOWN, deleted, inserted, nested, text_of, typed
from tests.unit.node.support import Writer

FAILING = ProcessOptions(command=("-P", "-m", "tests.unit.engine.failing_child"))
ABORTING = inserted(ABORT.decode(), client=666)
HANGING = inserted(HANG.decode(), client=666)
BURNING = inserted(BURN.decode(), client=666)
BABBLING = inserted(BABBLE.decode(), client=666)
FUZZ_COUNT = int(os.environ.get("COLLAB_FUZZ_COUNT", "3000"))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def engine(stack: AsyncExitStack) -> IsolatedEngine:
    """An engine whose processes fail where an update asks for it."""
    return await started(stack, IsolatedEngine(options=FAILING))


async def started(stack: AsyncExitStack, engine: IsolatedEngine) -> IsolatedEngine:
    stack.push_async_callback(engine.close)
    await engine.start()
    return engine


async def died(engine: IsolatedEngine, document: str, *updates: bytes) -> EngineDied:
    with pytest.raises(EngineDied) as caught:
        await engine.integrate(document, updates)
    return caught.value


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
async def test_e1_every_call_under_way_is_answered_or_raises_and_a_load_heals(
    engine: IsolatedEngine, how: signal.Signals
) -> None:
    keystrokes = typed(20)
    documents = [f"d{number}" for number in range(20)]
    await asyncio.gather(*(engine.load(document, []) for document in documents))
    calls = [engine.integrate(document, [update]) for document in documents for update in keystrokes]
    gathering = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    os.kill(engine.pids["live"], how)
    answers = await gathering
    assert all(isinstance(answer, Integration | EngineDied) for answer in answers)
    await asyncio.gather(*(engine.load(document, keystrokes) for document in documents))
    for document in documents:
        assert text_of((await engine.diff(document, NOTHING_KNOWN)).update) == "abcdefghijklmnopqrst"
    assert engine.counters.restarts == 1


async def test_e1_a_lost_document_says_so_until_it_is_loaded_again(engine: IsolatedEngine) -> None:
    await engine.load("victim", [inserted("ab")])
    await engine.load("killer", [])
    await died(engine, "killer", ABORTING)
    error = await died(engine, "victim", inserted("c", clock=2))
    assert error.culprit is None
    with pytest.raises(EngineDied):
        await engine.diff("victim", NOTHING_KNOWN)
    await engine.load("victim", [inserted("ab")])
    assert text_of((await engine.diff("victim", NOTHING_KNOWN)).update) == "ab"


async def test_e2_the_update_that_killed_is_named(engine: IsolatedEngine) -> None:
    await engine.load("d", [])
    await engine.load("bystander", [])
    killing = died(engine, "d", inserted("ab"), inserted("c", clock=2), ABORTING, inserted("d", clock=3))
    beside = engine.integrate("bystander", [inserted("ab")])
    killer, bystander = await asyncio.gather(killing, beside, return_exceptions=True)
    assert isinstance(killer, EngineDied)
    assert killer.culprit == 2
    assert isinstance(bystander, EngineDied)
    assert bystander.culprit is None


async def test_e3_a_suspect_lives_apart_and_its_next_death_harms_nobody(engine: IsolatedEngine) -> None:
    await engine.load("suspect", [])
    await died(engine, "suspect", ABORTING)
    await engine.load("honest", [inserted("ab")])
    await engine.load("suspect", [])
    live = engine.pids["live"]
    assert engine.pids["suspect"] != live
    assert (await died(engine, "suspect", inserted("ab"), ABORTING)).culprit == 1
    assert text_of((await engine.diff("honest", NOTHING_KNOWN)).update) == "ab"
    assert engine.pids["live"] == live
    await engine.load("suspect", [inserted("ab")])
    assert text_of((await engine.diff("suspect", NOTHING_KNOWN)).update) == "ab"


async def test_e21_a_document_that_is_sent_something_large_moves_with_all_it_holds(engine: IsolatedEngine) -> None:
    writer = Writer()
    await engine.load("d", [writer.type("loaded ")])
    await engine.load("bystander", [])
    waits = inserted("later", client=77, clock=4)
    first, late = writer.type("typed "), engine.integrate("d", [waits])
    calls = [late, engine.integrate("d", [first]), engine.integrate("d", [writer.type("x" * BULK_UPDATE_BYTES)])]
    calls += [engine.integrate("d", [writer.type(letter)]) for letter in "while it moves"]
    answers = await asyncio.gather(*calls)
    verdicts = [answer.outcomes[0].verdict for answer in answers]
    assert verdicts == [Verdict.PENDING] + [Verdict.INTEGRATED] * (len(calls) - 1)
    assert engine.pids["bulk"] not in (engine.pids["live"], await engine.spare_pid())
    text = "loaded typed " + "x" * BULK_UPDATE_BYTES + "while it moves"
    whole = (await engine.diff("d", NOTHING_KNOWN)).update
    assert text_of(whole) == text
    assert (await engine.integrate("d", [inserted("soon", client=77)])).outcomes[0].verdict is Verdict.INTEGRATED
    assert sorted(text_of((await engine.diff("d", NOTHING_KNOWN)).update)) == sorted(text + "soonlater")
    await engine.forget("d")
    assert "bulk" not in engine.pids
    assert (await engine.integrate("bystander", [inserted("ab")])).outcomes[0].verdict is Verdict.INTEGRATED


async def test_e21_a_large_document_is_loaded_apart_and_its_death_harms_nobody_else(engine: IsolatedEngine) -> None:
    writer = Writer()
    large = writer.type("x" * BULK_DOCUMENT_BYTES)
    await engine.load("small", [inserted("ab")])
    await engine.load("large", [large])
    assert engine.pids["bulk"] != engine.pids["live"]
    assert (await died(engine, "large", ABORTING)).culprit == 0
    assert text_of((await engine.diff("small", NOTHING_KNOWN)).update) == "ab"
    await engine.load("large", [large])
    assert len(text_of((await engine.diff("large", NOTHING_KNOWN)).update)) == BULK_DOCUMENT_BYTES


async def test_e21_an_engine_that_dies_while_a_document_moves_blames_no_update(engine: IsolatedEngine) -> None:
    writer = Writer()
    await engine.load("d", [writer.type("typed")])
    large = engine.integrate("d", [writer.type("x" * BULK_UPDATE_BYTES)])
    behind = engine.integrate("d", [writer.type("y")])
    moving = asyncio.gather(large, behind, return_exceptions=True)
    await asyncio.sleep(0)
    os.kill(engine.pids["live"], signal.SIGKILL)
    for answer in await moving:
        assert isinstance(answer, EngineDied)
        assert answer.culprit is None
    with pytest.raises(EngineDied):
        await engine.diff("d", NOTHING_KNOWN)
    await engine.load("d", [inserted("healed", client=9)])
    assert text_of((await engine.diff("d", NOTHING_KNOWN)).update) == "healed"


async def test_e3_the_suspect_process_ends_with_its_last_document(engine: IsolatedEngine) -> None:
    await engine.load("suspect", [])
    await died(engine, "suspect", ABORTING)
    await engine.load("suspect", [])
    assert "suspect" in engine.pids
    await engine.forget("suspect")
    assert "suspect" not in engine.pids


async def test_e3_suspicion_ends(stack: AsyncExitStack) -> None:
    engine = await started(stack, IsolatedEngine(options=FAILING, suspect_for_s=-1.0))
    await engine.load("d", [])
    await died(engine, "d", ABORTING)
    await engine.load("d", [])
    assert set(engine.pids) == {"live"}


async def test_e2_a_suspects_load_names_the_row_that_kills(engine: IsolatedEngine) -> None:
    rows = [inserted("ab"), ABORTING, inserted("c", clock=2)]
    with pytest.raises(EngineDied) as first:
        await engine.load("d", rows)
    with pytest.raises(EngineDied) as second:
        await engine.load("d", rows)
    assert (first.value.culprit, second.value.culprit) == (None, 1)
    loaded = await engine.load("d", [rows[0], rows[2]])
    assert loaded.refused == ()


async def test_e4_a_call_past_its_deadline_costs_the_process_its_life(stack: AsyncExitStack) -> None:
    engine = await started(stack, IsolatedEngine(options=FAILING, live_deadline_s=0.2))
    await engine.load("d", [])
    error = await died(engine, "d", inserted("ab"), HANGING)
    assert error.culprit == 1
    assert engine.counters.deadline_kills == 1
    await engine.load("d", [inserted("ab")])


async def test_e4_a_call_that_burns_cpu_past_its_deadline_is_ended(stack: AsyncExitStack) -> None:
    engine = await started(stack, IsolatedEngine(options=FAILING, live_deadline_s=0.5))
    await engine.load("d", [])
    assert (await died(engine, "d", BURNING)).culprit == 0
    assert engine.counters.deadline_kills == 1


async def test_e4_a_stopped_process_is_replaced(stack: AsyncExitStack) -> None:
    engine = await started(stack, IsolatedEngine(live_deadline_s=0.2))
    await engine.load("d", [])
    os.kill(engine.pids["live"], signal.SIGSTOP)
    os.waitid(os.P_PID, engine.pids["live"], os.WSTOPPED | os.WNOWAIT)
    assert (await died(engine, "d", inserted("ab"))).culprit is None
    await engine.load("d", [])


async def test_e1_nonsense_for_an_answer_costs_the_process_its_life(engine: IsolatedEngine) -> None:
    await engine.load("d", [])
    await died(engine, "d", BABBLING)
    await engine.load("d", [])
    assert [outcome.verdict for outcome in (await engine.integrate("d", [inserted("ab")])).outcomes] == [
        Verdict.INTEGRATED
    ]


async def test_e1_a_job_that_kills_fails_and_its_neighbours_are_done_again(engine: IsolatedEngine) -> None:
    jobs = [Fold((inserted("ab"),)), Fold((ABORTING,)), Fold((inserted("cd"),))]
    first, killer, last = await asyncio.gather(*map(engine.run, jobs), return_exceptions=True)
    assert isinstance(killer, EngineDied)
    assert isinstance(first, Folded)
    assert isinstance(last, Folded)
    assert (text_of(first.update), text_of(last.update)) == ("ab", "cd")


async def test_e1_jobs_do_not_touch_replicas(engine: IsolatedEngine) -> None:
    await engine.load("d", [inserted("ab")])
    with pytest.raises(EngineDied):
        await engine.run(Fold((ABORTING,)))
    assert text_of((await engine.diff("d", NOTHING_KNOWN)).update) == "ab"


async def test_e1_mutated_updates_never_reach_the_caller_as_anything_but_engine_died(stack: AsyncExitStack) -> None:
    engine = await started(stack, IsolatedEngine())
    summary = await fuzz(engine, FUZZ_COUNT, seed=20)
    assert sum(summary.verdicts.values()) > FUZZ_COUNT // 2
    assert summary.verdicts["integrated"] > 0
    assert summary.canary_edits > 0


async def test_e1_nesting_built_level_by_level_costs_nobody_an_engine(stack: AsyncExitStack) -> None:
    engine = await started(stack, IsolatedEngine())
    await engine.load("honest", [inserted("ab")])
    await engine.load("deep", [])
    for first in range(0, 60_000, 2_000):
        (outcome,) = (await engine.integrate("deep", [nested(2_000, first=first)])).outcomes
        assert outcome.verdict is Verdict.INTEGRATED
    (outcome,) = (await engine.integrate("deep", [deleted(1, 0, 1)])).outcomes
    assert outcome.verdict is Verdict.INTEGRATED
    assert text_of((await engine.diff("honest", NOTHING_KNOWN)).update) == "ab"
    assert engine.counters.restarts == 0


async def test_e1_an_engine_that_cannot_start_says_so(stack: AsyncExitStack) -> None:
    engine = IsolatedEngine(options=ProcessOptions(command=("-c", "raise SystemExit(3)")), keep_warm=False)
    stack.push_async_callback(engine.close)
    with pytest.raises(EngineDied):
        await engine.start()
    with pytest.raises(EngineDied):
        await engine.load("d", [])


async def test_e1_a_dead_spare_is_not_handed_over(engine: IsolatedEngine) -> None:
    spare = await engine.spare_pid()
    os.kill(spare, signal.SIGKILL)
    os.kill(engine.pids["live"], signal.SIGKILL)
    await _gone(spare)
    for _ in range(100):
        try:
            await engine.load("d", [inserted("ab")])
            break
        except EngineDied:
            continue
    assert engine.pids["live"] != spare


# Batches


async def test_e18_calls_of_one_turn_travel_in_one_batch(engine: IsolatedEngine) -> None:
    documents = [f"d{number}" for number in range(50)]
    await asyncio.gather(*(engine.load(document, []) for document in documents))
    before = engine.counters.batches
    await asyncio.gather(*(engine.integrate(document, [inserted("ab")]) for document in documents))
    assert engine.counters.batches == before + 1


async def test_e18_a_thousand_joiners_share_one_answer(engine: IsolatedEngine) -> None:
    await engine.load("d", [inserted("ab")])
    before = engine.counters.calls
    diffs = await asyncio.gather(*(engine.diff("d", NOTHING_KNOWN) for _ in range(1_000)))
    assert engine.counters.calls == before + 1
    assert all(diff is diffs[0] for diff in diffs)
    await engine.integrate("d", [inserted("c", clock=2)])
    assert text_of((await engine.diff("d", NOTHING_KNOWN)).update) == "abc"


async def test_e18_a_diff_asked_for_after_an_update_holds_it(engine: IsolatedEngine) -> None:
    await engine.load("d", [inserted("ab")])
    before, _, after = await asyncio.gather(
        engine.diff("d", NOTHING_KNOWN),
        engine.integrate("d", [inserted("c", clock=2)]),
        engine.diff("d", NOTHING_KNOWN),
    )
    assert (text_of(before.update), text_of(after.update)) == ("ab", "abc")


async def test_e18_digests_asked_for_in_one_turn_share_one_answer(engine: IsolatedEngine) -> None:
    await engine.load("d", [inserted("ab")])
    before = engine.counters.calls
    digests = await asyncio.gather(*(engine.digest("d") for _ in range(100)), engine.diff("d", NOTHING_KNOWN))
    assert engine.counters.calls == before + 2
    assert all(digest is digests[0] for digest in digests[:-1])
    await engine.integrate("d", [inserted("c", clock=2)])
    assert await engine.digest("d") != digests[0]


async def test_e14_a_digest_dies_with_the_process_and_a_load_heals(engine: IsolatedEngine) -> None:
    await engine.load("d", [inserted("ab")])
    expected = await engine.digest("d")
    asked = [engine.digest("d"), engine.integrate("d", [ABORTING]), engine.digest("d")]
    first, failed, second = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(failed, EngineDied)
    assert isinstance(second, EngineDied)
    assert first == expected or isinstance(first, EngineDied)
    with pytest.raises(EngineDied):
        await engine.digest("d")
    await engine.load("d", [inserted("ab")])
    assert await engine.digest("d") == expected


async def test_e18_a_caller_that_gives_up_disturbs_nobody(engine: IsolatedEngine) -> None:
    await engine.load("d", [])
    keystrokes = typed(3)
    calls = [asyncio.create_task(engine.integrate("d", [update])) for update in keystrokes]
    asking = [asyncio.create_task(engine.diff("d", NOTHING_KNOWN)) for _ in range(2)]
    await asyncio.sleep(0)
    calls[1].cancel()
    asking[0].cancel()
    assert [outcome.verdict for outcome in (await calls[2]).outcomes] == [Verdict.INTEGRATED]
    assert text_of((await asking[1]).update) == "abc"


# What a child is given, and what is left when it is over


async def test_e5_the_child_gets_limits_and_no_secrets(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLAB_JWT_SECRET", "do-not-tell")
    engine = await started(stack, IsolatedEngine())
    await engine.run(Fold(()))
    for lane, pid in engine.pids.items():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"do-not-tell" not in environment
        assert b"COLLAB_" not in environment
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert resource.prlimit(pid, resource.RLIMIT_AS)[1] == ProcessOptions().memory_bytes
        assert os.getsid(pid) == pid, "signals for our terminal are not for the child"
        threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
        nice = max(os.getpriority(os.PRIO_PROCESS, thread) for thread in threads)
        assert (nice > os.getpriority(os.PRIO_PROCESS, 0)) == (lane == "heavy")
        descriptors = [str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
        assert sum("socket:" in descriptor for descriptor in descriptors) == 1, "the one to its parent"


async def test_e5_the_smallest_memory_limit_is_enough_to_work(stack: AsyncExitStack) -> None:
    engine = await started(stack, IsolatedEngine(options=ProcessOptions(memory_bytes=256 << 20), keep_warm=False))
    await engine.load("d", [inserted("x" * 1_000_000)])
    assert len((await engine.diff("d", NOTHING_KNOWN)).update) > 1_000_000


async def test_e5_a_document_that_eats_all_memory_costs_an_engine_and_nothing_else(stack: AsyncExitStack) -> None:
    engine = await started(stack, IsolatedEngine(options=ProcessOptions(memory_bytes=256 << 20)))
    with pytest.raises(EngineDied):
        await engine.load("d", [inserted("x" * (20 << 20), client=client) for client in range(1, 7)])
    await engine.load("d", [inserted("ab")])
    assert text_of((await engine.diff("d", NOTHING_KNOWN)).update) == "ab"


async def test_e19_closing_leaves_no_process_and_no_descriptor() -> None:
    await asyncio.to_thread(int)  # the worker thread is not what is counted
    before = len(list(Path("/proc/self/fd").iterdir()))
    engine = IsolatedEngine(options=FAILING)
    await engine.start()
    await engine.load("d", [])
    await died(engine, "d", ABORTING)
    await engine.load("d", [])
    await engine.run(Fold(()))
    pids = [*engine.pids.values(), await engine.spare_pid()]
    waiting = asyncio.gather(engine.integrate("d", [HANGING]), return_exceptions=True)
    await asyncio.sleep(0)
    await engine.close()
    assert isinstance((await waiting)[0], EngineDied)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_e19_the_child_dies_with_its_parent() -> None:
    program = (
        "import asyncio, os, sys\n"
        "from collab.engine.isolated import IsolatedEngine\n"
        "async def main():\n"
        "    engine = IsolatedEngine()\n"
        "    await engine.start()\n"
        "    print(engine.pids['live'], await engine.spare_pid(), flush=True)\n"
        "    sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    children = [int(pid) for pid in (await parent.stdout.readline()).split()]
    parent.kill()
    await parent.communicate()
    for child in children:
        await _gone(child)


async def _gone(pid: int) -> None:
    """Wait until process ``pid`` has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await asyncio.to_thread(select.select, [descriptor], [], [])
    finally:
        os.close(descriptor)


async def test_e18_calls_made_while_the_child_works_are_answered(engine: IsolatedEngine) -> None:
    await engine.load("d", [])
    writer = Writer()
    for _ in range(300):
        first = asyncio.ensure_future(engine.integrate("d", [writer.type("a")]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = asyncio.ensure_future(engine.integrate("d", [writer.type("b")]))
        async with asyncio.timeout(20):
            await asyncio.gather(first, second)
