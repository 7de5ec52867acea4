#!/usr/bin/env python3
"""Start a streaming query on a standalone Spark cluster, say when it is ready, and end it with what it left.

    stream_query.py start PLAN.json   run it in its unit, and return when it is ready, or with why it is not
    stream_query.py clients|pack …    as `load_unit` says

The output folder gets `query/progress.jsonl`, what Spark said of each batch; `query/state.json`, what became of the
query; and what `spark_job` leaves of any application: `driver.out`, `driver.err`, `eventlog/` and `job.json`. Needs
only Python's own library: it is copied to the host that submits, which role `spark` has prepared.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import spark_job
from load_unit import Driver, Plan, note
from spark_job import Job

UNIT = "labtool-streaming-query-load.service"
POLL_S = 0.2
SILENT = "org.apache.kafka.common.errors.TimeoutException"
STOP_S = 12.0  # a batch that is under way gets this long to end


def main(arguments: list[str]) -> int:
    """Parse and dispatch."""
    driver = Driver(UNIT, Path(__file__), query_of, limit_s)
    if len(arguments) == 2 and arguments[0] == "start":
        path = Path(arguments[1]).resolve()
        plan = json.loads(path.read_text())
        return begin(driver, path, plan)
    return driver.main(arguments)


def limit_s(plan: Plan) -> float:
    """Return when systemd ends the unit, in s."""
    return float(plan["deadline_s"]) + STOP_S + 60


def begin(driver: Driver, path: Path, plan: Plan) -> int:
    """Start the unit and wait until the query is ready; 1 where it is not, and standard error says why."""
    output = Path(plan["output"])
    if why := driver.start(path, plan):
        print(why, file=sys.stderr)
        return 1
    until = time.monotonic() + plan["ready_s"]
    while time.monotonic() < until:
        if (job := read(output / "job.json")).get("ended_us"):
            print(job["cause"] or "the query ended before it began", file=sys.stderr)
            return 1
        if read(output / "query/state.json").get("ready"):
            return 0
        time.sleep(POLL_S)
    said = output / "driver.err"
    text = said.read_text(errors="replace") if said.exists() else ""
    lacks = "Initial job has not accepted any resources" in text
    why = ": no worker had the cores and the memory that it wants" if lacks else ""
    print(f"the query was not ready after {plan['ready_s']:.0f} s{why}", file=sys.stderr)
    return 1


def read(file: Path) -> dict[str, Any]:
    """Return what a file says; nothing where it is not there yet."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


def query_of(plan: Plan) -> int:
    """Run the query until SIGTERM, its deadline, or its failure; keep why it failed."""
    output = Path(plan["output"])
    job = Job(plan["name"], [], plan["deadline_s"], {})
    try:
        known = spark_job.cluster_of()
        job.cluster = spark_job.capacity(known)
        prepare(plan)
        job.command = spark_job.command_of(plan, job.cluster)
        run(plan, job)
    except SystemExit as error:  # there is no cluster that could take it
        job.cause, job.exit_code = str(error), 1
        job.ended_us = time.time_ns() // 1000
    note(output / "job.json", vars(job) | {"trigger_s": plan["trigger_s"]})
    return 1 if job.cause else 0


def prepare(plan: Plan) -> None:
    """Make what the user that runs the query writes to."""
    for name in ("eventlog", "query"):
        folder = Path(plan["output"]) / name
        folder.mkdir(mode=0o755)
        shutil.chown(folder, plan["user"])


def run(plan: Plan, job: Job) -> None:
    """Run the application; told to end, it stops the query and writes the end of its event log."""
    output = Path(plan["output"])
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    with (output / "driver.out").open("wb") as out, (output / "driver.err").open("wb") as err:
        job.started_us = time.time_ns() // 1000
        process = subprocess.Popen(job.command, stdout=out, stderr=err, **spark_job.as_user(plan["user"]))
        job.keep(output)
        until = time.monotonic() + job.deadline_s
        while process.poll() is None and not told and time.monotonic() < until:
            time.sleep(POLL_S)
        if process.poll() is None:
            job.ended_by = "" if told else "deadline"
            (output / "stop").touch()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                job.notes.append(f"its last batch had not ended {STOP_S:.0f} s after it was told to stop")
                spark_job.end(process)
        job.exit_code = process.wait()
        job.ended_us = time.time_ns() // 1000
    said = (output / "driver.err").read_text(errors="replace")
    job.applications = spark_job.logged(output / "eventlog")
    job.notes += spark_job.lost_executors(said)
    if not told or read(output / "query/state.json").get("failed"):
        job.cause = cause_of(read(output / "query/state.json").get("failed", ""), said, job)


def cause_of(failed: str, said: str, job: Job) -> str:
    """Return why the query failed, in a sentence: the exception that ended it, by Spark's own words."""
    if not failed:
        return spark_job.cause_of(said, job)
    first = failed.partition("\n=== Streaming Query ===")[0].strip().splitlines()
    words = first[0] if first else failed
    words = re.sub(r"^\[\w+\] |Query \[id = .*?\] terminated with exception: | SQLSTATE: \w+.*$", "", words)
    causes = re.findall(r"^Caused by: ([\w$.]+): (.*)$", said, re.MULTILINE)
    deepest, told = causes[-1] if causes else ("", "")
    if "Job aborted" in words and deepest:
        words = f"{deepest.rpartition('.')[2]}: {told}"
    # Whatever Kafka's client waited for, the brokers did not give it.
    who = " as the brokers did not answer in time" if deepest == SILENT else ""
    return f"the query failed{who}: {words.strip().rstrip('.')[:400]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
