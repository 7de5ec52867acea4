"""What was busy: utilisation, saturation and errors per resource and host (Gregg's USE method).

A resource's utilisation is stated as its mean over the busiest minute of the measured part (all of it, where that is
shorter), because a mean over the whole window hides a peak and a single second is noise. It is called saturated where
it was at or above 90 % in at least a tenth of the measured seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import RunData, Series
from labtool.analysis.model import Finding, Severity
from labtool.analysis.statistics import busiest_stretch, mean, quantile, share_above

STRETCH_S = 60.0
FULL = 0.90
FULL_SHARE = 0.10
BUSY = 0.70
CORE_FULL = 0.95
LEAST_POINTS = 5
SATURATED_POINTS = 20
"""With fewer points a tenth of them is one, which says nothing."""
BURST_S = 5.0
"""So many seconds beyond its baseline a network is not measured by it: samples that came late explain no more."""

RESOURCES = {"cpu": "CPU", "disk": "disk", "network": "network", "memory": "memory"}
"""What is compared across hosts: signal → name. Memory is shown, but it is filled rather than busy."""
RANKED = ("cpu", "disk", "network")


@dataclass(frozen=True)
class Usage:
    """How busy one resource of one host was in the measured part; ratios 0…1."""

    host: str
    resource: str
    mean: float
    p95: float
    peak: float  # mean over the busiest minute
    peak_window: tuple[float, float]
    full_share: float  # share of the seconds at or above FULL
    points: int

    @property
    def saturated(self) -> bool:
        """True if it was full for a tenth of the time or more, and there are points enough to say so."""
        return self.full_share >= FULL_SHARE and self.points >= SATURATED_POINTS


def utilisation(data: RunData, host: str, resource: str) -> Series:
    """Return a resource's utilisation (0…1) over the window; empty where it is not known.

    A network's is the busier direction over the host's `bandwidth`, where that is known.
    """
    if resource != "network":
        return data.signal(host, resource)
    limit, flow = bandwidth(data, host), _flow(data, host)
    return Series(flow.t, flow.v * 8 / limit) if limit else Series(np.empty(0), np.empty(0))


def bandwidth(data: RunData, host: str) -> float | None:
    """Return bits/s that the host's network could carry in this run; None where that is not known.

    Its type's baseline; what the type may burst to, where the host went beyond the baseline for `BURST_S` or more.
    """
    record = data.host_record(host)
    if record is None or not record.network_bits_per_s:
        return None
    burst = record.network_burst_bits_per_s or 0.0
    return burst if burst > record.network_bits_per_s and _bursts(data, host) else record.network_bits_per_s


def _flow(data: RunData, host: str) -> Series:
    """Return bytes/s of the busier direction of a host's network."""
    rx, tx = data.signal(host, "net_rx"), data.signal(host, "net_tx")
    if not len(rx) or len(rx) != len(tx):
        return Series(np.empty(0), np.empty(0))
    return Series(rx.t, np.maximum(rx.v, tx.v))


def _bursts(data: RunData, host: str) -> bool:
    record, flow = data.host_record(host), _flow(data, host)
    if record is None or not record.network_bits_per_s or not len(flow):
        return False
    # A second is counted from one sample to the next: a little more than the baseline is still the baseline.
    beyond = flow.v * 8 > 1.1 * record.network_bits_per_s
    return float(np.sum(beyond)) * flow.step >= BURST_S


def usage(data: RunData) -> list[Usage]:
    """Return the usage of every resource of every host that has enough points, in the hosts' order."""
    found = []
    for host in data.hosts:
        for resource in RESOURCES:
            series = utilisation(data, host, resource).between(*data.measured)
            stretch = busiest_stretch(series, STRETCH_S)
            average, tail = mean(series.v), quantile(series.v, 0.95)
            if stretch is None or average is None or tail is None or len(series) < LEAST_POINTS:
                continue
            found.append(
                Usage(
                    host,
                    resource,
                    average,
                    tail,
                    stretch[0],
                    (max(stretch[1], data.measured[0]), stretch[2]),
                    share_above(series, FULL),
                    len(series),
                )
            )
    return found


def busiest(found: Iterable[Usage]) -> Usage | None:
    """Return the usage with the highest busiest minute among CPU, disk and network."""
    return max((u for u in found if u.resource in RANKED), key=lambda u: u.peak, default=None)


def full_core(data: RunData, host: str) -> float:
    """Return the share of the measured seconds in which one core was full while the host as a whole was not."""
    record = data.host_record(host)
    if record is None or (record.vcpus or 1) < 2:
        return 0.0
    return share_above(data.signal(host, "cpu_core", measured=True), CORE_FULL)


