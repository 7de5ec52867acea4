"""What exists, with its past: a read that lags sees things as they were."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fake.clock import START

FOREVER = float("inf")
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
TIMER = re.compile(r"^OnCalendar=(.+) UTC$", re.MULTILINE)


@dataclass
class Thing:
    """Something with an id and tags, from `created` to `deleted` (seconds of the clock)."""

    id: str
    created: float
    data: dict[str, Any] = field(default_factory=dict)
    deleted: float = FOREVER
    tagged: list[tuple[float, dict[str, str]]] = field(default_factory=list)

    def exists(self, at: float) -> bool:
        """Tell whether it existed at a time."""
        return self.created <= at < self.deleted

    def tags(self, at: float) -> dict[str, str]:
        """Return its tags at a time; those it was created with belong to it from the first."""
        found: dict[str, str] = {}
        for when, tags in self.tagged:
            if when <= max(at, self.created):
                found = tags
        return found

    def tag(self, now: float, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.tagged.append((now, {**self.tags(now), **tags}))


@dataclass
class Instance(Thing):
    """An instance; `course` is its states with their times, those to come among them."""

    course: list[tuple[float, str]] = field(default_factory=list)
    reason: str = ""
    started: float = 0.0  # when it last began to run

    def state(self, at: float) -> str:
        """Return its state at a time."""
        found = "pending"
        for when, state in self.course:
            if when <= at:
                found = state
        return found

    def alive(self, at: float) -> bool:
        """Tell whether it costs money or may again."""
        return self.exists(at) and self.state(at) not in ("shutting-down", "terminated")

    def turn(self, now: float, *course: tuple[float, str]) -> None:
        """Forget what was to come, and take another course."""
        self.course = [step for step in self.course if step[0] <= now] + list(course)

    def gone_at(self) -> float:
        """Return when it is terminated."""
        return next((when for when, state in self.course if state == "terminated"), FOREVER)

    def timer(self) -> float:
        """Return when the host's own timer powers it off."""
        text = self.data.get("timer") or ""
        if not text:
            return FOREVER
        when = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        return (when - START).total_seconds()


FILTERS = {
    "DescribeInstances": (
        *("instance-id", "instance-state-name", "client-token", "instance.group-id", "placement-group-name"),
        *("vpc-id", "availability-zone"),
    ),
    "DescribeSpotInstanceRequests": ("instance-id",),
    "DescribeVpcs": ("is-default", "vpc-id"),
    "DescribeSubnets": ("vpc-id", "subnet-id", "availability-zone", "state"),
    "DescribeSecurityGroups": ("group-name", "vpc-id", "group-id"),
    "DescribeKeyPairs": ("key-name",),
    "DescribePlacementGroups": ("group-name",),
    "DescribeVolumes": ("attachment.instance-id", "volume-id"),
    "DescribeTags": ("resource-type", "key", "value", "resource-id"),
}
"""Those of each action that the fake knows, besides tag:KEY and tag-key; any other is refused."""


def check_filters(action: str, filters: list[dict[str, Any]]) -> None:
    """Refuse filters that the action has not, or that have no values."""
    from fake.aws import Refused

    for each in filters:
        name = each["Name"]
        if not name.startswith("tag:") and name != "tag-key" and name not in FILTERS.get(action, ()):
            raise Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
        if not each.get("Values"):
            raise Refused("InvalidParameterValue", f"The filter '{name}' has no values")


def matches(filters: list[dict[str, Any]], values: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """Hold filters against values and tags."""
    for each in filters:
        name, wanted = each["Name"], each["Values"]
        if name.startswith("tag:"):
            if tags.get(name[4:]) not in wanted:
                return False
        elif name == "tag-key":
            if not set(wanted) & set(tags):
                return False
        else:
            has = values[name]
            if not set(has if isinstance(has, (list, tuple, set)) else [str(has)]) & set(wanted):
                return False
    return True
