"""labtool profile, run and report: measure a window, and read it again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from labtool.cli import options
from labtool.errors import LabtoolError, StoppedError, UsageError, unknown

LENGTH = {"min": 0.2, "max": options.LONGEST_MINUTES}
Minutes = Annotated[float | None, typer.Option("--minutes", "-m", help="Length of the window. [default: 5]", **LENGTH)]
Warmup = Annotated[
    float | None,
    typer.Option(
        "--warmup",
        help="Seconds at the start that are shown but not counted. [default: 0]",
        min=0,
        max=60 * options.LONGEST_MINUTES,
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="The run's name. [default: the workload's]")]
Namespace = Annotated[
    list[str] | None,
    typer.Option("--namespace", help="CloudWatch's, besides AWS/EC2 and AWS/EBS: CWAgent. Can be repeated."),
]
Statistic = Annotated[
    list[str] | None,
    typer.Option("--statistic", help="Besides the usual five: p99, tm90, 'TM(2%:98%)'. Can be repeated."),
]
Period = Annotated[int | None, typer.Option("--period", help="Seconds, of --namespace's metrics. [default: 60]", min=1)]
DEFAULT_MINUTES = 5.0


def profile(
    context: typer.Context,
    minutes: Minutes = None,
    workload: Annotated[
        str | None, typer.Option("--workload", "-w", help="Drive the stack with it; its options follow.")
    ] = None,
    last: Annotated[float | None, typer.Option("--last", help="Profile the past MINUTES instead.", **LENGTH)] = None,
    warmup: Warmup = None,
    name: Name = None,
    namespace: Namespace = None,
    statistic: Statistic = None,
    period: Period = None,
    strategy: options.Strategy = None,
    yes: options.Yes = False,
    proxy_jump: options.ProxyJump = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Measure a window and report it.

    Counters, logs, CloudWatch and clocks become tables, findings and a report. With --workload, load runs during
    the window: labtool profile --minutes 30 --workload kafka-throughput --rate 20000.
    """
    from labtool import stacks
    from labtool.cli.connect import settings

    if last is not None and (workload or minutes is not None):
        raise UsageError("--last profiles the past: it goes with neither --minutes nor --workload")
    if context.args and workload is None:
        raise UsageError(f"profile takes no argument {context.args[0]!r}", "options of a workload need --workload")
    metrics = asked_metrics(namespace, statistic, period)
    chosen = settings(cloud=cloud, lab=lab, region=region, strategy=strategy, proxy_jump=proxy_jump)
    drive = stacks.workload(workload) if workload else None
    settled = settle(drive, drive.parse(context.args), minutes) if drive else None
    warm = warmup_s(settled, warmup)
    measure(
        chosen,
        drive,
        settled,
        seconds=window_s(drive, settled, last or minutes, warm),
        past=last is not None,
        warmup=warm,
        name=name,
        metrics=metrics,
        yes=yes,
        json=json,
    )


def asked_metrics(namespaces: list[str] | None, statistics: list[str] | None, period: int | None) -> Any:
    """Return what is asked of CloudWatch besides the catalogue; `UsageError` for what it does not have."""
    from labtool.collect.catalogue import EBS, EC2, is_extended
    from labtool.collect.metric_plan import valid_period
    from labtool.dataset.run import MetricsRecord

    for name in statistics or ():
        if not is_extended(name):
            raise UsageError(f"{name!r} is no statistic of CloudWatch's", "for example p99, tm90, TM(2%:98%), PR(:300)")
    found: dict[str, Any] = {
        "namespaces": [name for name in namespaces or () if name not in (EC2, EBS)],
        "statistics": list(statistics or ()),
    }
    if period is not None:
        found["period_s"] = valid_period(period)
    return MetricsRecord(**found)


