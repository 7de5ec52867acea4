#!/usr/bin/env python3
"""Drive a Kafka cluster with its own performance tools, and note when each line of their output came.

For each client the output folder gets `<client>.out` and `<client>.err`, each line behind the host's time in
microseconds since 1970 (UTC), and `<client>.json` with its parameters and how it ended. `load_unit` says how it is
called. Needs only Python's own library: it is copied to the load hosts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from load_unit import Driver, note

UNIT = "labtool-kafka-load.service"
START_S = 30.0  # a tool's JVM, and a consumer's joining of its group, may take this long before they count as begun
GRACE_S = 30.0  # a throttled producer that fell behind gets this long to finish and print its percentiles
DRAIN_S = 3.0  # what consumers get to read the last records
JAVA_OPTIONS = "-Xms256m -Xmx256m -XX:+UseSerialGC -XX:+AlwaysPreTouch"


@dataclass(frozen=True)
class Plan:
    """What the clients of one host do together."""

    tool: str  # kafka-tool's path
    version: tuple[int, ...]
    bootstrap: str
    topic: str
    producers: int
    consumers: int
    rate: float  # records/s of this host's producers together; 0 or less is as fast as possible
    record_size: int
    acks: str
    properties: tuple[str, ...]  # further producer settings, key=value
    duration_s: float
    warmup_s: float
    start_at: float  # seconds since 1970
    output: Path
    interval_ms: int = 1000

    @classmethod
    def of(cls, given: dict[str, Any]) -> Plan:
        """Return what a plan's file says; a wrong one ends the program."""
        version = tuple(int(part) for part in given["version"].split(".")[:2])
        typed = {"version": version, "properties": tuple(given["properties"]), "output": Path(given["output"])}
        return cls(**given | typed)

    @property
    def limit_s(self) -> float:
        """When systemd ends it all, in s."""
        return self.duration_s + 2 * START_S + GRACE_S + DRAIN_S + 60

    @property
    def renamed_options(self) -> bool:
        """True since 4.2, which renamed options and added `--reporting-interval` and `--warmup-records`."""
        return self.version >= (4, 2)

    def producer_rate(self, index: int) -> float | None:
        """Return what one producer offers, in records/s; None where nothing is asked.

        All of them together offer the rate, whatever it is: the tool takes fractions (3.9 to 4.3), which are used where
        whole numbers do not add up to it or one of them would be 0.
        """
        if self.rate <= 0:
            return None
        if self.rate < self.producers or self.rate != int(self.rate):
            return self.rate / self.producers
        whole, rest = divmod(int(self.rate), self.producers)
        return whole + (1 if index < rest else 0)


@dataclass
class Client:
    """One tool's process."""

    name: str
    role: str
    command: list[str]
    parameters: dict[str, object]
    process: subprocess.Popen[bytes] | None = None
    begun: threading.Event = field(default_factory=threading.Event)  # it told of its first records, or ended
    readers: list[threading.Thread] = field(default_factory=list)


def producer_command(plan: Plan, index: int) -> list[str]:
    """Return the command line of `kafka-producer-perf-test`."""
    rate = plan.producer_rate(index)
    records = max(round(rate * plan.duration_s), 1) if rate else 10**12
    command = [plan.tool, "producer-perf-test", "--topic", plan.topic, "--num-records", str(records)]
    command += ["--throughput", str(rate or -1), "--record-size", str(plan.record_size)]
    settings = [f"acks={plan.acks}", f"client.id=producer-{index + 1}", *plan.properties]
    if not plan.renamed_options:
        return [*command, "--producer-props", f"bootstrap.servers={plan.bootstrap}", *settings]
    command += ["--reporting-interval", str(plan.interval_ms)]
    if rate and (warmup := min(round(rate * plan.warmup_s), records - 1)) > 0:
        command += ["--warmup-records", str(warmup)]
    return [*command, "--bootstrap-server", plan.bootstrap, "--command-property", *settings]


def consumer_command(plan: Plan) -> list[str]:
    """Return the command line of `kafka-consumer-perf-test`; all consumers of a load, on all its hosts, share a group.

    It is of this load alone: the tool does not leave its group, and who joins it within the 45 s of a session waits
    until the brokers have given up those of the load before.
    """
    # It ends when it is told to, or some time after the last record.
    patience_ms = round((plan.duration_s + 60) * 1000)
    command = [plan.tool, "consumer-perf-test", "--bootstrap-server", plan.bootstrap, "--topic", plan.topic]
    command += ["--num-records" if plan.renamed_options else "--messages", str(10**12)]
    command += ["--group", f"{plan.topic}-readers-{plan.start_at:.0f}", "--timeout", str(patience_ms)]
    return [*command, "--show-detailed-stats", "--reporting-interval", str(plan.interval_ms)]


def clients(plan: Plan) -> list[Client]:
    """Return the clients, not yet started; consumers first, since joining their group takes seconds."""
    shared = {
        "topic": plan.topic,
        "record_size": plan.record_size,
        "acks": plan.acks,
        "duration_s": plan.duration_s,
        "warmup_s": plan.warmup_s,
        "version": ".".join(map(str, plan.version)),
    }
    readers = [
        Client(f"consumer-{index + 1}", "consumer", consumer_command(plan), shared | {"offered_rate": None})
        for index in range(plan.consumers)
    ]
    writers = [
        Client(
            f"producer-{index + 1}",
            "producer",
            producer_command(plan, index),
            shared | {"offered_rate": plan.producer_rate(index), "properties": list(plan.properties)},
        )
        for index in range(plan.producers)
    ]
    return readers + writers


