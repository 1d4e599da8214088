"""Average precision against a plain rewriting of the definition, hotcoco's matching, by hand, and by its invariants."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hotcoco import COCO, COCOeval
from hotcoco import mask as coco_mask
from hypothesis import given, settings
from hypothesis import strategies as st

from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.average_precision import THRESHOLDS, AveragePrecision, match_objects

LABEL_SET = LabelSet([Category(7, "road", False), Category(24, "person", True), Category(26, "car", True)])
LEAF = LabelSet([Category(0, "soil", False), Category(1, "leaf", True)])


def row(*runs, crowd=()):
    """One line of leaf pixels from (instance, length); 0 is soil, -1 void."""
    values = np.concatenate([np.full(length, instance) for instance, length in runs])[None]
    semantic = np.where(values < 0, IGNORE, np.where(values > 0, 1, 0))
    return PanopticMap(semantic, np.maximum(values, 0), [(1, number) for number in crowd])


def result(prediction, truth, min_area=0, label_set=LEAF):
    metric = AveragePrecision(label_set, min_area)
    metric.update(prediction, truth)
    return metric.compute()


def random_map(rng, shape=(24, 32), num_objects=9, void=True):
    semantic, instance = np.zeros(shape, int), np.zeros(shape, int)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for number in range(1, num_objects + 1):
        cy, cx, radius = rng.integers(shape[0]), rng.integers(shape[1]), rng.integers(2, 8)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        semantic[disc], instance[disc] = rng.integers(1, 3), number
    if void:
        corner = (slice(0, int(rng.integers(1, 9))), slice(0, int(rng.integers(1, 17))))
        semantic[corner], instance[corner] = IGNORE, 0
    return semantic, instance


def disturbed(rng, semantic, instance):
    shift = tuple(rng.integers(-1, 2, 2))
    semantic, instance = np.roll(semantic, shift, (0, 1)).copy(), np.roll(instance, shift, (0, 1)).copy()
    for number in rng.integers(1, 10, 2):
        semantic[instance == number], instance[instance == number] = 0, 0
    semantic[semantic == IGNORE], instance[semantic == IGNORE] = 1, 40
    semantic[-4:, -4:], instance[-4:, -4:] = 2, 50
    return PanopticMap(semantic, instance)


def random_pair(seed, void=True, crowds=True):
    rng = np.random.default_rng(seed)
    semantic, instance = random_map(rng, void=void)
    crowd = [(c, n) for c in (1, 2) for n in range(1, 10) if crowds and rng.random() < 0.2]
    return disturbed(rng, semantic, instance), PanopticMap(semantic, instance, crowd)


# The definition once more, as slow and plain as can be: masks, lists, and a precision-recall curve of any length.


def objects_of(panoptic, index):
    numbers = sorted(set(panoptic.instance[panoptic.semantic == index].tolist()))
    return {n: (panoptic.semantic == index) & (panoptic.instance == n) for n in numbers if n}


def slow_ap(pairs, index, threshold, min_area):
    labels, scores, missed, any_truth, any_prediction = [], [], 0, False, False
    for prediction, truth in pairs:
        predicted, true = objects_of(prediction, index), objects_of(truth, index)
        void = truth.semantic == IGNORE
        crowd = {n for n in true if (index, n) in truth.crowd}
        small = {n for n in true if true[n].sum() < min_area}
        any_truth |= any(n not in crowd | small for n in true)
        any_prediction |= bool(predicted)

        def iou(a, b):
            return (a & b).sum() / (a | b).sum()

        for n, mask in true.items():
            if n in crowd | small:
                continue
            if any(iou(mask, other) > threshold for other in predicted.values()):
                labels.append(1)
                scores.append(1.0)
            else:
                missed += 1
        for mask in predicted.values():
            if any(iou(mask, other) > threshold for other in true.values()):
                continue
            ignored = (mask & void).sum()
            ignored += sum((mask & true[n]).sum() for n in crowd)
            ignored += sum((mask & true[n]).sum() for n in small)
            if ignored / mask.sum() <= threshold:
                labels.append(0)
                scores.append(1.0)
    if not any_truth:
        return None
    if not any_prediction or not labels:
        return 0.0
    # Points of the curve, from accepting all to accepting none, where precision is taken for 1.
    points = []
    for score in sorted(set(scores)):
        accepted = [label for label, own in zip(labels, scores) if own >= score]
        points.append((sum(accepted) / (sum(labels) + missed), sum(accepted) / len(accepted)))
    points.append((0.0, 1.0))
    recalls = [points[0][0], *(r for r, _ in points), 0.0]
    return sum(p * (recalls[i] - recalls[i + 2]) / 2 for i, (_, p) in enumerate(points))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("min_area", [0, 25])
def test_against_the_definition(seed, min_area):
    pairs = [random_pair(3 * seed + k) for k in range(3)]
    metric = AveragePrecision(LABEL_SET, min_area)
    for prediction, truth in pairs:
        metric.update(prediction, truth)
    ours = metric.compute()
    values = {}
    for index in LABEL_SET.things:
        slow = [slow_ap(pairs, index, threshold, min_area) for threshold in THRESHOLDS]
        score = ours.per_class[LABEL_SET[index].name]
        if slow[0] is None:
            assert (score.ap, score.ap50, score.num_truth) == (None, None, 0)
            continue
        values[index] = slow
        assert score.ap == pytest.approx(np.mean(slow), abs=1e-12)
        assert score.ap50 == pytest.approx(slow[0], abs=1e-12)
    assert ours.ap == pytest.approx(np.mean(list(values.values())), abs=1e-12)
    assert ours.ap50 == pytest.approx(np.mean([slow[0] for slow in values.values()]), abs=1e-12)


def hotcoco_counts(prediction, truth, index):
    """TP and FN of every threshold, and predictions, as hotcoco's COCOeval matches masks."""

    def segmentations(panoptic):
        return [coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in objects_of(panoptic, index).values()]

    height, width = truth.shape
    truths = [
        {"id": n, "image_id": 1, "category_id": 1, "segmentation": s, "area": float(coco_mask.area(s)), "iscrowd": 0}
        | {"bbox": [0.0, 0.0, 1.0, 1.0]}
        for n, s in enumerate(segmentations(truth), start=1)
    ]
    found = [{"image_id": 1, "category_id": 1, "segmentation": s, "score": 1.0} for s in segmentations(prediction)]
    coco = COCO(
        {
            "images": [{"id": 1, "height": height, "width": width, "file_name": "a"}],
            "annotations": truths,
            "categories": [{"id": 1, "name": "a"}],
        }
    )
    evaluation = COCOeval(coco, coco.load_res(found), "segm")
    # COCO takes an IoU equal to the threshold for a match, Cityscapes doesn't.
    evaluation.params.iouThrs = [threshold + 1e-9 for threshold in THRESHOLDS]
    evaluation.evaluate()
    evaluation.accumulate()
    recall = np.asarray(evaluation.eval["recall"]).reshape(10, 1, 4, -1)[:, 0, 0, -1]
    tp = np.rint(recall * len(truths)).astype(int)
    return tp, len(truths) - tp, len(found)


