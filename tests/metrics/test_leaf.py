"""Leaf measures: by hand, against SciPy's Dice, and by their invariants."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.spatial.distance import dice as dice_distance

from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.leaf import LeafScores, best_dice, difference_in_count, foreground_dice, symmetric_best_dice
from panembed.metrics.overlaps import count_overlaps

LEAVES = LabelSet([Category(0, "soil", False), Category(1, "leaf", True)])
LABELS = np.array([0, 0, 3, 4, 90, 65535])
label_pairs = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(*[arrays(np.int64, shape, elements=st.sampled_from(LABELS.tolist()))] * 2)
)


def plain_best_dice(a: np.ndarray, b: np.ndarray) -> float:
    ids_a, ids_b = ([i for i in np.unique(x) if i] for x in (a, b))
    if not ids_a or not ids_b:
        return float(len(ids_a) == len(ids_b))
    best = [max(1 - dice_distance((a == i).ravel(), (b == j).ravel()) for j in ids_b) for i in ids_a]
    return float(np.mean(best))


@settings(max_examples=60, deadline=None)
@given(pair=label_pairs)
def test_equals_scipys_dice_of_masks(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    assert best_dice(a, b) == pytest.approx(plain_best_dice(a, b), abs=1e-12)
    assert difference_in_count(a, b) == len(set(a.ravel()) - {0}) - len(set(b.ravel()) - {0})
    if a.any() or b.any():
        assert foreground_dice(a, b) == pytest.approx(1 - dice_distance(a.ravel() > 0, b.ravel() > 0), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(pair=label_pairs)
def test_symmetric_in_range_and_blind_to_names(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    score = symmetric_best_dice(a, b)
    assert score == symmetric_best_dice(b, a)
    assert score == min(best_dice(a, b), best_dice(b, a))
    assert 0 <= score <= 1
    assert symmetric_best_dice(a, a) == 1
    renamed = np.array([0, 7, 5, 2])[np.searchsorted([0, 3, 4, 90], np.where(a == 65535, 0, a))]
    same = np.where(a == 65535, 0, a)
    assert symmetric_best_dice(renamed, b) == pytest.approx(symmetric_best_dice(same, b), abs=1e-12)


def test_by_hand_with_gaps() -> None:
    truth = np.array([[5, 5, 5, 5, 0, 200, 200, 0]], dtype=np.uint8)
    prediction = np.array([[1, 1, 1, 9, 9, 9, 0, 0]], dtype=np.uint16)
    # Dice with leaf 5: 6/7 and 2/7; with leaf 200: 0 and 2/5.
    assert best_dice(truth, prediction) == pytest.approx((6 / 7 + 2 / 5) / 2)
    assert best_dice(prediction, truth) == pytest.approx((6 / 7 + 2 / 5) / 2)
    assert foreground_dice(prediction, truth) == pytest.approx(2 * 5 / 12)
    assert difference_in_count(prediction, truth) == 0


def test_ids_too_large_for_a_float() -> None:
    ids = np.array([[2**60, 2**60 + 1]], np.uint64)
    assert difference_in_count(ids, np.zeros_like(ids)) == 2


def test_merged_leaves_cost_in_one_direction_only() -> None:
    truth, merged = np.array([[1, 1, 2, 2, 3, 3]]), np.array([[1, 1, 1, 1, 3, 3]])
    assert best_dice(merged, truth) == pytest.approx((2 / 3 + 1) / 2)
    assert best_dice(truth, merged) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert symmetric_best_dice(merged, truth) == pytest.approx(7 / 9)
    assert difference_in_count(merged, truth) == -1


def test_empty_predictions() -> None:
    empty, leaves = np.zeros((4, 4), dtype=int), np.eye(4, dtype=int)
    for score in (best_dice, symmetric_best_dice, foreground_dice):
        assert score(empty, leaves) == 0
        assert score(leaves, empty) == 0
        assert score(empty, empty) == 1
    no_pixels = np.zeros((0, 4), dtype=int)
    assert symmetric_best_dice(no_pixels, no_pixels) == 1


def test_scores_of_a_set_are_means_over_images_and_merge() -> None:
    truth = np.array([[1, 1, 2, 2, 0, 0]])
    predictions = [truth, np.zeros_like(truth), np.array([[1, 1, 2, 2, 3, 4]])]
    whole, first, second = LeafScores(), LeafScores(), LeafScores()
    images = [whole.update(prediction, truth) for prediction in predictions]
    assert images[1] == {"sbd": 0, "abs_dic": 2, "dic": -2, "fbd": 0}
    assert images[2] == pytest.approx({"sbd": 0.5, "abs_dic": 2, "dic": 2, "fbd": 0.8})
    assert LeafScores().update(truth, predictions[2])["sbd"] == pytest.approx(0.5)
    scores = whole.compute()
    assert scores == pytest.approx({"sbd": 0.5, "abs_dic": 4 / 3, "dic": 0, "fbd": 0.6})
    first.update(predictions[0], truth)
    for prediction in predictions[1:]:
        second.update(prediction, truth)
    first.merge(second)
    assert first.compute() == pytest.approx(scores)
    assert first.num_images == 3


@settings(max_examples=100, deadline=None)
@given(pair=label_pairs)
def test_overlaps_that_were_counted_give_the_same(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Where there is neither void nor crowd."""
    prediction, truth = (PanopticMap((labels > 0).astype(int), labels) for labels in pair)
    scores = LeafScores().add(count_overlaps(prediction, truth, LEAVES), len(LEAVES), 1)
    assert scores == pytest.approx(LeafScores().update(*pair), rel=1e-12)


def test_what_lies_on_void_is_of_no_leaf() -> None:
    truth = PanopticMap([[1] * 6 + [IGNORE] * 4], [[1] * 6 + [0] * 4])
    pairs = count_overlaps(PanopticMap([[1] * 10], [[1] * 10]), truth, LEAVES)
    assert LeafScores().add(pairs, 2, 1) == {"sbd": 1, "abs_dic": 0, "dic": 0, "fbd": 1}


def test_no_image_gives_none() -> None:
    assert LeafScores().compute() == {"sbd": None, "abs_dic": None, "dic": None, "fbd": None}


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"\(2, 3\) and \(3, 2\); expected one size"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), "expected HxW arrays of integers, found float64"),
        (np.zeros((2, 3, 3), int), np.zeros((2, 3, 3), int), "expected HxW arrays"),
        (np.full((2, 3), -1), np.zeros((2, 3), int), "labels >= 0, found -1"),
    ],
)
def test_wrong_input_is_told(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        symmetric_best_dice(a, b)


@pytest.mark.data
def test_real_leaves_against_scipy() -> None:
    data = os.environ.get("PANEMBED_DATA")
    if not data:
        pytest.skip("PANEMBED_DATA is not set")
    files = sorted((Path(data) / "cvppp" / "A1").glob("*_label.png"))[:2]
    if not files:
        pytest.skip("PANEMBED_DATA has no cvppp/A1 labels")
    for file in files:
        truth = np.asarray(Image.open(file))
        prediction = np.roll(truth, (4, -3), (0, 1))
        prediction = np.where(prediction == prediction.max(), 0, prediction)
        expected = min(plain_best_dice(prediction, truth), plain_best_dice(truth, prediction))
        assert 0.5 < expected < 0.95
        assert symmetric_best_dice(prediction, truth) == pytest.approx(expected, abs=1e-12)
        assert difference_in_count(prediction, truth) == -1
