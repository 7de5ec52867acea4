"""How a board is drawn on a terminal: a headline, a line per host, who is being waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from labtool.cli.board import BAD, Board, Row, Sample, counted, rate, seconds

_BARS = " ▁▂▃▄▅▆▇█"
_MEASURES = ("cpu", "memory", "net in", "net out", "disk read", "disk write")
_DROPPED_FIRST = ("memory", "disk read", "net out", "disk write", "net in")
_FRAME_LINES = 5  # headline, header, the hidden hosts, who is waited for, the cursor


def draw(board: Board, now: float, width: int, height: int) -> RenderableType:
    """Draw `board` for a terminal of `width` × `height` characters; what has no room is left out."""
    rows, hidden = board.shown(max(height - _FRAME_LINES, 3))
    lines = [_headline(board, now), *_table(board, rows, now, width)]
    if hidden:
        others = Counter(row.state or "idle" for row in hidden)
        lines.append(Text("and " + counted((n, state) for state, n in others.most_common()), style="dim"))
    if waiting := board.waiting(now):
        lines.append(Text(f"waiting for {waiting}", style="yellow"))
    for line in lines:
        line.truncate(width - 1, overflow="ellipsis")
    return Group(*lines)


def _headline(board: Board, now: float) -> Text:
    line = Text(board.stage, style="bold cyan")
    for part in (
        seconds(now - board.stage_since),
        f"{seconds(board.left_s)} left" if board.left_s is not None else "",
        board.task,
    ):
        line.append(f"  {part}" if part else "", style="default not bold")
    return line


def _table(board: Board, rows: Sequence[Row], now: float, width: int) -> list[Text]:
    columns: dict[str, list[str]] = {"host": [row.name for row in rows]}
    if any(row.state for row in rows):
        columns["state"] = [row.state or "·" for row in rows]
    if any(row.sample for row in board.rows.values()):
        measured = [_measured(row.sample) for row in rows]
        columns |= {name: [cells[i] for cells in measured] for i, name in enumerate(_MEASURES)}
    for name in _DROPPED_FIRST:
        if sum(_width(name, cells) + 2 for name, cells in columns.items()) > width:
            columns.pop(name, None)
    widths = {name: _width(name, cells) for name, cells in columns.items()}
    lines = []
    if "cpu" in columns:
        heads = (_aligned(name, "" if name in {"host", "state"} else name, widths[name]) for name in columns)
        lines.append(Text("  ".join(heads), style="dim"))
    for number, row in enumerate(rows):
        line = Text()
        for name, cells in columns.items():
            style = {"host": "bold", "state": _style(row)}.get(name, "")
            line.append(_aligned(name, cells[number], widths[name]) + "  ", style=style)
        lines.append(line.append(_doing(row, board.task, now)))
    return lines


def _width(name: str, cells: Sequence[str]) -> int:
    return max(map(len, cells), default=0) if name in {"host", "state"} else max(len(name), *map(len, cells), 9)


def _aligned(name: str, cell: str, width: int) -> str:
    return cell.ljust(width) if name in {"host", "state"} else cell.rjust(width)


def _style(row: Row) -> str:
    if row.state in BAD:
        return "bold red"
    return "yellow" if row.awaited else "green" if row.state else "dim"


def _doing(row: Row, task: str, now: float) -> str:
    # The headline has the task that all are in.
    detail = row.detail.removeprefix(task).strip() if row.state not in BAD else row.detail
    counts = counted([(row.ok, "done"), (row.changed, "changed"), (row.failed, "failed")])
    return "  ".join(part for part in (seconds(now - row.since) if row.awaited else "", counts, detail) if part)


def _measured(sample: Sample | None) -> list[str]:
    if sample is None:
        return [""] * len(_MEASURES)
    shares = [f"{ratio:.0%} {_bar(ratio)}" for ratio in (sample.cpu, sample.memory)]
    return shares + [rate(value) for value in (sample.rx, sample.tx, sample.read, sample.write)]


def _bar(ratio: float) -> str:
    return _BARS[round(min(max(ratio, 0.0), 1.0) * (len(_BARS) - 1))]
