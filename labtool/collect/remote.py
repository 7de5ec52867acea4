"""Programs that collecting runs on a host, and how what they said becomes a reason."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from labtool.topology import Host

COLLECT = "/usr/local/bin/labtool-collect"
"""Installed by roles/collector."""

DEPLOY = "ansible-playbook playbooks/collector.yml puts it there"


def privileged(host: Host, words: Sequence[str]) -> str:
    """Return the shell line that runs `words` as root: journals and logs are readable by root alone."""
    prefix = () if host.login == "root" else ("sudo", "-n")
    return shlex.join((*prefix, *words))


def python(program: str) -> str:
    """Return the shell line that runs a small Python program, started as cheaply as Python can be (-I -S)."""
    return shlex.join(("python3", "-I", "-S", "-c", program))


def reason(returncode: int, said: str) -> str:
    """Say in one line why a remote program failed, from its exit status and what it wrote to stderr."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if "labtool-collect" in last and ("not found" in last or "No such file" in last):
        return f"the collector is not installed there: {DEPLOY}"
    if returncode == 255:
        return f"SSH failed: {last or 'the connection was lost'}"
    if returncode < 0:
        return f"ended by signal {-returncode}"
    return last or f"ended with status {returncode}"
