"""What http-sequential's client left, as tables (labtool.dataset.requests). A request was due when it was sent."""

from pathlib import Path
from typing import Any

from labtool.dataset import requests


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables."""
    return requests.parse(raw, "http-sequential")
