import io
import re
import threading
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtool.ansible.events import HostResult, HostRetried, HostStarted, PlaybookFinished, TaskStarted
from labtool.cli.board import Board, rate, seconds
from labtool.cli.display import Display, PlayDisplay
from labtool.cli.picture import draw

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream():
    return io.StringIO()


def said(stream) -> list[str]:
    """The lines without their time of day."""
    lines = stream.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    return [line[9:] for line in lines]


def drawn(board: Board, now: float, width: int = 120, height: int = 24) -> list[str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(draw(board, now, width, height))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_launch_in_a_log_is_two_lines(stream, clock):
    with Display(stream=stream, clock=clock) as display:
        display.stage("launch")
        for state in ("requested", "pending", "running", "ssh", "ready"):
            for name in ("web-0", "web-1"):
                display.host(name, state)
            clock.now += 1
    assert said(stream) == ["launch", "launch: 2 ready, 5 s"]


def test_a_playbook_in_a_log_is_a_line_per_task(stream, clock):
    with Display(stream=stream, clock=clock) as display:
        display.stage("deploy")
        observer = PlayDisplay(display)
        for task, statuses in (
            ("Install", ("changed", "ok")),
            ("Nothing to do", ("skipped", "skipped")),
            ("Start", ("ok", "failed")),
        ):
            observer.notice(TaskStarted(time=NOW, task=task, role="kafka"))
            for number, status in enumerate(statuses):
                where = {"host": f"kafka-{number}", "task": task, "role": "kafka"}
                observer.notice(HostStarted(time=NOW, **where))
                clock.now += 2
                observer.notice(
                    HostResult(
                        time=NOW,
                        **where,
                        status=status,
                        message="no heap\nmore" * (status == "failed"),
                        start=NOW,
                        duration_s=2,
                    )
                )
        observer.notice(PlaybookFinished(time=NOW))
    assert said(stream) == [
        "deploy",
        "  kafka : Install: 1 changed, 1 ok, 4 s",
        "  kafka-1 failed: kafka : Start: no heap",
        "  kafka : Start: 1 failed, 1 ok, 4 s",
        "deploy: 1 changed, 12 s",
    ]


def test_a_failure_says_whom_it_waited_for(stream, clock):
    with pytest.raises(RuntimeError), Display(stream=stream, clock=clock) as display:
        display.stage("launch")
        display.host("web-0", "ready")
        display.host("web-1", "pending")
        clock.now += 61
        raise RuntimeError
    assert said(stream)[-1] == "launch: failed after 1 min 1 s, waiting for web-1 (pending, 1 min 1 s)"
    with pytest.raises(KeyboardInterrupt), Display(stream=stream, clock=clock) as display:
        display.stage("launch")
        raise KeyboardInterrupt
    assert "launch: interrupted after 0.0 s" in said(stream)[-1]


def test_a_log_is_not_silent_for_long(stream):
    with Display(stream=stream, quiet_s=0.1) as display:
        display.stage("deploy")
        display.host("kafka-1", "working", "Wait for the quorum")
        deadline = time.monotonic() + 5
        while "waiting" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert any(line.startswith("  waiting for kafka-1 (Wait for the quorum, 0.") for line in said(stream))


def test_nobody_reading_does_not_stop_the_work(clock):
    stream = io.StringIO()
    with Display(stream=stream, clock=clock) as display:
        stream.close()
        display.stage("deploy")
        display.line("still here")


def test_who_is_waited_for():
    board = Board()
    board.begin("launch", 0)
    assert board.waiting(3) == "this machine (launch, 3 s)"
    for number in range(5):
        board.host(f"web-{number}", "pending", "", float(number))
    board.host("web-1", "ready", "", 4)
    assert board.waiting(10) == "web-0, web-2, web-3 and 1 more (pending, 10 s)"
    board.host("web-0", "pending", "", 9)  # no news: it waits since it began
    assert board.waiting(10).startswith("web-0, ")
    for row in board.rows.values():
        row.state = "ready"
    board.left_s = 5
    assert board.waiting(10) == ""


def test_a_playbook_on_a_terminal():
    board = Board()
    board.begin("deploy", 0)
    board.task = "kafka : Wait until ready"
    board.host("kafka-0", "working", "kafka : Wait until ready (try 3 of 60)", 2)
    board.host("kafka-10", "unreachable", "kafka : Start [now]: refused", 2)
    board.row("kafka-0").ok = 7
    assert drawn(board, 10) == [
        "deploy  10 s  kafka : Wait until ready",
        "kafka-0   working      8 s  7 done  (try 3 of 60)",
        "kafka-10  unreachable  kafka : Start [now]: refused",
        "waiting for kafka-0 (kafka : Wait until ready (try 3 of 60), 8 s)",
    ]


def test_measuring_on_a_terminal():
    display = Display(stream=io.StringIO(), live=False, clock=Clock())
    display.stage("workload")
    display.left(754)
    display.sample("kafka-0", cpu=0.83, memory=0.4, rx=12.34e6, tx=0, read=640, write=1.5e9)
    display.__exit__(None, None, None)
    board = display._board
    board.begin("workload", 0)
    wide = drawn(board, 60)
    assert wide[0] == "workload  1 min  12 min 34 s left"
    assert wide[1].split() == ["cpu", "memory", "net", "in", "net", "out", "disk", "read", "disk", "write"]
    assert wide[2].split() == ["kafka-0", "83%", "▇", "40%", "▃", "12.3", "MB/s", "0", "640", "B/s", "1.5", "GB/s"]
    assert all(len(line) < 40 for line in drawn(board, 60, width=40))
    assert "cpu" in drawn(board, 60, width=40)[1]


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 300), st.integers(10, 200), st.integers(1, 60), st.sets(st.integers(0, 299), max_size=5))
def test_a_drawing_fits_its_terminal_and_keeps_who_failed(hosts, width, height, failed):
    board = Board()
    board.begin("deploy", 0)
    for number in range(hosts):
        board.host(f"web-{number}", "failed" if number in failed else "working", "something long " * 20, 1)
    lines = drawn(board, 5, width, height)
    assert len(lines) <= max(height, 8)
    assert all(len(line) <= width for line in lines)
    if width > 40 and height > 15:
        for number in failed & set(range(hosts)):
            assert any(line.startswith(f"web-{number} ") for line in lines)


