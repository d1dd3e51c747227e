"""Who knocked too often (attacks A18, A19), without sockets; with them: `test_limits.py`."""

from __future__ import annotations

import pytest

from collab.server.addresses import MAX_ADDRESSES, Addresses, client_address, trusted_hosts

FORWARDED = [(b"x-forwarded-for", b"192.0.2.1")]


def refused_at_once(addresses: Addresses, address: str, now: float = 0.0) -> int:
    """How often it can be refused until it is told to stay away."""
    for count in range(1_000):
        if addresses.wait(address, now):
            return count
        last = addresses.refused(address, now)
        assert last == (addresses.wait(address, now) > 0)
    return 1_000


def test_a18_an_address_has_so_many_refusals_a_minute_and_others_are_not_concerned() -> None:
    addresses = Addresses(per_minute=50)
    assert refused_at_once(addresses, "192.0.2.1") == 50
    assert addresses.wait("192.0.2.1", 0.0) == pytest.approx(1.2)
    assert addresses.wait("192.0.2.2", 0.0) == 0
    assert addresses.wait("192.0.2.1", 1.25) == 0
    assert refused_at_once(addresses, "192.0.2.1", 31.0) == 25
    assert refused_at_once(addresses, "192.0.2.1", 1_000.0) == 50


def test_a18_staying_away_is_not_punished_and_asking_is_free() -> None:
    addresses = Addresses(per_minute=2)
    for _ in range(100):
        assert addresses.wait("192.0.2.1", 0.0) == 0
    refused_at_once(addresses, "192.0.2.1")
    for _ in range(100):
        addresses.wait("192.0.2.1", 0.0)
    assert addresses.wait("192.0.2.1", 30.01) == 0


def test_a18_many_that_were_under_way_at_once_cost_no_more_than_a_minute() -> None:
    addresses = Addresses(per_minute=50)
    for _ in range(1_000):
        addresses.refused("192.0.2.1", 0.0)
    assert addresses.wait("192.0.2.1", 0.0) == pytest.approx(1.2)
    assert addresses.wait("192.0.2.1", 60.0) == 0
    assert refused_at_once(addresses, "192.0.2.1", 60.0) == 50


def test_a18_a_customer_has_a_whole_ipv6_network() -> None:
    addresses = Addresses(per_minute=5)
    for last in range(5):
        addresses.refused(f"2001:db8:1:2:{last}::7", 0.0)
    assert addresses.wait("2001:db8:1:2:ffff::1", 0.0) > 0
    assert addresses.wait("2001:db8:1:3::1", 0.0) == 0
    for _ in range(5):
        addresses.refused("::ffff:192.0.2.1", 0.0)
    assert addresses.wait("192.0.2.1", 0.0) > 0


def test_a18_what_is_remembered_is_bounded() -> None:
    addresses = Addresses(per_minute=1)
    for number in range(MAX_ADDRESSES + 1):
        addresses.refused(f"2001:db8:{number:x}::1", 0.0)
    assert addresses.wait("2001:db8:0::1", 0.0) == 0
    assert addresses.wait("2001:db8:1::1", 0.0) > 0
    addresses.refused("no address at all" * 1_000, 0.0)


def test_0_is_no_limit_and_nobody_is_nobody() -> None:
    addresses = Addresses(per_minute=0)
    assert refused_at_once(addresses, "192.0.2.1") == 1_000
    addresses = Addresses(per_minute=1)
    addresses.refused(None, 0.0)
    addresses.refused("192.0.2.1", 0.0)
    assert addresses.wait(None, 0.0) == 0


@pytest.mark.parametrize(
    ("client", "headers", "proxies", "responsible"),
    [
        pytest.param(("192.0.2.9", 1), [], ("127.0.0.1",), "192.0.2.9", id="a stranger"),
        pytest.param(("192.0.2.9", 1), FORWARDED, ("127.0.0.1",), "192.0.2.9", id="a stranger who says it is another"),
        pytest.param(("192.0.2.1", 0), FORWARDED, ("127.0.0.1",), "192.0.2.1", id="whom the proxy names"),
        pytest.param(("127.0.0.1", 1), [], ("127.0.0.1",), None, id="a proxy that names nobody"),
        pytest.param(("10.1.2.3", 1), [], ("10.0.0.0/8",), None, id="a proxy of a network"),
        pytest.param(("10.1.2.3", 1), FORWARDED, ("10.0.0.0/8",), "10.1.2.3", id="only proxies on the way"),
        pytest.param(("192.0.2.9", 1), [], ("*",), None, id="any proxy, which names nobody"),
        pytest.param(("192.0.2.1", 0), FORWARDED, ("*",), "192.0.2.1", id="any proxy"),
        pytest.param(("127.0.0.1", 1), [], (), "127.0.0.1", id="no proxies"),
        pytest.param(None, FORWARDED, ("127.0.0.1",), None, id="a UNIX socket"),
    ],
)
def test_a19_whom_a_request_is_put_down_to(
    client: tuple[str, int] | None,
    headers: list[tuple[bytes, bytes]],
    proxies: tuple[str, ...],
    responsible: str | None,
) -> None:
    assert client_address({"client": client, "headers": headers}, trusted_hosts(proxies)) == responsible
