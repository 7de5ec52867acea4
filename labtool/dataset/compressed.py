"""Files compressed with zstd: logs as collected (`….zst`) and CloudWatch's answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from labtool.errors import DataError

SUFFIX = ".zst"


@contextmanager
def reader(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for reading as bytes, decompressing it where its name ends in `.zst`.

    `DataError` where it is not what its name says, or ends early.
    """
    import pyarrow as pa

    if path.suffix != SUFFIX:
        with path.open("rb") as plain:
            yield plain
        return
    try:
        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            yield stream
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DataError(f"{path} is no zstd file, or was cut: {error}") from None


def read(path: Path) -> bytes:
    """Return all of `path`, decompressed where its name ends in `.zst`."""
    with reader(path) as stream:
        return bytes(stream.read())


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, plain or `.zst`, without their ends; bytes that are no UTF-8 become U+FFFD."""
    import io

    with reader(path) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8", errors="replace"):
            yield line.rstrip("\r\n")


def write(path: Path, content: bytes) -> None:
    """Replace `path` (named `….zst`) with `content`, compressed, as a whole or not at all."""
    import pyarrow as pa

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with pa.CompressedOutputStream(pa.OSFile(str(temporary), "wb"), "zstd") as stream:
        stream.write(content)
    temporary.replace(path)


def expand(source: IO[bytes], target: IO[bytes]) -> int:
    """Decompress the zstd stream `source` into `target` and return the bytes written; `DataError` if it is cut."""
    import pyarrow as pa

    written = 0
    try:
        with pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd") as stream:
            while piece := stream.read(1 << 20):
                target.write(piece)
                written += len(piece)
    except OSError as error:
        raise DataError(f"not zstd, or cut: {error}") from None
    return written
