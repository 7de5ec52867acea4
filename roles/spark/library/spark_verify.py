#!/usr/bin/python
"""See that a Spark cluster works: the master counts its workers, and a small job runs on each of them."""

from __future__ import annotations

import json
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.spark_master import POLL_S, Cluster, MasterError, ask

DOCUMENTATION = r"""
module: spark_verify
short_description: See that a Spark cluster works
description:
  - Waits until the master counts every expected worker, then runs a job with a task on each of them at the same time
    and a shuffle between them, and checks its result.
  - Where applications have all the cores or the memory of a worker, the count must do; C(busy) names them.
  - Returns C(said), what it found in words.
options:
  master_address: {description: The master's address, required: true, type: str}
  master_ui_port: {description: Port of its page, required: true, type: int}
  workers: {description: Addresses of the workers that must be counted, required: true, type: list, elements: str}
  submit: {description: The program spark-submit, required: true, type: path}
  program: {description: The job, required: true, type: path}
  timeout: {description: Seconds for the count, and for the job, type: float, default: 120}
"""

QUICK_JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
MEMORY_MB = 512  # 450 is the least that Spark takes for an executor or a driver


class UnverifiedError(Exception):
    """The cluster does not do what it should."""


def counted(arguments: dict) -> Cluster:
    """Wait until the master counts every worker; raise with those that it does not."""
    deadline = time.monotonic() + arguments["timeout"]
    while True:
        try:
            cluster = ask(arguments["master_address"], arguments["master_ui_port"])
            missing = sorted(set(arguments["workers"]) - cluster.addresses)
            problem = f"it does not count {', '.join(missing)}" if missing else ""
        except MasterError as error:
            problem = str(error)
        if not problem:
            return cluster
        if time.monotonic() >= deadline:
            late = f"is not ready after {arguments['timeout']:.0f} s"
            raise UnverifiedError(f"the master at {arguments['master_address']} {late}: {problem}")
        time.sleep(POLL_S)


def no_room(cluster: Cluster) -> str:
    """Return who leaves no room for a job on some worker; '' where there is room."""
    full = [one.address for one in cluster.workers if one.free_cores < 1 or one.free_memory_mb < MEMORY_MB]
    names = ", ".join(f"{one.name} ({one.id})" for one in cluster.applications)
    return names or f"too little memory on {', '.join(full)}" if full else ""


def last_words(said: str, lines: int = 8) -> str:
    """Return the last lines that tell of a problem: no frames of a stack, and nothing that went as it should."""
    kept = [line for line in said.splitlines() if not line.startswith("\tat ") and " INFO " not in line]
    return "\n".join(kept[-lines:])


def run_job(arguments: dict, cluster: Cluster) -> None:
    """Run the job on every worker that is alive, and hold its answer against what it must be."""
    count = len(cluster.workers)
    settings = {
        "spark.cores.max": count,
        "spark.executor.cores": 1,
        "spark.executor.memory": f"{MEMORY_MB}m",
        "spark.driver.memory": f"{MEMORY_MB}m",
        "spark.eventLog.enabled": "false",
        "spark.ui.enabled": "false",
        # Executors come one by one: ask again soon whether all are there, and as long as there is time.
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": 100_000,
        # It lives for seconds: what a compiler would win it costs several times over.
        "spark.executor.extraJavaOptions": QUICK_JAVA,
        "spark.driver.extraJavaOptions": QUICK_JAVA,
    }
    command = [arguments["submit"], "--name", "labtool-verify"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += [arguments["program"], str(count)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=arguments["timeout"], check=False, cwd="/"
        )
    except subprocess.TimeoutExpired as late:
        said = last_words((late.stderr or b"").decode(errors="replace"))
        raise UnverifiedError(f"the job did not end in {arguments['timeout']:.0f} s. Its last lines:\n{said}") from None
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not answers:
        said = last_words(done.stderr)
        raise UnverifiedError(f"the job ended with {done.returncode}. Its last lines:\n{said}")
    answer = json.loads(answers[-1])
    ran = {address.rsplit(":", 1)[0] for address in answer["executors"]}
    if missing := sorted(cluster.addresses - ran):
        raise UnverifiedError(f"no task ran on {', '.join(missing)}, only on {', '.join(sorted(ran))}")
    if answer["sum"] != answer["expected"]:
        raise UnverifiedError(f"the job's sum is {answer['sum']}, not {answer['expected']}")


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "master_address": {"type": "str", "required": True},
            "master_ui_port": {"type": "int", "required": True},
            "workers": {"type": "list", "elements": "str", "required": True},
            "submit": {"type": "path", "required": True},
            "program": {"type": "path", "required": True},
            "timeout": {"type": "float", "default": 120.0},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, said=["not asked in check mode"], busy="")
    try:
        cluster = counted(module.params)
        begun = time.monotonic()
        busy = no_room(cluster)
        if not busy:
            run_job(module.params, cluster)
    except UnverifiedError as error:
        module.fail_json(msg=str(error))
    cores, memory = sum(one.cores for one in cluster.workers), sum(one.memory_mb for one in cluster.workers)
    count = len(cluster.workers)
    said = [f"{cluster.url}: {count} worker{'s' if count != 1 else ''}, {cores} cores, {memory} MiB for executors"]
    said += [f"no room for a job beside {busy}" if busy else f"a job ran on each in {time.monotonic() - begun:.1f} s"]
    module.exit_json(changed=False, said=said, busy=busy)


if __name__ == "__main__":
    main()
