"""Scores of predictions against truth over a data set, at the truth's own size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from panembed.datasets.sample import Dataset
from panembed.errors import InputError, segmenting
from panembed.io.atomic import write_json
from panembed.io.tables import write_csv
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.average_precision import CITYSCAPES_MIN_AREA, AveragePrecision
from panembed.metrics.error_census import ErrorCensus
from panembed.metrics.leaf import LeafScores
from panembed.metrics.mean_iou import MeanIoU
from panembed.metrics.overlaps import count_overlaps
from panembed.metrics.panoptic_quality import PanopticQuality, PanopticQualityResult
from panembed.metrics.scored_precision import (
    Reliability,
    ScoredPrecision,
    false_among_lowest,
    matches_of,
    reliability,
)

Scores: TypeAlias = NDArray[np.floating] | None
"""Of predicted objects in the order of class and instance, 0..1; None where there are none."""

Pair: TypeAlias = tuple[str, PanopticMap, Scores, PanopticMap]
"""Id of an image, its prediction with scores, and its truth."""

_CITYSCAPES_THINGS = frozenset(("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"))


def default_min_area(label_set: LabelSet) -> int:
    """Pixels below which average precision ignores a true object, unless told otherwise.

    The official 100 where the things are Cityscapes' eight; else 0, since leaves and nuclei may well be smaller.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> default_min_area(SyntheticDataset(1).label_set)
    0
    """
    things = {label_set[index].name for index in label_set.things}
    return CITYSCAPES_MIN_AREA if things == _CITYSCAPES_THINGS else 0


@dataclass
class Evaluation:
    """Collects scores image by image.

    Always Panoptic Quality and the classes' IoU. Average precision and a census of errors where there are things. Leaf
    measures (SBD, |DiC|, FBD) are for one thing class, so they are there only where the label set has one.

    Attributes:
        label_set: the classes.
        ap_min_area: pixels below which average precision ignores a true object; None for `default_min_area`.
        num_kept: predictions to keep, of the images with the lowest PQ of things.
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
    ap_min_area: int | None = None
    num_kept: int = 0

    def __post_init__(self) -> None:
        self._kept: list[tuple[tuple[bool, float], str, PanopticMap]] = []
        if self.ap_min_area is None:
            self.ap_min_area = default_min_area(self.label_set)
        self.quality = PanopticQuality(self.label_set)
        self.iou = MeanIoU(self.label_set)
        self.precision = AveragePrecision(self.label_set, self.ap_min_area) if self.label_set.things else None
        self.scored = ScoredPrecision(self.label_set)
        self._object_scores: list[NDArray[np.floating]] = []
        self._matches: list[NDArray[np.bool_]] = []
        self._num_scored = 0
        self.leaf = LeafScores() if len(self.label_set.things) == 1 else None
        self.census = ErrorCensus(self.label_set) if self.label_set.things else None

    def add(self, id: str, prediction: PanopticMap, truth: PanopticMap, scores: Scores = None) -> None:
        """Score one image.

        Raises:
            ValueError: the maps differ in size, or there are not as many scores as objects.
        """
        overlaps = count_overlaps(prediction, truth, self.label_set)
        result = self.quality.add(overlaps)
        self.iou.confusion += overlaps.confusion[:-1]
        if self.precision is not None:
            self.precision.add(overlaps)
        if scores is not None:
            self.scored.add(overlaps, scores)
            matched, counts = matches_of(overlaps, self.label_set)
            self._object_scores.append(scores[counts])
            self._matches.append(matched[counts])
            self._num_scored += 1
        row: dict[str, Any] = {
            "id": id,
            "pq": result.all.pq,
            "pq_things": result.things.pq,
            "pq_stuff": result.stuff.pq,
        }
        row["sq_things"], row["rq_things"] = result.things.sq, result.things.rq
        if self.leaf is not None:
            row |= self.leaf.add(overlaps, len(self.label_set), self.label_set.things[0])
        things = self.label_set.things
        # The first of each is void. A prediction's crowd marks count for nothing, as in Panoptic Quality.
        row["objects_predicted"] = int(np.isin(overlaps.prediction_class[1:], things).sum())
        row["objects_true"] = int((np.isin(overlaps.truth_class, things) & ~overlaps.is_crowd)[1:].sum())
        if self.census is not None:
            row |= self.census.add(overlaps)
        self.rows.append(row)
        if self.num_kept:
            self._kept = sorted([*self._kept, (_rank(row), id, prediction)], key=lambda kept: kept[0])[: self.num_kept]

    def quality_result(self) -> PanopticQualityResult:
        """Panoptic Quality over all images so far."""
        return self.quality.compute()

    def metrics(self) -> dict[str, Any]:
        """All scores as plain data: fractions, and counts of images and segments.

        `per_class` has Panoptic Quality and `iou` of every class, and `ap` and `ap50` of things.
        """
        data: dict[str, Any] = self.quality_result().to_dict()
        classes = self.iou.compute()
        for name, iou in classes.per_class.items():
            data["per_class"][name]["iou"] = iou
        data["miou"] = classes.miou
        if self.precision is not None:
            objects = self.precision.compute()
            for name, score in objects.per_class.items():
                data["per_class"][name] |= {"ap": score.ap, "ap50": score.ap50}
            data |= {"ap": objects.ap, "ap50": objects.ap50, "ap_min_area": self.ap_min_area}
            data |= self.precision.accuracy()
            data |= self._of_scores(data["per_class"])
        if self.leaf is not None:
            data.update(self.leaf.compute())
        if self.census is not None:
            data["census"] = self.census.compute()
        data["images"] = len(self.rows)
        data["objects_predicted"] = sum(row["objects_predicted"] for row in self.rows)
        data["objects_true"] = sum(row["objects_true"] for row in self.rows)
        return data

    def _of_scores(self, per_class: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """What needs a score of every object; nothing where some image lacks them."""
        reliability = self.reliability()
        if reliability is None:
            return {}
        scored = self.scored.compute()
        for name, value in scored.per_class.items():
            per_class[name]["coco_ap"] = value
        scores, matches = np.concatenate(self._object_scores), np.concatenate(self._matches)
        return {
            "coco_ap": scored.ap,
            "coco_ap50": scored.ap50,
            "coco_ap75": scored.ap75,
            "score_reliability": {
                "auc": reliability.auc,
                "expected_calibration_error": reliability.error if len(scores) else None,
                "false_among_lowest_5_percent": false_among_lowest(scores, matches),
                "bins": [
                    {"from": low, "to": high, "objects": count, "mean_score": mean, "matched": share}
                    for low, high, count, mean, share in zip(
                        np.round(reliability.edges[:-1], 6).tolist(),
                        np.round(reliability.edges[1:], 6).tolist(),
                        reliability.counts.tolist(),
                        reliability.mean_score.tolist(),
                        reliability.share_matched.tolist(),
                    )
                    if count
                ],
            },
        }

    def reliability(self) -> Reliability | None:
        """How the objects' scores compare with matches; None where an image had no scores, or there is no image."""
        if not self._num_scored or self._num_scored < len(self.rows):
            return None
        return reliability(np.concatenate(self._object_scores), np.concatenate(self._matches))

    def write(self, folder: Path) -> None:
        """Write metrics.json and per_image.csv."""
        write_json(folder / "metrics.json", self.metrics())
        write_csv(folder / "per_image.csv", self.rows, columns=["id"])

    def ranked(self) -> list[str]:
        """Ids from worst to best by PQ of things; images without things come last."""
        return [row["id"] for row in sorted(self.rows, key=_rank)]

    def worst(self) -> dict[str, PanopticMap]:
        """The first `num_kept` of `ranked`, and what was predicted for them."""
        return {id: prediction for _, id, prediction in self._kept}


def _rank(row: dict[str, Any]) -> tuple[bool, float]:
    return row["pq_things"] is None, row["pq_things"] or 0.0


def _names(label_set: LabelSet) -> str:
    return ", ".join(category.name for category in label_set)


def _kinds(label_set: LabelSet) -> list[str]:
    """The name of each class, and whether it is a thing."""
    return [f"{c.name} ({'thing' if c.is_thing else 'stuff'})" for c in label_set]


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
    *,
    ap_min_area: int | None = None,
    num_kept: int = 0,
) -> Evaluation:
    """Predict images of a data set and score them.

    Args:
        model: its classes must be the data set's.
        dataset: images with truth.
        ids: which of them.
        each: called with every id and its prediction.
        ap_min_area: see `Evaluation`.
        num_kept: see `Evaluation`.

    Raises:
        InputError: the classes differ, or an image can't be read, or is too large for memory.
        ModelError: the network's outputs are no numbers.
    """
    if _kinds(model.label_set) != _kinds(dataset.label_set):
        if [c.is_thing for c in model.label_set] == [c.is_thing for c in dataset.label_set]:
            raise InputError(
                f"{dataset.root}: the data has classes {_names(dataset.label_set)}, but the model "
                f"{_names(model.label_set)}; if they mean the same, name the data's so in a labels.yaml"
            )
        raise InputError(
            f"{dataset.root}: the data has classes {', '.join(_kinds(dataset.label_set))}, but the model "
            f"{', '.join(_kinds(model.label_set))}; evaluate on data with the model's classes"
        )

    def read(id: str) -> Pair:
        sample = dataset.load(id)
        with segmenting(id):
            if isinstance(model, ScoringSegmenter):
                return id, *model.segment_scored(sample.image), sample.truth
            return id, model.segment(sample.image), None, sample.truth

    return _score(map(read, ids), Evaluation(dataset.label_set, ap_min_area=ap_min_area, num_kept=num_kept), each)


