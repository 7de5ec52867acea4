"""Sorting a trace in bounded memory, and dividing it among clients: nothing is lost, doubled or out of its place."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.roles.modules import ROOT, load

load("playbooks/workloads/files/trace_lines.py", "trace_lines")
sorting = load("playbooks/workloads/files/trace_sort.py", "trace_sort")
load("playbooks/workloads/files/trace_template.py", "trace_template")
program = load("playbooks/workloads/files/trace_prepare.py", "trace_prepare")

NS = st.integers(-(10**20) + 1, 10**20 - 1) | st.integers(0, 5)


TEXT = st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=5)


@settings(max_examples=40)
@given(st.lists(st.tuples(NS, TEXT), max_size=20), st.sampled_from([1, 300, sorting.MEMORY]))
def test_sorted_is_a_stable_permutation_however_little_memory(tmp_path_factory, rows, memory):
    lines = [(at, number, text) for number, (at, text) in enumerate(rows, 1)]
    order = sorting.Order()
    found = list(sorting.in_order(lines, order, tmp_path_factory.getbasetemp(), memory=memory))
    assert found == sorted(lines, key=lambda line: line[0])
    assert order.lines == len(lines)
    if lines:
        assert (order.first, order.last) == (found[0][0], found[-1][0])
    assert (order.out_of_order == 0) == (found == lines)


def test_sorting_leaves_no_file(tmp_path):
    lines = [(at, at, "x") for at in range(50, 0, -1)]
    assert next(sorting.in_order(lines, order := sorting.Order(), tmp_path, memory=200))[0] == 1
    assert order.runs > 10 and not list(tmp_path.iterdir())


@pytest.fixture
def trace(tmp_path):
    """A trace of 500 lines of 20 users in no order, an eighth of a second from one to the next."""
    rows = [f"{1000 + number / 8}\tuser-{number % 20}\t{number}" for number in range(500)]
    random.Random(1).shuffle(rows)
    path = tmp_path / "trace.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def prepared(trace, *words):
    out = trace.parent / "out"
    found = program.run(program.arguments([str(trace), str(out), *words]))
    parts = [
        [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        for path in sorted(out.glob("parts/*/client-*.trace.gz"))
    ]
    return found, parts


@pytest.mark.parametrize("key", [(), ("--key", "2")])
def test_the_clients_together_replay_the_trace(trace, key):
    found, parts = prepared(trace, "--hosts", "2", "--clients", "3", *key)
    assert len(parts) == 6 and all(parts) and found["replayed"] == sum(found["parts"]) == 500
    for part in parts:
        assert [int(due) for due, *_ in part] == sorted(int(due) for due, *_ in part)
    merged = sorted((row for part in parts for row in part), key=lambda row: int(row[0]))
    assert [(int(row[0]), int(row[4])) for row in merged] == [(n * 125_000, n) for n in range(500)]
    numbered = dict(enumerate(trace.read_text().splitlines(), 1))
    assert all(numbered[int(number)] == "\t".join(cells) for _, number, *cells in merged)
    clients = defaultdict(set)
    for index, part in enumerate(parts):
        for row in part:
            clients[row[3]].add(index)
    assert all(len(seen) == 1 for seen in clients.values()) == bool(key)


def test_speed_limit_and_span(trace):
    _, (rows,) = prepared(trace, "--speed", "50", "--from", "1010", "--until", "+20", "--limit", "30")
    assert [int(row[4]) for row in rows] == list(range(80, 110))
    assert [int(row[0]) for row in rows[:3]] == [0, 2500, 5000]


def test_costs_are_summed_by_second_and_variant(trace, tmp_path):
    template = tmp_path / "template.json"
    template.write_text('{"requests": {"a": {}, "b": {}}, "choose": {"split": "2"}}')
    found, _ = prepared(trace, "--cost", "3", "--template", str(template), "--speed", "4")
    assert set(found["cost"]) == {"a", "b"}
    for second in range(16):
        here = range(second * 32, min(second * 32 + 32, 500))
        assert sum(sums[second] for sums in found["cost"].values()) == sum(here)
    trace.write_text(trace.read_text().replace("\t7\n", "\tdear\n"))
    with pytest.raises(program.TraceError, match=r"'dear' is no number \(--cost\)"):
        prepared(trace, "--cost", "3")
    with pytest.raises(program.TraceError, match="--speed max has none"):
        prepared(trace, "--cost", "3", "--speed", "max")


def test_what_is_due_after_the_run_is_counted(trace):
    found, (rows,) = prepared(trace, "--speed", "2", "--duration", "10")
    assert (len(rows), found["cut"], found["replayed"]) == (160, 340, 160)
    assert "340 lines are due after the run's end and left out" in found["said"]
    assert prepared(trace, "--speed", "2", "--duration", "10", "--limit", "200")[0]["cut"] == 40


def test_as_fast_as_the_clients_can(trace):
    found, (rows,) = prepared(trace, "--speed", "max", "--duration", "1")
    assert found["speed"] == "max" and {row[0] for row in rows} == {"0"} and len(rows) == 500


def test_broken_lines_are_an_error_or_left_out(trace):
    trace.write_text(trace.read_text().replace("1003.0\t", "soon\t") + "1\t2\n")
    refused = subprocess.run(
        [sys.executable, ROOT / "playbooks/workloads/files/trace_prepare.py", trace, trace.parent / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1 and not refused.stdout
    first, *shown = refused.stderr.splitlines()
    assert first == f"2 of 501 lines of {trace} are broken; `--skip-bad` leaves them out:"
    assert len(shown) == 2 and shown[1] == "  trace.tsv:501: 2 fields, expected 3: '1\\t2'"
    found, (rows,) = prepared(trace, "--skip-bad")
    assert len(rows) == 499 and found["broken"]["count"] == 2
    assert json.loads((trace.parent / "out/trace.json").read_text()) == json.loads(json.dumps(found))
    assert any(sentence.startswith("2 broken lines are left out: trace.tsv:") for sentence in found["said"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--speed", "0"], "--speed: '0' is neither a number above 0"),
        (["--speed", "fast"], "--speed: 'fast' is neither"),
        (["--from", "+200"], "no line between --from and --until"),
        (["--until", "noon"], r"--until: 'noon' is no time as the trace has \(s\)"),
        (["--key", "user"], "there is no column 'user'"),
        (["--unit", "iso", "--skip-bad"], "none of its lines can be read"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(trace, words, told):
    with pytest.raises(program.TraceError, match=told):
        prepared(trace, *words)
