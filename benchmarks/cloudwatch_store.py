"""How long an 8-hour window of 10 hosts takes to read from the local CloudWatch, against botocore's own parsing.

    python benchmarks/cloudwatch_store.py [--hours 8] [--hosts 10] [--metrics 15] [--held 10]

Stores `--held` times the window (so that a query that cost by what is held would show), starts the API in a
process of its own, reads the window through HTTP with boto3 (five statistics, one-minute periods), then has
botocore's parser read the same answers again from memory. The ratio of the two times is the result; the target
is 1.5 or less.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.parsers import create_parser
from werkzeug.serving import WSGIRequestHandler, make_server

from labtool.localcloud.cloudwatch.api import CloudWatch
from labtool.localcloud.cloudwatch.store import Datum, Metric, Store

STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
BATCH = 500


def serve(file: str, ready: Any) -> None:
    """Serve CloudWatch from `file`; tell the port."""

    class Quiet(WSGIRequestHandler):
        disable_nagle_algorithm = True

        def log_request(self, *_: Any) -> None:
            pass

    watch = CloudWatch(Store(Path(file)))

    def application(environ: Any, start_response: Any) -> list[bytes]:
        watch.serves(environ)
        status, headers, body = watch.answer(environ)
        start_response(f"{status} OK", [*headers.items(), ("Content-Length", str(len(body)))])
        return [body]

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    ready.send(server.server_port)
    server.serve_forever()


def fill(file: Path, start: int, minutes: int, hosts: int, metrics: int) -> float:
    """Store one point a minute of every metric; return the seconds it took."""
    store = Store(file)
    rng = random.Random(1)
    names = [
        Metric("AWS/EC2", f"Metric{m}", (("InstanceId", f"i-{h:017x}"),)) for h in range(hosts) for m in range(metrics)
    ]
    began = time.perf_counter()
    for minute in range(minutes):
        when = start + 60 * minute
        store.put(
            Datum(metric, when, value, value, value, 1.0, "Bytes")
            for metric, value in ((metric, rng.random() * 1e6) for metric in names)
        )
    took = time.perf_counter() - began
    store.close()
    return took


def queries(hosts: int, metrics: int) -> list[dict[str, Any]]:
    """Return every statistic of every metric."""
    return [
        {
            "Id": f"q{h}_{m}_{s}",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/EC2",
                    "MetricName": f"Metric{m}",
                    "Dimensions": [{"Name": "InstanceId", "Value": f"i-{h:017x}"}],
                },
                "Period": 60,
                "Stat": name,
            },
        }
        for h in range(hosts)
        for m in range(metrics)
        for s, name in enumerate(STATISTICS)
    ]


def read(client: Any, asked: list[dict[str, Any]], start: int, end: int) -> int:
    """Read everything; return the number of points."""
    points = 0
    for at in range(0, len(asked), BATCH):
        more: dict[str, Any] = {}
        while True:
            page = client.get_metric_data(
                MetricDataQueries=asked[at : at + BATCH], StartTime=start, EndTime=end, **more
            )
            points += sum(len(result["Values"]) for result in page["MetricDataResults"])
            if "NextToken" not in page:
                break
            more = {"NextToken": page["NextToken"]}
    return points


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=8)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--metrics", type=int, default=15)
    parser.add_argument("--held", type=int, default=10, help="times the window that the store holds")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    minutes = given.hours * 60
    end = int(time.time()) // 3600 * 3600
    start = end - 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cloudwatch.sqlite"
        filling = fill(file, end - 60 * minutes * given.held, minutes * given.held, given.hosts, given.metrics)
        held = minutes * given.held * given.hosts * given.metrics
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=serve, args=(str(file), theirs), daemon=True)
        process.start()
        client = boto3.client(
            "cloudwatch",
            endpoint_url=f"http://127.0.0.1:{ours.recv()}",
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        asked = queries(given.hosts, given.metrics)
        bodies: list[tuple[dict[str, str], bytes]] = []
        client.meta.events.register(
            "before-parse.cloudwatch.GetMetricData",
            lambda response_dict, **_: bodies.append((response_dict["headers"], response_dict["body"])),
        )
        read(client, asked, start, end)  # warms both ends, and keeps the answers
        kept, shape = list(bodies), client.meta.service_model.operation_model("GetMetricData").output_shape
        protocol = client.meta.service_model.resolved_protocol
        parse = create_parser(protocol).parse
        whole, parsing = [], []
        for _ in range(given.repeat):
            began = time.perf_counter()
            points = read(client, asked, start, end)
            whole.append(time.perf_counter() - began)
            began = time.perf_counter()
            for headers, body in kept:
                parse({"status_code": 200, "headers": headers, "body": body}, shape)
            parsing.append(time.perf_counter() - began)
        process.terminate()
        size = file.stat().st_size
    result = {
        "protocol": protocol,
        "points": points,
        "requests": len(kept),
        "held_points": held,
        "store_bytes_per_point": round(size / held, 1),
        "stored_points_per_s": round(held / filling),
        "read_s": round(statistics.median(whole), 3),
        "botocore_parse_s": round(statistics.median(parsing), 3),
        "ratio": round(statistics.median(whole) / statistics.median(parsing), 2),
        "target": 1.5,
    }
    if given.json:
        print(json.dumps(result))
        return
    print(
        f"{points:,} points in {len(kept)} requests ({protocol}) from a store of {held:,} rows: {result['read_s']} s; "
        f"botocore alone parses these answers in {result['botocore_parse_s']} s\n"
        f"ratio {result['ratio']} (target ≤ 1.5); the store takes {result['store_bytes_per_point']} bytes and "
        f"{1e6 / result['stored_points_per_s']:.0f} µs a row"
    )


if __name__ == "__main__":
    main()
