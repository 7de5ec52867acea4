"""How long ten local hosts take from RunInstances to SSH, against the engine's own create and boot of ten.

    python benchmarks/up_hosts.py [--hosts 10] [--repeat 3]

Needs root and podman. A local cloud of its own (`bench`, 198.19.192.0/20, port 4690) is started and removed again.
Both sides run the same image with the same options, each on a bridge of its own, and end when every host's sshd says
its name. The bare side's commands are started as many at a time as the local cloud's; its keys are made beforehand.
The target ratio is 1.5 or less.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3

from labtool import localcloud
from labtool.config import LocalSettings
from labtool.localcloud import engine as engines
from labtool.localcloud import image, machine
from labtool.localcloud.engine import ContainerSpec
from labtool.localcloud.layout import Layout

SETTINGS = LocalSettings(name="bench", subnet="198.19.192.0/20", port=4690)
BARE, BARE_NETWORK = "benchbare", "198.19.208"  # strangers on the lab's own bridge would reach nobody


def await_ssh(addresses: Iterable[str], timeout_s: float = 60.0) -> None:
    """Return when an SSH server has said its name at every address."""
    left = set(addresses)
    deadline = time.monotonic() + timeout_s
    while left:
        if time.monotonic() > deadline:
            raise SystemExit(f"no SSH within {timeout_s:.0f} s: {', '.join(sorted(left))}")
        for address in sorted(left):
            try:
                with socket.create_connection((address, 22), timeout=0.5) as connection:
                    if connection.recv(4) == b"SSH-":
                        left.discard(address)
            except OSError:
                continue
        time.sleep(0.02)


def by_api(ec2: Any, ami: str, count: int) -> float:
    """Launch by the API; return seconds until SSH; terminate."""
    began = time.perf_counter()
    found = ec2.run_instances(ImageId=ami, InstanceType="t3.small", MinCount=count, MaxCount=count)["Instances"]
    await_ssh(instance["PrivateIpAddress"] for instance in found)
    took = time.perf_counter() - began
    ids = [instance["InstanceId"] for instance in found]
    ec2.terminate_instances(InstanceIds=ids)
    waiter = ec2.get_waiter("instance_terminated")
    waiter.wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return took


def bare(engine: engines.Engine, tag: str, count: int) -> float:
    """Have the engine create and start; return seconds until SSH; remove."""
    layout = Layout(SETTINGS)
    specs = []
    for number in range(count):
        folder = layout.instance(f"bare-{number}")
        folder.seed.mkdir(parents=True, exist_ok=True)
        folder.out.mkdir(exist_ok=True)
        key = folder.seed / "ssh_host_ed25519_key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        specs.append(
            ContainerSpec(
                instance_id=f"bare-{number}",
                image=tag,
                network=BARE,
                address=f"{BARE_NETWORK}.{10 + number}",
                hostname=f"bare-{number}",
                cpus=min(2, machine.processors()),
                memory_bytes=2 << 30,
                seed=folder.seed,
                out=folder.out,
                console=folder.console,
                pid_file=folder.pid,
                proc=layout.proc if (layout.proc / "fs").exists() else None,
            )
        )
    commands = [engine.create_command(spec) for spec in specs]
    began = time.perf_counter()
    with ThreadPoolExecutor(max(4, 2 * machine.processors())) as pool:
        done = list(pool.map(lambda c: subprocess.run(c, capture_output=True, check=False), commands))
    await_ssh(spec.address for spec in specs)
    took = time.perf_counter() - began
    engine.remove(*(spec.instance_id for spec in specs))
    if any(process.returncode for process in done):
        raise SystemExit(next(process.stderr.decode() for process in done if process.returncode))
    return took


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    def progress(text: str) -> None:
        print(text, file=sys.stderr)

    endpoint = localcloud.start(SETTINGS, progress)
    try:
        session = boto3.session.Session(endpoint.access_key, endpoint.secret_key, region_name=endpoint.region)
        ec2 = session.client("ec2", endpoint_url=endpoint.url)
        ami = ec2.describe_images()["Images"][0]["ImageId"]
        (default,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": SETTINGS.gateway_cidr}]}
        ec2.authorize_security_group_ingress(GroupId=default["GroupId"], IpPermissions=[ssh])
        bare_engine = engines.Engine(engines.find(SETTINGS.name).program, BARE)
        bare_engine.create_network(
            BARE, bridge=f"lt-{BARE}", subnet=f"{BARE_NETWORK}.0/24", gateway=f"{BARE_NETWORK}.1"
        )
        tag = image.recipe(SETTINGS).tag
        bare(bare_engine, tag, 1)  # makes the bridge, and both sides warm
        api, plain = [], []
        for _ in range(given.repeat):
            api.append(by_api(ec2, ami, given.hosts))
            plain.append(bare(bare_engine, tag, given.hosts))
    finally:
        engines.Engine(engines.find(SETTINGS.name).program, BARE).remove_network(BARE)
        localcloud.stop(SETTINGS, progress)
    result = {
        "hosts": given.hosts,
        "api_s": round(statistics.median(api), 2),
        "bare_s": round(statistics.median(plain), 2),
        "ratio": round(statistics.median(api) / statistics.median(plain), 2),
        "target": 1.5,
        "load": float(Path("/proc/loadavg").read_text().split()[0]),
    }
    if given.json:
        print(json.dumps(result))
        return
    print(
        f"{given.hosts} hosts to SSH: {result['api_s']} s by RunInstances, {result['bare_s']} s by the engine alone\n"
        f"ratio {result['ratio']} (target ≤ 1.5)"
    )


if __name__ == "__main__":
    main()
