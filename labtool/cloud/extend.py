"""Give hosts more time: the timer on the host first, then the tag that tells of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from labtool import ssh
from labtool.cloud import parallel, request, tags
from labtool.cloud.session import Session, told_clearly
from labtool.ssh import Access
from labtool.topology import Host

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Extended:
    """What came of it: the hosts that live longer, those that do not and why."""

    done: tuple[str, ...]
    failed: dict[str, str]
    longer: tuple[str, ...]  # they end later than was asked for, and were left so


def extend(
    session: Session,
    hosts: Sequence[Host],
    expires: datetime,
    set_timer: Callable[[Host, datetime], str],
) -> Extended:
    """Let `hosts` live until `expires`.

    `set_timer` sets the timer of one host and returns why it could not, else ''. A host whose timer could not be set
    keeps its tag: it will end when the tag says.
    """
    longer = [host for host in hosts if host.expires is not None and host.expires >= expires]
    todo = [host for host in hosts if host not in longer]
    answers = parallel.each(lambda host: set_timer(host, expires) if host.running else host.state, todo, 32)
    failed = {host.name: why for host, why in zip(todo, answers, strict=True) if why}
    ids = [host.instance_id for host in todo if host.name not in failed]
    for first in range(0, len(ids), 500):
        with told_clearly("writing the new end into the tags"):
            session.ec2.create_tags(
                Resources=ids[first : first + 500], Tags=tags.to_list({tags.EXPIRES: tags.time_text(expires)})
            )
    done = tuple(host.name for host in todo if host.name not in failed)
    return Extended(done, failed, tuple(host.name for host in longer))


def over_ssh(access: Access) -> Callable[[Host, datetime], str]:
    """Return what sets the timer of a host by SSH, and reads back that it is set."""

    def set_timer(host: Host, expires: datetime) -> str:
        line = ssh.command(access, host, f"{'' if host.login == 'root' else 'sudo -n '}sh -s")
        try:
            done = subprocess.run(
                line,
                input=script(expires),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {TIMEOUT_S:.0f} s"
        if done.returncode != 0:
            said = [each.strip() for each in done.stderr.splitlines() if each.strip()]
            return said[-1] if said else f"the timer could not be set (exit code {done.returncode})"
        return ""

    return set_timer


def script(expires: datetime) -> str:
    """Return the shell lines that set a host's timer; they fail if it does not wait for that time afterwards."""
    return f"""set -e
{request.set_timer(expires)}systemctl restart labtool-expiry.timer
systemctl is-active --quiet labtool-expiry.timer
next=$(systemctl show -p NextElapseUSecRealtime --value labtool-expiry.timer)
[ "$(date -u -d "$next" +%s)" = {int(expires.timestamp())} ] || {{ echo "the timer waits for $next" >&2; exit 1; }}
"""
