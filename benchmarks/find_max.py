"""Whether --find-max finds the capacity of a server that has a known one, five times out of five.

    python benchmarks/find_max.py [--times 5] [--objective 'p99 < 200 ms, errors < 0.1 %']

The server (loopback.py) has one worker that takes 10 ms for a request. What it holds is measured beside each search, by
asking it as fast as it answers: on a busy machine 10 ms are a little more. Each answer must be within 5 % of that.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from stall import DRIVER, plan, server

BOUND = 0.05
ASKERS = 4
ASKED_S = 10.0


def capacity(url: str) -> float:
    """Return the requests/s that the server answers when there is always one waiting."""
    host, _, port = url.removeprefix("http://").partition(":")
    counts = [0] * ASKERS
    until = time.monotonic() + ASKED_S

    def ask(number: int) -> None:
        with socket.create_connection((host, int(port))) as connection:
            while time.monotonic() < until:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                connection.recv(4096)
                counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(ASKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / ASKED_S


def search(url: str, objective: str) -> tuple[float, float, int]:
    """Return the highest rate that held, the lowest that failed, and the number of steps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = plan(
            url, folder, mode="find-max", find_max=objective, rate=20, peak=1e6, duration_s=1200, warmup_s=2,
            connections=1000, precision=0.03, step_s=10,
        )  # fmt: skip
        subprocess.run([sys.executable, DRIVER, "clients", file], check=True)
        steps = json.loads((folder / "raw/http-load/here/steps.json").read_text())
    answer = steps[-1]["answer"]
    return answer["held"] or 0.0, answer["failed"] or 0.0, sum(1 for step in steps if "offered_rate" in step)


def main() -> int:
    """Search so often; return 1 where an answer is off."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--objective", default="p99 < 200 ms, errors < 0.1 %")
    given = parser.parse_args()
    good = 0
    for _ in range(given.times):
        with server("capacity") as url:
            known = capacity(url)
            held, failed, steps = search(url, given.objective)
        off = held / known - 1
        good += abs(off) <= BOUND
        print(
            f"{given.objective}: {held:.1f} requests/s held and {failed:.1f} failed, after {steps} steps; "
            f"the server answers {known:.1f}: {off:+.1%}",
            flush=True,
        )
    print(f"{good} of {given.times} within {BOUND:.0%}")
    return 0 if good == given.times else 1


if __name__ == "__main__":
    sys.exit(main())
