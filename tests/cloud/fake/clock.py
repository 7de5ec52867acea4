"""Virtual time: what sleeps costs nothing, and work that would run side by side is counted as such."""

from __future__ import annotations

import time as real
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
START = datetime.now(UTC).replace(second=0, microsecond=0)


class VirtualClock:
    """A clock that only sleeping and the fake's own latencies move. Has the names of `time` that botocore uses."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self.elapsed

    def time(self) -> float:
        """Unix seconds."""
        return self.now().timestamp()

    def now(self) -> datetime:
        """The wall clock."""
        return START + timedelta(seconds=self.elapsed)

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.elapsed += max(0.0, seconds)

    def each(self, function: Callable[[T], R], items: Iterable[T], width: int = 8) -> list[R]:
        """Work on `items` one after the other, but as long as `width` lanes side by side would take."""
        began = self.elapsed
        lanes = [began] * max(1, width)
        answers = []
        try:
            for item in items:
                free = min(range(len(lanes)), key=lanes.__getitem__)
                self.elapsed = lanes[free]
                try:
                    answers.append(function(item))
                finally:
                    lanes[free] = self.elapsed
        finally:
            self.elapsed = max(lanes)
        return answers

    def install(self, patch: Callable[[object, str, object], None]) -> None:
        """Put this clock where labtool's and botocore's are; `patch(target, name, value)` is monkeypatch.setattr."""
        import botocore.endpoint

        from labtool.cloud import clock, parallel

        patch(clock, "monotonic", self.monotonic)
        patch(clock, "sleep", self.sleep)
        patch(clock, "now", self.now)
        patch(parallel, "each", self.each)
        patch(botocore.endpoint, "time", _Time(self))


class _Time:
    """The module `time` with another sleep."""

    def __init__(self, clock: VirtualClock) -> None:
        self.sleep = clock.sleep

    def __getattr__(self, name: str) -> object:
        return getattr(real, name)
