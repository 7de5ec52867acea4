"""What this machine itself did in the window. Where it carries the hosts, its load is what they waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from labtool.dataset.run import RunDirectory

FILE = "machine.csv"
STAT = Path("/proc/stat")


@contextmanager
def recorded(directory: RunDirectory) -> Iterator[None]:
    """Write this machine's CPU counters to `raw/machine.csv` once a second while the block runs.

    Columns: seconds since the epoch, busy and all jiffies since boot (proc(5), /proc/stat). Where there is no such
    file, nothing is written.
    """
    done = threading.Event()

    def record() -> None:
        with (directory.raw / FILE).open("a", encoding="utf-8") as file:
            while True:
                busy, total = jiffies()
                file.write(f"{time.time():.3f},{busy},{total}\n")
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


def utilisation(directory: RunDirectory, start: datetime, end: datetime) -> float | None:
    """Return the share of its CPU time this machine was busy from `start` to `end`, None where it was not recorded."""
    try:
        lines = (directory.raw / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    readings = []
    for line in lines:
        parts = line.split(",")
        if len(parts) == 3:  # a line that a crash cut
            readings.append((float(parts[0]), int(parts[1]), int(parts[2])))
    inside = [r for r in readings if start.timestamp() - 1 <= r[0] <= end.timestamp() + 1]
    if len(inside) < 2 or inside[-1][2] <= inside[0][2]:
        return None
    return (inside[-1][1] - inside[0][1]) / (inside[-1][2] - inside[0][2])


def jiffies() -> tuple[int, int]:
    """Return the busy and all CPU time of this machine since boot."""
    counts = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return sum(counts) - counts[3] - counts[4], sum(counts)
