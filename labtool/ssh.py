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
    proxy_jump: str | None = None
    connect_timeout_s: int = 10


SSM_DOCUMENT = "AWS-StartSSHSession"


def proxy_command(host: Host) -> list[str]:
    """Return the command whose input and output are a connection to the host's sshd; none where TCP reaches it.

    https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-getting-started-enable-ssh-connections.html
    """
    if host.reach != "ssm":
        return []
    region = re.match(r"[a-z]+(?:-[a-z]+)+-[0-9]+", host.zone)
    return [
        *("aws", "ssm", "start-session", "--target", host.instance_id, *(("--region", region[0]) if region else ())),
        *("--document-name", SSM_DOCUMENT, "--parameters", "portNumber=22"),
    ]


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
    if host is not None and (through := proxy_command(host)):
        chosen["ProxyCommand"] = shlex.join(through)
    elif access.proxy_jump:
        chosen["ProxyJump"] = access.proxy_jump
    if shared:
        chosen |= {
            "ControlMaster": "auto",
            "ControlPersist": "60",
            "ControlPath": str(access.control / "%h"),
        }
    return [part for key, value in chosen.items() for part in ("-o", f"{key}={value}")]


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
