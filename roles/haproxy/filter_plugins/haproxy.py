"""The fronts of a balancer, as the inventory names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def haproxy_servers(hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], port: int) -> dict[str, str]:
    """Return host → `address:port`: the lab's private address, the default IPv4 one, or where Ansible reaches it."""

    def address(host: str) -> str:
        known = hostvars[host]
        default = (known.get("ansible_facts") or {}).get("default_ipv4") or {}
        candidates = (known.get("labtool_private_address"), default.get("address"), known.get("ansible_host"), host)
        return str(next(each for each in candidates if each))

    return {host: f"{address(host)}:{int(port)}" for host in hosts}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"haproxy_servers": haproxy_servers}
