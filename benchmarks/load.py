"""One load on one running server: starts the generator on its core, samples the server, returns what was measured.

What a load is, which loads there are and what a figure means stands here; how the scenarios use them in `scenarios`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from benchmarks import documents, proc

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.servers import Running

COUNTED_FROM_S = 0.5
"""The kernel counts processor time in steps of 10 ms: of a shorter measurement it says too little."""
OPENING = 64
"""Connections under way at once before measuring; who joins late does so all at once."""
PEAK_EVERY_S = 0.1
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
    update_chars: int = 1
    """Letters in each update."""
    acknowledged: bool = False
    """Whether writers ask for acknowledgements: by y-sweet's message 102, or as Hocuspocus gives them anyway."""
    late: int = 0
    """The last ones of each room join all at once while it is measured."""
    late_at_s: float = 0.0
    """After the measured time began."""
    until_joined: bool = False
    """Measure until everybody late is there, instead of for `seconds`."""
    join_timeout_s: float = 60.0
    stalled: int = 0
    """The last ones of each room, before the late, stop reading during the measured time."""
    look: bool = False
    """Whether memory is looked at when everything is sent and the stalled still do not read."""
    watch_memory: bool = False
    """Whether the most memory of the measured time is looked for. Looking costs the server a little."""
    document: documents.Edited | documents.Pasted | None = None
    use: str = "upload"
    """upload: each room's first client brings it before anybody else comes. expect: it is there already, and whoever
    comes is synced when all of it has arrived. paste: the first client of the first room brings a piece a second."""

    @property
    def connections(self) -> int:
        return self.rooms * self.clients

    @property
    def joining(self) -> int:
        """How many join late."""
        return self.rooms * self.late

    def shortened(self, seconds: float) -> Load:
        """The same for a shorter time."""
        return replace(
            self,
            seconds=min(self.seconds, seconds),
            warmup_s=min(self.warmup_s, 0.5),
            drain_s=min(self.drain_s, 1.5),
            join_timeout_s=min(self.join_timeout_s, 10.0),
        )


