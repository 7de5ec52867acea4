"""A stage's ideal times on CPU, disk and network, which of them is its bottleneck, and what twice as much would give.

The model is that of monotasks (Ousterhout et al., "Monotasks: Architecting for Performance Clarity in Data Analytics
Frameworks", SOSP 2017, 6.1): the ideal time of a resource is all the work a stage gave it over all of it there is, as
if it had been spread evenly and never idle. A stage cannot be faster than the longest of its ideal times, whose
resource is its bottleneck. Spark's tasks use their resources by turns, so a stage takes longer than that; what twice
the resource gives is therefore worked out by putting its tasks on the slots again (`labtool.analysis.reschedule`),
and never below the ideal times that are left.

The work comes from the hosts' counters over the stage's time; of stages that ran beside each other each gets its share
by the time of its tasks. For a stage too short for that it comes from the tasks' own metrics, which leave out Python
workers and all of the disk. What a host may use of its processors is what was not stolen from it: a burstable type
without credits, or a guest of a full machine, has so much less. Where one machine carries all hosts, its processors
are a resource too, which more cores or workers do not add to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labtool.analysis.application import Application
from labtool.analysis.blocked import durations_without
from labtool.analysis.data import Floats, RunData, Series
from labtool.analysis.reschedule import Rescheduler, Slot
from labtool.analysis.resources import bandwidth, machine_cpus
from labtool.analysis.trust import MACHINE_FULL, machine_share

COVERED = 0.8
"""Counters count where they cover so much of a stage, …"""
SHORTEST_S = 2.0
"""… and it is this long: a sample is a second, and its edges belong to others."""
BOUND = 0.5
"""The longest ideal time is a bottleneck if it is at least this share of the stage's; else nothing was."""
CROWDED = 0.9
"""At this mean utilisation of its hosts' CPUs tasks wait for a processor."""

RESOURCES = ("cpu", "disk", "network")
CHANGES = ("cores", "workers", "disk", "network")


@dataclass(frozen=True)
class Ideal:
    """A stage: how long it took and what its resources would have needed (s); None where that is not known."""

    stage: int  # position in the application's stages
    took_s: float
    cpu_s: float
    disk_s: float | None
    network_s: float | None
    from_hosts: bool
    busy_slots: float  # share of the slots' time with a task in it
    off_s: float  # the ideal times can be off by so much: the sampling step at both edges
    machine_s: float | None = None  # on what the one machine that carries all hosts has left of its processors
    machine_busy: float | None = None  # the share of these that were busy, by whomever

    def of(self, resource: str) -> float | None:
        """Return the ideal time on one of `RESOURCES`."""
        return {"cpu": self.cpu_s, "disk": self.disk_s, "network": self.network_s}[resource]

    @property
    def longest(self) -> tuple[str, float]:
        """The resource with the longest ideal time, and that time."""
        known = {name: value for name in RESOURCES if (value := self.of(name)) is not None}
        name = max(known, key=lambda one: known[one])
        return name, known[name]

    @property
    def bottleneck(self) -> str:
        """The resource that bounds it; '' where none was in use half of the time."""
        name, value = self.longest
        return name if self.took_s > 0 and value >= BOUND * self.took_s else ""

    @property
    def crowded(self) -> bool:
        """True where its hosts' processors were full, or those of the machine that carries them."""
        full = self.took_s > 0 and self.cpu_s >= CROWDED * self.took_s
        return self.from_hosts and (full or (self.machine_busy or 0.0) >= CROWDED)


@dataclass(frozen=True)
class Prediction:
    """What twice of one thing would make of the application's time (s), and between what that lies."""

    change: str
    seconds: float
    best_s: float
    worst_s: float


def ideals(data: RunData, application: Application) -> tuple[Ideal, ...]:
    """Return the ideal times of every stage that ended, in the application's order."""
    found = []
    for i, stage in enumerate(application.stages):
        if stage.completed is not None and stage.completed > stage.submitted and len(application.of_stage(i)):
            found.append(_of_stage(data, application, i, stage.submitted, stage.completed))
    return tuple(found)


