from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs
from small_run import START, flat, record, run_data

from labtool.analysis import resources
from labtool.analysis.data import Series
from labtool.analysis.resources import busiest, usage
from labtool.dataset.run import StageRecord


def found(data):
    return {finding.id: finding for finding in resources.findings(data, usage(data))}


def with_signal(host, **signals):
    data = run_data()
    return run_data(signals={**data.signals, host: {**data.signals[host], **signals}})


def test_the_busiest_is_named_with_when():
    level = np.full(300, 0.2)
    level[120:180] = 0.85
    data = with_signal("kafka-0", cpu=Series(np.arange(1.0, 301.0), level))
    top = busiest(usage(data))
    assert (top.host, top.resource, top.peak_window) == ("kafka-0", "cpu", (120.0, 180.0))
    assert "85 %" in found(data)["resource.busiest"].sentence
    assert "120–180 s" in found(data)["resource.busiest"].sentence


def test_memory_is_never_the_busiest():
    data = with_signal("kafka-0", memory=flat(0.99))
    assert busiest(usage(data)).resource == "cpu"
    assert found(data)["resource.memory.kafka-0"].severity == "warning"


@pytest.mark.parametrize(("share", "severity"), [(0.05, "ok"), (0.2, "problem")])
def test_saturated_is_a_tenth_of_the_time(share, severity):
    level = np.full(300, 0.5)
    level[: int(300 * share)] = 0.97
    data = with_signal("kafka-1", cpu=Series(np.arange(1.0, 301.0), level))
    assert found(data)["resource.system"].severity == severity


def test_brokers_without_counters_are_not_said_to_be_well():
    data = run_data()
    left = {host: signals for host, signals in data.signals.items() if host != "kafka-1"}
    sentence = found(run_data(signals=left))["resource.system"].sentence
    assert sentence.startswith("The brokers that left counters (not kafka-1) were not saturated: the most was 60 %")


def test_the_load_host_is_judged_apart():
    said = found(with_signal("load-0", cpu=flat(0.98)))
    assert said["resource.generator"].severity == "problem"
    assert said["resource.system"].severity == "ok"


def test_a_full_core_of_the_load_host_is_a_caution():
    said = found(with_signal("load-0", cpu=flat(0.5), cpu_core=flat(0.99)))
    assert said["resource.generator"].severity == "warning"
    assert "core" in said["resource.generator"].sentence


def test_without_a_bandwidth_the_networks_utilisation_is_not_stated():
    finding = found(run_data())["resource.network"]
    assert finding.severity == "note" and "not known" in finding.sentence


def test_with_a_bandwidth_it_is():
    hosts = [structs.replace(host, network_bits_per_s=17e6) for host in record().hosts]
    finding = found(run_data(record=record(hosts=hosts)))["resource.network"]
    assert finding.evidence["utilisation"] == pytest.approx(16 / 17)
    assert finding.severity == "problem"


def with_networks(base, burst, rate):
    hosts = [structs.replace(host, network_bits_per_s=base, network_burst_bits_per_s=burst) for host in record().hosts]
    data = run_data(record=record(hosts=hosts))
    flows = {"net_rx": Series(np.arange(1.0, 301.0), rate / 8), "net_tx": flat(1.0)}
    return run_data(record=data.record, signals={**data.signals, "kafka-0": {**data.signals["kafka-0"], **flows}})


def test_who_goes_beyond_the_baseline_is_measured_by_what_it_may_burst_to():
    rate = np.full(300, 100e6)
    assert resources.bandwidth(with_networks(128e6, 5e9, rate), "kafka-0") == 128e6
    assert resources.utilisation(with_networks(128e6, 5e9, rate), "kafka-0", "network").v.max() == pytest.approx(
        100 / 128
    )
    rate[10:14] = 1e9  # four seconds are not enough
    assert resources.bandwidth(with_networks(128e6, 5e9, rate), "kafka-0") == 128e6
    rate[10:60] = 1e9
    data = with_networks(128e6, 5e9, rate)
    assert resources.bandwidth(data, "kafka-0") == 5e9
    assert resources.utilisation(data, "kafka-0", "network").v.max() == pytest.approx(0.2)
    assert "burst" in found(data)["resource.network"].bound
    assert resources.bandwidth(with_networks(128e6, 128e6, rate), "kafka-0") == 128e6
    assert resources.bandwidth(with_networks(None, None, rate), "kafka-0") is None


def test_dropped_packets_are_counted():
    finding = found(with_signal("kafka-0", net_lost=flat(2.0)))["resource.network"]
    assert finding.evidence["packets_lost"] == pytest.approx(600)
    assert finding.severity == "warning"


def test_stolen_time_is_said():
    assert found(with_signal("kafka-0", cpu_steal=flat(0.1)))["trust.steal"].host == "kafka-0"
    assert "trust.steal" not in found(run_data())


def test_warmup_does_not_count():
    level = np.where(np.arange(300) < 100, 1.0, 0.1)
    data = with_signal("kafka-0", cpu=Series(np.arange(1.0, 301.0), level))
    data = run_data(signals=data.signals, record=record(warmup_s=100.0))
    assert next(u for u in usage(data) if u.host == "kafka-0").peak == pytest.approx(0.1)


def test_no_counters_is_a_refusal():
    assert found(run_data(signals={}))["resource.none"].severity == "refused"


def test_the_controllers_cpus_are_read_from_words():
    assert resources.machine_cpus(run_data(record=record(machine={"cpus": "2 of Xeon"}))) == 2
    assert resources.machine_cpus(run_data()) is None


def test_one_full_second_of_a_few_is_not_saturated():
    few = {host: {"cpu": flat(0.3, seconds=6)} for host in ("kafka-0", "kafka-1", "load-0")}
    level = np.array([0.3, 0.3, 0.97, 0.3, 0.3, 0.3])
    few["kafka-0"] = {"cpu": Series(np.arange(1.0, 7.0), level)}
    finding = found(run_data(signals=few, length_s=6.0))["resource.system"]
    assert finding.severity == "refused"
    assert "the CPU of kafka-0 was full in 1 of 6 points, and it takes 20" in finding.sentence


def test_a_workload_that_failed_before_its_load_has_saturated_nothing():
    stages = [StageRecord(name="workload", start=START, end=START, outcome="failed")]
    full = {**run_data().signals, "kafka-0": {"cpu": flat(0.99)}}
    said = found(run_data(record=record(stages=stages), clients=(), summaries=(), signals=full))
    assert said["resource.system"].severity == "refused"
    assert "ended before its first operation" in said["resource.system"].sentence
    drove = found(run_data(record=record(stages=stages), signals=full))
    assert drove["resource.system"].severity == "problem", "it had begun"
