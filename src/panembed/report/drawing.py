"""The pictures of an evaluation, where Matplotlib is installed: prediction and scores need none of it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from panembed.datasets.sample import Dataset
from panembed.evaluation.scores import Evaluation

INSTALL_MATPLOTLIB = "pip install 'panembed[figures]'"


def can_draw() -> bool:
    """Whether Matplotlib is there."""
    return find_spec("matplotlib") is not None


def draw_pictures(dataset: Dataset, evaluation: Evaluation, metrics: Mapping[str, Any], folder: Path) -> None:
    """Draw the worst images, what became of small and large objects, and how far scores can be trusted.

    Args:
        dataset: that was scored.
        evaluation: its scores.
        metrics: what `evaluation.metrics()` gave.
        folder: where worst.png or worst_errors.png, errors.png and reliability.png go; those that there is nothing for
            are not written.

    Raises:
        OutputError: the folder can't be written.
    """
    from panembed.report.figures import fates_by_size
    from panembed.report.reliability import reliability_plot
    from panembed.report.worst import draw_worst

    if by_size := metrics.get("census", {}).get("by_size"):
        fates_by_size(by_size, folder / "errors.png", metrics["census"]["predicted"])
    if (found := evaluation.reliability()) is not None and found.counts.any():
        reliability_plot(found, folder / "reliability.png")
    draw_worst(dataset, evaluation, folder)
