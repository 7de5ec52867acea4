"""Wait until hosts run and their SSH answers, telling at every moment who is missing."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import replace

from labtool import ssh
from labtool.cloud import clock, find, keys, parallel, tags
from labtool.cloud.session import Session
from labtool.errors import CloudError
from labtool.progress import Progress
from labtool.ssh import Access
from labtool.topology import Host, Lab

STRAGGLERS_S = 30.0
"""Once enough hosts are ready, the others get this long, or as long again as those took."""

LOOK_S, GREET_S = 2.0, 0.3
"""How often the API is asked for states, and the hosts themselves for a greeting."""

STRAIGHT_S, THROUGH_S = 2.0, 15.0
"""How long a greeting may take, and how long through a jump host or Session Manager."""

NOT_UP = ("open failed", "forwarding failed")
"""What ssh says of a host that the jump host cannot connect to yet."""


def until_ready(
    session: Session,
    name: str,
    names: set[str],
    progress: Progress,
    *,
    deadline_s: float = 600,
    at_least: int | None = None,
) -> Lab:
    """Return the lab when the hosts `names` of it run, their host keys are known and their sshd greets.

    CloudError names the hosts that did not come up and what they were last seen doing, at once where one has ended.
    With `at_least`, that many are enough: the others are left out of the lab that is returned.
    """
    began = clock.monotonic()
    until = began + deadline_s
    enough = len(names) if at_least is None else min(at_least, len(names))
    ready: set[str] = set()
    lost: set[str] = set()
    ran: set[str] = set()
    lab = find.find_lab(session, name)
    pause, looked_until = 0.1, 0.0
    consoles: dict[str, tuple[float, float]] = {}  # when each host's console may be read again, and the pause after
    while True:
        shown = {host.name for host in lab}
        lost |= _ended(session, name, names - shown - lost, progress)
        if len(names - lost) < enough:
            raise CloudError(f"ended while it started: {_last_seen(session, name, lost)}", "run the command again")
        awaited = [host for host in lab if host.name in names - ready]
        ran |= {host.name for host in awaited if host.running}
        for host in awaited:
            # An answer may be older than the one before: a host that ran is not pending again.
            if not host.running and not (host.state == "pending" and host.name in ran):
                progress.host(host.name, host.state)
        ready |= _greeted(session, name, [host for host in awaited if host.running], consoles, progress)
        waiting = names - ready - lost
        # For the same reason the lab that is returned is one that shows them all.
        if names - lost <= ready & {host.name for host in lab.running}:
            return _without(lab, lost, progress)
        now = clock.monotonic()
        if at_least is not None and len(ready - lost) >= enough:
            until = min(until, now + max(STRAGGLERS_S, now - began))
            if now >= until:
                return _without(lab, waiting | lost, progress)
        if now >= until:
            states = {host.name: host.state for host in lab}
            still = ", ".join(f"{each} ({states.get(each, 'not shown')})" for each in sorted(waiting))
            raise CloudError(
                f"not ready after {deadline_s:.0f} s: {still}",
                "run the command again to go on waiting, or `labtool down` to end them",
            )
        running = {host.name for host in awaited if host.running}
        if waiting and waiting <= running and clock.monotonic() < looked_until:
            clock.sleep(GREET_S)
            continue
        clock.sleep(pause)
        asked = clock.monotonic()
        lab = find.find_lab(session, name)
        # A look at a thousand hosts takes seconds: it is not to be all that this machine does.
        pause = max(min(pause * 1.5, LOOK_S), 2 * (clock.monotonic() - asked))
        looked_until = clock.monotonic() + max(LOOK_S, pause)


def _greeted(
    session: Session, lab: str, running: list[Host], consoles: dict[str, tuple[float, float]], progress: Progress
) -> set[str]:
    """Return which of the running hosts greet and have shown their keys."""
    if not running:
        return set()
    access = keys.access(session, lab)
    answers = parallel.each(lambda host: greets(host, access), running, 32)
    greeting = [host for host, answered in zip(running, answers, strict=True) if answered]
    # The console is asked only of hosts that greet, and not all the time: EC2 limits how often.
    now = clock.monotonic()
    to_ask = [host for host in greeting if now >= consoles.get(host.name, (now, 0.0))[0]]
    for host in to_ask:
        _, pause = consoles.get(host.name, (now, LOOK_S))
        consoles[host.name] = (now + pause, min(2 * pause, 15.0))
    keyless = {host.name for host in keys.learn(session, lab, to_ask)}
    keyless |= {host.name for host in greeting} - {host.name for host in to_ask}
    for host in running:
        if host not in greeting:
            progress.host(host.name, "running", "waiting for SSH")
        elif host.name in keyless:
            progress.host(host.name, "ssh", "waiting for its host key on the console")
        else:
            progress.host(host.name, "ready", host.address)
    return {host.name for host in greeting} - keyless


def _without(lab: Lab, left_out: set[str], progress: Progress) -> Lab:
    if left_out:
        progress.line(f"going on without {', '.join(sorted(left_out))}: they stay in the lab, and cost what they cost")
    return replace(lab, hosts=tuple(host for host in lab.hosts if host.name not in left_out))


def _ended(session: Session, lab: str, missing: set[str], progress: Progress) -> set[str]:
    """Return which of the hosts that are not shown have ended; the others are only not shown yet."""
    if not missing:
        return set()
    ended: set[str] = set()
    alive: set[str] = set()
    for instance in find.describe(session, [{"Name": f"tag:{tags.LAB}", "Values": [lab]}]):
        host = tags.host_of(instance)
        (alive if host.state in find.ALIVE else ended).add(host.name)
    for name in missing & ended - alive:
        progress.host(name, "lost", "ended while it started")
    return missing & ended - alive


def _last_seen(session: Session, lab: str, names: set[str]) -> str:
    """Say of hosts that are gone in which state they are and why."""
    told = {}
    for instance in find.describe(session, [{"Name": f"tag:{tags.LAB}", "Values": [lab]}]):
        host = tags.host_of(instance)
        if host.name in names:
            reason = instance.get("StateReason", {}).get("Message", "")
            told[host.name] = f"{host.name} ({host.state}{': ' + reason if reason else ''})"
    return ", ".join(told.get(name, f"{name} (unknown to the API)") for name in sorted(names))


def greets(host: Host, access: Access, timeout_s: float | None = None) -> bool:
    """Tell whether an SSH server greets on the way that SSH takes to the host (RFC 4253, section 4.2).

    `CloudError` where that way itself is closed, for waiting would not open it.
    """
    if not host.address:
        return False
    through = ssh.through(access, host)
    if through:
        greeting, said = _greeting(through, THROUGH_S if timeout_s is None else timeout_s)
        jump = ssh.jump(access, host)
        if jump and not greeting and said and not any(each in said for each in NOT_UP):
            raise CloudError(
                f"the jump host {jump} does not let us in: {said.splitlines()[-1]}", f"try `ssh {jump}` first"
            )
        return greeting
    try:
        with socket.create_connection((host.address, 22), timeout=timeout_s or STRAIGHT_S) as connection:
            connection.settimeout(timeout_s or STRAIGHT_S)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _greeting(command: list[str], timeout_s: float) -> tuple[bool, str]:
    """Tell whether an SSH server greets through a command, and what the command said of errors."""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        except FileNotFoundError:
            raise CloudError(
                f"the way to the hosts is through `{command[0]}`, which is not on this machine",
                "`labtool doctor`" if command[0] == "ssh" else "AWS's command line, with its session-manager-plugin",
            ) from None
        with process, selectors.DefaultSelector() as answers:
            assert process.stdout is not None
            # Not read until it closes: a child of the command may hold it open after the command was ended.
            answers.register(process.stdout, selectors.EVENT_READ)
            until, greeting = time.monotonic() + timeout_s, b""
            while len(greeting) < 4 and answers.select(max(0.0, until - time.monotonic())):
                part = os.read(process.stdout.fileno(), 4 - len(greeting))
                if not part:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(1.0)  # it ends, and says why
                    break
                greeting += part
            process.kill()
        errors.seek(0)
        return greeting == b"SSH-", errors.read().decode(errors="replace").strip()
