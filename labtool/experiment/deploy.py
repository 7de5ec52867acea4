"""Deploy a stack on a lab's hosts: its playbook, then the collectors that make every later window measurable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labtool import content
from labtool.ansible import inventory
from labtool.ansible.command import Strategy
from labtool.ansible.events import Observer
from labtool.ansible.observers import TimelineWriter
from labtool.ansible.result import PlayResult
from labtool.ansible.runner import run_playbook
from labtool.cloud import find, keys, publish, tags
from labtool.cloud.session import Session, told_clearly
from labtool.errors import CloudError, UsageError
from labtool.progress import Progress
from labtool.stacks import Stack
from labtool.topology import Lab

STACK = "labtool:stack"
TAG_VALUE_MOST = 256
OPTIONS = "labtool:options"
"""Tags of a stack's hosts: what is deployed, so that the next deploy keeps what it is not told to change."""


@dataclass(frozen=True)
class Deployed:
    """What a deploy came to."""

    lab: Lab
    stack: Stack
    values: Mapping[str, Any]
    play: PlayResult


def remembered(session: Session, lab: str) -> dict[str, dict[str, Any]]:
    """Return the options each stack of the lab was last deployed with, read from its hosts' tags."""
    found: dict[str, dict[str, Any]] = {}
    for instance, (stack, text) in written(session, lab).items():
        try:
            found.setdefault(stack, json.loads(text))
        except ValueError:
            raise CloudError(
                f"tag {OPTIONS} of {instance} is no JSON", "correct or remove the tag; defaults hold then"
            ) from None
    return found


def written(session: Session, lab: str) -> dict[str, tuple[str, str]]:
    """Return the stack and the options that the tags of the lab's instances tell, by instance id."""
    filters = [
        {"Name": f"tag:{tags.LAB}", "Values": [lab]},
        {"Name": "tag-key", "Values": [STACK]},
        {"Name": "instance-state-name", "Values": list(find.ALIVE)},
    ]
    instances = {one["InstanceId"]: tags.to_map(one["Tags"]) for one in find.describe(session, filters)}
    return {name: (values[STACK], values.get(OPTIONS, "{}")) for name, values in instances.items()}


def remember(
    session: Session, lab: Lab, stack: Stack, values: Mapping[str, Any], before: Mapping[str, tuple[str, str]]
) -> None:
    """Write the stack and its options into the tags of its hosts, where not all have had them `before`."""
    groups = {spec.name for spec in stack.groups(values)}
    ids = [host.instance_id for host in lab if host.group in groups]
    text = to_remember(stack, values)
    if any(before.get(each) != (stack.name, text) for each in ids):
        with told_clearly(f"tagging the hosts of {stack.name}"):
            session.ec2.create_tags(Resources=ids, Tags=tags.to_list({STACK: stack.name, OPTIONS: text}))


def to_remember(stack: Stack, values: Mapping[str, Any]) -> str:
    """Return the options that are not at their default, as JSON; `UsageError` where a tag cannot hold it."""
    told = {name: value for name, value in values.items() if value != stack.options[name].default}
    text = json.dumps(told, separators=(",", ":"))
    if len(text) > TAG_VALUE_MOST:
        raise UsageError(f"the options of {stack.name} make {len(text)} characters, a tag holds {TAG_VALUE_MOST}")
    return text


def deploy(
    session: Session,
    lab: Lab,
    stack: Stack,
    values: Mapping[str, Any],
    *,
    strategy: Strategy,
    observers: Sequence[Observer],
    progress: Progress,
) -> Deployed:
    """Run the stack's playbook, then the collectors'; `AnsibleError` says which host failed in which task.

    The options are remembered when all has gone well. Those of a first deploy are before: one that is cut short is
    repeated with them.
    """
    access = keys.access(session, lab.name)
    hosts = inventory.of_lab(lab, access)
    to_remember(stack, values)  # what a tag cannot hold is refused before anything is done
    before = written(session, lab.name)
    first = stack.name not in {name for name, _ in before.values()}
    if first:
        remember(session, lab, stack, values, before)
    folder = log_folder(session, lab.name)
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    timeline = TimelineWriter(folder / f"{stamp}-deploy.jsonl")
    progress.stage(f"deploy {stack.name}")
    start = datetime.now(UTC)
    result = run_playbook(
        stack.playbook,
        hosts,
        extra_vars={**stack.extra_vars(values), "artifact_publish": publish.command(session, lab.name)},
        observers=[timeline, *observers],
        strategy=strategy,
        # One call: the second playbook finds its connections open.
        then=[content.playbooks() / "collector.yml"],
        log=folder / f"{stamp}-deploy.log",
    )
    timeline.row(
        start=start,
        end=datetime.now(UTC),
        kind="stage",
        name=f"deploy {stack.name}",
        status="ok" if result.ok else "failed",
    )
    deployed = Deployed(lab, stack, values, result.check())
    if not first:
        remember(session, lab, stack, values, before)
    return deployed


def log_folder(session: Session, lab: str) -> Path:
    """Return the folder of the playbooks' output and timelines of a lab."""
    folder = keys.lab_folder(session, lab) / "logs"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def running_everywhere(access: Any, lab: Lab, unit: str) -> list[str]:
    """Return the names of the running hosts on which systemd unit `unit` is not active."""
    import subprocess

    from labtool import ssh

    def active(host: Any) -> bool:
        line = ssh.command(access, host, ["systemctl", "is-active", "--quiet", unit])
        try:
            done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    with ThreadPoolExecutor(min(32, max(1, len(lab.running)))) as pool:
        answers = list(pool.map(active, lab.running))
    return [host.name for host, yes in zip(lab.running, answers, strict=True) if not yes]
