"""E22 on every adapter: the sequences that made Yjs throw and yrs panic, die or run for ever, and what comes after."""

from __future__ import annotations

import pytest

from collab.engine.port import Compose, Engine, Fold, Folded, Render, Revert, Verdict
from collab.errors import CloseCode, InvalidContent
from collab.protocol.yjs import read_state_vector, scan_update
from tests.unit.engine.histories import NOTHING_KNOWN, deleted, inserted
from tests.unit.protocol.spelled import ROOT, after, ident, of, section, text, update

pytestmark = pytest.mark.asyncio(loop_scope="module")

INTEGRATED, PENDING, REFUSED = Verdict.INTEGRATED, Verdict.PENDING, Verdict.REFUSED
MAP = b"\x01\x02\x09\x00\x27\x01\x01m\x01x\x01\x28\x00\x09\x00\x01k\x01\x77\x01v\x00"
"""A map in the map "m": client 9 made it at clock 0, and at clock 1 its entry "k"."""
INTO_ENTRY = update(section(5, 0, after(9, 1, b"\x03abc")))
SEVERAL = update(section(5, 0, after(9, 1, b"\x03\x7e\x7e\x7e", kind=8)))
SPLITTING = [update(section(client, 0, after(5, 0, b"\x01z"))) for client in (6, 7, 8)]
WITHOUT_MAP = deleted(9, 0, 1)


async def verdicts(engine: Engine, name: str, updates: list[bytes]) -> list[Verdict]:
    return [outcome.verdict for outcome in (await engine.integrate(name, updates)).outcomes]


SEQUENCES = {
    "yjs throws when the map is deleted": [INTO_ENTRY, SPLITTING[0], WITHOUT_MAP],
    "yrs never returns": [INTO_ENTRY, SPLITTING[0], WITHOUT_MAP, *SPLITTING[1:], deleted(5, 0, 1), deleted(7, 0, 1)],
    "yjs throws, several values": [SEVERAL, SPLITTING[0], WITHOUT_MAP],
    "yjs throws, nothing but deletions": [SEVERAL, deleted(5, 1, 1), WITHOUT_MAP],
}


@pytest.mark.parametrize("sequence", SEQUENCES)
async def test_e22_what_crashes_yjs_or_yrs_is_refused_at_its_first_update(
    engine: Engine, name: str, sequence: str
) -> None:
    await engine.load(name, [MAP])
    first, *others = (await engine.integrate(name, SEQUENCES[sequence])).outcomes
    assert (first.verdict, first.code, first.detail) == (REFUSED, CloseCode.MALFORMED, "text in a map entry")
    expected = [INTEGRATED if one == WITHOUT_MAP else PENDING for one in SEQUENCES[sequence][1:]]
    assert [outcome.verdict for outcome in others] == expected, "what leans on it waits for ever"
    assert read_state_vector((await engine.diff(name, NOTHING_KNOWN)).state_vector) == {9: 2}
    assert await verdicts(engine, name, [inserted("a")]) == [INTEGRATED]


@pytest.mark.parametrize("sequence", SEQUENCES)
async def test_e22_a_log_that_holds_it_is_loaded_without_it(engine: Engine, name: str, sequence: str) -> None:
    loaded = await engine.load(name, [inserted("a"), *SEQUENCES[sequence], MAP, inserted("b", clock=1)])
    assert loaded.refused == (1,)
    assert read_state_vector(loaded.state_vector) == {1: 2, 9: 2}
    assert await verdicts(engine, name, [inserted("c", clock=2)]) == [INTEGRATED]


@pytest.mark.parametrize("probe", [False, True], ids=["integrated", "probed"])
@pytest.mark.parametrize(
    "bad",
    [
        of(bytes((0x24,)) + ROOT + text(b"k") + b"\x01x"),
        update(section(5, 0, bytes((0xA4,)) + ident(9, 1) + b"\x01x")),
        update(section(5, 0, after(9, 1))),
        update(section(5, 0, bytes((0x44,)) + ident(9, 1) + b"\x01x")),
        update(section(5, 0, bytes((0xC4,)) + ident(1, 0) + ident(9, 1) + b"\x01x")),
        update(section(6, 0, after(5, 0)), section(5, 0, after(9, 1, b"\x01\x7e", kind=8))),
    ],
    ids=["names a key", "says so", "after", "before", "between", "after a value in the same update"],
)
async def test_e22_text_in_a_map_is_refused(engine: Engine, name: str, bad: bytes, *, probe: bool) -> None:
    await engine.load(name, [MAP, inserted("a")])
    before = await engine.diff(name, NOTHING_KNOWN)
    (outcome,) = (await engine.integrate(name, [bad], probe=probe)).outcomes
    assert (outcome.verdict, outcome.code, outcome.detail) == (REFUSED, CloseCode.MALFORMED, "text in a map entry")
    assert await engine.diff(name, NOTHING_KNOWN) == before


async def test_e22_what_waited_is_told_to_nobody_any_more_when_it_turns_out_to_be_text_in_a_map(
    engine: Engine, name: str
) -> None:
    await engine.load(name, [])
    assert await verdicts(engine, name, [INTO_ENTRY, MAP]) == [PENDING, INTEGRATED]
    assert scan_update((await engine.diff(name, NOTHING_KNOWN)).update).ranges == {9: [(0, 2)]}
    cold = await engine.load(name + ":cold", [INTO_ENTRY, MAP])
    assert cold.refused == (0,)
    assert (await engine.digest(name)).hash == (await engine.digest(name + ":cold")).hash


async def test_e22_jobs_leave_out_what_a_load_leaves_out(engine: Engine) -> None:
    rows = (MAP, inserted("ab", root="t"), *SEQUENCES["yrs never returns"][:2])
    folded = await engine.run(Fold(rows))
    assert isinstance(folded, Folded)
    assert folded.covered == (0, 1)
    assert await engine.run(Render(rows, "text", "t")) == b"ab"
    assert await engine.run(Render(rows, "json", "m", "map")) == b'{"x":{"k":"v"}}'
    reverted = await engine.run(Revert(rows, rows[1:]))
    assert isinstance(reverted, bytes)
    assert scan_update(reverted).deletes.keys() == {9}
    with pytest.raises(InvalidContent):
        await engine.run(
            Compose(update(section(9, 0, bytes((0x28,)) + ROOT + text(b"k") + b"\x01\x7e", after(9, 0))), "update")
        )


async def test_e22_a_text_that_is_the_value_of_a_map_is_typed_into(engine: Engine, name: str) -> None:
    """The text has a place of its own, inside the entry; so has what is typed there."""
    value = update(section(3, 0, b"\x27\x01\x01m\x01t\x02", bytes((4,)) + b"\x00" + ident(3, 0) + b"\x02ab"))
    await engine.load(name, [value])
    typed = [
        update(section(4, 0, after(3, 2))),
        update(section(4, 1, bytes((0x44,)) + ident(3, 1) + b"\x01x")),
        update(section(4, 2, bytes((4,)) + b"\x00" + ident(3, 0) + b"\x01x")),
        update(section(4, 3, bytes((0xC4,)) + ident(3, 1) + ident(3, 2) + b"\x01x")),
    ]
    assert await verdicts(engine, name, typed) == [INTEGRATED] * 4
    assert await verdicts(engine, name, [update(section(4, 4, after(3, 0)))]) == [REFUSED], "replaces the text"
