"""Each host's own /proc: lxcfs shows it the processors, memory, load and uptime that it was given.

One lxcfs a local cloud, in a session of its own: hosts keep their /proc when the API process dies. When lxcfs
itself dies, reads in the hosts fail with ENOTCONN; a new one is mounted at the same place, appears in the hosts
through a shared mount, and is bound over the dead files there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from labtool.errors import LocalCloudError

PROC_FILES = ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg")
SYS_FILES = ("devices/system/cpu",)
IN_HOST = Path("/var/lib/lxcfs")


def available() -> bool:
    """True if the machine has lxcfs and FUSE."""
    return shutil.which("lxcfs") is not None and Path("/dev/fuse").exists()


class Lxcfs:
    """The lxcfs of one local cloud; `parent` is the folder handed to hosts, the mount is below it."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.mount = parent / "fs"
        self.pid_file = parent.with_name("lxcfs.pid")

    def start(self) -> int:
        """Return the id of a running lxcfs; one that still runs is taken over, a dead one replaced."""
        running = self.running()
        if running is not None:
            return running
        self.parent.mkdir(parents=True, exist_ok=True)
        _unmount(self.mount)
        if not mounted(self.parent):
            _run("mount", "--bind", str(self.parent), str(self.parent))
        _run("mount", "--make-shared", str(self.parent))
        self.mount.mkdir(exist_ok=True)
        with self.parent.with_name("lxcfs.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    "lxcfs",
                    "--foreground",
                    "--enable-loadavg",
                    "--enable-cfs",
                    f"--pidfile={self.pid_file}",
                    str(self.mount),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LocalCloudError(
                    f"lxcfs ended with {process.returncode} as it started",
                    f"see {self.parent.with_name('lxcfs.log')}; reinstall it: sudo apt-get install --reinstall lxcfs",
                )
            if (self.mount / "proc" / "stat").exists():
                self.pid_file.write_text(f"{process.pid}\n")
                return process.pid
            time.sleep(0.02)
        process.kill()
        raise LocalCloudError("lxcfs did not mount within 10 s", "is FUSE allowed here? try: sudo modprobe fuse")

    def running(self) -> int | None:
        """Return the process id if this cloud's lxcfs runs and answers."""
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            alive = str(self.mount).encode() in command and (self.mount / "proc" / "stat").exists()
        except (OSError, ValueError):
            return None
        return pid if alive else None

    def rebind(self, pids: Iterable[int]) -> None:
        """Put the new lxcfs's files over the dead ones in the mount namespaces of `pids`."""
        wanted = [str(pid) for pid in pids]
        if wanted:
            # A process of its own: a thread may not enter a mount namespace that others do not.
            subprocess.run([sys.executable, "-m", "labtool.localcloud.rebind", *wanted], check=False)

    def stop(self) -> None:
        """End lxcfs and remove its mounts."""
        pid = self.running()
        _unmount(self.mount)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            _wait_gone(pid, 5.0)
        _unmount(self.parent)
        self.pid_file.unlink(missing_ok=True)


def mounted(path: Path) -> bool:
    """True if something is mounted at `path`; a bind mount of the same file system too, and a dead one."""
    wanted = str(path)
    return any(line.split()[4] == wanted for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _unmount(path: Path) -> None:
    # Lazily: hosts may still hold files of a dead mount open. Asking a dead mount anything raises ENOTCONN.
    while mounted(path):
        _run("umount", "--lazy", str(path))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalCloudError(f"`{' '.join(command)}` failed: {done.stderr.strip()}", "run `labtool doctor`")


def _wait_gone(pid: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
