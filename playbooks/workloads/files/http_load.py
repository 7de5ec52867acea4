#!/usr/bin/env python3
"""Drive web servers: at a given rate (an open loop), one request after another, with `ab`, or up to what they hold.

Each client leaves `<client>.json` (what it was, how it ended) and `<client>.requests.csv.gz` (http_replay.COLUMNS: each
request, when it was due, sent and answered). `load_unit` says how it is called.

Two programs send. Ours (http_replay) gives every request an id, a timeout and a body of its own. `h2load` sends faster,
and HTTP/2; it has neither, its log has each request's start and length, and what is due when follows from the rate.
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import re
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import h2load
from arrivals import Piece, even, from_points, mean_rate, poisson, profile
from find_max import Objective, Search, objectives, step_seconds
from http_replay import Client, Log, Request, Settings, Target, one_after_another, replay, run
from load_unit import Driver, Plan, in_processes, note

UNIT = "labtool-http-load.service"
# Up to so many requests/s of a client `auto` takes ours: a request costs it about 0.2 ms of a core.
OURS_FASTEST = 2000.0
LONGEST_STEPS = 4  # times the asked length: what a low rate needs for its percentiles
BEGIN_S = 0.2  # what making the clients may take
FIELD = re.compile(r"\{(\w+)\}")


def main(arguments: list[str]) -> int:
    """Parse and dispatch."""
    return Driver(UNIT, Path(__file__), drive, limit_s).main(arguments)


def limit_s(plan: Plan) -> float:
    """Return when systemd ends it all, in s."""
    return max(plan["start_at"] - time.time(), 0) + plan["duration_s"] + 2 * plan["timeout_s"] + 120


def drive(plan: Plan) -> int:
    """Run the clients of this host; SIGTERM ends them, and what they did is kept."""
    # All clients of this host begin at the same moment, though making them may have taken longer than was left.
    plan = plan | {"begin_at": max(plan["start_at"], time.time() + BEGIN_S)}
    if plan["mode"] == "ab":
        return drive_ab(plan)
    work = {"open": send_open, "sequential": send_sequential, "find-max": send_find_max}[plan["mode"]]
    return in_processes(work, plan if plan["mode"] == "open" else plan | {"clients": 1})


# What is sent


@dataclass(frozen=True)
class Templates:
    """A request whose path, headers and body may name columns of a table, as {name}; its rows take turns."""

    method: str
    path: str
    endpoint: str
    headers: tuple[tuple[str, str], ...]
    body: str
    rows: tuple[dict[str, str], ...]

    @classmethod
    def of(cls, plan: Plan) -> Templates:
        """Read what a plan sends."""
        body = Path(plan["body_file"]).read_bytes().decode("latin-1") if plan["body_file"] else plan["body"]
        rows: tuple[dict[str, str], ...] = ()
        if plan["fields_file"]:
            with Path(plan["fields_file"]).open(newline="", encoding="utf-8") as file:
                rows = tuple(csv.DictReader(file))
        endpoint = f"{plan['method']} {plan['path'].split('?')[0]}"
        return cls(plan["method"], plan["path"], endpoint, tuple(map(tuple, plan["headers"])), body, rows)

    @property
    def fixed(self) -> bool:
        """True where every request is the same."""
        return not self.rows

    def requests(self, moments: Iterator[float], warmup_s: float, part: int, of: int) -> Iterator[Request]:
        """Yield a request for each moment (s); each client of `of` takes every `of`-th row."""
        rows = islice(cycle(self.rows), part % max(len(self.rows), 1), None, of) if self.rows else None
        body = self.body.encode("latin-1", "replace")
        for due in moments:
            warm = due < warmup_s
            if rows is None:
                yield Request(due, self.method, self.path, self.endpoint, self.headers, body, None, warm)
                continue
            row = next(rows)
            headers = tuple((name, _filled(value, row)) for name, value in self.headers)
            filled = _filled(self.body, row).encode()
            yield Request(due, self.method, _filled(self.path, row, True), self.endpoint, headers, filled, None, warm)


def _filled(text: str, row: dict[str, str], quote: bool = False) -> str:
    def value(match: re.Match[str]) -> str:
        found = row.get(match[1])
        if found is None:
            return match[0]
        return urllib.parse.quote(found, safe="") if quote else found

    return FIELD.sub(value, text)


def settings_of(plan: Plan, name: str) -> Settings:
    """Return how a client sends."""
    return Settings(
        name=f"{plan['host']}-{name}",
        targets=tuple(Target.parse(url) for url in plan["targets"]),
        timeout_s=plan["timeout_s"],
        connections=plan["connections"],
        keep_alive=plan["keep_alive"],
        ca_file=plan["ca_file"],
    )


def pieces_of(plan: Plan) -> list[Piece]:
    """Return the rate of all clients of all hosts over time."""
    if plan["points"]:
        return from_points([(at, rate) for at, rate in plan["points"]], plan["duration_s"])
    return profile(plan["profile"], plan["duration_s"], plan["rate"], plan["peak"], plan["steps"])


def files(plan: Plan, name: str) -> tuple[Path, Path]:
    """Return a client's two files."""
    output = Path(plan["output"])
    return output / f"{name}.json", output / f"{name}.requests.csv.gz"


