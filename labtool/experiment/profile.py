"""Measure a window: collectors, workload or just watching, then gather, tables, report.

Whatever fails after the window began, what was measured is kept, and the run says what is missing.
"""

from __future__ import annotations

import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from labtool import __version__, content
from labtool.ansible import inventory
from labtool.ansible.command import Strategy
from labtool.ansible.events import Observer
from labtool.ansible.runner import run_playbook
from labtool.cloud import bill, find, instance_types, interruption, keys, price_list
from labtool.cloud.session import Session
from labtool.collect import live, observer
from labtool.dataset.run import FROM_THEN_ON, HostRecord, MetricsRecord, RunDirectory, RunRecord
from labtool.errors import CloudError, LabtoolError, StoppedError
from labtool.experiment import gather as gathering
from labtool.experiment import load, machine
from labtool.experiment.deploy import running_everywhere
from labtool.experiment.journal import Journal
from labtool.progress import Progress
from labtool.ssh import Access
from labtool.stacks import Stack, Workload
from labtool.topology import Lab


class Watcher(Progress, Protocol):
    """Progress that also shows what the hosts are doing."""

    def sample(self, host: str, *, cpu: float, memory: float, rx: float, tx: float, read: float, write: float) -> None:
        """Show a host's CPU and memory (ratios), network and disk (bytes/s)."""

    def left(self, seconds: float | None) -> None:
        """Show the time left of the window."""


@dataclass(frozen=True)
class Asked:
    """What is to be measured."""

    name: str
    seconds: float
    warmup_s: float = 0.0
    past: bool = False  # the last `seconds`, from what is already there
    workload: Workload | None = None
    workload_values: Mapping[str, Any] = field(default_factory=dict)
    stack: Stack | None = None
    stack_values: Mapping[str, Any] = field(default_factory=dict)
    metrics: MetricsRecord = field(default_factory=MetricsRecord)
    notes: tuple[str, ...] = ()  # what of a file is done in another way than it says
    latency: Literal["intended"] | None = None  # what the workload's counts from; None: not known
    command: str = ""
    hosts_end: bool = False  # with the command: nothing can be gathered again


@dataclass(frozen=True)
class Measured:
    """A run that is over. `failure` is the workload's: the run is kept and can be reported all the same."""

    directory: RunDirectory
    failure: LabtoolError | None = None


def profile(
    session: Session,
    lab: Lab,
    asked: Asked,
    *,
    runs: Path,
    strategy: Strategy,
    observers: Sequence[Observer],
    watcher: Watcher,
) -> Measured:
    """Measure `asked` on `lab`; the run's tables are built, its report is not.

    ^C ends the window early and keeps what there is; a second one, or one outside the window, ends at once:
    `StoppedError` says what is kept and where. When AWS takes a spot host back, the window ends early too: with a host
    less it is not the window that was asked for.
    """
    begun = datetime.now(UTC)
    directory = RunDirectory.create(runs, lab.name, asked.name, begun)
    journal = Journal(directory, first_record(session, lab, asked, begun), watcher)
    _note_not_running(journal, past=asked.past)
    early = Early(journal, watcher)
    try:
        failure = _measure(session, lab, asked, journal, strategy, observers, watcher, early)
    except KeyboardInterrupt:
        raise _stopped(journal, early, again=not asked.hosts_end) from None
    record = journal.record
    record.ended = datetime.now(UTC)
    hours = (record.ended - record.started).total_seconds() / 3600
    record.cost["usd"] = round(float(record.cost["usd_per_hour"]) * hours + float(record.cost.get("usd_metrics", 0)), 4)
    journal.save()
    return Measured(directory, failure)


class Early:
    """Why a window ended before its time."""

    def __init__(self, journal: Journal, progress: Progress) -> None:
        self._journal, self._progress = journal, progress
        self.hosts: list[str] = []  # that AWS took back

    @property
    def why(self) -> str:
        """What ended it, in words."""
        return f"a spot interruption of {', '.join(self.hosts)}" if self.hosts else "^C"

    def taken_back(self, cancel: threading.Event) -> Callable[[str, str], None]:
        """Return what notes that AWS takes a host back, and ends the window."""

        def notice(host: str, reason: str) -> None:
            self.hosts.append(host)
            now = datetime.now(UTC)
            self._journal.timeline.row(
                start=now, host=host, kind="fault", name="spot interruption", status="failed", detail=reason
            )
            self._journal.missing(FROM_THEN_ON, f"AWS takes it back ({reason})", host)
            self._progress.line(f"AWS takes {host} back ({reason}): ending early; what was measured is kept")
            cancel.set()

        return notice


