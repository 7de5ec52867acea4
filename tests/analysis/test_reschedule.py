from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spark import application, job, stage, task

from labtool.analysis.application import Executor
from labtool.analysis.reschedule import Rescheduler, Slot, lanes


def listed(took, slots):
    """The makespan of a list on so many slots, by another way: the first free slot takes the next one."""
    free = [0.0] * slots
    for one in took:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)


def one_stage(took, slots):
    """An application that ran a list of tasks as a scheduler without delays would have."""
    free, rows = [(0.0, i) for i in range(slots)], []
    for one in took:
        at, slot = heapq.heappop(free)
        rows.append(task(0, at, one))
        heapq.heappush(free, (at + one, slot))
    return application(rows, executors=(("0", slots),))


def test_lanes_are_the_lowest_that_are_free():
    rows = [task(0, 0.0, 4.0), task(0, 0.0, 1.0), task(0, 1.0, 1.0), task(0, 1.5, 1.0, "1"), task(0, 4.0, 1.0)]
    assert lanes(application(rows, executors=(("0", 2),))).tolist() == [0, 1, 1, 0, 0]
    assert lanes(application(rows, executors=())).tolist() == [0, 1, 1, 0, 0], "as many as it used"


def test_a_task_that_seems_to_come_before_a_slot_is_free_has_the_one_that_is_free_next():
    rows = [task(0, 0.0, 2.0), task(0, 0.0, 1.0), task(0, 0.9, 2.0), task(0, 1.8, 2.0)]
    app = application(rows, executors=(("0", 2),))
    assert lanes(app).tolist() == [0, 1, 1, 0]
    plan = Rescheduler(app)
    assert plan.gaps.tolist() == pytest.approx([-0.15])
    assert plan.run(app.tasks.duration).start.tolist() == pytest.approx([0.0, 0.0, 0.85, 1.85])


def test_shorter_tasks_end_sooner_on_the_same_slots():
    # Two slots: 4 | 1 1 1, then 2 after the third.
    app = one_stage([4, 1, 1, 1, 2], 2)
    plan = Rescheduler(app)
    assert plan.run(app.tasks.duration).length == pytest.approx(5)
    assert plan.run(np.array([1.0, 1, 1, 1, 2])).length == pytest.approx(4)
    assert plan.run(app.tasks.duration, [Slot()]).length == pytest.approx(9)


def diamond():
    """Stages 0 and 1 beside each other, 2 after both and 0.5 s of the driver's, then another job 2 s later."""
    rows = [task(0, 0.2, 3.0), task(1, 0.2, 5.0), task(2, 6.0, 1.0), task(3, 9.3, 1.0)]
    stages = (
        stage(0, 0.1, 3.3),
        stage(1, 0.1, 5.3),
        stage(2, 5.8, 7.0, parents=(0, 1)),
        stage(3, 9.1, 10.4, job=1),
    )
    jobs = (job(0, 0.0, 7.1), job(1, 9.1, 10.5))
    return application(rows, stages, jobs, executors=(("0", 2),))


def test_unchanged_times_give_the_measured_schedule_back():
    app = diamond()
    plan = Rescheduler(app)
    again, was = plan.run(app.tasks.duration), plan.measured()
    for name in ("start", "finish", "stage_start", "stage_end", "job_start", "job_end"):
        assert getattr(again, name).tolist() == pytest.approx(getattr(was, name).tolist()), name


def test_what_waits_for_two_waits_for_the_later_one_and_the_drivers_time_stays():
    app = diamond()
    made = Rescheduler(app).run(np.array([3.0, 0.0, 1.0, 1.0]))
    # Stage 1 would end at 0.3: stage 2 then comes 0.5 s after stage 0, and the next job 2 s after the first.
    assert made.stage_end.tolist() == pytest.approx([3.3, 0.3, 5.0, 8.4])
    assert made.job_start.tolist() == pytest.approx([0.0, 7.1])
    assert made.length == pytest.approx(8.5)


def test_stages_beside_each_other_share_the_slots():
    rows = [task(0, 0.0, 1.0), task(0, 0.0, 1.0), task(1, 1.0, 1.0), task(1, 1.0, 1.0)]
    stages = (stage(0, 0.0, 1.0), stage(1, 0.0, 2.0))
    app = application(rows, stages, (job(0, 0.0, 2.0),), executors=(("0", 2),))
    plan = Rescheduler(app)
    assert plan.run(app.tasks.duration).length == pytest.approx(2.0)
    assert plan.run(app.tasks.duration, [Slot()] * 4).length == pytest.approx(1.0)


def test_a_slot_is_there_while_its_executor_is():
    rows = [task(0, 0.0, 1.0), task(0, 2.0, 1.0, "1"), task(0, 3.0, 1.0, "1")]
    executors = (Executor("0", "a", 1, -1.0, 0.9, "lost"), Executor("1", "b", 1, 2.0, None, ""))
    app = application(rows, executors=())
    app = type(app)(**{**vars_of(app), "executors": executors})
    made = Rescheduler(app).run(app.tasks.duration)
    assert made.start.tolist() == pytest.approx([0.0, 2.0, 3.0])