def described(plan: Plan, name: str, **more: Any) -> Plan:
    """Return what is said of a client before it begins."""
    return {
        "client": name,
        "role": "client",
        "loop": "open" if plan["mode"] in ("open", "find-max") else "closed",
        "targets": plan["targets"],
        "warmup_s": plan["warmup_s"],
        "timeout_s": plan["timeout_s"],
        "started_us": round(time.time() * 1e6),
        **more,
    }


# Open loop


def send_open(plan: Plan, index: int) -> None:
    """One client at its share of the rate."""
    name = f"client-{index + 1}"
    part, of = plan["host_index"] * plan["clients"] + index, plan["hosts"] * plan["clients"]
    pieces = pieces_of(plan)
    file, log_file = files(plan, name)
    start_at = plan["begin_at"]
    generator = generator_of(plan, pieces)
    offered = mean_rate(pieces, plan["warmup_s"], plan["duration_s"]) / of
    per_second = [mean_rate(pieces, at, at + 1) / of for at in range(math.ceil(plan["duration_s"]))]
    known = described(
        plan,
        name,
        generator=generator,
        offered_rate=offered,
        offered_per_second=per_second,
        start_us=round(start_at * 1e6),
        began_late_s=start_at - plan["start_at"],
    )
    note(file, known)
    if generator == "h2load":
        told = h2load.send(plan, pieces[0].first / of, part, of, plan["duration_s"], start_at, log_file)
    else:
        templates = Templates.of(plan)
        moments = poisson(pieces, plan["seed"], part, of) if plan["arrivals"] == "poisson" else even(pieces, part, of)
        log = Log(log_file)
        try:
            told = replay(
                templates.requests(moments, plan["warmup_s"], part, of), settings_of(plan, name), log, start_at
            )
        finally:
            log.close()
    note(file, known | told | {"ended_us": round(time.time() * 1e6)})


def generator_of(plan: Plan, pieces: Sequence[Piece]) -> str:
    """Return which program sends: the one asked for, or the one that is able to."""
    if plan["generator"] != "auto":
        return str(plan["generator"])
    if plan["http2"]:
        return "h2load"
    able = not h2load.cannot(plan)
    fastest = max(max(piece.first, piece.last) for piece in pieces) / (plan["hosts"] * plan["clients"])
    return "h2load" if able and fastest > OURS_FASTEST else "replay"


# One after another


def send_sequential(plan: Plan, index: int) -> None:
    """Send so many requests, each when the one before it was answered."""
    name = f"client-{index + 1}"
    file, log_file = files(plan, name)
    known = described(plan, name, generator="replay", offered_rate=None)
    note(file, known)
    moments = iter([0.0] * plan["requests"])
    requests = list(Templates.of(plan).requests(moments, 0.0, 0, 1))
    time.sleep(max(plan["begin_at"] - time.time(), 0))
    log = Log(log_file)
    try:
        told = one_after_another(requests, settings_of(plan, name), log)
    finally:
        log.close()
    note(file, known | told | {"ended_us": round(time.time() * 1e6)})


def drive_ab(plan: Plan) -> int:
    """Run `ab` as people know it, so many rounds; keep what it prints and its table of requests."""
    output = Path(plan["output"])
    time.sleep(max(plan["begin_at"] - time.time(), 0))
    stopped: list[bool] = []
    code = 0
    for number in range(1, plan["rounds"] + 1):
        name = f"round-{number:02d}"
        command = ["ab", "-n", str(plan["requests"]), "-c", str(plan["concurrency"]), "-g", str(output / f"{name}.tsv")]
        command += ["-s", str(math.ceil(plan["timeout_s"])), "-q", *(["-k"] if plan["keep_alive"] else [])]
        for header, value in plan["headers"]:
            command += ["-H", f"{header}: {value}"]
        if plan["body_file"]:
            command += ["-p", plan["body_file"], "-T", "application/x-www-form-urlencoded"]
        command += [plan["targets"][0].rstrip("/") + plan["path"]]
        known = described(plan, name, generator="ab", offered_rate=None, command=command)
        note(output / f"{name}.json", known)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        signal.signal(signal.SIGTERM, lambda *_, process=process: (stopped.append(True), process.terminate()))
        said, errors = process.communicate()
        (output / f"{name}.out").write_text(said)
        known |= {"ended_us": round(time.time() * 1e6), "exit_code": process.returncode, "errors_said": errors[-1000:]}
        note(output / f"{name}.json", known)
        if stopped:
            break
        if process.returncode:
            print(f"ab ended with {process.returncode}: {errors.strip()[-300:]}", file=sys.stderr)
            code = 1
            break
    return code


# Up to what holds


