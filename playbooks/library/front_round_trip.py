#!/usr/bin/python
"""Follow one update from a front's page through Kafka and back into the page's next decision."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_protocol import Connection, KafkaError, connect_any, end_offsets, parse_endpoints

DOCUMENTATION = r"""
module: front_round_trip
short_description: Follow an update from the page to the next decision
description:
  - Posts an update to the page of this front, waits until it is in Kafka, until a decision was made of it, and until
    the page answers that decision. Says where it got stuck, or how long each step took.
  - The update is of a group of the front's own, C(labtool-check-<host>), which no user has.
options:
  url: {description: The page, required: true, type: str}
  bootstrap: {description: Brokers as address:port, required: true, type: list, elements: str}
  upload: {description: The topic of updates, required: true, type: str}
  decision: {description: The topic of decisions, required: true, type: str}
  timeout: {description: Seconds for each step, type: float, default: 60}
"""

POLL_S = 0.1
SILENCE_S = 10.0


class StuckError(Exception):
    """A step was not done in time; the text says which, and who is to be asked."""


class Topic:
    """What is written to a topic from now on."""

    def __init__(self, bootstrap: list[str], name: str) -> None:
        self.endpoints = parse_endpoints(bootstrap, 9092)
        self.name = name
        with connect_any(self.endpoints) as connection:
            self.offsets = end_offsets(connection.metadata([name]), name)
        if not self.offsets:
            raise KafkaError(f"there is no topic {name}")

    def news(self) -> list[bytes]:
        """Return the records since the last time."""
        with connect_any(self.endpoints) as connection:
            metadata = connection.metadata([self.name])
        leaders = {broker.id: broker for broker in metadata.brokers}
        found = []
        for partition in metadata.partitions:
            broker = leaders.get(partition.leader)
            if broker is None:
                continue
            with Connection(broker.host, broker.port) as connection:
                offset = self.offsets.get(partition.index, 0)
                values, self.offsets[partition.index] = connection.fetch_on(self.name, partition.index, offset, 0.0)
            found += values
        return found


def post(url: str, **fields: str) -> str:
    """Return what the page answers."""
    # Straight to it: a proxy of this host's is for the outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, urllib.parse.urlencode(fields).encode(), timeout=SILENCE_S) as answer:
            return answer.read().decode(errors="replace").strip()
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace").strip()
        raise StuckError(f"{url} answers {error.code} to method={fields['method']}: {said[:200]}") from None
    except OSError as error:
        raise StuckError(f"{url} does not answer: {getattr(error, 'reason', None) or error}") from None


def awaited(is_there: Callable[[], bool], timeout: float, problem: Callable[[], str]) -> float:
    """Wait until something is there; return the seconds, or raise with the problem."""
    begun = time.monotonic()
    while not is_there():
        if time.monotonic() - begun >= timeout:
            raise StuckError(f"{problem()} (after {timeout:.0f} s)")
        time.sleep(POLL_S)
    return round(time.monotonic() - begun, 3)


def decided(values: list[bytes], group: str, choice: str) -> bool:
    """Return whether one of the records is the decision for `choice`."""
    for value in values:
        with contextlib.suppress(ValueError):
            record = json.loads(value)
            if isinstance(record, dict) and (record.get("group"), record.get("decision")) == (group, choice):
                return True
    return False


def follow(arguments: dict) -> dict[str, float]:
    """Return the seconds of each step."""
    url, timeout = arguments["url"], arguments["timeout"]
    # A reward that grows: of all checks the newest is the best.
    group, choice = f"labtool-check-{socket.gethostname()}", f"check-{secrets.token_hex(4)}"
    upload, decision = (Topic(arguments["bootstrap"], arguments[name]) for name in ("upload", "decision"))
    seconds = {}
    said = post(url, method="update", payload=f"{group}\t{choice}\t{time.time():.3f}")
    if said != "queued":
        raise StuckError(f"{url} answers an update with {said[:200]!r}, not with queued")
    seconds["kafka"] = awaited(
        lambda: any(choice.encode() in value for value in upload.news()),
        timeout,
        lambda: (
            f"the update that {url} took is not in the topic {upload.name}: is the group manager of this host well?"
        ),
    )
    seconds["decision"] = awaited(
        lambda: decided(decision.news(), group, choice),
        timeout,
        lambda: (
            f"the update is in {upload.name}, and the topic {decision.name} has no decision for it: is what decides "
            "well?"
        ),
    )
    answers = [""]

    def is_answered() -> bool:
        answers[0] = post(url, method="request", payload=f"{group}\t0")
        return answers[0] == choice

    seconds["answer"] = awaited(
        is_answered,
        timeout,
        lambda: (
            f"{decision.name} has the decision {choice}, and {url} answers {answers[0]!r}: is the group manager of "
            "this host well?"
        ),
    )
    return seconds


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "url": text,
            "bootstrap": {"type": "list", "elements": "str", "required": True},
            "upload": text,
            "decision": text,
            "timeout": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, said="not asked in check mode", seconds={})
    try:
        seconds = follow(module.params)
    except (StuckError, KafkaError) as error:
        module.fail_json(msg=f"an update does not come back as a decision: {error}")
    said = (
        f"an update was in Kafka after {seconds['kafka']:.1f} s, a decision made of it {seconds['decision']:.1f} s "
        f"later, and answered by the page {seconds['answer']:.1f} s after that"
    )
    module.exit_json(changed=False, said=said, seconds=seconds)


if __name__ == "__main__":
    main()
