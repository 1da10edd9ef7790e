# SPDX-License-Identifier: Apache-2.0
"""The two pictures. The same results give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from measured import Results, Simulated, growth, median_total
from stages import STAGES, by_stage

#: Told apart in print and by people who do not see red and green alike (Okabe and Ito).
COLOURS = ("#999999", "#e69f00", "#f0e442", "#56b4e9", "#0072b2", "#009e73", "#cc79a7")
#: How wide a bar is; a round's two bars touch.
WIDTH = 0.4

matplotlib.rcParams.update(
    {
        "svg.hashsalt": "kubewright",
        "svg.fonttype": "none",  # text stays text
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def whole_cluster(found: Results, file: Path) -> None:
    """Draw each round: two stacked bars, by hand and by the command, by stage in seconds."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    places: list[float] = []
    labels: list[str] = []
    bottoms: list[float] = []
    bars = []
    for number, one in enumerate(found.rounds):
        for offset, label, timed in (
            (0.0, "by hand", one.by_hand),
            (WIDTH, "kubewright", one.kubewright),
        ):
            places.append(number * 1.2 + offset)
            labels.append(f"{label}\n{timed.total:.0f} s")
            bars.append(by_stage(timed.phases))
            bottoms.append(0.0)
    for stage, colour in zip(STAGES, COLOURS, strict=True):
        heights = [bar[stage] for bar in bars]
        if any(heights):
            axes.bar(
                places, heights, WIDTH, bottom=bottoms, label=stage, color=colour, edgecolor="white"
            )
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set_xticks(places, labels, fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("seconds")
    theirs, ours = median_total(found.theirs), median_total(found.ours)
    figure.suptitle(
        f"3 control planes and 2 workers, {len(found.rounds)} rounds. Medians: by hand "
        f"{theirs:.0f} s, kubewright {ours:.0f} s, ratio {found.ratio:.2f}",
        fontsize=10,
    )
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    _save(figure, file)


def planning(found: Results, file: Path) -> None:
    """Draw CPU seconds and peak memory of both simulations, each size a bar."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    both = {"planning": found.planning, "rendering": found.rendering}
    axes = figure.subplots(1, 3)
    for place, (name, sizes) in zip(axes, both.items(), strict=False):
        _cpu(place, sizes)
        place.set_title(f"{name}: x {growth(sizes):.1f}", fontsize=10)
        place.set_ylabel("CPU seconds")
    for offset, (name, sizes) in zip((0.0, WIDTH), both.items(), strict=True):
        places = [number + offset for number in range(len(sizes))]
        bars = axes[2].bar(places, [size.peak_mb for size in sizes], WIDTH, label=name)
        axes[2].bar_label(bars, fmt="%.0f", fontsize=8)
    axes[2].set_xticks(
        [number + WIDTH / 2 for number in range(len(found.planning))],
        [f"{size.nodes} nodes" for size in found.planning],
    )
    axes[2].set_ylabel("MB")
    axes[2].set_title("peak memory", fontsize=10)
    axes[2].margins(y=0.35)  # room for the legend
    axes[2].legend(frameon=False, loc="upper left")
    _save(figure, file)


def _cpu(axes: matplotlib.axes.Axes, sizes: Sequence[Simulated]) -> None:
    """Stack the stages of each size, and write the sum above."""
    labels = [f"{size.nodes} nodes" for size in sizes]
    bottoms = [0.0] * len(sizes)
    bars = None
    stages = list(sizes[0].stages)
    for stage in stages:
        heights = [size.stages[stage] for size in sizes]
        bars = axes.bar(labels, heights, WIDTH, bottom=bottoms, label=stage)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    if bars is not None:
        axes.bar_label(bars, [f"{total:.3g}" for total in bottoms], fontsize=8)
    if len(stages) > 1:
        axes.legend(frameon=False, loc="upper left")


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    # Its lines end in blanks here and there, which a repository would complain about.
    text = "\n".join(line.rstrip() for line in file.read_text().splitlines())
    file.write_text(text + "\n")
