"""The report's tables, as plain values: what each cell says, how it sorts, where it leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.cloudwatch import show
from labtool.analysis.data import RunData
from labtool.analysis.resources import RESOURCES
from labtool.analysis.statistics import busiest_stretch
from labtool.dataset.run import RunDirectory
from labtool.report.figures.service import metrics

MOST_FILES = 400
SMALL_RATE = 10.0
"""Operations/s below which a rate has digits behind its point."""
_LATENCIES = ("p50", "p95", "p99", "p99.9", "slowest")


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the value it sorts by (its text, where None), and how full it is (0…1), to be coloured."""

    text: str
    sort: float | str | None = None
    heat: float | None = None
    href: str = ""
    tone: str = ""
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table: `numeric` names the columns that are set to the right."""

    id: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = field(default_factory=frozenset)
    sortable: bool = True


def amount(value: float | None, text: str) -> Cell:
    """Return a cell of a number, which sorts last where it is not known."""
    return Cell(text, value if fmt.known(value) else -1.0)


def tabled(
    name: str, caption: str, columns: Sequence[str], rows: Iterable[Iterable[Cell]], numeric: Iterable[int]
) -> Table:
    """Return a table, sortable where it has more than a row."""
    filled = tuple(tuple(row) for row in rows)
    return Table(name, caption, tuple(columns), filled, frozenset(numeric), len(filled) > 1)


def clients(data: RunData) -> Table | None:
    """What every client said at its end."""
    if not data.summaries:
        return None
    rows = [
        (
            Cell(s.name),
            Cell(s.role),
            amount(s.offered, _per_second(s.offered)),
            amount(s.rate, _per_second(s.rate)),
            amount(s.bytes_rate, fmt.size_rate(s.bytes_rate)),
            amount(s.operations, fmt.count(s.operations)),
            Cell(fmt.count(s.errors), s.errors if s.errors is not None else -1.0, tone="problem" if s.errors else ""),
            *(amount(value, fmt.milliseconds(value)) for value in (s.p50, s.p95, s.p99, s.p999, s.latency_max)),
        )
        for s in data.summaries
    ]
    columns = ("client", "role", "asked /s", "did /s", "bytes", "operations", "errors", *_LATENCIES)
    caption = f"What every client said at its end, {_warmup_in(data)}"
    if data.requests is not None:
        caption = f"What every client's requests add up to, {data.requests.counted_as}"
    return tabled("clients", caption, columns, rows, range(2, 12))


def _warmup_in(data: RunData) -> str:
    """Say which of the clients' totals have the warm-up in them."""
    warm = data.measured[0]
    known = [one for one in data.summaries if one.start is not None]
    whole = [one for one in known if one.start is not None and one.start < warm - 1.0]
    if warm <= 0 or not known:
        return "over its whole life"
    if not whole:
        return "without the warm-up"
    if len(whole) == len(known):
        return "over its whole life, with the warm-up"
    roles = dict.fromkeys(one.role for one in whole)
    together = [role for role in roles if all(one in whole for one in known if one.role == role)]
    who = [f"{role}s" for role in together] + [one.name for one in whole if one.role not in together]
    return f"without the warm-up, which is in what {fmt.listed(who)} said"


def _per_second(rate: float | None) -> str:
    if rate is None:
        return fmt.UNKNOWN
    return f"{rate:,.0f}" if rate >= SMALL_RATE else f"{rate:.3g}"


def percentiles(analysis: Analysis) -> Table | None:
    """The percentiles of all single requests together, each with its interval."""
    felt = analysis.felt
    if felt is None or not felt.latency:
        return None
    rows = []
    for name, one in felt.latency.items():
        cells = [Cell(name, one.q)]
        for found in (one, felt.service.get(name)):
            cells.append(amount(found.value if found else None, fmt.milliseconds(found.value if found else None)))
            cells.append(Cell(fmt.latency_range(found.low, found.high) if found else fmt.UNKNOWN))
        rows.append(cells)
    columns = ("percentile", "latency", "95 % interval", "service time", "95 % interval of it")
    caption = f"Percentiles of {felt.n:,} requests: latency from when each was due, service time from its send"
    return replace(tabled("percentiles", caption, columns, rows, range(1, 5)), sortable=False)


