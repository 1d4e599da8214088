"""The images that were segmented worst, drawn beside their truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.datasets.sample import Dataset
from panembed.errors import InputError
from panembed.evaluation.scores import Evaluation
from panembed.report.figures import Comparison, comparison, error_maps


def draw_worst(dataset: Dataset, evaluation: Evaluation, folder: str | os.PathLike[str]) -> None:
    """Write worst.png, photograph, truth, prediction and its errors; and worst_errors.png, the errors alone.

    Args:
        dataset: with the truth; a photograph that is missing or damaged is left out.
        evaluation: that kept its worst predictions; without any nothing is written.
        folder: that exists.

    Raises:
        OutputError: the folder can't be written.
    """
    rows = {row["id"]: row for row in evaluation.rows}
    worst = [
        Comparison(id, _photograph(dataset, id), dataset.read_truth(id), prediction, _caption(rows[id]))
        for id, prediction in evaluation.worst().items()
    ]
    if worst:
        comparison(worst, dataset.label_set, Path(folder) / "worst.png")
        if dataset.label_set.things:
            error_maps(worst, dataset.label_set, Path(folder) / "worst_errors.png")


def _photograph(dataset: Dataset, id: str) -> NDArray[np.uint8] | None:
    try:
        return dataset.read_image(id) if dataset.image_path(id).is_file() else None
    except InputError:
        return None


def _caption(row: dict[str, Any]) -> str:
    quality = "-" if row["pq_things"] is None else f"{100 * row['pq_things']:.0f}"
    return f"things PQ {quality}, {row['objects_true']} objects, {row['objects_predicted']} predicted"
