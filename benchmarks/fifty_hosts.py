"""What a local host costs where there are fifty, against where there are ten: time, memory, processors.

    python benchmarks/fifty_hosts.py [--few 10] [--many 50] [--type t3.micro] [--watch 15] [--at-most 1.5]

For each number: `labtool up` from a running local cloud, the collector on every host, a watch of what the idle hosts
take, `labtool down`. Printed are seconds, memory (as the machine loses it) and processors for each host, and their
ratios; 1.0 is a cost that grows with the hosts and no faster. The settings are labtool's own. Needs the local cloud.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from labtool import content
from labtool.ansible import inventory
from labtool.ansible.runner import run_playbook
from labtool.cli.connect import reach, settings

LABTOOL = Path(sysconfig.get_path("scripts")) / "labtool"
LAB = "bench-many"


@dataclass(frozen=True)
class Cost:
    """What one host costs: seconds of waiting for it, bytes, processors."""

    up_s: float
    collector_s: float
    down_s: float
    memory_mib: float
    busy: float


def labtool(*words: str) -> float:
    """Run labtool; return the seconds it took."""
    began = time.perf_counter()
    done = subprocess.run([LABTOOL, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"labtool {' '.join(words)} failed\n{done.stderr}")
    return time.perf_counter() - began


def collect() -> float:
    """Run the collector's playbook; return the seconds it took."""
    lab, access = reach(settings(lab=LAB))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        run_playbook(content.playbooks() / "collector.yml", inventory.of_lab(lab, access), log=log).check()
    return time.perf_counter() - began


def available_mib() -> float:
    """Return the memory that the machine can still give."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) / 1024


def busy(seconds: float) -> float:
    """Return how many processors the machine uses over some seconds."""

    def used() -> float:
        user, nice, system, _idle, _wait, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
        return (user + nice + system + irq + soft) / 100  # USER_HZ

    began, before = time.perf_counter(), used()
    time.sleep(seconds)
    return (used() - before) / (time.perf_counter() - began)


def measure(hosts: int, kind: str, watch_s: float) -> Cost:
    """Return what each of so many hosts costs."""
    free, idle = available_mib(), busy(watch_s)
    try:
        up = labtool("up", f"n={hosts}", "--type", kind, "--lab", LAB, "--yes")
        collector = collect()
        time.sleep(5)
        took, lost = busy(watch_s) - idle, free - available_mib()
    finally:
        down = labtool("down", "--lab", LAB, "--yes")
    return Cost(up / hosts, collector / hosts, down / hosts, lost / hosts, took / hosts)


def main() -> int:
    """Measure and print; 1 where a host among many takes more time than the bound says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=50)
    parser.add_argument("--type", default="t3.micro")
    parser.add_argument("--watch", type=float, default=15.0, metavar="SECONDS")
    parser.add_argument("--at-most", type=float, metavar="RATIO", help="of the time to bring a host up and collect")
    arguments = parser.parse_args()
    labtool("cloud", "start")
    few, many = (measure(count, arguments.type, arguments.watch) for count in (arguments.few, arguments.many))
    print(f"each of          {arguments.few:>8} hosts {arguments.many:>8} hosts    ratio")
    for name in ("up_s", "collector_s", "down_s", "memory_mib", "busy"):
        a, b = getattr(few, name), getattr(many, name)
        print(f"{name:<14} {a:14.3f} {b:14.3f} {b / a if a > 0 else float('nan'):8.2f}")
    ratio = (many.up_s + many.collector_s) / (few.up_s + few.collector_s)
    return int(arguments.at_most is not None and ratio > arguments.at_most)


if __name__ == "__main__":
    sys.exit(main())
