"""The boundary to ansible-runner: a command in, events out, a result at the end. The only module that imports it.

What ansible-runner does that this module must handle:
- it takes settings, variables and options from files of its private folder, also from an earlier call's: each call
  has a fresh folder, removed afterwards (kept after a bug of ours, without the environment);
- without a `cancel_callback` it replaces the handlers of SIGINT and SIGTERM and never puts them back;
- Ansible runs in a session of its own and so does not get the terminal's ^C; an exception in the midst (^C, or one
  of an observer) would leave it running: it runs in a thread here, and ends before the exception goes on;
- it swallows an OSError of the event handler (a full disk);
- it kills only Ansible's process group, which Ansible's workers have left.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil

from labtool import content
from labtool.ansible import command as commands
from labtool.ansible import inventory as inventories
from labtool.ansible import watchdog
from labtool.ansible.command import PlayCommand, Strategy
from labtool.ansible.events import Observer, PlaybookFinished, from_runner
from labtool.ansible.inventory import Inventory
from labtool.ansible.observers import LogWriter
from labtool.ansible.result import PlayResult, Tally
from labtool.errors import AnsibleError, LabtoolError

_POLL_S = 0.2  # how often ansible-runner asks whether to cancel
_ENDING_S = 15  # for Ansible to be ended after ^C


def run_playbook(
    playbook: Path,
    inventory: Inventory,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    strategy: Strategy = "mitogen",
    forks: int | None = None,
    tags: Sequence[str] = (),
    limit: str | None = None,
    check: bool = False,
    then: Sequence[Path] = (),
    log: Path,
    cancel: threading.Event | None = None,
) -> PlayResult:
    """Run `playbook` on the hosts of `inventory` and return what it came to; see `command.build` and `execute`."""
    command = commands.build(
        playbook,
        inventory,
        extra_vars=extra_vars,
        strategy=strategy,
        forks=forks,
        tags=tags,
        limit=limit,
        check=check,
        then=then,
    )
    return execute(command, observers=observers, log=log, cancel=cancel)


def execute(
    command: PlayCommand,
    *,
    observers: Sequence[Observer] = (),
    log: Path,
    cancel: threading.Event | None = None,
) -> PlayResult:
    """Run `command`, tell `observers` its events, append its output to `log`.

    A playbook that fails is a result (`PlayResult.check` raises). When `cancel` is set Ansible is ended within
    a second and the result says `cancelled`; ^C and SIGTERM end it too and are raised as KeyboardInterrupt.
    A module that runs on a host at that moment may run to its end there. `AnsibleError` where Ansible cannot be
    started or the log cannot be written.
    """
    path = command.env.get("PATH", os.environ.get("PATH", os.defpath))
    if shutil.which("ansible-playbook", path=path) is None:
        raise AnsibleError("ansible-playbook is not installed beside labtool", "pip install ansible-core")
    folder = Path(tempfile.mkdtemp(prefix="labtool-ansible-"))
    try:
        with LogWriter(log) as writer, watchdog.kept(folder):
            result = _Execution(command, folder, [writer, *observers], cancel or threading.Event(), log).run()
    except (LabtoolError, KeyboardInterrupt):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException as bug:
        _forget_environment(folder)
        bug.add_note(f"ansible-runner's folder is kept: {folder}")
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return result


class _Execution:
    """One call of ansible-runner."""

    def __init__(
        self, command: PlayCommand, folder: Path, observers: Sequence[Observer], cancel: threading.Event, log: Path
    ) -> None:
        self.command = command
        self.folder = folder
        self.observers = observers
        self.cancel = cancel
        self.log = log
        self.tally = Tally()
        self.finished = False
        self.ended = threading.Event()
        self.interrupted = threading.Event()
        self.bug: BaseException | None = None
        self.outcome: Any = None

    def run(self) -> PlayResult:
        started = time.monotonic()
        with _terminated_as_interrupt():
            try:
                threading.Thread(target=self._work, name="ansible-runner", daemon=True).start()
                # Not Thread.join: an exception in it makes Python 3.11 take a living thread for an ended one.
                while not self.ended.wait(0.2):
                    pass
            except KeyboardInterrupt:
                self.interrupted.set()
                self._wait_whatever_comes()
                raise
        if self.bug is not None:
            raise self.bug
        return self._result(time.monotonic() - started)

    def _wait_whatever_comes(self) -> None:
        """Wait until Ansible has been ended; another ^C does not leave it running."""
        deadline = time.monotonic() + _ENDING_S
        while time.monotonic() < deadline:
            try:
                if self.ended.wait(0.2):
                    return
            except KeyboardInterrupt:
                continue

    def _work(self) -> None:
        try:
            import ansible_runner

            self.outcome = ansible_runner.run(**self._arguments())
        except BaseException as error:  # raised again in the caller's thread
            self.bug = self.bug or error
        finally:
            self.ended.set()

    def _arguments(self) -> dict[str, Any]:
        command = self.command
        return {
            "private_data_dir": str(self.folder),
            "ident": "play",
            "playbook": str(_write_playbook(self.folder, command)),
            "inventory": str(_write_inventory(self.folder, command.inventory)),
            # Through a file of the private folder: a command line can be read by every user.
            "extravars": dict(command.extra_vars) or None,
            "envvars": dict(command.env),
            "cmdline": shlex.join(command.options),
            "settings": {"pexpect_timeout": _POLL_S, "suppress_output_file": True},
            "fact_cache_type": "memory",
            "quiet": True,
            "event_handler": self._on_event,
            "cancel_callback": self._to_cancel,
        }

    def _on_event(self, raw: dict[str, Any]) -> bool:
        if self.bug is None:
            try:
                event = from_runner(raw)
                self.tally.notice(event)
                self.finished = self.finished or isinstance(event, PlaybookFinished)
                for observer in self.observers:
                    observer.notice(event)
            except BaseException as error:  # Ansible is ended first, then it is raised
                self.bug = error
        return False  # no file per event

    def _to_cancel(self) -> bool:
        if not (self.cancel.is_set() or self.interrupted.is_set() or self.bug is not None):
            return False
        # Before ansible-runner kills the leader of the group: afterwards nobody knows whose the others were.
        watchdog.end(self.folder, psutil.Process().children(recursive=True))
        return True

    def _result(self, elapsed_s: float) -> PlayResult:
        rc = self.outcome.rc
        well = rc == 0 and self.finished
        status: Literal["ok", "failed", "cancelled"] = "ok" if well else "failed"
        if self.outcome.status == "canceled":
            status = "cancelled"
        last_words = self.tally.last_words
        if status == "ok" and not self.tally.hosts:
            status = "failed"
            known = ", ".join(self.command.hosts) or "none"
            last_words = f"no play of it is for any of the inventory's hosts ({known})"
        elif rc is None:
            last_words = f"{last_words}\nansible-playbook was killed; did the machine run out of memory?".strip()
        return PlayResult(
            playbook=self.command.playbook,
            status=status,
            hosts=self.tally.hosts,
            failures=self.tally.failures,
            host_tasks=self.tally.host_tasks,
            elapsed_s=elapsed_s,
            log=self.log,
            unfinished=dict(self.tally.running),
            last_words=last_words,
        )


def _write_playbook(folder: Path, command: PlayCommand) -> Path:
    """Return the playbook to run: ansible-runner takes one, so that several are imported by one of ours."""
    if not command.then:
        return command.playbook
    path = folder / "playbook.yml"
    path.write_text(json.dumps([{"ansible.builtin.import_playbook": str(each)} for each in command.playbooks]))
    return path


def _write_inventory(folder: Path, inventory: Inventory) -> Path:
    path = folder / "inventory" / "hosts.json"
    path.parent.mkdir(mode=0o700)
    path.write_text(json.dumps(inventories.tree(inventory)))
    # Ansible looks for group_vars beside the playbook and beside the inventory, and nowhere else.
    shared = content.root() / "group_vars"
    if shared.is_dir():
        (path.parent / "group_vars").symlink_to(shared)
    return path


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM too, unless the program has a handler of its own for it."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    interrupt: Callable[..., Any] = signal.default_int_handler
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _forget_environment(folder: Path) -> None:
    """Remove the files in which ansible-runner wrote the environment and the variables: secrets may be in them."""
    for path in (folder / "artifacts" / "play" / "command", folder / "env" / "envvars", folder / "env" / "extravars"):
        path.unlink(missing_ok=True)
