"""The lab's network on this machine: a bridge of the engine's, and what keeps its traffic where it belongs.

Before the first host starts:
- what the lab sends to 169.254.169.254, port 80, goes to this cloud's own metadata service and nowhere else, and the
  rest of 169.254.0.0/16 is dropped: the machine may itself be a cloud's instance, and no lab host may reach its
  metadata service and credentials. A routing rule says the same again, for the moment in which a firewall's reload
  has flushed the tables. Without the service (its process was killed) a connection is refused;
- the machine's addresses on the bridge answer to the bridge and to the machine only;
- an `unreachable` route lies under the subnet: what is sent to a host that has gone away never leaves by the
  default route.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labtool.config import LocalSettings
from labtool.errors import LocalCloudError
from labtool.localcloud.engine import Engine
from labtool.localcloud.layout import Layout

LINK_LOCAL = "169.254.0.0/16"
METADATA = "169.254.169.254"
IPV6_METADATA = "fd00:ec2::/32"
_UNDERLYING_METRIC = "4278198272"  # higher than any other route's, so used when the bridge is gone
_RULE_PRIORITY = "90"  # before the main table's; the local one comes first whatever is asked

# Raised while a local cloud runs: (name, value). Forwarding for NAT; mappings for Kafka's index files; connections
# that security groups follow, of all hosts together (300 bytes each, when there are that many). The kernel's own 128
# inotify instances are all hosts' together, since their roots are one user: systemd without one does not start, and
# each host takes six. Neighbours too are counted over all hosts, and n hosts that talk to each other know n² of them.
KERNEL_SETTINGS = {
    "net/ipv4/ip_forward": 1,
    "vm/max_map_count": 262_144,
    "net/netfilter/nf_conntrack_max": 1_048_576,
    "fs/inotify/max_user_instances": 16_384,
    "fs/inotify/max_user_watches": 1_048_576,
    "net/ipv4/neigh/default/gc_thresh1": 16_384,
    "net/ipv4/neigh/default/gc_thresh2": 32_768,
    "net/ipv4/neigh/default/gc_thresh3": 65_536,
}
_SHARED = Path("/run/labtool-kernel.json")


@dataclass(frozen=True)
class LabNetwork:
    """The names of a local cloud's network."""

    name: str
    bridge: str
    subnet: str
    gateway: str
    table: str
    metadata_port: int = 0  # of the metadata service on the gateway's address; 0: there is none


def plan(settings: LocalSettings) -> LabNetwork:
    """Return the network of `settings`; `LocalCloudError` if its subnet does not fit in a VPC."""
    subnet = ipaddress.IPv4Network(settings.subnet)
    if not 16 <= subnet.prefixlen <= 24:
        raise LocalCloudError(
            f"local.subnet is {subnet}: a lab's VPC has between 256 and 65,536 addresses",
            "give it a prefix from /16 to /24, for example 198.18.0.0/16",
        )
    return LabNetwork(
        name=settings.name,
        bridge=f"lt-{settings.name}",
        subnet=str(subnet),
        gateway=str(subnet.network_address + 1),
        table=f"labtool_{settings.name}",
    )


def up(settings: LocalSettings, engine: Engine, metadata_port: int = 0) -> LabNetwork:
    """Make the network; what is there already stays."""
    network = replace(plan(settings), metadata_port=metadata_port)
    _refuse_overlap(network)
    if not engine.network_exists(network.name):
        engine.create_network(network.name, bridge=network.bridge, subnet=network.subnet, gateway=network.gateway)
    network = replace(network, bridge=engine.bridge(network.name))
    with suppress(OSError, ValueError, TypeError):  # what a process before this one made, with its port
        _remove_redirect(LabNetwork(**json.loads(Layout(settings).network.read_text())))
    _apply_rules(network)
    _run("ip", "route", "replace", "unreachable", network.subnet, "metric", _UNDERLYING_METRIC)
    _take_kernel_settings(settings.name)
    Layout(settings).network.write_text(json.dumps(network.__dict__))
    return network