_LACKS = {
    "connections_lost": "connections lost",
    "late_missing": "of those who joined late never synced",
    "documents_missing": "clients without the whole document",
    "acknowledgements_missing": "updates never acknowledged",
}
"""What a result counts that should be nothing."""


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
    seeded_kib: float = 0.0
    """When every room had its document; 0 without documents."""
    started_kib: float = 0.0
    """When measuring began."""
    sent_kib: float = 0.0
    """When everything was sent and the stalled did not read yet; 0 when nobody looked."""
    peak_kib: float = 0.0
    """The most that was seen while people joined late; 0 when nobody did."""
    loaded_kib: float = 0.0
    """And at the end, everybody still connected."""
    connections: int = 0
    documents: int = 0
    """How many rooms had a prepared document."""
    document_kib: float = 0.0
    generator_share: float = 0.0
    """Of its core, with the services that stand there."""
    planned_s: float = 0.0
    """For how long was sent; 0 when that had no end of its own."""
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
        for name, what in _LACKS.items():
            if self.result.get(name):
                return f"{self.result[name]} {what}"
        if self.missing:
            return f"{self.missing} deliveries missing"
        return str(self.result["first_error"]) if self.result.get("protocol_errors") else None

    @property
    def disturbed(self) -> bool:
        """Whether others used enough of the two cores to change the figures."""
        if self.window_s < COUNTED_FROM_S:
            return False
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

    @property
    def cores(self) -> float:
        """How many processor cores the server kept busy."""
        return self.cpu_ms_per_s / 1000

    @property
    def sent_growth_mib(self) -> float:
        """Memory that came from the beginning of measuring until everything was sent."""
        return (self.sent_kib - self.started_kib) / 1024 if self.sent_kib else 0.0

    @property
    def peak_growth_mib(self) -> float:
        """Memory that came at most while people joined."""
        return max(0.0, self.peak_kib - self.started_kib) / 1024

    @property
    def peak_growth_documents(self) -> float:
        """The same in times the document."""
        return self.peak_growth_mib * 1024 / self.document_kib if self.document_kib else 0.0

    @property
    def mib_per_document(self) -> float:
        """Memory of each prepared document that is open."""
        return (self.seeded_kib - self.base_kib) / 1024 / self.documents if self.documents else 0.0

    @property
    def recovered_s(self) -> float:
        """From the moment a slow reader read again until it had everything; infinite when it never had."""
        seconds = float(self.result.get("stalled_recovered_s", -1.0))
        return seconds if seconds >= 0 else float("inf")

    @property
    def drained_s(self) -> float:
        """From the end of the planned time until the last delivery came."""
        return max(0.0, self.window_s - self.planned_s)

    @property
    def connections_lost(self) -> int:
        return int(self.result.get("connections_lost", 0))

    @property
    def cpu_ms_per_join(self) -> float:
        """Server CPU of the measured time for each who joined late."""
        joined = int(self.result.get("late_joined", 0))
        return self.server_cpu_ms / joined if joined else 0.0

    def latency_ms(self, name: str) -> float:
        """The latency over all deliveries: `p50`, `p90`, `p99`, `mean` or `max`."""
        return self._latency_ms("latency_ms", name)

    def update_ms(self, name: str) -> float:
        """The same over updates alone."""
        return self._latency_ms("update_ms", name)

    def acknowledged_ms(self, name: str) -> float:
        """From the update's sending until its writer was told that it is kept, or applied."""
        return self._latency_ms("acknowledged_ms", name)

    def join_ms(self, name: str) -> float:
        """From opening the connection until synced, over those who joined late."""
        return self._latency_ms("join_ms", name)

    def same_node_ms(self, name: str) -> float:
        """The latency over deliveries to clients of the writer's own node."""
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
        "update-chars": load.update_chars,
        "acknowledged": int(load.acknowledged),
        "late": load.late,
        "late-at": load.late_at_s,
        "until-joined": int(load.until_joined),
        "join-timeout": load.join_timeout_s,
        "stalled": load.stalled,
        "look": int(load.look),
        "first-alone": int(running.server.first_alone),
        "opening": max(OPENING, load.joining),
    }
    if load.document:
        options |= {"document": documents.path_of(load.document), "use": load.use}
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


class _Peak:
    """Looks at the server's memory again and again, and keeps the most."""

    def __init__(self, running: Running) -> None:
        self.kib = 0.0
        self._running = running
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(PEAK_EVERY_S):
            self.kib = max(self.kib, _memory_kib(self._running))


def _follow(process: subprocess.Popen[str], load: Load, running: Running, cores: Cores, base_kib: float) -> Sample:
    events: dict[str, dict[str, Any]] = {}
    before: dict[str, float] = {}
    used: dict[str, float] = {}
    kib: dict[str, float] = {}
    peak: _Peak | None = None
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with contextlib.ExitStack() as stack:
        for line in process.stdout:
            event = json.loads(line)
            name = event["event"]
            events[name] = event
            if name == "stop":
                used = {name: total - before[name] for name, total in _counters(running, cores).items()}
            if name in ("seeded", "start", "sent", "stop"):
                kib[name] = _memory_kib(running)
            if name == "start":
                peak = stack.enter_context(_Peak(running)) if load.watch_memory else None
                before = _counters(running, cores)
            if name in ("seeded", "sent", "stop"):
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
        seeded_kib=kib.get("seeded", 0.0),
        started_kib=kib["start"],
        sent_kib=kib.get("sent", 0.0),
        peak_kib=max(peak.kib, kib["stop"]) if peak else 0.0,
        loaded_kib=kib["stop"],
        connections=load.connections,
        documents=load.rooms if load.document and load.use == "upload" else 0,
        document_kib=documents.path_of(load.document).stat().st_size / 1024 if load.document else 0.0,
        generator_share=beside_ms / window_ms,
        planned_s=0.0 if load.until_joined else load.seconds,
        foreign_server_share=max(0.0, used["server core"] - server_ms) / window_ms,
        foreign_generator_share=max(0.0, used["generator core"] - beside_ms) / window_ms,
        result=result,
    )
