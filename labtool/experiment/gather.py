"""After the window: fetch what the hosts and CloudWatch have of it, and make the tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import UNSET

from labtool import stacks
from labtool.cloud import find, tags
from labtool.cloud.price import METRIC_REQUEST_USD
from labtool.cloud.session import Session, told_clearly
from labtool.collect import clock, cloudwatch, discover, metric_plan
from labtool.collect import gather as hosts_files
from labtool.dataset import build as building
from labtool.dataset import clock as clock_rows
from labtool.dataset import parsers, tables
from labtool.dataset.run import MetricsRecord, Missing, RunDirectory, RunRecord
from labtool.errors import CloudError, DataError
from labtool.experiment import machine, software
from labtool.experiment.journal import Journal
from labtool.files import write_json
from labtool.progress import Progress
from labtool.ssh import Access
from labtool.topology import Host, Lab


def gather(session: Session, access: Access, lab: Lab, journal: Journal, progress: Progress) -> None:
    """Fetch logs, counters, clocks and CloudWatch's metrics of the run's window, then build its tables.

    What cannot be had is noted in the run; nothing is raised for it.
    """
    directory, record = journal.directory, journal.record
    assert record.window_start is not None and record.window_end is not None
    with journal.stage("collect"):
        measure_clocks(access, lab.running, journal, "after")
        offsets = clock_rows.latest(clock_rows.read(directory.raw)[0])
        narrow(directory, record, offsets)
        if used := machine.use(directory, record.window_start, record.window_end):
            record.machine |= {f"cpu_{name}": f"{share:.3f}" for name, share in asdict(used).items()}
        software.note(access, lab.running, record)
        got = hosts_files.gather(
            access,
            lab.running,
            directory,
            record.window_start,
            record.window_end,
            offsets=offsets,
            progress=lambda host, state, size: progress.host(host, state, f"{size / 1e6:.1f} MB" if size else ""),
        )
        for missing in got.missing:
            journal.missing(missing.what, missing.why, missing.host)
        for name, result in got.hosts.items():
            if result.manifest is not None:
                _size(record, name, result.manifest.vcpus, result.manifest.memory_bytes)
    with journal.stage("CloudWatch"):
        note_monitoring(session, journal)
        pull_cloudwatch(session, journal)
    with journal.stage("tables"):
        build(directory, record)
        note_unsettled(journal)


def narrow(directory: RunDirectory, record: RunRecord, offsets: Mapping[str, float]) -> None:
    """Set the window to the time in which the workload's clients were at work, in the controller's clock.

    What came before is installing tools and making topics, what came after is fetching output.
    """
    workload = stacks.workloads().get(record.workload or "")
    if workload is None or workload.parser is None:
        return
    try:
        rows = parsers.workload(workload.parser, directory.raw, record.data())
    except DataError:
        return  # building the tables meets the same error and notes it
    spans = []
    # A summary may leave the warm-up out; the first interval begins with the client's first operation.
    for row in (*rows.get("workload_intervals", []), *rows.get("workload_summary", [])):
        ahead = timedelta(seconds=offsets.get(str(row["client"]).split("/")[0], 0.0))
        end = tables.instant(row["end"] if "end" in row else row["time"])
        start = (
            tables.instant(row["start"])
            if "start" in row
            else end and end - timedelta(seconds=row.get("duration_s") or 0)
        )
        if start is not None and end is not None:
            spans.append((row["role"], start - ahead, end - ahead))
    # Consumers are there before the load and stay until its last record: the window is the load's.
    driving = [span for span in spans if span[0] != "consumer"] or spans
    if driving:
        record.window_start = min(start for _, start, _ in driving)
        record.window_end = max(end for _, _, end in driving)


def measure_clocks(access: Access, hosts: Sequence[Host], journal: Journal, phase: str) -> None:
    """Measure the hosts' clock offsets and keep them in the run."""
    offsets, missing = clock.measure(access, hosts, phase)
    clock_rows.append(journal.directory.raw, offsets)
    for each in missing:
        journal.missing(each.what, each.why, each.host)


UNSETTLED = "CloudWatch's last points"


def note_unsettled(journal: Journal) -> None:
    """Say so where CloudWatch does not show the window's last whole period yet, and how to fetch it later."""
    record = journal.record
    assert record.window_start is not None and record.window_end is not None
    fives = {host.name for host in record.hosts if host.detailed_monitoring is False}
    last = {host.name: _last_period(record.window_end, 300 if host.name in fives else 60) for host in record.hosts}
    shown: dict[str, datetime] = {}
    if tables.exists(journal.directory.tables, "cloudwatch"):
        table = tables.read(journal.directory.tables, "cloudwatch", only=["time", "host", "namespace", "metric"])
        for row in table.to_pylist():
            if (row["namespace"], row["metric"]) == ("AWS/EC2", "CPUUtilization"):
                shown[row["host"]] = max(shown.get(row["host"], row["time"]), row["time"])
    late = [
        host.name
        for host in record.hosts
        # Without a whole period in the window there is nothing to wait for.
        if last[host.name] >= record.window_start and (host.name not in shown or shown[host.name] < last[host.name])
    ]
    record.missing = [each for each in record.missing if each.what != UNSETTLED]
    if late:
        why = f"they had not arrived for {', '.join(late)}; `labtool report RUN --refresh` asks again"
        journal.missing(UNSETTLED, why)
    journal.save()