def down(settings: LocalSettings, engine: Engine | None) -> None:
    """Remove everything `up` made and restore what it changed; safe to run again."""
    network = plan(settings)
    with suppress(OSError, ValueError, TypeError):  # never finished: the planned names are what it had got to
        network = LabNetwork(**json.loads(Layout(settings).network.read_text()))
    if engine is not None:
        engine.remove_network(network.name)
    _quiet("ip", "link", "delete", network.bridge)
    _quiet("ip", "route", "delete", "unreachable", network.subnet, "metric", _UNDERLYING_METRIC)
    _quiet("ip", "rule", "delete", *_link_local_rule(network))
    _remove_rules(network)
    _give_back_kernel_settings(settings.name, others_run=engine is not None and engine.others_run())


def nft_rules(network: LabNetwork) -> str:
    """Return the nftables script that guards the lab; applying it again replaces the table.

    A packet that the redirect did not change (conntrack took it for invalid) still has its link-local destination
    where packets are forwarded or taken in, and is dropped there.
    """
    bridge, redirect, admit = network.bridge, "", ""
    if network.metadata_port:
        asked = f'iifname "{bridge}" ip daddr {METADATA} tcp dport 80'
        admit = f"{asked} counter accept"
        redirect = f"{asked} dnat ip to {network.gateway}:{network.metadata_port}"
    return f"""\
table inet {network.table} {{}}
delete table inet {network.table}
table inet {network.table} {{
  chain before {{
    type filter hook prerouting priority raw; policy accept;
    {admit}
    iifname "{bridge}" ip daddr {LINK_LOCAL} counter drop
    iifname "{bridge}" ip6 daddr {IPV6_METADATA} counter drop
  }}
  chain metadata {{
    type nat hook prerouting priority dstnat - 10; policy accept;
    {redirect}
  }}
  chain outside {{
    type filter hook forward priority raw; policy accept;
    iifname "{bridge}" ip daddr {LINK_LOCAL} counter drop
  }}
  chain machine {{
    type filter hook input priority filter; policy accept;
    iifname "{bridge}" ip daddr {LINK_LOCAL} counter drop
    iifname != {{ "{bridge}", "lo" }} ip daddr {network.subnet} counter drop
  }}
}}
"""


def iptables_rules(network: LabNetwork) -> list[list[str]]:
    """Return the same guard for a machine without nft, as arguments after `-A`/`-D` with their table."""
    comment = ["-m", "comment", "--comment", network.table]
    lab = ["-i", network.bridge]
    drop = [*lab, "-d", LINK_LOCAL, *comment, "-j", "DROP"]
    outside = [*lab, "-d", network.subnet, *comment, "-j", "ACCEPT"]
    local = ["-i", "lo", "-d", network.subnet, *comment, "-j", "ACCEPT"]
    rest = ["-d", network.subnet, *comment, "-j", "DROP"]
    rules = []
    if network.metadata_port:
        asked = [*lab, "-d", f"{METADATA}/32", "-p", "tcp", "--dport", "80", *comment, "-j"]
        rules = [
            ["raw", "PREROUTING", *asked, "ACCEPT"],
            ["nat", "PREROUTING", *asked, "DNAT", "--to-destination", f"{network.gateway}:{network.metadata_port}"],
        ]
    return [
        *rules,
        ["raw", "PREROUTING", *drop],
        # In mangle: the engine's own rules in filter's FORWARD may have let it pass already.
        ["mangle", "FORWARD", *drop],
        ["mangle", "INPUT", *drop],
        ["filter", "INPUT", *outside],
        ["filter", "INPUT", *local],
        ["filter", "INPUT", *rest],
    ]


def keep_rules(network: LabNetwork) -> bool:
    """Put the guard back if something (a firewall's reload) has taken it away; return True if it had to."""
    _prohibit_link_local(network)
    if not shutil.which("nft"):
        _apply_rules(network)
        return False
    shown = subprocess.run(["nft", "list", "table", "inet", network.table], capture_output=True, text=True, check=False)
    if shown.returncode == 0 and shown.stdout.count(f"ip daddr {LINK_LOCAL}") == nft_rules(network).count(
        f"ip daddr {LINK_LOCAL}"
    ):
        return False
    _apply_rules(network)
    return True


