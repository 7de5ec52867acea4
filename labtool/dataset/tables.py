"""Tables as Parquet files: written whole or not at all, and checked against `labtool.dataset.schema`.

A table is `tables/<name>.parquet` (zstd). A table with no rows has no file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtool.dataset.schema import TABLES, Column
from labtool.errors import DataError, unknown

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]

REBUILD = "make the tables again from the raw files: labtool report RUN"


def columns(name: str) -> tuple[Column, ...]:
    """Return the schema of table `name`; `UsageError` with the nearest names if there is none."""
    try:
        return TABLES[name]
    except KeyError:
        raise unknown("table", name, TABLES) from None


def arrow_schema(name: str) -> pa.Schema:
    """Return table `name`'s schema as Arrow's."""
    import pyarrow as pa

    types = {
        "timestamp": pa.timestamp("us", tz="UTC"),
        "string": pa.string(),
        "double": pa.float64(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
    }
    return pa.schema([pa.field(column.name, types[column.type]) for column in columns(name)])


def path(folder: Path, name: str) -> Path:
    """Return where table `name` of `folder` (a run's `tables/`) is."""
    columns(name)
    return folder / f"{name}.parquet"


def exists(folder: Path, name: str) -> bool:
    """True where the run has table `name`."""
    return path(folder, name).is_file()


def to_arrow(name: str, rows: Iterable[Row], source: str = "") -> pa.Table:
    """Turn rows (a mapping a row) into table `name`.

    Times are datetimes with a zone, ISO 8601 texts with an offset, or seconds since the epoch. What a row leaves out
    is null ('' where the column is a text). `DataError` names `source` (a file or a parser), the row, the column and
    what was expected.
    """
    import pyarrow as pa

    rows = list(rows)
    schema = columns(name)
    where = source or f"table {name}"
    known = {column.name for column in schema}
    for number, row in enumerate(rows):
        if extra := sorted(set(row) - known):
            raise DataError(
                f"{where}: row {number} of table {name} has a column {extra[0]!r} that the table does not know",
                f"its columns: {', '.join(column.name for column in schema)}",
            )
    arrays = {}
    for column in schema:
        convert = _CONVERTERS[column.type]
        values = []
        for number, row in enumerate(rows):
            value = row.get(column.name)
            try:
                values.append(convert(value))
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{where}: row {number} of table {name}, column {column.name}: expected {column.type}, "
                    f"got {value!r} ({error})"
                ) from None
        arrays[column.name] = values
    first = schema[0]
    if first.type == "timestamp" and None in arrays[first.name]:
        raise DataError(f"{where}: row {arrays[first.name].index(None)} of table {name} has no {first.name}")
    return pa.table(arrays, schema=arrow_schema(name))


def checked(name: str, content: pa.Table, source: str) -> pa.Table:
    """Return `content` with table `name`'s columns, in their order and types; a column it lacks is null ('' for texts).

    `DataError` names `source` and the column that the table does not know, or that has another type.
    """
    import pyarrow as pa

    schema = arrow_schema(name)
    if extra := sorted(set(content.column_names) - set(schema.names)):
        raise DataError(
            f"{source}: table {name} has a column {extra[0]!r} that it does not know",
            f"its columns: {', '.join(schema.names)}",
        )
    arrays = []
    for field in schema:
        if field.name not in content.column_names:
            missing = pa.scalar("" if pa.types.is_string(field.type) else None, field.type)
            arrays.append(pa.repeat(missing, content.num_rows))
            continue
        try:
            arrays.append(content[field.name].cast(field.type))
        except pa.ArrowException as error:
            raise DataError(f"{source}: table {name}, column {field.name}: expected {field.type} ({error})") from None
    return pa.table(arrays, schema=schema)


def write(folder: Path, name: str, content: pa.Table | Iterable[Row], source: str = "") -> int:
    """Replace table `name` of `folder` and return its number of rows; a table without rows is removed."""
    import pyarrow as pa

    table = content if isinstance(content, pa.Table) else to_arrow(name, content, source)
    with writer(folder, name) as append:
        append(table)
    return int(table.num_rows)


@contextmanager
def writer(folder: Path, name: str) -> Iterator[Callable[[pa.Table], None]]:
    """Write table `name` piece by piece: yields a function that appends a piece.

    The old table stays until all pieces are written; nothing remains of a table whose writing failed.
    """
    import pyarrow.parquet as pq

    target = path(folder, name)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    schema = arrow_schema(name)
    rows = 0
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as file:

            def append(piece: pa.Table) -> None:
                nonlocal rows
                if piece.num_rows:
                    file.write_table(piece.cast(schema))
                    rows += piece.num_rows

            yield append
        if rows:
            temporary.replace(target)
        else:
            target.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)


def read(folder: Path, name: str, *, only: Sequence[str] | None = None) -> pa.Table:
    """Read table `name` of `folder`, all columns or `only` some; an absent table is an empty one.

    `DataError` names the file, and the column that is missing or of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(name)
    if only is not None:
        for column in only:
            if column not in schema.names:
                raise unknown(f"column of table {name}", column, schema.names)
        schema = pa.schema([schema.field(column) for column in only])
    file = path(folder, name)
    if not file.is_file():
        return schema.empty_table()
    check(file, name)
    try:
        # One file, not a dataset: a folder name with "=" in it must not become a column.
        return pq.ParquetFile(file).read(columns=schema.names).cast(schema)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}", REBUILD) from None


def check(file: Path, name: str) -> None:
    """Raise `DataError` unless `file` is Parquet with the columns and types of table `name`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is no Parquet file, or was cut: {error}", REBUILD) from None
    for field in arrow_schema(name):
        index = found.get_field_index(field.name)
        if index < 0:
            raise DataError(f"{file}: column {field.name} ({field.type}) is missing", REBUILD)
        if found.field(index).type != field.type:
            raise DataError(
                f"{file}: column {field.name}: expected {field.type}, found {found.field(index).type}", REBUILD
            )


def instant(value: object) -> datetime | None:
    """Read a time: a datetime with a zone, an ISO 8601 text with an offset, or seconds since the epoch.

    `ValueError` where the zone is missing, since a time without one is a guess.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise TypeError("a boolean is no time")
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise ValueError("no finite time")
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError("no time")
    if value.tzinfo is None:
        raise ValueError("a time without a zone")
    return value.astimezone(UTC)


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _double(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return float(value)


def _whole(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    if value != int(value):
        raise ValueError("no whole number")
    return int(value)


def _truth(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise TypeError("neither true nor false")


_CONVERTERS: dict[str, Callable[[object], object]] = {
    "timestamp": instant,
    "string": _text,
    "double": _double,
    "int64": _whole,
    "bool": _truth,
}
