"""What this machine itself did in the window. Where it carries the hosts, its load is what they waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from labtool.dataset.machine import FILE, readings
from labtool.dataset.run import RunDirectory

STAT = Path("/proc/stat")
FULL = 0.95  # the share of a second's CPU time from which on something had to wait for a processor


@dataclass(frozen=True)
class Use:
    """What the machine's processors did in a window: all shares, 0…1."""

    busy: float  # of the CPU time: running something, or stolen
    stolen: float  # of the CPU time: taken by other guests of the machine that this one is a guest of
    full: float  # of the window: in seconds at least `FULL` busy


@contextmanager
def recorded(directory: RunDirectory) -> Iterator[None]:
    """Write this machine's CPU counters to `raw/machine.csv` once a second while the block runs.

    The file is as `labtool.dataset.machine` reads it. A machine that does not count them has none.
    """
    done = threading.Event()

    def record() -> None:
        with (directory.raw / FILE).open("a", encoding="utf-8") as file:
            while True:
                file.write(f"{time.time():.3f},{','.join(map(str, jiffies()))}\n")
                file.flush()
                if done.wait(1.0):
                    return

    thread = threading.Thread(target=record, daemon=True) if STAT.exists() else None
    if thread:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread:
            thread.join()


def use(directory: RunDirectory, start: datetime, end: datetime) -> Use | None:
    """Return what this machine's processors did from `start` to `end`, None where it was not recorded."""
    inside = [r for r in readings(directory.raw) if start.timestamp() - 1 <= r.time <= end.timestamp() + 1]
    if len(inside) < 2 or inside[-1].total <= inside[0].total:
        return None
    first, last = inside[0], inside[-1]
    full = sum(b.time - a.time for a, b in pairwise(inside) if b.busy - a.busy >= FULL * (b.total - a.total))
    total = last.total - first.total
    return Use(
        busy=(last.busy - first.busy) / total,
        stolen=(last.stolen - first.stolen) / total,
        full=full / (last.time - first.time),
    )


def jiffies() -> tuple[int, int, int]:
    """Return the busy, all and stolen CPU time of this machine since boot."""
    counts = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return sum(counts) - counts[3] - counts[4], sum(counts), counts[7]
