"""Average precision of scored objects against pycocotools, ROC area against scikit-learn, and both by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import roc_auc_score

from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.scored_precision import (
    RECALLS,
    THRESHOLDS,
    ScoredPrecision,
    false_among_lowest,
    match_to_truth,
    reliability,
)

FIELD = LabelSet([Category(0, "soil", False), Category(3, "crop", True), Category(7, "weed", True)])


def blocks(rng: np.random.Generator, crowds: bool) -> tuple[PanopticMap, PanopticMap, np.ndarray]:
    """A truth, a prediction that is right here and there, and scores with ties."""
    true = rng.integers(0, 7, (4, 5)).repeat(4, 0).repeat(4, 1)
    found = true.copy()
    found[rng.random(found.shape) < rng.uniform(0, 0.3)] = 0
    for _ in range(3):
        found[found == rng.integers(1, 7)] = rng.integers(1, 9)
    crowd = {(1 + n % 2, n) for n in (1, 2)} if crowds else set()
    truth = PanopticMap(np.where(true, 1 + true % 2, 0), true, crowd)
    prediction = PanopticMap(np.where(found, 1 + found % 2, 0), found)
    return truth, prediction, rng.integers(1, 6, prediction.num_instances) / 5


def rows(panoptic: PanopticMap, image_id: int, scores: np.ndarray | None = None) -> list[dict]:
    segment_map, segments = panoptic.segments(FIELD)
    things = [s for s in segments if s.category]
    return [
        {
            "image_id": image_id,
            "category_id": FIELD[s.category].id,
            "segmentation": coco_mask.encode(np.asfortranarray(segment_map == s.id, dtype=np.uint8)),
            "area": s.area,
            "bbox": list(s.bbox),
            "iscrowd": int(s.is_crowd),
            **({} if scores is None else {"score": float(scores[place])}),
        }
        for place, s in enumerate(things)
    ]


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("max_detections", [None, 2])
def test_as_pycocotools_counts(crowds: bool, max_detections: int | None) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        ours, truths, predictions = ScoredPrecision(FIELD, max_detections), [], []
        for image_id in range(1, 5):
            truth, prediction, scores = blocks(rng, crowds)
            ours.update(prediction, scores, truth)
            truths += rows(truth, image_id)
            predictions += rows(prediction, image_id, scores)
        for number, row in enumerate(truths, start=1):
            row["id"] = number
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": n, "height": 16, "width": 20} for n in range(1, 5)],
                "annotations": truths,
                "categories": [{"id": 3, "name": "crop"}, {"id": 7, "name": "weed"}],
            }
            coco.createIndex()
            theirs = COCOeval(coco, coco.loadRes(predictions), "segm")
            theirs.params.maxDets = [1, 1, max_detections or 1000]
            theirs.evaluate()
            theirs.accumulate()
        precision = theirs.eval["precision"][:, :, :, 0, 2]  # thresholds, recalls, classes
        found = ours.compute()
        assert np.array_equal(theirs.params.iouThrs, THRESHOLDS)
        assert np.allclose(theirs.params.recThrs, RECALLS)
        expected = precision[precision > -1]
        assert found.ap == pytest.approx(expected.mean())
        assert found.ap50 == pytest.approx(precision[0][precision[0] > -1].mean())
        assert found.ap75 == pytest.approx(precision[5][precision[5] > -1].mean())
        for place, name in enumerate(("crop", "weed")):
            of_class = precision[:, :, place]
            assert found.per_class[name] == pytest.approx(of_class.mean() if (of_class > -1).all() else None)


def test_nothing_to_find_and_nothing_found() -> None:
    empty = PanopticMap(np.zeros((2, 2), int), np.zeros((2, 2), int))
    full = PanopticMap(np.ones((2, 2), int), np.ones((2, 2), int))
    precision = ScoredPrecision(FIELD)
    precision.update(full, np.array([0.5]), empty)
    assert precision.compute().ap is None
    precision = ScoredPrecision(FIELD)
    precision.update(empty, np.zeros(0), full)
    assert precision.compute().ap == 0
    with pytest.raises(ValueError, match="expected one for each of 1 objects, found 2"):
        precision.update(full, np.array([0.5, 0.2]), full)


def test_predictions_on_void_count_neither_way() -> None:
    truth = PanopticMap([[1, 1, IGNORE, IGNORE, 0]], [[1, 1, 0, 0, 0]])
    prediction = PanopticMap([[1, 1, 1, 1, 1]], [[1, 1, 2, 2, 3]])
    matched, counts = match_to_truth(prediction, truth, FIELD)
    assert matched.tolist() == [True, False, False]
    assert counts.tolist() == [True, False, True]
    precision = ScoredPrecision(FIELD)
    precision.update(prediction, np.array([0.5, 0.9, 0.1]), truth)
    assert precision.compute().ap == 1


def test_reliability_by_hand_and_by_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 21, 300) / 20  # with ties, 0 and 1
    matches = rng.random(300) < scores**2
    found = reliability(scores, matches)
    assert found.auc == pytest.approx(roc_auc_score(matches, scores))
    assert found.counts.sum() == 300
    gaps = 0.0
    for low in range(10):
        inside = (scores >= low / 10 - 1e-9) & ((scores < (low + 1) / 10 - 1e-9) | (low == 9))
        gaps += abs(scores[inside].sum() - matches[inside].sum())
    assert found.error == pytest.approx(gaps / 300)
    assert reliability(np.array([0.5]), np.array([True])).auc is None
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, bool)).error)


def test_false_ones_among_the_lowest() -> None:
    scores, matches = np.linspace(0, 1, 100), np.arange(100) >= 10
    assert false_among_lowest(scores, matches) == 0.5
    assert false_among_lowest(scores, np.ones(100, bool)) is None
