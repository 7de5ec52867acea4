"""Builds a run's report: tables → findings → figures → one HTML file, and the numbers as `summary.json`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtool.dataset.run import RunDirectory
from labtool.files import write_json, write_text

if TYPE_CHECKING:
    from labtool.analysis.analyse import Analysis
    from labtool.analysis.data import RunData
    from labtool.report.figure import Figure


def build_report(directory: RunDirectory) -> Path:
    """Write `report.html`, `summary.json` and `figures/` of a run from its run.json and tables; return the report.

    Needs no host and can be called again. A run that was interrupted, or whose tables are absent or broken, gets a
    report that says so. `DataError` only where there is no readable run.json.
    """
    from labtool.analysis.analyse import analyse
    from labtool.analysis.load import load
    from labtool.report.page import compose

    data = load(directory)
    analysis = analyse(data)
    figures = draw_figures(data, analysis, directory)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    write_json(directory.path / "summary.json", summary(data, analysis, figures))
    write_text(directory.report, render(compose(data, analysis, figures, directory, made)))
    return directory.report


def draw_figures(data: RunData, analysis: Analysis, directory: RunDirectory) -> list[Figure]:
    """Draw every figure that the data can fill, in the page's order; those of an earlier report are removed."""
    from labtool.report import style
    from labtool.report.figures import (
        batch_stages,
        cloudwatch,
        cost,
        distribution,
        heat,
        hosts,
        latency,
        load,
        requests,
        search,
        service,
        spark,
        streaming,
        timeline,
        webserver,
    )

    for old in (*directory.figures.glob("*.png"), *directory.figures.glob("*.csv")):
        old.unlink()
    style.prepare()
    drawn: list[Figure] = []
    for module in (
        load,
        search,
        streaming,
        requests,
        cost,
        distribution,
        latency,
        batch_stages,
        spark,
        heat,
        webserver,
        hosts,
        cloudwatch,
        service,
        timeline,
    ):
        drawn += module.draw(data, analysis, directory)
    return drawn


def render(page: object) -> str:
    """Return the page as HTML; every text in it is escaped by the template."""
    import jinja2

    from labtool.report.page import keep_units

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labtool.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["units"] = keep_units
    return environment.get_template("report.html").render(page=page)


def summary(data: RunData, analysis: Analysis, figures: list[Figure]) -> dict[str, Any]:
    """Return what the report says, for programs: the verdict, the large numbers, the findings with their evidence."""
    record = data.record
    return {
        "format": 1,
        "run": record.name,
        "lab": record.lab,
        "cloud": record.cloud,
        "stack": record.stack,
        "workload": record.workload,
        "window": {
            "start": data.origin.isoformat(),
            "length_s": data.length_s,
            "warmup_s": data.measured[0],
            "measured_s": data.measured_s,
        },
        "verdict": asdict(analysis.verdict),
        "headlines": [asdict(headline) for headline in analysis.headlines],
        "findings": [asdict(finding) for finding in analysis.findings],
        "figures": [{"id": f.id, "title": f.title, "png": f.png, "data": f.data} for f in figures],
    }
