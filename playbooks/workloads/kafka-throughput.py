"""What Kafka's performance tools, or our worker, said, as rows of `workload_intervals` and `workload_summary`.

Reads `raw/kafka-throughput/<host>/<client>.{json,out,err}`, as files/kafka_load.py leaves them: each line behind the
time it came, in microseconds since 1970 by the load host's clock. Where this must be known to read the numbers:

- The producer tool measures latency from the actual send, in whole milliseconds: what a record waited for its turn is
  not in it, so percentiles are too good when the achieved rate falls short of the offered one.
- Its `MB/sec` and the consumer's are of 1,048,576 bytes, and of record values only.
- A summary is the tool's steady-state one where it printed one (the warm-up left out), else its summary, else, when
  it was ended before it printed any, what the intervals add up to, without percentiles. A client without intervals has
  a summary too, so that what was asked of it counts and why it ended is told.
- The producer tool drops the interval in which its warm-up ends. How many records were in it is known, since it says
  how many the warm-up has: they are in the interval after it.
- The consumer tool prints an interval only when a later record comes, and no total when it is ended: the last records
  it read may be missing from its counts.

`raw/kafka-throughput/end-offsets.json` has the records that each partition was given, as the brokers count them: a
second opinion on what the producers say, in `workload_counts`.

Our worker (files/KafkaWorker.java) leaves `worker.json` and `worker.jsonl`, a line a second with all latencies, for the
producers and the consumers of a host together. Its producers' latencies in the tables are from when a record was due,
its consumers' from when it was sent; `workload_latencies` has both, and from which all others follow. The warm-up is in
the intervals only.

Files of OpenMessaging Benchmark become options here (`settle`), and the run's tables its result (`results`).
"""

import json
import math
import re
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from labtool import openmessaging
from labtool.dataset import openmessaging as as_result
from labtool.dataset.requests import encoded
from labtool.dataset.run import RunRecord
from labtool.dataset.schema import TABLES
from labtool.errors import DataError
from labtool.experiment.settle import check_settings

MIB = 1 << 20
PRECISE_RATE = 50.0
Rows = dict[str, list[dict[str, Any]]]

NUMBER = r"(-?[\d.]+(?:E-?\d+)?|NaN)"
SENT = rf"(\d+) (steady state )?records sent, {NUMBER} records/sec \({NUMBER} MB/sec\), {NUMBER} ms avg latency, "
INTERVAL = re.compile(rf"{SENT}{NUMBER} ms max latency\.")
SUMMARY = re.compile(rf"{SENT}{NUMBER} ms max latency, (\d+) ms 50th, (\d+) ms 95th, (\d+) ms 99th, (\d+) ms 99\.9th\.")
WARMUP = re.compile(r"Warmup first (\d+) records\.")
STEADY = "In steady state."
FAILED_SEND = re.compile(r"org\.apache\.kafka\.common\.errors\.\w+")
CONSUMER_HEADER = (
    "time, threadId, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, "
    "rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec"
)


@dataclass
class Client:
    """One tool's output."""

    name: str  # host/client
    parameters: dict[str, Any]
    lines: list[tuple[float, str]]
    failed: list[float]  # when each failed send was reported
    file: Path
    intervals: list[dict[str, Any]] = field(default_factory=list)
    summary: re.Match[str] | None = None
    summary_at: float = 0.0
    acknowledged: int | None = None  # of its whole life, warm-up included; None where it was ended before its summary

    @property
    def offered(self) -> float | None:
        """Records/s it was asked for; None where nothing was asked."""
        rate = self.parameters.get("offered_rate")
        return None if rate is None else float(rate)

    @property
    def errors(self) -> int | None:
        """Failed sends; None where no broker was to answer, so that it cannot know."""
        return known(len(self.failed), self.parameters) if self.parameters["role"] == "producer" else 0

    @property
    def failure(self) -> str:
        """How it failed; '' where it did not."""
        return failure(self.parameters)