@runtime_checkable
class ScoringSegmenter(Protocol):
    """A segmenter that is more or less sure of each object."""

    def segment_scored(self, image: NDArray[np.uint8]) -> tuple[PanopticMap, NDArray[np.float64]]:
        """The panoptic map of an HxWx3 uint8 image, and a score 0..1 of each object, in order of class and instance."""
        ...


class Stored(Protocol):
    """Anything that gives predictions by the ids of the truth: see `panembed.evaluation.predictions.matching`."""

    def read(self, id: str, shape: tuple[int, int]) -> PanopticMap:
        """The prediction for an image, of the height and width that its truth has."""
        ...


def evaluate_predictions(
    predictions: Stored,
    dataset: Dataset,
    ids: Iterable[str],
    each: Callable[[str, PanopticMap], None] | None = None,
    *,
    ap_min_area: int | None = None,
    num_kept: int = 0,
) -> Evaluation:
    """Score predictions that are there already; only the truth is read, no image.

    Args:
        predictions: in the data set's classes.
        dataset: the truth.
        ids: which images.
        each: called with every id and its prediction.
        ap_min_area: see `Evaluation`.
        num_kept: see `Evaluation`.

    Raises:
        InputError: a prediction or a truth can't be read, or they don't fit together.
    """

    def read(id: str) -> Pair:
        truth = dataset.read_truth(id)
        return id, predictions.read(id, truth.shape), None, truth

    return _score(_ahead(read, ids), Evaluation(dataset.label_set, ap_min_area=ap_min_area, num_kept=num_kept), each)


def _score(
    pairs: Iterable[Pair], evaluation: Evaluation, each: Callable[[str, PanopticMap], None] | None
) -> Evaluation:
    for id, prediction, scores, truth in pairs:
        evaluation.add(id, prediction, truth, scores)
        if each is not None:
            each(id, prediction)
    return evaluation


def _ahead(read: Callable[[str], Pair], ids: Iterable[str], threads: int = 2) -> Iterator[Pair]:
    """Read ahead of their use, in order; decoding files takes longer than scoring them."""
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        waiting: deque[Future[Pair]] = deque()
        try:
            for id in ids:
                waiting.append(pool.submit(read, id))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
