"""What `ab` said in each round, as tables: a client a round.

Reads `raw/http-ab/<host>/round-NN.{json,out,tsv}`. In its table of requests (`ab -g`) starts are known to the second,
lengths to the millisecond. Failed requests are only in the summary. `ab` counts from the actual send and waits for
answers: what another client would have waited for is in none of its numbers.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from labtool.errors import DataError

NUMBERS = {
    "complete": r"Complete requests:\s+(\d+)",
    "failed": r"Failed requests:\s+(\d+)",
    "status": r"Non-2xx responses:\s+(\d+)",
    "seconds": r"Time taken for tests:\s+([\d.]+) seconds",
    "rate": r"Requests per second:\s+([\d.]+)",
    "bytes": r"HTML transferred:\s+(\d+) bytes",
    "mean": r"Time per request:\s+([\d.]+) \[ms\] \(mean\)",
}


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables; `DataError` names the file that is not `ab`'s."""
    intervals: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []
    for file in sorted((raw / "http-ab").glob("*/*.json")):
        known = json.loads(file.read_text())
        said = file.with_suffix(".out").read_text() if file.with_suffix(".out").exists() else ""
        if not re.search(NUMBERS["complete"], said):
            continue  # the round was ended before it said anything
        client = f"{file.parent.name}/{file.stem}"
        rows = read_requests(file.with_suffix(".tsv"))
        summaries.append(summary(client, known, said, sorted(length for _, length in rows)))
        per_second = Counter(second for second, _ in rows)
        intervals += [
            {
                "time": second + 1.0,
                "duration_s": 1.0,
                "client": client,
                "role": "client",
                "rate": float(count),
                "errors": 0,
            }
            for second, count in sorted(per_second.items())
        ]
    tables = {"workload_intervals": intervals, "workload_summary": summaries}
    return {name: rows for name, rows in tables.items() if rows}


def read_requests(file: Path) -> list[tuple[int, float]]:
    """Return (second of the start since 1970, ms it took) of each request."""
    if not file.exists():
        return []
    found = []
    for number, line in enumerate(file.read_text().splitlines()[1:], 2):
        cells = line.split("\t")
        try:
            found.append((int(cells[1]), float(cells[4])))
        except (IndexError, ValueError):
            raise DataError(f"{file}:{number}: no row of ab -g: {line[:80]!r}") from None
    return found


def summary(client: str, known: dict[str, Any], said: str, lengths: list[float]) -> dict[str, Any]:
    """Return a round's row of `workload_summary`: ab's own numbers, percentiles of its table."""
    number = {
        name: float(match[1]) if (match := re.search(pattern, said)) else 0.0 for name, pattern in NUMBERS.items()
    }

    def percentile(q: float) -> float | None:
        return lengths[max(-(-len(lengths) * round(q * 1000) // 1000), 1) - 1] if lengths else None

    start = known["started_us"] / 1e6
    return {
        "client": client,
        "role": "client",
        "start": start,
        "end": start + number["seconds"],
        "operations": int(number["complete"]),
        "errors": int(number["failed"] + number["status"]),
        "offered_rate": None,
        "rate": number["rate"],
        "bytes_rate": number["bytes"] / number["seconds"] if number["seconds"] else None,
        "latency_avg_ms": sum(lengths) / len(lengths) if lengths else None,
        "latency_max_ms": lengths[-1] if lengths else None,
        "p50_ms": percentile(0.5),
        "p95_ms": percentile(0.95),
        "p99_ms": percentile(0.99),
        "p999_ms": percentile(0.999),
    }
