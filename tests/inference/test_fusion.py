"""Class mask, confidence and majority against NumPy and SciPy; fusion by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from panembed.inference.fusion import class_mask, confidence, fuse, majority
from panembed.labels.categories import IGNORE


@pytest.mark.parametrize("num_classes", [1, 2, 19, 255])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_class_mask_is_argmax(num_classes: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    # Whole numbers, so that there are ties: the first class wins, as with argmax.
    scores = rng.integers(-5, 6, (num_classes, 17, 23)).astype(dtype)
    before = scores.copy()
    mask = class_mask(scores)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, scores.argmax(0))
    assert np.array_equal(scores, before)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_confidence_is_the_largest_softmax(scale: float) -> None:
    scores = (scale * np.random.default_rng(1).standard_normal((7, 11, 13))).astype(np.float32)
    expected = softmax(scores.astype(np.float64), axis=0).max(0)
    assert confidence(scores).dtype == np.float32
    assert np.allclose(confidence(scores), expected, rtol=1e-5)


def test_majority_is_the_most_frequent_class_and_the_lowest_of_two() -> None:
    rng = np.random.default_rng(0)
    classes, labels = rng.choice([0, 7, 254], 300).astype(np.uint8), rng.integers(-1, 60, 300).astype(np.int32)
    voted = majority(classes, labels)
    assert voted.dtype == np.uint8
    assert np.array_equal(voted[labels < 0], classes[labels < 0])
    for k in set(labels[labels >= 0].tolist()):
        values, counts = np.unique(classes[labels == k], return_counts=True)
        assert (voted[labels == k] == values[counts.argmax()]).all()


def test_fuse_numbers_clusters_within_each_class() -> None:
    semantic = np.array([[0, 1, 1, 2], [2, 1, 2, 0]], dtype=np.uint8)
    clusters = {1: np.array([1, 0, 1], dtype=np.int32), 2: np.array([0, -1, 5], dtype=np.int32)}
    panoptic = fuse(semantic, clusters)
    assert panoptic.semantic.tolist() == [[0, 1, 1, 2], [IGNORE, 1, 2, 0]]
    assert panoptic.instance.tolist() == [[0, 2, 1, 1], [0, 2, 2, 0]]
    assert panoptic.num_instances == 4
    assert semantic.tolist() == [[0, 1, 1, 2], [2, 1, 2, 0]]


def test_fuse_of_outliers_alone_is_void() -> None:
    panoptic = fuse(np.ones((2, 2), dtype=np.uint8), {1: np.full(4, -1, dtype=np.int32)})
    assert (panoptic.semantic == IGNORE).all()
    assert (panoptic.instance == 0).all()


def test_fuse_without_things() -> None:
    semantic = np.array([[0, 3]], dtype=np.uint8)
    assert fuse(semantic, {}).semantic.tolist() == [[0, 3]]
    assert fuse(semantic, {1: np.empty(0, dtype=np.int32)}).instance.tolist() == [[0, 0]]


def test_fuse_wants_a_label_for_every_pixel() -> None:
    with pytest.raises(ValueError, match="class 1: 2 pixels but 3 cluster labels"):
        fuse(np.array([[1, 1, 0]], dtype=np.uint8), {1: np.zeros(3, dtype=np.int32)})
