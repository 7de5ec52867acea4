"""The report of a run of spark-job."""

from __future__ import annotations

import csv
import json
from datetime import timedelta

import pyarrow as pa
import pytest
import spark_run
from msgspec import structs

from labtool.analysis.analyse import analyse
from labtool.analysis.load import load
from labtool.dataset import tables
from labtool.report import figure, style
from labtool.report.build import build_report
from labtool.report.figures import spark, spark_tasks

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(figure, "PNG_DPI", 40)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = spark_run.build(tmp_path_factory.mktemp("runs"))
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


def drawn(run):
    """Draw what is of Spark alone; return the figures by id, and the findings."""
    style.prepare()
    data = load(run)
    analysis = analyse(data)
    return {one.id: one for one in spark.draw(data, analysis, run)}, {f.id: f for f in analysis.findings}


def test_every_figure_and_table_is_there_in_the_pages_order(run, said):
    mine = ["whatif", "waterfall", "gantt", "shuffle", "skew"]
    assert [one["id"] for one in said["figures"]] == [*mine, "heat", "hosts", "timeline"]
    text = run.report.read_text(encoding="utf-8")
    places = [text.index(f'id="{name}-figure"') for name in mine]
    assert places == sorted(places) and text.index("Why did it take that long?") < places[0]
    for name in ("whatif", "sparkstages", "stragglers"):
        assert f'id="table-{name}"' in text
    assert len(text) < 1_000_000


def test_the_first_screen_is_of_the_job(said):
    assert said["verdict"]["label"] == "Job done"
    assert [one["id"] for one in said["headlines"]] == ["took", "tasks", "shuffle", "gain", "busiest"]
    assert said["headlines"][1]["value"] == 37


def test_the_figures_data_are_the_tables(run):
    tasks = tables.read(run.tables, "spark_tasks")
    assert len(columns(run, "gantt")["stage"]) == tasks.num_rows == 37
    moved = sum(float(v) for v in columns(run, "shuffle")["read_network_bytes"])
    assert moved == pytest.approx(sum(tasks["shuffle_remote_bytes"].to_pylist()))
    waterfall = columns(run, "waterfall")
    assert waterfall["stage"] == ["0", "1", "2", "4", "5", "6", "8", "11"], "those that were not skipped"
    assert set(waterfall["bound_by"]) <= {"", "cpu", "disk", "network"} and "cpu" in waterfall["bound_by"]
    skew = columns(run, "skew")
    at = skew["stage"].index("4")
    assert float(skew["most"][at]) / float(skew["median"][at]) > 10, "six of ten sales are of one shop"


def gantt(run):
    style.prepare()
    (one,) = spark_tasks.draw(analyse(load(run)).explained[0], run)
    return one


def findings_of(run):
    return {finding.id: finding for finding in analyse(load(run)).findings}


def test_many_tasks_are_pixels_and_the_page_stays_light(tmp_path, run):
    assert "<image" not in gantt(run).svg
    many = spark_run.build(tmp_path)
    once = tables.read(many.tables, "spark_tasks")
    tables.write(many.tables, "spark_tasks", pa.concat_tables([once] * 300))
    svg = gantt(many).svg
    assert "<image" in svg and len(svg) < 200_000
    assert len(columns(many, "gantt")["stage"]) == 11_100


def test_without_counters_of_hosts_the_bottleneck_is_refused(tmp_path):
    figures, findings = drawn(spark_run.build(tmp_path, spark_run.Spark(counters=False)))
    assert (
        findings["spark.bottleneck"].severity == "refused"
        and "left no counters" in findings["spark.bottleneck"].sentence
    )
    assert "waterfall" in figures


def test_hosts_whose_processors_were_full_leave_the_disk_unblamed(tmp_path):
    told = {}
    for cpu in (0.5, 0.99):
        findings = findings_of(spark_run.build(tmp_path / str(cpu), spark_run.Spark(cpu=cpu)))
        told[cpu] = findings["spark.blocked"].evidence["disk_told_s"]
    assert told[0.5] < told[0.99] - 1


@pytest.mark.parametrize("log", ["plain-4.0", "cut-4.0", "rolled-3.5"])
def test_other_logs(tmp_path, log):
    run = spark_run.build(tmp_path, spark_run.Spark(log=log))
    build_report(run)
    verdict = json.loads((run.path / "summary.json").read_text())["verdict"]["label"]
    assert verdict == {"plain-4.0": "Job failed", "cut-4.0": "Not ended", "rolled-3.5": "Job done"}[log]


def test_one_task_is_enough_and_none_is_nothing(tmp_path):
    run = spark_run.build(tmp_path)
    tables.write(run.tables, "spark_tasks", tables.read(run.tables, "spark_tasks").slice(0, 1))
    figures, _ = drawn(run)
    assert "gantt" in figures
    tables.write(run.tables, "spark_tasks", [])
    assert drawn(run)[0] == {}


def test_tables_may_be_cut(tmp_path):
    run = spark_run.build(tmp_path)
    for name in ("spark_tasks", "spark_stages"):
        file = tables.path(run.tables, name)
        file.write_bytes(file.read_bytes()[:150])
    assert "Table spark_tasks: it cannot be read" in build_report(run).read_text(encoding="utf-8")


def test_an_application_outside_of_the_window_is_drawn_all_the_same(tmp_path):
    run = spark_run.build(tmp_path)
    record = run.read()
    moved = timedelta(hours=1)
    run.write(structs.replace(record, window_start=record.window_end + moved, window_end=record.window_end + 2 * moved))
    assert "waterfall" in drawn(run)[0]
