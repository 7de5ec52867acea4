"""What `up` will do, as a value: computed from what exists and what is asked, printed by --dry-run."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labtool.cloud import tags
from labtool.cloud.images import Image
from labtool.topology import GroupSpec, Host, Lab, VarSpec, missing_indexes

ROOT_GIB = 20


@dataclass(frozen=True)
class Launch:
    """One RunInstances call."""

    group: str
    indexes: tuple[int, ...]
    instance_type: str
    token: str

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts it makes."""
        return tuple(f"{self.group}-{index}" for index in self.indexes)


@dataclass(frozen=True)
class Plan:
    """What is to be done so that the lab has the hosts asked for."""

    lab: str
    launches: tuple[Launch, ...]
    start: tuple[Host, ...]  # stopped hosts of the groups
    specs: tuple[GroupSpec, ...]

    @property
    def empty(self) -> bool:
        """True when the lab already has what is asked."""
        return not self.launches and not self.start


def make(lab: Lab, specs: Sequence[GroupSpec], generation: str | None = None) -> Plan:
    """Compare what exists with what is asked. A group that already has more hosts keeps them."""
    generation = generation or secrets.token_hex(8)
    groups = lab.groups
    launches = []
    for spec in specs:
        existing = groups.get(spec.name, ())
        indexes = missing_indexes((host.index for host in existing), spec.count)
        if indexes:
            token = client_token(lab.name, spec.name, generation)
            launches.append(Launch(spec.name, tuple(indexes), spec.instance_type, token))
    wanted = {spec.name for spec in specs}
    stopped = tuple(h for h in lab if h.group in wanted and h.state in ("stopped", "stopping"))
    return Plan(lab.name, tuple(launches), stopped, tuple(specs))


def client_token(lab: str, group: str, generation: str) -> str:
    """Return the token that makes a repeated RunInstances harmless: at most 64 characters, as EC2 asks."""
    return hashlib.sha256(f"{lab}/{group}/{generation}".encode()).hexdigest()


def run_instances(
    launch: Launch,
    lab: str,
    *,
    image: Image,
    key_name: str,
    security_group: str,
    expires: datetime,
    owner: str,
    user_data: str,
) -> dict[str, Any]:
    """Return the parameters of the RunInstances call."""
    common = {
        tags.LAB: lab,
        tags.GROUP: launch.group,
        tags.INDEXES: tags.index_text(launch.indexes),
        tags.LOGIN: image.login,
        tags.EXPIRES: tags.time_text(expires),
        tags.OWNER: owner,
    }
    count = len(launch.indexes)
    return {
        "MinCount": count,
        "MaxCount": count,
        "ClientToken": launch.token,
        "ImageId": image.id,
        "InstanceType": launch.instance_type,
        "KeyName": key_name,
        "SecurityGroupIds": [security_group],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "Monitoring": {"Enabled": True},
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [
            {
                "DeviceName": image.root_device,
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": ROOT_GIB,
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "UserData": user_data,
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": tags.to_list(common)},
            {"ResourceType": "volume", "Tags": tags.to_list(common)},
        ],
    }


def user_data(expires: datetime) -> str:
    """Return the first-boot script: a timer on the host itself that powers it off when the lab expires.

    With InstanceInitiatedShutdownBehavior=terminate that ends the instance though nobody is left to do it. `poweroff`
    and not `halt`: EC2 does not count a halt as a shutdown. The date survives reboots as a unit file.
    """
    when = expires.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"""#!/bin/sh
# Nothing is left running: this host ends itself when its lab expires.
cat > /etc/systemd/system/labtool-expiry.service <<'UNIT'
[Unit]
Description=Power off: the lab of this host has expired
[Service]
Type=oneshot
ExecStart=/usr/bin/systemctl poweroff
UNIT
cat > /etc/systemd/system/labtool-expiry.timer <<'UNIT'
[Unit]
Description=When the lab of this host expires
[Timer]
OnCalendar={when}
Persistent=true
[Install]
WantedBy=timers.target
UNIT
systemctl daemon-reload
systemctl enable --now labtool-expiry.timer
"""


def tag_changes(lab: Lab, specs: Iterable[GroupSpec]) -> dict[str, dict[str, str]]:
    """Return the tags each instance still lacks: its name, index, and the values its group declares.

    A value of lab scope is the one any host has, else new.
    """
    shared: dict[str, str] = {}
    for host in lab:
        for name, value in host.vars.items():
            shared.setdefault(name, value)
    by_group = {spec.name: spec.vars for spec in specs}
    changes: dict[str, dict[str, str]] = {}
    for host in lab:
        new: dict[str, str] = {}
        for var in by_group.get(host.group, ()):
            if var.name in host.vars:
                continue
            if var.scope == "lab":
                shared.setdefault(var.name, make_value(var, host))
                new[tags.VAR + var.name] = shared[var.name]
            else:
                new[tags.VAR + var.name] = make_value(var, host)
        if new:
            changes[host.instance_id] = new
    return changes


def make_value(var: VarSpec, host: Host) -> str:
    """Make the value of `var` for `host`."""
    if var.make == "index":
        return str(var.base + host.index)
    while True:  # Kafka takes no id that begins with "-": it reads it as an option
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
