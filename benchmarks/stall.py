"""What load generators say of a server that stood still for 2 s of 20, at 500 requests/s, against the truth.

    python benchmarks/stall.py [--rate 500] [--seconds 20]

The server (loopback.py) notes when it answered what. A request that was due at a moment and was answered at another
took the time between: those are the true latencies, by the server's clock, which is the client's here. Each generator
gets a server of its own, the same rate (ab and wrk, which have none, the same time) and 10 connections where it needs a
number; what it prints stands beside what labtool's drivers say of the same. Those that are not installed are left out:
apt-get install apache2-utils wrk hey nghttp2-client. Our p99 must be within 2 % of the true one.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labtool.dataset import requests

ROOT = Path(__file__).parents[1]
DRIVER = ROOT / "playbooks/workloads/files/http_load.py"
CONNECTIONS = 10
BOUND = 0.02


@contextmanager
def server(kind: str) -> Iterator[str]:
    """Run a server of loopback.py; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("loopback.py")), kind, str(port)]
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest of sorted values that a share q of them does not exceed."""
    return values[max(math.ceil(q * len(values)) - 1, 0)]


def truth(url: str, due: dict[str, float], in_order: list[float]) -> list[float]:
    """Return how long the server let each request wait, sorted, in s: from when it was due to when it was answered.

    By its id where the generator gives one; else the server answered in the order in which they were due.
    """
    with urllib.request.urlopen(f"{url}/answers") as answer:
        answers = json.load(answer)[1:]  # the first is /stall's own
    if due:
        return sorted(at - due[name] for at, name in answers)
    return sorted(at - one for (at, _), one in zip(sorted(answers), in_order, strict=True))


def plan(url: str, folder: Path, **more: Any) -> Path:
    """Write a driver's plan."""
    given = {
        "mode": "open", "targets": [url], "method": "GET", "path": "/", "headers": [], "body": "", "body_file": "",
        "fields_file": "", "profile": "constant", "peak": 0, "steps": 1, "points": [], "arrivals": "even", "seed": 1,
        "generator": "replay", "http2": False, "timeout_s": 30, "connections": 4000, "keep_alive": True, "ca_file": "",
        "clients": 1, "host": "here", "host_index": 0, "hosts": 1, "warmup_s": 0, "start_at": time.time(),
        "output": str(folder / "raw/http-load/here"),
    } | more  # fmt: skip
    file = folder / "plan.json"
    file.write_text(json.dumps(given))
    return file


def ours(generator: str, url: str, rate: float, seconds: float) -> tuple[dict[str, float], float]:
    """Drive with labtool's driver; return the percentiles of its table, and the true p99, in ms."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        connections = CONNECTIONS if generator == "h2load" else 4000
        file = plan(url, folder, rate=rate, duration_s=seconds, generator=generator, connections=connections)
        subprocess.run([sys.executable, DRIVER, "clients", file], check=True)
        table = requests.parse(folder / "raw", "http-load")["requests"]
    latencies = sorted(table["latency_s"].to_pylist())
    due = [moment.timestamp() for moment in table["due"].to_pylist()]
    named = dict(zip(table["id"].to_pylist(), due, strict=True)) if generator == "replay" else {}
    true = truth(url, named, sorted(due))
    return {"p50": quantile(latencies, 0.5) * 1e3, "p99": quantile(latencies, 0.99) * 1e3}, quantile(true, 0.99) * 1e3


def theirs(command: list[str], p50: str, p99: str) -> dict[str, float]:
    """Run a generator; return what it prints for two percentiles, in ms."""
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def value(pattern: str) -> float:
        match = re.search(pattern, said)
        if match is None:
            return math.nan
        unit = match[2] if match.re.groups > 1 else "ms"
        return float(match[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "secs": 1e3}[unit]

    return {"p50": value(p50), "p99": value(p99)}


def h2load_alone(url: str, rate: float, seconds: float) -> dict[str, float]:
    """Run h2load and read its own log as it is: from the actual send."""
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        command = ["h2load", "--h1", f"-c{CONNECTIONS}", f"--rps={rate / CONNECTIONS}", f"-n{round(rate * seconds)}"]
        subprocess.run([*command, f"--log-file={log}", f"{url}/"], stdout=subprocess.DEVNULL, check=True)
        took = sorted(int(line.split("\t")[2]) / 1e3 for line in log.read_text().splitlines())
    return {"p50": quantile(took, 0.5), "p99": quantile(took, 0.99)}


def main() -> int:
    """Run all, print the table; return 1 where ours is off."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    rate, seconds = given.rate, given.seconds
    each, length = f"{rate / CONNECTIONS:g}", f"{seconds:g}"
    latency = r"{}%\s+([\d.]+)(us|ms|s)"
    others: dict[str, Callable[[str], dict[str, float]]] = {
        "ab": lambda url: theirs(
            ["ab", "-q", "-k", "-c", str(CONNECTIONS), "-t", length, "-n", "10000000", f"{url}/"],
            r"50%\s+(\d+)", r"99%\s+(\d+)"),
        "wrk": lambda url: theirs(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{length}s", "--latency", f"{url}/"],
            latency.format(50), latency.format(99)),
        "hey": lambda url: theirs(
            ["hey", "-c", str(CONNECTIONS), "-q", each, "-z", f"{length}s", f"{url}/"],
            r"50% in ([\d.]+) (secs)", r"99% in ([\d.]+) (secs)"),
        "h2load": lambda url: h2load_alone(url, rate, seconds),
    }  # fmt: skip
    print(f"{rate:g} requests/s for {seconds:g} s, of which the server stands still for 2 s\n")
    print(f"{'':34}{'p50':>10}{'p99':>12}{'true p99':>12}{'off by':>9}")
    for tool, run in others.items():
        if shutil.which(tool) is None:
            print(f"{tool:34}{'not installed':>22}")
            continue
        with server("stall") as url:
            urllib.request.urlopen(f"{url}/stall").close()
            line(f"{tool}, what it says", run(url), None)
    worst = 0.0
    for label, generator in (("labtool, its own sender", "replay"), ("labtool, h2load's log corrected", "h2load")):
        if generator == "h2load" and shutil.which("h2load") is None:
            continue
        with server("stall") as url:
            urllib.request.urlopen(f"{url}/stall").close()
            found, true_p99 = ours(generator, url, rate, seconds)
        worst = max(worst, abs(line(label, found, true_p99)))
    print(f"\nlabtool's p99 is off by {worst:.1%} at most (<= {BOUND:.0%})")
    return 0 if worst <= BOUND else 1


def line(label: str, found: dict[str, float], true_p99: float | None) -> float:
    """Print a row; return by how much its p99 is off, as a share."""
    off = found["p99"] / true_p99 - 1 if true_p99 else 0.0
    told = f"{true_p99:>10,.0f}ms{off:>+9.1%}" if true_p99 else ""
    print(f"{label:34}{found['p50']:>8,.1f}ms{found['p99']:>10,.1f}ms{told}", flush=True)
    return off


if __name__ == "__main__":
    sys.exit(main())
