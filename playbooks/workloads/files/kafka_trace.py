#!/usr/bin/env python3
"""Replay a trace as Kafka messages: each client produces its part of it, every message when it is due.

A client's part is `<parts>/client-<n>.trace.gz`, as trace_prepare.py made it. Each client leaves `<client>.json` (what
it was, how far it came) and `<client>.requests.csv.gz` (http_replay.COLUMNS): a message is done when the brokers have
acknowledged it. `load_unit` says how it is called. Needs confluent-kafka.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import trace_template
from http_replay import Log
from load_unit import Driver, Plan, in_processes, note
from trace_lines import Layout
from trace_source import Source, moment_over
from trace_template import Message

UNIT = "labtool-kafka-trace-load.service"
POLL_S = 0.05  # how long a pause between two messages may keep a SIGTERM waiting
ERRORS = {"_MSG_TIMED_OUT": "timeout", "_PURGE_QUEUE": "stopped", "_PURGE_INFLIGHT": "stopped"}


def main(arguments: list[str]) -> int:
    """Parse and dispatch."""
    return Driver(UNIT, Path(__file__), drive, limit_s).main(arguments)


def limit_s(plan: Plan) -> float:
    """Return when systemd ends it all, in s."""
    return float(max(plan["start_at"] - time.time(), 0) + plan["duration_s"] + 2 * plan["timeout_s"] + 120)


def drive(plan: Plan) -> int:
    """Run the clients of this host; what they did is kept, also when SIGTERM ends them."""
    return in_processes(send, plan)


def producer_settings(plan: Plan, name: str) -> dict[str, object]:
    """Return what the producer is told; the plan's own settings come last."""
    return {
        "bootstrap.servers": plan["bootstrap"],
        "client.id": f"{plan['host']}-{name}",
        "acks": plan["acks"],
        "linger.ms": 0,  # a message that is due is sent
        "delivery.timeout.ms": round(plan["timeout_s"] * 1000),
        "request.timeout.ms": round(plan["timeout_s"] * 1000),
        "queue.buffering.max.messages": plan["connections"],
    } | dict(plan["properties"])


def connected(plan: Plan, name: str) -> Any:
    """Return a producer that knows the topic's leaders, so that no message waits for them."""
    from confluent_kafka import KafkaException, Producer  # noqa: PLC0415 - only the load hosts have it

    try:
        producer = Producer(producer_settings(plan, name))
        found = producer.list_topics(plan["topic"], timeout=plan["timeout_s"]).topics[plan["topic"]]
    except KafkaException as error:
        sys.exit(f"{plan['bootstrap']}: {error.args[0].str()}")
    if found.error is not None:
        sys.exit(f"topic {plan['topic']}: {found.error.str()}")
    return producer


def send(plan: Plan, index: int) -> None:
    """Replay one client's part."""
    name = f"client-{index + 1}"
    output = Path(plan["output"])
    producer = connected(plan, name)
    start_at = max(plan["start_at"], time.time() + 0.05)
    known = {
        "client": name,
        "role": "producer",
        "loop": "closed" if plan["speed"] == "max" else "open",
        "generator": "confluent-kafka",
        "topic": plan["topic"],
        "targets": plan["bootstrap"].split(","),
        "warmup_s": plan["warmup_s"],
        "timeout_s": plan["timeout_s"],
        "offered_rate": None,
        "started_us": round(time.time() * 1e6),
        "start_us": round(start_at * 1e6),
        "began_late_s": start_at - plan["start_at"],
    }
    file = output / f"{name}.json"
    note(file, known)
    log = Log(output / f"{name}.requests.csv.gz")
    try:
        source = replay(plan, name, producer, log, start_at)
    finally:
        log.close()
    told = {"requests": log.rows, "errors": log.errors, "endpoints": list(log.endpoints)}
    left = {"trace_lines": source.taken + source.left, "trace_left": source.left, "cut": bool(source.left)}
    note(file, known | told | left | {"ended_us": round(time.time() * 1e6)})


def replay(plan: Plan, name: str, producer: Any, log: Log, start_at: float) -> Source[tuple[float, Message]]:
    """Produce a client's part until it ends or the run's time is over; return how far it came."""
    layout = Layout(**plan["layout"] | {"names": tuple(plan["layout"]["names"])})
    template = trace_template.of(Path(plan["template"]) if plan["template"] else None, layout, "messages")
    fastest, topic, warmup_s = plan["speed"] == "max", plan["topic"], plan["warmup_s"]
    zero, start = start_at * 1e6, time.monotonic() + start_at - time.time()
    ended = moment_over(start_at, plan["duration_s"])
    stopped: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    source = Source(
        Path(plan["parts"]) / f"{name}.trace.gz",
        template,
        layout.delimiter,
        lambda due, made: (due, made),
        lambda: bool(stopped) or ended(),
    )

    def now() -> float:
        return time.monotonic() - start

    def wait(until: float) -> None:
        """Serve deliveries until that moment (s after the start)."""
        while (left := until - now()) > 0 and not stopped:
            # A poll ends at the first delivery; the last stretch is slept, since a poll's time is in whole ms.
            producer.poll(min(left - 0.001, POLL_S)) if left > 0.002 else time.sleep(left)

    def produce(due: float, message: Message) -> None:
        sent: float | None = None

        def done(error: Any, _: object) -> None:
            why = "" if error is None else ERRORS.get(error.name(), error.name().strip("_").lower())
            sent_us = None if sent is None else round(zero + sent * 1e6)
            log.add(
                round(zero + due * 1e6),
                sent_us,
                round(zero + now() * 1e6),
                None,
                why,
                len(message.value),
                message.name,
                "",
                due < warmup_s,
            )

        while sent is None:
            sent = now()
            try:
                producer.produce(topic, message.value, message.key, on_delivery=done)
            except BufferError:  # as many are under way as may be
                sent = None
                producer.poll(POLL_S)

    wait(0.0)
    messages = iter(source)
    for due, message in messages:
        wait(due)
        if stopped:
            source.left += 1
            source.taken -= 1
            break
        produce(now() if fastest else due, message)
        producer.poll(0)
    source.close(messages)
    if stopped:
        producer.purge()
    producer.flush(plan["timeout_s"] + 1)
    return source


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
