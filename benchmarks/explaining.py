"""Whether what is said of a Spark job's time comes true: predicted in one run, measured in another.

    python benchmarks/explaining.py [network] [workers] [disk] [--rounds 2] [--size 192] [--at-most 0.28]

Two workers of one vCPU each. In each round a part runs its job twice, and every other round the other way round; the
errors are of the medians.

network   a sort on hosts that may send `--rate` Mbit/s (tbf) is explained, and the same sort measured without that
          limit. Held against each other are how much sooner it would end with an infinitely fast network (blocked time,
          what is known to be the network's) and how much sooner it did.
workers   a word count on one worker is explained, and measured on two: what twice the workers were said to give. It
          computes for most of its time; k-means plans and waits for its driver, which a second worker does not help.
          Local workers share the machine with its driver and each other: each has but `--processors` of it, so that
          the second brings what the first has.
disk      a word count of what lies on the hosts' disks is explained where they may read `--read` MiB/s, and measured
          without that limit: what an infinitely fast disk was said to give. The limit is that of the hosts' cgroups:
          this part is of the local cloud, as root. Where its kernel does not hold back such reads it says so.

Each part says whether its error is at most `--at-most`; the end is a failure where one is more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from limits import limit_processors, limit_reads

from labtool.analysis.explained import Explained, explain
from labtool.analysis.load import load
from labtool.cli.connect import reach, settings
from labtool.config import Settings
from labtool.dataset.run import RunDirectory

LABTOOL = Path(sysconfig.get_path("scripts")) / "labtool"
LAB = "bench-explaining"
TYPE, VCPUS = "t2.small", 1.0
DEPLOY = ("deploy", "spark-cluster", "--workers", "2", "--type", TYPE, "--yes")
HELD = 1.5
"""A disk that reads faster than this times its limit is not held back by it."""

PROBE_MIB = 16
PROBE = f"""
import os, time
path = "/var/lib/spark/probe"
with open(path, "wb") as file:
    file.write(os.urandom({PROBE_MIB} << 20))
    file.flush()
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
began = time.monotonic()
with open(path, "rb", buffering=0) as file:
    while file.read(1 << 20):
        pass
print({PROBE_MIB} / (time.monotonic() - began))
os.unlink(path)
"""
"""Write a file, have the kernel drop it from memory, read it, and print how fast that was, in MiB/s."""


class CannotError(Exception):
    """A part that this machine cannot carry, and why."""


@dataclass(frozen=True)
class Said:
    """Seconds: what a job took, what it was said to take if one thing changed, and between what that was to lie."""

    took_s: float
    expected_s: float
    best_s: float
    worst_s: float


@dataclass(frozen=True)
class Held:
    """What was said in every round, and what was measured."""

    said: list[Said]
    measured_s: list[float]

    def median(self, name: str) -> float:
        """Return the median of one of what was said."""
        return statistics.median(getattr(one, name) for one in self.said)

    @property
    def predicted(self) -> float:
        """By how much sooner it was said to end (s)."""
        return self.median("took_s") - self.median("expected_s")

    @property
    def gained(self) -> float:
        """By how much sooner it did (s)."""
        return self.median("took_s") - statistics.median(self.measured_s)

    @property
    def error(self) -> float:
        """The error of the predicted improvement, as a share of the measured one."""
        return (self.predicted - self.gained) / self.gained if self.gained > 0 else float("inf")


def labtool(folder: str, *words: str) -> str:
    """Run labtool in `folder`; return what it printed."""
    named = {**os.environ, "LABTOOL_LAB": LAB}
    done = subprocess.run([LABTOOL, *words], cwd=folder, env=named, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"labtool {' '.join(words)} failed\n{done.stdout}{done.stderr}")
    return done.stdout


def job(folder: str, *words: str) -> Explained:
    """Run a job; return what is worked out of it."""
    labtool(folder, "run", "spark-job", *words, "--yes")
    found = explain(load(RunDirectory(Path(folder) / "runs" / LAB / "latest")))
    if not found or not found[0].trusted:
        raise SystemExit("re-scheduling does not give the job's own time back: nothing can be said of another")
    return found[0]


def without(one: Explained, what: str) -> Said:
    """Return what the job would take without waiting for one thing."""
    (told,) = (each for each in one.blocked.what_ifs if each.what == what)
    return Said(one.blocked.measured_s, told.told_s, told.most_s, told.told_s)


def with_workers(one: Explained) -> Said:
    """Return what the job would take with twice the workers."""
    (told,) = (each for each in one.predictions if each.change == "workers")
    return Said(one.blocked.measured_s, told.seconds, told.best_s, told.worst_s)


def rounds(count: int, explained: Callable[[], Said], measured: Callable[[], float]) -> Held:
    """Run both in turn, every other round the other way round: what drifts is in both alike."""
    held = Held([], [])
    for number in range(count):
        steps = [lambda: held.said.append(explained()), lambda: held.measured_s.append(measured())]
        for step in steps if number % 2 == 0 else reversed(steps):
            step()
    return held


def instances_of(chosen: Settings) -> list[str]:
    """Return the workers' instances."""
    lab, _ = reach(chosen)
    return [host.instance_id for host in lab.running if host.group == "spark_worker"]


