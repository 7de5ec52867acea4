"""What happens while a playbook runs, as typed values; built from ansible-runner's event dicts by a pure function.

ansible-runner's events: https://ansible-runner.readthedocs.io/en/stable/intro/#artifactevents
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

Status = Literal["ok", "changed", "skipped", "failed", "unreachable", "ignored"]

TAIL_LINES = 20
_LINE_LENGTH = 500
_OF_PLUGIN = re.compile(r"Finalization of task args for .*?: The \w+ plugin '[\w.]+' failed: ", re.DOTALL)
"""What ansible-core puts before the words of a plugin that a task's arguments need."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something Ansible told."""

    time: datetime  # UTC, when Ansible told it
    text: str = ""  # what Ansible printed with it, as it stands in its output


@dataclass(frozen=True, kw_only=True)
class Printed(Event):
    """Output that belongs to no event below: warnings, verbose lines, errors before the first play."""


@dataclass(frozen=True, kw_only=True)
class PlayStarted(Event):
    """A play of the playbook begins."""

    play: str


@dataclass(frozen=True, kw_only=True)
class TaskStarted(Event):
    """A task begins; the hosts it runs on follow as `HostStarted`."""

    task: str
    role: str = ""

    @property
    def title(self) -> str:
        """The task with its role, as Ansible prints it."""
        return _title(self.role, self.task)


@dataclass(frozen=True, kw_only=True)
class HostStarted(Event):
    """A task begins on one host."""

    host: str
    task: str
    role: str = ""

    @property
    def title(self) -> str:
        """The task with its role, as Ansible prints it."""
        return _title(self.role, self.task)


@dataclass(frozen=True, kw_only=True)
class HostRetried(HostStarted):
    """A task with `until` was not satisfied on a host and will try again."""

    attempt: int
    attempts: int


@dataclass(frozen=True, kw_only=True)
class HostResult(HostStarted):
    """A task ended on one host: one host-task."""

    status: Status
    message: str = ""
    stdout: str = ""  # the last lines
    stderr: str = ""  # the last lines
    start: datetime
    duration_s: float


@dataclass(frozen=True)
class HostCounts:
    """How many tasks ended how on one host, as in Ansible's recap (`changed` ones are among `ok`)."""

    ok: int = 0
    changed: int = 0
    skipped: int = 0
    failed: int = 0
    unreachable: int = 0
    ignored: int = 0
    rescued: int = 0


@dataclass(frozen=True, kw_only=True)
class PlaybookFinished(Event):
    """Ansible's recap. It is not told when Ansible dies or is cancelled."""

    hosts: Mapping[str, HostCounts] = field(default_factory=dict)


class Observer(Protocol):
    """Told every event of a playbook, in order, from one thread."""

    def notice(self, event: Event) -> None:
        """Take note of `event`; an exception ends the playbook and is raised to its caller."""


_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STATS = {
    "ok": "ok",
    "changed": "changed",
    "skipped": "skipped",
    "failures": "failed",
    "dark": "unreachable",
    "ignored": "ignored",
    "rescued": "rescued",
}


def from_runner(raw: Mapping[str, Any]) -> Event:
    """Turn one of ansible-runner's event dicts into an event.

    What only adds detail may be absent. `ValueError` if an event about a task on a host does not say which.
    """
    kind = raw.get("event", "")
    data: Mapping[str, Any] = raw.get("event_data") or {}
    time, text = _time(raw.get("created")), str(raw.get("stdout", ""))
    match kind:
        case "playbook_on_play_start":
            return PlayStarted(time=time, text=text, play=str(data.get("name") or data.get("play") or ""))
        case "playbook_on_task_start":
            return TaskStarted(time=time, text=text, task=_need(raw, "task"), role=str(data.get("role") or ""))
        case "playbook_on_stats":
            return PlaybookFinished(time=time, text=text, hosts=_counts(data))
        case "runner_on_start":
            return HostStarted(time=time, text=text, **_where(raw))
        case "runner_retry":
            result = data.get("res") or {}
            # Ansible counts the first try as an attempt and not as a retry.
            return HostRetried(
                time=time,
                text=text,
                **_where(raw),
                attempt=int(result.get("attempts", 0)),
                attempts=int(result.get("retries", 0)),
            )
        case "runner_on_ok" | "runner_on_failed" | "runner_on_unreachable" | "runner_on_skipped":
            return _result(kind, raw, data, time, text)
        case _:
            return Printed(time=time, text=text)


