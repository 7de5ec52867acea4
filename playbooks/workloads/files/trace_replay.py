#!/usr/bin/env python3
"""Replay a trace as HTTP requests: each client sends its part of it, every request when it is due.

A client's part is `<parts>/client-<n>.trace.gz`, as trace_prepare.py made it. Each client leaves `<client>.json` (what
it was, how far it came) and `<client>.requests.csv.gz` (http_replay.COLUMNS). `load_unit` says how it is called.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import trace_template
from http_replay import Client, Log, Request, Settings, Target, run
from load_unit import Driver, Plan, in_processes, note
from trace_lines import Layout
from trace_source import Source, moment_over
from trace_template import Rendered

UNIT = "labtool-trace-load.service"


def main(arguments: list[str]) -> int:
    """Parse and dispatch."""
    return Driver(UNIT, Path(__file__), drive, limit_s).main(arguments)


def limit_s(plan: Plan) -> float:
    """Return when systemd ends it all, in s."""
    return float(max(plan["start_at"] - time.time(), 0) + plan["duration_s"] + 2 * plan["timeout_s"] + 120)


def drive(plan: Plan) -> int:
    """Run the clients of this host; what they did is kept, also when SIGTERM ends them."""
    return in_processes(send, plan)


def send(plan: Plan, index: int) -> None:
    """Replay one client's part."""
    name = f"client-{index + 1}"
    output = Path(plan["output"])
    start_at = max(plan["start_at"], time.time() + 0.05)
    settings = Settings(
        name=f"{plan['host']}-{name}",
        targets=tuple(Target.parse(url) for url in plan["targets"]),
        timeout_s=plan["timeout_s"],
        connections=plan["connections"],
        keep_alive=plan["keep_alive"],
        ca_file=plan["ca_file"],
    )
    known = {
        "client": name,
        "role": "client",
        "loop": "closed" if plan["speed"] == "max" else "open",
        "generator": "replay",
        "targets": plan["targets"],
        "warmup_s": plan["warmup_s"],
        "timeout_s": plan["timeout_s"],
        "offered_rate": None,
        "started_us": round(time.time() * 1e6),
        "start_us": round(start_at * 1e6),
        "began_late_s": start_at - plan["start_at"],
    }
    file = output / f"{name}.json"
    note(file, known)
    log = Log(output / f"{name}.requests.csv.gz")
    try:
        source, told = replay(plan, name, settings, log, start_at)
    finally:
        log.close()
    left = {"trace_lines": source.taken + source.left, "trace_left": source.left}
    ended = {"cut": bool(told["cut"] or source.left), "ended_us": round(time.time() * 1e6)}
    note(file, known | told | left | ended)


def replay(
    plan: Plan, name: str, settings: Settings, log: Log, start_at: float
) -> tuple[Source[Request], dict[str, object]]:
    """Send a client's part until it ends or the run's time is over; return how far it came, and what the client was."""
    layout = Layout(**plan["layout"] | {"names": tuple(plan["layout"]["names"])})
    template = trace_template.of(Path(plan["template"]) if plan["template"] else None, layout)
    warmup_s, duration_s = plan["warmup_s"], plan["duration_s"]

    async def everything() -> Client:
        client = (Eager if plan["speed"] == "max" else Client)(settings, log, start_at)
        if isinstance(client, Eager):
            source.make = lambda _, made: request(client.now, made, client.now < warmup_s)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop)
        lines = iter(source)
        await client.run(lines, duration_s)
        source.close(lines)
        return client

    source = Source(
        Path(plan["parts"]) / f"{name}.trace.gz",
        template,
        layout.delimiter,
        lambda due, made: request(due, made, due < warmup_s),
        moment_over(start_at, duration_s),
    )
    return source, run(everything, log)


def request(due: float, made: Rendered, warmup: bool) -> Request:
    """Return what a line became, with when it is due."""
    follow = request(made.follow.after_s, made.follow, warmup) if made.follow else None
    return Request(due, made.method, made.path, made.name, made.headers, made.body, follow, warmup)


class Eager(Client):
    """Sends a request as soon as a connection is free for it: as fast as the server answers."""

    async def _begin_at(self, request: Request) -> None:
        while self._number - self._ended >= self.settings.connections:
            self._finishing = True  # an answer ends the pause
            await self._pause(0.1)
            self._finishing = False
        request.due = max(request.due, self.now)  # a closed loop: nothing is due before it can be sent
        await super()._begin_at(request)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
