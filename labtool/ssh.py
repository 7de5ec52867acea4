"""How every part of labtool reaches a host: one set of SSH options, host keys always checked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labtool.topology import Host


@dataclass(frozen=True)
class Access:
    """The lab's key and the host keys known from the instances themselves."""

    key: Path
    known_hosts: Path
    control: Path  # folder of the shared connections' sockets; its path must stay short
    proxy_jump: str | None = None  # as ssh's -J takes it; its own keys and host keys are the user's
    connect_timeout_s: int = 10


SSM_DOCUMENT = "AWS-StartSSHSession"


def options(access: Access, *, shared: bool = True, host: Host | None = None) -> list[str]:
    """Return ssh's options (also scp's and Ansible's) for `host`; `shared` keeps one connection per host open."""
    chosen = {
        "IdentityFile": str(access.key),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(access.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "PasswordAuthentication": "no",
        "BatchMode": "yes",
        "ConnectTimeout": str(access.connect_timeout_s),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "6",
        "LogLevel": "ERROR",
    }
    if host is not None and (carried := proxy_command(host)):
        chosen["ProxyCommand"] = shlex.join(carried)
    elif access.proxy_jump:
        chosen["ProxyJump"] = access.proxy_jump
    if shared:
        chosen |= {
            "ControlMaster": "auto",
            "ControlPersist": "60",
            "ControlPath": str(access.control / "%h"),
        }
    return [part for key, value in chosen.items() for part in ("-o", f"{key}={value}")]


_ENDING = """\
exec 3<&0
setsid "${SHELL:-/bin/sh}" -c LINE </dev/null 3<&- & job=$!
end() { sudo -n kill -s "$1" -- "-$job" || kill -s "$1" -- "-$job"; }
{
  cat <&3; trap '' TERM; end TERM
  for second in 1 2 3 4 5; do end 0 || exit; sleep 1; done
  end KILL
} >/dev/null 2>&1 & watch=$!
exec 3<&-
{ wait "$job"; } 2>/dev/null; code=$?
kill "$watch" 2>/dev/null
exit "$code"
"""


def ending_with_connection(line: str) -> str:
    """Return the shell line that runs `line`, and ends it with all it started when ssh's input is closed.

    sshd leaves a command that has no terminal running when its connection goes. Here a second process reads the
    connection: at its end the command's process group gets SIGTERM and, 5 seconds later, SIGKILL (as root, where the
    login user may: `line` may have used sudo). `line` itself has no input; ssh must be given one that stays open.
    """
    return shlex.join(("sh", "-c", _ENDING.replace("LINE", shlex.quote(line))))


def command(
    access: Access, host: Host, remote: Sequence[str] | str = (), *, shared: bool = True, tty: bool = False
) -> list[str]:
    """Return the ssh command line that runs `remote` on `host`.

    A string is given to the host's shell as it is; a sequence is quoted word by word.
    """
    line = remote if isinstance(remote, str) else shlex.join(remote)
    return [
        "ssh",
        *options(access, shared=shared, host=host),
        *(["-t"] if tty else []),
        "-l",
        host.login,
        host.address,
        *(["--", line] if line else []),
    ]


def forward(jump: str, host: Host, *, connect_timeout_s: int = 10) -> list[str]:
    """Return the ssh command line that connects its input and output with the SSH port of `host`, seen from `jump`.

    What ssh says of `jump` holds: the user's own settings, keys and known host keys.
    """
    *first, last = jump.split(",")
    return [
        "ssh",
        *("-o", "BatchMode=yes", "-o", f"ConnectTimeout={connect_timeout_s}"),
        *(("-J", ",".join(first)) if first else ()),
        *("-W", f"{host.address}:22"),
        *("--", last if last.startswith("ssh://") else f"ssh://{last}"),
    ]


def proxy_command(host: Host) -> list[str]:
    """Return the command by which Session Manager carries a connection to the host's sshd; none where it does not.

    https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-getting-started-enable-ssh-connections.html
    """
    if host.reach != "ssm":
        return []
    region = re.match(r"[a-z]+(?:-[a-z]+)+-[0-9]+", host.zone)
    return [
        *("aws", "ssm", "start-session", "--target", host.instance_id, *(("--region", region[0]) if region else ())),
        *("--document-name", SSM_DOCUMENT, "--parameters", "portNumber=22"),
    ]


def jump(access: Access, host: Host) -> str | None:
    """Return the jump host on the way to `host`, None where there is none: Session Manager needs none."""
    return None if host.reach == "ssm" else access.proxy_jump


def through(access: Access, host: Host) -> list[str]:
    """Return the command whose input and output are a connection to the host's sshd; none where TCP reaches it."""
    by = jump(access, host)
    return forward(by, host) if by else proxy_command(host)
