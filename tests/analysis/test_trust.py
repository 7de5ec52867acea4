from __future__ import annotations

from datetime import timedelta

import numpy as np
from msgspec import structs
from small_run import START, flat, record, run_data

from labtool.analysis import trust
from labtool.analysis.data import ClockReading, Count, Event, ObserverCost, Series
from labtool.dataset.run import Missing, StageRecord


def found(data):
    return {finding.id: finding for finding in trust.findings(data)}


def test_what_run_json_says_is_missing_is_said_as_it_is():
    data = run_data(record=record(missing=[Missing(what="journal", why="the host did not answer", host="kafka-0")]))
    assert found(data)["missing.1"].sentence == "Journal of kafka-0: the host did not answer."


def test_failed_interrupted_and_unfinished_stages():
    stages = [
        StageRecord(name="deploy", start=START, end=START, outcome="failed", detail="kafka-1 gave up."),
        StageRecord(name="workload", start=START, end=START + timedelta(seconds=9), outcome="interrupted"),
        StageRecord(name="collect", start=START),
        StageRecord(name="report", start=START),
    ]
    said = found(run_data(record=record(stages=stages)))
    assert said["stage.deploy"].sentence == "The stage “deploy” failed: kafka-1 gave up."
    assert said["stage.workload"].severity == "warning"
    assert said["stage.unfinished"].sentence.endswith(": collect never reported an end.")


def test_holes_in_a_hosts_counters():
    t = np.concatenate([np.arange(1.0, 181.0), np.arange(197.0, 301.0)])
    data = run_data()
    data = run_data(signals={**data.signals, "kafka-1": {"cpu": Series(t, t * 0 + 0.5)}})
    finding = found(data)["gaps"]
    assert (finding.host, finding.window) == ("kafka-1", (180.0, 196.0))


def test_a_silent_host_is_named_unless_its_reason_is():
    data = run_data()
    signals = {host: one for host, one in data.signals.items() if host != "kafka-1"}
    assert "kafka-1" in found(run_data(signals=signals))["missing.counters"].sentence
    why = record(missing=[Missing(what="counters", why="unreachable", host="kafka-1")])
    assert "missing.counters" not in found(run_data(signals=signals, record=why))


def test_clock_bound_and_a_step():
    readings = (
        ClockReading(0, "kafka-0", "before", 0.0001, 0.0002, 8),
        ClockReading(300, "kafka-0", "after", 0.0002, 0.0002, 8),
    )
    said = found(run_data(clocks=readings))
    assert said["clock.bound"].severity == "ok" and said["clock.bound"].evidence["bound_s"] == 0.0004
    assert "clock.step.kafka-0" not in said
    stepped = (*readings[:1], ClockReading(300, "kafka-0", "after", 0.9, 0.0002, 8))
    said = found(run_data(clocks=stepped))
    assert said["clock.bound"].severity == "warning"
    assert "between before and after" in said["clock.step.kafka-0"].sentence


def test_the_observers_cost():
    cheap = (ObserverCost("kafka-0", 300.0, 1.2, 1e6, 2e5), ObserverCost("kafka-1", 300.0, None, None, 1e5))
    finding = found(run_data(observers=cheap))["observer.cost"]
    assert finding.severity == "ok"
    assert finding.evidence["core_ratio"] == 0.004
    assert finding.evidence["bytes_sent"] == 3e5
    dear = (ObserverCost("kafka-0", 300.0, 30.0, 1e6, 2e5),)
    assert found(run_data(observers=dear))["observer.cost"].severity == "warning"
    unknown = (ObserverCost("kafka-0", 300.0, None, None, None),)
    assert "observer.none" in found(run_data(observers=unknown))


def test_hosts_that_share_one_machine():
    shared = record(cloud="local", machine={"cpus": "2"})
    assert found(run_data(record=shared))["trust.shared_machine"].evidence == {"vcpus": 6, "cpus": 2}
    assert "trust.shared_machine" not in found(run_data(record=record(cloud="local", machine={"cpus": "8"})))
    assert "trust.shared_machine" not in found(run_data(record=record(machine={"cpus": "2"})))


