"""The command `python -m benchmarks`: installs what is missing, measures in interleaved rounds, writes the report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import bounds, install, plots, report, servers, services
from benchmarks.load import Cores
from benchmarks.scenarios import SCENARIOS, TITLES, TWO_NODES, Bench, measurements, takes_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.install import Node
    from benchmarks.servers import Server

SERVERS = ("collab", "yws", "hocuspocus", "hocuspocus-sqlite", "pycrdt-websocket")
COLLAB = ("sqlite", "postgres", "both")
RESULTS = install.HERE / "results"


def main() -> int:
    """Runs everything that was asked for; 1 when something the benchmarks need is missing."""
    chosen = _parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of everything that ends the servers
    try:
        generator = install.compile_generator()
        node = install.find_node()
        candidates = _candidates(chosen, node)
        services.versions(candidates.services)  # fails now rather than after half an hour
        cores = _cores(chosen.cores)
    except (install.Missing, services.ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {cores.generator})
    samples: report.Samples = {}
    ramps: report.Ramps = {}
    bench = Bench(generator, cores, chosen.quick)
    for number in range(1, chosen.rounds + 1):
        for scenario in measurements(chosen.scenarios):
            print(f"round {number} of {chosen.rounds}: {scenario}", file=sys.stderr, flush=True)
            _measure(bench, candidates.of(scenario), scenario, samples, ramps)
    _write(chosen.output, samples, ramps, candidates.names, _facts(node, candidates, cores, chosen))
    return 0


def _measure(
    bench: Bench, candidates: list[Server], scenario: str, samples: report.Samples, ramps: report.Ramps
) -> None:
    if scenario != "A-max":
        for server in candidates:
            began = time.monotonic()
            if scenario == "overload":
                sample = bench.measure_overload(server, ramps[server.name][-1])
            else:
                sample = bench.measure(server, scenario)
            samples.setdefault(scenario, {}).setdefault(server.name, []).append(sample)
            said = f": {sample.trouble}" if sample.trouble else ""
            print(f"  {server.name}, {time.monotonic() - began:.0f} s{said}", file=sys.stderr, flush=True)
        return
    best = {name: climbs[-1].best for name, climbs in ramps.items()}
    first_rates = {name: step.rate for name, step in best.items() if step}
    for name, ramp in bench.measure_max(candidates, first_rates).items():
        ramps.setdefault(name, []).append(ramp)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The servers that are measured, in the order they were asked for."""

    alone: list[Server]
    with_nodes: list[Server]
    """Those that run as two nodes, in that form."""

    def of(self, scenario: str) -> list[Server]:
        """Whom a scenario measures."""
        found = self.with_nodes if scenario in TWO_NODES else self.alone
        return [server for server in found if takes_part(server, scenario)]

    @property
    def names(self) -> list[str]:
        """Everybody who is measured at all."""
        return list(dict.fromkeys(server.name for server in self.alone + self.with_nodes))

    @property
    def services(self) -> set[str]:
        """What has to run beside them."""
        return {name for server in self.alone + self.with_nodes for name in server.services}


def _candidates(chosen: argparse.Namespace, node: Node) -> Candidates:
    peers = install.install_peers(node) if set(chosen.servers) - {"collab"} else Path()
    python = install.install_python_peers() if "pycrdt-websocket" in chosen.servers else Path()
    alone: dict[str, Callable[[], list[Server]]] = {
        "collab": lambda: _collab(chosen),
        "yws": lambda: [servers.yws(node, peers)],
        "hocuspocus": lambda: [servers.hocuspocus(node, peers)],
        "hocuspocus-sqlite": lambda: [servers.hocuspocus_sqlite(node, peers)],
        "pycrdt-websocket": lambda: [servers.pycrdt_websocket(python, peers)],
    }
    with_nodes: dict[str, Callable[[], Server]] = {
        "collab": lambda: servers.collab_nodes(_collab(chosen)[-1].name),
        "hocuspocus": lambda: servers.hocuspocus_nodes(node, peers),
    }
    wanted = set(measurements(chosen.scenarios))
    found = Candidates(
        [server for name in chosen.servers for server in alone[name]()] if wanted - TWO_NODES else [],
        [with_nodes[name]() for name in chosen.servers if name in with_nodes and TWO_NODES & wanted],
    )
    if not found.names:
        raise install.Missing(f"None of these runs as two nodes: {', '.join(chosen.servers)}.")
    return found


