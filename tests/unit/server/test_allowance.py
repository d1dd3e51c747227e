"""What a session may send (SPEC N17): who keeps within rates and bursts never notices, who does not is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.server.allowance import COST, UNLIMITED, Allowance, Hold, Rates

MIB = 1024 * 1024
DEFAULTS = Rates()
FLOOD = 1_000_000


def send(allowance: Allowance, size: int, now: float) -> Hold | None:
    """One frame, as a session takes it."""
    allowance.left -= size + COST
    return allowance.settle(now) if allowance.left < 0 else None


def bucket(tokens: float, passed: float, rate: float, burst: float) -> float:
    return min(burst, tokens + passed * rate)


RATES = st.builds(
    Rates,
    messages_per_s=st.sampled_from([0.0, 1.0, 7.5, 200.0]),
    burst_messages=st.integers(1, 300),
    bytes_per_s=st.sampled_from([0.0, 100.0, 50_000.0]),
    burst_bytes=st.integers(1024, 3_000_000),
)
FRAMES = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 20_000)), max_size=300)


@given(RATES, FRAMES)
def test_n17_who_keeps_within_rates_and_bursts_is_never_held_back(
    rates: Rates, frames: list[tuple[float, int]]
) -> None:
    allowance = Allowance(rates, 0.0)
    now, messages, data = 0.0, float(rates.burst_messages), float(rates.burst_bytes)
    for passed, size in frames:
        now += passed
        messages = bucket(messages, passed, rates.messages_per_s, rates.burst_messages)
        data = bucket(data, passed, rates.bytes_per_s, rates.burst_bytes)
        within = (messages >= 1.01 or not rates.messages_per_s) and (data >= size + 0.01 or not rates.bytes_per_s)
        if within:
            messages, data = messages - 1, data - size
            assert send(allowance, size, now) is None


@given(RATES, FRAMES)
def test_n17_no_more_is_read_than_two_bursts_and_the_rates(rates: Rates, frames: list[tuple[float, int]]) -> None:
    allowance = Allowance(rates, 0.0)
    now, free_at, messages, data = 0.0, 0.0, 0, 0
    for passed, size in frames * 3:
        now = max(now + passed / 100, free_at)  # nothing is read while it is held back
        hold = send(allowance, size, now)
        messages, data = messages + 1, data + size
        free_at = now + hold.seconds if hold is not None else now
        if rates.messages_per_s:
            slack = max(rates.burst_messages, rates.messages_per_s * 0.05)
            assert messages <= rates.burst_messages + slack + rates.messages_per_s * now + 1.01
        if rates.bytes_per_s:
            slack = max(rates.burst_bytes, rates.bytes_per_s * 0.05)
            assert data <= rates.burst_bytes + slack + rates.bytes_per_s * now + 20_000.01


def test_the_limit_that_was_met_has_a_name() -> None:
    many, much = Allowance(DEFAULTS, 0.0), Allowance(DEFAULTS, 0.0)
    holds = [hold for _ in range(1_001) if (hold := send(many, 10, 0.0)) is not None]
    assert [hold.limit for hold in holds] == ["messages"]
    holds = [hold for _ in range(3) if (hold := send(much, 16 * MIB, 0.0)) is not None]
    assert [hold.limit for hold in holds] == ["bytes"]
    assert holds[0].seconds == pytest.approx(8, rel=0.01)


def test_n17_without_rates_nobody_is_held_back() -> None:
    allowance = Allowance(UNLIMITED, 0.0)
    assert not any(send(allowance, 16 * MIB, 0.0) for _ in range(10_000))


def flood(rates: Rates, *, size: int, count: int = FLOOD) -> tuple[float, bool]:
    """Send as fast as it is read: when that ended, and whether the session was sent away."""
    allowance, now = Allowance(rates, 0.0), 0.0
    for _ in range(count):
        hold = send(allowance, size, now)
        if hold is not None:
            if hold.for_good:
                return now, True
            now += hold.seconds
    return now, False


@pytest.mark.parametrize("size", [0, 10, 20_000, 16 * MIB])
def test_n17_a_flood_is_slowed_down_first_and_sent_away_after_a_minute(size: int) -> None:
    ended_at, sent_away = flood(DEFAULTS, size=size)
    assert sent_away
    assert 60 <= ended_at < 75


def test_n17_five_thousand_updates_at_once_take_their_time_and_nothing_else() -> None:
    ended_at, sent_away = flood(DEFAULTS, size=60, count=5_000)
    assert not sent_away
    assert 15 < ended_at < 25


def test_n17_who_is_held_back_half_of_the_time_is_never_sent_away() -> None:
    allowance, now = Allowance(DEFAULTS, 0.0), 0.0
    for _ in range(100):
        held = 0.0
        for _ in range(2_000):
            hold = send(allowance, 60, now)
            if hold is not None:
                assert not hold.for_good
                now, held = now + hold.seconds, held + hold.seconds
        now += held


def test_n17_a_clock_that_goes_back_costs_nobody_anything() -> None:
    allowance = Allowance(DEFAULTS, 100.0)
    assert not any(send(allowance, 10, 50.0) for _ in range(1_000))
    assert send(allowance, 10, 50.0) is not None
