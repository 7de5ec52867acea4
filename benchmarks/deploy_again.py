"""What a second `labtool deploy` takes of what the first took, from nothing.

    python benchmarks/deploy_again.py [STACK [OPTION …]] [--rounds 3] [--at-most 0.333]

Each round launches a new lab by deploying the stack (kafka-cluster, where none is named), deploys it again, which must
change nothing, and ends the lab. What is printed are medians and their ratio, and the processor time of labtool and
Ansible on this machine (not the hosts'), which says more where others use it too. Artifacts and host image are there
before the first round that counts. Any cloud: the settings are labtool's own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, replace
from pathlib import Path

LABTOOL = Path(sysconfig.get_path("scripts")) / "labtool"
LAB = "bench-again"


@dataclass(frozen=True)
class Took:
    """What one call of labtool took."""

    wall_s: float
    processor_s: float
    changed: int = 0


def processor_s() -> float:
    """Return the processor time of all processes that this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def labtool(*words: str) -> tuple[Took, str]:
    """Run labtool; return what it took and what it printed."""
    began, used = time.perf_counter(), processor_s()
    done = subprocess.run([LABTOOL, *words], capture_output=True, text=True, check=False)
    took = Took(time.perf_counter() - began, processor_s() - used)
    if done.returncode:
        raise SystemExit(f"labtool {' '.join(words)} failed\n{done.stderr}")
    return took, done.stdout


def deploy(stack: list[str]) -> Took:
    """Deploy once; return what it took and changed."""
    took, printed = labtool("deploy", *stack, "--lab", LAB, "--yes", "--json")
    return replace(took, changed=json.loads(printed)["changed"])


def main() -> int:
    """Measure and print; 1 if a second deploy changed something or the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-most", type=float, metavar="RATIO")
    arguments, stack = parser.parse_known_args()
    stack = stack or ["kafka-cluster"]
    first: list[Took] = []
    second: list[Took] = []
    for number in range(arguments.rounds + 1):
        try:
            once = deploy(stack)
            again = deploy(stack)
        finally:
            labtool("down", "--lab", LAB, "--yes")
        kind = f"round {number}" if number else "not counted"
        print(
            f"{kind}: {once.wall_s:.1f} s from nothing, {again.wall_s:.1f} s again ({again.processor_s:.1f} s of "
            f"processor time), {again.changed} changes",
            file=sys.stderr,
        )
        if number:
            first.append(once)
            second.append(again)
    changes = sum(took.changed for took in second)
    ratio = statistics.median(took.wall_s for took in second) / statistics.median(took.wall_s for took in first)
    print(f"{' '.join(stack)}, medians of {arguments.rounds}")
    for name, times, more in (
        ("from nothing", first, ""),
        ("again", second, f"   {ratio:.2f} of the first, {changes} changes"),
    ):
        wall, processor = (statistics.median(column) for column in zip(*map(seconds, times), strict=True))
        print(f"{name:12} {wall:6.1f} s, {processor:5.1f} s of processor time{more}")
    return int(changes > 0 or (arguments.at_most is not None and ratio > arguments.at_most))


def seconds(took: Took) -> tuple[float, float]:
    """Return wall time and processor time."""
    return took.wall_s, took.processor_s


if __name__ == "__main__":
    sys.exit(main())
