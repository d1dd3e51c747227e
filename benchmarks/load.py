"""One load on one running server: starts the generator on its core, samples the server, returns what was measured.

What a load is, which loads there are and what a figure means stands here; how the scenarios use them in `scenarios`.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchmarks import proc

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.servers import Running

GENERATOR_TIMEOUT_S = 300.0
BUSY_SHARE = 0.85
"""A generator that uses more of its core than this may be what limits the row."""
FOREIGN_SHARE = 0.15
"""Others that use more than this of one of the two cores make a row unsound. On a quiet machine it is below 5 %."""


@dataclass(frozen=True, slots=True)
class Load:
    """Who connects and what they send. Rates are per second: of each writer, of each client."""

    rooms: int
    clients: int
    """In each room."""
    writers: int = 0
    """Of each room's clients."""
    update_rate: float = 0.0
    cursor_rate: float = 0.0
    warmup_s: float = 2.0
    seconds: float = 10.0
    drain_s: float = 5.0

    @property
    def connections(self) -> int:
        return self.rooms * self.clients

    def shortened(self, seconds: float) -> Load:
        """The same for a shorter time."""
        return replace(self, seconds=seconds, warmup_s=min(self.warmup_s, 1.0))


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run showed. A delivery is one update or one awareness entry that reached one other client."""

    failure: str | None = None
    """Why there is nothing below, in a sentence."""
    synced_s: float = 0.0
    window_s: float = 0.0
    """From the first measured send to the last delivery, or to the end of the wait for it."""
    deliveries: int = 0
    server_cpu_ms: float = 0.0
    """Of everything on the server's core that belongs to it: its nodes, and what they share there."""
    service_cpu_ms: dict[str, float] = field(default_factory=dict)
    """Of each service that the nodes share, whether it is part of the above or not."""
    base_kib: float = 0.0
    """Memory of the server before anybody connected."""
    loaded_kib: float = 0.0
    """And at the end, everybody still connected."""
    connections: int = 0
    generator_share: float = 0.0
    """Of its core."""
    foreign_server_share: float = 0.0
    """What others than the server did on the server's core; kernel work for its sockets included."""
    foreign_generator_share: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    """The generator's own words."""

    @property
    def missing(self) -> int:
        """Deliveries that never came."""
        return int(self.result.get("updates_missing", 0)) + int(self.result.get("entries_missing", 0))

    @property
    def trouble(self) -> str | None:
        """What went wrong, or None."""
        if self.failure:
            return self.failure
        if self.missing:
            return f"{self.missing} deliveries missing"
        if self.result.get("connections_lost"):
            return f"{self.result['connections_lost']} connections lost"
        return str(self.result["first_error"]) if self.result.get("protocol_errors") else None

    @property
    def disturbed(self) -> bool:
        """Whether others used enough of the two cores to change the figures."""
        return max(self.foreign_server_share, self.foreign_generator_share) > FOREIGN_SHARE

    @property
    def cpu_ms_per_1000(self) -> float:
        return self.server_cpu_ms / self.deliveries * 1000 if self.deliveries else 0.0

    def service_cpu_ms_per_1000(self, name: str) -> float:
        """What a service used: Redis as a part of the server's cost, PostgreSQL beside it."""
        return self.service_cpu_ms.get(name, 0.0) / self.deliveries * 1000 if self.deliveries else 0.0

    @property
    def deliveries_per_s(self) -> float:
        return self.deliveries / self.window_s if self.window_s else 0.0

    @property
    def kib_per_connection(self) -> float:
        return (self.loaded_kib - self.base_kib) / self.connections if self.connections else 0.0

    @property
    def cpu_ms_per_s(self) -> float:
        return self.server_cpu_ms / self.window_s if self.window_s else 0.0

    def latency_ms(self, name: str) -> float:
        """The latency over all deliveries: `p50`, `p90`, `p99`, `mean` or `max`."""
        return self._latency_ms("latency_ms", name)

    def same_node_ms(self, name: str) -> float:
        """The same over deliveries to clients of the writer's own node."""
        return self._latency_ms("same_node_ms", name)

    def other_node_ms(self, name: str) -> float:
        """The same over deliveries to clients of another node than the writer's."""
        return self._latency_ms("other_node_ms", name)

    @property
    def times_same_node(self) -> float:
        """How many times the p50 within a node the p50 between nodes is."""
        within = self.same_node_ms("p50")
        return self.other_node_ms("p50") / within if within else 0.0

    def _latency_ms(self, kind: str, name: str) -> float:
        return float(self.result.get(kind, {}).get(name, 0.0))

    def as_json(self) -> dict[str, Any]:
        """Everything, with what follows from it, for the results file."""
        derived = ["trouble", "disturbed", "cpu_ms_per_1000", "deliveries_per_s", "kib_per_connection", "cpu_ms_per_s"]
        derived += ["times_same_node"] if self.times_same_node else []
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server (all its nodes, and Redis between them) and the generator (beside it PostgreSQL) run."""

    server: int
    generator: int


def apply(load: Load, running: Running, generator: Path, cores: Cores, *, run: str) -> Sample:
    """Puts the load on the server. `run` begins the rooms' names and must be new for each run."""
    base_kib = _memory_kib(running)
    command = [str(generator), *_arguments(load, running, run)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {cores.generator}),
    )
    try:
        return _follow(process, load, running, cores, base_kib)
    finally:
        process.kill()
        process.communicate()


