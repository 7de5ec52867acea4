"""Queries over the tables of a run that are there; what is broken is remembered and the rest goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from labtool.dataset import query, tables
from labtool.dataset.run import Missing, RunDirectory
from labtool.dataset.schema import TABLES
from labtool.errors import DataError

T = TypeVar("T")

Rows = dict[str, Any]
"""A query's answer: an array per column."""

MEMORY = "1GB"
"""What a query may hold in memory before it uses the disk."""
PIECE = 100
"""Vectors (of 2,048 rows) that are read at once where rows are many."""


class Reader:
    """SQL over the tables that are there and whole; what cannot be read is remembered."""

    def __init__(self, directory: RunDirectory) -> None:
        self.unreadable: list[Missing] = []
        self.present: set[str] = set()
        # A connection refuses a run with one broken table: it gets a folder of links to the whole ones.
        self._whole = TemporaryDirectory(prefix="labtool-tables-")
        whole = RunDirectory(Path(self._whole.name))
        whole.tables.mkdir()
        for table in TABLES:
            if not tables.exists(directory.tables, table):
                continue
            file = tables.path(directory.tables, table)
            try:
                tables.check(file, table)
            except DataError as error:
                said = error.message.replace(f"{file}: ", "").replace(str(file), "its file")
                self._give_up(table, said.split(". ")[0].rstrip("."))
                continue
            tables.path(whole.tables, table).symlink_to(file.resolve())
            self.present.add(table)
        self._connection = query.connect(whole)
        # What does not fit goes to disk: a join of ten million requests with as many lines of a log does not.
        self._connection.execute(f"SET memory_limit = '{MEMORY}'")
        self._connection.execute(f"SET temp_directory = '{self._whole.name}/spilt'")
        self._connection.execute("SET preserve_insertion_order = false")

    def query(self, sql: str, parameters: Iterable[object] = ()) -> Rows:
        """Return the answer as an array per column; absent values are masked or NaN, as NumPy can hold them."""
        rows: Rows = self._connection.execute(sql, list(parameters)).fetchnumpy()
        return {name: _filled(values) for name, values in rows.items()}

    def arrays(self, sql: str, parameters: Iterable[object], rows: int, types: Mapping[str, Any]) -> Rows:
        """Return an answer of at most `rows` rows without an absent value as arrays of these types, read in pieces.

        Beside the arrays themselves it takes the memory of a piece.
        """
        found = {name: np.empty(rows, dtype=kind) for name, kind in types.items()}
        at = 0
        result = self._connection.execute(sql, list(parameters))
        while rows_read := len(piece := result.fetch_df_chunk(PIECE)):
            for name, values in found.items():
                values[at : at + rows_read] = piece[name].to_numpy()
            at += rows_read
        return {name: values[:at] for name, values in found.items()}

    def attempt(self, table: str, read: Callable[[], T]) -> T | None:
        """Return what `read` makes of a table; None where the table is absent or cannot be read."""
        if table not in self.present:
            return None
        try:
            return read()
        except Exception as error:
            # A table whose pages are damaged shows it only when they are read. DuckDB's errors have no common base
            # that could be named here without importing DuckDB, which only labtool.dataset does.
            if "duckdb" not in type(error).__module__:
                raise
            self._give_up(table, str(error).splitlines()[0][:160])
            return None

    def execute(self, sql: str) -> None:
        """Run a statement that answers nothing."""
        self._connection.execute(sql)

    def fill(self, sql: str, rows: list[tuple[object, ...]]) -> None:
        """Run an INSERT for every one of `rows`."""
        self._connection.executemany(sql, rows)

    def _give_up(self, table: str, why: str) -> None:
        self.present.discard(table)
        self.unreadable.append(Missing(what=f"table {table}", why=f"it cannot be read ({why})"))

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()
        self._whole.cleanup()


def _filled(values: Any) -> Any:
    if not isinstance(values, np.ma.MaskedArray):
        return values
    masked: Any = values
    if masked.dtype.kind in "fiu":
        return masked.astype(np.float64).filled(np.nan)
    plain = np.array(masked.data, dtype=object)
    plain[np.ma.getmaskarray(masked)] = None
    return plain


def runs(first: Any, second: Any) -> Iterable[tuple[int, int, slice]]:
    """Yield (first, second, slice) for each run of equal pairs in two sorted arrays."""
    if not len(first):
        return
    changes = np.flatnonzero((np.diff(first) != 0) | (np.diff(second) != 0)) + 1
    edges = [0, *changes.tolist(), len(first)]
    for left, right in pairwise(edges):
        yield int(first[left]), int(second[left]), slice(left, right)


def records(rows: Rows) -> list[dict[str, Any]]:
    """Return an answer as a list of rows, with None for what is absent."""
    columns = {name: values.tolist() for name, values in rows.items()}
    return [
        {name: _present(columns[name][i]) for name in columns} for i in range(len(next(iter(columns.values()), [])))
    ]


def _present(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