@pytest.mark.parametrize("seed", range(8))
def test_matching_is_that_of_hotcoco(seed):
    """Without void, groups and small truth all agree on what is found; only the curve is drawn differently."""
    prediction, truth = random_pair(seed, void=False, crowds=False)
    counts = match_objects(prediction, truth, LABEL_SET, min_area=0)
    for index in LABEL_SET.things:
        tp, fn, predicted = hotcoco_counts(prediction, truth, index)
        assert counts.tp[index].tolist() == tp.tolist()
        assert counts.fn[index].tolist() == fn.tolist()
        assert counts.fp[index].tolist() == (predicted - tp).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_truth_against_itself(seed):
    _, truth = random_pair(seed)
    ours = result(truth, truth, 0, LABEL_SET)
    assert (ours.ap, ours.ap50) == (1.0, 1.0)


def test_one_point_on_the_curve():
    """Two of three found, one of three wrong: recall 2/3, precision 2/3, and a step half-way to precision 1."""
    truth = row((1, 10), (2, 10), (3, 10), (0, 10))
    ours = result(row((1, 10), (2, 10), (0, 10), (3, 10)), truth)
    assert ours.ap50 == ours.ap == pytest.approx(2 / 3 * (1 + 2 / 3) / 2)


def test_iou_must_exceed_the_threshold():
    truth, half = row((1, 10), (0, 10)), row((1, 5), (0, 15))
    assert result(half, truth).ap50 == 0.0
    ours = result(row((1, 6), (0, 14)), truth)  # IoU 0.6: above 0.50 and 0.55
    assert ours.ap50 == 1.0
    assert ours.ap == pytest.approx(0.2)


def test_void_counts_in_the_union():
    """In Panoptic Quality this pair has IoU 1; here it is 0.5, no match."""
    truth, prediction = row((1, 10), (-1, 10)), row((1, 20))
    counts = match_objects(prediction, truth, LEAF, 0)
    assert counts.tp[1].tolist() == [0] * 10
    # Half of it is void: more than no threshold.
    assert counts.fp[1].tolist() == [1] * 10


