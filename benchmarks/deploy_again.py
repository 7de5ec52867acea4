"""What a second `labtool deploy` takes of what the first took, from nothing.

    python benchmarks/deploy_again.py [STACK [OPTION …]] [--rounds 3] [--at-most 0.333]

Each round launches a new lab by deploying the stack (kafka-cluster, where none is named), deploys it again, which must
change nothing, and ends the lab. What is printed are medians and their ratio. Artifacts and host image are there
before the first round that counts. Any cloud: the settings are labtool's own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

LABTOOL = Path(sysconfig.get_path("scripts")) / "labtool"
LAB = "bench-again"


def labtool(*words: str) -> tuple[float, str]:
    """Run labtool; return the seconds it took and what it printed."""
    began = time.perf_counter()
    done = subprocess.run([LABTOOL, *words], capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"labtool {' '.join(words)} failed\n{done.stderr}")
    return took, done.stdout


def deploy(stack: list[str]) -> tuple[float, int]:
    """Deploy once; return seconds and the number of changes."""
    took, printed = labtool("deploy", *stack, "--lab", LAB, "--yes", "--json")
    return took, json.loads(printed)["changed"]


def main() -> int:
    """Measure and print; 1 if a second deploy changed something or the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-most", type=float, metavar="RATIO")
    arguments, stack = parser.parse_known_args()
    stack = stack or ["kafka-cluster"]
    first: list[float] = []
    second: list[float] = []
    changes = 0
    for number in range(arguments.rounds + 1):
        try:
            took, _ = deploy(stack)
            again, changed = deploy(stack)
        finally:
            labtool("down", "--lab", LAB, "--yes")
        kind = f"round {number}" if number else "not counted"
        print(f"{kind}: {took:.1f} s from nothing, {again:.1f} s again, {changed} changes", file=sys.stderr)
        if number:
            first.append(took)
            second.append(again)
            changes += changed
    ratio = statistics.median(second) / statistics.median(first)
    print(f"{' '.join(stack)}, medians of {arguments.rounds}")
    print(f"from nothing {statistics.median(first):6.1f} s")
    print(f"again        {statistics.median(second):6.1f} s   {ratio:.2f} of the first, {changes} changes")
    return int(changes > 0 or (arguments.at_most is not None and ratio > arguments.at_most))


if __name__ == "__main__":
    sys.exit(main())
