"""The driver on the load host, against a server on loopback: what was due is sent, on time, and counted."""

from __future__ import annotations

import csv
import gzip
import json
import random
import sys
import time
from pathlib import Path

import pytest

from tests.roles.modules import ROOT, load

sys.path.insert(0, str(ROOT / "playbooks/workloads/files"))
program = load("playbooks/workloads/files/trace_prepare.py", "trace_prepare")
driver = load("playbooks/workloads/files/trace_replay.py", "trace_replay")
DECISION = {
    "path": "/decide",
    "form": {"user": "{2}", "method": "request"},
    "follow": {"after_s": 0.1, "name": "update", "path": "/decide", "form": {"user": "{2}", "method": "update"}},
}


@pytest.fixture
def plan(tmp_path, server):
    """Return a function that prepares 40 lines, one of 10 users each, 1 s apart in no order, and plans their replay."""

    def make(*words, template=DECISION, **changes):
        rows = [f"{1700000000 + number},user-{number % 10}" for number in range(40)]
        random.Random(2).shuffle(rows)
        trace, file = tmp_path / "trace.csv", tmp_path / "template.json"
        trace.write_text("\n".join(rows))
        file.write_text(json.dumps({"requests": {"request": template}}))
        found = program.run(program.arguments([str(trace), str(tmp_path), "--template", str(file), *words]))
        (tmp_path / "out").mkdir()
        return {
            "clients": 1,
            "host": "load-0",
            "output": str(tmp_path / "out"),
            "parts": str(tmp_path / "parts/0"),
            "layout": json.loads(json.dumps(found["layout"])),
            "template": str(file),
            "targets": [server.url],
            "speed": found["speed"],
            "start_at": time.time() + 0.05,
            "duration_s": 60,
            "warmup_s": 0,
            "timeout_s": 5,
            "connections": 100,
            "keep_alive": True,
            "ca_file": "",
        } | changes

    return make


def left(plan, client="client-1"):
    folder = Path(plan["output"])
    with gzip.open(folder / f"{client}.requests.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    known = json.loads((folder / f"{client}.json").read_text())
    return known, [row | {"endpoint": known["endpoints"][int(row["endpoint"])]} for row in rows]


@pytest.mark.slow
def test_a_trace_and_its_follow_ups_by_two_clients(plan, server):
    asked = plan("--speed", "100", "--clients", "2", "--key", "2", clients=2, warmup_s=0.1)
    assert driver.drive(asked) == 0
    logs = [left(asked, f"client-{number}") for number in (1, 2)]
    rows = [row for _, log in logs for row in log]
    assert sorted(sent.partition(b"\r\n\r\n")[2].decode() for sent in server.requests) == sorted(
        f"user=user-{n % 10}&method={method}" for n in range(40) for method in ("request", "update")
    )
    assert all(row["status"] == "200" and not row["error"] for row in rows) and len(rows) == 80
    # Each request is due at its trace time at that speed, and each update 0.1 s after the answer to its request.
    due = [
        (int(row["due_us"]) - known["start_us"], row["warmup"])
        for known, log in logs
        for row in log
        if row["endpoint"] == "request"
    ]
    assert sorted(at for at, _ in due) == pytest.approx([n * 10_000 for n in range(40)], abs=10)
    assert all(warmup == str(int(at < 99_990)) for at, warmup in due)
    for _, log in logs:
        done = sorted(int(row["done_us"]) for row in log if row["endpoint"] == "request")
        updates = sorted(int(row["due_us"]) for row in log if row["endpoint"] == "update")
        assert [at - before for at, before in zip(updates, done, strict=True)] == pytest.approx(
            [1e5] * len(done), abs=5e3
        )
    for known, _ in logs:
        assert (known["trace_left"], known["cut"], known["loop"]) == (0, False, "open")
    assert sum(known["trace_lines"] for known, _ in logs) == 40


def test_the_runs_time_ends_it(plan, server):
    asked = plan("--speed", "100", template={"path": "/{1}"}, duration_s=0.2)
    driver.send(asked, 0)
    known, rows = left(asked)
    assert known["cut"] and 0 < len(rows) <= 20 and len(rows) == len(server.requests)
    # The engine has taken the next two, to know when they are due.
    assert known["trace_lines"] == 40 and 40 - len(rows) - 2 <= known["trace_left"] <= 40 - len(rows)
    assert server.requests[0].startswith(b"GET /1700000000 HTTP/1.1")


def test_as_fast_as_the_server_answers(plan, server):
    asked = plan("--speed", "max", template={"path": "/slow/0.01"}, connections=4)
    driver.send(asked, 0)
    known, rows = left(asked)
    assert len(rows) == 40 and known["loop"] == "closed" and known["connections_most"] <= 4
    sent = sorted(int(row["sent_us"]) for row in rows)
    assert sent[-1] - sent[0] >= 85_000  # ten turns of four, 10 ms each
