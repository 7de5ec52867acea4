"""What the clients of trace-replay left, as tables.

Reads `raw/trace-replay/<host>/`, each client's files (labtool.dataset.requests). `due` is a line's time in the trace,
at the speed of the replay: `late_s` is how late its request was against that. `trace.json` says what the trace was.
"""

from pathlib import Path
from typing import Any

from labtool.dataset import requests, trace


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables; `DataError` names the file that is none of the driver's."""
    return requests.parse(raw, "trace-replay") | trace.parse(raw, "trace-replay")