def parse(raw: Path, run: dict[str, Any]) -> Rows:
    """Return the tables' rows; `DataError` names the file and the line that no tool of ours prints."""
    intervals: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []
    latencies: list[dict[str, Any]] = []
    producers: list[Client] = []
    for file in sorted((raw / "kafka-throughput").glob("*/*.json")):
        client = read_client(file)
        role = client.parameters.get("role")
        if role == "producer":
            read_producer(client)
            producers.append(client)
        elif role == "consumer":
            read_consumer(client)
        elif role == "worker":
            worker = Worker.read(file)
            client.acknowledged = worker.acknowledged
            producers.append(client)
            intervals += worker.intervals()
            summaries += worker.summaries()
            latencies += worker.latencies()
        else:
            raise DataError(f"{file}: role is {role!r}, expected producer, consumer or worker")
        intervals += client.intervals
        if role != "worker":
            summaries.append(summarise(client) if client.intervals else silent(client))
    tables = {
        "workload_intervals": intervals,
        "workload_summary": summaries,
        "workload_latencies": latencies,
        "workload_counts": count(producers, raw / "kafka-throughput" / "end-offsets.json"),
    }
    return {name: rows for name, rows in tables.items() if rows}


def read_client(file: Path) -> Client:
    """Read a client's parameters and output."""
    try:
        parameters = json.loads(file.read_text())
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}", "it was cut or edited by hand") from None
    failed = [at for at, line in stamped(file.with_suffix(".err")) if FAILED_SEND.match(line)]
    lines = list(stamped(file.with_suffix(".out")))
    return Client(f"{file.parent.name}/{file.stem}", parameters, lines, failed, file.with_suffix(".out"))


def known(errors: int, parameters: dict[str, Any]) -> int | None:
    """Return a producer's errors; None where it saw none because no broker was to answer."""
    return errors or None if str(parameters["acks"]) == "0" else errors


def failure(parameters: dict[str, Any]) -> str:
    """Return how a client ended that neither did all it was to do nor was told to end; '' for any other."""
    code = parameters.get("exit_code")
    if not code or parameters.get("stopped"):
        return ""
    if code < 0:
        try:
            return f"killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"killed by signal {-code}"
    return f"ended with exit code {code}"


def stamped(file: Path) -> Iterator[tuple[float, str]]:
    """Yield (seconds since 1970, line); a last line without its end was cut and is left out."""
    if not file.exists():
        return
    *whole, _cut = file.read_text(errors="replace").split("\n")
    for number, line in enumerate(whole, 1):
        stamp, _, text = line.partition(" ")
        if not stamp.isdigit():
            raise DataError(f"{file}:{number}: {stamp!r} is no time in microseconds")
        yield int(stamp) / 1e6, text.rstrip()


def read_producer(client: Client) -> None:
    """Fill the intervals and the summary from `kafka-producer-perf-test`'s lines."""
    before = client.parameters["started_us"] / 1e6
    warmup = unprinted = 0
    for number, (at, line) in enumerate(client.lines, 1):
        if match := SUMMARY.fullmatch(line):
            client.summary, client.summary_at = match, at  # the steady-state one comes last
            if not match[2]:
                client.acknowledged = int(match[1])
        elif (match := INTERVAL.fullmatch(line)) and at > before:
            count, rate = int(match[1]), float(match[3])
            seconds = at - before
            if unprinted:
                count += unprinted
            elif rate >= PRECISE_RATE:
                seconds = count / rate
            elif rate > 0 and not client.intervals:
                seconds = min(seconds, count / rate)  # the JVM's start is before it
            # Else the time between the lines tells more of few records than a rate with one decimal.
            warmup, unprinted = warmup - count, 0
            errors = sum(1 for failed in client.failed if before < failed <= at)
            client.intervals.append(
                interval(client, "producer", at, seconds, count / seconds)
                | {
                    "bytes_rate": count / seconds * client.parameters["record_size"],
                    "latency_avg_ms": float(match[5]),
                    "latency_max_ms": float(match[6]),
                    "errors": known(errors, client.parameters),
                }
            )
            before = at
        elif match := WARMUP.match(line):
            warmup, before = int(match[1]), at
        elif line == STEADY:
            # The tool prints nothing of the interval in which its warm-up ended: its records are of the next one here.
            unprinted = max(warmup, 0)
        elif line:
            raise DataError(f"{client.file}:{number}: no line of kafka-producer-perf-test: {line[:80]!r}")


