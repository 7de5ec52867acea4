"""Commands and copies on many hosts at once."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from labtool import ssh
from labtool.errors import LabtoolError
from labtool.ssh import Access
from labtool.topology import Host


@dataclass(frozen=True)
class Result:
    """What a command did on one host; `code` is 255 when SSH itself failed, 124 after the deadline."""

    host: str
    code: int
    output: str


def run_everywhere(access: Access, hosts: Sequence[Host], line: str, timeout_s: float) -> list[Result]:
    """Run a shell line on every host and return the results in the hosts' order."""

    def run(host: Host) -> Result:
        try:
            done = subprocess.run(
                ssh.command(access, host, line),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return Result(host.name, 124, (error.stdout or b"").decode(errors="replace"))
        return Result(host.name, done.returncode, done.stdout.decode(errors="replace"))

    with ThreadPoolExecutor(min(64, len(hosts))) as pool:
        return list(pool.map(run, hosts))


def copy(access: Access, hosts: Sequence[Host], *, local: str, remote: str, download: bool) -> None:
    """Copy `local` to every host, or `remote` from each (into LOCAL/<host>/ when there are several)."""
    if not download and not Path(local).exists():
        raise LabtoolError(f"{local} does not exist")

    def one(host: Host) -> str:
        there = f"{host.login}@{host.address}:{remote}"
        here = local
        if download and len(hosts) > 1:
            here = str(Path(local) / host.name)
            Path(here).mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["scp", "-q", "-r", *ssh.options(access, host=host), *([there, here] if download else [here, there])],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        return f"{host.name}: {done.stderr.decode(errors='replace').strip()}" if done.returncode else ""

    with ThreadPoolExecutor(min(16, len(hosts))) as pool:
        failed = [message for message in pool.map(one, hosts) if message]
    if failed:
        raise LabtoolError("not copied: " + "; ".join(failed))
