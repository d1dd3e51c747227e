"""The checker finds what it is there to find: every kind of damage, made on purpose, is named."""

from __future__ import annotations

import pytest
from pycrdt import Doc, Text

from tests.support.checker import History, Submitted, check, lost, merged, unequal


@pytest.fixture
def history() -> History:
    """Five tokens inserted, the first deleted again; all acknowledged."""
    document: Doc[Text] = Doc(client_id=7)
    text = document.get("t", type=Text)
    updates: list[bytes] = []
    subscription = document.observe(lambda event: updates.append(event.update))
    history = History()
    for count in range(5):
        token = f"c7.{count};"
        text += token
        history.submitted.append(Submitted(updates[-1], inserted=token, acknowledged="status"))
    del text[0:5]
    history.submitted.append(Submitted(updates[-1], deleted="c7.0;", acknowledged="echo"))
    document.unobserve(subscription)
    return history


def kept(history: History, *missing: int) -> bytes:
    """A replica without the updates of these numbers."""
    return merged(entry.update for at, entry in enumerate(history.submitted) if at not in missing)


def test_a_whole_replica_passes(history: History) -> None:
    assert check(history, kept(history)) == []


@pytest.mark.parametrize("missing", [(4,), (5,), (4, 5), (2, 3, 4)])
def test_c1_names_what_was_lost(history: History, missing: tuple[int, ...]) -> None:
    named = lost(kept(history, *missing), history.acknowledged)
    expected = [history.submitted[at].inserted or history.submitted[at].deleted for at in missing]
    assert [problem.split("'")[1] for problem in named] == expected
    assert all(problem.startswith("C1: acknowledged by") for problem in named)


def test_c1_says_nothing_of_what_was_never_acknowledged(history: History) -> None:
    history.submitted[4].acknowledged = None
    history.submitted[5].acknowledged = None
    assert check(history, kept(history, 4, 5)) == []


def test_c1_finds_what_only_hangs_in_the_air(history: History) -> None:
    """The third insertion is there, but what it builds on is not: it shows nowhere."""
    assert lost(kept(history, 1), history.acknowledged)


def test_c3_finds_what_nobody_wrote(history: History) -> None:
    everything = kept(history)
    history.submitted.pop(3)
    assert "C3: nobody inserted 'c7.3;'" in check(history, everything)


def test_c2_finds_a_replica_that_lacks_only_a_deletion(history: History) -> None:
    whole = kept(history)
    assert unequal({"one": whole, "other": whole}) == []
    assert any("different deletions" in problem for problem in unequal({"one": whole, "other": kept(history, 5)}))


def test_c2_finds_a_replica_that_lacks_an_insertion(history: History) -> None:
    problems = unequal({"one": kept(history), "other": kept(history, 4)})
    assert any("different state vectors" in problem for problem in problems)