def _arguments(load: Load, running: Running, run: str) -> list[str]:
    options: dict[str, object] = {
        "dialect": running.server.dialect,
        "ports": ",".join(map(str, running.ports)),
        "path": running.server.path,
        "run": run,
        "rooms": load.rooms,
        "clients": load.clients,
        "writers": load.writers,
        "update-rate": load.update_rate,
        "cursor-rate": load.cursor_rate,
        "warmup": load.warmup_s,
        "seconds": load.seconds,
        "drain": load.drain_s,
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def _memory_kib(running: Running) -> float:
    return sum(map(proc.memory_kib, running.pids))


def _counters(running: Running, cores: Cores) -> dict[str, float]:
    """Milliseconds so far: of the nodes, of each core, and of each service under its name."""
    return {
        "nodes": sum(map(proc.cpu_ms, running.pids)),
        "server core": proc.core_busy_ms(cores.server),
        "generator core": proc.core_busy_ms(cores.generator),
        **{service.name: proc.cpu_ms(service.pid) for service in running.services},
    }


def _follow(process: subprocess.Popen[str], load: Load, running: Running, cores: Cores, base_kib: float) -> Sample:
    events: dict[str, dict[str, Any]] = {}
    before: dict[str, float] = {}
    used: dict[str, float] = {}
    loaded_kib = 0.0
    assert process.stdin
    assert process.stdout
    assert process.stderr
    for line in process.stdout:
        event = json.loads(line)
        events[event["event"]] = event
        if event["event"] == "start":
            before = _counters(running, cores)
        elif event["event"] == "stop":
            used = {name: total - before[name] for name, total in _counters(running, cores).items()}
            loaded_kib = _memory_kib(running)
            process.stdin.write("\n")
            process.stdin.flush()
    if "result" not in events:
        said = process.stderr.read().strip().removeprefix("loadgen: ")
        return Sample(failure=said or "the generator ended without a result", connections=load.connections)
    result = events["result"]
    window_ms = result["window_s"] * 1000
    generator_ms = result["generator_cpu_s"] * 1000
    server_ms = used["nodes"] + sum(used[service.name] for service in running.services if service.counted)
    beside_ms = generator_ms + sum(used[service.name] for service in running.services if not service.counted)
    return Sample(
        synced_s=events["synced"]["seconds"],
        window_s=result["window_s"],
        deliveries=result["update_deliveries"] + result["entry_deliveries"],
        server_cpu_ms=server_ms,
        service_cpu_ms={service.name: used[service.name] for service in running.services},
        base_kib=base_kib,
        loaded_kib=loaded_kib,
        connections=load.connections,
        generator_share=generator_ms / window_ms,
        foreign_server_share=max(0.0, used["server core"] - server_ms) / window_ms,
        foreign_generator_share=max(0.0, used["generator core"] - beside_ms) / window_ms,
        result=result,
    )
