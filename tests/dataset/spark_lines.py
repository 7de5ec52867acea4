"""Lines of an event log, as Spark writes them, with what a test needs."""

from __future__ import annotations

import json

METRICS = {
    "Executor Deserialize Time": 20,
    "Executor Deserialize CPU Time": 10_000_000,
    "Executor Run Time": 900,
    "Executor CPU Time": 600_000_000,
    "Peak Execution Memory": 4096,
    "Result Size": 1500,
    "JVM GC Time": 50,
    "Result Serialization Time": 5,
    "Memory Bytes Spilled": 300,
    "Disk Bytes Spilled": 100,
    "Shuffle Read Metrics": {
        "Remote Blocks Fetched": 2,
        "Local Blocks Fetched": 3,
        "Fetch Wait Time": 70,
        "Remote Bytes Read": 2000,
        "Remote Bytes Read To Disk": 500,
        "Local Bytes Read": 3000,
        "Total Records Read": 40,
        "Remote Requests Duration": 80,
    },
    "Shuffle Write Metrics": {
        "Shuffle Bytes Written": 700,
        "Shuffle Write Time": 30_000_000,
        "Shuffle Records Written": 7,
    },
    "Input Metrics": {"Bytes Read": 11, "Records Read": 12},
    "Output Metrics": {"Bytes Written": 13, "Records Written": 14},
}


def line(event, **fields):
    return json.dumps({"Event": f"SparkListener{event}", **fields}, separators=(",", ":")) + "\n"


def start(application="app-1", **more):
    said = {"App Name": "count", "App ID": application, "Timestamp": 1000, "User": "spark"} | more
    return line("LogStart", **{"Spark Version": "4.0.1"}) + line("ApplicationStart", **said)


def executor(name="0", host="198.18.0.5", cores=2, at=1100):
    info = {"Host": host, "Total Cores": cores, "Log Urls": {}}
    return line("ExecutorAdded", **{"Timestamp": at, "Executor ID": name, "Executor Info": info})


def stage_info(number, attempt=0, tasks=2, parents=(), **more):
    return {
        "Stage ID": number,
        "Stage Attempt ID": attempt,
        "Stage Name": f"count at x.py:{number}",
        "Number of Tasks": tasks,
        "RDD Info": [{"Name": "PythonRDD"}, {"Name": "ShuffledRDD"}, {"Name": "PythonRDD"}],
        "Parent IDs": list(parents),
    } | more


def job_start(number, stages, at=1200, **properties):
    said = {"Job ID": number, "Submission Time": at, "Stage Infos": stages}
    said |= {"Stage IDs": [stage["Stage ID"] for stage in stages], "Properties": properties}
    return line("JobStart", **said)


def task_info(number, launch=2000, finish=0, **more):
    return {
        "Task ID": number,
        "Index": number,
        "Attempt": 0,
        "Partition ID": number,
        "Launch Time": launch,
        "Executor ID": "0",
        "Host": "198.18.0.5",
        "Locality": "PROCESS_LOCAL",
        "Speculative": False,
        "Getting Result Time": 0,
        "Finish Time": finish,
        "Failed": False,
        "Killed": False,
        "Accumulables": [],
    } | more


def task_start(number, stage=0, **more):
    return line("TaskStart", **{"Stage ID": stage, "Stage Attempt ID": 0, "Task Info": task_info(number, **more)})


def task_end(number, stage=0, why=None, metrics=METRICS, **more):
    said = {"Stage ID": stage, "Stage Attempt ID": 0, "Task Type": "ResultTask"}
    said |= {"Task End Reason": why or {"Reason": "Success"}}
    said |= {"Task Info": task_info(number, **({"finish": 3000} | more))}
    return line("TaskEnd", **said, **({"Task Metrics": metrics} if metrics else {}))
