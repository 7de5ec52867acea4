from __future__ import annotations

import numpy as np
import pytest
from small_spark import application, stage, task

from labtool.analysis.blocked import blocked, durations_without, straggling


def alone(**more):
    """A task of 10 s, 6 of them on a processor."""
    return application([task(0, 0.0, 10.0, cpu=6.0, **more)])


def without(app, what, crowded=()):
    told, most = durations_without(app, crowded)[what]
    return told.tolist(), most.tolist()


def test_the_network_is_what_tasks_were_blocked_for():
    app = alone(fetch_wait=2.0, getting_result=0.5)
    assert without(app, "network") == (pytest.approx([8.0]), pytest.approx([7.5]))
    assert without(app, "disk") == (pytest.approx([10.0]), pytest.approx([6.0]))


def test_waiting_is_the_disks_only_where_something_was_read_or_written():
    app = alone(shuffle_write=1.0)
    assert without(app, "disk") == (pytest.approx([9.0]), pytest.approx([6.0]))
    for size in ("input", "output", "disk_spilled"):
        assert without(alone(shuffle_write=1.0, **{f"{size}_bytes": 1e6}), "disk")[0] == pytest.approx([6.0])


def test_waiting_for_a_python_worker_or_a_processor_is_not_told_to_be_the_disks():
    rows = [task(0, 0.0, 10.0, cpu=6.0, input_bytes=1e6)]
    python = application(rows, (stage(0, 0.0, 10.0, rdds="PythonRDD, MapPartitionsRDD"),))
    assert without(python, "disk") == (pytest.approx([10.0]), pytest.approx([6.0]))
    assert without(application(rows), "disk", crowded={0}) == (pytest.approx([10.0]), pytest.approx([6.0]))


def test_input_from_another_host_may_have_been_the_networks():
    app = application([task(0, 0.0, 10.0, cpu=6.0, input_bytes=1e6, remote=True)])
    assert without(app, "network") == (pytest.approx([10.0]), pytest.approx([6.0]))


def test_garbage_is_collected_while_a_task_runs_and_no_longer():
    assert without(alone(gc=3.0), "gc")[0] == pytest.approx([7.0])
    short = application([task(0, 0.0, 10.0, run=1.0, gc=5.0)])
    assert without(short, "gc")[0] == pytest.approx([9.0])


def five(last, **more):
    return application(
        [task(0, float(i), 1.0, **{"input_bytes": 10.0}) for i in range(4)] + [task(0, 4.0, last, **more)]
    )


def test_a_straggler_is_half_as_slow_again_as_the_median_and_not_by_noise():
    assert straggling(five(1.6), 0).tolist() == [False] * 4 + [True]
    assert not straggling(five(1.5), 0).any()
    quick = application([task(0, float(i), 0.05) for i in range(4)] + [task(0, 4.0, 0.14)])
    assert not straggling(quick, 0).any(), "0.09 s are noise"
    assert not straggling(application([task(0, 0.0, 1.0), task(0, 1.0, 9.0)]), 0).any(), "of two there is no median"


def test_a_straggler_with_more_data_takes_what_that_takes():
    told, most = without(five(5.0, input_bytes=30.0), "stragglers")
    assert (told[4], most[4]) == (pytest.approx(3.0), pytest.approx(1.0))
    told, most = without(five(5.0, input_bytes=90.0), "stragglers")
    assert (told[4], most[4]) == (pytest.approx(5.0), pytest.approx(1.0))


def test_a_job_that_waits_for_the_network_alone_would_end_that_much_sooner():
    # Two slots; the second wave waits 2 of its 4 s.
    rows = [task(0, 0.0, 4.0), task(0, 0.0, 4.0), *(task(0, 4.0, 4.0, cpu=2.0, fetch_wait=2.0) for _ in range(2))]
    found = blocked(application(rows, executors=(("0", 2),)))
    network = next(one for one in found.what_ifs if one.what == "network")
    assert (found.measured_s, found.base_s, found.error) == (pytest.approx(8), pytest.approx(8), pytest.approx(0))
    assert (network.told_s, network.most_s) == (pytest.approx(6), pytest.approx(6))
    assert network.stages_told == pytest.approx(np.array([6.0]))


def test_what_no_task_waited_for_gives_nothing():
    found = blocked(application([task(0, float(i), 1.0, cpu=1.0) for i in range(6)]))
    assert {one.what: one.most_s for one in found.what_ifs} == pytest.approx(
        dict.fromkeys(("network", "disk", "gc", "stragglers"), 6.0)
    )