def read_consumer(client: Client) -> None:
    """Fill the intervals from `kafka-consumer-perf-test --show-detailed-stats`."""
    seen_records = seen_mib = 0.0
    for number, (at, line) in enumerate(client.lines, 1):
        if line == CONSUMER_HEADER or not line:
            continue
        cells = line.split(", ")
        try:
            mib, records, rebalance_ms, fetch_ms = (float(cells[at_]) for at_ in (2, 4, 6, 7))
            if len(cells) != CONSUMER_HEADER.count(",") + 1:
                raise ValueError
        except (ValueError, IndexError):
            raise DataError(f"{client.file}:{number}: no row of kafka-consumer-perf-test: {line[:80]!r}") from None
        # Joining the group is part of the first interval: its rate is low because of it, and that is what happened.
        seconds = (rebalance_ms + fetch_ms) / 1000
        if seconds > 0:
            row = interval(client, "consumer", at, seconds, (records - seen_records) / seconds)
            client.intervals.append(row | {"bytes_rate": (mib - seen_mib) * MIB / seconds, "errors": 0})
        seen_records, seen_mib = records, mib


def count(producers: list[Client], file: Path) -> list[dict[str, Any]]:
    """Return the producers' count of records beside the brokers', if both are whole.

    A producer that was ended may have sent records it never told of, and one that asks for no acknowledgement doesn't
    know what arrived.
    """
    known = [client.acknowledged for client in producers if client.acknowledged is not None]
    unasked = any(str(client.parameters["acks"]) == "0" for client in producers)
    if not producers or unasked or len(known) < len(producers) or not file.exists():
        return []
    try:
        stored = sum(int(records) for records in json.loads(file.read_text()).values())
    except (ValueError, AttributeError, TypeError):
        raise DataError(f"{file}: expected a number of records for each partition") from None
    if not stored:
        return []  # the topic was gone before it could be asked
    return [
        {
            "what": "records",
            "claimed": sum(known),
            "claimed_by": "the producers' acknowledged sends",
            "counted": stored,
            "counted_by": "the topic's end offsets",
        }
    ]


def interval(client: Client, role: str, at: float, seconds: float, rate: float) -> dict[str, Any]:
    """Return the columns that every interval has, and null for those it may not have."""
    return {
        "time": datetime.fromtimestamp(at, UTC),
        "duration_s": seconds,
        "client": client.name,
        "role": role,
        "offered_rate": client.offered,
        "rate": rate,
        "latency_avg_ms": None,
        "latency_max_ms": None,
        "p50_ms": None,
        "p90_ms": None,
        "p99_ms": None,
    }


def summarise(client: Client) -> dict[str, Any]:
    """Return the client's row of `workload_summary`."""
    first, last = client.intervals[0], client.intervals[-1]
    start, end = first["time"] - timedelta(seconds=first["duration_s"]), last["time"]
    counts = [row["rate"] * row["duration_s"] for row in client.intervals]
    seconds = max((end - start).total_seconds(), 1e-9)
    weighted = [
        (row["latency_avg_ms"], count)
        for row, count in zip(client.intervals, counts, strict=True)
        if row["latency_avg_ms"] is not None
    ]
    measured = [row["latency_max_ms"] for row in client.intervals if row["latency_max_ms"] is not None]
    row: dict[str, Any] = {
        "client": client.name,
        "role": client.parameters["role"],
        "start": start,
        "end": end,
        "operations": round(sum(counts)),
        "errors": client.errors,
        "offered_rate": client.offered,
        "rate": sum(counts) / seconds,
        "bytes_rate": sum(one["bytes_rate"] * one["duration_s"] for one in client.intervals) / seconds,
        "latency_avg_ms": sum(a * n for a, n in weighted) / max(sum(n for _, n in weighted), 1) if weighted else None,
        "latency_max_ms": max(measured, default=None),
        "p50_ms": None,
        "p95_ms": None,
        "p99_ms": None,
        "p999_ms": None,
        "failure": client.failure,
    }
    if client.summary is not None:
        found = client.summary
        rate = float(found[3])
        operations = int(found[1])
        end = datetime.fromtimestamp(client.summary_at, UTC)
        row |= {
            "end": end,
            "start": end - timedelta(seconds=operations / rate) if rate > 0 else start,
            "operations": operations,
            "rate": rate,
            "bytes_rate": rate * client.parameters["record_size"],
            "latency_avg_ms": float(found[5]),
            "latency_max_ms": float(found[6]),
            "p50_ms": float(found[7]),
            "p95_ms": float(found[8]),
            "p99_ms": float(found[9]),
            "p999_ms": float(found[10]),
        }
    return row


def silent(client: Client) -> dict[str, Any]:
    """Return the row of a client that told of no record: it has no times, and no part in the window."""
    columns = (column.name for column in TABLES["workload_summary"])
    return dict.fromkeys(columns) | {
        "client": client.name,
        "role": client.parameters["role"],
        "operations": 0,
        "errors": client.errors,
        "offered_rate": client.offered,
        "failure": client.failure,
    }


