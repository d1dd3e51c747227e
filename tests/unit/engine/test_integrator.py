"""Verdicts against what the document really did: new means it changed, redundant means it did not."""

from __future__ import annotations

from random import Random

import pytest

from collab.engine.port import Verdict
from collab.engine.replica import Replica
from collab.engine.replicas import ignore_progress
from collab.protocol.yjs import UpdateScan, scan_update
from tests.unit.engine.histories import history, shuffled


def held(replica: Replica) -> UpdateScan:
    """All structs and deletions of the document; its bytes may name clients in another order every time."""
    return scan_update(replica.full_update())


@pytest.mark.parametrize("merge_some", [False, True])
def test_e6_integrated_means_that_the_document_changed(merge_some: bool) -> None:
    seen = set[Verdict]()
    for seed in range(30):
        log = history(seed, clients=4)
        log += Random(seed).sample(log, 10)
        replica = Replica()
        replica.load([], ignore_progress)
        for update in shuffled(log, seed, merge_some=merge_some):
            before = held(replica)
            verdict = replica.integrate([update], ignore_progress).outcomes[0].verdict
            seen.add(verdict)
            if verdict is not Verdict.PENDING:  # some of which may have been integrated
                assert (held(replica) != before) == (verdict is Verdict.INTEGRATED), f"seed {seed}"
        replica.close()
    assert seen == set(Verdict) - {Verdict.REFUSED}
