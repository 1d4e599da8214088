"""Scores of predictions against truth over a data set, at the truth's own size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from panembed.datasets.sample import Dataset
from panembed.errors import InputError
from panembed.io.atomic import write_json
from panembed.io.tables import write_csv
from panembed.labels import LabelSet, PanopticMap
from panembed.metrics.leaf import LeafScores
from panembed.metrics.panoptic_quality import PanopticQuality, PanopticQualityResult


@dataclass
class Evaluation:
    """Collects scores image by image.

    Leaf measures (SBD, |DiC|, FBD) are for one thing class, so they are there only where the label set has one.

    Attributes:
        label_set: the classes.
        rows: one per image.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> plants = SyntheticDataset(2, size=64)
    >>> evaluation = Evaluation(plants.label_set)
    >>> for id in plants.ids:
    ...     evaluation.add(id, plants.read_truth(id), plants.read_truth(id))
    >>> evaluation.metrics()["all"]["pq"], evaluation.metrics()["sbd"]
    (1.0, 1.0)
    """

    label_set: LabelSet
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.quality = PanopticQuality(self.label_set)
        self.leaf = LeafScores() if len(self.label_set.things) == 1 else None

    def add(self, id: str, prediction: PanopticMap, truth: PanopticMap) -> None:
        """Score one image.

        Raises:
            ValueError: the maps differ in size.
        """
        result = self.quality.update(prediction, truth)
        row: dict[str, Any] = {
            "id": id,
            "pq": result.all.pq,
            "pq_things": result.things.pq,
            "pq_stuff": result.stuff.pq,
        }
        row["sq_things"], row["rq_things"] = result.things.sq, result.things.rq
        if self.leaf is not None:
            thing = self.label_set.things[0]
            leaf = self.leaf.update(
                prediction.instance * (prediction.semantic == thing), truth.instance * (truth.semantic == thing)
            )
            row.update(leaf)
        row["objects_predicted"], row["objects_true"] = (
            _objects(prediction, self.label_set),
            _objects(truth, self.label_set),
        )
        self.rows.append(row)

    def quality_result(self) -> PanopticQualityResult:
        """Panoptic Quality over all images so far."""
        return self.quality.compute()

    def metrics(self) -> dict[str, Any]:
        """All scores as plain data: fractions, and counts of images and segments."""
        data: dict[str, Any] = self.quality_result().to_dict()
        if self.leaf is not None:
            data.update(self.leaf.compute())
        data["images"] = len(self.rows)
        data["objects_predicted"] = sum(row["objects_predicted"] for row in self.rows)
        data["objects_true"] = sum(row["objects_true"] for row in self.rows)
        return data

    def write(self, folder: Path) -> None:
        """Write metrics.json and per_image.csv."""
        write_json(folder / "metrics.json", self.metrics())
        write_csv(folder / "per_image.csv", self.rows, columns=["id"])

    def ranked(self) -> list[str]:
        """Ids from worst to best by PQ of things; images without things come last."""
        return [
            row["id"] for row in sorted(self.rows, key=lambda row: (row["pq_things"] is None, row["pq_things"] or 0))
        ]


def _objects(panoptic: PanopticMap, label_set: LabelSet) -> int:
    """Number of objects that are no crowds."""
    _, segments = panoptic.segments(label_set)
    return sum(1 for s in segments if label_set[s.category].is_thing and not s.is_crowd)


class Segmenter(Protocol):
    """Anything that gives the panoptic map of an image, such as `panembed.inference.predictor.PanopticModel`."""

    label_set: LabelSet

    def segment(self, image: NDArray[np.uint8]) -> PanopticMap:
        """The panoptic map of an HxWx3 uint8 image."""
        ...


def evaluate_model(
    model: Segmenter,
    dataset: Dataset,
    ids: Iterable[str],
    each: Callable[[str, PanopticMap], None] | None = None,
) -> Evaluation:
    """Predict images of a data set and score them.

    Args:
        model: its classes must be the data set's.
        dataset: images with truth.
        ids: which of them.
        each: called with every id and its prediction.

    Raises:
        InputError: the classes differ, or an image can't be read.
    """
    if [c.name for c in model.label_set] != [c.name for c in dataset.label_set]:
        raise InputError(
            f"{dataset.root}: the data has classes {', '.join(c.name for c in dataset.label_set)}, but the model "
            f"{', '.join(c.name for c in model.label_set)}; evaluate on data with the model's classes"
        )
    evaluation = Evaluation(dataset.label_set)
    for id in ids:
        sample = dataset.load(id)
        prediction = model.segment(sample.image)
        evaluation.add(id, prediction, sample.truth)
        if each is not None:
            each(id, prediction)
    return evaluation
