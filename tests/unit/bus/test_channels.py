"""Which channels are heard, in every order of taking, giving back and late answers."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from collab.bus import EVERYWHERE
from collab.bus.channels import Channels, Names

NAMES = [b"a", b"b", b"c"]


class Talk(RuleBasedStateMachine):
    """A connection whose Redis answers in order, but as late as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = Channels()
        self.wanted: set[bytes] = set()
        self.under_way: list[tuple[bool, bytes]] = []
        self.redis: set[bytes] = set()  # what Redis will be subscribed to once it has read everything
        self.told: set[bytes] = set()  # what it has told of
        self.expected: set[bytes] = set()  # channels for which in force must be said

    @rule(channel=st.sampled_from(NAMES))
    def want(self, channel: bytes) -> None:
        self.channels.want(channel)
        self.wanted.add(channel)

    @rule(channel=st.sampled_from(NAMES))
    def release(self, channel: bytes) -> None:
        self.channels.release(channel)
        self.wanted.discard(channel)

    @rule()
    def ask(self) -> None:
        more, less = self.channels.questions()
        assert not set(more) & set(less)
        assert not set(more) & self.redis, "asked for twice"
        assert set(less) <= self.redis, "given back twice"
        self.redis = (self.redis | set(more)) - set(less)
        assert self.redis == self.wanted
        self.under_way += [(True, channel) for channel in more] + [(False, channel) for channel in less]

    @precondition(lambda self: self.under_way)
    @rule()
    def answer(self) -> None:
        subscribed, channel = self.under_way.pop(0)
        heard_before = self.channels.hears(channel)
        if subscribed:
            self.told.add(channel)
            assert self.channels.subscribed(channel) is self.channels.hears(channel)
        else:
            self.told.discard(channel)
            assert self.channels.unsubscribed(channel) is False
        assert not heard_before, "it was said to be heard although an answer was outstanding"

    @precondition(lambda self: self.told - {channel for _, channel in self.under_way})
    @rule(data=st.data())
    def redis_unsubscribes_by_itself(self, data: st.DataObject) -> None:
        """As a sharded channel's does that moves to another server."""
        channel = data.draw(st.sampled_from(sorted(self.told - {name for _, name in self.under_way})))
        self.told.discard(channel)
        self.redis.discard(channel)
        assert self.channels.unsubscribed(channel) is (channel in self.wanted)

    @invariant()
    def it_hears_what_redis_told_last_and_nobody_gave_back(self) -> None:
        outstanding = {channel for _, channel in self.under_way}
        for channel in NAMES:
            assert self.channels.hears(channel) is (
                channel in self.wanted and channel in self.told and channel not in outstanding
            )


TestTalk: Any = Talk.TestCase
TestTalk.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_a_second_confirmation_is_news_too() -> None:
    channels = Channels()
    channels.want(b"a")
    channels.questions()
    assert [channels.subscribed(b"a"), channels.subscribed(b"a")] == [True, True]


def test_g02_names_reach_redis_as_hashes_only() -> None:
    names = Names("p")
    assert names.document(EVERYWHERE) == b"p:all"
    assert names.inbox("n1") == b"p:n:n1"
    for awkward in ("a", "all", "n:n1", "**", "é\r\n", "x" * 200):
        channel = names.document(awkward)
        assert len(channel) == 36
        assert channel.startswith(b"p:d:")
        assert channel[4:].isalnum()
