"""What a confined process does to itself: it gives up its rights, and limits its memory and time.

A malicious frame that takes control of a decoder can then reach nothing. Programs of confined processes import this
module, so it imports nothing but the standard library.
"""

from __future__ import annotations

import resource
from pathlib import Path


def limit(memory_bytes: int) -> None:
    """Limit further memory to `memory_bytes`, and give up the rights to open files, start processes and write files."""
    statistics = Path("/proc/self/statm")
    if statistics.exists():  # Only Linux has it.
        used = int(statistics.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    for each in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(each, (0, 0))


def limit_cpu(seconds: int) -> None:
    """Limit the CPU time of the process to `seconds` from now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 1 + seconds, hard))
