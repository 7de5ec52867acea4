"""Everything the page says, as values for its template."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData
from labtool.analysis.model import Finding, Headline, Verdict
from labtool.dataset.run import RunDirectory
from labtool.report import logs, stages, tables
from labtool.report.figure import Figure
from labtool.report.tables import Table

FIRST_SCREEN_LIMITS = 10


@dataclass(frozen=True)
class Section:
    """A part of the page: its question, figures and tables, and what to say where there is neither."""

    id: str
    title: str
    short: str  # in the table of contents
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    empty: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole page."""

    title: str
    facts: tuple[tuple[str, str], ...]
    verdict: Verdict
    headlines: tuple[Headline, ...]
    limits: tuple[Finding, ...]
    more_limits: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...]
    made: str
    command: str
    figure_ids: frozenset[str] = field(default_factory=frozenset)


def compose(data: RunData, analysis: Analysis, figures: list[Figure], run: RunDirectory, made: str) -> Page:
    """Put the page together; the same data makes the same page."""
    by_name = {figure.id: figure for figure in figures}
    limits = analysis.limits
    return Page(
        title=title(data),
        facts=tuple(facts(data)),
        verdict=analysis.verdict,
        headlines=analysis.headlines,
        limits=limits[:FIRST_SCREEN_LIMITS],
        more_limits=limits[FIRST_SCREEN_LIMITS:],
        findings=analysis.findings,
        sections=tuple(sections(data, analysis, by_name, run)),
        made=made,
        command=data.record.command,
        figure_ids=frozenset(by_name) | {"hosts" for name in by_name if name.startswith("hosts-")},
    )


def title(data: RunData) -> str:
    """Return what ran, in a few words."""
    record = data.record
    if record.workload and record.stack:
        return f"{record.workload} on {record.stack}"
    if record.workload:
        return record.workload
    return f"{record.stack}, watched" if record.stack else record.name


def facts(data: RunData) -> list[tuple[str, str]]:
    """Return what ran, on what, when, as (label, text)."""
    record = data.record
    found = []
    system = _system(data)
    if system:
        found.append(("System", system))
    kinds = Counter((host.group, host.instance_type) for host in record.hosts)
    if kinds:
        found.append(("Hosts", ", ".join(f"{n} × {group} ({kind})" for (group, kind), n in kinds.items())))
    if record.workload:
        shown = [(key, value) for key, value in record.workload_options.items() if tables.given(value)][:5]
        options = ", ".join(f"{key.replace('_', ' ')} {tables.plain(value)}" for key, value in shown)
        found.append(("Workload", f"{record.workload}" + (f" ({options})" if options else "")))
    if data.length_s > 0:
        warm = f" after {fmt.duration(data.measured[0])} of warm-up" if data.measured[0] else ""
        end = data.time(data.length_s)
        found.append(("Window", f"{fmt.period(data.origin, end)}; {fmt.duration(data.measured_s)} measured{warm}"))
    else:
        found.append(("Started", fmt.moment(record.started)))
    place = f"AWS, {record.region}" if record.cloud == "aws" else "local cloud on one machine"
    cost = _cost(data)
    found.append(("Where", f"lab {record.lab}, {place}" + (f"; {cost}" if cost else "")))
    return found


def _system(data: RunData) -> str:
    """Name the system with its version: the stack, and the version of what it deploys."""
    record = data.record
    if not record.stack:
        return ""
    versions = record.versions
    product = next((name for name in versions if name not in _OURS and record.stack.startswith(name)), None)
    version = f"{product} {versions[product]}" if product else str(record.stack_options.get("version", ""))
    return f"{record.stack}" + (f" ({version})" if version else "")


_OURS = ("labtool", "python", "ansible-core", "kernel", "sysstat")


def _cost(data: RunData) -> str:
    """Say what the window cost, or would cost on AWS, at the hosts' price per hour."""
    hourly = data.record.cost.get("usd_per_hour")
    if not isinstance(hourly, int | float):
        return ""
    verb = "cost" if data.record.cloud == "aws" else "on AWS"
    return f"{verb} {fmt.dollars(hourly)} an hour, {fmt.dollars(hourly * data.length_s / 3600)} for the window"


