from __future__ import annotations

import numpy as np
import pytest
from small_run import run_data

from labtool.analysis import cloudwatch
from labtool.analysis.cloudwatch import compare
from labtool.analysis.data import ClockReading, Labelled, Series


def cpu_of(host, percent, start=0.0, period=60.0, count=5):
    t = start + np.arange(count) * period
    values = np.full(count, float(percent))
    return Labelled(host, "AWS/EC2", "CPUUtilization", "Percent", Series(t, values), "Average", period)


def found(data):
    return {finding.id: finding for finding in cloudwatch.findings(data, compare(data))}


def with_cloudwatch(*labelled, **changes):
    return run_data(cloudwatch=tuple(labelled), present=frozenset({"cloudwatch"}), **changes)


def test_equal_counters_agree():
    data = with_cloudwatch(cpu_of("kafka-0", 60.0))
    (one,) = compare(data)
    assert one.agrees and len(one.periods) == 5
    assert one.median_tolerance == pytest.approx(cloudwatch.CPU_FLOOR), "a level that never moves cannot be shifted"
    assert found(data)["cloudwatch.agrees"].severity == "ok"


def test_a_difference_beyond_the_tolerance_is_a_finding_with_its_size():
    finding = found(with_cloudwatch(cpu_of("kafka-0", 66.0)))["cloudwatch.disagrees.cpu.kafka-0"]
    assert finding.severity == "warning" and finding.host == "kafka-0"
    assert "6.0 points more CPU of kafka-0" in finding.sentence


def test_the_tolerance_grows_with_what_a_shift_can_make():
    t = np.arange(1.0, 301.0)
    step = Series(t, np.where(t <= 60, 0.1, 0.9))
    moving = {"kafka-0": {"cpu": step}}
    calm = compare(with_cloudwatch(cpu_of("kafka-0", 10.0, count=1), signals=moving))[0].periods[0]
    assert calm.tolerance == pytest.approx(0.02 + 0.8 / 60, rel=1e-6), "one second of 80 points in a minute"
    clocks = (ClockReading(0.0, "kafka-0", "before", 1.5, 0.5, 8),)
    unsure = compare(with_cloudwatch(cpu_of("kafka-0", 10.0, count=1), signals=moving, clocks=clocks))[0].periods[0]
    assert unsure.tolerance == pytest.approx(0.02 + 3 * 0.8 / 60, rel=1e-6)


def test_network_is_the_sum_over_the_period():
    total = Labelled("kafka-0", "AWS/EC2", "NetworkIn", "Bytes", Series(np.array([0.0]), np.array([60e6])), "Sum", 60.0)
    (one,) = compare(with_cloudwatch(total))
    assert one.periods[0].outside == pytest.approx(1e6)
    assert one.agrees


def test_a_period_that_the_host_does_not_cover_does_not_count():
    assert len(compare(with_cloudwatch(cpu_of("kafka-0", 60.0, start=-30.0, count=7)))[0].periods) == 4
    short = found(with_cloudwatch(cpu_of("kafka-0", 60.0, period=600.0, count=1)))
    assert short["cloudwatch.short"].severity == "refused"


def test_five_minute_periods_are_said():
    said = found(with_cloudwatch(cpu_of("kafka-0", 60.0, period=300.0, count=1)))
    assert "detailed monitoring was off" in said["cloudwatch.coarse"].sentence


def test_hosts_that_cannot_be_compared_are_named():
    said = found(with_cloudwatch(cpu_of("kafka-0", 60.0)))
    assert "kafka-1 and load-0" in said["cloudwatch.left_out"].sentence


def test_none_is_said():
    assert "cloudwatch.none" in found(run_data())


def test_the_metrics_that_agree_are_said_with_their_hosts():
    def network(host, rate):
        series = Series(np.arange(5) * 60.0, np.full(5, rate * 60))
        return Labelled(host, "AWS/EC2", "NetworkIn", "Bytes", series, "Sum", 60.0)

    cpus = [cpu_of(host, level) for host, level in (("kafka-0", 60), ("kafka-1", 70), ("load-0", 30))]
    flows = [network("kafka-0", 1e6), network("kafka-1", 2e6), network("load-0", 1e6)]
    said = found(with_cloudwatch(*cpus, *flows))
    assert "cloudwatch.disagrees.net_rx.kafka-1" in said
    assert said["cloudwatch.agrees"].sentence.startswith(
        "CloudWatch and the hosts' own counters agree on CPU of all hosts, and on network in of kafka-0 and load-0 ("
    )
