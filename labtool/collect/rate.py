"""Keep below the rates at which CloudWatch refuses GetMetricData.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html: 50 requests/s, and 180,000
points/s where the window began in the last three hours; further back it is more, of which no use is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

REQUESTS_PER_S = 50.0
POINTS_PER_S = 180_000.0


class Rate:
    """Spaces requests so that no second has more of them, or of their points, than CloudWatch admits."""

    def __init__(
        self,
        requests_per_s: float = REQUESTS_PER_S,
        points_per_s: float = POINTS_PER_S,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._requests_per_s, self._points_per_s = requests_per_s, points_per_s
        self._monotonic, self._sleep = monotonic, sleep
        self._free = monotonic()
        self._lock = threading.Lock()

    def wait(self, points: int) -> None:
        """Return when a request for `points` may be sent: after the time that those before it are worth."""
        with self._lock:
            now = self._monotonic()
            at = max(now, self._free)
            self._free = at + max(1 / self._requests_per_s, points / self._points_per_s)
        if at > now:
            self._sleep(at - now)
