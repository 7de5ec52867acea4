"""Everything that is said of a run, from its data alone."""

from __future__ import annotations

from dataclasses import dataclass

from labtool.analysis import (
    accesslog,
    cloudwatch,
    endpoints,
    explained,
    generator,
    latency,
    microbatch,
    requests,
    resources,
    service,
    streaming,
    trace,
    trust,
    webserver,
    workload,
)
from labtool.analysis.cloudwatch import Comparison
from labtool.analysis.data import RunData
from labtool.analysis.endpoints import Compared
from labtool.analysis.explained import Explained
from labtool.analysis.generator import Lateness
from labtool.analysis.microbatch import Batched
from labtool.analysis.model import Finding, Headline, Verdict, by_severity
from labtool.analysis.requests import Felt
from labtool.analysis.resources import Usage
from labtool.analysis.verdict import headlines, verdict
from labtool.analysis.workload import Load


@dataclass(frozen=True)
class Analysis:
    """What is said of a run, and the intermediate results that figures and tables show."""

    verdict: Verdict
    headlines: tuple[Headline, ...]
    findings: tuple[Finding, ...]  # the gravest first
    load: Load | None
    usage: tuple[Usage, ...]
    comparisons: tuple[Comparison, ...]
    felt: Felt | None = None  # these three: of single requests, where the clients left them
    lateness: Lateness | None = None
    compared: tuple[Compared, ...] = ()
    explained: tuple[Explained, ...] = ()  # Spark's applications that have an end
    batched: Batched | None = None  # the one of a streaming query

    @property
    def limits(self) -> tuple[Finding, ...]:
        """What is missing or cannot be trusted: the findings that a reader must know before believing a number."""
        return tuple(
            finding
            for finding in self.findings
            if finding.severity != "ok" and (finding.kind in ("trust", "missing") or finding.severity == "refused")
        )


def analyse(data: RunData) -> Analysis:
    """Return the findings, the verdict and the large numbers of a run; the same data gives the same answer."""
    role = workload.driving_role(data)
    load = workload.load_of(data, role) if role else None
    usage = resources.usage(data)
    comparisons = cloudwatch.compare(data)
    felt = lateness = None
    compared: list[Compared] = []
    spark = explained.explain(data)
    batched = microbatch.batched(data)
    if data.requests is not None and load is not None:
        felt = requests.felt_of(data.requests, closed=load.closed)
        lateness = None if load.closed else generator.lateness_of(data.requests)
        compared = endpoints.compare(data.requests)
    findings = [
        *workload.findings(data),
        *explained.findings(spark),
        *generator.findings(data, lateness, felt, usage),
        *(latency.findings(data, load, felt) if load else ()),
        *endpoints.findings(compared),
        *resources.findings(data, usage),
        *accesslog.findings(data),
        *service.findings(data),
        *streaming.findings(data, load.offered if load else None, usage),
        *microbatch.findings(batched),
        *trace.findings(data),
        *trust.findings(data),
        *cloudwatch.findings(data, comparisons),
    ]
    findings += webserver.limits(data, usage, findings)
    return Analysis(
        verdict=verdict(data, load, usage, findings, felt, explained.verdict(spark) or microbatch.verdict(batched)),
        headlines=tuple(headlines(data, load, usage, felt, explained.headlines(spark))),
        findings=tuple(by_severity(findings)),
        load=load,
        usage=tuple(usage),
        comparisons=tuple(comparisons),
        felt=felt,
        lateness=lateness,
        compared=tuple(compared),
        explained=spark,
        batched=batched,
    )
