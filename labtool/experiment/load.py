"""The workload's playbook, and that its load ends with it: interrupted, killed or failed, nothing goes on driving.

Each load host has a process that reads one connection of ours. When that is closed without a word (labtool was ended,
however hard), the process ends the load.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from labtool import ssh
from labtool.ansible import inventory
from labtool.ansible.command import Strategy
from labtool.ansible.events import Observer
from labtool.ansible.result import PlayResult
from labtool.ansible.runner import run_playbook
from labtool.collect import remote
from labtool.experiment.journal import Journal
from labtool.ssh import Access
from labtool.stacks import Workload
from labtool.topology import Host, Lab

UNITS = "labtool-*-load.service"
"""A workload runs its clients in a systemd unit of such a name: they can be stopped without its playbook."""

_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Load:
    """A workload with its options, and for how long it drives."""

    workload: Workload
    values: Mapping[str, Any]
    seconds: float
    warmup_s: float


def drive(
    load: Load,
    access: Access,
    lab: Lab,
    journal: Journal,
    cancel: threading.Event,
    *,
    strategy: Strategy,
    observers: Sequence[Observer],
) -> PlayResult:
    """Run the workload's playbook; its output comes to the run's raw folder, also after `cancel` ended it early.

    Whatever else ends this call, or the process, ends the load on the hosts.
    """
    variables = {
        **load.workload.extra_vars(load.values),
        "labtool_raw": str(journal.directory.raw.resolve()),
        "labtool_duration_s": int(load.seconds),
        "labtool_warmup_s": int(load.warmup_s),
    }

    def play(tags: Sequence[str], stop: threading.Event | None) -> PlayResult:
        return run_playbook(
            load.workload.playbook,
            inventory.of_lab(lab, access),
            extra_vars=variables,
            observers=[journal.timeline, *observers],
            strategy=strategy,
            tags=tags,
            log=journal.directory.ansible / f"{load.workload.name}.log",
            cancel=stop,
        )

    groups = load.workload.group_names
    hosts = [host for host in lab.running if not groups or host.group in groups]
    with leashed(access, hosts, journal) as leash:
        result = play((), cancel)
        if cancel.is_set():
            result = play(("fetch",), None)
        leash.over = result.ok
        return result


@dataclass
class Leash:
    """Whether the load is known to be over: then there is nothing to end."""

    over: bool = False


@contextmanager
def leashed(access: Access, hosts: Sequence[Host], journal: Journal) -> Iterator[Leash]:
    """End the load on `hosts` when the block ends, or with this process, unless it is known to be over."""
    leash = Leash()
    with ExitStack() as files:
        ends = [_Process(access, host, files.enter_context(tempfile.TemporaryFile())) for host in hosts]
        try:
            yield leash
        finally:
            if not leash.over:
                journal.progress.line("stopping the load on the hosts")
            for end in ends:
                end.let_go(over=leash.over)
            for end in ends:
                if (why := end.wait()) and not leash.over:
                    journal.missing("whether its load has ended", f"it could not be stopped: {why}", end.host.name)


class _Process:
    """The process on a load host."""

    def __init__(self, access: Access, host: Host, said: IO[bytes]) -> None:
        self.host = host
        self._said = said
        # Killed, not asked: a client may take as long to end as its unit lets it.
        kill = remote.privileged(host, ("systemctl", "kill", "--signal=KILL", UNITS))
        stop = remote.privileged(host, ("systemctl", "stop", "--no-block", UNITS))
        # Twice: a driver whose playbook has just been killed may be about to start its unit.
        self._process = subprocess.Popen(
            ssh.command(access, host, f"read word && exit; {kill}; {stop}; sleep 1; {kill}; {stop}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # the terminal's ^C is not for it
        )

    def let_go(self, *, over: bool) -> None:
        """Close the connection; without the word that it is over, that ends the load."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the connection is lost: `wait` says so
            if over:
                self._process.stdin.write(b"over\n")
            self._process.stdin.close()

    def wait(self) -> str:
        """Wait for the end; return what went wrong, '' where nothing did."""
        try:
            code = self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"no answer within {_STOP_TIMEOUT_S:.0f} s"
        self._said.seek(0)
        return remote.reason(code, self._said.read().decode(errors="replace")) if code else ""
