"""What the local cloud needs of this machine, for `labtool doctor`: each check with the command that mends it."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from labtool.config import LocalSettings
from labtool.errors import LocalCloudError
from labtool.localcloud import distribution, firewall, lifecycle, lxcfs, machine, network
from labtool.localcloud.check import Check

_DISK_NEEDED = 4 << 30
_MEMORY_NEEDED = 2 << 30
_KERNEL = {"veth": "veth pairs", "bridge": "bridges", "nf_nat": "NAT", "overlay": "overlay file systems"}


def checks(settings: LocalSettings) -> list[Check]:
    """Look at everything; needs no root and changes nothing."""
    looks: tuple[Callable[[LocalSettings], Check], ...] = (
        _distribution,
        _root,
        _engine,
        _runtime,
        _image_tool,
        _network_tools,
        _subnet,
        _kernel,
        _security_groups,
        _lxcfs,
        _resolver,
        _proxy,
        _port,
        _disk,
        _memory,
        _descriptors,
    )
    found = [look(settings) for look in looks]
    return [replace(check, mend="") if check.ok else check for check in found]


def _distribution(_: LocalSettings) -> Check:
    try:
        found = distribution.read()
    except LocalCloudError as error:
        return Check("distribution", False, error.message, error.hint or "")
    return Check("distribution", True, f"{found.image_name}: hosts will run it too")


def _root(_: LocalSettings) -> Check:
    if os.geteuid() == 0:
        return Check("root", True, "running as root")
    if shutil.which("sudo"):
        return Check("root", True, "sudo will be asked for the local cloud, once")
    return Check("root", False, "neither root nor sudo", "run as root, or: apt-get install sudo")


def _engine(_: LocalSettings) -> Check:
    install = "sudo apt-get install podman crun runc netavark"
    if shutil.which("podman"):
        version = _output("podman", "--version")
        return Check("container engine", bool(version), version or "podman does not run", install)
    if shutil.which("docker") and _output("docker", "info"):
        return Check("container engine", True, _output("docker", "--version"))
    return Check("container engine", False, "neither podman nor a running docker", install)


def _runtime(_: LocalSettings) -> Check:
    kind = machine.cgroup_kind()
    if kind == "v2" or not shutil.which("podman"):
        return Check("cgroups", True, f"cgroups are {kind}")
    if machine.runtime("podman"):
        return Check("cgroups", True, f"cgroups are {kind}: runc is used")
    return Check("cgroups", False, f"cgroups are {kind}, which crun refuses", "sudo apt-get install runc")


def _image_tool(_: LocalSettings) -> Check:
    found = shutil.which("mmdebstrap")
    return Check("image tool", bool(found), found or "mmdebstrap is missing", "sudo apt-get install mmdebstrap")


def _network_tools(_: LocalSettings) -> Check:
    missing = [name for name in ("ip", "sysctl") if shutil.which(name, path=_system_path()) is None]
    if not any(shutil.which(name, path=_system_path()) for name in ("nft", "iptables")):
        missing.append("nft")
    if shutil.which("podman") and shutil.which("iptables", path=_system_path()) is None:
        missing.append("iptables")  # netavark's
    packages = {"ip": "iproute2", "sysctl": "procps", "nft": "nftables", "iptables": "iptables"}
    mend = "sudo apt-get install " + " ".join(packages[name] for name in missing) if missing else ""
    return Check("network tools", not missing, f"missing: {', '.join(missing)}" if missing else "ip, nft", mend)


def _subnet(settings: LocalSettings) -> Check:
    try:
        network.plan(settings)
    except LocalCloudError as error:
        return Check("subnet", False, error.message, error.hint or "")
    return Check("subnet", True, settings.subnet)


def _kernel(_: LocalSettings) -> Check:
    """A module is there if it is built in, loaded, or can be loaded."""
    lacking = [text for name, text in _KERNEL.items() if not _has_module(name)]
    if not lacking:
        return Check("kernel", True, f"{os.uname().release}: {', '.join(_KERNEL.values())}")
    modules = " ".join(name for name, text in _KERNEL.items() if text in lacking)
    return Check("kernel", False, f"{os.uname().release} lacks {', '.join(lacking)}", f"sudo modprobe -a {modules}")


def _has_module(name: str) -> bool:
    if Path(f"/sys/module/{name}").is_dir():
        return True
    if name == "overlay" and "overlay" in Path("/proc/filesystems").read_text():
        return True
    release = Path("/lib/modules") / os.uname().release
    for index in ("modules.builtin", "modules.dep"):
        file = release / index
        if file.is_file() and f"/{name}.ko" in file.read_text(errors="replace"):
            return True
    # A kernel without a modules folder has built in what it has, and says so nowhere: believe it.
    return not release.is_dir()


def _security_groups(_: LocalSettings) -> Check:
    missing = firewall.lacking()
    if not missing:
        return Check("security groups", True, "hold between hosts", needed=False)
    mend = "sudo apt-get install nftables" if missing == "nft" else "sudo modprobe br_netfilter"
    return Check("security groups", False, f"{missing} is missing: they are kept, not enforced", mend, needed=False)


def _lxcfs(_: LocalSettings) -> Check:
    if lxcfs.available():
        return Check("lxcfs", True, "hosts show their own processors and memory", needed=False)
    missing = "/dev/fuse" if shutil.which("lxcfs") else "lxcfs"
    mend = "sudo modprobe fuse" if missing == "/dev/fuse" else "sudo apt-get install lxcfs"
    return Check("lxcfs", False, f"{missing} is missing: /proc in hosts shows the machine's", mend, needed=False)


def _resolver(_: LocalSettings) -> Check:
    """Hosts use the machine's name servers; loopback ones are the engine's to replace, link-local ones are cut off."""
    servers = [
        line.split()[1]
        for file in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
        if file.is_file()
        for line in file.read_text().splitlines()
        if line.startswith("nameserver") and len(line.split()) > 1
    ]
    usable = [server for server in servers if not ipaddress.ip_address(server.partition("%")[0]).is_link_local]
    if usable or not servers:
        return Check("name servers", True, f"hosts will ask {', '.join(dict.fromkeys(usable)) or 'none'}", needed=False)
    detail = f"{servers[0]} is link-local: no lab host may reach it, so hosts resolve no names"
    return Check("name servers", False, detail, "add another `nameserver` to /etc/resolv.conf", needed=False)


def _proxy(_: LocalSettings) -> Check:
    values = [os.environ.get(name, "") for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")]
    local = [value for value in values if re.search(r"//(?:[^@/]*@)?(?:localhost|127\.|\[::1\])", value)]
    if not local:
        return Check("proxy", True, next((value for value in values if value), "none"), needed=False)
    detail = f"{local[0]} is on this machine's loopback, where hosts cannot reach it"
    return Check("proxy", False, detail, "name the proxy by an address that other hosts reach", needed=False)


def _port(settings: LocalSettings) -> Check:
    if lifecycle.status(settings) is not None:
        return Check("port", True, f"the local cloud runs on {settings.port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", settings.port))
        except OSError as error:
            detail = f"port {settings.port}: {error.strerror}"
            mend = f"ss -ltnp 'sport = :{settings.port}' shows who has it; or LABTOOL_LOCAL_PORT=<another>"
            return Check("port", False, detail, mend)
    return Check("port", True, f"port {settings.port} is free")


def _disk(settings: LocalSettings) -> Check:
    place = next(p for p in (settings.state, *settings.state.parents) if p.exists())
    store = Path("/var/lib/containers")
    free = min(shutil.disk_usage(p).free for p in (place, store if store.exists() else place))
    detail = f"{free / 2**30:.1f} GiB free"
    return Check(
        "disk", free >= _DISK_NEEDED, detail, f"free {_DISK_NEEDED >> 30} GiB below {place}, or set local.state"
    )


def _memory(_: LocalSettings) -> Check:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    detail = f"{free / 2**30:.1f} GiB available, {machine.processors()} processors; an idle host takes 40 MiB"
    return Check("memory", free >= _MEMORY_NEEDED, detail, "end what you do not need, or use a larger machine")


def _descriptors(_: LocalSettings) -> Check:
    limit = machine.limits().nofile
    detail = f"hosts may open {limit} files"
    mend = "raise the hard limit: ulimit -Hn, or LimitNOFILE= of the service that runs this shell"
    return Check("open files", limit >= 16_384, detail, mend, needed=False)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _system_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
