"""The error census: hand-made cases, a slow pixel-by-pixel oracle, and the counts of Panoptic Quality."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.error_census import PREDICTED_LABELS, TRUE_LABELS, ErrorCensus, classify_objects
from panembed.metrics.overlaps import count_overlaps
from panembed.metrics.panoptic_quality import match_segments

CLASSES = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])


def row(*runs: tuple[int, int, int]) -> PanopticMap:
    """One row of pixels from (length, class, instance)."""
    semantic = np.concatenate([np.full(length, category) for length, category, _ in runs])
    instance = np.concatenate([np.full(length, number) for length, _, number in runs])
    return PanopticMap(semantic[None], instance[None])


def labels(prediction: PanopticMap, truth: PanopticMap, **thresholds: float) -> tuple[list[str], list[str]]:
    true, predicted = classify_objects(count_overlaps(prediction, truth, CLASSES), CLASSES, **thresholds)
    return [TRUE_LABELS[i] for i in true if i >= 0], [PREDICTED_LABELS[i] for i in predicted if i >= 0]


@pytest.mark.parametrize(
    ("truth", "prediction", "true", "predicted"),
    [
        (row((10, 1, 1)), row((10, 1, 4)), ["found"], ["found"]),
        (row((10, 1, 1), (10, 0, 0)), row((10, 0, 0), (10, 1, 1)), ["missed"], ["spurious"]),
        (row((10, 1, 1), (10, 1, 2)), row((20, 1, 1)), ["merged", "merged"], ["merged"]),
        # One prediction that finds the larger object and swallows the smaller.
        (row((10, 1, 1), (4, 1, 2)), row((14, 1, 1)), ["found", "merged"], ["found"]),
        # Its two halves under two neighbours' predictions.
        (row((9, 1, 1), (4, 1, 2), (9, 1, 3)),
         row((11, 1, 1), (11, 1, 2)), ["found", "merged", "found"], 2 * ["found"]),
        (row((10, 1, 1)), row((5, 1, 1), (5, 1, 2)), ["split"], ["split", "split"]),
        (row((10, 1, 1)), row((7, 1, 1), (3, 1, 2)), ["found"], ["found", "split"]),
        # Two crumbs leave most of the object out.
        (row((20, 1, 1)), row((1, 1, 1), (18, 0, 0), (1, 1, 2)), ["missed"], ["split", "split"]),
        (row((10, 1, 1), (10, 0, 0)), row((6, 0, 0), (10, 1, 1), (4, 0, 0)), ["boundary"], ["boundary"]),
        (row((20, 1, 1), (1, 0, 0)), row((18, 0, 0), (3, 1, 1)), ["missed"], ["spurious"]),
        (row((10, 1, 1)), row((9, 2, 1), (1, 0, 0)), ["wrong_class"], ["wrong_class"]),
        # Stuff where an object is: missed.
        (row((10, 1, 1)), row((10, 0, 0)), ["missed"], []),
        (row((10, 0, 0)), row((9, 0, 0), (1, 1, 1)), [], ["spurious"]),
        (row((10, IGNORE, 0)), row((10, 1, 1)), [], ["ignored"]),
        (row((10, 0, 0)), row((10, 0, 0)), [], []),
    ],
)  # fmt: skip
def test_by_hand(truth: PanopticMap, prediction: PanopticMap, true: list[str], predicted: list[str]) -> None:
    assert labels(prediction, truth) == (true, predicted)


def test_a_crowd_is_no_object_and_forgives() -> None:
    truth = row((10, 1, 1), (5, 0, 0))
    truth = PanopticMap(truth.semantic, truth.instance, [(1, 1)])
    assert labels(row((4, 1, 1), (4, 1, 2), (7, 1, 3)), truth) == ([], ["ignored", "ignored", "spurious"])


def test_thresholds_decide() -> None:
    truth, prediction = row((10, 1, 1), (10, 0, 0)), row((7, 0, 0), (10, 1, 1), (3, 0, 0))
    assert labels(prediction, truth) == (["boundary"], ["boundary"])
    assert labels(prediction, truth, least=0.3) == (["missed"], ["spurious"])
    truth, prediction = row((30, 1, 1), (10, 1, 2)), row((36, 1, 1), (4, 0, 0))
    assert labels(prediction, truth)[0] == ["found", "merged"]
    assert labels(prediction, truth, most=0.6)[0] == ["found", "missed"]


@pytest.mark.parametrize("thresholds", [{"most": 0.4}, {"most": 1.0}, {"least": 0.6}, {"least": -0.1}])
def test_thresholds_out_of_range(thresholds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected 0\.5 <= most < 1"):
        labels(row((1, 1, 1)), row((1, 1, 1)), **thresholds)


@st.composite
def maps(draw: st.DrawFn, with_void: bool = True) -> PanopticMap:
    """Small maps of few, large, overlapping objects."""
    shape = (draw(st.integers(1, 6)), 8)
    semantic = np.zeros((6, 8), dtype=np.int64)
    instance = np.zeros((6, 8), dtype=np.int64)
    kinds = st.sampled_from([0, 1, 1, 1, 2, IGNORE] if with_void else [0, 1, 1, 2])
    for number in range(draw(st.integers(0, 6))):
        y, x = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, 7))
        height, width = draw(st.integers(1, 6)), draw(st.integers(1, 8))
        category = draw(kinds)
        semantic[y : y + height, x : x + width] = category
        instance[y : y + height, x : x + width] = number + 1 if category in (1, 2) else 0
    noise = draw(arrays(np.bool_, (6, 8), elements=st.booleans())) & draw(st.booleans())
    instance = np.where(noise & (instance > 0), 1, instance)
    crowd = {(1, draw(st.integers(1, 3)))} if draw(st.booleans()) else set()
    return PanopticMap(semantic, instance, crowd if with_void else ())


def slow_labels(prediction: PanopticMap, truth: PanopticMap, most: float, least: float) -> tuple[list[str], list[str]]:
    """The table of the docstring, with masks and sets."""

    def objects(panoptic: PanopticMap, crowds: bool) -> list[tuple[int, np.ndarray]]:
        found = []
        for category in (1, 2):
            mask = panoptic.semantic == category
            for number in sorted(set(panoptic.instance[mask].tolist()) - {0}):
                if crowds or (category, number) not in panoptic.crowd:
                    found.append((category, mask & (panoptic.instance == number)))
        return found

    void = truth.semantic == IGNORE
    void |= (truth.semantic > 0) & (truth.instance == 0)
    T, P = objects(truth, crowds=False), objects(prediction, crowds=True)
    crowd_of = {
        c: np.logical_or.reduce([np.zeros(truth.shape, bool)] + [
            (truth.semantic == c) & (truth.instance == n) for k, n in truth.crowd if k == c
        ]) for c in (1, 2)
    }  # fmt: skip
    inter = np.array([[np.count_nonzero(t & p) for _, p in P] for _, t in T]).reshape(len(T), len(P))
    t_area = [np.count_nonzero(t) for _, t in T]
    p_area = [np.count_nonzero(p & ~void) for _, p in P]
    pairs = [(i, j) for i in range(len(T)) for j in range(len(P)) if inter[i, j]]
    same = {(i, j) for i, j in pairs if T[i][0] == P[j][0]}
    high = {(i, j) for i, j in pairs if inter[i, j] / (t_area[i] + p_area[j] - inter[i, j]) > 0.5}
    match = high & same
    covers = {(i, j) for i, j in same if (i, j) in match or inter[i, j] > most * t_area[i]}
    inside = {(i, j) for i, j in same if (i, j) in match or inter[i, j] > most * p_area[j]}
    tp, pp = {i for i, _ in match}, {j for _, j in match}
    near = {
        (i, j) for i, j in same - {(i, j) for i, j in same if i in tp or j in pp}
        if inter[i, j] / t_area[i] > least and inter[i, j] / p_area[j] > least
    }  # fmt: skip

    def true_label(i: int) -> str:
        if i in tp:
            return "found"
        if any(a == i for a, _ in high - same):
            return "wrong_class"
        swallowers = {j for a, j in same if a == i and any(b == j and c != i for c, b in covers)}
        if sum(inter[i, j] for j in swallowers) > most * t_area[i]:
            return "merged"
        pieces = {j for a, j in inside if a == i}
        if len(pieces) >= 2 and sum(inter[i, j] for j in pieces) > most * t_area[i]:
            return "split"
        return "boundary" if any(a == i for a, _ in near) else "missed"

    def predicted_label(j: int) -> str:
        if j in pp:
            return "found"
        if np.count_nonzero(P[j][1] & (void | crowd_of[P[j][0]])) > 0.5 * np.count_nonzero(P[j][1]):
            return "ignored"
        if any(b == j for _, b in high - same):
            return "wrong_class"
        if sum(b == j for _, b in covers) >= 2:
            return "merged"
        hosts = {i for i, b in same if b == j and any(a == i and c != j for a, c in inside)}
        if sum(inter[i, j] for i in hosts) > most * p_area[j]:
            return "split"
        return "boundary" if any(b == j for _, b in near) else "spurious"

    return [true_label(i) for i in range(len(T))], [predicted_label(j) for j in range(len(P))]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(maps(), maps(with_void=False), st.sampled_from([(0.5, 0.1), (0.8, 0.25)]))
def test_as_the_definition_says(truth: PanopticMap, prediction: PanopticMap, limits: tuple[float, float]) -> None:
    most, least = limits
    assert labels(prediction, truth, most=most, least=least) == slow_labels(prediction, truth, most, least)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(maps(), maps(with_void=False)), max_size=3), st.integers(1, 6))
def test_counts_add_up_to_those_of_panoptic_quality(
    images: list[tuple[PanopticMap, PanopticMap]], num_sizes: int
) -> None:
    census, halves = ErrorCensus(CLASSES), [ErrorCensus(CLASSES), ErrorCensus(CLASSES)]
    rows, tp, fp, fn = [], np.zeros(3, int), np.zeros(3, int), np.zeros(3, int)
    for number, (truth, prediction) in enumerate(images):
        rows.append(census.update(prediction, truth))
        halves[number % 2].update(prediction, truth)
        counts = match_segments(prediction, truth, CLASSES)
        tp, fp, fn = tp + counts.tp, fp + counts.fp, fn + counts.fn
    data = census.compute(num_sizes)
    for index in CLASSES.things:
        true, predicted = (data["per_class"][CLASSES[index].name][key] for key in ("true", "predicted"))
        assert true["found"] == predicted["found"] == tp[index]
        assert true["objects"] - true["found"] == fn[index]
        assert predicted["objects"] - predicted["found"] - predicted["ignored"] == fp[index]
        assert true["objects"] == sum(true[name] for name in TRUE_LABELS)
        assert predicted["objects"] == sum(predicted[name] for name in PREDICTED_LABELS)
    for name in TRUE_LABELS:
        assert sum(r[f"census_{name}"] for r in rows) == data["true"][name]
        assert sum(group[name] for group in data["by_size"]) == data["true"][name]
    for name in PREDICTED_LABELS:
        assert sum(r[f"census_predicted_{name}"] for r in rows) == data["predicted"][name]
    assert sum(group["objects"] for group in data["by_size"]) == data["true"]["objects"]
    ends = [(group["area_from"], group["area_to"]) for group in data["by_size"]]
    assert all(low <= high for low, high in ends)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
    assert len(ends) <= num_sizes
    halves[0].merge(halves[1])
    assert halves[0].compute(num_sizes) == data


@settings(max_examples=100, deadline=None)
@given(maps(), maps(with_void=False), st.permutations([1, 2, 3, 4, 5, 6]))
def test_numbers_are_names_only(truth: PanopticMap, prediction: PanopticMap, order: list[int]) -> None:
    renamed = PanopticMap(prediction.semantic, np.array([0, *order])[prediction.instance])
    assert ErrorCensus(CLASSES).update(renamed, truth) == ErrorCensus(CLASSES).update(prediction, truth)


def test_equal_groups_of_sizes() -> None:
    truth = row(*((area, 1, area) for area in range(1, 13)))
    census = ErrorCensus(CLASSES)
    census.update(truth, truth)
    groups = census.compute()["by_size"]
    assert [(g["area_from"], g["area_to"], g["found"]) for g in groups] == [
        (1, 3, 3),
        (4, 6, 3),
        (7, 9, 3),
        (10, 12, 3),
    ]


def test_only_like_censuses_merge() -> None:
    with pytest.raises(ValueError, match="different classes or thresholds"):
        ErrorCensus(CLASSES).merge(ErrorCensus(CLASSES, most=0.8))
