from __future__ import annotations

import numpy as np
import pytest
from small_run import record, run_data

from labtool.analysis import service
from labtool.analysis.data import Labelled, Series


def metric(name, values, host="kafka-0"):
    t = np.arange(10.0, 10.0 * (len(values) + 1), 10.0)
    return Labelled(host, "kafka", name, "count", Series(t, np.array(values, dtype=float)))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("UnderReplicatedPartitions.Value", [0, 0, 0], None),
        ("UnderReplicatedPartitions.Value", [0, 3, 1], "kafka-0 had up to 3 under-replicated partitions (at 20 s)."),
        ("RequestHandlerAvgIdlePercent.OneMinuteRate", [0.8, 0.31], None),
        (
            "RequestHandlerAvgIdlePercent.OneMinuteRate",
            [0.8, 0.12],
            "The request handlers of kafka-0 were idle 12 % of the time at the least (at 20 s).",
        ),
    ],
)
def test_limits_of_kafka(name, values, expected):
    said = [finding.sentence for finding in service.findings(run_data(service=(metric(name, values),)))]
    assert said == ([expected] if expected else [])


def test_the_worst_host_is_named_and_the_others_listed():
    data = run_data(
        service=(
            metric("UnderReplicatedPartitions.Value", [1], "kafka-0"),
            metric("UnderReplicatedPartitions.Value", [9], "kafka-1"),
        )
    )
    (finding,) = service.findings(data)
    assert finding.host == "kafka-1" and "also passed on kafka-0" in finding.sentence


def test_the_warmup_does_not_count():
    data = run_data(service=(metric("UnderReplicatedPartitions.Value", [5, 0, 0, 0]),), record=record(warmup_s=15.0))
    assert service.findings(data) == []