def network(folder: str, given: argparse.Namespace) -> Held:
    """Hold an infinitely fast network against one without a limit."""
    shape = f"sudo tc qdisc replace dev eth0 root tbf rate {given.rate}mbit burst 64kb latency 200ms"
    sort = ("--job", "sort", "--size", str(given.size))

    def limited() -> Said:
        labtool(folder, "exec", "--on", "spark_worker", "--", shape)
        try:
            return without(job(folder, *sort), "network")
        finally:
            labtool(folder, "exec", "--on", "spark_worker", "--", "sudo tc qdisc del dev eth0 root")

    return rounds(given.rounds, limited, lambda: job(folder, *sort).blocked.measured_s)


def workers(folder: str, given: argparse.Namespace) -> Held:
    """Hold twice the workers against a second one, each with processors that no other host has."""
    chosen = settings(lab=LAB)
    if chosen.cloud != "local":
        return one_and_two(folder, given)
    instances = instances_of(chosen)
    limit_processors(chosen, instances, given.processors)
    try:
        return one_and_two(folder, given)
    finally:
        limit_processors(chosen, instances, VCPUS)


def one_and_two(folder: str, given: argparse.Namespace) -> Held:
    """Explain a job on one worker, and measure it on two."""
    count = ("--job", "wordcount", "--size", str(given.size), "--partitions", "16")

    def alone() -> Said:
        labtool(folder, "exec", "--on", "spark_worker-1", "--", "sudo systemctl stop spark-worker")
        try:
            return with_workers(job(folder, *count))
        finally:
            labtool(folder, *DEPLOY)  # it starts the worker again, and waits until the master counts it

    return rounds(given.rounds, alone, lambda: job(folder, *count).blocked.measured_s)


def disk(folder: str, given: argparse.Namespace) -> Held:
    """Hold an infinitely fast disk against one without a limit."""
    chosen = settings(lab=LAB)
    if chosen.cloud != "local":
        raise CannotError("a host's disk is limited from the machine that carries it, and these hosts are elsewhere")
    instances = instances_of(chosen)
    count = ("--job", "wordcount", "--size", str(given.size / 2), "--input", "disk", "--partitions", "8")
    speed = (folder, "exec", "--json", "--on", "spark_worker-0", "--", f"sudo python3 -c '{PROBE}'")

    def limited() -> Said:
        limit_reads(chosen, instances, given.read)
        try:
            read = float(json.loads(labtool(*speed))[0]["output"])
            if read > HELD * given.read:
                raise CannotError(f"this kernel let a host read {read:.0f} MiB/s, where {given.read:g} was the limit")
            return without(job(folder, *count), "disk")
        finally:
            limit_reads(chosen, instances, None)

    return rounds(given.rounds, limited, lambda: job(folder, *count).blocked.measured_s)


PARTS: dict[str, Callable[[str, argparse.Namespace], Held]] = {"network": network, "workers": workers, "disk": disk}


def report(part: str, held: Held, at_most: float) -> bool:
    """Print a part's numbers; return True where its bound holds."""
    holds = abs(held.error) <= at_most
    took, expected, best, worst = (held.median(name) for name in ("took_s", "expected_s", "best_s", "worst_s"))
    off = f"off by {held.error:+.0%}" if held.gained > 0 else "it did not come"
    print(
        f"{part:8} took {took:6.1f} s; said {expected:6.1f} s ({best:.1f} to {worst:.1f}), measured "
        f"{statistics.median(held.measured_s):6.1f} s: improvement predicted {held.predicted:.1f} s, measured "
        f"{held.gained:.1f} s: {off}, {'holds' if holds else 'DOES NOT HOLD'}",
        flush=True,
    )
    for said, measured in zip(held.said, held.measured_s, strict=True):
        print(f"         {said.took_s:.1f} s, said {said.expected_s:.1f} s, measured {measured:.1f} s", flush=True)
    return holds


def main() -> None:
    """Run the parts that are named, and print what was said of each against what came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="network, workers, disk (default: all)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=float, default=192, help="MiB of input; of what lies on disk half of it")
    parser.add_argument("--rate", type=float, default=20, help="Mbit/s that a throttled host may send")
    parser.add_argument("--read", type=float, default=2, help="MiB/s that a throttled host may read from its disk")
    parser.add_argument("--processors", type=float, default=0.5, help="of the machine's that each local worker has")
    parser.add_argument("--at-most", type=float, default=0.28)
    parser.add_argument("--runs", metavar="FOLDER", help="keep the runs with their reports here")
    given = parser.parse_args()
    if wrong := [part for part in given.parts if part not in PARTS]:
        parser.error(f"there is no part {wrong[0]}: {', '.join(PARTS)}")
    missed = []
    with TemporaryDirectory() as temporary:
        folder = given.runs or temporary
        Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            labtool(folder, *DEPLOY)
            for part in given.parts or PARTS:
                try:
                    held = PARTS[part](folder, given)
                except CannotError as error:
                    print(f"{part:8} cannot be held against anything here: {error}", flush=True)
                    continue
                except SystemExit as error:  # the other parts go on
                    print(f"{part:8} failed: {error}", flush=True)
                    missed.append(part)
                    continue
                if not report(part, held, given.at_most):
                    missed.append(part)
        finally:
            labtool(folder, "down", "--yes")
    if missed:
        sys.exit(f"failed, or off by more than {given.at_most:.0%}: {', '.join(missed)}")


if __name__ == "__main__":
    main()
