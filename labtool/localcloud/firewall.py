"""Security groups in force: keeps this machine's packet filter in step with EC2's state.

Packets between two ports of one bridge do not reach the filter that follows connections by themselves; the kernel's
br_netfilter sends this bridge's there, and no other's. A new host reaches nobody until its port is known here, so
nothing depends on who is first.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from socket import if_indextoname
from typing import TYPE_CHECKING

from labtool.errors import LocalCloudError
from labtool.localcloud import security_groups
from labtool.localcloud.network import LabNetwork

if TYPE_CHECKING:
    from labtool.localcloud.ec2_backend import LabEC2Backend

log = logging.getLogger(__name__)

_LOADED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def lacking() -> str:
    """Return what this machine lacks to enforce security groups, empty if nothing; changes nothing."""
    if _program("nft") is None:
        return "nft"
    if not _LOADED.exists() and not _loadable("br_netfilter"):
        return "the kernel's br_netfilter"
    return ""


class Firewall:
    """The packet filter of one local cloud; `lock` guards `ec2`. Not to be called with the lock held."""

    def __init__(self, network: LabNetwork, ec2: LabEC2Backend, lock: threading.RLock) -> None:
        self._network, self._ec2, self._lock = network, ec2, lock
        self._ports: dict[str, str] = {}
        self._applied = ""
        self._asked = self._done = 0
        self._count, self._applying = threading.Lock(), threading.Lock()
        self._senders = True  # False: this kernel's nftables cannot filter a bridge
        self.enforced = False

    def start(self) -> None:
        """Begin to enforce with the first `attached`; say in the log what this machine cannot."""
        missing = lacking()
        if not missing and not _load_br_netfilter():
            missing = "the kernel's br_netfilter"
        if missing:
            log.warning("security groups are kept and shown, and NOT enforced: %s is missing", missing)
            return
        self.enforced = True
        self._senders = _bridges_filtered(self._network)
        if not self._senders:
            log.warning("hosts can send with each other's addresses: this kernel's nftables cannot filter a bridge")

    def attached(self, hosts: Mapping[str, int]) -> None:
        """Admit running hosts, given by instance id as the process ids of their systemds."""
        if not self.enforced:
            return
        for instance_id, pid in hosts.items():
            port = port_of(pid)
            if port is None:
                log.warning("%s has no network interface: it has ended as it began", instance_id)
                continue
            with self._lock:
                for known in [known for known, other in self._ports.items() if other == port]:
                    del self._ports[known]  # names of ports are used again
                self._ports[instance_id] = port
        if self._ports:  # the bridge comes with the first host, and goes with the last
            Path(f"/sys/class/net/{self._network.bridge}/bridge/nf_call_iptables").write_text("1\n")
        self.refresh()

    def detached(self, instance_id: str) -> None:
        """Forget a host's port; it has gone."""
        with self._lock:
            gone = self._ports.pop(instance_id, None) is not None
        if gone:
            self.refresh()

    def refresh(self) -> None:
        """Apply EC2's state; returns when it is in force. Calls at the same time share the work."""
        if not self.enforced:
            return
        with self._count:
            self._asked += 1
            mine = self._asked
        with self._applying:
            if self._done >= mine:
                return
            with self._count:
                upto = self._asked
            wanted = self._script()
            if wanted != self._applied:
                self._apply(wanted)
            self._done = upto

    def keep(self) -> bool:
        """Put the rules back if something has taken them away; return True if it had to."""
        if not self.enforced:
            return False
        shown = [
            subprocess.run(["nft", "list", "table", *table], capture_output=True, check=False).returncode
            for table in security_groups.tables(self._network)[: 2 if self._senders else 1]
        ]
        if not any(shown):
            return False
        with self._applying:
            self._applied = ""
        self.refresh()
        return True

    def _script(self) -> str:
        with self._lock:
            hosts = security_groups.members(self._ec2, self._ports)
            groups = security_groups.groups(self._ec2)
        return security_groups.script(self._network, groups, hosts, ports=self._senders)

    def _apply(self, wanted: str) -> None:
        done = subprocess.run(["nft", "--file", "-"], input=wanted, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            log.error("the packet filter refused:\n%s\n%s", wanted, done.stderr)
            raise LocalCloudError(
                f"security groups could not be enforced: {(done.stderr.strip().splitlines() or ['nft failed'])[0]}",
                "run `labtool doctor`; the local cloud's log has the rules",
            )
        self._applied = wanted


def remove(network: LabNetwork) -> None:
    """Remove all rules; safe to run again."""
    if shutil.which("nft"):
        for family, table in security_groups.tables(network):
            subprocess.run(["nft", "delete", "table", family, table], capture_output=True, check=False)


def port_of(pid: int) -> str | None:
    """Return the machine's end of the network interface of the host whose systemd is `pid`; None if it has gone."""
    command = ["nsenter", "--target", str(pid), "--net", "ip", "-json", "link", "show", "type", "veth"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return if_indextoname(json.loads(done.stdout)[0]["link_index"])
    except (ValueError, IndexError, KeyError, OSError):
        return None


def _load_br_netfilter() -> bool:
    if _LOADED.exists():
        return True
    if (modprobe := _program("modprobe")) is not None:
        subprocess.run([modprobe, "br_netfilter"], capture_output=True, check=False)
    if not _LOADED.exists():
        return False
    for name in ("iptables", "ip6tables", "arptables"):
        # The module sends every bridge's packets to the filter when it is loaded; only ours asked for it.
        _LOADED.with_name(f"bridge-nf-call-{name}").write_text("0\n")
    return True


def _loadable(module: str) -> bool:
    modprobe = _program("modprobe")
    if modprobe is None:
        return False
    return subprocess.run([modprobe, "--dry-run", module], capture_output=True, check=False).returncode == 0


def _program(name: str) -> str | None:
    """Find a program of the system's; a user's PATH may lack the folders of root's."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _bridges_filtered(network: LabNetwork) -> bool:
    command = ["nft", "--check", "--file", "-"]
    tried = security_groups.senders(network, [])
    return subprocess.run(command, input=tried, capture_output=True, text=True, check=False).returncode == 0
