"""Processor time of process families, from /proc/PID/stat: survives a machine that others use too."""

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PARENT, _UTIME, _CHILDREN_STIME = 1, 11, 14  # places behind the name, man proc_pid_stat


def seconds_by_family(roots: dict[str, int]) -> dict[str, float]:
    """User and system seconds of each root so far, with all that it has started, also of what has ended."""
    stats = _all_stats()
    return {name: _family(pid, stats) for name, pid in roots.items()}


def since(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """The difference."""
    return {name: after[name] - before.get(name, 0.0) for name in after}


def _family(root: int, stats: dict[int, list[int]]) -> float:
    members, found = {root}, {root}
    while found:
        found = {pid for pid, stat in stats.items() if stat[0] in found}
        members |= found
    return sum(sum(stats[pid][1:]) for pid in members if pid in stats) / _TICK


def _all_stats() -> dict[int, list[int]]:
    """Parent and the four times of every process there is."""
    stats = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        stats[int(folder.name)] = [int(fields[_PARENT]), *map(int, fields[_UTIME : _CHILDREN_STIME + 1])]
    return stats
