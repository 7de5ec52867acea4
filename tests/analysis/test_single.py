"""Requests and the servers' log as they are read from a run's tables."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import web_run

from labtool.analysis import single
from labtool.analysis.load import load
from labtool.dataset import tables
from labtool.dataset.run import RunDirectory

SAMPLE = web_run.Web(seconds=60, rate=30.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return web_run.build(tmp_path_factory.mktemp("runs"), SAMPLE)


@pytest.fixture(scope="module")
def data(run):
    return load(run)


@pytest.fixture
def copy(run, tmp_path):
    """The run, for a test that changes it."""
    return RunDirectory(Path(shutil.copytree(run.path, tmp_path / "run")))


def test_every_request_is_read(run, data):
    rows = tables.read(run.tables, "requests").to_pylist()
    read = data.requests
    assert len(read) == len(rows) == 1800
    assert sorted(read.due.tolist()) == pytest.approx([i / 30 for i in range(1800)], abs=1e-5)
    assert read.errors[0] == "" and set(read.errors) == {"", "status", "timeout"}
    assert read.endpoints[0] == "GET /index.php", "the most frequent is first"
    assert float(read.latency.sum(dtype=np.float64)) == pytest.approx(sum(row["latency_s"] for row in rows), rel=1e-6)
    assert int((read.error == read.errors.index("timeout")).sum()) == sum(row["error"] == "timeout" for row in rows)
    assert int((read.status == 0).sum()) == sum(row["status"] is None for row in rows)
    assert int(read.warmup.sum()) == 150


def test_a_request_takes_30_bytes(data):
    read = data.requests
    arrays = [value for value in vars(read).values() if isinstance(value, np.ndarray)]
    assert sum(array.itemsize for array in arrays) <= 30


def test_clients_are_made_of_requests(data):
    assert [client.name for client in data.clients] == ["load-0/client-1", "load-0/client-2"]
    assert data.load_hosts == ("load-0",)
    for client, summary in zip(data.clients, data.summaries, strict=True):
        assert float((client.offered * client.duration).sum()) == pytest.approx(900)
        assert summary.operations == 825


def test_the_balancers_log_is_the_clients_view_of_the_server(data):
    log = data.access
    assert log.service == "haproxy" and set(log.backends) == {"", "web-0", "web-1"}
    timeouts = int((data.requests.error == data.requests.errors.index("timeout")).sum())
    assert log.matched.sent == 1800 and log.matched.logged == 1800 - timeouts
    assert log.matched.missing == (("timeout", timeouts),)
    assert log.matched.others_named == (("GET /server-status", 12),)
    assert (log.matched.again, log.matched.status_differs) == (0, 0)
    assert (log.matched.service >= log.matched.duration).all()


def test_urls_are_without_their_query_and_of_the_servers_that_answered(data):
    assert [one.name for one in data.access.urls] == [
        "GET /index.php",
        "POST /decide.php",
        "GET /logo.svg",
        "GET /server-status",
    ]
    assert data.access.urls[-1].p99_s is None, "11 requests carry no p99"


def test_lost_lines_and_retries_are_found(copy):
    log = tables.read(copy.tables, "access_log")
    late = log.filter((pc.field("service") == "haproxy") & (pc.field("request_id") != "")).sort_by("time")
    tables.write(copy.tables, "access_log", pa.concat_tables([late.slice(0, 1400), late.slice(0, 3)]))
    matched = load(copy).access.matched
    assert matched.again == 3
    assert dict(matched.missing)[""] == late.num_rows - 1400
    assert matched.missing_span[0] > 45


def test_without_ids_nothing_is_matched(tmp_path):
    assert load(web_run.build(tmp_path, replace(SAMPLE, ids=False))).access.matched is None


def test_a_log_of_days_is_cut_to_the_run(copy):
    log = tables.read(copy.tables, "access_log")
    yesterday = pc.subtract(log["time"], pa.scalar(timedelta(days=1)))
    tables.write(copy.tables, "access_log", pa.concat_tables([log, log.set_column(0, "time", yesterday)]))
    assert len(load(copy).access) == log.filter(pc.field("service") == "haproxy").num_rows


@pytest.mark.parametrize("table", ["requests", "access_log"])
def test_a_cut_table_is_named_and_the_others_are_read(copy, table):
    file = tables.path(copy.tables, table)
    file.write_bytes(file.read_bytes()[:200])
    data = load(copy)
    assert [missing.what for missing in data.unreadable] == [f"table {table}"]
    assert (data.requests is None) == (table == "requests") and data.service


@pytest.mark.parametrize("table", ["requests", "access_log"])
def test_damaged_pages_are_found_when_they_are_read(copy, table):
    file = tables.path(copy.tables, table)
    content = bytearray(file.read_bytes())
    content[1000:40_000] = bytes(39_000)
    file.write_bytes(content)
    data = load(copy)
    assert f"table {table}" in [missing.what for missing in data.unreadable]


def test_both_tables_may_be_absent(copy):
    for table in ("requests", "access_log"):
        tables.path(copy.tables, table).unlink()
    data = load(copy)
    assert data.requests is None and data.access is None and data.unreadable == ()


def test_of_very_many_endpoints_the_rare_ones_are_one(copy, monkeypatch):
    monkeypatch.setattr(single, "MOST_NAMES", 2)
    read = load(copy).requests
    assert read.endpoints == ("GET /index.php", "POST /decide.php", single.OTHERS)
    assert int((read.endpoint == 2).sum()) > 100
