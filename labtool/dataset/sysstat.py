"""sadc's binary files → rows of `host_metrics`, decoded on the controller by this machine's `sadf`.

The names of metrics are in `SECTIONS`, with what sysstat calls them; sar(1) of sysstat 12 says how each is computed.
What is derived here:

- cpu `utilisation` = 1 - idle - iowait - steal: the share of the time in which the host ran something.
- cpu `user` and `system` leave out nice, interrupts and guests, which are metrics of their own.
- memory `utilisation` = 1 - available / total, where the total is free + used + buffers + cached + slab.
- network `utilisation` is there only where the interface says how fast it is, and is then the busier direction's.

In a container `eth0` and `lo` are the network devices; disks and `pressure` may be the machine's, shared with others.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labtool.dataset import tables
from labtool.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "host_metrics"

FLAGS = (
    *("-u", "ALL", "-P", "ALL", "-r", "ALL", "-S", "-W", "-B", "-w", "-b", "-d", "-q", "ALL"),
    *("-n", "DEV,EDEV,TCP,ETCP,SOCK"),
)
"""What sadf is asked for; it leaves out what a file does not hold."""

PERCENT = 0.01
KIB = 1024.0
MS = 0.001


class Metric(NamedTuple):
    """A metric: the column of `sadf -d`, its name and unit in the table, and the factor between the two."""

    column: str
    name: str
    unit: str
    factor: float = 1.0


@dataclass(frozen=True)
class Section:
    """A part of sadf's output: the column that only it has, its device column, and its metrics."""

    mark: str
    resource: str
    metrics: tuple[Metric, ...]
    device: str | None = None
    derived: tuple[tuple[str, str, Callable[[Any], Any]], ...] = ()  # name, unit, function of the columns


def _cpu_utilisation(columns: Any) -> Any:
    busy = 100.0 - columns["%idle"] - columns["%iowait"] - columns["%steal"]
    return busy.clip(0.0, 100.0) * PERCENT


def _memory_total(columns: Any) -> Any:
    parts = ("kbmemfree", "kbmemused", "kbbuffers", "kbcached", "kbslab")
    return sum(columns[part] for part in parts) * KIB


def _share_of_memory(column: str) -> Callable[[Any], Any]:
    def share(columns: Any) -> Any:
        return columns[column] * KIB / _memory_total(columns)

    return share


def _memory_utilisation(columns: Any) -> Any:
    return (1.0 - columns["kbavail"] * KIB / _memory_total(columns)).clip(0.0, 1.0)


