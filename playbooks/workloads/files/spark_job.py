#!/usr/bin/env python3
"""Submit an application to a standalone Spark cluster, wait for its end or end it, and keep what it left.

The output folder gets `driver.out` and `driver.err`, what spark-submit said; `eventlog/`, the event logs as Spark
wrote them; `rest/<application>.json`, what Spark's own history server makes of those; and `job.json`: what was
submitted, when it began and ended, and why it failed. `load_unit` says how it is called. Needs only Python's own
library: it is copied to the host that submits, which role `spark` has prepared.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from load_unit import Driver, note

UNIT = "labtool-spark-load.service"
GRACE_S = 10.0  # an application that is told to end gets this long to write the end of its event log
LOOK_S = 5.0  # the master is asked this often whether the application can go on
STRANDED_S = 60.0  # one that has no worker to go on with is ended after this, which a worker that restarts needs
HISTORY_S = 60.0  # a history server reads the event logs of a run in seconds; what takes longer is left out
CLUSTER = Path("/etc/spark/cluster")
HOME = "/var/lib/spark"
LEAST_MB = 450  # an executor with less refuses to start

Plan = dict[str, Any]
Opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Job:
    """What was submitted, and what became of it; the content of job.json."""

    name: str
    command: list[str]
    deadline_s: float
    cluster: dict[str, Any]
    started_us: int = 0
    ended_us: int = 0
    exit_code: int | None = None
    ended_by: str = ""  # deadline, interruption or stranded; '' where it ended by itself
    cause: str = ""  # why it failed, a sentence; '' where it did not
    notes: list[str] = field(default_factory=list)  # what went wrong and was mended, and what is missing
    applications: list[str] = field(default_factory=list)

    def keep(self, output: Path) -> None:
        """Write it down."""
        note(output / "job.json", vars(self))


def cluster_of(file: Path = CLUSTER) -> dict[str, str]:
    """Return what role `spark` says of the cluster; a `SystemExit` where it has said nothing."""
    if not file.is_file():
        raise SystemExit(f"{file} is missing: this host is not prepared for Spark (playbooks/spark-cluster.yml)")
    lines = file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def ask(url: str, timeout: float = 10.0) -> Any:
    """Return the JSON at `url`."""
    with Opener.open(url, timeout=timeout) as answer:
        return json.load(answer)


def page_of(known: dict[str, str]) -> str:
    """Return where the master says what it has."""
    return f"http://{known['master_address']}:{known['master_ui_port']}/json/"


def capacity(known: dict[str, str]) -> dict[str, Any]:
    """Return how many workers, cores and MiB the master has; a `SystemExit` where it cannot take an application."""
    page = page_of(known)
    try:
        answer = ask(page)
    except (OSError, ValueError) as error:
        raise SystemExit(f"the master does not answer at {page}: {getattr(error, 'reason', None) or error}") from None
    workers = [one for one in answer["workers"] if one["state"] == "ALIVE"]
    if not workers:
        raise SystemExit(f"the master {answer['url']} counts no worker: `playbooks/health.yml` says what they lack")
    free = [one["memoryfree"] for one in workers if one["coresfree"]]
    return {
        "url": answer["url"],
        "workers": len(workers),
        "cores": sum(one["cores"] for one in workers),
        "memory_mb": sum(one["memory"] for one in workers),
        "free_mb": min(free, default=0),
        "others": {one["id"]: one["name"] for one in answer["activeapps"]},
    }


def arguments_of(plan: Plan, cores: int) -> list[str]:
    """Return the application's arguments; a job of ours has two partitions for each core where nothing is said."""
    return [str(2 * cores) if word == "{partitions}" else word for word in plan["arguments"]]


def library(jar: Path) -> str:
    """Return which library a jar is, without its version."""
    return re.sub(r"-\d.*", "", jar.stem)


def further_jars(folders: list[str], there: Path) -> list[str]:
    """Return the jars of `folders` that Spark has not already, of whatever version: its own would win anyway."""
    known = {library(jar) for jar in there.glob("*.jar")}
    found = (jar for folder in folders for jar in Path(folder).glob("*.jar"))
    return sorted(str(jar) for jar in found if library(jar) not in known)