def test_hosts_that_show_one_disk():
    rng = np.random.default_rng(1)
    t = np.arange(1.0, 301.0)
    written = np.concatenate(([0.0], np.cumsum(np.where(t % 10 == 0, 5e7, rng.uniform(0, 1e6, 300)))))
    base = run_data().signals
    local = record(cloud="local")

    def seen_at(phase):
        """One disk's counter, read each second a little later than by the host before."""
        at = np.concatenate(([0.0], t)) - phase
        return Series(t, np.diff(np.interp(at, np.arange(301.0), written)))

    one = {host: {**base[host], "disk_write": seen_at(i * 0.3)} for i, host in enumerate(base)}
    assert "kafka-0, kafka-1 and load-0" in found(run_data(signals=one, record=local))["trust.shared_disk"].sentence
    assert "trust.shared_disk" not in found(run_data(signals=one)), "hosts of AWS have disks of their own"
    own = Series(t, rng.uniform(0, 1e6, 300))
    apart = {**one, "kafka-1": {**base["kafka-1"], "disk_write": own}}
    assert "trust.shared_disk" not in found(run_data(signals=apart, record=local))


def test_short_windows_warmup_and_none():
    assert "window.short" in found(run_data(length_s=45.0))
    assert "window.warmup" in found(run_data(record=record(warmup_s=400.0)))
    assert "window.none" in found(run_data(length_s=0.0))
    assert "window.one" in found(run_data())


def test_faults_are_named():
    data = run_data(events=(Event(120.0, 130.0, "kafka-1", "fault", "kill", "", ""),))
    assert "kill on kafka-1 at 120 s" in found(data)["faults"].sentence


def test_flat_is_no_gap():
    assert "gaps" not in found(run_data(signals={"kafka-0": {"cpu": flat(0.5)}}))


def test_a_machine_that_was_full_under_its_hosts_is_said():
    def told(**machine):
        return found(run_data(record=record(cloud="local", machine=machine))).get("trust.machine_full")

    said = told(cpu_full="0.570", cpu_busy="0.880", cpu_stolen="0.350").sentence
    assert "no processor time left for 57 % of the window (88 % busy over the whole, 35 % taken by" in said
    assert "taken" not in told(cpu_full="0.570", cpu_busy="0.880", cpu_stolen="0.010").sentence
    assert told(cpu_full="0.050", cpu_busy="0.880", cpu_stolen="0.350") is None
    assert told(cpu_full="unknown") is None
    assert told() is None
    assert "trust.machine_full" not in found(run_data(record=record(machine={"cpu_full": "0.97"})))


def counts(claimed, counted):
    count = Count("records", claimed, "the producers' acknowledged sends", counted, "the topic's end offsets")
    return found(run_data(counts=(count,)))["counts.records"]


def test_what_the_system_counted_is_held_against_the_clients():
    assert counts(600_000, 600_000).severity == "ok"
    assert counts(600_000, 600_000).sentence.startswith("The topic's end offsets: 600,000 records; the producers'")
    lost = counts(600_000, 599_990)
    assert lost.severity == "problem" and "10 records were acknowledged and are not there" in lost.sentence
    more = counts(600_000, 600_007)
    assert more.severity == "warning" and "7 records are there that no client counts" in more.sentence


def test_a_host_that_was_lost_is_not_counted_as_one_without_processors():
    hosts = record().hosts
    lost = record(cloud="local", machine={"cpus": "2"}, hosts=[*hosts[:2], structs.replace(hosts[2], vcpus=None)])
    finding = found(run_data(record=lost))["trust.shared_machine"]
    assert finding.sentence.startswith(
        "The 3 hosts with 4 vCPUs in all, those of load-0 unknown, share one machine of 2 CPUs"
    )
    assert "(4 vCPUs or more)" in finding.brief
