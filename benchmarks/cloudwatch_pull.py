"""How close a pull of CloudWatch's metrics comes to the fewest requests and to what its rate limit lets through.

    python benchmarks/cloudwatch_pull.py [--hosts 100] [--metrics 24] [--minutes 60] [--rounds 3] [--latency 0.3]

A server on loopback, a process of its own, answers GetMetricData as CloudWatch does: 500 queries and 100,800 points a
request at most, `--latency` seconds after it was asked, and a refusal (Throttling) for what passes 50 requests or
180,000 points in a second. Five statistics of every metric come out of it, in `raw/cloudwatch/` of a run.

The bounds: no more requests than queries / 500 for five statistics (24 as above), and no longer than 1.5 times what
the points that are asked for take at 180,000 a second: those of four statistics, 3.2 s as above (five would take 4).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from labtool.cloud.session import Session, Target
from labtool.collect.catalogue import STATISTICS
from labtool.collect.cloudwatch import pull
from labtool.collect.metric_plan import Listed, Plan, plan
from labtool.collect.rate import POINTS_PER_S, REQUESTS_PER_S
from labtool.dataset import cloudwatch
from labtool.dataset.run import RunDirectory


class Admission:
    """CloudWatch's rates: what they admit in a second, given back as time goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = time.monotonic()
        self._requests, self._points = REQUESTS_PER_S, POINTS_PER_S

    def admits(self, points: int) -> bool:
        """Take a request for `points` from what is left; False where it is too much."""
        with self._lock:
            now = time.monotonic()
            passed, self._at = now - self._at, now
            self._requests = min(REQUESTS_PER_S, self._requests + passed * REQUESTS_PER_S)
            self._points = min(POINTS_PER_S, self._points + passed * POINTS_PER_S)
            if self._requests < 1 or self._points < points:
                return False
            self._requests -= 1
            self._points -= points
            return True


def serve(latency_s: float, ready: Any) -> None:
    """Answer GetMetricData in JSON; tell the port, and at the end how many requests there were and were refused."""
    admission = Admission()
    counts = {"requests": 0, "refused": 0}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            queries = asked["MetricDataQueries"]
            start, end = int(asked["StartTime"]), int(asked["EndTime"])
            times = range(start, end, 60)
            points = len(times) * len(queries)
            counts["requests"] += 1
            if len(queries) > 500 or points > 100_800 or not admission.admits(points):
                counts["refused"] += 1
                self._say(400, {"__type": "com.amazon#Throttling", "message": "Rate exceeded"})
                return
            time.sleep(latency_s)
            shown = list(times)
            results = [
                {
                    "Id": query["Id"],
                    "Label": query["MetricStat"]["Metric"]["MetricName"],
                    "StatusCode": "Complete",
                    "Timestamps": shown,
                    "Values": [2.0 if query["MetricStat"]["Stat"] == "SampleCount" else 6.0] * len(shown),
                }
                for query in queries
            ]
            self._say(200, {"MetricDataResults": results, "Messages": []})

        def _say(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ready.send(server.server_port)
    while ready.recv() == "count":
        ready.send(dict(counts))
        counts.update(requests=0, refused=0)


def once(client: Any, wanted: Plan, folder: Path) -> float:
    """Pull all of it into a new run; return the seconds it took."""
    run = RunDirectory.create(folder, "bench", "pull", datetime.now(UTC))
    began = time.perf_counter()
    missing = pull(client, wanted, run)
    took = time.perf_counter() - began
    if missing:
        sys.exit(f"not all came: {missing[0].why}")
    kept = [cloudwatch.series(cloudwatch.read(file)) for file in sorted((run.raw / cloudwatch.FOLDER).iterdir())]
    points = sum(len(values) for series in kept for values in series.values())
    metrics = len(wanted.queries) // (len(STATISTICS) - 1)
    expected = metrics * len(STATISTICS) * wanted.points(wanted.queries[0])
    if points != expected:
        sys.exit(f"{points} points instead of {expected}")
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--metrics", type=int, default=24)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds from a question to its answer")
    given = parser.parse_args()

    end = datetime.fromtimestamp(time.time() // 60 * 60, UTC)
    metrics = [
        Listed(f"h{host}", f"i-{host:017x}", "bench", f"Metric{metric}", (("InstanceId", f"i-{host:017x}"),))
        for host in range(given.hosts)
        for metric in range(given.metrics)
    ]
    wanted = plan([], end - timedelta(minutes=given.minutes), end, listed=metrics, now=end)
    series = len(metrics) * len(STATISTICS)
    most = max(math.ceil(series / 500), math.ceil(series * given.minutes / 100_800))
    floor = max(wanted.requests / REQUESTS_PER_S, sum(map(wanted.points, wanted.queries)) / POINTS_PER_S)

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(given.latency, theirs), daemon=True)
    process.start()
    target = Target("aws", "us-east-1", endpoint_url=f"http://127.0.0.1:{ours.recv()}", access_key="x", secret_key="x")
    client = Session(target).client("cloudwatch")
    rounds, counts = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds):
            rounds.append(once(client, wanted, Path(folder) / str(number)))
            ours.send("count")
            counts = ours.recv()
    ours.send("end")
    process.join()
    took = statistics.median(rounds)
    sent = counts["requests"]
    holds = "holds" if sent <= most and took <= 1.5 * floor else "does not hold"
    print(
        f"{given.hosts} hosts × {given.metrics} metrics × {len(STATISTICS)} statistics × {given.minutes} min: "
        f"{sent} requests (≤ {most}), {counts['refused']} refused\n"
        f"  {took:.2f} s, the rate limit's floor {floor:.2f} s: ratio {took / floor:.2f} (≤ 1.5), "
        f"medians of {given.rounds}: {holds}"
    )


if __name__ == "__main__":
    main()
