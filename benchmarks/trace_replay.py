"""A trace of a million lines in no order: sorted, and replayed at × 50 or the highest speed this machine holds.

    python benchmarks/trace_replay.py
    python benchmarks/trace_replay.py --lines 10000000 --replay 0       sorting alone

Sorting is held against `sort -n` on the same lines, in turn. What is replayed goes to a small server on loopback, which
shares the machine with the client. A speed holds if the last request is sent within 1 % of its time and none is left
out; the first that holds, of × 50 and then ever slower ones, replays the trace for `--replay` seconds. The bounds:
memory of either under 300 MB, nothing lost, no error.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[1] / "playbooks/workloads/files"
TEMPLATE = {
    "requests": {
        "request": {
            "path": "/decide.php",
            "form": {"payload": "{3-5}", "method": "request"},
            "headers": {"X-User": "{user}"},
        }
    }
}
MEMORY_MB = 300
KEPT_UP = 0.99
SPEEDS = (50, 40, 30, 25, 20, 15, 10, 5)
PROBE_S = 15.0


class Server(asyncio.Protocol):
    """Answers every POST at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            at = self.buffer.find(b"Content-Length: ", 0, end) + 16
            whole = end + 4 + (int(self.buffer[at : self.buffer.index(b"\r", at)]) if at > 15 else 0)
            if len(self.buffer) < whole:
                return
            self.buffer = self.buffer[whole:]
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def serve(port: Any) -> None:
    """Serve until the process is ended; `port` gets the port."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1000)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(forever())


def make(file: Path, lines: int, span_s: float, seed: int) -> None:
    """Write a trace of `lines` in no order: Poisson arrivals over `span_s`, users, features, all from `seed`."""
    chance = random.Random(seed)
    start = 1_700_000_000_000
    with file.open("w") as out:
        out.write("timestamp\tuser\tf1\tf2\tf3\tpath\n")
        for _ in range(lines):  # independent times over a span are a Poisson process
            at = start + int(chance.random() * span_s * 1000)
            out.write(
                f"{at}\tuser-{chance.randrange(20000)}\t{chance.random():.4f}\t{chance.random():.4f}\t"
                f"{chance.randrange(100)}\t/video/{chance.randrange(5000)}\n"
            )


def measured(*command: str | Path, **options: Any) -> tuple[float, float]:
    """Run a program; return its seconds and its peak memory in MB, that of its largest process."""
    began = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], **options)
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{command[0]} ended with {code}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def prepare(folder: Path, *words: str) -> tuple[float, float, dict[str, Any]]:
    """Sort and divide the trace by labtool's program; return its seconds, memory in MB, and what it found."""
    given = (folder / "trace.tsv", folder, "--template", folder / "template.json", *words)
    took, memory = measured(sys.executable, FILES / "trace_prepare.py", *given, stdout=subprocess.DEVNULL)
    return took, memory, json.loads((folder / "trace.json").read_text())


