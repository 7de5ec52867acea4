"""What AWS says about itself, as numbers: rates, quotas, how long it may not know what it has just been told."""

from __future__ import annotations

from dataclasses import dataclass, field

READS = ("Describe", "Get")
# https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: each action has a bucket of its own,
# (capacity, refill per second). Those of an account can be higher, never lower.
READ_BUCKET = (100.0, 20.0)
UNFILTERED_BUCKET = (50.0, 10.0)  # reads with neither a filter nor a page size
WRITE_BUCKET = (50.0, 5.0)
OWN_BUCKETS = {
    "RunInstances": (5.0, 2.0),
    "StartInstances": (5.0, 2.0),
    "TerminateInstances": (100.0, 5.0),
    "CreateTags": (100.0, 10.0),
}
RESOURCES = {
    "RunInstances": (1000.0, 2.0),
    "TerminateInstances": (1000.0, 20.0),
    "StartInstances": (1000.0, 2.0),
    "StopInstances": (1000.0, 20.0),
}


@dataclass
class Bucket:
    """Tokens that refill."""

    capacity: float
    per_s: float
    tokens: float = field(default=-1.0)
    at: float = 0.0

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take `count` tokens if they are there."""
        if self.tokens < 0:
            self.tokens, self.at = self.capacity, now
        if now > self.at:
            self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.per_s)
            self.at = now
        if self.tokens < count:
            return False
        self.tokens -= count
        return True


@dataclass
class Promises:
    """How this AWS behaves. Seconds throughout."""

    lag: float = 0.0  # a read may be this old; a write may not know what is younger than this
    latency: float = 0.05
    launch_latency: float = 1.0
    pending: float = 8.0  # until running
    boot: float = 20.0  # from running until sshd greets
    console: float = 5.0  # from the greeting until the console shows the host keys
    shutting_down: float = 15.0
    volume_lag: float = 3.0  # from terminated until its volumes are gone
    vcpus: int = 100_000
    page: int = 1000
    throttle: bool = False
    no_capacity: frozenset[str] = frozenset()  # zones
    not_offered: frozenset[str] = frozenset()  # zones that do not know the type
    denied: frozenset[str] = frozenset()  # actions the policy forbids
    silent: frozenset[str] = frozenset()  # host names whose sshd never greets
    hung: frozenset[str] = frozenset()  # host names whose own timer does nothing
