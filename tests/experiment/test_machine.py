"""What the machine under the hosts did in a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from labtool.dataset.run import RunDirectory
from labtool.experiment import machine

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def written(tmp_path, busy):
    """Write a second of 200 jiffies for each share, a tenth of each second stolen."""
    directory = RunDirectory(tmp_path)
    directory.raw.mkdir()
    used, lines = 0, []
    for second, share in enumerate([0.0, *busy]):
        used += int(200 * share)
        lines.append(f"{START.timestamp() + second:.3f},{used},{200 * second},{20 * second}\n")
    (directory.raw / machine.FILE).write_text("".join(lines) + "1795")
    return directory


def test_a_machine_can_be_full_for_a_third_and_half_busy_in_the_mean(tmp_path):
    directory = written(tmp_path, [1.0, 0.3, 0.3] * 10)
    used = machine.use(directory, START, START + timedelta(seconds=30))
    assert used.busy == pytest.approx(1.6 / 3)
    assert used.stolen == pytest.approx(0.1)
    assert used.full == pytest.approx(1 / 3)


def test_only_the_window_counts(tmp_path):
    directory = written(tmp_path, [1.0] * 10 + [0.5] * 20)
    used = machine.use(directory, START + timedelta(seconds=12), START + timedelta(seconds=29))
    assert (used.busy, used.full) == (pytest.approx(0.5), 0)


def test_nothing_recorded_is_nothing_known(tmp_path):
    assert machine.use(RunDirectory(tmp_path), START, START + timedelta(seconds=9)) is None
    assert machine.use(written(tmp_path, [1.0]), START + timedelta(hours=1), START + timedelta(hours=2)) is None