def replay(folder: Path, port: int, speed: float, seconds: float) -> dict[str, Any]:
    """Replay at a speed for so long with one client; return what there is to say."""
    _, _, found = prepare(folder, "--speed", str(speed), "--duration", str(seconds))
    plan = {
        "clients": 1,
        "host": "benchmark",
        "output": str(folder / "out"),
        "parts": str(folder / "parts/0"),
        "layout": found["layout"],
        "template": str(folder / "template.json"),
        "targets": [f"http://127.0.0.1:{port}"],
        "speed": speed,
        "start_at": time.time() + 1,
        "duration_s": seconds,
        "warmup_s": 0,
        "timeout_s": 10,
        "connections": 1000,
        "keep_alive": True,
        "ca_file": "",
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    _, memory = measured(sys.executable, FILES / "trace_replay.py", "clients", folder / "plan.json")
    known = json.loads((folder / "out/client-1.json").read_text())
    late = array("d")
    first, last = float("inf"), 0.0
    with gzip.open(folder / "out/client-1.requests.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if row["sent_us"]:
                sent = int(row["sent_us"]) / 1e6
                late.append(sent - int(row["due_us"]) / 1e6)
                first, last = min(first, sent), max(last, sent)
    ordered = sorted(late)
    quantiles = {f"p{q:g}": ordered[min(int(len(ordered) * q / 100), len(ordered) - 1)] for q in (50, 99, 99.9, 100)}
    lost = found["replayed"] - len(late)
    achieved = speed * found["lasts_s"] / max(last - first, 1e-9)
    return {
        "offered": found["replayed"] / max(found["lasts_s"], 1e-9),
        "rate": len(late) / max(last - first, 1e-9),
        "achieved": achieved,
        "late": quantiles,
        "errors": sum(known["errors"].values()),
        "unsent": lost,
        "requests": len(late),
        "memory": memory,
        "holds": achieved >= KEPT_UP * speed and not lost,
    }


def told(speed: float, seen: dict[str, Any]) -> str:
    """Say how a replay went."""
    late = ", ".join(f"{name} {value * 1000:.1f}" for name, value in seen["late"].items())
    return (
        f"× {speed:g}: {seen['requests']:,} requests, {seen['rate']:,.0f}/s of {seen['offered']:,.0f}/s "
        f"(× {seen['achieved']:.1f}), late by ms: {late}; {seen['unsent']} unsent, {seen['errors']} errors, "
        f"{seen['memory']:.0f} MB"
    )


def main() -> None:
    """Make, sort, replay; exit 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--span", type=float, default=15_000, help="seconds from the trace's first line to its last")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="of sorting")
    parser.add_argument("--replay", type=float, default=1e9, help="seconds of the replay at most; 0 is none")
    parser.add_argument("--into", type=Path, help="folder for the files. [default: the system's temporary]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.into) as name:
        folder = Path(name)
        (folder / "out").mkdir()
        (folder / "template.json").write_text(json.dumps(TEMPLATE))
        make(folder / "trace.tsv", given.lines, given.span, given.seed)
        size = (folder / "trace.tsv").stat().st_size
        print(f"{given.lines:,} lines, {size / 1e6:.0f} MB, {given.span:,.0f} s of trace")
        ours, theirs, memory = [], [], 0.0
        for _ in range(given.rounds):
            with (folder / "sorted.tsv").open("wb") as out:
                took, _ = measured("sort", "-n", folder / "trace.tsv", stdout=out, env=os.environ | {"LC_ALL": "C"})
            theirs.append(took)
            took, used, found = prepare(folder, "--speed", "50")
            ours.append(took)
            memory = max(memory, used)
        same(folder, found["replayed"], given.lines)
        mine, other = sorted(ours)[len(ours) // 2], sorted(theirs)[len(theirs) // 2]
        print(
            f"read, checked, sorted, divided and compressed in {mine:.1f} s ({given.lines / mine:,.0f} lines/s), "
            f"{memory:.0f} MB; `sort -n` {other:.1f} s; ratio {mine / other:.1f}"
        )
        holds = memory < MEMORY_MB
        if given.replay:
            holds &= replayed(folder, given.span, given.replay)
    print("holds" if holds else "does not hold")
    sys.exit(not holds)


def same(folder: Path, replayed: int, lines: int) -> None:
    """End if what was prepared is not the lines that `sort -n` sorted, in its order of times."""
    with gzip.open(folder / "parts/0/client-1.trace.gz", "rt") as mine, (folder / "sorted.tsv").open() as other:
        next(other)  # the header has no number, and so comes first
        for own, line in zip(mine, other, strict=True):
            if own.split("\t")[2] != line.split("\t")[0]:
                sys.exit(f"{own!r} stands where `sort -n` has {line!r}")
    if replayed != lines:
        sys.exit(f"{lines - replayed} lines were lost")


def replayed(folder: Path, span_s: float, seconds: float) -> bool:
    """Find the speed that holds, replay at it, and return whether the bounds hold."""
    port = multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    try:
        for speed in SPEEDS:
            seen = replay(folder, port.value, speed, PROBE_S)
            print(f"  {told(speed, seen)}{'' if seen['holds'] else ': does not hold'}")
            if seen["holds"]:
                break
        seen = replay(folder, port.value, speed, min(seconds, span_s / speed + 1))
        print(told(speed, seen))
    finally:
        server.terminate()
        server.join()
    return bool(seen["holds"]) and seen["memory"] < MEMORY_MB and not seen["errors"]


if __name__ == "__main__":
    main()
