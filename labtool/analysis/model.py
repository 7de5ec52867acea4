"""What an analysis says: findings, a verdict and the few large numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["problem", "warning", "refused", "note", "ok"]
"""problem: the run's aim was missed; warning: read on before you believe; refused: the data cannot carry a claim;
note: worth knowing; ok: checked, and fine."""

Kind = Literal["load", "latency", "resource", "trust", "missing"]

SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "refused", "note", "ok")
"""From what must be read first to what may be read last."""

Value = float | int | str | None


@dataclass(frozen=True)
class Finding:
    """One sentence that a report states, with the evidence and the bound behind it.

    `evidence` maps a name (with its unit, as `rate_per_s`) to the number the sentence rests on; `bound` says in
    words how far the number can be off and how that was computed; `figure` is the id of the figure that shows it;
    `window` is in seconds since the window's start. `brief` is the sentence for the first screen, where the whole
    one is too long.
    """

    id: str
    kind: Kind
    severity: Severity
    sentence: str
    bound: str = ""
    evidence: Mapping[str, Value] = field(default_factory=dict)
    figure: str = ""
    host: str = ""
    window: tuple[float, float] | None = None
    brief: str = ""

    @property
    def short(self) -> str:
        """The sentence for the first screen."""
        return self.brief or self.sentence


@dataclass(frozen=True)
class Verdict:
    """The run in one sentence; `label` is it in two or three words."""

    severity: Severity
    label: str
    sentence: str


@dataclass(frozen=True)
class Headline:
    """A large number of the first screen: its text, unit and bound, and the bare value for `summary.json`."""

    id: str
    label: str
    text: str
    unit: str
    bound: str
    value: float | None
    figure: str = ""
    severity: Severity = "note"


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Return the findings with the gravest first, else in the order they were made."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