def endpoints(analysis: Analysis) -> Table | None:
    """The endpoints of the run beside each other."""
    if not analysis.compared:
        return None
    rows = []
    for one in analysis.compared:
        cells = [Cell(one.name), Cell(fmt.count(one.n), one.n)]
        cells.append(Cell(fmt.count(one.failed), one.failed, tone="problem" if one.failed else ""))
        for name in ("p50", "p99"):
            found, ratio = one.quantiles.get(name), one.ratios.get(name)
            value = found.value * 1000 if found else None
            cells.append(amount(value, fmt.milliseconds(value)))
            between = f" ({fmt.number(ratio.low)} to {fmt.number(ratio.high)})" if ratio and ratio.low else ""
            text = f"{fmt.number(ratio.value)}{between}" if ratio else "1" if one is analysis.compared[0] else "–"
            cells.append(amount(ratio.value if ratio else 1.0, text))
        rows.append(cells)
    columns = ("endpoint", "requests", "failed", "p50", "times the first's p50", "p99", "times the first's p99")
    caption = "Endpoints compared with the most frequent, within this run"
    return tabled("endpoints", caption, columns, rows, range(1, 7))


def urls(data: RunData) -> Table | None:
    """The paths that took the servers most time, and the slowest."""
    if data.access is None or not data.access.urls:
        return None
    rows = [
        (
            Cell(one.name or "no request line"),
            Cell(fmt.count(one.requests), one.requests),
            Cell(fmt.duration(one.total_s), one.total_s),
            Cell(fmt.milliseconds(one.median_s * 1000), one.median_s),
            amount(one.p99_s, fmt.UNKNOWN if one.p99_s is None else fmt.milliseconds(one.p99_s * 1000)),
        )
        for one in data.access.urls
    ]
    columns = ("path, without its query", "requests", "time in all", "median", "p99")
    caption = "Paths that took the servers most time, and those with the highest p99, as their log has it"
    return tabled("urls", caption, columns, rows, range(1, 5))


def usage(analysis: Analysis, data: RunData, where: Mapping[str, str]) -> Table | None:
    """Hosts × resources: the busiest minute of each, coloured by how full it was; `where` is each host's figure."""
    if not analysis.usage:
        return None
    found = {(use.host, use.resource): use for use in analysis.usage}
    shown = [resource for resource in RESOURCES if any(key[1] == resource for key in found)]
    rows = []
    for host in data.hosts:
        record = data.host_record(host)
        cells = [
            Cell(host, href=f"#{where[host]}-figure" if host in where else "#hosts"),
            Cell(record.group if record else ""),
        ]
        for resource in shown:
            use = found.get((host, resource))
            if use is None:
                cells.append(Cell(fmt.UNKNOWN, -1.0))
                continue
            told = f"{fmt.span(*use.peak_window)}; mean {fmt.percent(use.mean)}, 95 of 100 points at or below "
            cells.append(Cell(fmt.percent(use.peak), use.peak, use.peak, title=told + fmt.percent(use.p95)))
        for signal in ("net_rx", "net_tx"):
            stretch = busiest_stretch(data.signal(host, signal, measured=True), 60.0)
            value = stretch[0] if stretch else None
            cells.append(amount(value, fmt.size_rate(value)))
        rows.append(cells)
    columns = ["host", "group", *(RESOURCES[resource] for resource in shown), "network in", "network out"]
    caption = "The busiest minute of every host and resource, without the warm-up"
    return tabled("usage", caption, columns, rows, range(2, len(columns)))


def comparisons(analysis: Analysis) -> Table | None:
    """CloudWatch beside the hosts' own counters, with the tolerance of each."""
    if not analysis.comparisons:
        return None
    rows = [
        (
            Cell(one.host),
            Cell(one.pair.name),
            Cell(str(len(one.periods)), len(one.periods)),
            Cell(show(one.pair, one.median_difference), one.median_difference),
            Cell(show(one.pair, one.largest_difference), one.largest_difference),
            Cell(show(one.pair, one.median_tolerance), one.median_tolerance),
            Cell(str(len(one.disagreeing)), len(one.disagreeing)),
            Cell("agree" if one.agrees else "disagree", tone="ok" if one.agrees else "warning"),
        )
        for one in analysis.comparisons
    ]
    columns = (
        "host",
        "metric",
        "periods",
        "median difference",
        "largest",
        "tolerance (median)",
        "outside it",
        "verdict",
    )
    return tabled("comparisons", "CloudWatch minus the host's own counter", columns, rows, range(2, 7))


def service(data: RunData) -> Table | None:
    """Every metric of every service, over all its hosts, in the measured part."""
    rows = []
    start, end = data.measured
    for (name, metric), series in metrics(data).items():
        inside = [one.series.between(start, end) for one in series]
        values = np.concatenate([one.v for one in inside])
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        unit = series[0].unit
        lasts = [float(one.v[-1]) for one in inside if len(one)]
        rows.append(
            (
                Cell(name),
                Cell(metric),
                Cell(str(len(series)), len(series)),
                *(
                    Cell(fmt.value_with_unit(value, unit), value)
                    for value in (float(values.min()), float(np.median(values)), float(values.max()))
                ),
                Cell(fmt.value_with_unit(max(lasts), unit), max(lasts)),
            )
        )
    if not rows:
        return None
    columns = ("service", "metric", "hosts", "smallest", "median", "largest", "last (largest host)")
    caption = "Service metrics over all hosts' points of the measured part"
    return tabled("service", caption, columns, rows, range(2, 7))


