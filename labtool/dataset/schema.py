"""The tables of a dataset: one Parquet file each in a run's `tables/`, all times in UTC.

Each schema is a tuple of (column, Arrow type name, meaning). A table that has nothing to say is absent,
not empty. Amounts are in base units (bytes, seconds, ratio 0…1) unless the column's name says another.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A column: its name, Arrow type and meaning (with the unit)."""

    name: str
    type: str  # "timestamp" (µs, UTC), "string", "double", "int64", "bool"
    meaning: str


TABLES: dict[str, tuple[Column, ...]] = {
    "host_metrics": (
        Column("time", "timestamp", "end of the second it covers, in the controller's clock"),
        Column("host", "string", "host name"),
        Column("resource", "string", "cpu, memory, disk, network, load, swap or process"),
        Column("device", "string", "cpu number or 'all', disk or interface name; '' where there is one"),
        Column("metric", "string", "user, system, iowait, steal, idle, used, rx_bytes, utilisation, …"),
        Column("unit", "string", "ratio, bytes, bytes/s, packets/s, ops/s, count, seconds"),
        Column("value", "double", ""),
    ),
    "cloudwatch": (
        Column("time", "timestamp", "start of the period, as CloudWatch says it"),
        Column("host", "string", "'' for a metric that names no host"),
        Column("instance_id", "string", ""),
        Column("namespace", "string", "AWS/EC2, AWS/EBS, CWAgent, …"),
        Column("dimensions", "string", "what it is about: InstanceId=i-…, VolumeId=vol-…, behind commas"),
        Column("metric", "string", "CPUUtilization, NetworkIn, …"),
        Column("statistic", "string", "Average, Minimum, Maximum, Sum, SampleCount, p99, …"),
        Column(
            "unit",
            "string",
            "CloudWatch's: Percent, Bytes, Count, None; '' where the namespace is not in the catalogue",
        ),
        Column("period_s", "int64", "1 to 3600; 60 or 300 for AWS/EC2"),
        Column("value", "double", ""),
    ),
    "timeline": (
        Column("start", "timestamp", ""),
        Column("end", "timestamp", "null for an instant"),
        Column("host", "string", "'' for the controller"),
        Column("kind", "string", "stage, task, launch, boot, ssh, workload, warmup, fault, gap, note"),
        Column("name", "string", "what, in a few words"),
        Column("status", "string", "ok, changed, failed, unreachable, skipped or ''"),
        Column("detail", "string", "a sentence or ''"),
    ),
    "clock": (
        Column("time", "timestamp", "when it was measured"),
        Column("host", "string", ""),
        Column("phase", "string", "before, during, after"),
        Column("offset_s", "double", "host's clock minus the controller's"),
        Column("bound_s", "double", "the true offset lies within ± this"),
        Column("samples", "int64", "exchanges measured"),
    ),
    "workload_intervals": (
        Column("time", "timestamp", "end of the interval, in the controller's clock"),
        Column("duration_s", "double", "the interval's length"),
        Column("client", "string", "host/instance, as load-0/producer-1"),
        Column("role", "string", "producer, consumer or client"),
        Column("offered_rate", "double", "operations/s it was asked to send; null where nothing was asked"),
        Column("rate", "double", "operations/s it did"),
        Column("bytes_rate", "double", "bytes/s it did"),
        Column("latency_avg_ms", "double", "null where it does not measure latency"),
        Column("latency_max_ms", "double", ""),
        Column("p50_ms", "double", "null where the tool prints none per interval"),
        Column("p90_ms", "double", ""),
        Column("p99_ms", "double", ""),
        Column("errors", "int64", "failed operations in the interval"),
    ),
    "workload_summary": (
        Column("client", "string", "host/instance"),
        Column("role", "string", "producer, consumer or client"),
        Column("start", "timestamp", "first operation"),
        Column("end", "timestamp", "last operation"),
        Column("operations", "int64", ""),
        Column("errors", "int64", ""),
        Column("offered_rate", "double", "operations/s; null where nothing was asked"),
        Column("rate", "double", "operations/s achieved over the whole"),
        Column("bytes_rate", "double", "bytes/s achieved"),
        Column("latency_avg_ms", "double", ""),
        Column("latency_max_ms", "double", ""),
        Column("p50_ms", "double", ""),
        Column("p95_ms", "double", ""),
        Column("p99_ms", "double", ""),
        Column("p999_ms", "double", ""),
    ),
    "workload_counts": (
        Column("what", "string", "what is counted, as records"),
        Column("claimed", "int64", "as the clients counted it, from the first operation to the last"),
        Column("claimed_by", "string", "which count that is, as the producers' acknowledged sends"),
        Column("counted", "int64", "as the system under test counted it by itself"),
        Column("counted_by", "string", "which count that is, as the topic's end offsets"),
    ),
    "workload_histograms": (
        Column("client", "string", "host/instance"),
        Column("endpoint", "string", "as in `requests`"),
        Column("measure", "string", "latency (from when it was due) or service (from when it was sent)"),
        Column("operations", "int64", "how many are in it: those that succeeded, without the warm-up"),
        Column("histogram", "string", "HdrHistogram (V2, compressed, base64) of µs, three digits; mergeable"),
    ),
    "workload_steps": (
        Column("start", "timestamp", ""),
        Column("end", "timestamp", ""),
        Column("offered_rate", "double", "operations/s that the step asked for"),
        Column("operations", "int64", "that were sent in it; a step ends early when an objective is lost"),
        Column("errors", "int64", ""),
        Column("objective", "string", "as it was typed: p99 < 50 ms; a row a step and objective"),
        Column("bound", "double", "in the objective's unit"),
        Column("value", "double", "in the objective's unit; null where too few succeeded to have one"),
        Column("unit", "string", "ms, s, %, …"),
        Column("held", "bool", "true where all objectives of the step held"),
        Column("saturated", "bool", "true where the load host was late itself"),
        Column("too_few", "bool", "true where the step had too few operations to carry its objectives"),
    ),
    "requests": (
        Column("due", "timestamp", "when it should have been sent, in the controller's clock"),
        Column("client", "string", "host/instance, as load-0/client-1"),
        Column("endpoint", "string", "what was asked, as the workload names it: GET /index.php, method=update, …"),
        Column("id", "string", "X-Request-Id, if it had one: the server's access log has it too"),
        Column("late_s", "double", "when it was sent minus when it was due; null where it never was sent"),
        Column("service_s", "double", "from when it was sent to its answer's last byte, or to its failure"),
        Column("latency_s", "double", "from when it was due to its answer's last byte, or to its failure"),
        Column("status", "int64", "HTTP's; null where no answer came"),
        Column("error", "string", "'' where it succeeded; else timeout, refused, reset, closed, tls, status, …"),
        Column("bytes", "int64", "of the answer's body"),
        Column("warmup", "bool", "true where it is shown but not counted"),
    ),
    "access_log": (
        Column("time", "timestamp", "when the server began with it, in the controller's clock"),
        Column("host", "string", ""),
        Column("service", "string", "httpd or haproxy"),
        Column("duration_s", "double", "from the request's first byte to the answer's last, as the server measured it"),
        Column("status", "int64", ""),
        Column("bytes", "int64", "of the answer's body"),
        Column("method", "string", ""),
        Column("path", "string", "with its query"),
        Column("request_id", "string", "X-Request-Id; '' where the client gave none"),
        Column("client", "string", "its address"),
        Column("backend", "string", "who answered it: a handler or a server; '' where it was the server itself"),
    ),
    "service_metrics": (
        Column("time", "timestamp", ""),
        Column("host", "string", ""),
        Column("service", "string", "kafka, httpd, …"),
        Column("metric", "string", "name, as Produce.TotalTimeMs.99thPercentile"),
        Column("unit", "string", "ms, count, bytes/s, operations/s, ratio"),
        Column("value", "double", ""),
    ),
    "observer": (
        Column("host", "string", ""),
        Column("window_s", "double", "length of the measured window"),
        Column("cpu_s", "double", "CPU seconds the collectors used in the window"),
        Column("bytes_written", "int64", "bytes of measurements made in the window"),
        Column("bytes_sent", "int64", "bytes moved to the controller, compressed"),
    ),
}
