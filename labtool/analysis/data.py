"""A run in memory, as the analysis and the figures read it: arrays over seconds since the window's start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labtool.dataset.run import HostRecord, Missing, RunRecord

if TYPE_CHECKING:
    from labtool.analysis.application import Application

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
"""Lengths of time in s of single requests: to 7 digits, which is finer than any tool's clock, at half the memory."""
Codes = npt.NDArray[np.uint16]
"""Positions in a tuple of names."""
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Series:
    """Values over time. A point at `t` (s since the window's start) covers the time since the point before it."""

    t: Floats
    v: Floats

    def __len__(self) -> int:
        return len(self.t)

    def between(self, start: float, end: float) -> Series:
        """Return the points that cover (start, end]."""
        inside = (self.t > start) & (self.t <= end)
        return Series(self.t[inside], self.v[inside])

    @property
    def step(self) -> float:
        """The usual distance of two points in s; 1 where there are fewer than two."""
        return float(np.median(np.diff(self.t))) if len(self.t) > 1 else 1.0


EMPTY = Series(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Labelled:
    """A series of CloudWatch or of a service: who it is about, and what it is."""

    host: str
    source: str  # CloudWatch's namespace, or the service
    metric: str
    unit: str
    series: Series
    statistic: str = ""  # CloudWatch's
    period_s: float = 0.0  # CloudWatch's; a point at t covers [t, t + period)


@dataclass(frozen=True)
class Client:
    """One client of the workload over time: arrays of one length, an element per interval.

    `end` and `duration` are in s, rates in operations/s and bytes/s, latencies in ms. What the tool does not measure
    is not a number.
    """

    name: str
    role: str
    end: Floats
    duration: Floats
    offered: Floats
    rate: Floats
    bytes_rate: Floats
    latency_avg: Floats
    latency_max: Floats
    p50: Floats
    p90: Floats
    p99: Floats
    errors: Floats

    @property
    def host(self) -> str:
        """The host it ran on."""
        return self.name.split("/", 1)[0]

    @property
    def start(self) -> Floats:
        """Where each interval begins."""
        return self.end - self.duration


@dataclass(frozen=True)
class ClientSummary:
    """What a client said at its end, over the whole of its life (warm-up included, unless it left that out)."""

    name: str
    role: str
    start: float | None
    end: float | None
    operations: float | None
    errors: float | None
    offered: float | None
    rate: float | None
    bytes_rate: float | None
    latency_avg: float | None
    latency_max: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    failure: str = ""  # how it failed, as "killed by signal 9 (SIGKILL)"; '' where it did not

    @property
    def host(self) -> str:
        """The host it ran on."""
        return self.name.split("/", 1)[0]


@dataclass(frozen=True)
class Count:
    """Something that the clients and the system under test counted independently of each other."""

    what: str
    claimed: int
    claimed_by: str
    counted: int
    counted_by: str


@dataclass(frozen=True)
class Event:
    """A stage, a task, a fault, a gap: `end` is None for an instant."""

    start: float
    end: float | None
    host: str
    kind: str
    name: str
    status: str
    detail: str


@dataclass(frozen=True)
class ClockReading:
    """A host's clock minus the controller's: the truth lies within `offset_s` ± `bound_s`."""

    t: float
    host: str
    phase: str
    offset_s: float
    bound_s: float
    samples: int


@dataclass(frozen=True)
class ObserverCost:
    """What the collectors of a host used during `window_s`; None where it is not known."""

    host: str
    window_s: float
    cpu_s: float | None
    bytes_written: float | None
    bytes_sent: float | None


@dataclass(frozen=True)
class LogFile:
    """A log of a service: `lines` and what follows are None where it could not be read as text."""

    host: str
    service: str
    source: str
    file: str  # in the run's directory
    bytes: float | None
    lines: int | None
    warnings: int | None
    errors: int | None


@dataclass(frozen=True)
class LogMessage:
    """A warning or error of a service on a host; `first` is in s of the window, None where it has no time."""

    host: str
    service: str
    level: str
    message: str
    times: int
    first: float | None


WHOLE = "without the warm-up"


@dataclass(frozen=True)
class Requests:
    """The single requests of the clients: arrays of one length, an element per request, in no order.

    `due` is in s since the window's start, the others in s. What is not known is not a number: `late` of a request
    that never was sent, `latency` of one that never ended. Status is 0 where no answer came. Error 0 is success.
    """

    due: Floats
    late: Singles
    service: Singles
    latency: Singles
    status: npt.NDArray[np.uint16]
    error: Codes
    endpoint: Codes
    client: Codes
    warmup: Flags
    errors: tuple[str, ...]  # '' first
    endpoints: tuple[str, ...]
    clients: tuple[str, ...]
    counted_as: str = WHOLE  # which requests are counted, in words

    def __len__(self) -> int:
        return len(self.due)

    @property
    def ok(self) -> Flags:
        """Those that succeeded."""
        ok: Flags = self.error == 0
        return ok

    @property
    def counted(self) -> Flags:
        """Those that numbers are made of: without the warm-up."""
        return ~self.warmup

    @property
    def good(self) -> Flags:
        """Those whose times are in percentiles: counted, succeeded, and measured."""
        good: Flags = self.counted & self.ok & np.isfinite(self.latency)
        return good


@dataclass(frozen=True)
class Objective:
    """What a step of a search had to hold: `text` as it was typed, bound and value in `unit`."""

    text: str
    bound: float
    value: float | None  # None where too few succeeded to have one
    unit: str


@dataclass(frozen=True)
class Step:
    """A step of a search for the highest rate; `start` and `end` in s of the window."""

    start: float
    end: float
    offered: float
    operations: float
    errors: float
    held: bool
    saturated: bool  # the load host was late itself
    too_few: bool
    objectives: tuple[Objective, ...]


@dataclass(frozen=True)
class Url:
    """A path of the server's log, without its query, in the measured part; times in s."""

    name: str  # GET /index.php
    requests: int
    total_s: float
    median_s: float
    p99_s: float | None  # None where so few requests do not carry it


@dataclass(frozen=True)
class Matched:
    """The clients' requests held against the server's log, by the id that both know."""

    sent: int  # requests with an id that were sent, warm-up included
    logged: int  # of them those that the log has
    missing: tuple[tuple[str, int], ...]  # of the others: how they ended at the client ('' answered) → how many
    missing_span: tuple[float, float] | None  # s of the window in which the answered ones of them were due
    others: int  # rows of the log that none of the clients sent, in the clients' time
    others_named: tuple[tuple[str, int], ...]  # the most frequent of them: GET /health → how many
    again: int  # rows beyond the first of the same id: the request came again
    status_differs: int  # answered ones whose two statuses differ
    service: Singles  # of every answered pair: as the client measured it, from the send
    duration: Singles  # and as the server did


@dataclass(frozen=True)
class AccessLog:
    """The log of the servers that the clients talk to: arrays of one length, an element per line, in no order."""

    service: str  # haproxy where there is one, else httpd
    t: Floats
    duration: Singles
    status: npt.NDArray[np.uint16]
    backend: Codes
    host: Codes
    backends: tuple[str, ...]
    hosts: tuple[str, ...]
    urls: tuple[Url, ...] = ()  # the most time-consuming and the slowest, of the servers that answered
    matched: Matched | None = None  # None where requests have no ids

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True)
class Stream:
    """A streaming query: arrays with an element per batch that Spark told of, in their order; times in s.

    `stored` is how many records the topic had, as the brokers said when they were asked, `covered` how many of them
    were in a result by then.
    """

    start: Floats
    duration: Floats
    phases: Mapping[str, Floats]  # column of `stream_batches` without its unit → s; not a number where it had none
    rows: Floats
    input_rate: Floats
    processed_rate: Floats
    end_offset: Floats
    late_rows: Floats
    trigger_s: float  # 0 where a batch begins as soon as the last one has ended
    stored: Series
    covered: Series
    append_host: str = ""  # the broker whose clock results have; '' where there are none

    @property
    def end(self) -> Floats:
        """When each batch ended."""
        return self.start + self.duration