SECTIONS: tuple[Section, ...] = (
    Section(
        "%idle",
        "cpu",
        (
            Metric("%usr", "user", "ratio", PERCENT),
            Metric("%nice", "nice", "ratio", PERCENT),
            Metric("%sys", "system", "ratio", PERCENT),
            Metric("%iowait", "iowait", "ratio", PERCENT),
            Metric("%steal", "steal", "ratio", PERCENT),
            Metric("%irq", "irq", "ratio", PERCENT),
            Metric("%soft", "softirq", "ratio", PERCENT),
            Metric("%idle", "idle", "ratio", PERCENT),
        ),
        "CPU",
        (("utilisation", "ratio", _cpu_utilisation),),
    ),
    Section("%scpu", "cpu", (Metric("%scpu", "pressure", "ratio", PERCENT),)),
    Section(
        "kbmemfree",
        "memory",
        (
            Metric("kbmemfree", "free_bytes", "bytes", KIB),
            Metric("kbavail", "available_bytes", "bytes", KIB),
            Metric("kbmemused", "used_bytes", "bytes", KIB),
            Metric("kbbuffers", "buffers_bytes", "bytes", KIB),
            Metric("kbcached", "cached_bytes", "bytes", KIB),
            Metric("kbslab", "slab_bytes", "bytes", KIB),
            Metric("kbdirty", "dirty_bytes", "bytes", KIB),
            Metric("kbanonpg", "anonymous_bytes", "bytes", KIB),
        ),
        derived=(
            ("total_bytes", "bytes", _memory_total),
            ("used", "ratio", _share_of_memory("kbmemused")),
            ("available", "ratio", _share_of_memory("kbavail")),
            ("cached", "ratio", _share_of_memory("kbcached")),
            ("utilisation", "ratio", _memory_utilisation),
        ),
    ),
    Section(
        "fault/s",
        "memory",
        (
            Metric("pgpgin/s", "page_in", "bytes/s", KIB),
            Metric("pgpgout/s", "page_out", "bytes/s", KIB),
            Metric("fault/s", "faults", "ops/s"),
            Metric("majflt/s", "major_faults", "ops/s"),
        ),
    ),
    Section(
        "%smem",
        "memory",
        (Metric("%smem", "pressure", "ratio", PERCENT), Metric("%fmem", "pressure_full", "ratio", PERCENT)),
    ),
    Section(
        "kbswpfree",
        "swap",
        (
            Metric("kbswpfree", "free_bytes", "bytes", KIB),
            Metric("kbswpused", "used_bytes", "bytes", KIB),
            Metric("%swpused", "used", "ratio", PERCENT),
        ),
    ),
    Section("pswpin/s", "swap", (Metric("pswpin/s", "pages_in", "ops/s"), Metric("pswpout/s", "pages_out", "ops/s"))),
    Section(
        "DEV",
        "disk",
        (
            Metric("tps", "ops", "ops/s"),
            Metric("rkB/s", "read_bytes", "bytes/s", KIB),
            Metric("wkB/s", "write_bytes", "bytes/s", KIB),
            Metric("areq-sz", "request_bytes", "bytes", KIB),
            Metric("aqu-sz", "queue", "count"),
            Metric("await", "await", "seconds", MS),
            Metric("%util", "utilisation", "ratio", PERCENT),
        ),
        "DEV",
    ),
    Section("rtps", "disk", (Metric("rtps", "read_ops", "ops/s"), Metric("wtps", "write_ops", "ops/s"))),
    Section(
        "%sio",
        "disk",
        (Metric("%sio", "pressure", "ratio", PERCENT), Metric("%fio", "pressure_full", "ratio", PERCENT)),
    ),
    Section(
        "rxpck/s",
        "network",
        (
            Metric("rxpck/s", "rx_packets", "packets/s"),
            Metric("txpck/s", "tx_packets", "packets/s"),
            Metric("rxkB/s", "rx_bytes", "bytes/s", KIB),
            Metric("txkB/s", "tx_bytes", "bytes/s", KIB),
            Metric("%ifutil", "utilisation", "ratio", PERCENT),
        ),
        "IFACE",
    ),
    Section(
        "rxerr/s",
        "network",
        (
            Metric("rxerr/s", "rx_errors", "packets/s"),
            Metric("txerr/s", "tx_errors", "packets/s"),
            Metric("rxdrop/s", "rx_dropped", "packets/s"),
            Metric("txdrop/s", "tx_dropped", "packets/s"),
        ),
        "IFACE",
    ),
    Section(
        "iseg/s",
        "network",
        (
            Metric("active/s", "tcp_opened", "ops/s"),
            Metric("passive/s", "tcp_accepted", "ops/s"),
            Metric("iseg/s", "tcp_received", "packets/s"),
            Metric("oseg/s", "tcp_sent", "packets/s"),
        ),
    ),
    Section(
        "retrans/s",
        "network",
        (Metric("retrans/s", "tcp_retransmitted", "packets/s"), Metric("estres/s", "tcp_reset", "ops/s")),
    ),
    Section(
        "tcpsck",
        "network",
        (Metric("tcpsck", "tcp_sockets", "count"), Metric("tcp-tw", "tcp_time_wait", "count")),
    ),
    Section(
        "ldavg-1",
        "load",
        (
            Metric("ldavg-1", "load1", "count"),
            Metric("ldavg-5", "load5", "count"),
            Metric("ldavg-15", "load15", "count"),
            Metric("runq-sz", "run_queue", "count"),
            Metric("blocked", "blocked", "count"),
        ),
    ),
    Section(
        "cswch/s",
        "process",
        (Metric("cswch/s", "context_switches", "ops/s"), Metric("proc/s", "created", "ops/s")),
    ),
)

_LABELS = ("CPU", "DEV", "IFACE")
_ALL_CPUS = "-1"


def decode(files: Iterable[Path], host: str, start: datetime, end: datetime) -> tuple[pa.Table, list[str]]:
    """Return `host_metrics` rows of `host` in (start, end], and a sentence for each file that could not be read.

    Times are the host's own (see `shift`). A file that was cut, as one that is still being written is, gives what it
    holds. Files may overlap: the rows are there once. `DataError` where this machine has no `sadf`.
    """
    import pyarrow as pa

    files = sorted(files)
    problems: list[str] = []
    pieces: list[pa.Table] = []
    for file in files:
        text, problem = _sadf(file, start, end)
        if problem:
            problems.append(problem)
        pieces.extend(piece for section in _sections(text) if (piece := _long(*section, host, start, end)))
    empty = tables.arrow_schema(TABLE).empty_table()
    if not pieces:
        return empty, problems
    rows = pa.concat_tables(pieces)
    return (_once(rows) if len(files) > 1 else rows), problems


