"""Collection of 3 hosts × 200 MB of logs: labtool's streams against `ansible.builtin.fetch`, in turn, in one run.

    python benchmarks/collect_logs.py --lab LAB                               hosts of a running lab
    python benchmarks/collect_logs.py --key K --known-hosts F --login U ADDRESS ADDRESS ADDRESS

The hosts need roles/collector. Both sides get the same files, over the same SSH connections, with the same inventory;
fetch has pipelining and a fork per host, and its files are found by `find` first. Logs belong to their service and are
not for everybody (mode 0640), so fetch needs `become`; --readable makes them 0644 and leaves it out. The bound is 10.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labtool import ssh
from labtool.ansible.inventory import of_lab
from labtool.cli.connect import connect_existing, settings
from labtool.cloud import find, keys
from labtool.collect import gather
from labtool.dataset import compressed
from labtool.dataset.run import RunDirectory
from labtool.progress import Silent
from labtool.topology import Host, Lab

BOUND = 10.0
LOGS = "/var/log/labtool-benchmark"
DECLARATION = "/etc/labtool/logs.d/benchmark.conf"

# Lines as a broker writes them: few shapes, many numbers.
WRITE = f"""
import os, random, sys
seed, files, size, mode = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4], 8)
r = random.Random(seed)
os.makedirs("{LOGS}", exist_ok=True)
shapes = (
    "INFO [ReplicaFetcherManager on broker %(b)d] Removed fetcher for partitions Set(topic-%(t)d-%(p)d)",
    "INFO [Log partition=topic-%(t)d-%(p)d, dir=/var/lib/kafka] Rolled new log segment at offset %(o)d in %(m)d ms.",
    "INFO [GroupCoordinator %(b)d]: Stabilized group consumer-%(t)d generation %(g)d with %(p)d members",
    "WARN [ReplicaManager broker=%(b)d] Fetch of topic-%(t)d-%(p)d took %(m)d ms, offset %(o)d, leader epoch %(g)d",
    "INFO [ProducerStateManager partition=topic-%(t)d-%(p)d] Wrote snapshot at offset %(o)d, %(h)032x in %(m)d ms",
    "DEBUG [RequestSendThread controllerId=%(b)d] Sent %(h)016x to broker %(p)d, correlation %(o)d, %(m)d.%(g)03d ms",
)
at = 1.7e9
for number in range(files):
    with open("{LOGS}/server.log.%d" % number, "w") as f:
        written = 0
        while written < size:
            lines = []
            for _ in range(2000):
                at += r.expovariate(200)
                stamp = "[%d-%02d-%02d %02d:%02d:%02d,%03d] " % (
                    2026, 1 + at % 12, 1 + at // 86400 % 28, at // 3600 % 24, at // 60 % 60, at % 60, at * 1000 % 1000)
                lines.append(stamp + r.choice(shapes) % dict(
                    b=r.randrange(3), t=r.randrange(40), p=r.randrange(12), o=r.getrandbits(34), m=r.randrange(900),
                    g=r.randrange(1000), h=r.getrandbits(64)))
            text = "\\n".join(lines) + "\\n"
            f.write(text); written += len(text)
    os.chmod("{LOGS}/server.log.%d" % number, mode)
os.makedirs("/etc/labtool/logs.d", exist_ok=True)
open("{DECLARATION}", "w").write("file {LOGS}/*.log*\\n")
"""

PLAYBOOK = """
- hosts: all
  gather_facts: false
  become: {become}
  tasks:
    - ansible.builtin.find:
        paths: {logs}
      register: found
    - ansible.builtin.fetch:
        src: "{{{{ item.path }}}}"
        dest: {into}
      loop: "{{{{ found.files }}}}"
      loop_control:
        label: "{{{{ item.path }}}}"
"""


def main() -> None:
    """Write the logs, collect them both ways in turn, print seconds and ratio; exit 1 below the bound."""
    given = arguments()
    lab, access = of_a_lab(given.lab) if given.lab else plain(given)
    lab = Lab(lab.name, lab.region, lab.running[: given.hosts])
    mode = "644" if given.readable else "640"
    size = given.megabytes * 1_000_000 // given.files
    print(f"{len(lab)} hosts × {given.megabytes} MB in {given.files} files of mode 0{mode}")
    try:
        writers = [
            remote(access, host, f"sudo python3 -c {shlex.quote(WRITE)} {number} {given.files} {size} {mode}")
            for number, host in enumerate(lab)
        ]
        for writer in writers:
            finish(writer)
        ours, theirs = [], []
        with tempfile.TemporaryDirectory(dir=given.into) as folder:
            for number in range(given.rounds):
                theirs.append(fetch(lab, access, Path(folder), become=not given.readable))
                ours.append(collect(lab, access, Path(folder)))
                print(f"round {number + 1}: fetch {theirs[-1]:.2f} s, labtool {ours[-1]:.2f} s")
    finally:
        for host in lab:
            finish(remote(access, host, f"sudo rm -rf {LOGS} {DECLARATION}"))
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"fetch / labtool = {ratio:.1f} (bound: at least {BOUND:g})")
    sys.exit(ratio < BOUND)


def collect(lab: Lab, access: ssh.Access, folder: Path) -> float:
    """Gather with labtool and check that every byte came; return the seconds of the gathering."""
    now = datetime.now(UTC)
    run = RunDirectory.create(folder, lab.name, "collect", now)
    start = time.perf_counter()
    got = gather.gather(access, lab.hosts, run, now - timedelta(hours=1), now)
    elapsed = time.perf_counter() - start
    if got.missing:
        sys.exit("\n".join(f"{one.host}: {one.what}: {one.why}" for one in got.missing))
    for host in lab:
        check(host, sorted((run.logs / host.name / "files" / LOGS[1:]).iterdir()), access)
    sent = sum(result.bytes for result in got.hosts.values())
    print(f"  labtool moved {sent / 1e6:.0f} MB")
    shutil.rmtree(run.path)
    return elapsed


def fetch(lab: Lab, access: ssh.Access, folder: Path, *, become: bool) -> float:
    """Fetch with Ansible and check that every byte came; return the seconds of the playbook."""
    into = folder / "fetched"
    playbook, inventory = folder / "fetch.yml", folder / "inventory.json"
    playbook.write_text(PLAYBOOK.format(become=str(become).lower(), logs=LOGS, into=into))
    inventory.write_text(json.dumps(static(of_lab(lab, access))))
    settings_file = folder / "ansible.cfg"
    settings_file.write_text(f"[defaults]\nforks = {len(lab)}\n[ssh_connection]\npipelining = true\n")
    start = time.perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, playbook],
        env=os.environ | {"ANSIBLE_CONFIG": str(settings_file)},
        capture_output=True,
        text=True,
        check=False,
    )
    elapsed = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    for host in lab:
        check(host, sorted((into / host.name / LOGS[1:]).iterdir()), access)
    shutil.rmtree(into)
    return elapsed


def check(host: Host, files: list[Path], access: ssh.Access) -> None:
    """Compare the size of what came with what the host has."""
    process = remote(access, host, f"sudo du -cb {LOGS}/* | tail -1")
    wanted = int(finish(process).split()[0])
    # Without this a side that lost a file would be the faster one.
    got = 0
    for file in files:
        with compressed.reader(file) as stream:
            while piece := stream.read(1 << 20):
                got += len(piece)
    if got != wanted:
        sys.exit(f"{host.name}: {got} bytes came of {wanted}")


def remote(access: ssh.Access, host: Host, line: str) -> subprocess.Popen[str]:
    """Start a shell line on a host."""
    return subprocess.Popen(ssh.command(access, host, line), stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a remote line and return what it printed."""
    said, _ = process.communicate()
    if process.returncode:
        sys.exit(f"a command on a host ended with {process.returncode}")
    return said


def static(inventory: dict[str, object]) -> dict[str, object]:
    """Turn the script protocol's form into a file's: one group with all hosts and their variables."""
    meta = inventory["_meta"]
    assert isinstance(meta, dict)
    return {"all": {"hosts": meta["hostvars"]}}


def of_a_lab(name: str) -> tuple[Lab, ssh.Access]:
    """Return a running lab of the settings' cloud."""
    session = connect_existing(settings(lab=name), Silent())
    lab = find.need_hosts(find.find_lab(session, name))
    keys.learn(session, name, lab.running)
    return lab, keys.need_key(session, name)


def plain(given: argparse.Namespace) -> tuple[Lab, ssh.Access]:
    """Return hosts that no cloud knows."""
    hosts = tuple(
        Host(f"host-{n}", "host", n, "", "running", "", address, address, "", "", given.login, datetime.now(UTC))
        for n, address in enumerate(given.address)
    )
    control = Path(tempfile.mkdtemp(prefix="lt-"))
    atexit.register(shutil.rmtree, control, ignore_errors=True)
    return Lab("benchmark", "", hosts), ssh.Access(given.key, given.known_hosts, control)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="*")
    parser.add_argument("--lab")
    parser.add_argument("--key", type=Path)
    parser.add_argument("--known-hosts", type=Path)
    parser.add_argument("--login", default="admin")
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=200, help="a host")
    parser.add_argument("--files", type=int, default=10, help="a host")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readable", action="store_true", help="logs that anybody may read: fetch without become")
    parser.add_argument("--into", type=Path, help="folder for what is collected. [default: the system's temporary]")
    given = parser.parse_args()
    if not given.lab and not (given.address and given.key and given.known_hosts):
        parser.error("name a --lab, or --key, --known-hosts and addresses")
    return given


if __name__ == "__main__":
    main()
