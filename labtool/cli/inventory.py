"""The lab as an Ansible inventory: `labtool inventory`, and the script that `ansible-playbook -i` runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from labtool.cli import options


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

    data = of_lab(settings(cloud=cloud, lab=lab, region=region, proxy_jump=proxy_jump))
    if list_:
        print(text.as_json(data))
    elif host:
        print(text.one_host(data, host))
    elif graph:
        print(text.as_graph(data), end="")
    else:
        print(text.as_yaml(data), end="")


def script(argv: Sequence[str]) -> None:
    """Answer Ansible's `--list` or `--host NAME` for the lab of the settings; exits 1 with one line on failure."""
    import gc

    from labtool.ansible import inventory as text
    from labtool.cli.connect import settings
    from labtool.errors import LabtoolError

    # The process ends with its answer: looking for what could be freed of a thousand hosts frees nothing.
    gc.disable()
    try:
        print(text.script_answer(of_lab(settings()), argv))
    except LabtoolError as error:
        sys.exit(f"labtool: {error}")


def of_lab(chosen: Any) -> dict[str, Any]:
    """Return the inventory of the lab that `chosen` names."""
    from labtool.ansible import inventory as text
    from labtool.cli.lab import reach

    return text.of_lab(*reach(chosen))