def _last_period(end: datetime, period_s: int) -> datetime:
    """Return when the last whole period before `end` begins."""
    return datetime.fromtimestamp(end.timestamp() // period_s * period_s - period_s, UTC)


def refresh(session: Session, directory: RunDirectory, progress: Progress, asked: MetricsRecord | None = None) -> None:
    """Ask CloudWatch again for a run's window: its data settle for some minutes. Later answers win.

    `asked` adds namespaces and statistics to those of the run. Namespaces are listed again, since a metric is listed
    up to 15 minutes after its first point.
    """
    journal = Journal(directory, directory.read(), progress)
    if asked is not None:
        journal.record.metrics = joined(journal.record.metrics, asked)
    with journal.stage("CloudWatch, again"):
        journal.record.missing = [each for each in journal.record.missing if not each.what.startswith(NAMESPACE)]
        pull_cloudwatch(session, journal)
    build(directory, journal.record)
    note_unsettled(journal)


def joined(before: MetricsRecord, asked: MetricsRecord) -> MetricsRecord:
    """Return what was asked of CloudWatch before and what is asked now; the period is the new one if it is given."""
    return MetricsRecord(
        namespaces=list(dict.fromkeys([*before.namespaces, *asked.namespaces])),
        statistics=list(dict.fromkeys([*before.statistics, *asked.statistics])),
        period_s=before.period_s if asked.period_s is UNSET else asked.period_s,
    )


def note_monitoring(session: Session, journal: Journal) -> None:
    """Write down the hosts' volumes and monitoring, by one DescribeInstances: a refresh may find them gone."""
    record = journal.record
    try:
        found = find.describe(session, [{"Name": f"tag:{tags.LAB}", "Values": [record.lab]}])
    except CloudError as error:
        journal.missing("the hosts' volumes and their metrics", error.message)
        return
    instances = {instance["InstanceId"]: instance for instance in found}
    for host in record.hosts:
        instance = instances.get(host.instance_id, {})
        attached = [device.get("Ebs", {}).get("VolumeId", "") for device in instance.get("BlockDeviceMappings", ())]
        host.volumes = sorted(filter(None, attached)) or host.volumes
        host.private_address = instance.get("PrivateIpAddress", host.private_address)
        if state := instance.get("Monitoring", {}).get("State"):
            host.detailed_monitoring = state in ("enabled", "pending")


NAMESPACE = "metrics of namespace "


def pull_cloudwatch(session: Session, journal: Journal) -> None:
    """Pull every metric of the hosts, their volumes and the namespaces asked for; note what cannot be had."""
    record = journal.record
    assert record.window_start is not None and record.window_end is not None
    client, now = session.client("cloudwatch"), datetime.now(UTC)
    listed = [metric for name in record.metrics.namespaces for metric in _listed(client, name, journal, now)]
    try:
        wanted = metric_plan.plan(
            record.hosts,
            record.window_start,
            record.window_end,
            listed=listed,
            statistics=record.metrics.statistics,
            period_s=record.metrics.period_s or 60,
            now=now,
        )
    except CloudError as error:
        journal.missing("CloudWatch metrics", error.message)
        return
    # Up to five statistics of a metric are billed as one.
    statistics = Counter((query.namespace, query.metric, query.about) for query in wanted.queries)
    asked = sum(math.ceil(count / 5) for count in statistics.values()) * METRIC_REQUEST_USD
    record.cost["usd_metrics"] = round(float(record.cost.get("usd_metrics", 0)) + asked, 5)
    if "usd" in record.cost:  # the run is over, and is asked about again
        record.cost["usd"] = round(float(record.cost["usd"]) + asked, 5)
    for missing in cloudwatch.pull(client, wanted, journal.directory):
        journal.missing(missing.what, missing.why, missing.host)


def _listed(client: Any, namespace: str, journal: Journal, now: datetime) -> Sequence[metric_plan.Listed]:
    """Return a namespace's metrics of the lab; say so where there are none."""
    record = journal.record
    assert record.window_start is not None
    try:
        with told_clearly(f"listing the metrics of {namespace}"):
            found = discover.discover(client, namespace, record.hosts, record.lab, record.window_start, now)
    except CloudError as error:
        journal.missing(f"{NAMESPACE}{namespace}", error.message)
        return ()
    if not found.metrics:
        others = f"; it has {found.others} of other hosts" if found.others else ""
        why = (
            f"CloudWatch lists none of this lab{others}. It lists a metric up to 15 minutes after its first point and "
            "for two weeks after its last: `labtool report RUN --refresh` asks again"
        )
        journal.missing(f"{NAMESPACE}{namespace}", why)
    return found.metrics


def build(directory: RunDirectory, record: RunRecord | None = None) -> RunRecord:
    """Make every table of the run again from its files; what is missing is noted in run.json once."""
    record = record or directory.read()
    workload = stacks.workloads().get(record.workload or "")
    known = stacks.stacks()
    stack = known.get(record.stack or "")
    of = (stack, *(known[name] for name in stack.provides)) if stack else ()
    found = building.build_tables(
        directory,
        workload=workload.parser if workload else None,
        stacks=[one.parser for one in of if one.parser is not None],
    )
    try:
        results = parsers.results(workload.parser, directory) if workload and workload.parser else {}
    except DataError as error:
        found.append(Missing(what="the workload's results", why=error.message))
        results = {}
    for name, content in results.items():
        write_json(directory.path / name, content)
    record.missing += [each for each in found if each not in record.missing]
    directory.write(record)
    return record


def _size(record: RunRecord, host: str, vcpus: int | None, memory_bytes: int | None) -> None:
    for each in record.hosts:
        if each.name == host:
            each.vcpus, each.memory_bytes = vcpus, memory_bytes
