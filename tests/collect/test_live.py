from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.collect import live
from labtool.collect.live import HostLost, LiveSampler, Sample

BEFORE = {"t": 5.0, "idle": 100, "steal": 4, "all": 200, "total": 1000, "free": 500, "rx": 0, "tx": 0, "rd": 0, "wr": 0}


def test_a_sample_is_the_difference_of_two_readings():
    now = BEFORE | {"t": 7.0, "idle": 250, "steal": 54, "all": 600, "free": 250, "rx": 40, "tx": 60, "rd": 4, "wr": 8}
    sample = live.rates("h", BEFORE, now)
    assert sample is not None
    assert sample.cpu == pytest.approx((400 - 150 - 50) / 400)
    assert sample.memory == 0.75
    assert (sample.rx, sample.tx, sample.disk_read, sample.disk_write) == (20.0, 30.0, 1024.0, 2048.0)


@given(st.fixed_dictionaries({key: st.integers(0, 10**6) for key in BEFORE} | {"total": st.integers(10**6, 10**7)}))
def test_a_sample_is_possible_or_absent(now):
    sample = live.rates("h", BEFORE, now)
    if sample:
        assert 0 <= sample.cpu <= 1
        assert min(sample.rx, sample.tx, sample.disk_read, sample.disk_write) >= 0


def collected(sampler, seconds, enough):
    events = []
    until = time.monotonic() + seconds
    while time.monotonic() < until and not enough(events):
        events += sampler.poll(0.2)
    return events


def test_samples_come_and_a_host_that_goes_ends_its_own_stream_alone(access, host, hooks):
    hooks("gone", "echo 'Connection refused' >&2; exit 255")
    with LiveSampler(access, [host("here"), host("gone")], interval_s=0.1) as sampler:
        events = collected(sampler, 10, lambda e: sum(isinstance(one, Sample) for one in e) >= 3)
        processes = [stream.process for stream in sampler._streams.values()]
        assert sampler.hosts == ("here",)
    assert HostLost("gone", "SSH failed: Connection refused") in events
    samples = [event for event in events if isinstance(event, Sample)]
    assert {sample.host for sample in samples} == {"here"}
    assert all(0 <= sample.cpu <= 1 and 0 < sample.memory < 1 for sample in samples)
    # The loop ended by itself, because its input was closed.
    assert [process.returncode for process in processes] == [0]


def test_a_banner_is_not_a_sample_and_a_dying_host_is_lost(access, host, hooks):
    line = str(BEFORE).replace("'", '"')
    hooks("h", f"echo Welcome; echo '{line}'; exit 7")
    with LiveSampler(access, [host("h")]) as sampler:
        assert collected(sampler, 10, bool) == [HostLost("h", "ended with status 7")]
        start = time.monotonic()
        assert sampler.poll(0.2) == []
        assert time.monotonic() - start >= 0.2
    sampler.close()


@pytest.mark.slow
def test_a_host_that_does_not_answer_is_no_reason_to_wait(access, host, hooks):
    hooks("h", "trap '' TERM; sleep 60 & wait")
    with LiveSampler(access, [host("h")]) as sampler:
        start = time.monotonic()
        assert sampler.poll(0.1) == []
        assert time.monotonic() - start < 1
    assert time.monotonic() - start < 5
