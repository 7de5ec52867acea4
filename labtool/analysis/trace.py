"""Whether a trace was replayed to its end."""

from __future__ import annotations

from labtool.analysis import format as fmt
from labtool.analysis.data import RunData
from labtool.analysis.model import Finding, Severity
from labtool.dataset.trace import SERVICE

COUNTS = ("replayed", "cut", "left", "broken")


def findings(data: RunData) -> list[Finding]:
    """Say how much of the trace was replayed, and why not all of it; nothing where the run replayed none."""
    known = {one.metric: one.series.v for one in data.service if one.source == SERVICE}
    if not all(len(known.get(name, ())) for name in COUNTS):
        return []
    replayed, cut, left, broken = (round(float(known[name][0])) for name in COUNTS)
    severity: Severity = "warning" if left else "note" if cut or broken else "ok"
    said = [f"{replayed:,} lines of the trace were due in the run"]
    if left:
        said.append(f"the clients, too slow or stopped, did not come to {left:,} of them")
    if cut:
        said.append(f"{cut:,} were due after its end")
    if not left and not cut:
        said.append("it was replayed to its end")
    if broken:
        said.append(f"{fmt.plural(broken, 'broken line')} left out")
    return [
        Finding(
            "trace.replayed",
            "trust",
            severity,
            "; ".join(said) + ".",
            evidence={"replayed": replayed, "cut": cut, "left": left, "broken": broken},
            figure="load",
        )
    ]
