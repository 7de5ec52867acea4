"""Whether what is said of a Spark job's time comes true: predicted in one run, measured in another.

    python benchmarks/explaining.py [network] [workers] [--rounds 3] [--size 256] [--rate 40] [--at-most 0.28]

network: a sort on two workers whose hosts may send `--rate` Mbit/s (tbf) is explained; then the limit goes, and the
same sort is measured. Held against each other are how much sooner it would end with an infinitely fast network (blocked
time, what is known to be the network's) and how much sooner it did. workers: k-means on one worker is explained; then a
second worker joins, and what twice the workers were said to give is held against what they gave. Each round runs both
in turn, and the error is of the medians. Needs the local cloud, or any where hosts may shape their own traffic.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from labtool.analysis.explained import Explained, explain
from labtool.analysis.load import load
from labtool.dataset.run import RunDirectory

LABTOOL = Path(sysconfig.get_path("scripts")) / "labtool"
LAB = "bench-explaining"
PARTS = ("network", "workers")


@dataclass(frozen=True)
class Said:
    """Seconds: what a job took, what it was said to take if one thing changed, and between what that was to lie."""

    took_s: float
    expected_s: float
    best_s: float
    worst_s: float


def labtool(folder: str, *words: str) -> None:
    """Run labtool in `folder`."""
    named = {**os.environ, "LABTOOL_LAB": LAB}
    done = subprocess.run([LABTOOL, *words], cwd=folder, env=named, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"labtool {' '.join(words)} failed\n{done.stdout}{done.stderr}")


def job(folder: str, *words: str) -> Explained:
    """Run a job; return what is worked out of it."""
    labtool(folder, "run", "spark-job", *words, "--yes")
    found = explain(load(RunDirectory(Path(folder) / "runs" / LAB / "latest")))
    if not found or not found[0].trusted:
        raise SystemExit("re-scheduling does not give the job's own time back: nothing can be said of another")
    return found[0]


def without_network(one: Explained) -> Said:
    """Return what the job would take with an infinitely fast network."""
    (told,) = (each for each in one.blocked.what_ifs if each.what == "network")
    return Said(one.blocked.measured_s, told.told_s, told.most_s, told.told_s)


def with_workers(one: Explained) -> Said:
    """Return what the job would take with twice the workers."""
    (told,) = (each for each in one.predictions if each.change == "workers")
    return Said(one.blocked.measured_s, told.seconds, told.best_s, told.worst_s)


def network(folder: str, given: argparse.Namespace) -> tuple[list[Said], list[float]]:
    """Return what was said under the limit, and what the sort took without it."""
    labtool(folder, "deploy", "spark-cluster", "--workers", "2", "--yes")
    shape = f"sudo tc qdisc replace dev eth0 root tbf rate {given.rate}mbit burst 64kb latency 200ms"
    sort = ("--job", "sort", "--size", str(given.size))
    said, after = [], []
    for _ in range(given.rounds):
        labtool(folder, "exec", "--on", "spark_worker", "--", shape)
        said.append(without_network(job(folder, *sort)))
        labtool(folder, "exec", "--on", "spark_worker", "--", "sudo tc qdisc del dev eth0 root")
        after.append(job(folder, *sort).blocked.measured_s)
    return said, after


def workers(folder: str, given: argparse.Namespace) -> tuple[list[Said], list[float]]:
    """Return what was said on one worker, and what k-means took on two."""
    kmeans = ("--job", "kmeans", "--size", str(given.size), "--iterations", "10", "--partitions", "8")
    said, after = [], []
    for _ in range(given.rounds):
        labtool(folder, "down", "--yes")
        labtool(folder, "deploy", "spark-cluster", "--workers", "1", "--yes")
        said.append(with_workers(job(folder, *kmeans)))
        labtool(folder, "deploy", "spark-cluster", "--workers", "2", "--yes")
        after.append(job(folder, *kmeans).blocked.measured_s)
    return said, after


def report(part: str, said: list[Said], after: list[float]) -> float:
    """Print a part's numbers; return the error of the predicted improvement, as a share of the measured one."""
    took, expected, best, worst = (
        statistics.median(getattr(one, name) for one in said) for name in ("took_s", "expected_s", "best_s", "worst_s")
    )
    measured = statistics.median(after)
    gain = took - measured
    error = (took - expected - gain) / gain if gain > 0 else float("inf")
    off = f"off by {error:+.0%}" if gain > 0 else "it did not come"
    print(
        f"{part:8} took {took:6.1f} s; said {expected:6.1f} s ({best:.1f} to {worst:.1f}), measured {measured:6.1f} s: "
        f"improvement predicted {took - expected:.1f} s, measured {gain:.1f} s: {off}",
        flush=True,
    )
    return abs(error)


def main() -> None:
    """Run the parts that are named, and print what was said of each against what came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="network, workers (default: both)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=float, default=256, help="MiB of input")
    parser.add_argument("--rate", type=float, default=40, help="Mbit/s that a throttled host may send")
    parser.add_argument("--at-most", type=float, default=0.28)
    given = parser.parse_args()
    if wrong := [part for part in given.parts if part not in PARTS]:
        parser.error(f"there is no part {wrong[0]}: {', '.join(PARTS)}")
    worst = 0.0
    with TemporaryDirectory() as folder:
        try:
            for part in given.parts or PARTS:
                worst = max(worst, report(part, *{"network": network, "workers": workers}[part](folder, given)))
        finally:
            labtool(folder, "down", "--yes")
    if worst > given.at_most:
        sys.exit(f"off by more than {given.at_most:.0%}")
    print(json.dumps({"worst": round(worst, 3), "at_most": given.at_most}))


if __name__ == "__main__":
    main()