def vars_of(app):
    return {name: getattr(app, name) for name in app.__dataclass_fields__}


def test_tasks_are_never_left_over():
    app = one_stage([1.0, 1.0, 1.0], 1)
    made = Rescheduler(app).run(app.tasks.duration, [Slot(-math.inf, 0.5)])
    assert np.isfinite(made.finish).all()


def test_a_task_that_failed_takes_its_slot_and_ends_no_stage():
    rows = [task(0, 0.0, 1.0), task(0, 0.0, 5.0, ok=False), task(0, 1.0, 1.0)]
    app = application(rows, (stage(0, 0.0, 2.0),), (job(0, 0.0, 2.0),), executors=(("0", 2),))
    made = Rescheduler(app).run(app.tasks.duration)
    assert made.stage_end.tolist() == pytest.approx([2.0])


def test_what_failed_is_tried_again_after_it_has_failed():
    rows = [task(0, 0.0, 3.0, index=0, ok=False), task(0, 0.0, 1.0, index=1), task(0, 3.0, 2.0, index=0)]
    app = application(rows, executors=(("0", 4),))
    plan = Rescheduler(app)
    assert plan.run(app.tasks.duration).start.tolist() == pytest.approx([0.0, 0.0, 3.0])
    assert plan.run(np.array([1.0, 1.0, 2.0])).length == pytest.approx(3.0)


FEW = settings(max_examples=30)
times = st.lists(st.floats(0.01, 100, allow_nan=False), min_size=1, max_size=40)


@FEW
@given(times, st.integers(1, 8))
def test_a_stage_takes_what_a_list_takes(took, slots):
    app = one_stage(took, slots)
    made = Rescheduler(app).run(app.tasks.duration)
    assert made.length == pytest.approx(listed(took, slots))
    # Graham 1969: never below the two lower bounds, never above their sum.
    assert made.length >= max(*took, sum(took) / slots) - 1e-9
    assert made.length <= sum(took) / slots + (1 - 1 / slots) * max(took) + 1e-9


@FEW
@given(times, st.integers(1, 8), st.randoms())
def test_shorter_tasks_or_more_slots_never_make_a_stage_longer(took, slots, random):
    app = one_stage(took, slots)
    plan = Rescheduler(app)
    length = plan.run(app.tasks.duration).length
    shorter = np.array([one * random.random() for one in app.tasks.duration])
    assert plan.run(shorter).length <= length + 1e-9
    assert plan.run(app.tasks.duration, [Slot()] * (slots + 1)).length <= length + 1e-9


@FEW
@given(times, st.integers(1, 8))
def test_no_more_tasks_run_at_once_than_there_are_slots(took, slots):
    app = one_stage(took, slots)
    made = Rescheduler(app).run(app.tasks.duration)
    edges = sorted([(t, -1) for t in made.finish.tolist()] + [(t, 1) for t in made.start.tolist()])
    running = np.cumsum([step for _, step in edges])
    assert running.max() <= slots


def chain(stages, slots, pause):
    """An application of stages one after another, as a scheduler without delays would have run them."""
    rows, described, at = [], [], 0.0
    for number, took in enumerate(stages):
        free, begin = [(at, i) for i in range(slots)], at
        for one in took:
            when, slot = heapq.heappop(free)
            rows.append(task(number, when, one))
            heapq.heappush(free, (when + one, slot))
            at = max(at, when + one)
        described.append(stage(number, begin, at, parents=(number - 1,) if number else ()))
        at += pause
    return application(rows, tuple(described), (job(0, 0.0, at - pause),), executors=(("0", slots),))


@FEW
@given(st.lists(times, min_size=1, max_size=4), st.integers(1, 4), st.floats(0, 3))
def test_stages_one_after_another_take_the_sum_of_their_lists_and_the_pauses(stages, slots, pause):
    app = chain(stages, slots, pause)
    expected = sum(listed(took, slots) for took in stages) + pause * (len(stages) - 1)
    assert Rescheduler(app).run(app.tasks.duration).length == pytest.approx(expected)


@FEW
@given(st.lists(times, min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 3), st.floats(0, 1))
def test_a_faster_stage_saves_what_its_own_list_saves(stages, slots, which, factor):
    which %= len(stages)
    app = chain(stages, slots, 0.5)
    faster = np.where(app.tasks.stage == which, app.tasks.duration * factor, app.tasks.duration)
    plan = Rescheduler(app)
    saved = plan.run(app.tasks.duration).length - plan.run(faster).length
    alone = listed(stages[which], slots) - listed([one * factor for one in stages[which]], slots)
    assert saved == pytest.approx(alone, abs=1e-6)
