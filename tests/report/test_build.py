from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import sample_run

from labtool.dataset.run import RunDirectory, RunRecord
from labtool.errors import DataError
from labtool.report import figure
from labtool.report.build import build_report

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Collects ids, links, what is fetched, and whether tags are closed."""

    VOID = frozenset(
        {"meta", "link", "br", "img", "path", "use", "rect", "image", "circle", "line", "polygon", "input"}
    )

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if "id" in found and not self.open.count("svg"):
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found.get("href", ""))
        for name in ("src", "srcset", "data", "poster", "action"):
            if name in found:
                self.sources.append(found[name])
        if tag in ("link", "image", "use"):
            self.sources += [found[name] for name in ("href", "xlink:href") if name in found]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    """Draw small, except for the report that all tests share."""
    monkeypatch.setattr(figure, "PNG_DPI", 40)


SMALL = sample_run.Sample(brokers=1, producers=1)
"""For what does not depend on the number of hosts: half as much to draw."""


def report_of(run):
    return build_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(sample_report):
    return sample_report.report.read_text(encoding="utf-8")


def test_the_first_screen_answers_before_any_figure(text):
    head = text[: text.index("<nav")]
    assert "The brokers kept up with 20,000" in head
    assert "kafka-cluster (kafka 4.3.0)" in head and "3 × kafka (t3.medium), 1 × load (t3.small)" in head
    assert "What is missing or cannot be trusted" in head and "GC log of kafka-2" in head
    assert head.count('class="value"') == 6
    assert "<svg" not in head


def test_sections_come_in_the_order_a_person_asks(text):
    order = ["findings", "load", "latency", "busy", "hosts", "cloudwatch", "service", "logs", "timeline", "settings"]
    assert re.findall(r'<section id="(\w+)">', text) == order


def test_it_is_one_file_that_asks_for_nothing(text):
    page = Page(text)
    assert page.open == []
    assert all(source.startswith(("data:", "#")) for source in page.sources), page.sources
    assert not re.search(r"""url\((?!['"]?(#|data:))""", text)
    assert "@import" not in text
    assert len(text) < 3_000_000


def test_every_link_leads_somewhere(sample_report, text):
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert (sample_report.path / link).exists(), link


def test_every_figure_has_its_png_its_data_and_its_words(sample_report, text):
    said = json.loads((sample_report.path / "summary.json").read_text())
    names = [drawn["id"] for drawn in said["figures"]]
    assert names == [
        "load",
        "latency",
        "percentiles",
        "requests",
        "heat",
        "hosts",
        "cloudwatch-1",
        "cloudwatch-only",
        "service",
        "timeline",
    ]
    for drawn in said["figures"]:
        png = (sample_report.path / drawn["png"]).read_bytes()
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(png[16:20], "big") == 2200, "2 × the density of the page"
        with (sample_report.path / drawn["data"]).open() as file:
            rows = list(csv.reader(file))
        assert len(rows) > 1 and all(len(row) == len(rows[0]) for row in rows)
        assert f'id="{drawn["id"]}-figure"' in text
    assert text.count("<figcaption>") == text.count('role="img"') == len(names)
    assert all(alt for alt in re.findall(r'role="img" aria-label="([^"]*)"', text))


def test_what_only_cloudwatch_has_is_drawn_too(sample_report):
    with (sample_report.path / "figures/cloudwatch-only.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["metric"] for row in rows} == {"VolumeWriteBytes", "Orders"}  # nothing was read
    assert {row["unit"] for row in rows if row["metric"] == "VolumeWriteBytes"} == {"bytes/s"}
    assert {row["host"] for row in rows if row["metric"] == "Orders"} == {""}
    said = json.loads((sample_report.path / "summary.json").read_text())
    (drawn,) = [each for each in said["figures"] if each["id"] == "cloudwatch-only"]
    assert drawn["title"] == "2 metrics that only CloudWatch has, of AWS/EBS and Shop; 1 other stayed at 0"


def test_a_gap_is_not_bridged(sample_report):
    with (sample_report.path / "figures/hosts.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["host"] == "kafka-1" and row["signal"] == "cpu"]
    inside = [row["mean"] for row in rows if 182 <= float(row["start_s"]) <= 194]
    assert inside and set(inside) == {""}
    assert all(row["mean"] for row in rows if float(row["start_s"]) < 178)


def test_the_summary_is_what_the_page_says(sample_report):
    said = json.loads((sample_report.path / "summary.json").read_text())
    assert said["verdict"]["severity"] == "ok"
    assert said["window"] == {
        "start": "2025-11-12T07:31:00+00:00",
        "length_s": 300.0,
        "warmup_s": 30.0,
        "measured_s": 270.0,
    }
    headlines = {h["id"]: h["value"] for h in said["headlines"]}
    assert headlines["offered"] == 20_000.0
    assert headlines["achieved"] == pytest.approx(20_000, rel=0.01)
    assert headlines["p99"] == 17.0
    assert {"id", "severity", "sentence", "evidence", "bound"} <= set(said["findings"][0])


def test_names_from_outside_cannot_be_markup(tmp_path):
    run = sample_run.build(tmp_path, replace(SMALL, seconds=40))
    record = run.read()
    evil = '"><script>alert(1)</script>$x_1$'
    record.workload_options = {"topic": evil}
    record.missing[0].what = evil
    record.command = evil
    record.stages[0].name = evil
    record.stages[0].outcome = "failed"
    record.hosts[0].zone = evil
    run.write(record)
    (run.tables / "timeline.parquet").unlink()
    text = report_of(run)
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert "&lt;script&gt;" in text
    assert Page(text).open == []


def test_a_run_that_has_nothing(tmp_path):
    run = RunDirectory.create(tmp_path, "demo", "x", sample_run.START)
    run.write(RunRecord(name="x", lab="demo", cloud="local", region="us-east-1", started=sample_run.START))
    text = report_of(run)
    assert "This run says nothing about the system" in text
    assert text.count('class="empty"') == 8
    assert Page(text).open == []


def test_an_interrupted_run_reports_what_there_is(tmp_path):
    run = sample_run.build(tmp_path, replace(SMALL, seconds=95, outcome="interrupted"))
    text = report_of(run)
    assert "The run is not whole: its stage “workload” was interrupted." in text
    assert 'id="load-figure"' in text


@pytest.mark.parametrize("table", ["host_metrics", "workload_intervals"])
def test_any_table_may_be_absent(tmp_path, table):
    run = sample_run.build(tmp_path, replace(SMALL, seconds=60))
    (run.tables / f"{table}.parquet").unlink()
    assert Page(report_of(run)).open == []


def test_every_table_may_be_cut(tmp_path):
    run = sample_run.build(tmp_path, sample_run.Sample(seconds=60))
    for file in run.tables.iterdir():
        file.write_bytes(file.read_bytes()[:150])
    text = report_of(run)
    assert "Table host_metrics: it cannot be read" in text


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(DataError, match=r"run\.json"):
        build_report(RunDirectory(tmp_path))


def test_an_older_reports_figures_do_not_stay(sample_report):
    assert (sample_report.figures / "load.png").exists()
    assert not (sample_report.figures / sample_run.OLDER).exists()


def test_many_hosts_are_bands_and_names(tmp_path):
    run = sample_run.build(
        tmp_path, sample_run.Sample(brokers=38, load_hosts=2, producers=9, seconds=60, warmup_s=10, broker_cpu=0.4)
    )
    text = report_of(run)
    assert "stand apart from the other hosts" in text and "load-1" in text
    assert len(text) < 2_000_000
    assert 'class="scroll tall"' in text


def test_six_hosts_are_two_figures_of_the_same_scale(tmp_path):
    run = sample_run.build(tmp_path, sample_run.Sample(brokers=5, seconds=60))
    text = report_of(run)
    assert 'id="hosts-1-figure"' in text and 'id="hosts-2-figure"' in text
    assert 'href="#hosts-2-figure"' in text, "a host in the table leads to its figure"


def test_watching_without_a_workload(tmp_path):
    text = report_of(sample_run.build(tmp_path, replace(SMALL, workload=False, seconds=90)))
    assert "nothing is said about what it can carry" in text
    assert "No client left a rate over time. No workload of labtool was part of this run." in text