def hosts(data: RunData) -> Table | None:
    """The hosts as run.json knows them."""
    rows = []
    for name in data.hosts:
        host = data.host_record(name)
        if host is None:
            rows.append((Cell(name), *(Cell(fmt.UNKNOWN) for _ in range(8))))
            continue
        rows.append(
            (
                Cell(name),
                Cell(host.group),
                Cell(host.instance_type),
                amount(host.vcpus, fmt.count(host.vcpus)),
                amount(host.memory_bytes, f"{host.memory_bytes / 2**30:.3g} GiB" if host.memory_bytes else fmt.UNKNOWN),
                Cell(host.address),
                Cell(host.zone),
                Cell(host.instance_id),
                amount(host.price_per_hour_usd, fmt.dollars(host.price_per_hour_usd)),
            )
        )
    if not rows:
        return None
    columns = ("host", "group", "type", "vCPUs", "memory", "address", "zone", "instance", "price per hour")
    return tabled("machines", "The hosts of this run", columns, rows, (3, 4, 8))


def stages(data: RunData) -> Table | None:
    """The stages of the run, with their outcome."""
    rows = []
    for stage in data.record.stages:
        start = (stage.start - data.origin).total_seconds()
        length = (stage.end - stage.start).total_seconds() if stage.end else None
        tone = {"failed": "problem", "interrupted": "warning", "ok": "ok"}.get(stage.outcome, "")
        rows.append(
            (
                Cell(stage.name),
                Cell(f"{start:,.0f} s".replace("-", "−"), start),
                amount(length, fmt.duration(length)),
                Cell(stage.outcome, tone=tone),
                Cell(stage.detail),
            )
        )
    if not rows:
        return None
    return tabled("stages", "Stages of the run", ("stage", "begins", "took", "outcome", "detail"), rows, (1, 2))


def settings(title: str, name: str, values: Any) -> Table | None:
    """Keys and values as they were set; what was not set is left out."""
    shown = {str(key): value for key, value in values.items() if given(value)}
    rows = [(Cell(key.replace("_", " ")), Cell(_setting(key, value))) for key, value in shown.items()]
    return replace(tabled(name, title, ("setting", "value"), rows, ()), sortable=False) if rows else None


def _setting(key: str, value: Any) -> str:
    """Return a setting as text; a number of bytes in a unit that can be read."""
    if key.endswith("_bytes") and str(value).isdigit():
        return f"{int(value) / 2**30:.3g} GiB"
    return plain(value)


def artifacts(data: RunData) -> Table | None:
    """What was installed, with its hash."""
    rows = [(Cell(file), Cell(sha512)) for file, sha512 in sorted(data.record.artifacts.items())]
    return tabled("artifacts", "Artifacts and their SHA-512", ("file", "SHA-512"), rows, ()) if rows else None


def given(value: Any) -> bool:
    """Return True where a setting has a value."""
    return value is not None and value not in ("", [], ())


def plain(value: Any) -> str:
    """Return a setting's value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,.10g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value)
    return str(value)


def files(run: RunDirectory) -> Table | None:
    """The files of the run, the largest folders first told as one row where there are too many."""
    found = [path for path in sorted(run.path.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    own = {run.report.name, "summary.json"}
    found = [path for path in found if path.relative_to(run.path).as_posix() not in own]
    if not found:
        return None
    rows = []
    for folder in sorted({path.relative_to(run.path).parts[0] for path in found}):
        inside = [path for path in found if path.relative_to(run.path).parts[0] == folder]
        if len(inside) == 1 and inside[0].parent == run.path:
            rows.append(_file_row(inside[0], run.path))
            continue
        total = sum(path.stat().st_size for path in inside)
        link = Cell(f"{folder}/", href=f"{quote(folder)}/")
        rows.append((link, Cell(fmt.plural(len(inside), "file"), len(inside)), Cell(fmt.size(total), total)))
    return tabled("files", "Files of the run, beside this report", ("file", "what", "size"), rows[:MOST_FILES], (2,))


def _file_row(path: Path, base: Path) -> tuple[Cell, ...]:
    meaning = {
        "run.json": "the record of the run",
        "experiment.yml": "the description: running it again repeats the run",
        "timeline.jsonl": "stages and events",
    }
    name = path.relative_to(base).as_posix()
    size = path.stat().st_size
    return (Cell(name, href=quote(name)), Cell(meaning.get(name, "")), Cell(fmt.size(size), size))
