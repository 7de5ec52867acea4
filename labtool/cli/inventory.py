"""The lab as an Ansible inventory: `labtool inventory`."""

from __future__ import annotations

from typing import Annotated

import typer

from labtool.cli import options, script
from labtool.errors import UsageError


def inventory(
    list_: Annotated[
        bool, typer.Option("--list", "--json", help="All hosts as JSON (Ansible's script protocol).")
    ] = False,
    host: Annotated[str | None, typer.Option("--host", help="One host's variables as JSON.")] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Groups and hosts as a tree.")] = False,
    proxy_jump: options.ProxyJump = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
) -> None:
    """Print the lab as an Ansible inventory.

    As YAML: labtool inventory > hosts.yml; or as Ansible's script protocol asks for it.
    """
    from labtool.ansible import inventory as text
    from labtool.cli.connect import settings

    asked = [flag for flag, given in (("--list", list_), ("--host", host), ("--graph", graph)) if given]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} are answers of their own", "ask for one at a time")
    data = script.of_lab(settings(cloud=cloud, lab=lab, region=region, proxy_jump=proxy_jump))
    if list_:
        print(text.as_json(data))
    elif host:
        print(text.one_host(data, host))
    elif graph:
        print(text.as_graph(data), end="")
    else:
        print(text.as_yaml(data), end="")
