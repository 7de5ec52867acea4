#!/usr/bin/env python3
"""Produce records at a given rate, and read the results that a streaming query makes of them.

Each client sends record n when n/rate says so, and leaves `<client>.json` and `<client>.requests.csv.gz`
(http_replay.COLUMNS, with the record's number where a status would be, and done when the brokers have acknowledged it).
The first load host also has the reader: it leaves `results.csv.gz`, every result with when it was appended and when it
was read; `backlog.csv`, how many records the topic has and how many have a result; and `reader.json`, how it ended.
With `find_max` it is one process, which looks for the highest rate whose backlog does not grow: `steps.json`.
`load_unit` says how it is called. Needs confluent-kafka.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from backlog import Growth, by_batch, growth
from find_max import Search
from http_replay import Log
from load_unit import Driver, Plan, note

UNIT = "labtool-streaming-load.service"
TICK_S = 0.002  # records are sent in groups of what has become due since the last
POLL_S = 0.05  # how long a pause may keep a SIGTERM waiting
SAMPLE_S = 0.5  # how often the brokers are asked how many records there are
SILENT_S = 60.0  # this long without a result, or without an answer of the brokers, and it is over
FIRST_S = 150.0  # the first batches compile the query, which on a busy machine takes its time
LATE_S = 0.5  # a client whose last record was later than this was the limit itself
LONGEST_STEPS = 3  # how many times as long a step may become that has not told yet
BEGIN_SHARE = 1 / 3  # of a step that is not looked at: batches follow the rate with a delay
SLACK = 1.05  # batches that begin as often as the trigger says are this far apart at most, in the middle
QUIET = 1  # the clients report each connection that they lose; what comes of it is in their records
ERRORS = {"_MSG_TIMED_OUT": "timeout", "_PURGE_QUEUE": "stopped", "_PURGE_INFLIGHT": "stopped"}


def main(arguments: list[str]) -> int:
    """Parse and dispatch."""
    return Driver(UNIT, Path(__file__), drive, limit_s).main(arguments)


def limit_s(plan: Plan) -> float:
    """Return when systemd ends it all, in s."""
    wait = max(plan["start_at"] - time.time(), 0)
    return float(wait + plan["duration_s"] + plan["drain_s"] + 2 * plan["timeout_s"] + 120)


def drive(plan: Plan) -> int:
    """Run the clients of this host and, on the first, the reader; say why it ended where that was not its end."""
    wanted = ("rate", "hosts", "clients", "trigger_s", "window_s", "duration_s", "warmup_s", "find_max")
    note(Path(plan["output"]) / "load.json", {name: plan[name] for name in wanted})
    parts = [find_highest] if plan["find_max"] else [*([read_on] if plan["host_index"] == 0 else []), *clients(plan)]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=part, args=(plan,)) for part in parts]

    def stop(*_: object) -> None:
        for one in processes:
            if one.is_alive():
                one.terminate()

    for one in processes:
        one.start()
    signal.signal(signal.SIGTERM, stop)
    while any(one.is_alive() for one in processes):
        for one in processes:
            one.join(POLL_S)
        if any(one.exitcode for one in processes):  # without results, or without a client, the others go on for nothing
            stop()
            break
    for one in processes:
        one.join()
    for file in sorted(Path(plan["output"]).glob("reader.json")):
        if why := json.loads(file.read_text())["failed"]:
            print(why, file=sys.stderr)
    return 1 if any(one.exitcode for one in processes) else 0


def clients(plan: Plan) -> list[Any]:
    """Return what each client runs."""
    return [lambda plan, index=index: send_on(plan, index) for index in range(plan["clients"])]


class Sender:
    """A client's producer, its numbers and its log; moments are in s after `start_at`."""

    def __init__(self, plan: Plan, index: int) -> None:
        self.plan = plan
        self.name = f"client-{index + 1}"
        self.part = plan["host_index"] * plan["clients"] + index
        self.groups = [f"{self.part}-{group}".encode() for group in range(plan["groups"])]
        self.output = Path(plan["output"])
        self.stopped = threading.Event()
        self.number = self.acknowledged = 0
        self.latest_s = 0.0  # how late the last record was
        self.producer = connected(plan, self.name)
        self.log = Log(self.output / f"{self.name}.requests.csv.gz")
        self.start_at = max(plan["start_at"], time.time() + 0.05)
        self._start = time.monotonic() + self.start_at - time.time()

    def now(self) -> float:
        """Return the time in s after the start."""
        return time.monotonic() - self._start

    def send(self, moments: Iterator[float], warmup_s: float) -> None:
        """Send a record at each moment; those before `warmup_s` are not counted."""
        for due in moments:
            while (left := due - self.now()) > 0:
                if self.stopped.is_set():
                    return
                self.producer.poll(0)
                time.sleep(max(min(left, POLL_S), TICK_S))
            if self.stopped.is_set():
                return
            self._produce(due, due < warmup_s)

    def _produce(self, due: float, warmup: bool) -> None:
        number, due_us = self.number, round((self.start_at + due) * 1e6)
        value = b"%d,%d,%d,%d," % (self.part, number, due_us, number % 100)
        sent = 0.0

        def done(error: Any, _: object) -> None:
            why = "" if error is None else ERRORS.get(error.name(), error.name().strip("_").lower())
            self.acknowledged += error is None
            sent_us, ended_us = (round((self.start_at + at) * 1e6) for at in (sent, self.now()))
            self.log.add(due_us, sent_us, ended_us, number, why, len(value), "record", "", warmup)

        value = value.ljust(self.plan["record_size"], b".")
        while not self.stopped.is_set():
            sent = self.now()
            self.latest_s = sent - due
            try:
                self.producer.produce(
                    self.plan["topic"], value, self.groups[number % len(self.groups)], on_delivery=done
                )
            except BufferError:  # as many are under way as may be
                self.producer.poll(POLL_S)
            else:
                self.number += 1
                return

    def close(self, **known: object) -> None:
        """Wait for what is under way, and note what this client was."""
        if self.stopped.is_set():
            self.producer.purge()
        self.producer.flush(self.plan["timeout_s"] + 1)
        self.log.close()
        about = {
            "client": self.name,
            "role": "producer",
            "loop": "open",
            "generator": "confluent-kafka",
            "part": self.part,
            "groups": len(self.groups),
            "warmup_s": self.plan["warmup_s"],
            "start_us": round(self.start_at * 1e6),
            "ended_us": round(time.time() * 1e6),
            "requests": self.log.rows,
            "errors": self.log.errors,
            "endpoints": list(self.log.endpoints),
        }
        note(self.output / f"{self.name}.json", about | known)


