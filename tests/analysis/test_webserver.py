from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_requests import requests, web_run
from small_run import flat, run_data

from labtool.analysis.analyse import analyse
from labtool.analysis.data import Labelled, Series


def metric(service, name, values, host="kafka-0"):
    t = np.arange(1.0, len(values) + 1)
    return Labelled(host, service, name, "count", Series(t, np.array(values, dtype=float)))


def said(*series, **changes):
    due = np.arange(10_000) / 500
    single = requests(due, np.full(len(due), 1e-5), np.full(len(due), 0.01))
    found = analyse(web_run(single, service=series, **changes)).findings
    return {finding.id: finding for finding in found if finding.id.startswith("server.")}


def httpd(busy, most=100):
    return metric("httpd", "BusyWorkers", busy), metric("httpd", "MaxWorkers", [most] * len(busy))


def test_workers_that_ran_out():
    finding = said(*httpd([20] * 14 + [95] * 6))["server.workers"]
    assert finding.severity == "problem"
    assert finding.sentence == "httpd's workers on kafka-0 were busy at 90 % or more in 30 % of the time."


def test_workers_to_spare():
    found = said(*httpd([20] * 20))
    assert found["server.workers"].sentence == "httpd had workers to spare: at most 20 % were busy (kafka-0)."
    assert found["server.limit"].severity == "ok"
    assert found["server.limit"].sentence.startswith(
        "Nothing that was measured ran full: httpd's workers at most 20 % (kafka-0), CPU at most 70 % (kafka-1)"
    )


def test_a_status_page_that_falls_silent_is_not_room():
    busy, most = httpd([20] * 20)
    silent = replace(busy, series=Series(*(np.delete(v, slice(8, 14)) for v in (busy.series.t, busy.series.v))))
    finding = said(silent, most)["server.workers"]
    assert finding.severity == "warning" and "For 6 s its status page gave no answer" in finding.sentence


def test_without_a_limit_idle_workers_tell_the_whole():
    series = (metric("httpd", "BusyWorkers", [48] * 20), metric("httpd", "IdleWorkers", [2] * 20))
    assert said(*series)["server.workers"].evidence["most_busy_share"] == pytest.approx(0.96)


@pytest.mark.parametrize(
    ("queue", "reached", "severity", "part"),
    [
        ([0] * 20, [5] * 20, "ok", "no request was seen waiting"),
        ([0, 3] * 10, [5] * 20, "problem", "up to 3 requests waited for a child on kafka-0, in 50 % of the time"),
        ([0] * 20, range(20), "warning", "it reached its limit of children 19 times"),
        ([0] * 19 + [1], [5] * 20, "warning", "up to 1 request waited"),
    ],
)
def test_the_pool_of_php(queue, reached, severity, part):
    found = said(metric("php", "ListenQueue", queue), metric("php", "MaxChildrenReached", reached))
    assert found["server.php"].severity == severity and part in found["server.php"].sentence


def test_the_balancers_queue_is_the_backends():
    series = (metric("haproxy", "fronts.Queue", [0, 4] * 10), metric("haproxy", "fronts.web-0.Queue", [900] * 20))
    finding = said(*series)["server.queue"]
    assert finding.severity == "problem" and "up to 4 at once" in finding.sentence


def test_all_that_ran_full_is_named():
    signals = {**run_data().signals, "kafka-0": {"cpu": flat(0.97)}}
    found = said(*httpd([99] * 20), metric("php", "ListenQueue", [7] * 20), signals=signals)
    assert found["server.limit"].severity == "problem"
    assert found["server.limit"].sentence.startswith(
        "What ran full: httpd's workers (kafka-0), php-fpm's pool and the CPU of kafka-0."
    )


def test_what_left_no_numbers_is_neither_cleared_nor_blamed():
    found = said(metric("php", "ListenQueue", [0] * 20), signals={})
    assert "CPU" not in found["server.limit"].sentence and "workers" not in found["server.limit"].sentence


def test_nothing_of_a_run_without_a_web_server():
    assert [f.id for f in analyse(run_data()).findings if f.id.startswith("server.")] == []
