"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

WHERE = "Where"


def ipv4_network(text: str | None) -> str | None:
    """Return an IPv4 network as AWS writes it; an address alone is a network of one."""
    from ipaddress import IPv4Network

    from labtool.errors import UsageError

    if text is None:
        return None
    try:
        return str(IPv4Network(text))
    except ValueError as error:
        raise UsageError(f"--ssh-from: {error}", "for example: 198.51.100.7/32, 198.51.100.0/24") from None


LONGEST_MINUTES = 30 * 24 * 60
"""The longest window: as long as hosts live."""
Cloud = Annotated[
    str | None,
    typer.Option("--cloud", help="local (this machine) or aws.", rich_help_panel=WHERE, metavar="local|aws"),
]
LabName = Annotated[
    str | None,
    typer.Option("--lab", "-l", metavar="NAME", help="The lab's name. [default: lab]", rich_help_panel=WHERE),
]
Region = Annotated[str | None, typer.Option("--region", metavar="REGION", help="AWS region.", rich_help_panel=WHERE)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before spending money.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Ttl = Annotated[
    str | None,
    typer.Option("--ttl", metavar="TIME", help="New hosts end themselves after this: 90m, 4h, 2d. [default: 4h]"),
]
Strategy = Annotated[
    str | None,
    typer.Option("--strategy", help="How Ansible works: mitogen (fast) or linear.", metavar="mitogen|linear"),
]
Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Instance type of new hosts, as t3.medium.")]
Image = Annotated[
    str | None,
    typer.Option("--image", metavar="IMAGE", help="debian-12, ubuntu-24.04, amazon-linux-2023 or an AMI id."),
]
ProxyJump = Annotated[
    str | None,
    typer.Option(
        "--proxy-jump", help="Reach the hosts through this one.", metavar="[USER@]HOST[:PORT]", rich_help_panel=WHERE
    ),
]
HOSTS = "How hosts are launched"
RootGib = Annotated[
    int | None,
    typer.Option(
        "--root-gib", metavar="GIB", help="Root volume, GiB. [default: 20]", min=8, max=16384, rich_help_panel=HOSTS
    ),
]
Placement = Annotated[
    str | None,
    typer.Option(
        "--placement",
        help="Placement group: near each other, or on different hardware.",
        metavar="cluster|spread|partition",
        rich_help_panel=HOSTS,
    ),
]
Zone = Annotated[
    list[str] | None,
    typer.Option(
        "--zone", metavar="ZONE", help="Zones to try, in order; can be repeated. [default: all]", rich_help_panel=HOSTS
    ),
]
Spot = Annotated[bool | None, typer.Option("--spot", help="Spot instances: AWS may end them.", rich_help_panel=HOSTS)]
InstanceProfile = Annotated[
    str | None,
    typer.Option("--instance-profile", metavar="NAME", help="Name or ARN. [default: none]", rich_help_panel=HOSTS),
]
Vpc = Annotated[
    str | None,
    typer.Option("--vpc", metavar="VPC", help="Id or Name tag. [default: the default VPC]", rich_help_panel=HOSTS),
]
Subnet = Annotated[
    str | None, typer.Option("--subnet", metavar="SUBNET", help="Id or Name tag.", rich_help_panel=HOSTS)
]
Private = Annotated[
    bool | None, typer.Option("--private", help="No public address; SSH from within.", rich_help_panel=HOSTS)
]
Ssm = Annotated[
    bool | None, typer.Option("--ssm", help="No public address; SSH by Session Manager.", rich_help_panel=HOSTS)
]
MaxPrice = Annotated[
    float | None,
    typer.Option(
        "--max-price-per-hour", help="Launch nothing if the lab would cost more.", metavar="USD", rich_help_panel=HOSTS
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        help="New hosts end themselves before they cost more, or after --ttl.",
        metavar="USD",
        rich_help_panel=HOSTS,
    ),
]
SshFrom = Annotated[
    str | None,
    typer.Option(
        "--ssh-from",
        metavar="CIDR",
        help="Network SSH is admitted from. [default: this machine's address]",
        callback=ipv4_network,
    ),
]


LAUNCH = {
    "root_gib": RootGib,
    "placement": Placement,
    "zones": Zone,
    "spot": Spot,
    "instance_profile": InstanceProfile,
    "vpc": Vpc,
    "subnet": Subnet,
    "private": Private,
    "ssm": Ssm,
    "max_price_per_hour": MaxPrice,
    "max_cost": MaxCost,
}
"""How hosts are launched: the keys of the settings' section [aws]."""


def launches(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take the options of how hosts are launched; it gets those that were typed as `hosts`, or None."""
    parameters = inspect.signature(command, eval_str=True).parameters
    own = [
        inspect.Parameter(name, parameters["hosts"].kind, default=None, annotation=annotation)
        for name, annotation in LAUNCH.items()
    ]

    @wraps(command)
    def run(*positional: Any, **given: Any) -> Any:
        typed = {name: given.pop(name, None) for name in LAUNCH}
        hosts = {name: value for name, value in typed.items() if value is not None and value != []}
        return command(*positional, hosts=hosts or None, **given)

    shown = [each for name in parameters for each in (own if name == "hosts" else [parameters[name]])]
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return run
