"""A systemd unit, seen and moved from inside the host."""

from __future__ import annotations

import subprocess
from pathlib import Path


class UnitError(Exception):
    """The unit did not do what was asked; the text ends with the last lines of its journal."""


def run(*command: str) -> subprocess.CompletedProcess:
    """Run a command and return what it said."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Unit:
    """One systemd service."""

    def __init__(self, name: str) -> None:
        self.name = name

    def show(self) -> dict[str, str]:
        """Return the unit's properties that matter here."""
        wanted = "ActiveState,SubState,Result,MainPID,NeedDaemonReload,UnitFileState,LoadState"
        lines = run("systemctl", "show", self.name, "-p", wanted).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    @property
    def active(self) -> bool:
        """True while it runs."""
        return self.show().get("ActiveState") in ("active", "activating", "reloading")

    def would_start_with(self, key: str) -> str:
        """Return a variable of the environment that systemd would start it with now; '' where there is none."""
        words = run("systemctl", "show", self.name, "-p", "Environment", "--value").stdout.split()
        return next((word.partition("=")[2] for word in words if word.startswith(key + "=")), "")

    def started_with(self, key: str) -> str:
        """Return a variable of the environment the running process was started with; '' where there is none."""
        pid = self.show().get("MainPID", "0")
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return ""
        pairs = (part.partition(b"=") for part in environ.split(b"\0"))
        return next((value.decode() for name, _, value in pairs if name == key.encode()), "")

    def journal(self, lines: int = 25) -> str:
        """Return the last lines of its journal."""
        return run("journalctl", "-u", self.name, "-n", str(lines), "--no-pager", "-o", "cat").stdout.strip()

    def explain(self, what: str) -> UnitError:
        """Return an error that ends with the journal."""
        state = self.show()
        return UnitError(
            f"{what} ({self.name}: {state.get('ActiveState')}, {state.get('Result')}). Its last lines:\n"
            f"{self.journal() or 'none'}"
        )

    def do(self, verb: str) -> None:
        """Start, stop or restart it."""
        if self.show().get("NeedDaemonReload") == "yes":
            run("systemctl", "daemon-reload")
        done = run("systemctl", verb, self.name)
        if done.returncode != 0:
            raise self.explain(f"{verb} failed: {done.stderr.strip()}")

    def must_run(self) -> None:
        """Raise as soon as it has died."""
        if not self.active:
            raise self.explain("it stopped")
