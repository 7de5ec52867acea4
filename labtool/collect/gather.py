"""Gather the logs and host metrics of a window from all hosts at once, one SSH connection each.

Each host compresses what it has and streams it (`labtool-collect`, roles/collector); here it is unpacked as it comes,
into a folder beside its place, and moved there when it is whole. A host that cannot be read is a `Missing`; the
others are not affected.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from labtool import ssh
from labtool.collect import archive, remote
from labtool.dataset.manifest import Manifest
from labtool.dataset.run import Missing, RunDirectory
from labtool.errors import LabtoolError
from labtool.topology import Host

WHAT = "logs and host metrics"

PARALLEL = 32
"""Hosts read at once: enough to fill a controller's network, few enough for its memory and its sshd neighbours."""

Progress = Callable[[str, str, int], None]
"""Called with a host, its state (reading, done, failed) and its bytes so far; from several threads."""


@dataclass(frozen=True)
class HostResult:
    """What came from one host."""

    host: str
    bytes: int = 0  # received, compressed
    elapsed_s: float = 0.0
    manifest: Manifest | None = None  # None where the stream was cut or nothing came
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Gathered:
    """What came from all hosts."""

    hosts: Mapping[str, HostResult] = field(default_factory=dict)

    @property
    def missing(self) -> list[Missing]:
        """What did not come, host by host."""
        return [one for result in self.hosts.values() for one in result.missing]


def gather(
    access: ssh.Access,
    hosts: Sequence[Host],
    directory: RunDirectory,
    start: datetime,
    end: datetime,
    *,
    offsets: Mapping[str, float] | None = None,
    file_limit_bytes: int = 1 << 30,
    timeout_s: float = 600.0,
    cancel: threading.Event | None = None,
    progress: Progress | None = None,
) -> Gathered:
    """Fill `logs/<host>/` and `raw/sysstat/<host>/` of `directory` with what the hosts recorded from `start` to `end`.

    The window is in the controller's clock; `offsets` (host → its clock minus the controller's, s) moves it into each
    host's. A log file longer than `file_limit_bytes` gives its newest part. A host that has not finished after
    `timeout_s`, or when `cancel` is set, keeps what came. Called again, it replaces what it gathered before.
    """
    offsets = offsets or {}
    job = _Job(access, directory, timeout_s, cancel or threading.Event(), progress or (lambda *_: None))

    def one(host: Host) -> HostResult:
        moved = offsets.get(host.name, 0.0)
        since, until = (f"{when.timestamp() + moved:.3f}" for when in (start, end))
        words = (remote.COLLECT, "--since", since, "--until", until, "--limit", str(file_limit_bytes))
        return job.read(host, words)

    with ThreadPoolExecutor(max_workers=min(PARALLEL, max(len(hosts), 1)), thread_name_prefix="gather") as pool:
        try:
            return Gathered({result.host: result for result in pool.map(one, hosts)})
        except BaseException:
            job.cancel.set()  # an interrupt: the threads end their connections
            raise


@dataclass(frozen=True)
class _Job:
    """What all hosts of one gathering share."""

    access: ssh.Access
    directory: RunDirectory
    timeout_s: float
    cancel: threading.Event
    progress: Progress

    def read(self, host: Host, words: Sequence[str]) -> HostResult:
        """Run `words` on `host` and put what it streams into its places."""
        began = time.monotonic()
        if not host.running:
            return self.nothing(host, f"the host is {host.state}")
        if self.cancel.is_set():
            return self.nothing(host, "interrupted before it was read")
        part = self.directory.logs / f".{host.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        received, manifest, problems, failure = self.stream(host, words, part)
        _place(part, host.name, self.directory)
        missing = []
        if failure:
            kept = f"; kept what came before ({received} bytes)" if received else ""
            missing.append((WHAT, failure + kept))
        missing += [(problem, "it cannot be decompressed") for problem in problems]
        if manifest:
            missing += [(problem.what, problem.why) for problem in manifest.problems]
            missing += [
                (f"the first {file.skipped_bytes} bytes of {file.source}", "the file is over the limit")
                for file in manifest.files
                if file.skipped_bytes
            ]
        self.progress(host.name, "failed" if failure else "done", received)
        return HostResult(
            host.name,
            received,
            time.monotonic() - began,
            manifest,
            tuple(Missing(what=what, host=host.name, why=why) for what, why in missing),
        )

    def nothing(self, host: Host, why: str) -> HostResult:
        """A host that was not asked."""
        self.progress(host.name, "failed", 0)
        return HostResult(host.name, missing=(Missing(what=WHAT, host=host.name, why=why),))

    def stream(self, host: Host, words: Sequence[str], part: Path) -> tuple[int, Manifest | None, list[str], str]:
        """Unpack what `words` on `host` print into `part`: bytes, manifest, unreadable members, and why it failed."""
        received = 0

        def count(size: int) -> None:
            nonlocal received
            received += size
            self.progress(host.name, "reading", received)

        manifest: Manifest | None = None
        problems: list[str] = []
        failure = ""
        self.progress(host.name, "reading", 0)
        command = ssh.command(self.access, host, remote.privileged(host, words))
        # stderr goes to a file: a shared connection's first ssh hands it on to a process that stays.
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, start_new_session=True
            )
            assert process.stdout is not None
            with _Watch(process, self.timeout_s, self.cancel) as watch, process.stdout:
                try:
                    manifest, problems = archive.unpack(process.stdout, part, count)
                except LabtoolError as error:
                    failure = error.message
                except OSError as error:
                    failure = f"it cannot be written: {error}"
            if failure:
                watch.end()
            status = process.wait()
            said.seek(0)
            stderr = said.read().decode(errors="replace")
        if watch.why:
            failure = watch.why
        elif failure and status not in (0, -signal.SIGTERM):
            failure = remote.reason(status, stderr)
        return received, manifest, problems, failure


class _Watch:
    """End a process when its time is over or all is cancelled, and remember why."""

    def __init__(self, process: subprocess.Popen[bytes], timeout_s: float, cancel: threading.Event) -> None:
        self.why = ""
        self._process = process
        self._timeout_s = timeout_s
        self._cancel = cancel
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def end(self, patience_s: float = 2.0) -> None:
        """End the process where it does not end by itself."""
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.terminate()

    def _watch(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not self._over.wait(0.1):
            if self._cancel.is_set():
                self.why = "interrupted"
            elif time.monotonic() > deadline:
                self.why = f"it took more than {self._timeout_s:g} s"
            if self.why:
                self._process.terminate()
                return

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _place(part: Path, host: str, directory: RunDirectory) -> None:
    """Move a host's files to their places; what was there before goes, unless nothing came."""
    if not any(part.iterdir()):
        part.rmdir()
        return
    sysstat = part / "sysstat"
    if sysstat.is_dir():
        _replace(sysstat, directory.raw / "sysstat" / host)
    _replace(part, directory.logs / host)


def _replace(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)