def _of_stage(data: RunData, application: Application, i: int, start: float, end: float) -> Ideal:
    tasks, mine, took = application.tasks, application.of_stage(i), end - start
    inside = np.clip(np.minimum(tasks.finished, end) - np.maximum(tasks.launched, start), 0.0, None)
    inside = np.nan_to_num(inside)
    own, everyone = float(inside[mine].sum()), float(inside.sum())
    share = own / everyone if everyone > 0 else 1.0
    there = [one for one in application.executors if one.added < end and (one.removed is None or one.removed > start)]
    slots = sum(application.slots_of(one) for one in there) or 1
    cores = sum(one.cores for one in there) or 1
    hosts = sorted({one.host for one in there})
    ideal = Ideal(
        stage=i,
        took_s=took,
        cpu_s=float(np.nansum(tasks.seconds["cpu"][mine])) / cores,
        disk_s=None,
        network_s=_network_of_tasks(data, application, i, hosts),
        from_hosts=False,
        busy_slots=own / (slots * took),
        off_s=0.0,
    )
    if took < SHORTEST_S:
        return ideal
    cpu = _busy(data, hosts, "cpu", start, end)
    if cpu is None:
        return ideal
    disk = _busy(data, hosts, "disk", start, end)
    machine_s, machine_busy = _machine(data, hosts, start, end)
    step = max(data.signal(host, "cpu").step for host in hosts)
    return replace(
        ideal,
        cpu_s=cpu * took * share,
        disk_s=None if disk is None else disk * took * share,
        network_s=_network_of_hosts(data, hosts, start, end, share) or ideal.network_s,
        from_hosts=True,
        off_s=step,
        machine_s=machine_s,
        machine_busy=machine_busy,
    )


def crowded_stages(data: RunData, application: Application, found: Sequence[Ideal]) -> frozenset[int]:
    """Return the stages in which tasks may have waited for a processor.

    Their hosts' CPUs were full or left no counters, or the machine that carries all hosts was full: then, or, where
    it is not known when, at all.
    """
    full = data.record.cloud == "local" and (machine_share(data, "cpu_full") or 0.0) >= MACHINE_FULL
    spare = {
        one.stage for one in found if one.from_hosts and not one.crowded and not (full and one.machine_busy is None)
    }
    return frozenset(range(len(application.stages))) - spare


def covered(series: Series, start: float, end: float) -> float | None:
    """Return the mean of a series over (start, end], each point weighed by how much of it lies inside.

    None where the points cover less than four fifths of it.
    """
    step = series.step
    if end <= start or not len(series):
        return None
    weight = np.clip(np.minimum(series.t, end) - np.maximum(series.t - step, start), 0.0, None)
    weight[~np.isfinite(series.v)] = 0.0
    if float(weight.sum()) < COVERED * (end - start):
        return None
    return float(np.nansum(series.v * weight) / weight.sum())


def _busy(data: RunData, hosts: Sequence[str], name: str, start: float, end: float) -> float | None:
    """Return the mean utilisation of a resource over hosts, weighed by their processors; None where one is silent."""
    found = [covered(used(data, host) if name == "cpu" else data.signal(host, name), start, end) for host in hosts]
    if not found or any(value is None for value in found):
        return None
    weights = [_vcpus(data, host) if name == "cpu" else 1.0 for host in hosts]
    return float(np.average([value or 0.0 for value in found], weights=weights))


def _machine(data: RunData, hosts: Sequence[str], start: float, end: float) -> tuple[float | None, float | None]:
    """Return how long the machine that carries all hosts needs for what these computed, and how busy it was.

    What it does besides, for the driver or for others, it goes on doing: the hosts have what is left of its processors.
    None where it is not known.
    """
    cpus = machine_cpus(data)
    busy = covered(data.machine, start, end) if data.record.cloud == "local" else None
    if busy is None or cpus is None:
        return None, busy
    vcpus = [(covered(data.signal(host, "cpu"), start, end) or 0.0) * min(_vcpus(data, host), cpus) for host in hosts]
    own = min(sum(vcpus) / cpus, busy)
    return (end - start) * own / max(1.0 - (busy - own), own) if own > 0 else 0.0, busy


def used(data: RunData, host: str) -> Series:
    """Return which share of the processor time that a host could have it used: of what was not stolen from it."""
    cpu, stolen = data.signal(host, "cpu"), data.signal(host, "cpu_steal")
    if len(stolen) != len(cpu):
        return cpu
    return Series(cpu.t, np.clip(cpu.v / np.maximum(1.0 - stolen.v, 1e-3), 0.0, 1.0))


def _vcpus(data: RunData, host: str) -> float:
    record = data.host_record(host)
    return float((record.vcpus if record else None) or 1)


def _bandwidth(data: RunData, hosts: Sequence[str]) -> float | None:
    """Return bytes/s that all hosts together can take in; None where that is not known of one."""
    known = [bandwidth(data, host) for host in hosts]
    if len(known) < len(hosts) or not known or not all(known):
        return None
    return sum(bits or 0.0 for bits in known) / 8


def _network_of_hosts(data: RunData, hosts: Sequence[str], start: float, end: float, share: float) -> float | None:
    bandwidth = _bandwidth(data, hosts)
    flows = [
        [covered(data.signal(host, name), start, end) for host in hosts] for name in ("net_rx", "net_tx")
    ]  # fmt: skip
    if bandwidth is None or any(value is None for flow in flows for value in flow):
        return None
    return max(sum(value or 0.0 for value in flow) for flow in flows) * (end - start) * share / bandwidth