def run_workload(
    workload: Any,
    typed: Mapping[str, Any],
    *,
    minutes: Minutes = None,
    warmup: Warmup = None,
    name: Name = None,
    strategy: options.Strategy = None,
    yes: options.Yes = False,
    proxy_jump: options.ProxyJump = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Run `workload` against its stack and report it."""
    from labtool.cli.connect import settings

    chosen = settings(cloud=cloud, lab=lab, region=region, strategy=strategy, proxy_jump=proxy_jump)
    settled = settle(workload, typed, minutes)
    warm = warmup_s(settled, warmup)
    measure(
        chosen,
        workload,
        settled,
        seconds=window_s(workload, settled, minutes, warm),
        warmup=warm,
        name=name,
        yes=yes,
        json=json,
    )


def report(
    run: Annotated[Path | None, typer.Argument(help="A run's folder. [default: the lab's latest]")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask CloudWatch again first: its data settle.")] = False,
    namespace: Namespace = None,
    statistic: Statistic = None,
    period: Period = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Make a run's report again, without hosts.

    Its tables and findings too, from the files in its folder.
    """
    from labtool.cli.connect import connect_existing, settings
    from labtool.cli.display import Display
    from labtool.dataset.run import RunDirectory
    from labtool.experiment import gather

    if not refresh and (namespace or statistic or period):
        raise UsageError("--namespace, --statistic and --period ask CloudWatch", "add --refresh")
    metrics = asked_metrics(namespace, statistic, period)
    chosen = settings(lab=lab, cloud=cloud, region=region)
    if run is None and not (chosen.runs / chosen.lab).is_dir():
        measured = [folder.name for folder in chosen.runs.glob("*/") if folder.is_dir()]
        raise unknown(f"lab with runs in {chosen.runs}/", chosen.lab, measured)
    directory = RunDirectory((run or chosen.runs / chosen.lab / "latest").resolve())
    directory.read()
    with Display() as display:
        if refresh:
            gather.refresh(connect_existing(chosen, display), directory, display, metrics)
        else:
            display.stage("tables")
            gather.build(directory)
        draw(directory, display)
    tell(directory, json=json)


def settle(workload: Any, typed: Mapping[str, Any], minutes: float | None) -> Any:
    """Return what a workload is to do, and say on stderr what is not as a file of it says."""
    from labtool.experiment.settle import settled

    found = settled(workload, typed, minutes)
    for sentence in found.notes:
        print(f"note: {sentence}", file=sys.stderr)
    return found


def window_s(workload: Any, settled: Any, minutes: float | None, warmup: float) -> float:
    """Return the window's length in s: as asked, else as a file of the workload says, else as the workload itself.

    A file says what is measured, to which the warm-up is added. Without any of them it is the default.
    """
    if minutes is not None:
        return 60 * minutes
    if settled is not None and settled.seconds is not None:
        return float(settled.seconds + warmup)
    takes: float | None = workload.seconds(settled.values) if workload else None
    return takes or 60 * DEFAULT_MINUTES


def warmup_s(settled: Any, typed: float | None) -> float:
    """Return the warm-up in s: as typed, else as a file says, else none."""
    found: float | None = settled.warmup_s if settled and typed is None else typed
    return found or 0.0


def measure(
    chosen: Any,
    workload: Any,
    settled: Any,
    *,
    seconds: float,
    past: bool = False,
    warmup: float = 0,
    name: str | None = None,
    metrics: Any = None,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Launch the workload's own hosts where they are missing, measure, report."""
    from labtool import stacks
    from labtool.cli import launching
    from labtool.cloud import find, keys, network
    from labtool.experiment import deploy

    check_warmup(warmup, seconds)
    with launching.held(chosen, existing=True) as work:
        lab = find.need_hosts(work.lab)
        network.admit_if_silent(work.session, lab, keys.access(work.session, lab.name), work.display)
        deployed = deploy.remembered(work.session, lab.name)
        if workload and workload.stack and stacks.driven(workload, deployed) is None:
            raise LabtoolError(
                f"{workload.name} drives {workload.stack}, which lab {lab.name} has not",
                f"labtool deploy {workload.stack} --lab {lab.name}",
            )
        if workload:
            lab = launching.bring_up(work, workload.groups(settled.values), yes=yes)
        with launching.measuring(work):
            measured = of_lab(
                work,
                lab,
                deployed,
                workload,
                settled,
                seconds=seconds,
                past=past,
                warmup=warmup,
                name=name,
                metrics=metrics,
            )
        draw(measured.directory, work.display)
    tell(measured.directory, json=json)
    if measured.failure is not None:
        raise measured.failure


def check_warmup(warmup: float, seconds: float) -> None:
    """Refuse a warm-up that is as long as the window."""
    if warmup >= seconds:
        raise UsageError(f"a warm-up of {warmup:.0f} s leaves nothing of a window of {seconds:.0f} s")


def of_lab(
    work: Any,
    lab: Any,
    deployed: dict[str, dict[str, Any]],
    workload: Any,
    settled: Any,
    *,
    seconds: float,
    past: bool = False,
    warmup: float = 0,
    name: str | None = None,
    metrics: Any = None,
    ends: bool = False,
) -> Any:
    """Measure a lab that is held and has all its hosts; `deployed` are its stacks with their options.

    `ends`: the hosts end with the command, and can be asked for nothing afterwards.
    """
    from datetime import UTC, datetime, timedelta

    from labtool import stacks
    from labtool.cli import render
    from labtool.cli.display import PlayDisplay
    from labtool.dataset.run import MetricsRecord
    from labtool.experiment.profile import Asked, profile

    expires = min((host.expires for host in lab.running if host.expires), default=None)
    if expires and not past and expires < datetime.now(UTC) + timedelta(seconds=seconds + 120):
        raise LabtoolError(
            f"the hosts end themselves in {render.left(expires)}, before a window of {seconds / 60:.0f} min is over",
            "choose a shorter window, or a new lab with a longer --ttl",
        )
    stack = (stacks.driven(workload, deployed) if workload else None) or next(iter(deployed), None)
    asked = Asked(
        name=name or (workload.name if workload else "profile"),
        seconds=seconds,
        warmup_s=warmup,
        past=past,
        workload=workload,
        workload_values=settled.on(lab).values if settled else {},
        notes=settled.notes if settled else (),
        latency=settled.latency if settled else None,
        stack=stacks.stack(stack) if stack else None,
        stack_values=stacks.stack(stack).values(deployed[stack]) if stack in deployed else {},
        metrics=metrics or MetricsRecord(),
        hosts_end=ends,
    )
    return profile(
        work.session,
        lab,
        asked,
        runs=work.settings.runs,
        strategy=work.settings.strategy,
        observers=[PlayDisplay(work.display)],
        watcher=work.display,
    )


def draw(directory: Any, display: Any) -> None:
    """Draw the report."""
    display.stage("report")
    from labtool.report.build import build_report

    try:
        build_report(directory)
    except KeyboardInterrupt:
        raise StoppedError(
            f"interrupted while the report was drawn; the run is kept in {directory.path}",
            f"`labtool report {directory.path}` draws it",
        ) from None


def tell(directory: Any, *, json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Print what the report says and where it is; `more` stands in the JSON too."""
    import json as text

    from labtool.cli import render

    summary = text.loads((directory.path / "summary.json").read_text())
    if json:
        render.data({"run": str(directory.path), "report": str(directory.report), **(more or {}), **summary})
        return
    print(summary["verdict"]["sentence"])
    print(f"report: {directory.report}")
