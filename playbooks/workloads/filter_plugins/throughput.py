"""What `kafka-throughput` needs of its variables: topics' names, settings, and how many records there were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def throughput_topics(name: str, count: int | str) -> list[str]:
    """Return the topics' names: `name`, numbered where there are several."""
    return [name] if int(count) == 1 else [f"{name}-{number}" for number in range(int(count))]


def throughput_settings(text: str) -> dict[str, str]:
    """Read `linger.ms=5 compression.type=lz4`."""
    found = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise AnsibleFilterError(f'{word!r} is no setting; they are typed as "linger.ms=5 compression.type=lz4"')
        found[key] = value
    return found


def throughput_offsets(results: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the records that each partition was given, by topic/partition, of what removing the topics said."""
    return {
        f"{one['topic']}/{partition}": records
        for one in results
        for partition, records in one.get("end_offsets", {}).items()
    }


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "throughput_topics": throughput_topics,
            "throughput_settings": throughput_settings,
            "throughput_offsets": throughput_offsets,
        }
