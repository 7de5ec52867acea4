"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

WHERE = "Where"
Cloud = Annotated[
    str | None,
    typer.Option("--cloud", help="local (this machine) or aws.", rich_help_panel=WHERE, metavar="local|aws"),
]
LabName = Annotated[
    str | None, typer.Option("--lab", "-l", help="The lab's name. [default: lab]", rich_help_panel=WHERE)
]
Region = Annotated[str | None, typer.Option("--region", help="AWS region.", rich_help_panel=WHERE)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before spending money.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Ttl = Annotated[
    str | None, typer.Option("--ttl", help="New hosts end themselves after this: 90m, 4h, 2d. [default: 4h]")
]
Strategy = Annotated[
    str | None,
    typer.Option("--strategy", help="How Ansible works: mitogen (fast) or linear.", metavar="mitogen|linear"),
]
Type = Annotated[str | None, typer.Option("--type", help="Instance type of new hosts, as t3.medium.")]
Image = Annotated[str | None, typer.Option("--image", help="debian-12, ubuntu-24.04, amazon-linux-2023 or an AMI id.")]
ProxyJump = Annotated[
    str | None,
    typer.Option(
        "--proxy-jump", help="Reach the hosts through this one.", metavar="[USER@]HOST[:PORT]", rich_help_panel=WHERE
    ),
]
SshFrom = Annotated[
    str | None, typer.Option("--ssh-from", help="Network SSH is admitted from. [default: this machine's address]")
]
