"""A story: a lab brought up, grown and ended while calls fail, labtool dies and the API knows things late.

`tell` plays one and returns what is wrong at its end; nothing ever may be.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fake.aws import FAULTS, Aws, Crash
from fake.clock import VirtualClock
from fake.promises import Promises
from labtool.cloud import end, launch, tags
from labtool.cloud.request import Options
from labtool.errors import LabtoolError
from labtool.progress import Silent
from labtool.topology import GroupSpec

LAB = "one"
RISKY = (
    *("RunInstances",) * 5,
    *("CreateTags", "CreateSecurityGroup", "ImportKeyPair", "CreatePlacementGroup", "AuthorizeSecurityGroupIngress"),
    *("TerminateInstances", "DeleteSecurityGroup", "DeletePlacementGroup", "DescribeInstances"),
)
"""Calls after which something is there that was not there before, or the other way round."""


@dataclass(frozen=True)
class Step:
    """One command: `up` with hosts by group, or `down`; calls that fail by number within the command, or by name."""

    command: str
    groups: tuple[tuple[str, int], ...] = ()
    faults: tuple[tuple[int | str, str], ...] = ()
    pause: float = 0.0  # seconds until the user gives the next command
    placement: str | None = None
    spot: bool = False


@dataclass(frozen=True)
class Story:
    """Steps, and the AWS they meet."""

    steps: tuple[Step, ...]
    lag: float = 0.0
    throttle: bool = False
    no_capacity: frozenset[str] = frozenset()
    seed: int = 0


@dataclass
class Told:
    """What came of a story."""

    wrong: list[str] = field(default_factory=list)
    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    outcomes: list[str] = field(default_factory=list)


def random_story(source: random.Random) -> Story:
    """Make a story up."""
    steps = []
    for _ in range(source.randint(1, 3)):
        groups = tuple(
            (name, source.randint(1, 3)) for name in source.sample(("kafka", "load", "web"), source.randint(1, 2))
        )
        placement = source.choice((None, None, None, "cluster", "spread", "partition"))
        steps.append(
            Step("up", groups, _faults(source, 40), source.choice((0, 1, 20, 100)), placement, source.random() < 0.2)
        )
    for _ in range(source.randint(0, 2)):
        steps.append(Step("down", (), _faults(source, 20), source.choice((0, 1, 20))))
    return Story(
        tuple(steps),
        lag=source.choice((0, 0, 3, 12, 30)),
        throttle=source.random() < 0.3,
        no_capacity=frozenset(source.sample(("us-east-1a", "us-east-1b", "us-east-1c"), source.choice((0, 0, 1, 3)))),
        seed=source.randrange(1 << 30),
    )


def _faults(source: random.Random, calls: int) -> tuple[tuple[int | str, str], ...]:
    return tuple(
        (source.choice((source.randrange(calls), source.choice(RISKY))), source.choice(FAULTS))
        for _ in range(source.choice((0, 1, 1, 2, 4)))
    )


def tell(account: Any, story: Story, patch: Callable[[object, str, object], None], install: Any) -> Told:
    """Play a story on an account of its own, with a home of its own, and look at its end."""
    from labtool import config

    random.seed(story.seed)  # botocore's pauses between tries
    told = Told()
    promises = Promises(
        lag=story.lag, throttle=story.throttle, no_capacity=story.no_capacity, pending=2, boot=2, console=1
    )
    aws = Aws(VirtualClock(), promises, seed=story.seed)
    account.reset(aws)
    install(aws, patch)
    folder = tempfile.mkdtemp(prefix="labtool-story-")
    try:
        patch(config, "home", lambda: _made(folder, "home"))
        patch(config, "cache", lambda: _made(folder, "cache"))
        for step in story.steps:
            told.outcomes.append(play(account.session, aws, step))
            told.wrong += twins(aws)
            aws.pass_time(step.pause)
        aws.faults = {}
        told.outcomes.append(play(account.session, aws, Step("down")))
        if told.outcomes[-1] != "done":
            told.wrong.append(f"down: {told.outcomes[-1]}")
        # A volume goes with its host, some seconds later; the API may have hidden it.
        told.wrong += [f"left: {each}" for each in aws.ec2.left() if not each.startswith("vol-")]
        aws.pass_time(30)
        told.wrong += [f"left: {each}" for each in aws.ec2.left()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    told.calls, told.seconds = len(aws.calls), aws.clock.elapsed
    told.faults = Counter(call.outcome for call in aws.calls if call.outcome)
    return told


def play(session: Any, aws: Aws, step: Step) -> str:
    """Give one command and return how it ended; what nobody foresaw is raised."""
    begun = len(aws.calls)
    aws.faults = {begun + number: kind for number, kind in step.faults if isinstance(number, int)}
    aws.next_of = {action: kind for action, kind in step.faults if isinstance(action, str)}
    try:
        if step.command == "down":
            end.down(session, LAB, Silent())
        else:
            launch.up(
                session,
                LAB,
                [GroupSpec(name, count, "t3.small") for name, count in step.groups],
                image="debian-12",
                ttl=timedelta(hours=4),
                progress=Silent(),
                options=Options(placement=step.placement, spot=step.spot),  # type: ignore[arg-type]
            )
    except LabtoolError as error:
        return error.message
    except Crash:
        aws.revive()
        return "killed"
    except KeyboardInterrupt:
        return "interrupted"
    return "done"


def twins(aws: Aws) -> list[str]:
    """Return the names that two living instances have."""
    names = []
    for instance in aws.ec2.instances.values():
        if instance.alive(aws.clock.elapsed):
            own = instance.tags(aws.clock.elapsed)
            index = tags.parse_indexes(own[tags.INDEXES])[instance.data["index"]]
            names.append(f"{own[tags.GROUP]}-{own.get(tags.INDEX, index)}")
    return [f"two hosts are called {name}" for name, count in Counter(names).items() if count > 1]


def _made(folder: str, name: str) -> Any:
    from pathlib import Path

    path = Path(folder) / name
    path.mkdir(exist_ok=True)
    return path