def findings(data: RunData, found: list[Usage]) -> list[Finding]:
    """Return what is to be said of the hosts' resources."""
    if not found:
        if not data.hosts:
            return []
        sentence = "No host left counters for the measured part, so nothing is said about what was busy."
        return [Finding("resource.none", "resource", "refused", sentence)]
    said = [_busiest(found)]
    if _failed_before_its_load(data):
        sentence = "The workload ended before its first operation, so nothing is said about what it saturated."
        said.append(Finding("resource.system", "resource", "refused", sentence, figure="heat"))
    elif data.load_hosts:
        said.append(_generator(data, found))
        said.append(_system(data, found))
    else:
        said.append(_saturated(data, found, "resource.system", "hosts", data.hosts))
    said.append(_network(data, found))
    said += _memory(data, found)
    said += _steal(data)
    return said


def _failed_before_its_load(data: RunData) -> bool:
    drove = any(len(client.end) for client in data.clients) or any(one.operations for one in data.summaries)
    broke = any(stage.outcome in ("failed", "interrupted") for stage in data.record.stages)
    return bool(data.record.workload) and broke and not drove and not data.spark


def _name(use: Usage) -> str:
    return f"the {RESOURCES[use.resource]} of {use.host}"


def _evidence(use: Usage) -> dict[str, float | int | str | None]:
    return {
        "busiest_minute": use.peak,
        "mean": use.mean,
        "p95": use.p95,
        "share_of_time_full": use.full_share,
        "points": use.points,
    }


def _busiest(found: list[Usage]) -> Finding:
    top = busiest(found)
    if top is None:
        sentence = "Neither CPU nor disk of any host was measured, so no resource is named as the busiest."
        return Finding("resource.busiest", "resource", "refused", sentence)
    length = top.peak_window[1] - top.peak_window[0]
    over = "busiest minute" if length > 0.8 * STRETCH_S else f"{fmt.duration(length)} measured"
    sentence = (
        f"The busiest resource was {_name(top)}: {fmt.percent(top.peak)} over its {over} "
        f"({fmt.span(*top.peak_window)}), {fmt.percent(top.mean)} on average."
    )
    return Finding(
        "resource.busiest",
        "resource",
        "note",
        sentence,
        f"from {top.points:,} points; 95 of 100 were at or below {fmt.percent(top.p95)}",
        _evidence(top),
        "heat",
        top.host,
        top.peak_window,
    )


def _saturated(data: RunData, found: list[Usage], name: str, who: str, hosts: Iterable[str]) -> Finding:
    members = set(hosts)
    mine = [use for use in found if use.host in members and use.resource in RANKED]
    if not mine:
        return Finding(name, "resource", "refused", f"Whether the {who} were saturated cannot be said: no counters.")
    full = sorted((use for use in mine if use.saturated), key=lambda use: -use.full_share)
    top = max(mine, key=lambda use: use.peak)
    rule = f"saturated means at or above {fmt.percent(FULL)} in a tenth of the seconds or more"
    if full:
        what = fmt.listed([f"{_name(use)} ({fmt.percent(use.full_share)} of the time)" for use in full])
        sentence = f"The {who} were saturated: at or above {fmt.percent(FULL)} was {what}."
        return Finding(
            name, "resource", "problem", sentence, rule, _evidence(full[0]), "heat", full[0].host, full[0].peak_window
        )
    if few := [use for use in mine if use.full_share >= FULL_SHARE]:
        sentence = (
            f"Whether the {who} were saturated cannot be said: {_name(few[0])} was full in "
            f"{round(few[0].full_share * few[0].points)} of {fmt.plural(few[0].points, 'point')}, and it takes "
            f"{SATURATED_POINTS}."
        )
        return Finding(name, "resource", "refused", sentence, rule, _evidence(few[0]), "heat", few[0].host)
    close = " That is close." if top.peak >= BUSY else ""
    silent = sorted(members - {use.host for use in mine})
    which = f"{who} that left counters (not {fmt.listed(silent)})" if silent else who
    sentence = f"The {which} were not saturated: the most was {fmt.percent(top.peak)}, {_name(top)}.{close}"
    return Finding(name, "resource", "ok", sentence, rule, _evidence(top), "heat", top.host, top.peak_window)


def _generator(data: RunData, found: list[Usage]) -> Finding:
    finding = _saturated(data, found, "resource.generator", "load hosts", data.load_hosts)
    if finding.severity == "ok":
        for host in data.load_hosts:
            share = full_core(data, host)
            if share >= 0.5:
                sentence = (
                    f"A core of {host} was full in {fmt.percent(share)} of the seconds, though the host was not: a "
                    "client that runs on one thread may have been the limit."
                )
                return Finding(
                    "resource.generator",
                    "resource",
                    "warning",
                    sentence,
                    f"full means at or above {fmt.percent(CORE_FULL)}",
                    {"share_of_time_core_full": share},
                    "heat",
                    host,
                )
    return finding