def _apply_rules(network: LabNetwork) -> None:
    _prohibit_link_local(network)
    if shutil.which("nft"):
        _run("nft", "--file", "-", stdin=nft_rules(network))
        return
    _remove_rules(network)
    for table, chain, *rule in iptables_rules(network):
        _run("iptables", "--wait", "-t", table, "-A", chain, *rule)


def _remove_rules(network: LabNetwork) -> None:
    if shutil.which("nft"):
        _quiet("nft", "delete", "table", "inet", network.table)
    if not shutil.which("iptables"):
        return
    for table, chain, *rule in iptables_rules(network):
        if not shutil.which("nft"):
            _quiet("iptables", "--wait", "-t", table, "-D", chain, *rule)


def _remove_redirect(network: LabNetwork) -> None:
    """Remove what names the metadata service's port, where applying the rules again does not replace it."""
    if not shutil.which("nft"):
        _remove_rules(network)


def _link_local_rule(network: LabNetwork) -> list[str]:
    return ["iif", network.bridge, "to", LINK_LOCAL, "prohibit", "priority", _RULE_PRIORITY]


def _prohibit_link_local(network: LabNetwork) -> None:
    """Have no route from the lab to link-local addresses, whatever the packet filter says."""
    done = subprocess.run(
        ["ip", "rule", "show", "priority", _RULE_PRIORITY], capture_output=True, text=True, check=False
    )
    if f"to {LINK_LOCAL} iif {network.bridge} " not in done.stdout:
        _run("ip", "rule", "add", *_link_local_rule(network))


def _refuse_overlap(network: LabNetwork) -> None:
    """Another interface with an address of the subnet means another local cloud, or a network to be left alone."""
    subnet = ipaddress.IPv4Network(network.subnet)
    done = subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, text=True, check=False)
    for link in json.loads(done.stdout or "[]"):
        for address in link.get("addr_info", []):
            own = ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}")
            if own.network.overlaps(subnet) and not link["ifname"].startswith(("lt-", "podman", "br-")):
                raise LocalCloudError(
                    f"{subnet} is in use: {link['ifname']} has {own}",
                    "choose another with LABTOOL_LOCAL_SUBNET, for example 198.19.0.0/16",
                )


@contextmanager
def _shared_record() -> Iterator[dict[str, Any]]:
    """Yield the record of kernel settings that all local clouds share; it is written back if changed."""
    with _SHARED.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            record = json.loads(_SHARED.read_text())
        except (OSError, ValueError):
            record = {"holders": [], "before": {}}
        yield record
        if record["holders"]:
            _SHARED.write_text(json.dumps(record))
        else:
            _SHARED.unlink(missing_ok=True)
    if not record["holders"]:
        _SHARED.with_suffix(".lock").unlink(missing_ok=True)


def _take_kernel_settings(name: str) -> None:
    with _shared_record() as record:
        if name not in record["holders"]:
            record["holders"].append(name)
        for setting, wanted in KERNEL_SETTINGS.items():
            file = Path("/proc/sys") / setting
            try:
                now = int(file.read_text())
            except FileNotFoundError:
                continue  # connection tracking is not loaded
            if now >= wanted:
                continue
            try:
                file.write_text(f"{wanted}\n")
            except OSError:
                if setting == "net/ipv4/ip_forward":
                    raise
                continue  # a container's root may not; `labtool doctor --hosts` says how many hosts go without
            record["before"].setdefault(setting, now)


def _give_back_kernel_settings(name: str, *, others_run: bool) -> None:
    with _shared_record() as record:
        if name in record["holders"]:
            record["holders"].remove(name)
        if record["holders"] or others_run:
            return  # another local cloud, or somebody's own containers, still need them
        for setting, before in record["before"].items():
            (Path("/proc/sys") / setting).write_text(f"{before}\n")
        record["before"].clear()


def _run(*command: str, stdin: str | None = None) -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalCloudError(
            f"`{' '.join(command)}` failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}",
            "run `labtool doctor`",
        )


def _quiet(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=False)