def test_prediction_on_void_is_dropped_above_the_threshold():
    counts = match_objects(row((1, 20)), row((0, 5), (-1, 15)), LEAF, 0)  # 75 % void
    assert counts.fp[1].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_groups_are_neither_missed_nor_wrong():
    truth = row((1, 10), (2, 20), (0, 10), crowd=[2])
    inside = row((1, 10), (5, 4), (6, 4), (0, 22))
    assert result(inside, truth).ap == 1.0
    assert result(row((1, 10), (0, 30)), truth).ap == 1.0
    assert result(row((1, 10), (7, 20), (0, 10)), truth).ap == 1.0
    assert result(row((1, 10), (0, 20), (7, 10)), truth).ap50 == 0.75


def test_group_without_number():
    """As Cityscapes has them: instance 0, listed as a crowd; unlisted, such pixels are void."""
    semantic, instance = [[1] * 10 + [1] * 10], [[3] * 10 + [0] * 10]
    prediction = PanopticMap(semantic, [[3] * 10 + [4] * 10])
    for crowd in ([(1, 0)], []):
        truth = PanopticMap(semantic, instance, crowd)
        assert result(prediction, truth).ap == 1.0


def test_small_truth_is_ignored():
    truth = row((1, 10), (2, 3), (0, 10))
    assert result(row((1, 10), (0, 13)), truth, min_area=4).ap == 1.0
    assert result(truth, truth, min_area=4).ap == 1.0
    assert result(row((1, 10), (0, 13)), truth, min_area=3).ap50 == 0.5
    # 2 of 3 pixels on the small object: dropped up to 0.65.
    counts = match_objects(row((1, 10), (0, 1), (5, 2), (5, 1), (0, 9)), truth, LEAF, 4)
    assert counts.fp[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_what_is_not_there():
    soil, leaf = row((0, 20)), row((1, 10), (0, 10))
    assert result(soil, soil).to_dict() == {
        "ap": None, "ap50": None, "per_class": {"leaf": {"ap": None, "ap50": None, "num_truth": 0}},
    }  # fmt: skip
    assert result(soil, leaf).ap == 0.0
    assert result(leaf, soil).ap is None
    empty = PanopticMap(np.zeros((0, 4), int), np.zeros((0, 4), int))
    assert result(empty, empty).ap is None
    # All predictions dropped, nothing found: the official script crashes here.
    assert result(row((0, 10), (1, 10)), row((1, 10), (-1, 10))).ap == 0.0


def test_classes_without_truth_do_not_count():
    truth = PanopticMap([[1, 1, 0]], [[1, 1, 0]])
    ours = result(PanopticMap([[1, 1, 2]], [[1, 1, 1]]), truth, 0, LABEL_SET)
    assert ours.ap == 1.0
    assert ours.per_class["car"].ap is None


@given(st.permutations(range(1, 10)), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_numbers_of_objects_mean_nothing(order, seed):
    prediction, truth = random_pair(seed)
    lookup = np.zeros(60, int)
    lookup[1:10] = 10 * np.array(order)
    lookup[40], lookup[50] = 7, 3
    renamed = PanopticMap(prediction.semantic, lookup[prediction.instance])
    assert result(renamed, truth, 10, LABEL_SET) == result(prediction, truth, 10, LABEL_SET)


def test_merge_is_update():
    pairs = [random_pair(seed) for seed in range(4)]
    whole, left, right = (AveragePrecision(LABEL_SET, 10) for _ in range(3))
    for part, metric in zip(itertools.cycle((left, right)), [whole] * 4, strict=False):
        prediction, truth = pairs.pop()
        metric.update(prediction, truth)
        part.update(prediction, truth)
        if not pairs:
            break
    left.merge(right)
    assert left.compute() == whole.compute()
    with pytest.raises(ValueError, match="min_area 10"):
        left.merge(AveragePrecision(LABEL_SET, 0))
    with pytest.raises(ValueError, match="can't merge"):
        left.merge(AveragePrecision(LEAF, 10))


def test_errors():
    with pytest.raises(ValueError, match="found -1"):
        AveragePrecision(LEAF, -1)
    with pytest.raises(ValueError, match="expected one size"):
        result(row((1, 3)), row((1, 4)))
    with pytest.raises(ValueError, match="truth: class index 2"):
        result(row((1, 1)), PanopticMap([[2]], [[1]]))
