"""The tags in which the truth about a lab is kept, and how a host is read back from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from labtool.topology import Host

LAB = "labtool:lab"
GROUP = "labtool:group"
INDEX = "labtool:index"
INDEXES = "labtool:indexes"
"""Given in the launch call itself, to all instances of it: "0-2 5". An instance whose own index was not yet
written when labtool was killed is number AmiLaunchIndex of these."""
LOGIN = "labtool:login"
EXPIRES = "labtool:expires"
OWNER = "labtool:owner"
ROOT_GIB = "labtool:root_gib"
"""Size of the root volume, where it is not the usual one."""
REACH = "labtool:reach"
"""How SSH reaches a host that has no public address: private (from within its network) or ssm."""
BUCKET = "labtool:bucket"
"""The bucket that the lab has, or was about to have: written before the bucket is made, for whoever ends the lab."""
VAR = "labtool:var:"
ALSO = "labtool:also"
"""Groups of the inventory that a host is in besides its own, behind commas."""
VALUE_MOST = 256
"""Characters of a tag's value: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html"""


def to_map(tags: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """Turn the API's list of tags into a dict."""
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def to_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Turn a dict of tags into the API's list."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def time_text(moment: datetime) -> str:
    """Write a time as it stands in a tag: 2026-01-31T12:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """Read a tag's time; None where there is none or it is no time."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else None


def index_of(instance: Mapping[str, Any]) -> int:
    """Return the index of an instance within its group."""
    tags = to_map(instance.get("Tags"))
    if INDEX in tags:
        return int(tags[INDEX])
    return parse_indexes(tags[INDEXES])[int(instance.get("AmiLaunchIndex", 0))]


def index_text(indexes: Sequence[int]) -> str:
    """Write ascending indexes as ranges, "0-2 5"."""
    return " ".join(map(_range_text, _ranges(indexes)))


def fitting(indexes: Sequence[int]) -> list[tuple[int, ...]]:
    """Divide ascending indexes into parts, each short enough for a tag's value when `index_text` has written it."""
    parts: list[tuple[int, ...]] = []
    room = 0
    for first, last in _ranges(indexes):
        needed = len(_range_text((first, last))) + 1  # with the space before it
        if needed > room:
            parts.append(())
            room = VALUE_MOST + 1
        parts[-1] += tuple(range(first, last + 1))
        room -= needed
    return parts


def _ranges(indexes: Sequence[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for index in indexes:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1] = ranges[-1][0], index
        else:
            ranges.append((index, index))
    return ranges


def _range_text(ends: tuple[int, int]) -> str:
    first, last = ends
    return str(first) if first == last else f"{first}-{last}"


def parse_indexes(text: str) -> list[int]:
    """Read what `index_text` wrote."""
    found: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def also_of(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Return the groups that a host is in besides its own."""
    return tuple(name for name in tags.get(ALSO, "").split(",") if name)


def host_of(instance: Mapping[str, Any]) -> Host:
    """Read a host from one entry of DescribeInstances."""
    tags = to_map(instance.get("Tags"))
    group, index = tags[GROUP], index_of(instance)
    private = instance.get("PrivateIpAddress", "")
    reach = tags.get(REACH, "")
    address = instance["InstanceId"] if reach == "ssm" else private if reach == "private" else ""
    return Host(
        name=f"{group}-{index}",
        group=group,
        index=index,
        instance_id=instance["InstanceId"],
        state=instance["State"]["Name"],
        instance_type=instance["InstanceType"],
        address=address or instance.get("PublicIpAddress") or private,
        private_address=private,
        zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
        image_id=instance.get("ImageId", ""),
        login=tags.get(LOGIN, "admin"),
        launched=instance["LaunchTime"],
        expires=parse_time(tags.get(EXPIRES)),
        vars={key.removeprefix(VAR): value for key, value in tags.items() if key.startswith(VAR)},
        also=also_of(tags),
        root_gib=int(tags.get(ROOT_GIB, "20")),
        reach=reach,
        spot=instance.get("InstanceLifecycle") == "spot",
    )