def connected(plan: Plan, name: str) -> Any:
    """Return a producer that knows the topic's leaders, so that no record waits for them."""
    from confluent_kafka import KafkaException, Producer  # noqa: PLC0415 - only the load hosts have it

    settings: dict[str, object] = {
        "bootstrap.servers": plan["bootstrap"],
        "client.id": f"{plan['host']}-{name}",
        "acks": plan["acks"],
        # A group's records stay in their order: a result's highest number says which records are in it.
        **({"enable.idempotence": True} if plan["acks"] == "all" else {"max.in.flight": 1}),
        "linger.ms": 5,
        "log_level": QUIET,
        "delivery.timeout.ms": round(plan["timeout_s"] * 1000),
        "request.timeout.ms": round(plan["timeout_s"] * 1000),
        "queue.buffering.max.messages": 1_000_000,
    }
    try:
        producer = Producer(settings | dict(plan["properties"]))
        found = producer.list_topics(plan["topic"], timeout=plan["timeout_s"]).topics[plan["topic"]]
    except KafkaException as error:
        sys.exit(f"{plan['bootstrap']}: {error.args[0].str()}")
    if found.error is not None:
        sys.exit(f"topic {plan['topic']}: {found.error.str()}")
    return producer


def evenly(rate: float, begin: float, end: float, part: int, of: int) -> Iterator[float]:
    """Yield when one of `of` clients has to send for all of them to send at `rate`, from `begin` to before `end`."""
    for number in range(max(round((end - begin) * rate), 1)):
        if number % of == part:
            yield begin + number / rate