def _collab(chosen: argparse.Namespace) -> list[Server]:
    """collab on each database it is to be measured on. Two nodes have a PostgreSQL in any case."""
    asked_for = chosen.collab_database
    found = [servers.collab(asked_for)] if asked_for or chosen.collab != "postgres" else []
    found += [servers.collab_postgres()] if not asked_for and chosen.collab != "sqlite" else []
    return [servers.collab_inline(), *found]


def _cores(wanted: str | None) -> Cores:
    numbers = [int(part) for part in wanted.split(",")] if wanted else sorted(os.sched_getaffinity(0))[:2]
    if len(numbers) != 2 or numbers[0] == numbers[1]:
        raise install.Missing("The benchmarks need two processor cores: one for the server, one for the generator.")
    return Cores(*numbers)


def _facts(node: Node, candidates: Candidates, cores: Cores, chosen: argparse.Namespace) -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=install.HERE, capture_output=True, text=True, check=False
    ).stdout.strip()
    facts = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or "none yet",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1024**3:.0f} GiB",
        "software": f"Python {platform.python_version()}, Node {node.version}",
        "servers": _named(candidates.alone),
        "two nodes": _named(candidates.with_nodes),
        "beside them": services.versions(candidates.services),
        "cores": f"server {cores.server}, generator {cores.generator}",
        "rounds": f"{chosen.rounds}; figures are medians over them",
        "quick": "rooms, clients, documents and times are smaller than the titles say" if chosen.quick else "",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _named(found: list[Server]) -> str:
    return "; ".join(f"{server.name} = {server.version}" for server in found)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _write(
    output: Path | None,
    samples: report.Samples,
    ramps: report.Ramps,
    names: list[str],
    facts: dict[str, str],
) -> None:
    path = output or RESULTS / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    everything = report.with_sustained(samples, ramps)
    judged = {name: bounds.table(verdicts) for name in names if (verdicts := bounds.judge(everything, name))}
    said = "\n\n".join(f"### {name}\n\n{verdicts}" for name, verdicts in judged.items())
    drawn = _draw(path.with_suffix(""), everything, ramps, names)
    text = report.markdown(samples, ramps, names, facts, verdicts=said, plots=drawn)
    path.with_suffix(".md").write_text(text)
    raw = {
        "facts": facts,
        "samples": {
            scenario: {name: [sample.as_json() for sample in found] for name, found in by_server.items()}
            for scenario, by_server in samples.items()
        },
        "ramps": {name: [ramp.as_json() for ramp in climbs] for name, climbs in ramps.items()},
    }
    path.with_suffix(".json").write_text(json.dumps(raw, indent=1))
    print(text)
    print(f"Written to {path.with_suffix('.md')} and .json", file=sys.stderr)


def _draw(folder: Path, samples: report.Samples, ramps: report.Ramps, names: list[str]) -> dict[str, str]:
    """The picture of each scenario, and where it is from the report's folder."""
    drawn: dict[str, str] = {}
    for scenario in samples:
        if found := report.panels(scenario, samples, ramps, names):
            folder.mkdir(exist_ok=True)
            (folder / f"{scenario}.svg").write_text(plots.svg(f"{scenario}: {TITLES[scenario]}", found))
            drawn[scenario] = f"{folder.name}/{scenario}.svg"
    return drawn


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scenarios", type=_names(SCENARIOS), default=list(SCENARIOS), help=",".join(SCENARIOS))
    parser.add_argument("--servers", type=_names(SERVERS), default=list(SERVERS), help=",".join(SERVERS))
    parser.add_argument("--collab", choices=COLLAB, default="postgres", help="what collab keeps its documents in")
    parser.add_argument("--rounds", type=int, help="how often everything is measured, in turn (default 5, quick 1)")
    parser.add_argument("--quick", action="store_true", help="a shorter and smaller look at everything")
    parser.add_argument("--collab-database", metavar="URL", help="a PostgreSQL for collab instead of SQLite")
    parser.add_argument("--cores", metavar="S,G", help="cores of server and generator (default: the first two)")
    parser.add_argument("--output", type=Path, help="where to write the report (.md, and .json beside it)")
    chosen = parser.parse_args(arguments)
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 5)
    return chosen


def _names(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(allowed):
            raise argparse.ArgumentTypeError(f"not one of {', '.join(allowed)}: {', '.join(sorted(unknown))}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
