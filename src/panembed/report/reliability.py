"""A plot of how far an object's score can be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from panembed.io.atomic import atomic_path
from panembed.metrics.scored_precision import Reliability

_BAR, _LINE = "#4477aa", "#666666"
"""Blue and grey differ for everybody."""


def reliability_plot(reliability: Reliability, path: Path) -> None:
    """Draw, for objects of like scores, how many of them match a true object; and how many objects have such scores.

    Points on the dashed line: of objects with score 0.8, eight of ten match. The bars of points are standard errors.

    Args:
        reliability: of at least one object.
        path: of the PNG.
    """
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = reliability.counts > 0
    counts, share = reliability.counts[filled], reliability.share_matched[filled]
    # With one object of no false ones the plain error would be 0 (Agresti and Coull 1998).
    smoothed = (share * counts + 2) / (counts + 4)
    error = np.sqrt(smoothed * (1 - smoothed) / (counts + 4))
    above.plot([0, 1], [0, 1], linestyle="--", color=_LINE, linewidth=1)
    above.errorbar(reliability.mean_score[filled], share, error, fmt="o-", color=_BAR, markersize=5, capsize=2)
    above.set(ylabel="share that match, IoU > 0.5", xlim=(0, 1), ylim=(0, 1.03))
    told = f"expected calibration error {reliability.error:.3f}"
    if reliability.auc is not None:
        told += f"\narea under the ROC curve {reliability.auc:.3f}"
    above.text(0.04, 0.94, told, transform=above.transAxes, va="top")
    below.bar(reliability.edges[:-1], reliability.counts, np.diff(reliability.edges), align="edge", color=_BAR)
    below.set(xlabel="score", ylabel="objects", yscale="symlog", ylim=(0, None))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
