"""A figure of the report: drawn once, kept as SVG in the page, as PNG and as data in the run's `figures/`."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from labtool.dataset.run import RunDirectory
from labtool.report import style

PNG_DPI = 200
"""2 × the density of the page's own pixels."""

Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Figure:
    """A drawn figure: what the page says of it, and the names of its files in the run's directory."""

    id: str
    title: str
    subtitle: str
    caption: str
    alt: str
    svg: str
    png: str
    data: str
    hosts: tuple[str, ...] = ()  # whom it is about, where that is not all


def sheet(height_in: float) -> Any:
    """Return an empty Matplotlib figure whose axes may be `height_in` high in all, with room for a title above."""
    from matplotlib.figure import Figure as Sheet

    return Sheet(figsize=(style.WIDTH_IN, height_in + style.HEAD_IN))


def grid(
    drawn: Any,
    rows: int = 1,
    columns: int = 1,
    *,
    left: float = 0.72,
    right: float = 0.95,
    bottom: float = 0.52,
    top: float = 0.14,
    across: float = 0.3,
    down: float = 0.25,
    **options: Any,
) -> Any:
    """Return axes (rows × columns) with margins and gaps in inches; `options` go to `Figure.subplots`."""
    width, height = drawn.get_size_inches()
    inner_w = (width - left - right - across * (columns - 1)) / columns
    inner_h = (height - style.HEAD_IN - top - bottom - down * (rows - 1)) / rows
    return drawn.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": left / width,
            "right": 1 - right / width,
            "bottom": bottom / height,
            "top": 1 - (style.HEAD_IN + top) / height,
            "wspace": across / inner_w,
            "hspace": down / inner_h,
        },
        **options,
    )


def finish(
    drawn: Any,
    run: RunDirectory,
    *,
    name: str,
    title: str,
    subtitle: str,
    caption: str,
    alt: str,
    data: Columns,
    hosts: Sequence[str] = (),
) -> Figure:
    """Write the figure's files and return it; `data` are the columns of what is drawn."""
    run.figures.mkdir(exist_ok=True)
    height = drawn.get_size_inches()[1]
    heading = [
        drawn.text(0.1 / style.WIDTH_IN, 1 - 0.10 / height, title, fontsize=12.5, fontweight="bold", va="top"),
        drawn.text(0.1 / style.WIDTH_IN, 1 - 0.36 / height, subtitle, fontsize=9, color=style.MUTED, va="top"),
    ]
    png = run.figures / f"{name}.png"
    drawn.savefig(png, dpi=PNG_DPI, metadata={"Software": None, "Title": title, "Description": alt})
    for text in heading:
        text.set_visible(False)
    buffer = io.StringIO()
    drawn.patch.set_visible(False)
    drawn.savefig(buffer, format="svg", dpi=144, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    table = run.figures / f"{name}.csv"
    write_columns(table, data)
    return Figure(
        name,
        title,
        subtitle,
        caption,
        alt,
        inline(buffer.getvalue(), alt),
        str(png.relative_to(run.path)),
        str(table.relative_to(run.path)),
        tuple(hosts),
    )


def write_columns(path: Any, columns: Columns) -> None:
    """Write columns as CSV; what is not known is an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_field(value) for value in row] for row in zip(*columns.values(), strict=True))


def _field(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.7g}" if math.isfinite(value) else ""
    return "" if value is None else value


_PROLOGUE = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_OPENING = re.compile(r"<svg\b[^>]*>")
_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_FINE = re.compile(r"(\d+\.\d\d)\d+")
_PATH = re.compile(r'\b(d|points|transform|x|y|x1|x2|y1|y2)="[^"]*"')
_FONT = re.compile(r"'DejaVu Sans'(, [^;\"]*)?")


def inline(svg: str, alt: str) -> str:
    """Turn Matplotlib's SVG into one that lives in the page: its font and its colours, no title, fewer decimals."""
    svg = _METADATA.sub("", _PROLOGUE.sub("", svg, count=1))
    box = _BOX.search(svg)
    if box is None:
        raise ValueError("an SVG without a view box")
    width, height = float(box[1]), float(box[2])
    head = style.HEAD_IN * 72
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{escape(alt, quote=True)}" viewBox="0 {head:g} {width:g} {height - head:g}">'
    )
    svg = _OPENING.sub(lambda _: opening, svg, count=1)
    svg = _PATH.sub(lambda found: _FINE.sub(r"\1", found[0]), svg)
    svg = _FONT.sub("var(--sans)", svg)
    for colour, variable in style.THEME.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg)
