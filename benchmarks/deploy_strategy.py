"""One playbook under Ansible's default settings, under labtool's with `linear`, and with mitogen: times and ratios.

    python benchmarks/deploy_strategy.py PLAYBOOK --lab LAB
    python benchmarks/deploy_strategy.py PLAYBOOK -i INVENTORY -e kafka_version=4.3.0
    python benchmarks/deploy_strategy.py PLAYBOOK --lab LAB --reset 'labtool exec all -- sudo /root/undo'

`--modes mitogen-alone,mitogen` compares mitogen's own strategy with labtool's, which leaves processes on every core.

The modes take turns, `--rounds` times; what is printed are medians. `--reset` is a shell command that puts the hosts
back to where a first deploy starts, and runs before each mode, outside the time measured; then the second run, which
must change nothing, is measured too. Without it every run is one that has nothing to do. Shared SSH connections are
closed before each run. With `--at-least 2.5` it fails unless mitogen is that much faster than the defaults.

`--away 80` lets the hosts seem to be 80 ms away (benchmarks/far.py), as those of a cloud's region are: settings save
round trips, which cost nothing between containers of one machine.

Where a task waits for what the services themselves do, Ansible's settings cannot shorten it. The longest tasks are
printed with their times; `--apart 'kafka : (Format|Start|Wait|Write a record)'` adds those of such tasks up, and gives
the ratio of what is left.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import resource
import shlex
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible_mitogen

from labtool.ansible import command as commands
from labtool.ansible import inventory as inventories
from labtool.ansible.command import PlayCommand
from labtool.ansible.events import Event, PlaybookFinished, TaskStarted
from labtool.ansible.result import PlayResult
from labtool.ansible.runner import execute
from labtool.cli.connect import connect_existing, settings
from labtool.cloud import find, keys
from labtool.progress import Silent

# What ansible-core does where nobody says anything: https://docs.ansible.com/ansible/latest/reference_appendices/config.html
DEFAULTS = {
    "ANSIBLE_PIPELINING": "0",
    "ANSIBLE_TIMEOUT": "10",
    "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=60s",
}
DEFAULT_FORKS = 5
MODES = ("defaults", "linear", "mitogen")
ALONE = "mitogen-alone"
LONGEST = 12  # tasks shown


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run of one mode."""

    result: PlayResult
    cpu_s: float  # of this machine: Ansible and everything it started here
    tasks: Mapping[str, float]  # title → seconds until the next began


class Tasks:
    """Notes how long each task of a playbook takes: until the next one begins."""

    def __init__(self) -> None:
        self.took: dict[str, float] = {}
        self._open: TaskStarted | None = None

    def notice(self, event: Event) -> None:
        """Take note of `event`."""
        if not isinstance(event, TaskStarted | PlaybookFinished):
            return
        if self._open is not None:
            title = self._open.title
            self.took[title] = self.took.get(title, 0.0) + (event.time - self._open.time).total_seconds()
        self._open = event if isinstance(event, TaskStarted) else None


