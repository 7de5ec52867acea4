"""A client's part of a trace, as requests or messages in the order in which they are due.

Lines are read as they are needed: memory does not grow with the trace. Needs only Python's own library: it is copied
to the load hosts.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from trace_lines import splitter
from trace_template import Template

Made = TypeVar("Made")


@dataclass
class Source(Generic[Made]):
    """A client's part, and how far it was replayed."""

    part: Path
    template: Template
    delimiter: str
    make: Callable[[float, Any], Made]  # of when it is due (s after the start) and what the line became
    over: Callable[[], bool]  # the run's time is over: what is left then is not replayed
    closed: bool = False  # nothing more is taken
    taken: int = 0
    left: int = 0  # lines that were not taken

    def __iter__(self) -> Iterator[Made]:
        divide, template = splitter(self.delimiter), self.template
        with gzip.open(self.part, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                # Far behind, it would otherwise go on for as long as there are lines.
                if self.closed or (not self.taken % 64 and self.over()):
                    self.closed = True
                    self.left += 1
                    continue
                self.taken += 1
                due_us, number, text = line[:-1].split("\t", 2)
                yield self.make(int(due_us) / 1e6, template.render(int(number), divide(text)))

    def close(self, rest: Iterator[Made]) -> None:
        """Count what is left."""
        self.closed = True
        for _ in rest:
            pass


def moment_over(start_at: float, duration_s: float) -> Callable[[], bool]:
    """Return what tells that a run that began at `start_at` (s since 1970) has had its time."""
    until = time.monotonic() + start_at - time.time() + duration_s
    return lambda: time.monotonic() >= until
