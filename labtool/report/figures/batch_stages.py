"""What a streaming query's batch is made of: its stages and the driver, and what the stages' tasks did."""

from __future__ import annotations

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet
from labtool.report.figures.spark_stages import SPENT
from labtool.report.stage_rows import across, legend

DRIVER = "the driver"


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw a bar for each stage of a batch; nothing where no streaming query ran."""
    from matplotlib.patches import Patch

    found = analysis.batched
    if found is None:
        return []
    stages = found.stages
    names = [f"{stage.name}\n{stage.does}" for stage in stages] + ["between them\nthe driver"]
    took = np.array([stage.seconds for stage in stages] + [found.driver_s])
    parts = {name: np.array([stage.spent[name] * stage.seconds for stage in stages] + [0.0]) for name, _ in SPENT}
    parts[DRIVER] = np.array([0.0] * len(stages) + [found.driver_s])
    drawn = sheet(0.46 * len(names) + 1.45)
    axes = grid(drawn, left=3.1, right=0.9, bottom=1.0)[0][0]
    at, base = np.arange(len(names)), np.zeros(len(names))
    colours = dict(SPENT) | {DRIVER: style.HOLE}
    for name, values in parts.items():
        axes.barh(at, values, left=base, height=0.6, color=colours[name], linewidth=0)
        base = base + values
    for y, seconds in enumerate(took.tolist()):
        axes.annotate(
            fmt.percent(found.share(seconds)),
            (seconds, y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=style.MUTED,
            annotation_clip=False,
        )
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(at, names, fontsize=8.5)
    axes.grid(visible=False)
    axes.grid(axis="x")
    across(axes, "s")
    axes.set_xlim(0, max(float(took.max()) * 1.02, 1e-3))
    axes.set_xlabel("seconds of a batch", loc="left")
    legend(drawn, [Patch(color=colours[name], label=name, linewidth=0) for name in parts if parts[name].any()])
    longest = found.longest
    title = f"{longest.name.capitalize()} takes {fmt.percent(found.share(longest.seconds))} of a batch"
    if found.driver_s > longest.seconds:
        title = f"{fmt.percent(found.share(found.driver_s))} of a batch is the driver's own"
    return [
        finish(
            drawn,
            run,
            name="batch-stages",
            title=title,
            subtitle=f"The stages of a batch, means of {found.batches:,} batches with records",
            caption="Bars are as long as the stage took; their colours are what its tasks' time went to, in shares of "
            "it. Waiting that is not measured: the state store's files, the sink, the source, or no free processor.",
            alt=f"A bar for each stage of a batch and the driver, by what time went to. {title}.",
            data={
                "stage": [stage.name for stage in stages] + [DRIVER],
                "does": [stage.does for stage in stages] + [""],
                "seconds": took.tolist(),
                "share": [found.share(seconds) for seconds in took.tolist()],
            }
            | {f"{name.replace(', ', '_').replace(' ', '_')}_s": values.tolist() for name, values in parts.items()},
        )
    ]
