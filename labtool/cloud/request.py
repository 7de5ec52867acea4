"""One RunInstances call as a value: everything a host is, said in the call that makes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from labtool.cloud import tags
from labtool.cloud.images import Image
from labtool.cloud.placement import Site
from labtool.cloud.plan import Launch
from labtool.errors import UsageError

ROOT_GIB = 20
SPREAD_MOST = 7
"""Instances of a spread placement group in one zone."""


@dataclass(frozen=True)
class Options:
    """How hosts are launched, besides how many and of which type."""

    root_gib: int = ROOT_GIB
    placement: Literal["cluster", "spread", "partition"] | None = None
    zones: tuple[str, ...] = ()  # tried in this order; none: all of the network, the lab's own first
    spot: bool = False
    instance_profile: str | None = None  # a name or an ARN
    vpc: str | None = None  # an id or a Name tag; None: the lab's own, else the default VPC
    subnet: str | None = None  # an id or a Name tag
    reach: Literal["private", "ssm"] | None = None  # None: by a public address, where the network gives one
    max_price_per_hour: float | None = None  # US dollars, of the whole lab
    max_cost: float | None = None  # US dollars, of the new hosts until they end themselves

    def check(self, launches: tuple[Launch, ...]) -> None:
        """Refuse what could not be launched; `UsageError`."""
        if self.reach == "ssm" and not self.instance_profile:
            raise UsageError(
                "--ssm needs an instance profile that lets the hosts talk to Systems Manager",
                "--instance-profile NAME, of a role with the policy AmazonSSMManagedInstanceCore",
            )
        if self.subnet and len(self.zones) > 1:
            raise UsageError("a subnet is in one zone: --subnet does not go with several --zone", "leave out one")
        for launch in launches:
            if self.placement == "spread" and launch.indexes and launch.indexes[-1] >= SPREAD_MOST:
                raise UsageError(
                    f"group {launch.group}: a spread placement group holds {SPREAD_MOST} hosts of one zone",
                    "--placement partition holds more",
                )


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
    token: str,
    site: Site | None = None,
    placement_group: str | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Return the parameters of the RunInstances call that makes `launch` at `site`."""
    options = options or Options()
    common = {
        tags.LAB: lab,
        tags.GROUP: launch.group,
        tags.INDEXES: tags.index_text(launch.indexes),
        tags.LOGIN: image.login,
        tags.EXPIRES: tags.time_text(expires),
        tags.OWNER: owner,
    }
    if options.root_gib != ROOT_GIB:
        common[tags.ROOT_GIB] = str(options.root_gib)
    if options.reach:
        common[tags.REACH] = options.reach
    count = len(launch.indexes)
    kinds = ["instance", "volume", *(["spot-instances-request"] if options.spot else [])]
    request: dict[str, Any] = {
        "MinCount": count,
        "MaxCount": count,
        "ClientToken": token,
        "ImageId": image.id,
        "InstanceType": launch.instance_type,
        "KeyName": key_name,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "Monitoring": {"Enabled": True},
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [
            {
                "DeviceName": image.root_device,
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": options.root_gib,
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "UserData": user_data,
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags.to_list(common)} for kind in kinds],
    }
    public = None if site is None or (site.default and not options.reach) else not options.reach
    if public is None:
        request["SecurityGroupIds"] = [security_group]
        if site is not None:
            request["SubnetId"] = site.subnet
    else:
        # Only an interface can say whether it gets a public address; subnet and groups then stand there.
        request["NetworkInterfaces"] = [
            {
                "DeviceIndex": 0,
                "AssociatePublicIpAddress": public,
                "DeleteOnTermination": True,
                "Groups": [security_group],
                **({"SubnetId": site.subnet} if site is not None else {}),
            }
        ]
    if placement_group:
        request["Placement"] = {"GroupName": placement_group}
    if options.spot:
        request["InstanceMarketOptions"] = {
            "MarketType": "spot",
            # One-time: the request ends with its instance, and never launches another by itself.
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    if options.instance_profile:
        kind = "Arn" if options.instance_profile.startswith("arn:") else "Name"
        request["IamInstanceProfile"] = {kind: options.instance_profile}
    return request


def user_data(expires: datetime) -> str:
    """Return the first-boot script: a timer on the host itself that powers it off when the lab expires.

    With InstanceInitiatedShutdownBehavior=terminate that ends the instance though nobody is left to do it. `poweroff`
    and not `halt`: EC2 does not count a halt as a shutdown. The date survives reboots as a unit file.
    """
    return f"""#!/bin/sh
# Nothing is left running: this host ends itself when its lab expires.
cat > /etc/systemd/system/labtool-expiry.service <<'UNIT'
[Unit]
Description=Power off: the lab of this host has expired
[Service]
Type=oneshot
ExecStart=/usr/bin/systemctl poweroff
UNIT
{set_timer(expires)}systemctl enable --now labtool-expiry.timer
"""


def set_timer(expires: datetime) -> str:
    """Return the shell lines that write the timer's date; what starts it follows."""
    return f"""cat > /etc/systemd/system/labtool-expiry.timer <<'UNIT'
[Unit]
Description=When the lab of this host expires
[Timer]
OnCalendar={expires.strftime("%Y-%m-%d %H:%M:%S UTC")}
Persistent=true
[Install]
WantedBy=timers.target
UNIT
systemctl daemon-reload
"""
