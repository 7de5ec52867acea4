"""What is written down while a run goes on: its record and its timeline, so that a crash loses nothing known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from labtool.ansible.observers import TimelineWriter
from labtool.dataset.run import Missing, RunDirectory, RunRecord, StageRecord
from labtool.errors import LabtoolError
from labtool.progress import Progress


class Journal:
    """The record of one run, saved after every change."""

    def __init__(self, directory: RunDirectory, record: RunRecord, progress: Progress) -> None:
        self.directory = directory
        self.record = record
        self.progress = progress
        self.timeline = TimelineWriter(directory.timeline)
        self._lock = threading.RLock()  # a host that is lost is noted by the thread that watches
        self.save()

    def save(self) -> None:
        """Write run.json."""
        with self._lock:
            self.directory.write(self.record)

    def missing(self, what: str, why: str, host: str = "") -> None:
        """Note what the run should have and has not; the report says it first."""
        entry = Missing(what=what, why=why, host=host)
        with self._lock:
            if entry not in self.record.missing:
                self.record.missing.append(entry)
                self.save()

    @contextmanager
    def stage(self, name: str) -> Iterator[StageRecord]:
        """Record one stage: its start, its end, how it ended. What is raised in it goes on."""
        self.progress.stage(name)
        stage = StageRecord(name=name, start=datetime.now(UTC))
        self.record.stages.append(stage)
        self.save()
        try:
            yield stage
            if stage.outcome == "running":
                stage.outcome = "ok"
        except KeyboardInterrupt:
            stage.outcome = "interrupted"
            raise
        except LabtoolError as error:
            stage.outcome, stage.detail = "failed", error.message
            raise
        except BaseException as error:
            stage.outcome, stage.detail = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            stage.end = datetime.now(UTC)
            status = "failed" if stage.outcome != "ok" else "ok"
            self.timeline.row(
                start=stage.start, end=stage.end, kind="stage", name=name, status=status, detail=stage.detail
            )
            self.save()
