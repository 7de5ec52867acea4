"""What every driver on a load host does: run its clients in a systemd unit with an end, and pack their output.

    <driver> run PLAN.json      run the clients in their unit, and wait for them
    <driver> clients PLAN.json  what that unit runs
    <driver> pack PLAN.json     stop what still runs, and pack the output folder into <folder>.tar.gz

Needs only Python's own library: it is copied to the load hosts.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Plan = dict[str, Any]


@dataclass(frozen=True)
class Driver:
    """A driver: its unit, and what it does with a plan."""

    unit: str  # labtool-…-load.service: labtool ends units of such names when it ends
    file: Path
    clients: Callable[[Plan], int]  # runs the clients until they end or SIGTERM comes; 0 where none failed
    limit_s: Callable[[Plan], float]  # when systemd ends the unit, whatever happens

    def main(self, arguments: list[str]) -> int:
        """Parse and dispatch."""
        if len(arguments) != 2 or arguments[0] not in ("run", "clients", "pack"):
            print(f"usage: {self.file.name} run|clients|pack PLAN.json", file=sys.stderr)
            return 2
        path = Path(arguments[1]).resolve()
        plan = json.loads(path.read_text())
        if arguments[0] == "clients":
            output = Path(plan["output"])
            shutil.rmtree(output, ignore_errors=True)  # of a load before this one
            output.mkdir(parents=True)
            return self.clients(plan)
        return self._run(path, plan) if arguments[0] == "run" else self._pack(plan)

    def _run(self, path: Path, plan: Plan) -> int:
        """Run the clients in their unit, and wait for its end."""
        self._stop()
        command = self._command(path, plan, "--wait", "--pipe")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr.strip() or f"the load's unit ended with {done.returncode}", file=sys.stderr)
        return 1 if done.returncode else 0

    def start(self, path: Path, plan: Plan) -> str:
        """Start the clients in their unit and leave them alone; return why they could not be started, or ''."""
        self._stop()
        shutil.rmtree(plan["output"], ignore_errors=True)  # whoever looks at it must not see an earlier load's
        done = subprocess.run(self._command(path, plan), capture_output=True, text=True, check=False)
        return "" if not done.returncode else done.stderr.strip() or f"systemd-run ended with {done.returncode}"

    def _command(self, path: Path, plan: Plan, *how: str) -> list[str]:
        """Return what runs the clients in a unit with an end, so that they stop even if nobody waits any more."""
        command = ["systemd-run", "--quiet", "--collect", *how, f"--unit={self.unit}"]
        command += [f"--property=RuntimeMaxSec={self.limit_s(plan):.0f}", "--property=LimitNOFILE=1048576"]
        # The driver ends its clients and must be the last to go: with version 1 of cgroups systemd is not told when a
        # container's unit is empty, and would wait for it until the timeout.
        command += ["--property=KillMode=mixed", "--property=TimeoutStopSec=20"]
        return [*command, sys.executable, str(self.file.resolve()), "clients", str(path)]

    def _pack(self, plan: Plan) -> int:
        """Stop what still runs and pack what there is."""
        self._stop()
        output = Path(plan["output"])
        archive = Path(f"{output}.tar.gz")
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for path in sorted(output.glob("*")):
                tar.add(path, path.name)
        print(archive)
        return 0

    def _stop(self) -> None:
        subprocess.run(["systemctl", "stop", self.unit], capture_output=True, check=False)


def in_processes(client: Callable[[Plan, int], None], plan: Plan) -> int:
    """Run `client` for each of the plan's clients, a process each; SIGTERM ends them. 0 where none failed."""
    fork = multiprocessing.get_context("fork")
    clients = [fork.Process(target=client, args=(plan, index)) for index in range(plan["clients"])]

    def stop(*_: object) -> None:
        for one in clients:
            if one.is_alive():
                one.terminate()

    for one in clients:
        one.start()
    signal.signal(signal.SIGTERM, stop)
    for one in clients:
        one.join()
    return 1 if any(one.exitcode for one in clients) else 0


def note(file: Path, known: Plan) -> None:
    """Write what is known of a client, whole or not at all."""
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(known, indent=2) + "\n")
    temporary.replace(file)
