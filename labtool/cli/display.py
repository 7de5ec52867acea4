"""What long work looks like: a line per host on a terminal, plain lines in a log. Always on stderr.

One display serves launching (requested → ready), playbooks (task, counts) and measuring (CPU, network, disk, time
left); it says who is being waited for, always.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from labtool.cli.board import BAD, Board, Sample, counted, seconds
from labtool.errors import StoppedError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from labtool.ansible.events import Event

QUIET_S = 30.0
"""In a log, the longest silence: then a line says who is being waited for."""


class Display:
    """Shows the progress of one command. A context manager; safe to be told things from several threads.

    `live` is None to find out whether `stream` is a terminal that can be drawn on.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        live: bool | None = None,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._live_wanted = _can_draw(self._stream) if live is None else live
        self._quiet_s = quiet_s
        self._clock = clock
        self._board = Board()
        self._lock = threading.RLock()
        self._console: Console | None = None
        self._live: Live | None = None
        self._ended = threading.Event()
        self._said = clock()
        self._ticker: threading.Thread | None = None
        self._results: Counter[str] = Counter()
        self._task_since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close_stage(kind)
        self._ended.set()
        self._stop_drawing()
        if self._ticker is not None:
            self._ticker.join(timeout=2)

    def stage(self, name: str) -> None:
        """Begin a stage; the one before it is done."""
        self._close_stage(None)
        with self._lock:
            self._board.begin(name, self._clock())
        if self._live_wanted:
            self._draw()
        else:
            self._say(name)
            self._tick()

    def over(self, kind: type[BaseException] | None = None) -> None:
        """End the stage before another one begins; `kind` is what broke it."""
        self._close_stage(kind)

    def host(self, name: str, state: str, detail: str = "") -> None:
        """Tell a host's state: requested, pending, running, ssh, ready, working, ok, failed, unreachable, …."""
        with self._lock:
            before = self._board.rows.get(name)
            news = before is None or before.state != state
            self._board.host(name, state, detail, self._clock())
        if news and state in BAD and not self._live_wanted:
            self._say(f"  {name} {state}" + (f": {detail}" if detail else ""))

    def task(self, title: str) -> None:
        """Begin a task of a playbook; the one before it is done."""
        self._close_task()
        with self._lock:
            self._board.task = title
            self._task_since = self._clock()

    def result(self, host: str, status: str) -> None:
        """Count a task's end on a host: ok, changed, skipped, failed, unreachable or ignored."""
        with self._lock:
            row = self._board.row(host)
            row.ok += status in {"ok", "changed", "ignored"}
            row.changed += status == "changed"
            row.failed += status in {"failed", "unreachable"}
            self._results[status] += 1

    def sample(self, host: str, *, cpu: float, memory: float, rx: float, tx: float, read: float, write: float) -> None:
        """Show a host's CPU and memory (ratios), network and disk (bytes/s)."""
        with self._lock:
            self._board.row(host).sample = Sample(cpu, memory, rx, tx, read, write)

    def left(self, seconds: float | None) -> None:
        """Show the time left of the window; None: there is no window any more."""
        with self._lock:
            self._board.left_s = seconds

    def line(self, text: str) -> None:
        """Say one sentence that stays."""
        self._say(text)

    def waiting(self) -> str:
        """Say who is being waited for; '' if for nobody."""
        with self._lock:
            return self._board.waiting(self._clock())

    def _close_task(self) -> None:
        with self._lock:
            title, results, since = self._board.task, self._results, self._task_since
            self._board.task, self._results = "", Counter()
        # What every host skipped is of interest to nobody but the log.
        if title and not self._live_wanted and set(results) - {"skipped"}:
            told = counted((count, status) for status, count in sorted(results.items()))
            self._say(f"  {title}: {told}, {seconds(self._clock() - since)}")

    def _close_stage(self, kind: type[BaseException] | None) -> None:
        self._close_task()
        with self._lock:
            stage, since = self._board.stage, self._board.stage_since
            rows = list(self._board.rows.values())
            states = self._board.states() if not any(row.ok for row in rows) else ""
            changed = sum(row.changed for row in rows)
            waited = self._board.waiting(self._clock())
            self._board.stage = ""
        if not stage:
            return
        took = seconds(self._clock() - since)
        if kind is None:
            told = ", ".join(part for part in (states, counted([(changed, "changed")]), took) if part)
            self._say(f"{stage}: {told}", style="green")
        else:
            how = "interrupted" if issubclass(kind, (KeyboardInterrupt, StoppedError)) else "failed"
            self._say(f"{stage}: {how} after {took}" + (f", waiting for {waited}" if waited else ""), style="red")

    def _say(self, text: str, style: str = "") -> None:
        # Without our lock: the thread that draws holds the terminal's lock and then asks for ours.
        self._said = self._clock()
        if self._live is not None:
            from rich.text import Text

            # Not as markup: a task's name may have brackets.
            self._terminal().print(Text(text, style=style if "\n" not in text else ""), soft_wrap=True)
            return
        stamp = "" if self._live_wanted else datetime.now(UTC).strftime("%H:%M:%S ")
        try:
            self._stream.write(f"{stamp}{text}\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads any more, its terminal was closed; the work goes on
            return

    def _tick(self) -> None:
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._break_silence, name="display", daemon=True)
            self._ticker.start()

    def _break_silence(self) -> None:
        while not self._ended.wait(min(1.0, self._quiet_s / 4)):
            with self._lock:
                now, board = self._clock(), self._board
                if not board.stage or now - self._said < self._quiet_s:
                    continue
                waiting, left_s = board.waiting(now), board.left_s
                parts = [f"waiting for {waiting}"] if waiting else []
                parts += [f"{seconds(left_s)} left"] if left_s is not None else []
                told = ", ".join(parts or [f"{board.stage}: {seconds(now - board.stage_since)}"])
            self._say(f"  {told}")

    def _terminal(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=self._stream, force_terminal=True, highlight=False, emoji=False)
        return self._console

    def _draw(self) -> None:
        if self._live is not None:
            return
        from rich.live import Live

        # What a command prints on a terminal goes above the drawing; into a pipe it must go untouched.
        same_screen = sys.stdout.isatty()
        self._live = Live(
            get_renderable=self._picture,
            console=self._terminal(),
            refresh_per_second=5,
            transient=True,
            redirect_stdout=same_screen,
            redirect_stderr=True,
        )
        self._live.start()

    def _stop_drawing(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _picture(self) -> RenderableType:
        from labtool.cli.picture import draw

        size = self._terminal().size
        with self._lock:
            return draw(self._board, self._clock(), size.width, size.height)


class PlayDisplay:
    """Shows a playbook on a display. An observer (`labtool.ansible.events.Observer`)."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def notice(self, event: Event) -> None:
        """Show `event`."""
        from labtool.ansible.events import HostResult, HostRetried, HostStarted, PlaybookFinished, TaskStarted

        match event:
            case HostResult():
                self._display.result(event.host, event.status)
                bad = event.status in BAD
                first = event.message.split("\n", 1)[0]
                self._display.host(
                    event.host, event.status if bad else "ok", f"{event.title}: {first}" if bad else event.title
                )
            case HostRetried():
                tries = f"try {event.attempt} of {event.attempts}"
                self._display.host(event.host, "working", f"{event.title} ({tries})")
            case HostStarted():
                self._display.host(event.host, "working", event.title)
            case TaskStarted():
                self._display.task(event.title)
            case PlaybookFinished():
                self._display.task("")


def _can_draw(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
