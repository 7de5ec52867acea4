"""Measure a window: collectors, workload or just watching, then gather, tables, report.

Whatever fails after the window began, what was measured is kept, and the run says what is missing.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from labtool import __version__, content
from labtool.ansible import inventory
from labtool.ansible.command import Strategy
from labtool.ansible.events import Observer
from labtool.ansible.result import PlayResult
from labtool.ansible.runner import run_playbook
from labtool.cloud import bill, interruption, keys, price
from labtool.cloud.session import Session
from labtool.collect import live, observer
from labtool.dataset.run import HostRecord, RunDirectory, RunRecord
from labtool.errors import LabtoolError
from labtool.experiment import gather as gathering
from labtool.experiment import machine
from labtool.experiment.deploy import running_everywhere
from labtool.experiment.journal import Journal
from labtool.progress import Progress
from labtool.ssh import Access
from labtool.stacks import Stack, Workload
from labtool.topology import Lab

LEAST_WINDOW_S = 10.0


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
    command: str = ""


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
    proxy_jump: str | None = None,
) -> Measured:
    """Measure `asked` on `lab`; the run's tables are built, its report is not.

    ^C ends the window early and keeps what there is; a second ^C ends at once. So does AWS when it takes a spot
    host back: a window with a host less is not the window that was asked for.
    """
    begun = datetime.now(UTC)
    directory = RunDirectory.create(runs, lab.name, asked.name, begun)
    journal = Journal(directory, first_record(session, lab, asked, begun), watcher)
    access = keys.access(session, lab.name, proxy_jump)
    keys.learn(session, lab.name, lab.running)
    failure: LabtoolError | None = None
    early = Early(journal, watcher)
    with interruptible(watcher) as cancel, interruption.watched(session, lab.running, early.taken_back(cancel)):
        _need_collectors(access, lab, journal, strategy, observers)
        gathering.measure_clocks(access, lab.running, journal, "before")
        for missing in observer.observe(access, lab.running, directory):
            journal.missing(missing.what, missing.why, missing.host)
        if asked.past:
            end = datetime.now(UTC)
            window = (end - timedelta(seconds=asked.seconds), end)
        else:
            window, failure = _live(access, lab, asked, journal, cancel, strategy, observers, watcher, early)
        if cancel.is_set():
            journal.missing("the whole window", f"it was ended early by {early.why}")
        journal.record.window_start, journal.record.window_end = window
        journal.save()
    gathering.gather(session, access, lab, journal, watcher)
    journal.record.ended = datetime.now(UTC)
    journal.save()
    return Measured(directory, failure)


class Early:
    """Why a window ended before its time."""

    def __init__(self, journal: Journal, progress: Progress) -> None:
        self._journal, self._progress = journal, progress
        self._hosts: list[str] = []

    @property
    def why(self) -> str:
        """What ended it, in words."""
        return f"a spot interruption of {', '.join(self._hosts)}" if self._hosts else "^C"

    def taken_back(self, cancel: threading.Event) -> Callable[[str, str], None]:
        """Return what notes that AWS takes a host back, and ends the window."""

        def notice(host: str, reason: str) -> None:
            self._hosts.append(host)
            now = datetime.now(UTC)
            self._journal.timeline.row(
                start=now, host=host, kind="fault", name="spot interruption", status="failed", detail=reason
            )
            self._journal.missing("what it did from then on", f"AWS takes it back ({reason})", host)
            self._progress.line(f"AWS takes {host} back ({reason}): ending early; what was measured is kept")
            cancel.set()

        return notice


def first_record(session: Session, lab: Lab, asked: Asked, begun: datetime) -> RunRecord:
    """Return what is known of a run before it begins."""
    hourly = bill.of_hosts(lab.running)
    names = ("ansible-core", "ansible-runner", "boto3", "mitogen")
    return RunRecord(
        name=asked.name,
        lab=lab.name,
        cloud="aws" if session.target.cloud == "aws" else "local",
        region=lab.region,
        started=begun,
        warmup_s=asked.warmup_s,
        stack=asked.stack.name if asked.stack else None,
        stack_options=dict(asked.stack_values),
        workload=asked.workload.name if asked.workload else None,
        workload_options=dict(asked.workload_values),
        hosts=[
            HostRecord(
                name=host.name,
                group=host.group,
                instance_id=host.instance_id,
                instance_type=host.instance_type,
                address=host.address,
                zone=host.zone,
                price_per_hour_usd=price.of_type(host.instance_type),
            )
            for host in lab.running
        ],
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
        command=asked.command or " ".join(["labtool", *sys.argv[1:]]),
        cost={
            "usd_per_hour": round(hourly.usd_per_hour, 4),
            "without": ", ".join(hourly.unknown),
            "prices": f"{price.REGION}, {price.DATED}",
        },
    )


def _need_collectors(
    access: Access, lab: Lab, journal: Journal, strategy: Strategy, observers: Sequence[Observer]
) -> None:
    """Start the collectors where they do not run. A host without is said to be missing, not a reason to stop."""
    without = running_everywhere(access, lab, "labtool-collector.service")
    if not without:
        return
    with journal.stage("collectors"):
        result = run_playbook(
            content.playbooks() / "collector.yml",
            inventory.of_lab(lab, access),
            observers=[journal.timeline, *observers],
            strategy=strategy,
            limit=",".join(without),
            log=journal.directory.ansible / "collector.log",
        )
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
) -> tuple[tuple[datetime, datetime], LabtoolError | None]:
    """Watch the hosts for the window, while the workload runs if there is one; return the window."""
    failure: LabtoolError | None = None
    with (
        watched(access, lab, watcher, journal),
        machine.recorded(journal.directory),
        journal.stage("workload" if asked.workload else "watch") as stage,
    ):
        start = datetime.now(UTC)
        if asked.workload is None:
            until = time.monotonic() + asked.seconds
            while (remaining := until - time.monotonic()) > 0 and not cancel.wait(min(remaining, 1.0)):
                watcher.left(remaining)
        else:
            with counted_down(asked.seconds, watcher):
                result = run_workload(access, lab, asked, journal, cancel, strategy, observers)
            failure = result.error() if not cancel.is_set() else None
            if failure is not None:
                stage.outcome, stage.detail = "failed", failure.message.splitlines()[0]
                journal.missing("a whole workload", failure.message.splitlines()[0])
        watcher.left(None)
        end = datetime.now(UTC)
        if cancel.is_set():
            stage.outcome, stage.detail = "interrupted", early.why
    return (start, end), failure


def run_workload(
    access: Access,
    lab: Lab,
    asked: Asked,
    journal: Journal,
    cancel: threading.Event,
    strategy: Strategy,
    observers: Sequence[Observer],
) -> PlayResult:
    """Run the workload's playbook; its output comes to the run's raw folder, interrupted or not."""
    assert asked.workload is not None
    variables = {
        **asked.workload.extra_vars(asked.workload_values),
        "labtool_raw": str(journal.directory.raw.resolve()),
        "labtool_duration_s": int(asked.seconds),
        "labtool_warmup_s": int(asked.warmup_s),
    }

    def play(tags: Sequence[str], stop: threading.Event | None) -> PlayResult:
        assert asked.workload is not None
        return run_playbook(
            asked.workload.playbook,
            inventory.of_lab(lab, access),
            extra_vars=variables,
            observers=[journal.timeline, *observers],
            strategy=strategy,
            tags=tags,
            log=journal.directory.ansible / f"{asked.workload.name}.log",
            cancel=stop,
        )

    result = play((), cancel)
    if cancel.is_set():
        return play(("fetch",), None)
    return result


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
                        journal.missing("what it did from some moment on", f"it went away: {event.why}", event.host)
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