def test_a_terminal_is_drawn_on_and_left_clean(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Display(stream=stream) as display:
        display.stage("launch")
        display.host("web-0", "pending")
        time.sleep(0.3)
        display.line("a sentence [with brackets]")
        display.host("web-0", "ready")
    text = stream.getvalue()
    assert "web-0" in text
    assert "a sentence [with brackets]" in text
    assert "launch: 1 ready" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is back
    assert not [thread for thread in threading.enumerate() if thread.name == "display"]


def test_many_threads_may_tell_at_once(monkeypatch):
    with Display(stream=io.StringIO(), live=True) as display:
        display.stage("deploy")

        def tell(name):
            for number in range(150):
                display.host(name, "working", f"step {number}")
                display.result(name, "ok")
                display.line(f"{name} {number}")

        threads = [threading.Thread(target=tell, args=(f"web-{n}",), daemon=True) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
    assert display._stream.getvalue().count("web-3 149") >= 1


def test_retries_are_shown():
    display = Display(stream=io.StringIO(), clock=Clock())
    display.stage("deploy")
    PlayDisplay(display).notice(HostRetried(time=NOW, host="a-0", task="Wait", attempt=2, attempts=9))
    assert display.waiting() == "a-0 (Wait (try 2 of 9), 0.0 s)"
    display.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.4, "0"), (640, "640 B/s"), (999.6, "1.0 kB/s"), (12.34e6, "12.3 MB/s"), (4e11, "400 GB/s")],
)
def test_rates(value, text):
    assert rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (59.9, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (7800, "2 h 10 min")],
)
def test_spans(value, text):
    assert seconds(value) == text
