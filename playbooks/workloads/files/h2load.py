"""h2load at a constant rate, and its log as ours.

Its clients are connections, each with a timer of its own. Needs only Python's own library: it is copied to load hosts.
"""

from __future__ import annotations

import gzip
import io
import math
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from http_replay import COLUMNS

Plan = dict[str, Any]

CLIENT_RATE = 50.0  # requests/s of a connection; above 100 it sends bursts, since its timer has 10 ms


def cannot(plan: Plan) -> str:
    """Say why h2load can't send this; '' where it can."""
    if plan["fields_file"]:
        return "its requests are all the same, and --fields makes them differ"
    if plan["points"] or plan["profile"] != "constant":
        return "its rate is constant"
    if plan["arrivals"] != "even":
        return "its requests are spaced evenly"
    return "" if len(plan["targets"]) == 1 or not plan["http2"] else "HTTP/2 goes to one server"


def send(
    plan: Plan, rate: float, part: int, of: int, seconds: float, start_at: float, log_file: Path
) -> dict[str, Any]:
    """Send a constant rate with h2load, its connections made one by one so that requests are spaced evenly.

    All at once, as with its -D, each connection's requests would come in step with all others'.
    """
    http2 = plan["http2"]
    count = max(round(rate * seconds), 1)
    connections = min(max(math.ceil(rate / CLIENT_RATE), min(10, count)), plan["connections"], count)
    raw = log_file.with_name(log_file.name.replace(".requests.csv.gz", ".h2load.log"))
    # Its timer has whole milliseconds: above 1,000 requests/s some connections are made together.
    apart_ms = max(int(1000 / rate), 1)
    together = math.ceil(rate * apart_ms / 1000 - 1e-9)
    command = ["h2load", *([] if http2 else ["--h1"]), f"-n{count}", f"-c{connections}", f"-m{100 if http2 else 1}"]
    command += [f"-r{together}", f"--rate-period={apart_ms}ms", f"--rps={rate / connections:.6f}", f"--log-file={raw}"]
    command += [f"-N{math.ceil(plan['timeout_s'])}s"]
    for name, value in plan["headers"]:
        command += ["-H", f"{name}: {value}"]
    if plan["method"] != "GET":
        command += ["-H", f":method: {plan['method']}"]
    body = raw.with_suffix(".body")
    if plan["body_file"] or plan["body"]:
        body.write_bytes(Path(plan["body_file"]).read_bytes() if plan["body_file"] else plan["body"].encode())
        command += ["-d", str(body)]
    command += [target.rstrip("/") + plan["path"] for target in plan["targets"]]
    # Clients of several processes and hosts take turns as ours do.
    time.sleep(max(start_at + part / (rate * of) - time.time(), 0))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        said = process.communicate(timeout=seconds + 2 * plan["timeout_s"] + 10)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[0]
    rows = convert(raw, log_file, plan, rate, count) if raw.exists() else 0
    raw.unlink(missing_ok=True)
    body.unlink(missing_ok=True)
    if not rows:
        raise SystemExit(f"h2load sent nothing: {' '.join(said.split())[-300:]}")
    return {"requests": rows, "endpoints": [f"{plan['method']} {plan['path'].split('?')[0]}"], "said": said[-2000:]}


def convert(raw: Path, log_file: Path, plan: Plan, rate: float, count: int) -> int:
    """Turn h2load's log into ours: the k-th request that was sent was due at the first's time plus k ÷ rate.

    What it never sent, because the server held its connections, is there as `unsent`. Returns the number of rows.
    """
    sent = []
    for line in raw.read_text().splitlines():
        cells = line.split("\t")
        if len(cells) >= 3:
            sent.append((int(cells[0]), int(cells[1]), int(cells[2])))
    sent.sort()
    if not sent:
        return 0
    first = sent[0][0]
    end = max(start + length for start, _, length in sent)
    out = io.StringIO()
    out.write(",".join(COLUMNS) + "\n")
    for number in range(count):
        due = first + round(number * 1e6 / rate)
        warm = int(number / rate < plan["warmup_s"])
        if number >= len(sent):
            out.write(f"{due},,{max(end, due)},,unsent,0,0,,{warm}\n")
            continue
        start, status, length = sent[number]
        error = "closed" if status < 0 else "status" if status >= 400 else ""
        out.write(f"{min(due, start)},{start},{start + length},{'' if status < 0 else status},{error},0,0,,{warm}\n")
    with gzip.open(log_file, "wt", compresslevel=1) as file:
        file.write(out.getvalue())
    return count