def _measure(
    session: Session,
    lab: Lab,
    asked: Asked,
    journal: Journal,
    strategy: Strategy,
    observers: Sequence[Observer],
    watcher: Watcher,
    early: Early,
) -> LabtoolError | None:
    """Measure and gather; return why the workload failed, None where it did not."""
    record = journal.record
    failure: LabtoolError | None = None
    access = keys.access(session, lab.name)
    keys.learn(session, lab.name, lab.running)
    with interruptible(watcher) as cancel, interruption.watched(session, lab.running, early.taken_back(cancel)):
        _need_collectors(access, lab, journal, cancel, strategy, observers)
        _go_on(cancel)
        gathering.measure_clocks(access, lab.running, journal, "before")
        for missing in observer.observe(access, lab.running, journal.directory):
            journal.missing(missing.what, missing.why, missing.host)
        _go_on(cancel)
        if asked.past:
            record.window_end = datetime.now(UTC)
            record.window_start = record.window_end - timedelta(seconds=asked.seconds)
        else:
            failure = _live(access, lab, asked, journal, cancel, strategy, observers, watcher, early)
            if cancel.is_set():
                journal.missing("the whole window", f"it was ended early by {early.why}")
        journal.save()
    _note_joined(session, lab, journal)
    gathering.gather(session, access, lab, journal, watcher)
    return failure


def _note_not_running(journal: Journal, *, past: bool) -> None:
    """Name the lab's hosts that do not run: nothing is asked of them."""
    for host, state in journal.record.not_running.items():
        why = f"the host is {state}" if past else f"the host was {state} before the window began"
        journal.missing("counters, logs and metrics", why, host)


def _note_joined(session: Session, lab: Lab, journal: Journal) -> None:
    """Name the hosts that a deploy has added since: they are not part of this run."""
    with suppress(LabtoolError):  # an API that does not answer costs no measurement
        known = {host.name for host in lab.hosts}
        for host in find.find_lab(session, lab.name).running:
            if host.name not in known:
                journal.missing("what it did", "it joined the lab in the window", host.name)


def _go_on(cancel: threading.Event) -> None:
    """End at once if something ended the run before there was anything to keep."""
    if cancel.is_set():
        raise KeyboardInterrupt


def _stopped(journal: Journal, early: Early, *, again: bool) -> LabtoolError:
    """Write down that the run was ended, and return what to tell: what is kept, where, how to have its report.

    `again`: the hosts stay, and can be asked again.
    """
    record, path = journal.record, journal.directory.path
    record.ended = datetime.now(UTC)
    if record.window_start is None:
        journal.missing("all of it", "it was ended before the window began")
        journal.save()
        if early.hosts:
            return CloudError(
                f"{early.why} before anything was measured; its log is in {path}",
                "`labtool up` launches what is missing",
            )
        return StoppedError(f"interrupted before anything was measured; its log is in {path}", "run the command again")
    stage = record.stages[-1].name if record.stages else "measuring"
    message, hint = f"interrupted in stage `{stage}`; what was measured is kept in {path}", f"`labtool report {path}`"
    if stage == "tables":
        record.stages.pop()  # all is gathered, and the report makes them again
        journal.save()
        return StoppedError(message, f"{hint} makes its tables and its report")
    kept = "the hosts still have their records" if again else "the hosts have ended with it"
    journal.missing("what was not gathered yet", f"it was ended in stage `{stage}`; {kept}")
    if not again:
        return StoppedError(message, f"{hint} makes the report of it")
    minutes = math.ceil((record.ended - record.window_start).total_seconds() / 60)
    return StoppedError(
        message,
        f"{hint} makes the report of it; `labtool profile --last {minutes}` gathers the time again from the hosts",
    )


def first_record(session: Session, lab: Lab, asked: Asked, begun: datetime) -> RunRecord:
    """Return what is known of a run before it begins."""
    prices = price_list.prices(session, (host.instance_type for host in lab.running))
    hourly = bill.of_hosts(lab.running, prices)
    unknown = instance_types.Bandwidth()
    networks = instance_types.bandwidths(session, (host.instance_type for host in lab.running))
    names = ("ansible-core", "ansible-runner", "boto3", "mitogen")
    return RunRecord(
        name=asked.name,
        lab=lab.name,
        cloud=session.target.kind,
        region=lab.region,
        started=begun,
        warmup_s=asked.warmup_s,
        stack=asked.stack.name if asked.stack else None,
        stack_options=dict(asked.stack_values),
        workload=asked.workload.name if asked.workload else None,
        workload_options=dict(asked.workload_values),
        operations=asked.workload.operations if asked.workload else "",
        latency=asked.latency,
        hosts=[
            HostRecord(
                name=host.name,
                group=host.group,
                instance_id=host.instance_id,
                instance_type=host.instance_type,
                address=host.address,
                zone=host.zone,
                price_per_hour_usd=prices.hourly.get(host.instance_type),
                network_bits_per_s=networks.get(host.instance_type, unknown).baseline,
                network_burst_bits_per_s=networks.get(host.instance_type, unknown).burst,
            )
            for host in lab.running
        ],
        not_running={host.name: host.state for host in lab if not host.running},
        versions={
            "labtool": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in names},
        },
        machine={
            "system": platform.platform(),
            "cpus": str(os.cpu_count()),
            "memory_bytes": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        },
        metrics=asked.metrics,
        command=asked.command or " ".join(["labtool", *sys.argv[1:]]),
        notes=list(asked.notes),
        cost={
            "usd_per_hour": round(hourly.usd_per_hour, 4),
            "without": ", ".join(hourly.unknown),
            "prices": f"{prices.region}, {prices.dated}",
        },
    )


