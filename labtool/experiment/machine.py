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

from labtool.dataset.run import RunDirectory

FILE = "machine.csv"
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

    Columns: seconds since the epoch; busy, all and stolen jiffies since boot (proc(5), /proc/stat). Without such a
    file nothing is written.
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
    try:
        lines = (directory.raw / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    rows = [line.split(",") for line in lines]
    rows = [row for row in rows if len(row) == 4]  # a line that a crash cut has fewer
    readings = [(float(at), int(busy), int(total), int(stolen)) for at, busy, total, stolen in rows]
    inside = [r for r in readings if start.timestamp() - 1 <= r[0] <= end.timestamp() + 1]
    if len(inside) < 2 or inside[-1][2] <= inside[0][2]:
        return None
    first, last = inside[0], inside[-1]
    full = sum(b[0] - a[0] for a, b in pairwise(inside) if b[1] - a[1] >= FULL * (b[2] - a[2]))
    total = last[2] - first[2]
    return Use(busy=(last[1] - first[1]) / total, stolen=(last[3] - first[3]) / total, full=full / (last[0] - first[0]))


def jiffies() -> tuple[int, int, int]:
    """Return the busy, all and stolen CPU time of this machine since boot."""
    counts = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return sum(counts) - counts[3] - counts[4], sum(counts), counts[7]
