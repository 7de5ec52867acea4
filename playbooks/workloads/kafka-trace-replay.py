"""What the clients of kafka-trace-replay left, as tables.

Reads `raw/kafka-trace-replay/<host>/`, each client's files (labtool.dataset.requests; a message is served when the
brokers have acknowledged it), `trace.json`, what the trace was, and `end-offsets.json`, the brokers' own count, held
against the clients' where they asked for acknowledgements.
"""

import json
from pathlib import Path
from typing import Any

from labtool.dataset import requests, trace
from labtool.errors import DataError
from labtool.experiment.settle import check_settings

WORKLOAD = "kafka-trace-replay"

TAKEN = {"acks": "--acks", "request.required.acks": "--acks", "queue.buffering.max.messages": "--queue"}
"""Settings of librdkafka that an option is for."""


def check(values: dict[str, Any]) -> None:
    """Refuse settings that another option is for, and what the clients set themselves."""
    ours = ("bootstrap.servers", "client.id")
    check_settings("--properties", values["properties"], "linger.ms=5 compression.type=lz4", TAKEN, ours)


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables; `DataError` names the file that is none of the driver's."""
    tables = requests.parse(raw, WORKLOAD) | trace.parse(raw, WORKLOAD)
    stored = offsets(raw / WORKLOAD / "end-offsets.json")
    acknowledged = str((run.get("workload_options") or {}).get("acks")) != "0"
    if "requests" in tables and stored and acknowledged:
        errors = tables["requests"]["error"].to_pylist()
        row = {
            "what": "records",
            "claimed": sum(not error for error in errors),
            "claimed_by": "the clients' acknowledged messages",
            "counted": stored,
            "counted_by": "the topic's end offsets",
        }
        tables["workload_counts"] = [row]
    return tables


def offsets(file: Path) -> int:
    """Return how many records the topic was given; 0 where it was none of the workload's own."""
    if not file.exists():
        return 0
    try:
        return sum(int(records) for records in json.loads(file.read_text()).values())
    except (ValueError, AttributeError, TypeError):
        raise DataError(f"{file}: expected a number of records for each partition") from None
