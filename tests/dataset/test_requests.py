"""Drivers' logs → tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram

from labtool.dataset import requests, tables
from labtool.errors import DataError

ZERO = 1_795_248_000_000_000
HEADER = "due_us,sent_us,done_us,status,error,bytes,endpoint,id,warmup"


@pytest.fixture
def left(tmp_path):
    """Leave a client's files; a row is (due ms, sent ms, done ms, status, error, warmup)."""

    def make(rows, client="client-1", **known):
        folder = tmp_path / "http-load" / "load-0"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [HEADER]
        for number, (due, sent, done, status, error, warm) in enumerate(rows):
            at = [ZERO + one * 1000 if one is not None else "" for one in (due, sent, done)]
            lines.append(f"{at[0]},{at[1]},{at[2]},{status or ''},{error},5,0,id-{number},{int(warm)}")
        (folder / f"{client}.json").write_text(
            json.dumps({"client": client, "role": "client", "loop": "open", "endpoints": ["GET /"]} | known)
        )
        with gzip.open(folder / f"{client}.requests.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
        return folder

    return make


def parse(tmp_path) -> dict:
    found = requests.parse(tmp_path, "http-load")
    return {name: tables.checked(name, made, "x").to_pylist() if not isinstance(made, list)
            else tables.to_arrow(name, made).to_pylist() for name, made in found.items()}  # fmt: skip


def test_a_row_a_request(left, tmp_path):
    left([(0, 1, 11, 200, "", False), (1000, None, 1500, None, "unsent", False)])
    first, second = parse(tmp_path)["requests"]
    assert (first["client"], first["endpoint"], first["id"], first["status"]) == (
        "load-0/client-1",
        "GET /",
        "id-0",
        200,
    )
    assert (first["late_s"], first["service_s"], first["latency_s"]) == pytest.approx((0.001, 0.01, 0.011))
    assert (second["error"], second["late_s"], second["service_s"], second["status"]) == ("unsent", None, None, None)
    assert second["latency_s"] == 0.5


def test_rates_are_of_what_ended_latencies_of_what_was_due(left, tmp_path):
    rows = [(at, at, at + 1500, 200, "", False) for at in range(0, 1000, 100)]
    left([*rows, (4200, 4200, 4300, 503, "status", False)])
    found = parse(tmp_path)["workload_intervals"]
    assert [row["rate"] for row in found] == [0, 5, 5, 0, 0], "a second in which nothing happened is there too"
    assert [row["offered_rate"] for row in found] == [10, 0, 0, 0, 1]
    assert [row["errors"] for row in found] == [0, 0, 0, 0, 1]
    assert found[0]["p99_ms"] == 1500 and found[1]["p99_ms"] is None
    assert len({row["time"] for row in found}) == 5


def test_a_summary_leaves_the_warm_up_out(left, tmp_path):
    warm = [(at, at, at + 900, 200, "", True) for at in range(0, 1000, 10)]
    left([*warm, *((at, at, at + 10, 200, "", False) for at in range(1000, 3000, 10))])
    (row,) = parse(tmp_path)["workload_summary"]
    assert (row["operations"], row["errors"], row["p99_ms"], row["latency_max_ms"]) == (200, 0, 10, 10)
    assert row["offered_rate"] == pytest.approx(100) and row["rate"] == pytest.approx(100, rel=0.01)


def test_a_closed_loop_was_asked_for_no_rate(left, tmp_path):
    left([(at, at, at + 10, 200, "", False) for at in range(0, 100, 10)], loop="closed")
    made = parse(tmp_path)
    assert made["workload_summary"][0]["offered_rate"] is None
    assert {row["offered_rate"] for row in made["workload_intervals"]} == {None}


def test_histograms_can_be_merged(left, tmp_path):
    left([(at, at + 5, at + at, 200, "", False) for at in range(10, 1000)])
    left([(at, at, at + 7, 200, "", False) for at in range(100)], client="client-2")
    found = {(row["client"], row["measure"]): row for row in parse(tmp_path)["workload_histograms"]}
    whole = HdrHistogram(1, requests.LONGEST_US, requests.DIGITS)
    for client in ("client-1", "client-2"):
        whole.decode_and_add(found[f"load-0/{client}", "latency"]["histogram"])
    assert (
        whole.get_total_count()
        == 1090
        == sum(row["operations"] for (_, measure), row in found.items() if measure == "latency")
    )
    assert whole.get_value_at_percentile(100) == pytest.approx(999_000, rel=0.001)


@pytest.mark.slow
def test_a_log_that_was_cut_gives_its_whole_lines(left, tmp_path):
    folder = left([(at, at, at + 10, 200, "", False) for at in range(20_000)])
    file = folder / "client-1.requests.csv.gz"
    file.write_bytes(file.read_bytes()[:40_000])
    rows = parse(tmp_path)["requests"]
    assert 1000 < len(rows) < 20_000
    assert not list(Path(folder).glob(".*")), "nothing is left beside it"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("client-1.json", b"{cut", "client-1.json is no JSON"),
        ("client-1.requests.csv.gz", b"not gzip", "is no gzip file"),
        ("client-1.requests.csv.gz", gzip.compress(HEADER.encode() + b"\na,b\n", mtime=0), "no log of requests"),
    ],
)
def test_files_that_are_none_are_named(left, tmp_path, name, content, told):
    folder = left([])
    (folder / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        parse(tmp_path)
    assert told in caught.value.message and name in caught.value.message


def test_a_client_that_left_nothing(left, tmp_path):
    left([])
    assert parse(tmp_path) == {}


def test_a_searchs_steps_are_a_row_for_each_objective(tmp_path):
    folder = tmp_path / "http-load/load-0"
    folder.mkdir(parents=True)
    step = {
        "start_us": 1_000_000,
        "end_us": 3_500_000,
        "offered_rate": 40.0,
        "requests": 100,
        "errors": 1,
        "held": False,
        "saturated": False,
        "too_few": False,
    }
    objectives = [
        {"text": "p99 < 50 ms", "bound": 50.0, "value": 61.0, "unit": "ms"},
        {"text": "errors < 0.1 %", "bound": 0.001, "value": 0.01, "unit": "ratio"},
    ]
    file = folder / "steps.json"
    file.write_text(json.dumps([{**step, "objectives": objectives}, {"answer": {"held": None, "failed": 40.0}}]))
    rows = requests.steps(tmp_path, "http-load")
    assert [(row["objective"], row["value"]) for row in rows] == [("p99 < 50 ms", 61.0), ("errors < 0.1 %", 0.01)]
    assert {(row["start"], row["end"], row["operations"], row["held"]) for row in rows} == {(1.0, 3.5, 100, False)}
    assert requests.steps(tmp_path, "kafka-spark-streaming") == []
    file.write_text(json.dumps([{"offered_rate": 1}]))
    with pytest.raises(DataError, match=r"steps\.json is no list of steps"):
        requests.steps(tmp_path, "http-load")
