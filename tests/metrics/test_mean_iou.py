"""IoU of classes against hotcoco, by hand, and by its invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hotcoco.semantic import SemanticEval

from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.metrics.mean_iou import MeanIoU

LABEL_SET = LabelSet([Category(4 * n, f"class{n}", n % 2 == 0) for n in range(5)])


def test_against_hotcoco():
    rng = np.random.default_rng(0)
    ours, theirs = MeanIoU(LABEL_SET), SemanticEval(5)
    for _ in range(4):
        truth = rng.integers(0, 5, (30, 40)).astype(np.uint8)
        prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 5, truth.shape)).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.1] = IGNORE
        ours.update(prediction, truth)
        theirs.update(truth, prediction)
    assert ours.compute().miou == pytest.approx(theirs.report()["metrics"]["mIoU"], abs=1e-12)
    assert ours.confusion[:, :5].tolist() == np.asarray(theirs.confusion()).tolist()


def test_by_hand():
    iou = MeanIoU(LABEL_SET)
    iou.update([[0, 0, 1, 1, 2]], [[0, 1, 1, 1, IGNORE]])
    result = iou.compute()
    assert result.per_class == {
        "class0": 1 / 2, "class1": 2 / 3, "class2": None, "class3": None, "class4": None,
    }  # fmt: skip
    assert result.miou == pytest.approx(7 / 12)


def test_predicted_void_is_missed():
    iou = MeanIoU(LABEL_SET)
    iou.update([[0, IGNORE]], [[0, 0]])
    assert iou.compute().miou == 0.5


def test_a_class_that_is_only_predicted_counts():
    iou = MeanIoU(LABEL_SET)
    iou.update([[0, 3]], [[0, 0]])
    assert iou.compute().per_class["class3"] == 0.0
    assert iou.compute().miou == 0.25


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_truth_against_itself(dtype):
    truth = np.random.default_rng(1).integers(0, 4, (9, 9)).astype(dtype)
    truth[0, 0] = IGNORE
    iou = MeanIoU(LABEL_SET)
    iou.update(truth, truth)
    assert iou.compute().miou == 1.0
    assert iou.compute().per_class["class4"] is None


def test_nothing():
    iou = MeanIoU(LABEL_SET)
    assert iou.compute().miou is None
    iou.update(np.zeros((0, 3), int), np.zeros((0, 3), int))
    iou.update([[2]], [[IGNORE]])
    assert iou.compute().miou is None


def test_merge_is_update():
    rng = np.random.default_rng(2)
    whole, left, right = (MeanIoU(LABEL_SET) for _ in range(3))
    for part in (left, right):
        prediction, truth = rng.integers(0, 5, (2, 8, 8))
        whole.update(prediction, truth)
        part.update(prediction, truth)
    left.merge(right)
    assert left.compute() == whole.compute()
    with pytest.raises(ValueError, match="different classes"):
        left.merge(MeanIoU(LabelSet([Category(1, "other", False)])))


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ([[0, 1]], [[0]], "expected one size"),
        ([[5]], [[0]], "prediction: class index 5 is not in the label set of 5 classes"),
        ([[0]], [[9]], "truth: class index 9"),
        ([[0.5]], [[0]], "expected an HxW array of integers"),
        ([[256]], [[0]], "expected class indices 0..255, found 256..256"),
        ([[-1]], [[0]], "found -1"),
    ],
)
def test_errors(prediction, truth, message):
    iou = MeanIoU(LABEL_SET)
    with pytest.raises(ValueError, match=message):
        iou.update(prediction, truth)
    assert iou.confusion.sum() == 0
