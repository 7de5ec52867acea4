"""What the clients of http-load left, as tables; of a search for the highest rate, its steps too.

Reads `raw/http-load/<host>/`: each client's files (labtool.dataset.requests), and `steps.json` (files/http_load.py).
"""

from pathlib import Path
from typing import Any

from labtool.dataset import requests


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables; `DataError` names the file that is none of the driver's."""
    tables = requests.parse(raw, "http-load")
    steps = requests.steps(raw, "http-load")
    return tables | ({"workload_steps": steps} if steps else {})
