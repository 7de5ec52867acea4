"""What a replayed trace was, and how far it was replayed, as rows of `service_metrics` of the service `trace`.

    raw/<workload>/trace.json            what was found in it (playbooks/workloads/files/trace_prepare.py)
    raw/<workload>/<host>/<client>.json  how many lines a client had (`trace_lines`), and was left with (`trace_left`)

Its numbers of lines stand in the middle of the replay: `lines` that are whole, `broken` ones, `replayed` that were due
in the run, `cut` that were due after it, `left` that the clients did not come to. `cost of <variant>` has a row for
each second, at its end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labtool.errors import DataError

SERVICE = "trace"
COST = "cost of "


def parse(raw: Path, workload: str) -> dict[str, list[dict[str, Any]]]:
    """Return the table; `DataError` names the file that is none of the workload's."""
    file = raw / workload / "trace.json"
    if not file.is_file():
        return {}
    clients = [_read(one) for one in sorted((raw / workload).glob("*/client-*.json"))]
    found = _read(file)
    starts = [known["start_us"] / 1e6 for known in clients if "start_us" in known]
    if not starts:
        return {}
    start = min(starts)
    try:
        counts = {
            "lines": found["order"]["lines"],
            "broken": found["broken"]["count"],
            "replayed": found["replayed"],
            "cut": found["cut"],
            "left": sum(known.get("trace_left", 0) for known in clients),
        }
        middle = start + found["lasts_s"] / 2  # inside of the window, whatever the clocks' offsets
        costs = {name: [float(value) for value in sums] for name, sums in found["cost"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file} says not what a trace was: {error!r}", "it was cut or edited by hand") from None
    rows = [_row(middle, name, "count", value) for name, value in counts.items()]
    rows += [
        _row(start + second + 1, COST + name, "per second", value)
        for name, sums in sorted(costs.items())
        for second, value in enumerate(sums)
    ]
    return {"service_metrics": rows}


def _row(time: float, metric: str, unit: str, value: float) -> dict[str, Any]:
    return {"time": time, "host": "", "service": SERVICE, "metric": metric, "unit": unit, "value": float(value)}


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}", "it was cut or edited by hand") from None
    if not isinstance(found, dict):
        raise DataError(f"{file}: expected an object")
    return found
