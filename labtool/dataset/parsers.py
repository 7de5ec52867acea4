"""Parsers that come with a workload or a stack: Python files beside its playbook.

    <workload>.py   parse(raw: Path, run: dict) -> dict[str, list[dict]]     raw/ → tables
    <stack>.py      parse_logs(logs: Path) -> dict[str, list[dict]]          logs/<host>/… → tables

    <workload>.py   results(folder: Path, run: dict) -> dict[str, object]    a run with its tables → files (optional)

The first two return, by table (`labtool.dataset.schema`), rows or a whole `pyarrow.Table`. In rows, a time is a
datetime with a zone, an ISO 8601 text with an offset, or seconds since the epoch, as the host's clock said it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from labtool.errors import DataError, LabtoolError

if TYPE_CHECKING:
    import pyarrow as pa

    from labtool.dataset.run import RunDirectory

Rows = list[dict[str, Any]]
Tables = dict[str, "Rows | pa.Table"]

PRODUCED = (
    "workload_intervals",
    "workload_summary",
    "workload_histograms",
    "workload_latencies",
    "workload_steps",
    "workload_counts",
    "spark_applications",
    "spark_executors",
    "spark_jobs",
    "spark_stages",
    "spark_tasks",
    "requests",
    "access_log",
    "service_metrics",
    "stream_batches",
    "stream_backlog",
    "stream_results",
)
"""The tables that a parser may make; the others are made of what labtool itself collected."""


def workload(file: Path, raw: Path, run: dict[str, Any]) -> Tables:
    """Call `file`'s `parse` on a run's raw/ and its record; `DataError` names the file and what went wrong."""
    return _call(file, "parse", raw, run)


def stack(file: Path, logs: Path) -> Tables:
    """Call `file`'s `parse_logs` on a run's logs/; `DataError` names the file and what went wrong."""
    return _call(file, "parse_logs", logs)


def results(file: Path, directory: RunDirectory) -> dict[str, object]:
    """Call `file`'s `results` on a run, if it has one; `DataError` names the file and what went wrong."""
    if not has(file, "results"):
        return {}
    found = call(file, "results", directory.path, directory.read().data())
    assert isinstance(found, dict)
    return found


def has(file: Path, name: str) -> bool:
    """Return True if a workload's file has that function."""
    return callable(getattr(_module(file), name, None))


def call(file: Path, name: str, *arguments: object) -> object:
    """Call a function of a workload's or a stack's file; `DataError` names the file and what went wrong."""
    function = _load(file, name)
    try:
        return function(*arguments)
    except LabtoolError:
        raise
    except Exception as error:
        # It is somebody else's code: whatever it does, the other tables must be made.
        where = _line(file, error)
        raise DataError(f"{file.name}{where}: {name} failed: {type(error).__name__}: {error}") from error


def _call(file: Path, name: str, *arguments: object) -> Tables:
    found = call(file, name, *arguments)
    if not isinstance(found, dict):
        raise DataError(f"{file}: {name} returned {type(found).__name__}, expected a dict of table → rows")
    if unexpected := sorted(set(found) - set(PRODUCED)):
        raise DataError(f"{file}: {name} made table {unexpected[0]!r}", f"a parser makes {', '.join(PRODUCED)}")
    return found


def _load(file: Path, name: str) -> Callable[..., Any]:
    function = getattr(_module(file), name, None)
    if not callable(function):
        raise DataError(f"the parser {file} has no function {name}")
    return function  # type: ignore[no-any-return]


def _module(file: Path) -> ModuleType:
    if not file.is_file():
        raise DataError(f"the parser {file} is not there")
    # The name only has to be one that no module has: a file is loaded as it is now, every time.
    spec = importlib.util.spec_from_file_location(f"labtool_parser_{file.stem.replace('-', '_')}", file)
    if spec is None or spec.loader is None:
        raise DataError(f"the parser {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"the parser {file} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _line(file: Path, error: Exception) -> str:
    trace, line = error.__traceback__, ""
    while trace:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = f" line {trace.tb_lineno}"
        trace = trace.tb_next
    return line
