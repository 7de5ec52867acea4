"""Observers that write files: the whole output as a log, the host-tasks as rows of the run's timeline."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from labtool.ansible.events import Event, HostResult
from labtool.errors import AnsibleError


class LogWriter:
    """Writes all of Ansible's output to one file, each piece with the time (UTC) at which it was told."""

    def __init__(self, path: Path) -> None:
        """Open `path` to append to it; `AnsibleError` if it cannot be written."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Line by line: who follows the file sees it, and a killed labtool leaves what was told.
            self._file = path.open("a", encoding="utf-8", errors="replace", buffering=1)
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def notice(self, event: Event) -> None:
        """Write what Ansible printed with `event`."""
        if not event.text.strip():
            return
        stamp = event.time.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
        for line in event.text.strip("\r\n").splitlines():
            try:
                self._file.write(f"{stamp}  {line}".rstrip() + "\n")
            except OSError as error:
                raise self._unwritable(error) from error
            stamp = " " * len(stamp)

    def _unwritable(self, error: OSError) -> AnsibleError:
        hint = "see `df` and the folder's mode"
        return AnsibleError(f"the log {self.path} cannot be written: {error.strerror}", hint)


class TimelineWriter:
    """Writes a row of the `timeline` table for each host-task, with its start and end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def notice(self, event: Event) -> None:
        """Write `event` if a task ended with it."""
        if not isinstance(event, HostResult):
            return
        ignored = event.status == "ignored"
        detail = event.message.splitlines()[0] if event.message and event.status not in {"ok", "changed"} else ""
        self.row(
            start=event.start,
            end=max(event.time, event.start),
            host=event.host,
            kind="task",
            name=event.title,
            status="ok" if ignored else event.status,
            detail=f"failed, which the play allows: {detail}" if ignored else detail,
        )

    def row(
        self,
        *,
        start: datetime,
        end: datetime | None = None,
        host: str = "",
        kind: str,
        name: str,
        status: str = "",
        detail: str = "",
    ) -> None:
        """Append one row: the columns of the `timeline` table, times in UTC; `end` is None for an instant."""
        record = {
            "start": _stamp(start),
            "end": _stamp(end) if end else None,
            "host": host,
            "kind": kind,
            "name": name,
            "status": status,
            "detail": detail,
        }
        # One write of one line: others may append to the same file.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
