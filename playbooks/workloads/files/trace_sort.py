"""Sort a trace's lines by time in bounded memory: runs that fit into it, merged from disk.

A line of a run is its time and its number, in hexadecimal digits of a fixed width, before the text: sorted as text it
is sorted by value, lines of one time stay in the file's order, and merging compares lines as they are read. Needs only
Python's own library.
"""

from __future__ import annotations

import heapq
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MEMORY = 64 << 20  # bytes that a run may take as Python holds it
OVERHEAD = 64  # of which a line has so many besides its text
AT, NUMBER = 17, 10  # digits of them
BIAS = 1 << 67  # ns, more than any time has: those before 1970 are positive too
Line = tuple[int, int, str]  # time in ns, number, text


@dataclass
class Order:
    """What sorting found out."""

    lines: int = 0
    out_of_order: int = 0  # lines that are earlier than the one before them
    runs: int = 0
    first: int = 0  # ns
    last: int = 0


def in_order(lines: Iterable[Line], order: Order, folder: Path, *, memory: int = MEMORY) -> Iterator[Line]:
    """Yield `lines` by time, those of the same time in the order they came; `order` is filled before the first.

    What does not fit into `memory` (bytes) waits in files without a name in `folder`.
    """
    with ExitStack() as files:
        runs: list[IO[str]] = []
        ends: list[tuple[str, str]] = []  # first and last line of each run

        def spill() -> None:
            run.sort()
            file = files.enter_context(
                tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8", newline="\n", buffering=1 << 16)
            )
            file.writelines(run)
            file.seek(0)
            ends.append((run[0], run[-1]))
            runs.append(file)

        run: list[str] = []
        used, before = 0, -BIAS
        for at, number, text in lines:
            run.append(line := f"{at + BIAS:017x}{number:010x}{text}\n")
            used += len(line) + OVERHEAD
            order.out_of_order += at < before
            before = at
            order.lines += 1
            if used >= memory:
                spill()
                run, used = [], 0
        run.sort()
        if run:
            ends.append((run[0], run[-1]))
        order.runs = len(ends)
        if not ends:
            return
        order.first, order.last = _time(min(ends)[0]), _time(max(last for _, last in ends))
        sources: list[Iterable[str]] = [*runs, run] if run else [*runs]
        # Runs that follow one another, as those of a sorted trace do, need no comparison.
        follow = all(before[1] < after[0] for before, after in itertools.pairwise(ends))
        for line in itertools.chain.from_iterable(sources) if follow else heapq.merge(*sources):
            yield _time(line), int(line[AT : AT + NUMBER], 16), line[AT + NUMBER : -1]


def _time(line: str) -> int:
    return int(line[:AT], 16) - BIAS
