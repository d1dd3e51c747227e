"""What a tree of processes used, read from /proc: CPU of everything in it, proportional memory, other load.

Linux only. Nothing here starts or ends a process.
"""

from __future__ import annotations

import os
from pathlib import Path

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_PPID, _UTIME, _CSTIME = 1, 11, 14
"""Fields of /proc/<pid>/stat, counted behind the command's closing bracket (proc(5))."""


def tree(root: int) -> list[int]:
    """The process and all its descendants that live now."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (fields := _stat(int(path.name))):
            children.setdefault(int(fields[_PPID]), []).append(int(path.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_ms(root: int) -> float:
    """User and system time of the tree so far, in milliseconds; ended children that were waited for included."""
    ticks = 0
    for pid in tree(root):
        if fields := _stat(pid):
            ticks += sum(int(field) for field in fields[_UTIME : _CSTIME + 1])
    return ticks * _TICK_MS


def memory_kib(root: int) -> float:
    """Proportional set size of the tree in KiB: shared pages are counted once, divided among their users."""
    return sum(_pss_kib(pid) for pid in tree(root))


def core_busy_ms(core: int) -> float:
    """Everything a core has done so far, by whomever, in milliseconds; waiting for disks is not work."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) * _TICK_MS
    return 0.0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _pss_kib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