def sections(data: RunData, analysis: Analysis, by_name: dict[str, Figure], run: RunDirectory) -> list[Section]:
    """Return the sections in the order a person asks."""

    def drawn(*prefixes: str) -> tuple[Figure, ...]:
        return tuple(f for name, f in by_name.items() if any(name == p or name.startswith(f"{p}-") for p in prefixes))

    def some(*found: Table | None) -> tuple[Table, ...]:
        return tuple(table for table in found if table is not None)

    watched = "" if data.record.workload else " No workload of labtool was part of this run."
    return [
        Section(
            "load",
            "Did the load happen?",
            "Load",
            drawn("load", "steps", "batches", "stream-rates", "backlog", "errors", "late", "cost"),
            some(tables.clients(data)),
            f"No client left a rate over time.{watched}",
        ),
        Section(
            "latency",
            "How did it feel?",
            "Latency",
            drawn("latency", "percentiles", "cdf", "endpoints", "requests"),
            some(tables.percentiles(analysis), tables.endpoints(analysis), tables.urls(data)),
            f"No latency was measured.{watched}",
        ),
        *_rate(analysis, drawn),
        *_explained(analysis, drawn),
        Section(
            "busy",
            "What was busy?",
            "Busiest resources",
            drawn("heat", "workers", "backends"),
            some(tables.usage(analysis, data, _where(by_name))),
            "No host left counters of its resources.",
        ),
        Section("hosts", "Each host", "Hosts", drawn("hosts"), (), "No host left counters of its resources."),
        Section(
            "cloudwatch",
            "CloudWatch beside the hosts' own counters",
            "CloudWatch",
            drawn("cloudwatch"),
            some(tables.comparisons(analysis)),
            "There are no CloudWatch metrics in this run.",
        ),
        Section(
            "service",
            "What the service says of itself",
            "Service metrics",
            drawn("service"),
            some(tables.service(data)),
            "The service left no metrics.",
        ),
        Section(
            "logs",
            "What the services logged",
            "Service logs",
            (),
            some(logs.messages(data), *logs.files(data)),
            "No service left a log.",
        ),
        Section(
            "timeline",
            "What happened when",
            "Timeline",
            drawn("timeline"),
            some(tables.stages(data)),
            "There is no record of stages or events.",
        ),
        Section(
            "settings",
            "Settings, versions, cost, files",
            "Settings and files",
            (),
            some(
                tables.settings("Workload options", "workload-options", data.record.workload_options),
                tables.settings("Notes", "notes", dict(enumerate(data.record.notes, 1))),
                tables.settings("Stack options", "stack-options", data.record.stack_options),
                tables.settings("Versions", "versions", data.record.versions),
                tables.settings("The controller's machine", "machine", data.record.machine),
                tables.settings("Cost", "cost", _costs(data)),
                tables.hosts(data),
                tables.artifacts(data),
                tables.files(run),
            ),
            "run.json holds no settings.",
        ),
    ]


def _rate(analysis: Analysis, drawn: Callable[..., tuple[Figure, ...]]) -> tuple[Section, ...]:
    """Return what is shown of a streaming query's stages; nothing where there was none."""
    if analysis.batched is None:
        return ()
    found = stages.of_batches(analysis.batched)
    return (Section("rate", "What sets the rate?", "What sets the rate", drawn("batch-stages"), (found,)),)


def _explained(analysis: Analysis, drawn: Callable[..., tuple[Figure, ...]]) -> tuple[Section, ...]:
    """Return what is shown of Spark's applications that have an end; nothing where none ran."""
    if not analysis.explained:
        return ()
    one = analysis.explained[0]
    found = (stages.what_if(one), stages.stages(one), stages.slow_tasks(one), stages.applications(analysis))
    return (
        Section(
            "explained",
            "Why did it take that long?",
            "Why that long",
            drawn("whatif", "waterfall", "gantt", "shuffle", "skew"),
            tuple(table for table in found if table is not None),
        ),
    )


def _where(by_name: dict[str, Figure]) -> dict[str, str]:
    """Return for every host the figure that shows its resources."""
    return {host: name for name, figure in by_name.items() if name.startswith("hosts") for host in figure.hosts}


def _costs(data: RunData) -> dict[str, str]:
    """Return the cost record in words: what a local run would cost is said as such."""
    names = {
        "usd_per_hour": "per hour",
        "usd": "from the run's start to its end",
        "usd_metrics": "of it for reading CloudWatch",
        "without": "without the types",
        "prices": "prices of",
    }
    would = "" if data.record.cloud == "aws" else " (would cost on AWS)"
    found = {}
    for key, value in data.record.cost.items():
        if value == "":
            continue
        label = names.get(key, key.replace("_", " "))
        money = isinstance(value, int | float)
        found[label + (would if money else "")] = fmt.dollars(float(value)) if money else str(value)
    return found


_UNIT = re.compile(r"(\d) (?=(?:%|ms|s|min|h|GB|MB|kB|B|GiB|points?)\b|%)")


def keep_units(text: str) -> Markup:
    """Return the text, escaped, with no line break between a number and its unit."""
    return Markup(_UNIT.sub("\\1\u00a0", str(escape(text))))  # noqa: S704 - escaped before it is marked
