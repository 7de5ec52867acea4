"""Commands and copies on many hosts at once."""

from __future__ import annotations

import math
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from labtool import ssh
from labtool.errors import LabtoolError
from labtool.ssh import Access
from labtool.topology import Host

T = TypeVar("T")

TIMED_OUT = 124
INTERRUPTED = 130


@dataclass(frozen=True)
class Result:
    """What a command did on one host; `code` is 255 when SSH itself failed, 124 after the deadline."""

    host: str
    code: int
    output: str
    timed_out: bool = False  # a command's own 124 is none of ours


def run_everywhere(access: Access, hosts: Sequence[Host], line: str, timeout_s: float) -> list[Result]:
    """Run a shell line on every host and return the results in the hosts' order.

    Given up after `timeout_s` or interrupted, it ends on the hosts too.
    """
    remote = ssh.ending_with_connection(line)

    def run(host: Host, stop: threading.Event) -> Result:
        code, output = _run(ssh.command(access, host, remote), timeout_s, stop)
        return Result(host.name, TIMED_OUT if code is None else code, output, timed_out=code is None)

    return _on_all(hosts, run, at_once=64)


def copy(access: Access, hosts: Sequence[Host], *, local: str, remote: str, download: bool) -> None:
    """Copy `local` to every host, or `remote` from each (into LOCAL/<host>/ when there are several)."""
    if not download and not Path(local).exists():
        raise LabtoolError(f"{local} does not exist")

    made: list[Path] = []

    def one(host: Host, stop: threading.Event) -> str:
        there = f"{host.login}@{host.address}:{remote}"
        here = local
        if download and len(hosts) > 1:
            here = str(Path(local) / host.name)
            made.extend(_make(Path(here)))
        command = ["scp", "-q", "-r", *ssh.options(access, host=host), *([there, here] if download else [here, there])]
        code, said = _run(command, math.inf, stop)
        return f"{host.name}: {said.strip()}" if code != 0 else ""

    try:
        failed = [message for message in _on_all(hosts, one, at_once=16) if message]
    finally:
        for folder in sorted(made, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()  # where something was copied it is not empty
    if failed:
        raise LabtoolError("not copied: " + "; ".join(failed))


def _make(folder: Path) -> list[Path]:
    """Make a folder and those it is in, and return those that were not there."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _on_all(hosts: Sequence[Host], work: Callable[[Host, threading.Event], T], *, at_once: int) -> list[T]:
    """Do `work` on every host; an interrupt sets its event, and is raised again when all have ended."""
    stop = threading.Event()
    with ThreadPoolExecutor(min(at_once, len(hosts))) as pool:
        try:
            return list(pool.map(lambda host: work(host, stop), hosts))
        except BaseException:
            stop.set()
            raise


def _run(command: Sequence[str], timeout_s: float, stop: threading.Event) -> tuple[int | None, str]:
    """Run a local command until it ends, the time is over or `stop` is set.

    Return its exit code, None after the deadline, and what it said.
    """
    if stop.is_set():
        return INTERRUPTED, ""
    deadline = time.monotonic() + timeout_s
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # open as long as the command may run
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's ^C comes to us alone
        ) as process,
    ):
        code: int | None = None
        try:
            while code is None and not stop.is_set() and time.monotonic() < deadline:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(0.1)
        finally:
            if code is None:
                _close(process)
        said.seek(0)
        output = said.read().decode(errors="replace")
    return INTERRUPTED if code is None and stop.is_set() else code, output


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close a command's input, which ends it on its host; what does not end by that loses its connection."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
