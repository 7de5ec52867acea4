"""Which requests failed, how and when."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Requests
from labtool.analysis.model import Finding

WORDS: Mapping[str, str] = {
    "timeout": "timed out",
    "refused": "were refused",
    "reset": "were reset",
    "closed": "were closed on",
    "tls": "failed in TLS",
    "status": "had a status that is an error",
    "unsent": "never were sent",
    "unreachable": "found no way to the server",
    "no result": "have no result",
}
"""What became of them, by the kind of the schema; another kind is named as it is."""


def kinds(requests: Requests) -> list[tuple[str, int]]:
    """Return the kinds of the counted failures with their number, the most frequent first."""
    number = np.bincount(requests.error[requests.counted], minlength=len(requests.errors))
    found = [(name, int(n)) for name, n in zip(requests.errors, number, strict=True) if name and n]
    return sorted(found, key=lambda one: (-one[1], one[0]))


def when(requests: Requests) -> tuple[float, float] | None:
    """Return the shortest stretch of the window (s) in which nine of ten counted failures ended; None without any."""
    failed = requests.counted & ~requests.ok
    ended = np.sort(requests.due[failed] + np.nan_to_num(requests.latency[failed]))
    if not len(ended):
        return None
    most = -(-9 * len(ended) // 10)
    lengths = ended[most - 1 :] - ended[: len(ended) - most + 1]
    at = int(np.argmin(lengths))
    return float(ended[at]), float(ended[at + most - 1])


def findings(requests: Requests) -> list[Finding]:
    """Return how many requests failed, without the warm-up, and of them how and when."""
    counted = int(requests.counted.sum())
    found = kinds(requests)
    failed = sum(n for _, n in found)
    evidence: dict[str, float | int | str | None] = {"errors": failed, "operations": counted}
    if not failed:
        sentence = f"None of the {fmt.count(counted)} requests failed."
        return [Finding("load.errors", "load", "ok", sentence, evidence=evidence, figure="load")]
    how = fmt.listed([f"{fmt.count(n)} {WORDS.get(name, f'ended as “{name}”')}" for name, n in found])
    window = when(requests)
    close = ""
    if window is not None and window[1] - window[0] < 0.25 * float(np.ptp(requests.due)):
        close = f" Nine of ten of them ended at {fmt.span(np.floor(window[0]), np.ceil(window[1]))}."
    statuses = requests.status[requests.counted & ~requests.ok & (requests.status > 0)]
    for status, n in zip(*np.unique(statuses, return_counts=True), strict=True):
        evidence[f"status_{status}"] = int(n)
    evidence |= dict(found)
    sentence = f"{fmt.count(failed)} of {fmt.count(counted)} requests failed ({fmt.percent(failed / counted)}): {how}."
    return [
        Finding(
            "load.errors", "load", "problem", sentence + close, "as the clients saw it", evidence, "errors", "", window
        )
    ]
