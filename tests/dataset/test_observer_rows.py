from __future__ import annotations

import json
from datetime import timedelta

import pytest

from labtool.checked import convert, encoded
from labtool.dataset import observer
from labtool.dataset.manifest import Cost, Manifest

FILE = "/var/log/labtool/sysstat/sa-20261121T080748Z"


@pytest.fixture
def last(manifest):
    return convert(manifest(), Manifest)


@pytest.fixture
def reading(began):
    def make(after_s=1.0, since_s=-90.2, cpu_s=0.41, files=None):
        start = began.timestamp()
        return Cost(time=start + after_s, since=start + since_s, cpu_s=cpu_s, processes=3, files=files or {FILE: 6000})

    return make


def test_two_readings_give_the_difference_scaled_to_the_window(reading, last):
    # 0.09 s of CPU and 18,000 bytes in the 9 s between the readings; the window has 8.
    assert observer.spent(reading(), last, 8.0) == (pytest.approx(0.08), 16_000)


def test_a_file_that_began_after_the_first_reading_counts_from_nothing(reading, last):
    assert observer.spent(reading(files={"/var/log/labtool/sysstat/old": 10**9}), last, 9.0)[1] == 24_000


@pytest.mark.parametrize(
    "first",
    [
        None,
        {"since_s": -500},  # restarted since: the counters began again
        {"cpu_s": 0.6},
        {"after_s": 9.5},  # read after the window: a window of the past
    ],
)
def test_otherwise_the_mean_since_they_began_stands_for_the_window(first, reading, last):
    cpu_s, written = observer.spent(None if first is None else reading(**first), last, 8.0)
    assert cpu_s == pytest.approx(0.5 * 8 / 100)
    assert written == 16_000  # 24,000 bytes in the 12 s from the file's name to the manifest


def test_what_cannot_be_known_is_null(manifest):
    unknown = convert(manifest(files=[], cost=manifest()["cost"] | {"since": None}), Manifest)
    assert observer.spent(None, unknown, 8.0) == (None, None)


def test_a_row_for_each_host_and_a_word_for_those_without(run, reading, manifest, began):
    (run.raw / "observer").mkdir()
    (run.raw / "observer" / "kafka-0.json").write_bytes(encoded(reading()))
    idle = manifest()["cost"] | {"processes": 0}
    (run.logs / "kafka-1" / "manifest.json").write_text(json.dumps(manifest(cost=idle)))
    (run.logs / "kafka-2").mkdir()
    (run.logs / "kafka-2" / "manifest.json").write_text('{"format": 1, "since": "soon"}')
    rows, missing = observer.rows(run.logs, run.raw, began, began + timedelta(seconds=9))
    assert [(row["host"], row["bytes_sent"], row["window_s"]) for row in rows] == [("kafka-0", 3000, 9.0)]
    assert rows[0]["cpu_s"] == pytest.approx(0.09)
    assert [(one.host, one.why.split(":")[0]) for one in missing] == [
        ("kafka-1", "no collector was running at the end"),
        ("kafka-2", str(run.logs / "kafka-2" / "manifest.json")),
    ]