def command_of(plan: Plan, known: dict[str, Any]) -> list[str]:
    """Return spark-submit's command line."""
    output = Path(plan["output"])
    # Spark's default is all that a worker offers; beside another application there is less.
    beside = known.get("others") and known["free_mb"] >= LEAST_MB
    conf = {
        **({"spark.executor.memory": f"{known['free_mb']}m"} if beside else {}),
        # It begins when all executors are there, or after half a minute: the first wave is then like the others.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        **{key: value.replace("{partitions}", str(2 * known["cores"])) for key, value in plan["conf"].items()},
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{output}/eventlog",
    }
    command = [plan["submit"], "--deploy-mode", "client", "--name", plan["name"]]
    for key, value in conf.items():
        command += ["--conf", f"{key}={value}"]
    if plan["class"]:
        command += ["--class", plan["class"]]
    if jars := further_jars(plan["jar_folders"], Path(plan["home"]) / "jars"):
        command += ["--jars", ",".join(jars)]
    return [*command, plan["application"], *arguments_of(plan, known["cores"])]


def as_user(user: str) -> dict[str, Any]:
    """Return how Popen runs a program as `user`, who may read the cluster's secret."""
    account = pwd.getpwnam(user)
    environment = {**os.environ, "HOME": HOME, "USER": user, "SPARK_CONF_DIR": "/etc/spark"}
    return {
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": [],
        "env": environment,
        "cwd": HOME,
        "start_new_session": True,
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all its processes: asked first, killed after a while."""
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return


STARVED = "Initial job has not accepted any resources"
WANTED = "no worker has the cores and the memory that it wants"


@dataclass
class Watch:
    """Asks the master whether the application still can go on: Spark itself would wait for a worker forever."""

    page: str
    others: Collection[str]  # ids of the applications that were there before
    said: Path  # the driver's log
    since: float | None = None  # when it was first seen stranded

    def stranded(self) -> str:
        """Return what it waits for in vain at this moment; '' where it does not, or where the master does not say."""
        try:
            answer = ask(self.page, LOOK_S)
        except (OSError, ValueError):
            return ""  # its executors go on without a master
        mine = [one for one in answer["activeapps"] if one["id"] not in self.others]
        if not mine or any(one["cores"] for one in answer["activeapps"]):
            return ""
        if not any(one["state"] == "ALIVE" for one in answer["workers"]):
            return "every worker was lost"
        return WANTED if STARVED in self.said.read_text(errors="replace") else ""

    def given_up(self) -> str:
        """Return why it is to be ended; '' as long as it may go on."""
        why, now = self.stranded(), time.monotonic()
        if not why:
            self.since = None
            return ""
        self.since = now if self.since is None else self.since
        return why if now - self.since >= STRANDED_S else ""


def wait(process: subprocess.Popen[bytes], job: Job, watch: Watch) -> None:
    """Wait for the application's end, and say in the job why it must be ended where it does not come to one."""
    until = time.monotonic() + job.deadline_s
    while True:
        try:
            process.wait(max(min(LOOK_S, until - time.monotonic()), 0.0))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until:
                job.ended_by = "deadline"
                return
            if why := watch.given_up():
                job.ended_by, job.cause = "stranded", why
                return
        else:
            return


def run(plan: Plan, job: Job, page: str) -> None:
    """Run the application to its end, its deadline, or SIGTERM; the master at `page` says whether it can go on."""
    output = Path(plan["output"])
    with (output / "driver.out").open("wb") as out, (output / "driver.err").open("wb") as err:
        job.started_us = time.time_ns() // 1000
        process = subprocess.Popen(job.command, stdout=out, stderr=err, **as_user(plan["user"]))
        job.keep(output)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            wait(process, job, Watch(page, job.cluster.get("others", ()), output / "driver.err"))
        except KeyboardInterrupt:
            job.ended_by = "interruption"
        signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which what is started later would inherit
        if job.ended_by:
            end(process)
        job.exit_code = process.wait()
        job.ended_us = time.time_ns() // 1000


LOST = re.compile(r"ERROR \S*TaskSchedulerImpl: Lost executor (\d+) on (\S+): (.*)")
EXIT = re.compile(r"exited with code (\d+)")
FRAME = re.compile(r"\s+at |\s*\.\.\. \d+ more")
LOGGED = re.compile(r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d (INFO|WARN|ERROR|DEBUG) ")
PYTHON_ERROR = re.compile(r"[A-Za-z_][\w.]*(: |$)")
MEANS = {
    "52": "it ran out of memory (exit code 52)",
    "50": "an error that it did not catch (exit code 50)",
    "134": "it was aborted (exit code 134)",
    "137": "it was killed (exit code 137, SIGKILL: by somebody, or by the kernel for its memory)",
    "143": "it was told to end (exit code 143, SIGTERM)",
}


def lost_executors(said: str) -> list[str]:
    """Return a sentence for each executor that the driver lost."""
    told = []
    for number, host, reason in LOST.findall(said):
        code = EXIT.search(reason)
        why = MEANS.get(code[1] if code else "", reason.strip().rstrip("."))
        told.append(f"executor {number} on {host} was lost: {why}")
    return list(dict.fromkeys(told))


def cause_of(said: str, printed: str, job: Job) -> str:
    """Return why an application failed, in a sentence, from what Spark itself said; '' where it did not fail.

    `said` is the driver's standard error, `printed` its standard output, where a Python program's errors are too.
    """
    if job.ended_by == "interruption":
        return ""
    lost = lost_executors(said)
    if job.ended_by == "stranded":
        return f"{job.cause}, and so it was ended after {STRANDED_S:.0f} s" + (f": {lost[-1]}" if lost else "")
    if job.ended_by == "deadline":
        why = WANTED if STARVED in said and "Starting task" not in said else (lost or [""])[-1]
        return f"it had not ended after {job.deadline_s:.0f} s and was ended" + (f": {why}" if why else "")
    if job.exit_code == 0:
        return ""
    if found := re.search(r"Failed to load class (\S+?)\.?$", said, re.MULTILINE):
        return f"class {found[1]} is not in {Path(application(job)).name}"
    if "OutOfMemoryError" in said or any("out of memory" in one for one in lost):
        return out_of_memory(said, lost)
    if found := re.search(r"ClassNotFoundException: (\S+)", said):
        return f"class {found[1]} is not in the application, its packages or Spark"
    if lost:
        found = re.search(r"Job aborted due to stage failure: ([^\n]*?),? most recent failure", said)
        return lost[-1] + (f" ({found[1]})" if found else "")
    return last_words(said, printed, job)


def application(job: Job) -> str:
    """Return the file that was submitted."""
    words = iter(job.command[1:])
    for word in words:
        if not word.startswith("--"):
            return word
        next(words, None)
    return ""


def out_of_memory(said: str, lost: list[str]) -> str:
    """Return whose memory was not enough."""
    of_executor = bool(lost) or "Lost task" in said
    who = "an executor" if of_executor else "the driver"
    option = "--executor-memory" if of_executor else "--conf spark.driver.memory=…"
    kind = re.search(r"OutOfMemoryError: ([^\n]*)", said)
    where = re.search(r"executor \d+ on (\S+) was lost", lost[-1]) if lost else None
    who += f" on {where[1]}" if where else ""
    return f"{who} ran out of memory{f' ({kind[1].strip()})' if kind else ''}: {option} gives it more"


def last_words(said: str, printed: str, job: Job) -> str:
    """Return the exception that ended the driver, or the last line that is no log's and no frame of a stack."""
    _, traceback, python = printed.rpartition("Traceback (most recent call last):")
    lines = [line for line in said.splitlines() if line.strip() and not FRAME.match(line) and not LOGGED.match(line)]
    if thrown := [line for line in lines if line.startswith('Exception in thread "')]:
        words = thrown[0].partition('" ')[2]
    elif traceback:
        words = next((line for line in python.splitlines() if PYTHON_ERROR.match(line)), "")
    else:
        words = (lines or [""])[-1]
    return f"it ended with {job.exit_code}" + (f": {words.strip()[:400]}" if words else "")


def logged(folder: Path) -> list[str]:
    """Return the ids of the applications whose event logs are in `folder`."""
    found = (re.search(r"(app-\d+-\d+)", path.name) for path in sorted(folder.iterdir())) if folder.is_dir() else ()
    return list(dict.fromkeys(match[1] for match in found if match))


def free_port(address: str) -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def ask_history(plan: Plan, job: Job, known: dict[str, str]) -> None:
    """Let a history server of our own read the event logs, and keep what its REST API says of each application."""
    output = Path(plan["output"])
    folder = output / "rest"
    folder.mkdir()
    port = free_port(known["address"])
    properties = Path(plan["output"]).with_name("history.conf")
    settings = {
        "spark.history.fs.logDirectory": f"file://{output}/eventlog",
        "spark.history.fs.update.interval": "1s",
        "spark.history.ui.port": port,
        "spark.history.fs.cleaner.enabled": "false",
    }
    properties.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    command = [f"{plan['home']}/bin/spark-class", "org.apache.spark.deploy.history.HistoryServer"]
    command += ["--properties-file", str(properties)]
    user = as_user(plan["user"])
    user["env"] |= {"SPARK_HOME": plan["home"], "SPARK_DAEMON_MEMORY": "512m"}
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
    base = f"http://{known['address']}:{port}/api/v1/applications"
    until = time.monotonic() + HISTORY_S
    try:
        for one in job.applications:
            answer = None
            while answer is None and time.monotonic() < until and server.poll() is None:
                try:
                    answer = totals(base, one)
                except (OSError, ValueError, KeyError):
                    time.sleep(0.25)
            if answer is None:
                job.notes.append(f"Spark's history server did not tell of {one} within {HISTORY_S:.0f} s")
            else:
                (folder / f"{one}.json").write_text(json.dumps(answer) + "\n")
    finally:
        end(server)


def totals(base: str, one: str) -> dict[str, Any]:
    """Return what the REST API says of an application: itself, its jobs, stages and executors."""
    found = {"application": ask(f"{base}/{one}"), "jobs": ask(f"{base}/{one}/jobs")}
    return {**found, "stages": ask(f"{base}/{one}/stages"), "executors": ask(f"{base}/{one}/allexecutors")}


def publish(plan: Plan, known: dict[str, str]) -> None:
    """Let the cluster's own history server have the event logs too, where there is one."""
    if subprocess.run(["systemctl", "is-active", "--quiet", "spark-history"], check=False).returncode == 0:
        shutil.copytree(Path(plan["output"]) / "eventlog", known["event_directory"], dirs_exist_ok=True)
        subprocess.run(["chown", "-R", plan["user"], known["event_directory"]], check=False)


def clients_of(plan: Plan) -> int:
    """Run the application, keep what it left, and say why it failed."""
    output = Path(plan["output"])
    known = cluster_of()
    there = capacity(known)
    events = output / "eventlog"
    events.mkdir(mode=0o755)
    shutil.chown(events, plan["user"])
    job = Job(plan["name"], command_of(plan, there), plan["deadline_s"], there)
    if there["others"]:
        job.notes.append(f"it shares the cluster with {', '.join(there['others'].values())}")
    run(plan, job, page_of(known))
    said = (output / "driver.err").read_text(errors="replace")
    job.applications = logged(events)
    job.cause = cause_of(said, (output / "driver.out").read_text(errors="replace"), job)
    if not job.cause:
        job.notes += lost_executors(said)
    job.keep(output)
    # Interrupted, there is no time for it: the event log has the same.
    if job.applications and job.ended_by != "interruption":
        ask_history(plan, job, known)
        publish(plan, known)
        job.keep(output)
    if job.cause:
        print(job.cause, file=sys.stderr)
    return 1 if job.cause else 0


def limit_s(plan: Plan) -> float:
    """Return when systemd ends the unit, in s."""
    return float(plan["deadline_s"]) + GRACE_S + HISTORY_S + 60


def main(arguments: list[str]) -> int:
    """Parse and dispatch."""
    return Driver(UNIT, Path(__file__), clients_of, limit_s).main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