def _result(kind: str, raw: Mapping[str, Any], data: Mapping[str, Any], time: datetime, text: str) -> HostResult:
    answer: Mapping[str, Any] = data.get("res") or {}
    status: Status
    match kind:
        case "runner_on_ok":
            status = "changed" if answer.get("changed") else "ok"
        case "runner_on_failed":
            status = "ignored" if data.get("ignore_errors") else "failed"
        case "runner_on_unreachable":
            # With `ignore_unreachable` Ansible goes on and says why it skips.
            status = "ignored" if "skip_reason" in answer else "unreachable"
        case _:
            status = "skipped"
    told = _telling(answer) if status in {"failed", "unreachable", "ignored"} else answer
    return HostResult(
        time=time,
        text=text,
        **_where(raw),
        status=status,
        message=_message(told),
        stdout=tail(_lines(told.get("stdout") or told.get("module_stdout"))),
        stderr=tail(_lines(told.get("stderr") or told.get("module_stderr"))),
        start=_time(data.get("start")) if data.get("start") else time,
        duration_s=float(data.get("duration") or 0.0),
    )


def tail(lines: Sequence[str], count: int = TAIL_LINES) -> str:
    """Return the last `count` of `lines`, none longer than 500 characters."""
    return "\n".join(line if len(line) <= _LINE_LENGTH else line[:_LINE_LENGTH] + "…" for line in lines[-count:])


def _telling(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a task's answer that says why: of a loop, the first item that failed."""
    for item in answer.get("results") or ():
        if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable")):
            label = item.get("_ansible_item_label", item.get("item"))
            why = _message(item)
            return {**item, "msg": f"item {label}: {why}" if label is not None else why, "cmd": None}
    return answer


def _message(answer: Mapping[str, Any]) -> str:
    if "censored" in answer:
        return "hidden by no_log"
    text = "\n".join(_lines(answer.get("msg"))).strip()
    # ansible-core 2.19 puts these before every message.
    for prefix in ("Task failed: ", "Module failed: ", "Action failed: "):
        text = text.removeprefix(prefix)
    text = _OF_PLUGIN.sub("", text)
    # mitogen tells of a connection that ended what ssh said last.
    text = text.removeprefix("EOF on stream; last 100 lines received:").strip()
    if text.startswith("Mitogen was disconnected from the remote environment"):
        text = f"the connection was lost while the task ran ({text.rpartition('error was: ')[2]})"
    code, program = answer.get("rc"), answer.get("cmd")
    if text.rstrip(".") == "non-zero return code" and program:
        shown = program if isinstance(program, str) else shlex.join(map(str, program))
        first = shown.splitlines()[0] if shown else ""
        text = f"exit code {code}: {first[:160]}{'…' if len(shown) > min(len(first), 160) else ''}"
    return text


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [line for part in value for line in _lines(part)]
    return _COLOUR.sub("", str(value)).splitlines()


def _counts(data: Mapping[str, Any]) -> dict[str, HostCounts]:
    columns = {ours: data.get(theirs) or {} for theirs, ours in _STATS.items()}
    names = sorted({name for column in (*columns.values(), data.get("processed") or {}) for name in column})
    return {name: HostCounts(**{ours: int(column.get(name, 0)) for ours, column in columns.items()}) for name in names}


def _where(raw: Mapping[str, Any]) -> dict[str, str]:
    data = raw.get("event_data") or {}
    return {"host": _need(raw, "host"), "task": _need(raw, "task"), "role": str(data.get("role") or "")}


def _need(raw: Mapping[str, Any], key: str) -> str:
    value = (raw.get("event_data") or {}).get(key)
    if not isinstance(value, str):
        raise ValueError(f"ansible-runner's event {raw.get('event')} (number {raw.get('counter')}) has no {key}")
    return value


def _time(text: Any) -> datetime:
    if not text:
        return datetime.now(UTC)
    moment = datetime.fromisoformat(str(text))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _title(role: str, task: str) -> str:
    return f"{role} : {task}" if role and not task.startswith(f"{role} : ") else task