def _system(data: RunData, found: list[Usage]) -> Finding:
    hosts = data.system_hosts
    if not hosts:
        sentence = "Every host ran a client of the workload: load and system shared the same resources."
        return Finding("resource.system", "resource", "warning", sentence, figure="heat")
    return _saturated(data, found, "resource.system", system_name(data), hosts)


def system_name(data: RunData) -> str:
    """Return what the system's hosts are called in a sentence: brokers where records are produced, hosts where none
    is without a client."""
    roles = {client.role for client in data.clients} | {summary.role for summary in data.summaries}
    if roles & {"producer", "consumer"} or (data.record.workload or "").startswith("kafka"):
        return "brokers"
    return "servers" if roles and data.system_hosts else "hosts"


def _network(data: RunData, found: list[Usage]) -> Finding:
    most: tuple[float, str, str] | None = None
    lost = 0.0
    for host in data.hosts:
        for name, direction in (("net_rx", "into"), ("net_tx", "out of")):
            stretch = busiest_stretch(data.signal(host, name, measured=True), STRETCH_S)
            if stretch and (most is None or stretch[0] > most[0]):
                most = (stretch[0], host, direction)
        drops = data.signal(host, "net_lost", measured=True)
        lost += float(np.nansum(drops.v)) * drops.step if len(drops) else 0.0
    if most is None:
        sentence = "Whether the network was saturated cannot be said: no host left network counters."
        return Finding("resource.network", "resource", "refused", sentence)
    flow = f"{fmt.size_rate(most[0])} {most[2]} {most[1]} over its busiest minute"
    evidence = {"bytes_per_s": most[0], "packets_lost": lost}
    used = [use for use in found if use.resource == "network"]
    loss = f"{fmt.count(lost)} packets were dropped" if lost >= 1 else "no packet was dropped"
    if used:
        top = max(used, key=lambda use: use.peak)
        full = [use for use in used if use.saturated]
        state = "was saturated" if full else "was not saturated"
        sentence = (
            f"The network {state}: at most {flow}, {fmt.percent(top.peak)} of the bandwidth of {top.host}; {loss}."
        )
        severity: Severity = "problem" if full else "warning" if lost >= 1 else "ok"
        return Finding(
            "resource.network",
            "resource",
            severity,
            sentence,
            _of_which_bandwidth(data, top.host),
            evidence | {"utilisation": top.peak},
            "hosts",
            most[1],
        )
    sentence = (
        f"The network carried at most {flow}, and {loss}. What it could have carried is not known, so its utilisation "
        "is not stated."
    )
    return Finding(
        "resource.network",
        "resource",
        "warning" if lost >= 1 else "note",
        sentence,
        "drops are the interfaces' own counters",
        evidence,
        "hosts",
        most[1],
    )


def _of_which_bandwidth(data: RunData, host: str) -> str:
    if not _bursts(data, host):
        return "against the baseline bandwidth of the instance type"
    return "against what the instance type may burst to, for it went beyond its baseline: without credits it is less"


def _memory(data: RunData, found: list[Usage]) -> list[Finding]:
    said = []
    for use in (use for use in found if use.resource == "memory" and use.saturated):
        sentence = (
            f"The memory of {use.host} was at or above {fmt.percent(FULL)} in {fmt.percent(use.full_share)} of the "
            "seconds (without what the kernel can give back)."
        )
        said.append(
            Finding(
                f"resource.memory.{use.host}",
                "resource",
                "warning",
                sentence,
                "",
                _evidence(use),
                "hosts",
                use.host,
                use.peak_window,
            )
        )
    for host in data.hosts:
        swap = data.signal(host, "swap", measured=True)
        if len(swap) > 1 and float(swap.v[-1] - swap.v[0]) > 0.01:
            growth = float(swap.v[-1] - swap.v[0])
            sentence = f"{host} swapped: its used swap grew by {fmt.percent(growth)} of the swap space."
            said.append(
                Finding(
                    f"resource.swap.{host}", "resource", "warning", sentence, evidence={"growth": growth}, host=host
                )
            )
    return said


STOLEN = 0.02  # a share of CPU time worth a word


def _steal(data: RunData) -> list[Finding]:
    worst = max(
        ((mean(data.signal(host, "cpu_steal", measured=True).v) or 0.0, host) for host in data.hosts),
        default=(0.0, ""),
    )
    if worst[0] < STOLEN:
        return []
    sentence = (
        f"{fmt.percent(worst[0])} of the CPU time of {worst[1]} was stolen: the machine under it was busy with others, "
        "or its CPU credits were used up."
    )
    return [
        Finding(
            "trust.steal",
            "trust",
            "warning",
            sentence,
            "the mean over the measured part",
            {"steal": worst[0]},
            "hosts",
            worst[1],
        )
    ]


def machine_cpus(data: RunData) -> int | None:
    """Return how many CPUs the controller's machine has, as run.json says it."""
    found = re.search(r"\d+", data.record.machine.get("cpus", ""))
    return int(found[0]) if found else None