def send_on(plan: Plan, index: int) -> None:
    """One client at its share of the rate."""
    sender = Sender(plan, index)
    signal.signal(signal.SIGTERM, lambda *_: sender.stopped.set())
    of = plan["hosts"] * plan["clients"]
    try:
        sender.send(evenly(plan["rate"], 0.0, plan["duration_s"], sender.part, of), plan["warmup_s"])
    finally:
        sender.close(offered_rate=plan["rate"] / of)


@dataclass
class Reader:
    """What the results topic and the brokers say, as it comes."""

    plan: Plan
    stopped: threading.Event = field(default_factory=threading.Event)
    covered: int = 0  # records that have a result
    stored: int | None = None  # records that the topic had when it was last asked; None before that
    results: int = 0
    points: list[tuple[float, int]] = field(default_factory=list)  # (monotonic s, covered) after results came
    heard: float = field(default_factory=time.monotonic)  # when a result came, or nothing was missing
    answered: float = field(default_factory=time.monotonic)  # when the brokers last said how many there are

    def __post_init__(self) -> None:
        from confluent_kafka import Consumer, TopicPartition  # noqa: PLC0415 - only the load hosts have it

        plan, output = self.plan, Path(self.plan["output"])
        names = {"bootstrap.servers": plan["bootstrap"], "group.id": "labtool-streaming", "enable.auto.commit": False}
        more = {"auto.offset.reset": "earliest", "fetch.wait.max.ms": 100, "log_level": QUIET}
        self._consumer = Consumer(names | more)
        known = self._consumer.list_topics(timeout=plan["timeout_s"])
        self._inputs = [TopicPartition(plan["topic"], number) for number in known.topics[plan["topic"]].partitions]
        leader = known.brokers[known.topics[plan["results"]].partitions[0].leader]
        self.leader = plan["brokers"].get(f"{leader.host}:{leader.port}", "")
        self._consumer.assign([TopicPartition(plan["results"], 0, 0)])
        self._counts: dict[tuple[bytes, int], int] = {}
        self._log = gzip.open(output / "results.csv.gz", "wt", compresslevel=1)  # noqa: SIM115 - closed by close()
        self._log.write("read_us,append_us,group,window_us,count,amount,last\n")
        self._backlog = (output / "backlog.csv").open("w", buffering=1)
        self._backlog.write("time_us,stored,covered\n")
        self._sampled = 0.0

    def step(self) -> None:
        """Take the results that are there, or wait a moment for one; ask the brokers from time to time."""
        before = self.covered
        message = self._consumer.poll(POLL_S)
        while message is not None:
            if message.error() is None:
                self._take(message)
            message = self._consumer.poll(0)
        now = time.monotonic()
        if self.covered > before:
            self.heard = now
            self.points.append((now, self.covered))
        if now - self._sampled >= SAMPLE_S:
            self._sampled = now
            self._ask()

    def _take(self, message: Any) -> None:
        read_us = time.time_ns() // 1000
        value = json.loads(message.value())
        group, window = message.key(), value["window"]
        self.results += 1
        self.covered += value["count"] - self._counts.get((group, window), 0)
        self._counts[group, window] = value["count"]
        row = (read_us, message.timestamp()[1] * 1000, group.decode(), window)
        self._log.write(",".join(map(str, (*row, value["count"], value["amount"], value["last"]))) + "\n")

    def _ask(self) -> None:
        from confluent_kafka import KafkaException  # noqa: PLC0415

        try:
            ends = [self._consumer.get_watermark_offsets(one, timeout=2.0)[1] for one in self._inputs]
        except KafkaException:
            return  # `why_over` says it when it lasts
        self.answered = time.monotonic()
        self.stored = sum(ends)
        self._backlog.write(f"{time.time_ns() // 1000},{self.stored},{self.covered}\n")
        if self.covered >= self.stored:
            self.heard = self.answered

    def why_over(self) -> str:
        """Return why there is nothing to wait for any more, a sentence; '' where there is."""
        now = time.monotonic()
        patience = max(SILENT_S if self.results else FIRST_S, 10 * self.plan["trigger_s"])
        silent = now - self.answered
        # Without brokers there are no results either: they are the cause, whichever is noticed first.
        if silent > SILENT_S or (now - self.heard > patience and silent > 10 * SAMPLE_S):
            return f"the brokers ({self.plan['bootstrap']}) have not answered for {silent:.0f} s"
        if now - self.heard > patience:
            missing = (self.stored or 0) - self.covered
            return f"no result came for {patience:.0f} s, with {missing:,} records waiting for theirs"
        return ""

    def close(self, failed: str, **known: object) -> None:
        """Note how it ended."""
        self._log.close()
        self._backlog.close()
        said = {"failed": failed, "covered": self.covered, "stored": self.stored, "results": self.results}
        about = {"append_clock": self.leader, "window_us": round(self.plan["window_s"] * 1e6), **said, **known}
        note(Path(self.plan["output"]) / "reader.json", about)
        self._consumer.close()