def send_find_max(plan: Plan, index: int) -> None:
    """Find the highest rate at which the objectives hold; steps.json has every step."""
    name = f"client-{index + 1}"
    file, log_file = files(plan, name)
    wanted = objectives(plan["find_max"])
    known = described(plan, name, generator="replay", offered_rate=None, find_max=plan["find_max"])
    note(file, known)
    log = Log(log_file)
    steps: list[dict[str, Any]] = []
    try:
        told = run(lambda: _search(plan, name, wanted, log, steps), log)
    finally:
        log.close()
        (Path(plan["output"]) / "steps.json").write_text(json.dumps(steps, indent=2) + "\n")
    note(file, known | told | {"ended_us": round(time.time() * 1e6)})


async def _search(plan: Plan, name: str, wanted: Sequence[Objective], log: Log, steps: list[dict[str, Any]]) -> Client:
    latencies: list[float] = []
    lateness: list[float] = []
    services: list[float] = []
    errors: list[str] = []

    def seen(latency: float, late: float | None, error: str) -> None:
        if late is not None:
            lateness.append(late)
            if not error:
                services.append(latency - late)
        (errors if error else latencies).append(error if error else latency)  # type: ignore[arg-type]

    start_at = plan["begin_at"]
    client = Client(settings_of(plan, name), log, start_at, seen)
    stopped = asyncio.Event()

    def stop() -> None:
        stopped.set()
        client.stop()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    templates = Templates.of(plan)
    search = Search(plan["rate"], plan["peak"], plan["precision"])

    async def step(rate: float, seconds: float, warmup: bool) -> float:
        """Send at a rate, and stop as soon as too many were too slow; return when it began, s after the start."""
        for known in (latencies, lateness, services, errors):
            known.clear()
        begun = client.now + 0.05
        count = max(round(rate * seconds), 1)
        spared = [(one, _allowed(one, count)) for one in wanted]

        def moments() -> Iterator[float]:
            for number in range(count):
                if not warmup and number % 16 == 0 and any(_lost(one, most, latencies, errors) for one, most in spared):
                    return
                yield begun + number / rate

        await client.run(templates.requests(moments(), math.inf if warmup else -math.inf, 0, 1))
        return begun

    if plan["warmup_s"] > 0:
        await step(search.rate, plan["warmup_s"], True)
    while not stopped.is_set() and (rate := search.next()) is not None:
        seconds = step_seconds(wanted, rate, plan["step_s"], LONGEST_STEPS * plan["step_s"])
        if client.now + seconds > plan["duration_s"]:
            steps.append({"note": f"no time was left for a step of {seconds:.0f} s at {rate:.1f} requests/s"})
            break
        begun = await step(rate, seconds, False)
        if stopped.is_set():
            break
        latencies.sort()
        lateness.sort()
        services.sort()
        values = [(one, one.value(latencies, len(errors))) for one in wanted]
        late = lateness[math.ceil(0.99 * len(lateness)) - 1] if lateness else 0.0
        excess = _excess(values)
        # Counted from the actual send all would hold: then the load host was late, unless it had no connection left.
        sent_well = _excess([(one, one.value(services, len(errors))) for one in wanted]) < 1
        saturated = excess >= 1 and sent_well and client.most_open < plan["connections"]
        decided = search.tell(rate, excess)
        done = len(latencies) + len(errors)
        steps.append(
            {
                "start_us": round((start_at + begun) * 1e6),
                "end_us": round((start_at + client.now) * 1e6),
                "offered_rate": rate,
                "requests": done,
                "planned": round(rate * seconds),
                "errors": len(errors),
                "late_p99_s": late,
                "saturated": saturated,
                "decided": decided,
                "held": excess < 1,
                "too_few": done < max(one.fewest for one in wanted) and excess < 1,
                "objectives": [
                    {
                        "text": one.text,
                        "unit": one.unit,
                        "bound": one.shown(one.bound),
                        "value": None if math.isinf(value) else one.shown(value),
                    }
                    for one, value in values
                ],
            }
        )
        if saturated and decided:
            steps.append({"note": f"the load host itself was late at {rate:.1f} requests/s: the server may hold more"})
            break
    steps.append({"answer": {"held": search.held, "failed": search.failed}})
    return client


def _excess(values: Sequence[tuple[Objective, float]]) -> float:
    """Return the worst value as a multiple of its bound."""
    return max(value / one.bound if one.bound else math.inf if value else 0.0 for one, value in values)


def _allowed(objective: Objective, count: int) -> int:
    """Return how many of `count` requests may miss the bound."""
    if objective.measure == "percentile":
        return math.floor((1 - objective.q) * count + 1e-9)
    if objective.measure == "errors":
        return math.floor(objective.bound * count)
    return 0 if objective.measure == "max" else count


def _lost(objective: Objective, allowed: int, latencies: Sequence[float], errors: Sequence[str]) -> bool:
    """Return True where the step can't be held any more, by far."""
    if objective.measure == "errors":
        return len(errors) > 3 * allowed + 3
    if objective.measure == "mean":
        return False
    recent = latencies[-3 * allowed - 3 :]
    return len(recent) > 3 * allowed + 2 and min(recent) > 3 * objective.bound


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
