#!/usr/bin/env python3
"""Drive a Kafka cluster as OpenMessaging Benchmark's worker does: KafkaWorker.java with this host's share of the load.

The output folder gets `worker.json`, what it was and how it ended, `worker.jsonl`, a line a second, and `worker.log`.
`load_unit` says how it is called. Needs a JDK and Kafka's libraries.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from load_unit import Driver, Plan, note

UNIT = "labtool-kafka-worker-load.service"
BEFORE_S = 120.0  # compiling, connecting and joining groups on a slow machine
AFTER_S = 120.0  # a send that waits for its buffer, what is under way, what is not read yet
HEAP_SHARE = 0.5  # of the host's memory
MEMORY = Path("/proc/meminfo")
SOURCE = "KafkaWorker.java"


def main(arguments: list[str]) -> int:
    """Parse and dispatch."""
    return Driver(UNIT, Path(__file__), drive, limit_s).main(arguments)


def limit_s(plan: Plan) -> float:
    """Return when systemd ends it all, in s."""
    return float(max(plan["start_at"] - time.time(), 0) + BEFORE_S + plan["duration_s"] + AFTER_S)


def drive(plan: Plan) -> int:
    """Run the worker; return 0 if it did not fail. SIGTERM ends it, and what it told by then is kept."""
    output = Path(plan["output"])
    properties = output / "worker.properties"
    properties.write_text(text(settings(plan)))
    known = {"client": "worker", "role": "worker", "started_us": round(time.time() * 1e6)}
    known |= {name: plan[name] for name in TOLD} | {"rate": rate_of(plan)}
    note(output / "worker.json", known)
    with (output / "worker.log").open("wb") as errors:
        process = subprocess.Popen(command(plan, properties), stdout=errors, stderr=errors, cwd=output)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        code = process.wait()
    stopped = code in (143, -signal.SIGTERM)
    note(output / "worker.json", known | {"exit_code": code, "stopped": stopped, "ended_us": round(time.time() * 1e6)})
    if code and not stopped:
        print(cause((output / "worker.log").read_text(errors="replace"), code), file=sys.stderr)
    return 0 if stopped else code


TOLD = ("topics", "subscriptions", "producers", "consumers", "record_size", "acks", "duration_s", "warmup_s", "version")


def command(plan: Plan, properties: Path) -> list[str]:
    """Return what compiles and runs the worker, on the JDK that `javac` is of."""
    compiler = Path(shutil.which("javac") or "/usr/bin/javac").resolve()
    logging = f"file:{plan['logging']}"
    return [
        str(compiler.with_name("java")),
        f"-Xmx{heap_mb(MEMORY.read_text())}m",
        f"-Dlog4j.configuration={logging}",
        f"-Dlog4j2.configurationFile={logging}",
        "-cp",
        plan["libraries"],
        str(Path(__file__).resolve().with_name(SOURCE)),
        str(properties),
    ]


def heap_mb(memory: str) -> int:
    """Return the heap's size by /proc/meminfo, which is the host's own in a container too."""
    kilobytes = next(int(line.split()[1]) for line in memory.splitlines() if line.startswith("MemTotal:"))
    return round(kilobytes * HEAP_SHARE / 1024)


def settings(plan: Plan) -> dict[str, str]:
    """Return the worker's properties: those of its producers and consumers behind `producer.` and `consumer.`."""
    writers, readers = share(plan)
    common = {"bootstrap.servers": plan["bootstrap"]}
    return {
        "host": plan["host"],
        "output": plan["output"],
        "start.at": str(plan["start_at"]),
        "duration.s": str(plan["duration_s"]),
        "rate": str(rate_of(plan)),
        "producers": ",".join(writers),
        "consumers": ",".join(f"{topic}:{subscription}" for topic, subscription in readers),
        "record.size": str(plan["record_size"]),
        "keys": plan["keys"],
        "random.ratio": str(plan["random_ratio"]),
        "payload.pool": str(plan["payload_pool"]),
        "payload.file": plan["payload_file"],
        **{f"producer.{key}": value for key, value in (common | plan["properties"] | {"acks": plan["acks"]}).items()},
        **{f"consumer.{key}": value for key, value in (common | plan["consumer_properties"]).items()},
    }


def share(plan: Plan) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the topic of each producer of this host, and topic and subscription of each consumer.

    All hosts together have `producers` of each topic and `consumers` of each subscription.
    """
    writers = [topic for _ in range(plan["producers"]) for topic in plan["topics"]]
    readers = [
        (topic, f"sub-{number + 1}-{plan['start_at']:.0f}")  # a group of this load alone
        for topic in plan["topics"]
        for number in range(plan["subscriptions"])
        for _ in range(plan["consumers"])
    ]
    return writers[plan["host_index"] :: plan["hosts"]], readers[plan["host_index"] :: plan["hosts"]]


def rate_of(plan: Plan) -> float:
    """Return what this host's producers offer together, in records/s; 0 is as fast as possible.

    A producer of any host offers as much as one of another.
    """
    if plan["rate"] <= 0:
        return 0.0
    return float(plan["rate"]) * len(share(plan)[0]) / (plan["producers"] * len(plan["topics"]))


def text(known: Mapping[str, str]) -> str:
    """Write properties as Java reads them."""
    return "".join(f"{_escaped(key)}={_escaped(value)}\n" for key, value in known.items())


def _escaped(word: str) -> str:
    plain = "".join(f"\\{one}" if one in "\\=:#! " else one for one in word)
    return "".join(one if one.isascii() else f"\\u{ord(one):04x}" for one in plain)


def cause(errors: str, code: int) -> str:
    """Return what the worker said last of why it ended."""
    lines = [line for line in errors.splitlines() if line.strip() and not line.lstrip().startswith(("at ", "..."))]
    causes = [line for line in lines if line.startswith("Caused by:")] or lines
    return f"the worker ended with {code}" + (f": {causes[-1].strip()}" if causes else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
