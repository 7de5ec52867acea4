"""The report of a run whose clients left single requests, with the servers' log beside them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow as pa
import pytest
import web_run

from labtool.analysis.analyse import analyse
from labtool.analysis.load import load
from labtool.dataset import tables
from labtool.report import figure, style
from labtool.report.build import build_report
from labtool.report.figures import distribution, requests, webserver

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(figure, "PNG_DPI", 40)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = web_run.build(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, "PNG_DPI", 40)
        build_report(made)
    return made


@pytest.fixture(scope="module")
def said(run):
    return json.loads((run.path / "summary.json").read_text())


def columns(run, name):
    with (run.figures / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] for row in rows] for key in rows[0]}


def test_every_figure_of_a_web_run_is_drawn_in_the_pages_order(run, said):
    assert [drawn["id"] for drawn in said["figures"]] == [
        "load",
        "errors",
        "late",
        "latency",
        "percentiles",
        "cdf",
        "endpoints",
        "heat",
        "workers",
        "backends",
        "hosts",
        "service",
        "timeline",
    ]
    text = run.report.read_text(encoding="utf-8")
    places = [text.index(f'id="{drawn["id"]}-figure"') for drawn in said["figures"]]
    assert places == sorted(places)
    assert len(text) < 1_000_000
    for name in ("percentiles", "endpoints", "urls"):
        assert f'id="table-{name}"' in text


def test_the_headlines_are_of_all_requests_together(said):
    found = {headline["id"]: headline for headline in said["headlines"]}
    assert found["offered"]["value"] == pytest.approx(400, rel=0.001)
    assert "requests together" in found["p99"]["bound"]
    assert found["p99"]["value"] == pytest.approx(966, rel=0.02)


def test_the_stall_is_where_it_was(run):
    drawn = columns(run, "latency")
    p99 = [float(value) for value in drawn["p99_ms"]]
    assert float(drawn["start_s"][int(np.argmax(p99))]) == 30.0
    assert max(p99) == pytest.approx(1500, rel=0.02)
    assert sum(int(n) for n in drawn["failed"]) == 382


def test_errors_are_drawn_when_they_happened(run):
    drawn = columns(run, "errors")
    status = [(float(t), float(v)) for t, v in zip(drawn["start_s"], drawn["status_per_s"], strict=True)]
    assert {t for t, v in status if v} == {40.0, 41.0}
    assert sum(float(v) for v in drawn["timeout_per_s"]) == 149, "in steps of a second"


def test_the_percentile_plot_ends_with_the_slowest(run):
    drawn = columns(run, "percentiles")
    latency = [float(ms) for name, ms in zip(drawn["measure"], drawn["ms"], strict=True) if name == "latency"]
    assert latency == sorted(latency) and latency[-1] == pytest.approx(1510, rel=0.01)


def set_to(run, **values):
    """Set columns of `requests` to a value each."""
    read = tables.read(run.tables, "requests")
    for name, value in values.items():
        at = read.schema.get_field_index(name)
        filled = pa.array([value] * read.num_rows, read.schema.field(at).type)
        read = read.set_column(at, read.schema.field(at), filled)
    tables.write(run.tables, "requests", read)


def drawn(run):
    """Draw what is of requests and of the servers alone; return the figures by id, and the findings."""
    style.prepare()
    data = load(run)
    analysis = analyse(data)
    figures = [one for module in (requests, distribution, webserver) for one in module.draw(data, analysis, run)]
    return {one.id: one for one in figures}, {finding.id: finding for finding in analysis.findings}


def test_a_closed_loop_gets_no_figure_of_lateness(tmp_path):
    run = web_run.build(tmp_path, web_run.Web(seconds=20, stall=(9.0, 11.0), errors=False, fronts=1))
    set_to(run, late_s=0.0)
    figures, findings = drawn(run)
    assert list(figures) == ["latency", "percentiles", "cdf", "endpoints", "workers"]
    assert "the rate adapts to the server" in findings["latency.measured"].sentence


def test_one_request_is_drawn_and_refused(tmp_path):
    run = web_run.build(tmp_path, web_run.Web(seconds=15, errors=False, warmup_s=0.0))
    tables.write(run.tables, "requests", tables.read(run.tables, "requests").slice(0, 1))
    figures, findings = drawn(run)
    assert "latency" in figures and "percentiles" not in figures
    assert findings["latency.tail"].severity == "refused"


def test_a_run_in_which_nothing_succeeded(tmp_path):
    run = web_run.build(tmp_path, web_run.Web(seconds=15, balancer=False, rate=40.0))
    set_to(run, error="refused", status=None)
    figures, findings = drawn(run)
    assert list(figures) == ["errors", "late", "workers", "backends"]
    assert "No counted request succeeded" in findings["latency.none"].sentence


def test_every_table_may_be_cut(tmp_path):
    run = web_run.build(tmp_path, web_run.Web(seconds=15))
    for file in run.tables.iterdir():
        file.write_bytes(file.read_bytes()[:150])
    assert "Table requests: it cannot be read" in build_report(run).read_text(encoding="utf-8")
