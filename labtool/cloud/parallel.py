"""The same call for many hosts: side by side, and no faster than EC2 lets an account ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from labtool.cloud import clock

T = TypeVar("T")
R = TypeVar("R")


def each(function: Callable[[T], R], items: Iterable[T], width: int = 8) -> list[R]:
    """Return `function` of every item, `width` of them at a time; the first error ends it.

    What had not begun by then, or when ^C came, is not begun any more.
    """
    todo = list(items)
    if not todo:
        return []
    pool = ThreadPoolExecutor(min(width, len(todo)))
    try:
        return list(pool.map(function, todo))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Pace:
    """Lets `burst` calls through at once and `per_s` a second from then on: EC2's own rule, kept on this side.

    https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: each action has a bucket of its own;
    asking faster only turns calls into refusals that have to be repeated.
    """

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at = burst, clock.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next call may be made."""
        with self._lock:
            now = clock.monotonic()
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_s)
            self._at = max(self._at, now)
            self._tokens -= 1
            owed = -self._tokens / self._per_s
        if owed > 0:
            clock.sleep(owed)
