"""The inventory of 1,000 hosts by labtool and by amazon.aws' plugin, from the same answers of one server.

    python benchmarks/inventory.py [--hosts 1000] [--rounds 3] [--latency 0.2]

A server on loopback answers DescribeInstances with EC2's XML, 1,000 instances a page and `--latency` seconds after it
was asked; whatever else is asked is an error. Both programs are run as Ansible's user runs them, each a process of its
own: `inventory/labtool.py --list`, for a lab whose host keys are known, and `ansible-inventory --list` with
`inventory/labtool.aws_ec2.yml`. "Beyond the API" is what a program takes longer than the bare requests do.

The bounds: 0.5 s beyond the API for labtool, and the plugin takes 15 times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = 1000
ITEM = """<item><reservationId>r-{n:017x}</reservationId><ownerId>123456789012</ownerId><groupSet/><instancesSet><item>
<instanceId>i-{n:017x}</instanceId><imageId>ami-0123456789abcdef0</imageId><instanceState><code>16</code><name>running</name>
</instanceState><privateDnsName>ip-10-0-{high}-{low}.ec2.internal</privateDnsName><dnsName/><reason/><keyName>labtool-bench</keyName>
<amiLaunchIndex>{n}</amiLaunchIndex><productCodes/><instanceType>t3.small</instanceType><launchTime>2026-07-01T12:00:00.000Z</launchTime>
<placement><availabilityZone>us-east-1a</availabilityZone><groupName/><tenancy>default</tenancy></placement>
<monitoring><state>enabled</state></monitoring><subnetId>subnet-0123456789abcdef0</subnetId><vpcId>vpc-0123456789abcdef0</vpcId>
<privateIpAddress>10.0.{high}.{low}</privateIpAddress><sourceDestCheck>true</sourceDestCheck><groupSet><item>
<groupId>sg-0123456789abcdef0</groupId><groupName>labtool-bench</groupName></item></groupSet><architecture>x86_64</architecture>
<rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping><item><deviceName>/dev/xvda</deviceName>
<ebs><volumeId>vol-{n:017x}</volumeId><status>attached</status><attachTime>2026-07-01T12:00:01.000Z</attachTime>
<deleteOnTermination>true</deleteOnTermination></ebs></item></blockDeviceMapping><virtualizationType>hvm</virtualizationType>
<clientToken>labtool-bench-{n}</clientToken><tagSet>{tags}</tagSet><hypervisor>xen</hypervisor><networkInterfaceSet><item>
<networkInterfaceId>eni-{n:017x}</networkInterfaceId><subnetId>subnet-0123456789abcdef0</subnetId><vpcId>vpc-0123456789abcdef0</vpcId>
<description/><ownerId>123456789012</ownerId><status>in-use</status><macAddress>02:00:00:00:00:01</macAddress>
<privateIpAddress>10.0.{high}.{low}</privateIpAddress><privateDnsName>ip-10-0-{high}-{low}.ec2.internal</privateDnsName>
<sourceDestCheck>true</sourceDestCheck><groupSet><item><groupId>sg-0123456789abcdef0</groupId><groupName>labtool-bench</groupName></item>
</groupSet><attachment><attachmentId>eni-attach-{n:017x}</attachmentId><deviceIndex>0</deviceIndex><status>attached</status>
<attachTime>2026-07-01T12:00:00.000Z</attachTime><deleteOnTermination>true</deleteOnTermination><networkCardIndex>0</networkCardIndex>
</attachment><privateIpAddressesSet><item><privateIpAddress>10.0.{high}.{low}</privateIpAddress>
<privateDnsName>ip-10-0-{high}-{low}.ec2.internal</privateDnsName><primary>true</primary></item></privateIpAddressesSet>
<ipv6AddressesSet/><interfaceType>interface</interfaceType></item></networkInterfaceSet><ebsOptimized>true</ebsOptimized>
<enaSupport>true</enaSupport><cpuOptions><coreCount>1</coreCount><threadsPerCore>2</threadsPerCore></cpuOptions>
<capacityReservationSpecification><capacityReservationPreference>open</capacityReservationPreference></capacityReservationSpecification>
<hibernationOptions><configured>false</configured></hibernationOptions><enclaveOptions><enabled>false</enabled></enclaveOptions>
<metadataOptions><state>applied</state><httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit>
<httpEndpoint>enabled</httpEndpoint><httpProtocolIpv6>disabled</httpProtocolIpv6><instanceMetadataTags>disabled</instanceMetadataTags>
</metadataOptions><maintenanceOptions><autoRecovery>default</autoRecovery></maintenanceOptions><currentInstanceBootMode>legacy-bios
</currentInstanceBootMode><usageOperation>RunInstances</usageOperation><usageOperationUpdateTime>2026-07-01T12:00:00.000Z
</usageOperationUpdateTime></item></instancesSet></item>"""


def item(number: int) -> str:
    """Return one reservation with its instance, as EC2 writes it."""
    tags = {
        "Name": f"web-{number}",
        "labtool:lab": "bench",
        "labtool:group": "web",
        "labtool:index": str(number),
        "labtool:indexes": "0-999",
        "labtool:login": "admin",
        "labtool:owner": "bench",
        "labtool:reach": "private",
        "labtool:expires": "2027-07-01T12:00:00Z",
    }
    text = "".join(f"<item><key>{key}</key><value>{value}</value></item>" for key, value in tags.items())
    return ITEM.format(n=number, high=number // 250, low=number % 250 + 4, tags=text)


def pages(hosts: int) -> list[bytes]:
    """Return the answers to DescribeInstances, page after page."""
    items = [item(number) for number in range(hosts)]
    made = []
    for first in range(0, hosts, PAGE):
        token = f"<nextToken>{first // PAGE + 1}</nextToken>" if first + PAGE < hosts else ""
        made.append(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId>'
            f"<reservationSet>{''.join(items[first : first + PAGE])}</reservationSet>{token}"
            "</DescribeInstancesResponse>".encode()
        )
    return made


def serve(answers: list[bytes], latency_s: float, asked: list[str]) -> ThreadingHTTPServer:
    """Answer DescribeInstances on loopback; what was asked is added to `asked`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = dict(urllib.parse.parse_qsl(body))
            asked.append(form["Action"])
            known = form["Action"] == "DescribeInstances"
            answer = answers[int(form.get("NextToken", 0))] if known else b""
            time.sleep(latency_s)
            self.send_response(200 if known else 400)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def bare(url: str, amount: int) -> float:
    """Return how long the requests take, with nothing made of the answers."""
    began = time.perf_counter()
    for number in range(amount):
        body = urllib.parse.urlencode({"Action": "DescribeInstances", "NextToken": number}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data=body)) as answer:
            answer.read()
    return time.perf_counter() - began