def settle(typed: dict[str, Any], minutes: float | None) -> openmessaging.Asked:
    """Return what OpenMessaging Benchmark's files ask for, where some were typed."""
    return openmessaging.asked(typed, minutes)


def check(values: dict[str, Any]) -> None:
    """Refuse options that do not go together, and settings that another option is for."""
    openmessaging.check(values)
    ours = {"bootstrap.servers", *openmessaging.OURS}
    check_settings("--properties", values["properties"], "linger.ms=5 compression.type=lz4", {"acks": "--acks"}, ours)
    check_settings("--consumer-properties", values["consumer_properties"], "fetch.min.bytes=1000", {}, ours)


def results(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the run's result as OpenMessaging Benchmark writes it."""
    kept = (folder / "raw" / "kafka-throughput" / name for name in ("workload.yaml", "driver.yaml"))
    workload, driver = openmessaging.names(*(file if file.is_file() else None for file in kept))
    found = as_result.of_run(folder, RunRecord.of(run), workload or run["name"], driver)
    return {as_result.FILE: found} if found else {}


LATENCIES = ("latency", "service", "delay", "end to end")


@dataclass
class Line:
    """A second of a worker."""

    start: float  # s since 1970
    end: float
    said: dict[str, Any]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start

    @property
    def middle(self) -> float:
        """What says where it belongs: lines end some ms late."""
        return (self.start + self.end) / 2


@dataclass
class Worker:
    """What a host's worker told."""

    host: str
    parameters: dict[str, Any]
    lines: list[Line]
    cut: bool  # the last line has no end, or there is none

    @classmethod
    def read(cls, file: Path) -> "Worker":
        """Read `worker.json` and the lines beside it; a last one without its end was cut and is left out."""
        told = file.with_suffix(".jsonl")
        *whole, rest = told.read_text().split("\n") if told.exists() else [""]
        lines = []
        for number, text in enumerate(whole, 1):
            try:
                said = json.loads(text)
                end = said["end_us"] / 1e6
                lines.append(Line(end - said["seconds"], end, said))
            except (ValueError, KeyError, TypeError):
                raise DataError(f"{told}:{number}: no line of KafkaWorker: {text[:80]!r}") from None
        return cls(file.parent.name, json.loads(file.read_text()), lines, bool(rest) or not lines)

    @property
    def acknowledged(self) -> int | None:
        """How many records of the producers were stored; None where the worker was ended before it knew."""
        known = self.parameters.get("exit_code") == 0 and not self.cut
        return sum(line.said["sent"] for line in self.lines) if known else None

    @property
    def rate(self) -> float | None:
        """Records/s that were asked for; None where nothing was."""
        return self.parameters["rate"] or None

    @property
    def load_end(self) -> float:
        """When the last record was due."""
        return self.lines[0].start + float(self.parameters["duration_s"])

    @property
    def measured(self) -> float:
        """When the warm-up was over."""
        return self.lines[0].start + float(self.parameters["warmup_s"])

    def intervals(self) -> list[dict[str, Any]]:
        """Return a row a line of the producers while they sent, and of the consumers until all was read."""
        found = []
        heard = max((at for at, line in enumerate(self.lines) if line.said["received"]), default=-1)
        for at, line in enumerate(self.lines):
            for role, count, size, measure in CLIENTS:
                if not self.has(role) or (line.middle > self.load_end and (role == "producer" or at > heard)):
                    continue
                found.append(
                    {
                        "time": datetime.fromtimestamp(line.end, UTC),
                        "duration_s": line.seconds,
                        "client": f"{self.host}/{role}s",
                        "role": role,
                        "offered_rate": self.rate if role == "producer" else None,
                        "rate": line.said[count] / line.seconds,
                        "bytes_rate": line.said[size] / line.seconds,
                        "errors": known(line.said["failed"], self.parameters) if role == "producer" else 0,
                        **stated([line], measure, p50_ms=0.5, p90_ms=0.9, p99_ms=0.99),
                    }
                )
        return found

    def summaries(self) -> list[dict[str, Any]]:
        """Return a row of the producers and one of the consumers, without the warm-up."""
        counted = [line for line in self.lines if line.middle >= self.measured]
        found = []
        for role, count, size, measure in CLIENTS:
            operations = sum(line.said[count] for line in counted)
            if not self.has(role) or not operations:
                continue
            # What was acknowledged after the last record was due is counted, but of no rate.
            timed = [line for line in counted if role == "consumer" or line.middle <= self.load_end]
            end = min(self.load_end, timed[-1].end) if role == "producer" and timed else counted[-1].end
            seconds = max(end - counted[0].start, 1e-9)
            failed = sum(line.said["failed"] for line in counted)
            found.append(
                {
                    "client": f"{self.host}/{role}s",
                    "role": role,
                    "start": datetime.fromtimestamp(counted[0].start, UTC),
                    "end": datetime.fromtimestamp(end, UTC),
                    "operations": operations,
                    "errors": known(failed, self.parameters) if role == "producer" else 0,
                    "offered_rate": self.rate if role == "producer" else None,
                    "rate": sum(line.said[count] for line in timed) / seconds,
                    "bytes_rate": sum(line.said[size] for line in timed) / seconds,
                    **stated(counted, measure, p50_ms=0.5, p95_ms=0.95, p99_ms=0.99, p999_ms=0.999),
                    "failure": failure(self.parameters),
                }
            )
        if failure(self.parameters):
            told = {row["role"] for row in found}
            for role, *_ in CLIENTS:
                if self.has(role) and role not in told:
                    parameters = {**self.parameters, "role": role, "offered_rate": self.rate}
                    if role == "consumer":
                        parameters["offered_rate"] = None
                    found.append(silent(Client(f"{self.host}/{role}s", parameters, [], [], Path())))
        return found

    def latencies(self) -> list[dict[str, Any]]:
        """Return a row a measure and period of 10 s; what ended after the load's end is in the last period."""
        periods: dict[int, list[Line]] = {}
        last = max(math.ceil((self.load_end - self.measured) / as_result.PERIOD_S - 1e-3) - 1, 0) if self.lines else 0
        for line in self.lines:
            if line.middle >= self.measured:
                at = min(int((line.middle - self.measured) / as_result.PERIOD_S), last)
                periods.setdefault(at, []).append(line)
        found = []
        for at, lines in sorted(periods.items()):
            start = self.measured + at * as_result.PERIOD_S
            end = min(start + as_result.PERIOD_S, self.load_end)
            for measure in LATENCIES:
                seen = counts(lines, measure)
                if not seen:
                    continue
                found.append(
                    {
                        "time": datetime.fromtimestamp(end, UTC),
                        "duration_s": end - start,
                        "client": f"{self.host}/{'consumers' if measure == 'end to end' else 'producers'}",
                        "measure": measure,
                        "operations": seen.total(),
                        "sum_ms": sum(line.said[measure]["sum"] for line in lines) / 1e3,
                        "highest_ms": max(line.said[measure]["highest"] for line in lines) / 1e3,
                        "histogram": encoded((max(us, 1), n) for us, n in sorted(seen.items())),
                    }
                )
        return found

    def has(self, role: str) -> bool:
        """Return True if there were any of that role on this host."""
        consumers = self.parameters["consumers"] * self.parameters["subscriptions"]
        return bool(self.parameters["producers"] if role == "producer" else consumers)


CLIENTS = (("producer", "sent", "sent_bytes", "latency"), ("consumer", "received", "received_bytes", "end to end"))


def counts(lines: Iterable[Line], measure: str) -> Counter[int]:
    """Return how often each value (µs) of a measure was seen."""
    found: Counter[int] = Counter()
    for line in lines:
        found.update({int(value): n for value, n in line.said[measure]["counts"].items()})
    return found


def stated(lines: list[Line], measure: str, **levels: float) -> dict[str, float | None]:
    """Return the mean, the highest and the levels of a measure in ms; None of each where nothing was measured."""
    seen = counts(lines, measure)
    n = seen.total()
    if not n:
        return dict.fromkeys(["latency_avg_ms", "latency_max_ms", *levels])
    found: dict[str, float | None] = {
        "latency_avg_ms": sum(line.said[measure]["sum"] for line in lines) / n / 1e3,
        "latency_max_ms": max(line.said[measure]["highest"] for line in lines) / 1e3,
    }
    ordered = sorted(seen)
    for name, q in levels.items():
        wanted, passed = max(math.ceil(n * q - 1e-9), 1), 0
        for value in ordered:
            passed += seen[value]
            if passed >= wanted:
                found[name] = value / 1e3
                break
    return found
