"""A systemd unit, seen and moved from inside the host."""

from __future__ import annotations

import calendar
import os
import subprocess
import time


class UnitError(Exception):
    """The unit did not do what was asked; the text ends with the last lines of its journal."""


def run(*command: str) -> subprocess.CompletedProcess:
    """Run a command and return what it said."""
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


class Unit:
    """One systemd service."""

    def __init__(self, name: str) -> None:
        self.name = name

    def show(self) -> dict[str, str]:
        """Return the unit's properties that matter here."""
        wanted = (
            "ActiveState,SubState,Result,MainPID,NRestarts,NeedDaemonReload,UnitFileState,LoadState,"
            "ExecMainStartTimestamp,ExecMainCode,ExecMainStatus"
        )
        lines = run("systemctl", "show", self.name, "-p", wanted, "--timestamp=us+utc").stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def journal(self, lines: int = 25) -> str:
        """Return the last lines that it wrote, and those of systemd about it."""
        run("journalctl", "--sync")
        return run("journalctl", "-u", self.name, "-n", str(lines), "--no-pager", "-o", "cat").stdout.strip()

    def explain(self, what: str) -> UnitError:
        """Return an error that ends with the journal."""
        return UnitError(f"{what} ({self.name}: {self.told()}). Its last lines:\n{self.journal() or 'none'}")

    def told(self) -> str:
        """Return the unit's state in words."""
        state = self.show()
        words = [state.get("ActiveState", "unknown"), state.get("Result", "")]
        if state.get("ExecMainCode") == "1":  # CLD_EXITED
            words.append(f"exit code {state.get('ExecMainStatus')}")
        if state.get("NRestarts", "0") != "0":
            words.append(f"restarted {state['NRestarts']} times")
        return ", ".join(word for word in words if word)

    def do(self, verb: str) -> None:
        """Start, stop, restart, enable or disable it."""
        done = run("systemctl", verb, self.name)
        if done.returncode != 0:
            raise self.explain(f"{verb} failed")


def instant(text: str) -> float:
    """Return seconds since 1970 of systemd's `Sat 2026-01-03 10:00:00.123456 UTC`; 0 where it has none."""
    words = text.split()
    if len(words) != 4:
        return 0.0
    clock, _, fraction = words[2].partition(".")
    return calendar.timegm(time.strptime(f"{words[1]} {clock}", "%Y-%m-%d %H:%M:%S")) + float(f"0.{fraction or 0}")
