from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

from labtool.dataset.run import RunDirectory, RunRecord
from labtool.experiment.journal import Journal
from labtool.experiment.profile import Early
from labtool.progress import Silent


def test_a_spot_interruption_ends_the_window_and_stands_in_the_run(tmp_path):
    now = datetime.now(UTC)
    directory = RunDirectory.create(tmp_path, "lab", "profile", now)
    record = RunRecord(name="profile", lab="lab", cloud="aws", region="us-east-1", started=now)
    early, cancel = Early(Journal(directory, record, Silent()), Silent()), threading.Event()
    assert early.why == "^C"
    early.taken_back(cancel)("web-1", "marked-for-termination")
    assert cancel.is_set()
    assert early.why == "a spot interruption of web-1"
    (row,) = map(json.loads, directory.timeline.read_text().splitlines())
    assert (row["host"], row["kind"], row["name"]) == ("web-1", "fault", "spot interruption")
    (missing,) = directory.read().missing
    assert missing.host == "web-1" and "marked-for-termination" in missing.why
