"""What the clients of http-load left, as tables; of a search for the highest rate, its steps too.

Reads `raw/http-load/<host>/`: each client's files (labtool.dataset.requests), and `steps.json` (files/http_load.py).
"""

import json
from pathlib import Path
from typing import Any

from labtool.dataset import requests
from labtool.errors import DataError


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables; `DataError` names the file that is none of the driver's."""
    tables = requests.parse(raw, "http-load")
    steps = [row for file in sorted((raw / "http-load").glob("*/steps.json")) for row in read_steps(file)]
    return tables | ({"workload_steps": steps} if steps else {})


def read_steps(file: Path) -> list[dict[str, Any]]:
    """Return a row for each step and objective."""
    try:
        steps = [step for step in json.loads(file.read_text()) if "offered_rate" in step]
        return [
            {
                "start": step["start_us"] / 1e6,
                "end": step["end_us"] / 1e6,
                "offered_rate": step["offered_rate"],
                "operations": step["requests"],
                "errors": step["errors"],
                "objective": one["text"],
                "bound": one["bound"],
                "value": one["value"],
                "unit": one["unit"],
                "held": step["held"],
                "saturated": step["saturated"],
                "too_few": step["too_few"],
            }
            for step in steps
            for one in step["objectives"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is no list of steps: {error!r}") from None