def read_on(plan: Plan) -> None:
    """Read results until all records have theirs, for `drain_s` after the load at most."""
    reader = Reader(plan)
    signal.signal(signal.SIGTERM, lambda *_: reader.stopped.set())
    load_ends, failed = plan["start_at"] + plan["duration_s"], ""
    reader.heard = reader.answered = time.monotonic() + max(plan["start_at"] - time.time(), 0)
    while not reader.stopped.is_set() and not failed and time.time() < load_ends + plan["drain_s"]:
        reader.step()
        # A client may still be sending what was due: the count is of a moment when none is any more.
        if time.time() > load_ends + 2.0 and reader.stored is not None and reader.covered >= reader.stored:
            break
        failed = reader.why_over()
    reader.close(failed, ended_us=time.time_ns() // 1000)
    if failed:
        sys.exit(3)


# Up to what is sustained


def find_highest(plan: Plan) -> None:
    """Find the highest rate that the query sustains; steps.json has every step."""
    sender, reader = Sender(plan, 0), Reader(plan)
    steps: list[dict[str, Any]] = []

    def stop(*_: object) -> None:
        sender.stopped.set()
        reader.stopped.set()

    signal.signal(signal.SIGTERM, stop)
    failed: list[str] = []

    def read() -> None:
        while not reader.stopped.is_set():
            reader.step()
            if why := reader.why_over():
                failed.append(why)
                stop()

    thread = threading.Thread(target=read, name="reader")
    thread.start()
    try:
        _search(plan, sender, reader, steps)
    finally:
        reader.stopped.set()
        thread.join()
        (sender.output / "steps.json").write_text(json.dumps(steps, indent=2) + "\n")
        sender.close(offered_rate=None, find_max=True)
        reader.close("".join(failed[:1]), ended_us=time.time_ns() // 1000)
    if failed:
        sys.exit(3)


def _search(plan: Plan, sender: Sender, reader: Reader, steps: list[dict[str, Any]]) -> None:
    search = Search(plan["rate"], plan["peak"], plan["precision"])
    if plan["warmup_s"] > 0:
        begin = sender.now() + 0.05
        sender.send(evenly(search.rate, begin, begin + plan["warmup_s"], 0, 1), math.inf)
        drain(plan, sender, reader)
    while not sender.stopped.is_set() and (rate := search.next()) is not None:
        if sender.now() + plan["step_s"] > plan["duration_s"]:
            steps.append({"note": f"no time was left for a step at {rate:.1f} records/s"})
            break
        step = tried(plan, sender, reader, rate)
        if sender.stopped.is_set():
            break
        steps.append(step | {"decided": search.tell(rate, step.pop("excess"))})
        if step["saturated"]:
            steps.append({"note": f"the load host itself was late at {rate:.1f} records/s: the query may sustain more"})
            break
        if not drain(plan, sender, reader):
            steps.append({"note": f"what was left of {rate:.1f} records/s was not worked off in {plan['drain_s']} s"})
            break
    steps.append({"answer": {"held": search.held, "failed": search.failed}})


def drain(plan: Plan, sender: Sender, reader: Reader) -> bool:
    """Wait until every acknowledged record has its result; False where it took too long."""
    sender.producer.flush(plan["timeout_s"])
    until = time.monotonic() + plan["drain_s"]
    while reader.covered < sender.acknowledged and not sender.stopped.is_set():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def tried(plan: Plan, sender: Sender, reader: Reader, rate: float) -> dict[str, Any]:
    """Send at a rate until it is known whether its backlog grows, or for long enough; return the step."""
    begin, first, before = sender.now() + 0.05, sender.number, sum(sender.log.errors.values())
    reader.points.clear()
    # The backlog is of acknowledged records, in this host's clock, each time when a batch's results have come.
    seen: list[tuple[float, float]] = []
    end, judged = begin, Judged(None, None)
    for length in range(1, LONGEST_STEPS + 1):
        start, end = end, begin + length * plan["step_s"]
        if end > plan["duration_s"]:
            break
        _send_and_watch(sender, reader, evenly(rate, start, end, 0, 1), seen)
        judged = judge(seen, begin + (end - begin) * BEGIN_SHARE, plan["trigger_s"])
        if sender.stopped.is_set() or judged.told(rate, plan["trigger_s"]):
            break
    saturated = sender.latest_s > LATE_S
    return judged.step(plan, rate, saturated) | {
        "start_us": round((sender.start_at + begin) * 1e6),
        "end_us": round((sender.start_at + sender.now()) * 1e6),
        "offered_rate": rate,
        "requests": sender.number - first,
        "errors": sum(sender.log.errors.values()) - before,
        "saturated": saturated,
    }


def _send_and_watch(sender: Sender, reader: Reader, moments: Iterator[float], seen: list[tuple[float, float]]) -> None:
    """Send, and note the backlog at each batch's results."""
    taken = 0

    def watched() -> Iterator[float]:
        nonlocal taken
        for due in moments:
            yield due
            for _, covered in itertools.islice(reader.points, taken, None):
                taken += 1
                seen.append((sender.now(), float(sender.acknowledged - covered)))

    reader.points.clear()
    sender.send(watched(), -math.inf)


@dataclass(frozen=True)
class Judged:
    """What the backlog and the batches of a step say."""

    growth: Growth | None
    apart_s: float | None  # how far batches are apart, in the middle of all

    def told(self, rate: float, trigger_s: float) -> bool:
        """Return True if a longer step would say nothing else."""
        return self.growth is not None and (self.growth.told(rate) or self.behind(trigger_s))

    def behind(self, trigger_s: float) -> bool:
        """Return True if batches take longer than the trigger."""
        return trigger_s > 0 and self.apart_s is not None and self.apart_s > SLACK * trigger_s

    def step(self, plan: Plan, rate: float, saturated: bool) -> dict[str, Any]:
        """Return the step's objectives, and its worst value as a multiple of its bound."""
        grown = None if self.growth is None else 100 * self.growth.slope / rate
        bound = 1.0
        objectives = [{"text": "growth < 1 %", "unit": "%", "bound": bound, "value": grown}]
        # A slope whose interval has zero in it is none.
        grows = self.growth is None or self.growth.grows(rate)
        excess = [max(grown or 0.0, bound) / bound if grows else 0.0]
        if trigger := plan["trigger_s"]:
            most = SLACK * trigger
            text = f"batches < {most:g} s"
            objectives.append({"text": text, "unit": "s", "bound": most, "value": self.apart_s})
            excess.append((self.apart_s or math.inf) / most)
        worst = max(excess)
        return {
            "objectives": objectives,
            "excess": worst,
            "held": worst < 1 and not saturated,
            "too_few": self.growth is None,
            "growth_low": self.growth and self.growth.low,
            "growth_high": self.growth and self.growth.high,
        }


def judge(seen: list[tuple[float, float]], since: float, trigger_s: float) -> Judged:
    """Judge the batches whose results came after `since` (s)."""
    points = by_batch([point for point in seen if point[0] >= since], max(0.3 * trigger_s, 0.15))
    apart = sorted(b[0] - a[0] for a, b in itertools.pairwise(points))
    return Judged(
        growth([at for at, _ in points], [left for _, left in points]), apart[len(apart) // 2] if apart else None
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
