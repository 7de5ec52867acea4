"""Wait until hosts run and their SSH answers, telling at every moment who is missing."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

from labtool.cloud import find, keys
from labtool.cloud.session import Session
from labtool.errors import CloudError
from labtool.progress import Progress
from labtool.topology import Host, Lab


def until_ready(session: Session, name: str, progress: Progress, *, deadline_s: float = 600) -> Lab:
    """Return the lab when every host of it runs, its host key is known and its sshd greets.

    Raises CloudError that names the hosts that did not come up, and what they were last seen doing.
    """
    until = time.monotonic() + deadline_s
    ready: set[str] = set()
    pause = 0.1
    while True:
        lab = find.find_lab(session, name)
        running = [host for host in lab if host.running and host.name not in ready]
        for host in lab:
            if not host.running:
                progress.host(host.name, host.state)
        if running:
            with ThreadPoolExecutor(min(32, len(running))) as pool:
                greeted = dict(zip((h.name for h in running), pool.map(greets, running), strict=True))
            keyless = {host.name for host in keys.learn(session, name, list(lab))}
            for host in running:
                if not greeted[host.name]:
                    progress.host(host.name, "running", "waiting for SSH")
                elif host.name in keyless:
                    progress.host(host.name, "ssh", "waiting for its host key on the console")
                else:
                    progress.host(host.name, "ready", host.address)
                    ready.add(host.name)
        waiting = [host for host in lab if host.name not in ready]
        if not waiting:
            return lab
        if time.monotonic() > until:
            names = ", ".join(f"{host.name} ({host.state})" for host in waiting)
            raise CloudError(
                f"not ready after {deadline_s:.0f} s: {names}",
                "run the command again to go on waiting, or `labtool down` to end them",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 2.0 if any(not h.running for h in waiting) else 0.3)


def greets(host: Host, timeout_s: float = 2.0) -> bool:
    """Tell whether an SSH server greets at the host's address (RFC 4253, section 4.2)."""
    try:
        with socket.create_connection((host.address, 22), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