@dataclass(frozen=True)
class RunData:
    """Everything of a run that findings and figures are made of."""

    record: RunRecord
    origin: datetime  # the window's start; every time below is in s since then
    length_s: float  # of the window, warm-up included; 0 where nothing was measured
    hosts: tuple[str, ...]
    signals: Mapping[str, Mapping[str, Series]] = field(default_factory=dict)  # host → signal → values
    disks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # host → the devices its disk signals sum
    machine: Series = EMPTY  # how busy the controller's processors were, 0…1
    cloudwatch: tuple[Labelled, ...] = ()
    service: tuple[Labelled, ...] = ()
    clients: tuple[Client, ...] = ()
    summaries: tuple[ClientSummary, ...] = ()
    counts: tuple[Count, ...] = ()
    requests: Requests | None = None
    access: AccessLog | None = None
    steps: tuple[Step, ...] = ()
    stream: Stream | None = None
    events: tuple[Event, ...] = ()
    clocks: tuple[ClockReading, ...] = ()
    observers: tuple[ObserverCost, ...] = ()
    logs: tuple[LogFile, ...] = ()
    messages: tuple[LogMessage, ...] = ()
    spark: tuple[Application, ...] = ()  # those that ran a task
    present: frozenset[str] = frozenset()  # the tables that could be read
    unreadable: tuple[Missing, ...] = ()

    @property
    def measured(self) -> tuple[float, float]:
        """The part of the window that numbers are made of: without the warm-up."""
        return (min(max(self.record.warmup_s, 0.0), self.length_s), self.length_s)

    @property
    def measured_s(self) -> float:
        """How long that part is."""
        start, end = self.measured
        return end - start

    @property
    def unacknowledged(self) -> bool:
        """True where producers asked for no answer: they know neither what failed nor when a record arrived.

        Where a streaming query reads the records, its results tell what arrived.
        """
        return self.stream is None and str(self.record.workload_options.get("acks")) == "0"

    def signal(self, host: str, name: str, *, measured: bool = False) -> Series:
        """Return a host's signal, over the window or its measured part only; empty where there is none."""
        found = self.signals.get(host, {}).get(name, EMPTY)
        return found.between(*self.measured) if measured else found

    def has(self, name: str) -> bool:
        """Return True if some host has that signal."""
        return any(name in signals for signals in self.signals.values())

    def host_record(self, host: str) -> HostRecord | None:
        """Return what run.json says of the host."""
        return next((known for known in self.record.hosts if known.name == host), None)

    @property
    def load_hosts(self) -> tuple[str, ...]:
        """The hosts that the workload's clients ran on."""
        named = {client.host for client in self.clients} | {summary.host for summary in self.summaries}
        return tuple(host for host in self.hosts if host in named)

    @property
    def system_hosts(self) -> tuple[str, ...]:
        """The hosts of the system under test: those without a client."""
        load = set(self.load_hosts)
        return tuple(host for host in self.hosts if host not in load)

    def events_of(self, kinds: Iterable[str]) -> tuple[Event, ...]:
        """Return the events of these kinds."""
        wanted = set(kinds)
        return tuple(event for event in self.events if event.kind in wanted)

    def time(self, seconds: float) -> datetime:
        """Return the time of day of `seconds` since the window's start."""
        return self.origin + timedelta(seconds=seconds)