def main() -> int:
    """Measure and print; 1 if a playbook failed or a bound does not hold."""
    arguments = parse()
    inventory = of_lab(arguments.lab) if arguments.lab else of_source(arguments.inventory)
    names = inventories.hosts(inventory)
    if arguments.away:
        move_away(inventory, arguments.away)
    with tempfile.TemporaryDirectory() as folder:
        log, nothing_set = Path(folder) / "log", Path(folder) / "ansible.cfg"
        nothing_set.touch()
        made = {mode: build(mode, arguments, inventory, nothing_set) for mode in arguments.modes.split(",")}
        first: dict[str, list[Measured]] = {mode: [] for mode in made}
        second: dict[str, list[Measured]] = {mode: [] for mode in made}
        if not arguments.reset:
            print("one run that is not counted, so that all others find the same hosts …", file=sys.stderr)
            measure(made[next(reversed(made))], inventory, log)
        for number in range(arguments.rounds):
            for mode, command in made.items():
                if arguments.reset:
                    subprocess.run(arguments.reset, shell=True, check=True, stdout=subprocess.DEVNULL)
                for runs in (first, second) if arguments.reset else (first,):
                    done = measure(command, inventory, log)
                    runs[mode].append(done)
                    kind = "second" if runs is second else "first" if arguments.reset else "run"
                    print(f"round {number + 1}: {mode} ({kind}): {done.result.elapsed_s:.1f} s", file=sys.stderr)
    show(first, "first run, on hosts put back" if arguments.reset else "run that has nothing to do", len(names))
    if arguments.reset:
        show(second, "second run", len(names))
    compare_tasks(first, arguments.apart)
    return judge(first, second, arguments.at_least)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("playbook", type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--lab", help="a running lab")
    where.add_argument("-i", "--inventory", help="anything that ansible-inventory reads")
    parser.add_argument("-e", dest="extra", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--modes", default=",".join(MODES), help=f"some of %(default)s,{ALONE}")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--reset", metavar="COMMAND")
    parser.add_argument("--away", type=float, default=0.0, metavar="MS", help="round trip that is added to each host's")
    parser.add_argument("--at-least", type=float, metavar="RATIO")
    parser.add_argument("--apart", type=re.compile, metavar="REGEX", help="tasks in which the services take the time")
    return parser.parse_args()


def of_lab(name: str) -> Mapping[str, Any]:
    """Return the inventory of a running lab."""
    session = connect_existing(settings(lab=name), Silent())
    lab = find.need_hosts(find.find_lab(session, name))
    keys.learn(session, name, lab.running)
    return inventories.of_lab(lab, keys.need_key(session, name))


def of_source(source: str) -> Mapping[str, Any]:
    """Return the inventory that Ansible reads from `source`."""
    program = Path(sysconfig.get_path("scripts")) / "ansible-inventory"
    listed = subprocess.run([program, "-i", source, "--list"], check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(listed)
    found["_meta"].pop("profile", None)
    return found


def move_away(inventory: Mapping[str, Any], milliseconds: float) -> None:
    """Let SSH reach every host by a way on which a round trip takes so much longer."""
    way = f"{sys.executable} {Path(__file__).with_name('far.py')} %h %p {milliseconds:g}"
    for variables in inventory["_meta"]["hostvars"].values():
        options = variables.get("ansible_ssh_common_args", "")
        variables["ansible_ssh_common_args"] = f"{options} {shlex.join(['-o', f'ProxyCommand={way}'])}".strip()


def build(mode: str, arguments: argparse.Namespace, inventory: Mapping[str, Any], nothing_set: Path) -> PlayCommand:
    """Return the playbook's call under one mode."""
    extra = dict(each.split("=", 1) for each in arguments.extra)
    strategy: commands.Strategy = "mitogen" if mode in ("mitogen", ALONE) else "linear"
    made = commands.build(arguments.playbook, inventory, extra_vars=extra, strategy=strategy)
    if mode == ALONE:
        own = Path(ansible_mitogen.__file__).parent / "plugins" / "strategy"
        return dataclasses.replace(made, env={**made.env, "ANSIBLE_STRATEGY_PLUGINS": str(own)})
    if mode == "defaults":
        env = {**made.env, **DEFAULTS, "ANSIBLE_CONFIG": str(nothing_set)}
        return dataclasses.replace(made, env=env, forks=DEFAULT_FORKS)
    return made


def measure(command: PlayCommand, inventory: Mapping[str, Any], log: Path) -> Measured:
    """Run a call once, over connections of its own."""
    for name, variables in inventory["_meta"]["hostvars"].items():
        options = shlex.split(variables.get("ansible_ssh_common_args", ""))
        target = ["-l", variables["ansible_user"]] if "ansible_user" in variables else []
        address = variables.get("ansible_host", name)
        subprocess.run(["ssh", *options, *target, "-O", "exit", address], capture_output=True, check=False)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    tasks = Tasks()
    result = execute(command, observers=[tasks], log=log).check()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(result, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime), tasks.took)


def show(runs: Mapping[str, list[Measured]], what: str, hosts: int) -> None:
    """Print a table of medians."""
    print(f"\n{what}: {hosts} hosts, medians of {len(next(iter(runs.values())))}")
    print(f"{'mode':<14}{'time':>9}{'cpu here':>10}{'host-tasks':>12}{'a host':>8}{'changed':>9}{'ratio':>8}")
    base = median(next(iter(runs.values())))
    for mode, done in runs.items():
        last = done[-1].result
        most = max(c.ok + c.skipped + c.failed for c in last.hosts.values())
        cpu = statistics.median(each.cpu_s for each in done)
        took = f"{median(done):.1f} s"
        times = f"{base / median(done):.2f} x"
        print(f"{mode:<14}{took:>9}{cpu:>8.1f} s{last.host_tasks:>12}{most:>8}{last.changed:>9}{times:>8}")


def compare_tasks(runs: Mapping[str, list[Measured]], apart: re.Pattern[str] | None) -> None:
    """Print the longest tasks' times under each mode, and the ratio of what is not in those of `apart`."""
    base = next(iter(runs))
    took = {
        mode: {title: statistics.median(one.tasks.get(title, 0.0) for one in done) for title in done[-1].tasks}
        for mode, done in runs.items()
    }
    print(f"\n{'longest tasks of the first run':<72}" + "".join(f"{mode:>10}" for mode in runs))
    for title in sorted(took[base], key=took[base].__getitem__, reverse=True)[:LONGEST]:
        print(f"{title[:70]:<72}" + "".join(f"{took[mode].get(title, 0.0):>8.1f} s" for mode in runs))
    if apart is None:
        return
    waited = {mode: sum(t for title, t in tasks.items() if apart.search(title)) for mode, tasks in took.items()}
    left = {mode: median(done) - waited[mode] for mode, done in runs.items()}
    for what, times in (("in the tasks that --apart names", waited), ("beyond them", left)):
        print(f"{what:<72}" + "".join(f"{times[mode]:>8.1f} s" for mode in runs))
    print(f"{'ratio beyond them':<72}" + "".join(f"{left[base] / left[mode]:>8.2f} x" for mode in runs))


def judge(first: Mapping[str, list[Measured]], second: Mapping[str, list[Measured]], at_least: float | None) -> int:
    """Print whether the bounds hold, and return the exit code."""
    good = True
    for mode, done in second.items():
        if done and any(each.result.changed for each in done):
            print(f"{mode}: the second run changed something")
            good = False
    if at_least is not None and {"defaults", "mitogen"} <= set(first):
        ratio = median(first["defaults"]) / median(first["mitogen"])
        good = good and ratio >= at_least
        print(f"\nmitogen against the defaults: {ratio:.2f} x (bound: {at_least:g} x)")
    return 0 if good else 1


def median(runs: list[Measured]) -> float:
    """Return the median time in seconds."""
    return statistics.median(each.result.elapsed_s for each in runs)


if __name__ == "__main__":
    sys.exit(main())