def know_the_hosts(home: Path, hosts: int) -> None:
    """Write down what labtool keeps about a lab that it has connected to."""
    folder = home / "labs" / "aws-us-east-1" / "bench"
    (folder / "host-keys").mkdir(parents=True)
    (folder / "id_ed25519").write_text("not read by the inventory\n")
    for number in range(hosts):
        (folder / "host-keys" / f"i-{number:017x}").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA\n")


def run(command: list[str], environment: dict[str, str], folder: Path) -> tuple[float, dict[str, Any]]:
    """Return how long a program takes, and the inventory that it prints."""
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr)
    return took, json.loads(done.stdout)


def main() -> None:
    """Run both in turn and print what each takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds from a question to its answer")
    given = parser.parse_args()

    fetched = [sys.executable, str(ROOT / "tools" / "amazon_aws.py")]
    collections = subprocess.run(fetched, capture_output=True, text=True, check=True).stdout.strip()
    asked: list[str] = []
    answers = pages(given.hosts)
    server = serve(answers, given.latency, asked)
    url = f"http://127.0.0.1:{server.server_port}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        know_the_hosts(folder / "home", given.hosts)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "LABTOOL_", "ANSIBLE_"))},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "LABTOOL_CLOUD": "aws",
            "LABTOOL_LAB": "bench",
            "LABTOOL_REGION": "us-east-1",
            "LABTOOL_HOME": str(folder / "home"),
            "LABTOOL_PROXY_JUMP": "jump",  # or it would see whether the first host answers
            "ANSIBLE_COLLECTIONS_PATH": collections,
        }
        ours = [sys.executable, str(ROOT / "inventory" / "labtool.py"), "--list"]
        theirs = ["ansible-inventory", "-i", str(ROOT / "inventory" / "labtool.aws_ec2.yml"), "--list"]
        rounds = []
        for number in range(given.rounds + 1):
            api = bare(url, len(answers))
            mine, inventory = run(ours, environment, folder)
            plugin, other = run(theirs, environment, folder)
            if inventory["web"]["hosts"] != [f"web-{n}" for n in range(given.hosts)]:
                sys.exit("labtool's inventory is not the hosts that were answered")
            if sorted(other["web"]["hosts"]) != sorted(inventory["web"]["hosts"]):
                sys.exit("the two inventories differ")
            if number:  # the first warms the page cache
                rounds.append((api, mine, plugin))
    server.shutdown()
    api, mine, plugin = (statistics.median(side) for side in zip(*rounds, strict=True))
    beyond = mine - api
    holds = "holds" if beyond <= 0.5 and plugin / mine >= 15 else "does not hold"
    print(
        f"{given.hosts} hosts, {sum(map(len, answers)) / 1e6:.1f} MB, API {api:.2f} s, "
        f"{len(asked) // (3 * (given.rounds + 1))} request(s) each, medians of {given.rounds}:\n"
        f"  labtool {mine:.2f} s, {beyond:.2f} s beyond the API (≤ 0.5)\n"
        f"  amazon.aws.aws_ec2 {plugin:.2f} s, {plugin - api:.2f} s beyond the API\n"
        f"  ratio {plugin / mine:.1f} (≥ 15), beyond the API {(plugin - api) / beyond:.1f}: {holds}"
    )


if __name__ == "__main__":
    main()
