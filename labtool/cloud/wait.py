"""Wait until hosts run and their SSH answers, telling at every moment who is missing."""

from __future__ import annotations

import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from labtool import ssh
from labtool.cloud import find, keys, tags
from labtool.cloud.session import Session
from labtool.errors import CloudError
from labtool.progress import Progress
from labtool.topology import Host, Lab


def until_ready(session: Session, name: str, names: set[str], progress: Progress, *, deadline_s: float = 600) -> Lab:
    """Return the lab when the hosts `names` of it run, their host keys are known and their sshd greets.

    CloudError names the hosts that did not come up and what they were last seen doing, at once where one has ended.
    """
    until = time.monotonic() + deadline_s
    ready: set[str] = set()
    jump = session.target.proxy_jump
    pause = 0.1
    while True:
        lab = find.find_lab(session, name)
        awaited = [host for host in lab if host.name in names and host.name not in ready]
        ended = names - {host.name for host in lab}
        if ended:
            raise CloudError(f"ended while it started: {_last_seen(session, name, ended)}", "run the command again")
        running = [host for host in awaited if host.running]
        for host in awaited:
            if not host.running:
                progress.host(host.name, host.state)
        if running:
            with ThreadPoolExecutor(min(32, len(running))) as pool:
                told = pool.map(partial(greets_by, jump) if jump else greets, running)
                greeted = dict(zip((h.name for h in running), told, strict=True))
            # The console is asked only of hosts that greet: EC2 limits how often.
            keyless = {host.name for host in keys.learn(session, name, [h for h in running if greeted[h.name]])}
            for host in running:
                if not greeted[host.name]:
                    progress.host(host.name, "running", "waiting for SSH")
                elif host.name in keyless:
                    progress.host(host.name, "ssh", "waiting for its host key on the console")
                else:
                    progress.host(host.name, "ready", host.address)
                    ready.add(host.name)
        waiting = [host for host in awaited if host.name not in ready]
        if not waiting:
            return lab
        if time.monotonic() > until:
            still = ", ".join(f"{host.name} ({host.state})" for host in waiting)
            raise CloudError(
                f"not ready after {deadline_s:.0f} s: {still}",
                "run the command again to go on waiting, or `labtool down` to end them",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 2.0 if any(not h.running for h in waiting) else 0.3)


def _last_seen(session: Session, lab: str, names: set[str]) -> str:
    """Say of hosts that are gone in which state they are and why."""
    told = {}
    for instance in find.describe(session, [{"Name": f"tag:{tags.LAB}", "Values": [lab]}]):
        host = tags.host_of(instance)
        if host.name in names:
            reason = instance.get("StateReason", {}).get("Message", "")
            told[host.name] = f"{host.name} ({host.state}{': ' + reason if reason else ''})"
    return ", ".join(told.get(name, f"{name} (unknown to the API)") for name in sorted(names))


def greets(host: Host, timeout_s: float = 2.0) -> bool:
    """Tell whether an SSH server greets at the host's address (RFC 4253, section 4.2)."""
    try:
        with socket.create_connection((host.address, 22), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def greets_by(jump: str, host: Host, timeout_s: float = 15.0) -> bool:
    """Tell the same through the jump host; `CloudError` where the jump host itself does not let us in."""
    with subprocess.Popen(
        ssh.forward(jump, host), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            greeting, said = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            greeting, said = process.communicate()
    if greeting.startswith(b"SSH-"):
        return True
    told = said.decode(errors="replace").strip().splitlines()
    if told and not any(b in said for b in (b"open failed", b"forwarding failed")):
        raise CloudError(f"the jump host {jump} does not let us in: {told[-1]}", f"try `ssh {jump}` first")
    return False