def _need_collectors(
    access: Access,
    lab: Lab,
    journal: Journal,
    cancel: threading.Event,
    strategy: Strategy,
    observers: Sequence[Observer],
) -> None:
    """Start the collectors where they do not run. A host without is said to be missing, not a reason to stop."""
    without = running_everywhere(access, lab, "labtool-collector.service")
    if not without:
        return
    with journal.stage("collectors") as stage:
        result = run_playbook(
            content.playbooks() / "collector.yml",
            inventory.of_lab(lab, access),
            observers=[journal.timeline, *observers],
            strategy=strategy,
            limit=",".join(without),
            log=journal.directory.ansible / "collector.log",
            cancel=cancel,
        )
        if cancel.is_set():
            stage.outcome = "interrupted"
    for failed in result.failures:
        journal.missing("the host's own counters", f"the collector could not be started: {failed.message}", failed.host)


def _live(
    access: Access,
    lab: Lab,
    asked: Asked,
    journal: Journal,
    cancel: threading.Event,
    strategy: Strategy,
    observers: Sequence[Observer],
    watcher: Watcher,
    early: Early,
) -> LabtoolError | None:
    """Watch the hosts for the window, while the workload runs if there is one; the window is noted in the run."""
    record = journal.record
    failure: LabtoolError | None = None
    with (
        watched(access, lab, watcher, journal),
        machine.recorded(journal.directory),
        journal.stage("workload" if asked.workload else "watch") as stage,
    ):
        record.window_start = datetime.now(UTC)
        journal.save()
        try:
            if asked.workload is None:
                until = time.monotonic() + asked.seconds
                while (remaining := until - time.monotonic()) > 0 and not cancel.wait(min(remaining, 1.0)):
                    watcher.left(remaining)
            else:
                work = load.Load(asked.workload, asked.workload_values, asked.seconds, asked.warmup_s)
                with counted_down(asked.seconds, watcher):
                    result = load.drive(work, access, lab, journal, cancel, strategy=strategy, observers=observers)
                failure = result.error() if not cancel.is_set() else None
                if failure is not None:
                    stage.outcome, stage.detail = "failed", result.cause
                    journal.missing("a whole workload", result.cause)
        finally:
            watcher.left(None)
            record.window_end = datetime.now(UTC)
        if cancel.is_set():
            stage.outcome, stage.detail = "interrupted", early.why
    return failure


@contextmanager
def watched(access: Access, lab: Lab, watcher: Watcher, journal: Journal) -> Iterator[None]:
    """Show what the hosts are doing while the block runs; a host that goes away is noted."""
    done = threading.Event()

    def show() -> None:
        with live.LiveSampler(access, lab.running) as sampler:
            while not done.is_set():
                for event in sampler.poll(0.5):
                    if done.is_set():
                        return
                    if isinstance(event, live.HostLost):
                        watcher.host(event.host, "lost", event.why)
                        journal.missing(FROM_THEN_ON, f"it went away: {event.why}", event.host)
                    else:
                        watcher.sample(
                            event.host,
                            cpu=event.cpu,
                            memory=event.memory,
                            rx=event.rx,
                            tx=event.tx,
                            read=event.disk_read,
                            write=event.disk_write,
                        )

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)


@contextmanager
def counted_down(seconds: float, watcher: Watcher) -> Iterator[None]:
    """Show the time left while the block runs."""
    done = threading.Event()
    until = time.monotonic() + seconds

    def tick() -> None:
        while not done.wait(1.0):
            watcher.left(max(0.0, until - time.monotonic()))

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def interruptible(progress: Progress) -> Iterator[threading.Event]:
    """Turn the first ^C into an event: what was measured is still gathered. The second one ends the command."""
    cancel = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return

    def on_interrupt(number: int, frame: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        progress.line("ending early; what was measured is kept (^C again: stop at once)")

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)
