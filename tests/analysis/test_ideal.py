from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs
from small_run import flat, record, run_data
from small_spark import application, job, stage, task

from labtool.analysis.data import Series
from labtool.analysis.ideal import covered, crowded_stages, ideals, predictions
from labtool.analysis.reschedule import Rescheduler
from labtool.dataset.run import HostRecord

GIGABIT = 1e9


def hosts(*names, vcpus=2, bits=GIGABIT):
    return [
        HostRecord(
            name=name,
            group="spark_worker",
            instance_id="i",
            instance_type="t3.small",
            address="",
            zone="a",
            vcpus=vcpus,
            network_bits_per_s=bits,
        )
        for name in names
    ]


def run(signals, **changes):
    names = tuple(signals)
    return run_data(
        record=record(hosts=hosts(*names, **changes)), hosts=names, signals=signals, clients=(), summaries=()
    )


def busy(cpu, disk=0.0, rx=0.0, seconds=60):
    return {
        "cpu": flat(cpu, seconds),
        "disk": flat(disk, seconds),
        "net_rx": flat(rx, seconds),
        "net_tx": flat(0, seconds),
    }


def ten_seconds(**more):
    """Two executors of two cores, all slots full for 10 s."""
    rows = [task(0, 0.0, 10.0, name, cpu=5.0, **more) for name in ("0", "0", "1", "1")]
    return application(rows, executors=(("0", 2), ("1", 2)))


def test_ideal_times_are_the_hosts_work_over_what_there_is():
    # 30 and 50 % of the CPUs; 20 and 40 % of the disks; 12.5 and 37.5 MB/s in, of 125 MB/s each.
    data = run({"host-0": busy(0.3, 0.2, 12.5e6), "host-1": busy(0.5, 0.4, 37.5e6)})
    (one,) = ideals(data, ten_seconds())
    assert (one.cpu_s, one.disk_s, one.network_s) == pytest.approx((4.0, 3.0, 2.0))
    assert one.from_hosts and one.busy_slots == pytest.approx(1.0) and one.off_s == 1.0
    assert one.bottleneck == "", "none of them was in use half of the time"


@pytest.mark.parametrize(
    ("level", "bottleneck", "crowded"),
    [(busy(0.6), "cpu", False), (busy(0.95, 0.3), "cpu", True), (busy(0.1, 0.8), "disk", False),
     (busy(0.1, 0.2, 100e6), "network", False)],
)  # fmt: skip
def test_the_longest_ideal_time_is_the_bottleneck(level, bottleneck, crowded):
    (one,) = ideals(run({"host-0": level, "host-1": level}), ten_seconds())
    assert (one.bottleneck, one.crowded) == (bottleneck, crowded)


def test_stages_beside_each_other_share_what_the_hosts_did():
    rows = [task(0, 0.0, 10.0), *(task(1, 0.0, 10.0) for _ in range(3))]
    stages = (stage(0, 0.0, 10.0), stage(1, 0.0, 10.0))
    app = application(rows, stages, (job(0, 0.0, 10.0),), executors=(("0", 4),))
    first, second = ideals(run({"host-0": busy(0.8)}, vcpus=4), app)
    assert (first.cpu_s, second.cpu_s) == pytest.approx((2.0, 6.0))


def test_without_counters_the_tasks_tell_and_the_disk_is_not_known():
    data = run({"host-0": {}, "host-1": {}})
    (one,) = ideals(data, ten_seconds(shuffle_remote_bytes=62.5e6))
    # 20 s of CPU on 4 cores; 250 MB over two times 125 MB/s.
    assert (one.cpu_s, one.disk_s, one.network_s) == (pytest.approx(5.0), None, pytest.approx(1.0))
    assert not one.from_hosts


def test_counters_with_a_gap_do_not_tell():
    series = flat(0.5, 60)
    holed = Series(series.t[(series.t < 3) | (series.t > 6)], series.v[(series.t < 3) | (series.t > 6)])
    assert covered(series, 0.5, 9.5) == pytest.approx(0.5)
    assert covered(holed, 0.5, 9.5) is None


def test_a_sample_counts_by_how_much_of_it_lies_inside():
    series = Series(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.5]))
    assert covered(series, 0.5, 3.0) == pytest.approx((0.5 * 1 + 0 + 0.5) / 2.5)


def predicted(app, data):
    found = predictions(app, ideals(data, app), Rescheduler(app))
    return {one.change: one for one in found}