def _network_of_tasks(data: RunData, application: Application, i: int, hosts: Sequence[str]) -> float | None:
    bandwidth = _bandwidth(data, hosts)
    moved = float(np.nansum(application.tasks.bytes["shuffle_remote"][application.of_stage(i)]))
    return None if bandwidth is None else moved / bandwidth


def predictions(
    application: Application, found: Sequence[Ideal], plan: Rescheduler, crowded: Collection[int] = ()
) -> tuple[Prediction, ...]:
    """Return what twice the cores, workers, disk or network would make of the application's time.

    Twice the cores, or workers, are twice the slots. At best every task takes what it took. At worst, with twice the
    tasks at once on the same disk and network, what a task waited for these takes twice as long; of twice the workers
    each has its own, and what it waits for the network grows by the share of shuffle data that is on other hosts then.
    New workers have to warm up as the first ones had (`warming`): their first tasks take longer, and what the workers'
    processors, or those of the one machine under them, have to compute grows as the tasks' time does.
    Twice the disk, or network, halves what tasks were blocked for it: at worst what is told to be so, at best all that
    may be; `crowded` is as for `blocked`.
    """
    tasks = application.tasks
    took = tasks.duration
    base = plan.run(took)
    if base.length <= 0:
        return ()
    scale = application.length / base.length
    without = durations_without(application, crowded)
    told = {name: took - without[name][0] for name in ("disk", "network")}
    most = {name: took - without[name][1] for name in ("disk", "network")}
    twice = [slot for slot in plan.slots for _ in range(2)]
    workers = len({executor.host for executor in application.executors}) or 1
    # With w hosts, (w - 1) / w of what is shuffled is on another one.
    grown = (2 * workers - 1) / (2 * workers) / ((workers - 1) / workers) if workers > 1 else 2.0

    def length(
        durations: Floats, slots: Sequence[Slot] | None, left: Mapping[str, float], computed: Floats = took
    ) -> float:
        made = plan.run(durations, slots)
        # No stage is faster than what is left of its ideal times.
        short = 0.0
        for one in found:
            mine = application.of_stage(one.stage)
            more = float(np.nansum(computed[mine]) / (np.nansum(took[mine]) or 1.0))
            known = [one.cpu_s * more * left.get("cpu", 1.0)]
            known += [value * left.get(name, 1.0) for name in ("disk", "network") if (value := one.of(name))]
            # What one machine has to compute it has to compute, on however many hosts.
            floor = max([*known, (one.machine_s or 0.0) * more])
            short += max(0.0, min(floor, one.took_s * more) - float(made.stage_length[one.stage]))
        return (made.length + short) * scale

    cold = took + warming(application)
    half = {"cpu": 0.5}
    all_half = {"cpu": 0.5, "disk": 0.5, "network": 0.5}
    free = dict.fromkeys(RESOURCES, 0.0)
    made = [
        Prediction(
            "cores",
            length(took, twice, half),
            length(took, twice, free),
            length(took + told["disk"] + told["network"], twice, half),
        ),
        Prediction(
            "workers",
            length(cold, twice, all_half, cold),
            length(took, twice, free),
            length(cold + told["network"] * (grown - 1), twice, all_half, cold),
        ),
    ]
    for name in ("disk", "network"):
        likely = length(took - told[name] / 2, None, {name: 0.5})
        best = length(took - most[name] / 2, None, {name: 0.5})
        made.append(Prediction(name, likely, best, application.length))
    return tuple(
        replace(one, best_s=min(one.best_s, one.seconds), worst_s=max(one.worst_s, one.seconds)) for one in made
    )


def warming(application: Application) -> Floats:
    """Return how much longer each task would take (s) if as many executors again were there, in new JVMs.

    The first tasks of a stage in an executor take longer than the others, since its code is generated, loaded and
    compiled there: a cost of each JVM, which more of them do not share (Lion et al., "Don't Get Caught in the Cold,
    Warm-up Your JVM", OSDI 2016). What those of a stage took beyond the median of its others, so much longer take the
    tasks that would be the first ones in the new slots.
    """
    tasks = application.tasks
    slots = {executor.name: application.slots_of(executor) for executor in application.executors}
    longer = np.zeros(len(tasks))
    for i in range(len(application.stages)):
        mine = application.of_stage(i)
        seen: dict[int, int] = {}
        first = np.zeros(len(mine), dtype=np.bool_)
        for at, executor in enumerate(tasks.executor[mine].tolist()):
            seen[executor] = seen.get(executor, 0) + 1
            first[at] = seen[executor] <= slots.get(tasks.executors[executor], 1)
        if first.all():
            continue
        excess = float(np.median(tasks.duration[mine[first]]) - np.median(tasks.duration[mine[~first]]))
        longer[mine[~first][: int(first.sum())]] = max(excess, 0.0)
    return np.where(np.isfinite(longer), longer, 0.0)
