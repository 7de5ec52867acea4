#!/usr/bin/env python3
"""Count down, one number a second, and say how late each one was.

    countdown.py --from 20

Each number is due at a fixed time after the start, so that one that is late does not delay the others. A line is

    19 at 1795280524.000183, 0.183 ms late

with the host's time in seconds since 1970 (UTC). Needs only Python's own library.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time


def count_down(start: int, every_s: float) -> None:
    """Print the numbers below `start`, each at its time."""
    begun, wall = time.monotonic(), time.time()
    print(f"counting down from {start}, a number every {every_s:g} s, at {wall:.6f}", flush=True)
    for ticks in range(1, start + 1):
        due = begun + ticks * every_s
        time.sleep(max(0.0, due - time.monotonic()))
        now = time.monotonic()
        print(f"{start - ticks} at {wall + now - begun:.6f}, {(now - due) * 1000:.3f} ms late", flush=True)
    print("lift-off", flush=True)


def main() -> int:
    """Read the command line and count."""
    parser = argparse.ArgumentParser(description="Count down, one number a second.")
    parser.add_argument("--from", dest="start", type=int, default=20, help="the number it starts from (20)")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two numbers (1)")
    given = parser.parse_args()
    if given.start < 1 or given.every <= 0:
        parser.error("--from is at least 1, and --every more than 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before zero"))
    count_down(given.start, given.every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
