"""The fault proxy does what it is told: faults that are not made prove nothing."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.proxy import Connection, Network, Proxy, Way

PATIENCE_S = 20.0
DATA_SEGMENTS_IN = 152
"""Offset of tcpi_data_segs_in in Linux's struct tcp_info."""


@dataclass
class Target:
    """A listening socket, and every connection that came."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    accepted: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.address: tuple[str, int] = self.listener.getsockname()

    def accept(self) -> socket.socket:
        self.listener.settimeout(PATIENCE_S)
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE_S)
        self.accepted.append(connection)
        return connection

    def close(self) -> None:
        for one in (self.listener, *self.accepted):
            one.close()


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.close()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def proxy(network: Network, target: Target) -> Proxy:
    return network.proxy(target.address)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connected(proxy) as client:
        yield client


@pytest.fixture
def server(client: socket.socket, target: Target) -> socket.socket:
    return target.accept()


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S)


def read(source: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := source.recv(size - len(received))):
        received += data
    return received


def gone() -> tuple[str, int]:
    """An address where nobody listens."""
    target = Target()
    target.close()
    return target.address


def silent(source: socket.socket) -> bool:
    """Whether nothing comes for a while."""
    source.settimeout(0.2)
    try:
        source.recv(1)
    except TimeoutError:
        return True
    finally:
        source.settimeout(PATIENCE_S)
    return False


def test_bytes_pass_both_ways_and_an_end_is_passed_on(
    client: socket.socket, server: socket.socket, proxy: Proxy
) -> None:
    sent = bytes(range(256)) * 4096
    sending = threading.Thread(target=client.sendall, args=(sent,))
    sending.start()
    assert read(server, len(sent)) == sent
    sending.join()
    server.sendall(b"answer")
    assert read(client, 6) == b"answer"
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    server.sendall(b"more")
    server.close()
    assert read(client, 5) == b"more"
    until(lambda: proxy.connections == 0)
    assert proxy.up.passed_bytes == len(sent)


def test_latency_delays_one_way_only(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    proxy.up.latency_s = 0.3
    started = time.monotonic()
    client.sendall(b"late")
    assert read(server, 4) == b"late"
    assert time.monotonic() - started >= 0.3
    proxy.up.latency_s, proxy.down.latency_s = 0.0, 30.0
    client.sendall(b"soon")
    assert read(server, 4) == b"soon"


def test_bandwidth_bounds_the_rate(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    proxy.down.bytes_per_s = 10_000
    server.sendall(bytes(5000))
    started = time.monotonic()
    assert len(read(client, 5000)) == 5000
    assert time.monotonic() - started >= 0.35


def test_a_stalled_way_passes_nothing_keeps_its_sockets_and_loses_nothing(
    client: socket.socket, server: socket.socket, proxy: Proxy
) -> None:
    proxy.stall(proxy.up)
    client.sendall(b"held")
    assert silent(server)
    server.sendall(b"other way")
    assert read(client, 9) == b"other way"
    proxy.resume()
    assert read(server, 4) == b"held"


def test_a_stalled_sender_finds_every_buffer_full(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    proxy.stall()
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(64 * 1024 * 1024))
    assert silent(server)


def test_new_connections_through_a_stalled_proxy_hang(proxy: Proxy, target: Target) -> None:
    proxy.stall()
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert silent(target.accept())
        assert silent(client)


def test_half_close_ends_one_way(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    proxy.half_close(proxy.up)
    assert server.recv(1) == b""
    client.sendall(b"into nowhere")
    server.sendall(b"still here")
    assert read(client, 10) == b"still here"
    server.close()
    assert client.recv(1) == b""
    client.close()
    until(lambda: proxy.connections == 0)


def test_reset_is_a_reset_at_both_ends(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    proxy.reset()
    for end in (client, server):
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_hanging_up_is_an_orderly_end_at_both_ends(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    proxy.hang_up()
    assert client.recv(1) == server.recv(1) == b""


def test_a_reset_by_the_target_reaches_the_client(client: socket.socket, server: socket.socket) -> None:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


@pytest.mark.parametrize("at_limit", ["close", "reset"])
def test_a_limit_cuts_in_the_middle(client: socket.socket, server: socket.socket, proxy: Proxy, at_limit: str) -> None:
    proxy.up.limit_bytes = 7
    proxy.up.at_limit = "close" if at_limit == "close" else "reset"
    client.sendall(b"0123456789")
    if at_limit == "close":
        assert read(server, 10) == b"0123456"
    else:
        # What the kernel had not handed over yet is gone with the reset.
        with pytest.raises(ConnectionResetError):
            read(server, 10)


def test_slicing_makes_small_segments(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    proxy.up.segment_bytes = 1
    client.sendall(bytes(200))
    assert len(read(server, 200)) == 200
    information = server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    assert struct.unpack_from("I", information, DATA_SEGMENTS_IN)[0] >= 50


def test_refusing_is_a_refusal_and_accepting_again_keeps_the_port(proxy: Proxy, target: Target) -> None:
    with connected(proxy) as early:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        early.sendall(b"still open")
        assert read(target.accept(), 10) == b"still open"
        port = proxy.port
        proxy.accept()
        assert proxy.port == port
        with connected(proxy) as late:
            late.sendall(b"back")
            assert read(target.accept(), 4) == b"back"


def test_a_dead_target_resets_its_clients(proxy: Proxy) -> None:
    proxy.targets[:] = [gone()]
    with pytest.raises(ConnectionResetError), connected(proxy) as client:
        client.recv(1)


def test_connections_go_to_the_targets_in_turn_and_past_a_dead_one(network: Network, target: Target) -> None:
    other = Target()
    balancer = network.proxy(target.address, other.address)
    clients = [connected(balancer) for _ in range(4)]
    for one in (target, other):
        one.accept(), one.accept()
    balancer.targets[0] = gone()
    clients += [connected(balancer) for _ in range(3)]
    for _ in range(3):
        other.accept()
    for client in clients:
        client.close()
    other.close()


def test_a_tap_sees_every_piece_and_may_cut_before_it(
    client: socket.socket, server: socket.socket, proxy: Proxy
) -> None:
    seen: list[tuple[str, bytes]] = []

    def tap(connection: Connection, way: Way, data: bytes) -> bool:
        connection.notes.add("seen")
        seen.append(("up" if way is proxy.up else "down", data))
        return data != b"secret"

    proxy.tap = tap
    client.sendall(b"hello")
    assert read(server, 5) == b"hello"
    server.sendall(b"secret")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert seen == [("up", b"hello"), ("down", b"secret")]


def test_healing_undoes_every_fault(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    proxy.refuse()
    proxy.stall()
    proxy.up.latency_s, proxy.up.limit_bytes, proxy.up.bytes_per_s = 30.0, 0, 1
    proxy.tap = lambda *_: False
    proxy.heal()
    client.sendall(b"well")
    assert read(server, 4) == b"well"
    connected(proxy).close()


def until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
