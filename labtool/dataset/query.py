"""SQL over a run's tables, by DuckDB.

    >>> connect(run).sql("select host, max(value) from host_metrics where metric = 'utilisation' group by host")

A table that the run does not have is an empty view. Times are UTC, as timestamps without a zone, so that arithmetic
on them needs neither a zone database nor the machine's own zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from labtool.dataset import tables
from labtool.dataset.run import RunDirectory
from labtool.dataset.schema import TABLES
from labtool.errors import DataError

if TYPE_CHECKING:
    import duckdb

_TYPES = {"timestamp": "timestamp", "string": "varchar", "double": "double", "int64": "bigint", "bool": "boolean"}


def connect(run: RunDirectory) -> duckdb.DuckDBPyConnection:
    """Return a connection with a view for every table of the schema, over one run; `DataError` names a bad file."""
    connection = _open()
    for name in TABLES:
        connection.execute(f"create view {name} as {_select(run.tables, name)}")
    return connection


def connect_runs(runs: Mapping[str, RunDirectory]) -> duckdb.DuckDBPyConnection:
    """Return a connection over several runs: every view has the column `run`, with the run's key, before the others."""
    if not runs:
        raise DataError("no run to query", "name at least one folder under runs/<lab>/")
    connection = _open()
    for name in TABLES:
        selects = [f"select {_text(key)} as run, * from ({_select(run.tables, name)})" for key, run in runs.items()]  # noqa: S608
        connection.execute(f"create view {name} as {' union all by name '.join(selects)}")
    return connection


def _open() -> duckdb.DuckDBPyConnection:
    import duckdb

    # Nothing is fetched from anywhere: what is not in the wheel is not used.
    settings: dict[str, str | bool] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    return duckdb.connect(":memory:", config=settings)


def _select(folder: Path, name: str) -> str:
    columns = tables.columns(name)
    if not tables.exists(folder, name):
        nulls = ", ".join(f'null::{_TYPES[column.type]} as "{column.name}"' for column in columns)
        return f"select {nulls} where false"
    file = tables.path(folder, name)
    tables.check(file, name)
    wanted = ", ".join(
        f'make_timestamp(epoch_us("{column.name}")) as "{column.name}"'
        if column.type == "timestamp"
        else f'"{column.name}"'
        for column in columns
    )
    return f"select {wanted} from read_parquet([{_text(str(file))}], hive_partitioning = false)"  # noqa: S608


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