def shift(rows: pa.Table, seconds: int) -> pa.Table:
    """Return `rows` with `seconds` added to their times: from a host's clock to the controller's.

    sadc's times are whole seconds, and so is the shift: a finer one would claim what was not measured.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not seconds or not rows.num_rows:
        return rows
    index = rows.schema.get_field_index("time")
    moved = pc.add(rows["time"], pa.scalar(seconds * 1_000_000, pa.duration("us")))
    return rows.set_column(index, rows.schema.field(index), moved)


def _sadf(file: Path, start: datetime, end: datetime) -> tuple[bytes, str]:
    """Return what sadf prints of `file` (CSV sections, times in seconds since the epoch) and what went wrong."""
    try:
        done = subprocess.run(["sadf", "-d", "-U", str(file), "--", *FLAGS], capture_output=True, check=False)
    except FileNotFoundError:
        raise DataError(
            "sadf, which decodes the hosts' metrics, is not installed here",
            "sudo apt-get install sysstat   (or: sudo dnf install sysstat)",
        ) from None
    if done.returncode and not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return b"", f"{file.name} cannot be decoded: {said[0] if said else f'sadf ended with {done.returncode}'}"
    return done.stdout, ""


def _sections(text: bytes) -> Iterator[tuple[Section, bytes]]:
    """Split sadf's output: a section is a `# hostname;interval;timestamp;…` line and the lines under it."""
    marks = {section.mark: section for section in SECTIONS}
    for part in text.split(b"# hostname;")[1:]:
        header, _, body = part.partition(b"\n")
        names = header.decode(errors="replace").split(";")
        section = next((marks[name] for name in names if name in marks), None)
        if section is None or not body:
            continue
        if b"LINUX-RESTART" in body or b";COM;" in body:
            body = b"".join(
                line for line in body.splitlines(keepends=True) if b"LINUX-RESTART" not in line and b";COM;" not in line
            )
        if body.strip():
            yield section, b"hostname;" + header + b"\n" + body


def _long(section: Section, text: bytes, host: str, start: datetime, end: datetime) -> pa.Table | None:
    """Turn one section into rows of `host_metrics`, in the order device, metric, time."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    try:
        wide = csv.read_csv(
            pa.BufferReader(text),
            parse_options=csv.ParseOptions(delimiter=";", invalid_row_handler=lambda _: "skip"),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in ("hostname", *_LABELS)}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"sadf printed what is no table ({section.resource}): {error}") from None
    names = wide.column_names
    when = wide["timestamp"].to_numpy().astype("datetime64[s]").astype("datetime64[us]")
    # Compared as instants; numpy knows no zones.
    inside = (when > np.datetime64(int(start.timestamp() * 1e6), "us")) & (
        when <= np.datetime64(int(end.timestamp() * 1e6), "us")
    )
    if not inside.any():
        return None
    columns = {
        name: wide[name].to_numpy().astype(np.float64)
        for name in names
        if name not in ("hostname", "interval", "timestamp", *_LABELS)
    }
    devices: Sequence[str] = [""]
    of_device = np.zeros(len(when), dtype=np.int64)
    if section.device:
        encoded = wide[section.device].combine_chunks().dictionary_encode()
        devices = ["all" if label == _ALL_CPUS else label for label in encoded.dictionary.to_pylist()]
        of_device = encoded.indices.to_numpy(zero_copy_only=False)

    # With `-u ALL` steal and the like are always there; a section of an older sysstat may lack a column.
    series = [(m.name, m.unit, columns[m.column] * m.factor) for m in section.metrics if m.column in columns]
    for name, unit, derive in section.derived:
        try:
            series.append((name, unit, derive(columns)))
        except KeyError:
            continue
    if section.device == "IFACE" and section.mark == "rxpck/s" and not columns.get("%ifutil", np.zeros(1)).any():
        series = [one for one in series if one[0] != "utilisation"]

    out: dict[str, list[Any]] = {name: [] for name in ("time", "device", "metric", "unit", "value")}
    for number, device in enumerate(devices):
        rows = inside & (of_device == number)
        count = int(rows.sum())
        if not count:
            continue
        for name, unit, values in series:
            out["time"].append(when[rows])
            out["value"].append(values[rows])
            for key, text_value in (("device", device), ("metric", name), ("unit", unit)):
                out[key].append(pa.repeat(text_value, count))
    total = sum(len(values) for values in out["value"])
    if not total:
        return None
    return pa.table(
        [
            pa.array(np.concatenate(out["time"])).cast(pa.timestamp("us", tz="UTC")),
            pa.repeat(host, total),
            pa.repeat(section.resource, total),
            pa.chunked_array(out["device"]),
            pa.chunked_array(out["metric"]),
            pa.chunked_array(out["unit"]),
            pa.array(np.concatenate(out["value"])),
        ],
        schema=tables.arrow_schema(TABLE),
    )


def _once(rows: pa.Table) -> pa.Table:
    """Leave the first of the rows that say the same of the same second (files overlap where sadc changed them)."""
    import numpy as np
    import pyarrow as pa

    numbered = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
    keys = ["resource", "device", "metric", "time"]
    firsts = numbered.group_by(keys, use_threads=False).aggregate([("row", "min")])["row_min"]
    return rows if len(firsts) == rows.num_rows else rows.take(np.sort(firsts.to_numpy()))