def test_twice_the_cores_halve_waves_and_not_the_longest_task():
    waves = application([task(0, float(i // 2), 1.0) for i in range(8)], executors=(("0", 2),))
    data = run({"host-0": busy(0.1)})
    assert predicted(waves, data)["cores"].seconds == pytest.approx(2.0)
    assert predicted(waves, data)["workers"].seconds == pytest.approx(2.0)
    one = application([task(0, 0.0, 4.0), *(task(0, float(i), 1.0) for i in range(4))], executors=(("0", 2),))
    assert predicted(one, data)["cores"].seconds == pytest.approx(4.0)


def test_no_stage_is_faster_than_what_is_left_of_its_ideal_times():
    waves = application([task(0, float(i // 2), 1.0) for i in range(8)], executors=(("0", 2),))
    found = predicted(waves, run({"host-0": busy(0.1, 0.9)}))
    assert found["cores"].seconds == pytest.approx(3.6), "the disk has 3.6 s of work"
    assert found["cores"].best_s == pytest.approx(2.0)
    assert found["workers"].seconds == pytest.approx(2.0), "each has a disk of its own"


def test_processors_that_may_have_been_full():
    def crowded(level, **machine):
        data = run({"host-0": level, "host-1": level})
        data = replace(data, record=structs.replace(data.record, cloud="local", machine=machine))
        return crowded_stages(data, ten_seconds(), ideals(data, ten_seconds()))

    assert crowded(busy(0.5)) == crowded(busy(0.5), cpu_full="0.02") == frozenset()
    assert crowded(busy(0.95)) == crowded({}) == crowded(busy(0.5), cpu_full="0.3") == {0}


def local(level, machine, cpus=2, names=("host-0",), **changes):
    data = run(dict.fromkeys(names, level), **changes)
    known = structs.replace(data.record, cloud="local", machine={"cpus": str(cpus)})
    return replace(data, record=known, machine=flat(machine, 60))


def test_more_workers_on_the_same_machine_have_no_more_of_its_processors():
    waves = application([task(0, float(i // 2), 1.0) for i in range(8)], executors=(("0", 2),))
    # All it has: nothing is gained. Half of it: the half is. 60 %, of which 10 % are others' and stay so: 50 of 90 %.
    assert predicted(waves, local(busy(1.0), 1.0))["workers"].seconds == pytest.approx(4.0)
    assert predicted(waves, local(busy(0.5), 0.5))["workers"].seconds == pytest.approx(2.0)
    assert predicted(waves, local(busy(0.5), 0.6))["workers"].seconds == pytest.approx(4.0 * 0.5 / 0.9)
    assert predicted(waves, replace(local(busy(1.0), 1.0), machine=flat(0.1, 1)))["workers"].seconds < 4.0


def test_a_machine_that_was_full_while_a_stage_ran_crowds_its_tasks():
    def crowded(machine):
        data = local(busy(0.3), machine, names=("host-0", "host-1"))
        return crowded_stages(data, ten_seconds(), ideals(data, ten_seconds()))

    assert (crowded(0.5), crowded(0.92)) == (frozenset(), {0})


def test_what_was_stolen_from_a_host_it_could_not_have_used():
    level = busy(0.2) | {"cpu_steal": flat(0.75, 60)}
    (one,) = ideals(run({"host-0": level, "host-1": level}), ten_seconds())
    assert one.cpu_s == pytest.approx(8.0) and one.bottleneck == "cpu"


def test_new_workers_have_to_warm_up_as_the_first_ones_had():
    # Two slots: their first tasks take 3 s, the others 1 s. On four slots the first four take 3 s, the last two 1 s.
    rows = [task(0, 0.0, 3.0), task(0, 0.0, 3.0), *(task(0, 3.0 + i // 2, 1.0) for i in range(4))]
    waves = application(rows, executors=(("0", 2),))
    found = predicted(waves, run({"host-0": busy(0.1)}))
    assert found["workers"].seconds == pytest.approx(4.0) and found["workers"].best_s == pytest.approx(3.0)
    assert found["cores"].seconds == pytest.approx(3.0), "the code is there already"


def test_what_new_workers_warm_up_the_one_machine_has_to_compute():
    # 10 s of tasks, and 4 s more if two other slots are to warm up too.
    rows = [task(0, 0.0, 3.0), task(0, 0.0, 3.0), *(task(0, 3.0 + i // 2, 1.0) for i in range(4))]
    waves = application(rows, executors=(("0", 2),))
    full = predicted(waves, local(busy(1.0), 1.0))
    assert full["workers"].seconds == pytest.approx(5.0 * 1.4) and full["cores"].seconds == pytest.approx(5.0)
    # 90 %, of which 10 % are others' and stay so.
    assert predicted(waves, local(busy(0.8), 0.9))["workers"].seconds == pytest.approx(5.0 * 1.4 * 0.8 / 0.9)


def test_twice_the_network_halves_what_was_waited_for_it():
    app = application([task(0, float(i), 1.0, cpu=0.5, fetch_wait=0.5) for i in range(4)])
    found = predicted(app, run({"host-0": busy(0.5, 0.0, 50e6)}))["network"]
    assert (found.seconds, found.best_s, found.worst_s) == pytest.approx((3.0, 3.0, 4.0))