def stamp(source: IO[bytes], path: Path, begun: threading.Event | None = None, header: int = 0) -> None:
    """Copy lines to a file, each behind the time it came; `begun` is set at the first after the header."""
    with path.open("wb", buffering=0) as out:
        for number, line in enumerate(source):
            out.write(b"%d %s" % (time.time_ns() // 1000, line))
            if begun and number == header:
                begun.set()
    if begun:
        begun.set()


def tell(plan: Plan, client: Client, **ended: object) -> None:
    """Write the client's `.json`."""
    known = {"client": client.name, "role": client.role, **client.parameters, "command": client.command}
    note(plan.output / f"{client.name}.json", {**known, **ended})


def start(plan: Plan, client: Client) -> None:
    """Start a client and the threads that read it."""
    environment = {**os.environ, "KAFKA_TOOL_JAVA": JAVA_OPTIONS}
    client.parameters["started_us"] = time.time_ns() // 1000
    client.process = subprocess.Popen(
        client.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=plan.output
    )
    assert client.process.stdout is not None and client.process.stderr is not None
    header = 1 if client.role == "consumer" else 0
    told = (client.process.stdout, plan.output / f"{client.name}.out", client.begun, header)
    errors = (client.process.stderr, plan.output / f"{client.name}.err")
    client.readers = [threading.Thread(target=stamp, args=told), threading.Thread(target=stamp, args=errors)]
    for reader in client.readers:
        reader.start()
    tell(plan, client)


def begin(group: list[Client]) -> float:
    """Wait until all of them have begun, for START_S at most; return when that was, in monotonic seconds."""
    until = time.monotonic() + START_S
    for client in group:
        client.begun.wait(max(until - time.monotonic(), 0))
    return time.monotonic()


def finish(plan: Plan, client: Client, deadline: float, *, stopped: bool = False) -> int:
    """Wait for a client until the deadline (monotonic seconds), end it then, and note how it ended.

    `stopped` says that it has been told to end already.
    """
    assert client.process is not None
    try:
        client.process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        stopped = True
        client.process.terminate()
        try:
            client.process.wait(10)
        except subprocess.TimeoutExpired:
            client.process.kill()
    for reader in client.readers:
        reader.join()
    code = client.process.wait()
    tell(plan, client, ended_us=time.time_ns() // 1000, exit_code=code, stopped=stopped)
    return 0 if stopped else code


def drive(plan: Plan) -> int:
    """Run all clients; return 0 if none failed. SIGTERM ends those that run, and this when they have ended."""
    everyone = clients(plan)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        time.sleep(max(plan.start_at - time.time(), 0))
        for client in everyone:
            start(plan, client)
        producers = [client for client in everyone if client.role == "producer"]
        consumers = [client for client in everyone if client.role == "consumer"]
        deadline = begin(producers or consumers) + plan.duration_s
        patience = GRACE_S if plan.rate > 0 else 0
        codes = [finish(plan, client, deadline + patience) for client in producers]
        if producers:
            # A consumer that is ended before it has read anything would look like one that had nothing to read.
            deadline = (time.monotonic() if all(codes) else begin(consumers)) + DRAIN_S
        codes += [finish(plan, client, deadline) for client in consumers]
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        codes = end(plan, [client for client in everyone if client.process is not None])
    return 1 if any(codes) else 0


def end(plan: Plan, started: list[Client]) -> list[int]:
    """End the clients that still run, all at once, and return how they ended."""
    running = [client for client in started if client.process is not None and client.process.poll() is None]
    for client in running:
        assert client.process is not None
        client.process.terminate()
    deadline = time.monotonic() + 10
    return [finish(plan, client, deadline, stopped=client in running) for client in started]


def ending(code: int) -> str:
    """Say how a process ended."""
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), as the kernel does when memory is full"
    return f"was killed by signal {-code}" if code < 0 else f"ended with {code}"


def failures(plan: Plan) -> list[str]:
    """Return a sentence for each client that failed."""
    told = []
    for path in sorted(plan.output.glob("*.json")):
        client = json.loads(path.read_text())
        if client.get("exit_code") and not client.get("stopped"):
            errors = path.with_suffix(".err")
            lines = errors.read_text(errors="replace").splitlines() if errors.exists() else []
            words = " | ".join(line.partition(" ")[2] for line in lines[:3])
            told.append(f"{client['client']} {ending(client['exit_code'])}" + (f": {words}" if words else ""))
    return told


def clients_of(given: dict[str, Any]) -> int:
    """Run the clients of a plan, and say which of them failed."""
    plan = Plan.of(given)
    code = drive(plan)
    for sentence in failures(plan):
        print(sentence, file=sys.stderr)
    return code


def main(arguments: list[str]) -> int:
    """Parse and dispatch."""
    return Driver(UNIT, Path(__file__), clients_of, lambda given: Plan.of(given).limit_s).main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
