"""What a playbook's run came to: counts, failures with their last words, and the error that tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from labtool.ansible.events import (
    Event,
    HostCounts,
    HostResult,
    HostStarted,
    PlaybookFinished,
    Printed,
    Status,
    tail,
)
from labtool.errors import AnsibleError

SHOWN_FAILURES = 5
SHOWN_LINES = 12


@dataclass(frozen=True)
class Failure:
    """A task that failed on a host for good."""

    host: str
    task: str
    message: str  # one line
    output: str = ""  # the last lines of what it printed, or of the message
    unreachable: bool = False

    @property
    def reason(self) -> str:
        """What it said itself: of a program that failed its last words, not that it did."""
        lines = self.output.strip().splitlines()
        return lines[-1].strip() if lines and self.message.startswith("exit code ") else self.message


@dataclass(frozen=True)
class PlayResult:
    """What a playbook's run came to."""

    playbook: Path
    status: Literal["ok", "failed", "cancelled"]
    hosts: Mapping[str, HostCounts]
    failures: tuple[Failure, ...]
    host_tasks: int  # tasks × hosts, skipped ones too: what a play's time is made of
    elapsed_s: float
    log: Path
    unfinished: Mapping[str, str] = field(default_factory=dict)  # host → the task it was in when Ansible ended
    last_words: str = ""  # the end of Ansible's output

    @property
    def ok(self) -> bool:
        """True if every host did everything."""
        return self.status == "ok"

    @property
    def changed(self) -> int:
        """How many host-tasks changed something."""
        return sum(counts.changed for counts in self.hosts.values())

    @property
    def failed_hosts(self) -> tuple[str, ...]:
        """The hosts that failed or could not be reached, each once."""
        return tuple(dict.fromkeys(failure.host for failure in self.failures))

    @property
    def cause(self) -> str:
        """Why it is not ok, in a line: the hosts that failed, and the reason of the first; '' where it is."""
        error = self.error()
        if error is None:
            return ""
        told = error.message.splitlines()[0]
        return f"{told}: {self.failures[0].reason}" if self.failures else told

    def check(self) -> PlayResult:
        """Return the result if it is ok; `AnsibleError` if not."""
        if error := self.error():
            raise error
        return self

    def error(self) -> AnsibleError | None:
        """Return the error that says which host failed in which task, with its last words and the log's path."""
        if self.status == "ok":
            return None
        name = self.playbook.stem
        hint = f"the whole output: {self.log}"
        if self.status == "cancelled":
            still = [f"{host} was in: {task}" for host, task in sorted(self.unfinished.items())]
            return AnsibleError("\n".join([f"{name} was interrupted", *still]), hint)
        if not self.failures:
            when = "" if self.host_tasks else " before any host did anything"
            return AnsibleError(f"{name} failed{when}\n{_indented(self.last_words)}".rstrip(), hint)
        alike: dict[tuple[object, ...], list[Failure]] = {}
        for failure in self.failures:
            alike.setdefault((failure.task, failure.message, failure.output), []).append(failure)
        shown = [_told(failures) for failures in list(alike.values())[:SHOWN_FAILURES]]
        if len(alike) > SHOWN_FAILURES:
            shown.append(f"and {len(alike) - SHOWN_FAILURES} more")
        hosts = ", ".join(self.failed_hosts)
        good = len(self.hosts) - len(set(self.failed_hosts) & set(self.hosts))
        # They may have been left where they were: a task that is run once fails for all.
        rest = f"; nothing failed on the other {good if good > 1 else 'one'}" if good else ""
        if any(failure.unreachable for failure in self.failures):
            hint = f"`labtool status` shows whether they run; running the command again goes on from there\n  {hint}"
        return AnsibleError("\n".join([f"{name} failed on {hosts}{rest}", *shown]), hint)


class Tally:
    """Counts what the events of one playbook tell. An observer."""

    def __init__(self) -> None:
        self.host_tasks = 0
        self.running: dict[str, str] = {}
        self._seen: dict[str, dict[Status, int]] = {}
        self._recap: Mapping[str, HostCounts] | None = None
        self._failures: dict[str, list[Failure]] = {}
        self._printed: list[str] = []

    def notice(self, event: Event) -> None:
        """Count `event`."""
        match event:
            case HostResult():
                self.running.pop(event.host, None)
                self.host_tasks += 1
                seen = self._seen.setdefault(event.host, {})
                seen[event.status] = seen.get(event.status, 0) + 1
                if event.status in {"failed", "unreachable"}:
                    self._failures.setdefault(event.host, []).append(_failure(event))
            case HostStarted():
                self.running[event.host] = event.title
            case PlaybookFinished():
                self._recap = event.hosts
            case Printed(text=text) if text.strip():
                self._printed = [*self._printed[-200:], *text.splitlines()]

    @property
    def hosts(self) -> Mapping[str, HostCounts]:
        """Ansible's recap; without one, what was counted."""
        if self._recap is not None:
            return self._recap
        return {
            host: HostCounts(
                ok=seen.get("ok", 0) + seen.get("changed", 0) + seen.get("ignored", 0),
                changed=seen.get("changed", 0),
                skipped=seen.get("skipped", 0),
                failed=seen.get("failed", 0),
                unreachable=seen.get("unreachable", 0),
                ignored=seen.get("ignored", 0),
            )
            for host, seen in sorted(self._seen.items())
        }

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failures of hosts that failed for good; those that a `rescue` mended are not among them.

        Where a task of a `rescue` failed too, the failure that led there is told in its output.
        """
        found = []
        for host, failures in self._failures.items():
            if self._recap is None:
                found += failures
                continue
            # Ansible counts as failed what no rescue caught, and a host does nothing after that.
            counts = self._recap.get(host, HostCounts())
            first = len(failures) - (counts.failed + counts.unreachable)
            kept = failures[max(first, 0) :]
            if kept and first > 0:
                kept = [_after(failures[first - 1], kept[0]), *kept[1:]]
            found += kept
        return tuple(found)

    @property
    def last_words(self) -> str:
        """The last lines that Ansible printed outside any task."""
        return tail([line for line in self._printed if line.strip()], SHOWN_LINES)


def _failure(event: HostResult) -> Failure:
    first, *more = event.message.splitlines() or ["it gave no reason"]
    output = [line for part in ("\n".join(more), event.stdout, event.stderr) for line in part.splitlines()]
    return Failure(
        host=event.host,
        task=event.title,
        message=first,
        output=tail(output),
        unreachable=event.status == "unreachable",
    )


def _after(rescued: Failure, failure: Failure) -> Failure:
    before = f"it was mending [{rescued.task}]: {rescued.message}"
    return replace(failure, output="\n".join([before, failure.output or rescued.output]).strip())


def _told(failures: Sequence[Failure]) -> str:
    """Tell one failure that one host or several had."""
    first = failures[0]
    what = "could not be reached in" if first.unreachable else "failed in"
    lines = [f"{', '.join(failure.host for failure in failures)} {what} [{first.task}]: {first.message}"]
    if first.output:
        lines.append(_indented("\n".join(first.output.splitlines()[-SHOWN_LINES:])))
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
