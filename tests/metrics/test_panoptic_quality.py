"""Panoptic Quality against hotcoco (panopticapi's rules, not our code), by hand, and by its invariants."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval, pq_compute
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality, PanopticQualityResult, match_segments

LABEL_SET = LabelSet(
    [
        Category(7, "sky", False),
        Category(0, "road", False),
        Category(3, "car", True),
        Category(900, "person", True),
        Category(12, "train", True),
        Category(13, "water", False),
    ]
)
THINGS = np.isin(np.arange(256), LABEL_SET.things)
ONE_THING = LabelSet([Category(1, "leaf", True)])
FIGURES = ("pq", "sq", "rq")


def write_coco(folder: Path, name: str, maps: list[PanopticMap], label_set: LabelSet) -> Path:
    """Write COCO panoptic files in the plainest way, without the package's own writer."""
    (folder / name).mkdir()
    annotations, images = [], []
    for image_id, panoptic in enumerate(maps, start=1):
        ids, segments = np.zeros(panoptic.shape, dtype=np.int64), []
        for index, category in enumerate(label_set):
            of_class = panoptic.semantic == index
            numbers = np.unique(panoptic.instance[of_class]).tolist() if category.is_thing else [0]
            for number in numbers:
                mask = of_class & (panoptic.instance == number) if category.is_thing else of_class
                crowd = (index, number) in panoptic.crowd
                if not mask.any() or (category.is_thing and number == 0 and not crowd):
                    continue
                segment_id = 70_000 + 300 * len(segments)
                ids[mask] = segment_id
                area = int(mask.sum())
                segments.append(
                    {"id": segment_id, "category_id": category.id, "area": area, "iscrowd": int(crowd), "bbox": [0] * 4}
                )
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / name / f"{image_id}.png")
        annotations.append({"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments})
        height, width = panoptic.shape
        images.append({"id": image_id, "file_name": f"{image_id}.jpg", "height": height, "width": width})
    categories = [{"id": c.id, "name": c.name, "isthing": int(c.is_thing)} for c in label_set]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def assert_equals_hotcoco(
    folder: Path, predictions: list[PanopticMap], truths: list[PanopticMap], label_set: LabelSet
) -> PanopticQualityResult:
    truth_file = write_coco(folder, "truth", truths, label_set)
    prediction_file = write_coco(folder, "prediction", predictions, label_set)
    evaluation = PanopticEval(str(truth_file), str(prediction_file))
    evaluation.evaluate()
    theirs = evaluation.results()
    quality = PanopticQuality(label_set)
    for prediction, truth in zip(predictions, truths, strict=True):
        quality.update(prediction, truth)
    ours = quality.compute()
    for name, score in (("All", ours.all), ("Things", ours.things), ("Stuff", ours.stuff)):
        assert score.num_classes == theirs[name]["n"]
        for figure in FIGURES:
            expected = theirs[name][figure]
            assert getattr(score, figure) == (None if expected == -1 else pytest.approx(expected, abs=1e-9))
    for category in label_set:
        score, expected = ours.per_class[category.name], theirs["per_class"][category.id]
        assert (score.tp, score.fp, score.fn) == (expected["tp"], expected["fp"], expected["fn"])
        for figure in FIGURES:
            value = expected[figure]
            assert getattr(score, figure) == (None if value == -1 else pytest.approx(value, abs=1e-9))
    return ours


def random_pair(seed: int, *, crowds: int = 2, shape: tuple[int, int] = (24, 40)) -> tuple[PanopticMap, PanopticMap]:
    """Make a truth of blocks with void, crowds and absent classes, and a prediction shifted and with other blocks."""
    rng = np.random.default_rng(seed)
    blocks = (-(-shape[0] // 4), -(-shape[1] // 5))
    classes = rng.choice(len(LABEL_SET), size=rng.integers(1, len(LABEL_SET) + 1), replace=False)

    def grown(array: np.ndarray) -> np.ndarray:
        return np.kron(array, np.ones((4, 5), dtype=int))[: shape[0], : shape[1]]

    def draw() -> tuple[np.ndarray, np.ndarray]:
        semantic = rng.choice(np.append(classes, IGNORE), size=blocks)
        return grown(semantic), grown(rng.integers(0, 4, size=blocks))

    semantic, instance = draw()
    possible = [(int(c), i) for c in LABEL_SET.things for i in range(4)]
    marked = {c: [p for p in possible if p[0] == c] for c in LABEL_SET.things}
    crowd = [p for group in marked.values() for p in rng.permutation(group)[: rng.integers(0, crowds + 1)].tolist()]
    truth = PanopticMap(semantic, instance, [tuple(p) for p in crowd])
    other_semantic, other_instance = draw()
    moved = (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
    keep = grown(rng.random(blocks)) < rng.choice([0.0, 0.6, 0.9, 1.0])
    prediction = PanopticMap(
        np.where(keep, np.roll(semantic, moved, (0, 1)), other_semantic),
        np.where(keep, np.roll(instance, moved, (0, 1)), other_instance),
        rng.permutation(possible)[: rng.integers(0, 3)].tolist(),
    )
    return prediction, truth


@pytest.mark.parametrize("seed", range(20))
def test_equals_hotcoco_on_random_pairs(seed: int, tmp_path: Path) -> None:
    pairs = [random_pair(100 * seed + k) for k in range(3)]
    assert_equals_hotcoco(tmp_path, [p for p, _ in pairs], [t for _, t in pairs], LABEL_SET)


def test_random_pairs_reach_every_rule() -> None:
    """The comparison above is worth something only if its pairs have matches, misses, wrong ones, void and crowds."""
    total = PanopticQuality(LABEL_SET)
    num_crowds = 0
    for seed in range(20):
        for k in range(3):
            prediction, truth = random_pair(100 * seed + k)
            total.update(prediction, truth)
            num_crowds += any((truth.semantic == c)[truth.instance == i].any() for c, i in truth.crowd)
    for score in total.compute().per_class.values():
        assert min(score.tp, score.fp, score.fn) > 5
        assert score.sq is not None
        assert score.sq < 1
    assert num_crowds > 20


def test_equals_hotcoco_with_empty_images(tmp_path: Path) -> None:
    void = PanopticMap(np.full((6, 8), IGNORE), np.zeros((6, 8), dtype=int))
    full = PanopticMap(np.full((6, 8), 2), np.repeat([[1, 2]], 6, axis=0).repeat(4, axis=1))
    result = assert_equals_hotcoco(tmp_path, [void, full, void, full], [full, void, void, full], LABEL_SET)
    assert (result.per_class["car"].tp, result.per_class["car"].fp, result.per_class["car"].fn) == (2, 0, 2)
    assert result.stuff.pq is None


def test_equals_hotcoco_pq_compute(tmp_path: Path) -> None:
    prediction, truth = random_pair(3)
    ours = assert_equals_hotcoco(tmp_path, [prediction], [truth], LABEL_SET)
    theirs = pq_compute(str(tmp_path / "truth.json"), str(tmp_path / "prediction.json"))
    assert ours.all.pq == pytest.approx(theirs["All"]["pq"], abs=1e-9)


def perturbed(truth: PanopticMap, seed: int) -> PanopticMap:
    """Shift, merge two objects, drop one, turn a patch to void and one to another class: what networks do wrong."""
    rng = np.random.default_rng(seed)
    semantic = np.roll(truth.semantic, (2, -1), (0, 1)).copy()
    instance = np.roll(truth.instance, (2, -1), (0, 1)).copy()
    ids = np.unique(instance[instance > 0])
    if len(ids) > 3:
        merged, kept, dropped = rng.choice(ids, 3, replace=False)
        instance[instance == merged] = kept
        instance[instance == dropped] = 0
    height, width = truth.shape
    semantic[: height // 5, : width // 4] = IGNORE
    y, x = height // 2, width // 2
    semantic[y : y + height // 8, x : x + width // 8] = 0
    return PanopticMap(semantic, instance)


def real_labels(folder: str, pattern: str, count: int) -> list[PanopticMap]:
    data = os.environ.get("PANEMBED_DATA")
    if not data:
        pytest.skip("PANEMBED_DATA is not set")
    files = sorted((Path(data) / folder).glob(pattern))[:count]
    if not files:
        pytest.skip(f"PANEMBED_DATA has no {folder}/{pattern}")
    labels = [np.asarray(Image.open(file)).astype(np.int32) for file in files]
    assert all(label.ndim == 2 and label.max() > 0 for label in labels)
    return [PanopticMap(label > 0, label) for label in labels]


@pytest.mark.data
@pytest.mark.parametrize(("folder", "pattern"), [("cvppp/A1", "*_label.png"), ("nuclei/labels", "*.png")])
def test_equals_hotcoco_on_real_labels(folder: str, pattern: str, tmp_path: Path) -> None:
    label_set = LabelSet([Category(0, "background", False), Category(1, "object", True)])
    truths = real_labels(folder, pattern, 8)
    predictions = [perturbed(truth, seed) for seed, truth in enumerate(truths)]
    # Part of the truth is not annotated, and one object of each image is a crowd.
    for truth in truths:
        truth.semantic[-truth.shape[0] // 6 :] = IGNORE
    truths = [PanopticMap(t.semantic, t.instance, [(1, int(t.instance.max()))]) for t in truths]
    result = assert_equals_hotcoco(tmp_path, predictions, truths, label_set)
    assert result.things.tp > 20
    assert result.things.fn > 5


def counts_of(prediction: list[int], truth: list[int], crowd: tuple[int, ...] = ()) -> tuple[int, int, int, float]:
    """Match rows of one thing class; -1 is void."""
    maps = [
        PanopticMap(np.where(row < 0, IGNORE, 0)[None], row.clip(0)[None], [(0, i) for i in ids])
        for row, ids in ((np.array(prediction), ()), (np.array(truth), crowd))
    ]
    counts = match_segments(maps[0], maps[1], ONE_THING)
    return int(counts.tp[0]), int(counts.fp[0]), int(counts.fn[0]), float(counts.iou[0])


@pytest.mark.parametrize(
    ("prediction", "truth", "crowd", "expected"),
    [
        pytest.param([1, 1, 1, 0], [1, 1, 2, 2], (), (1, 0, 1, 2 / 3), id="iou two thirds matches"),
        pytest.param([1, 1, 0, 0], [1, 1, 1, 1], (), (0, 1, 1, 0.0), id="iou of one half does not match"),
        pytest.param([1, 1, 1, 1], [1, 1, -1, -1], (), (1, 0, 0, 1.0), id="union leaves out predicted area on void"),
        pytest.param([-1, -1, 1, 1], [1, 1, 1, 1], (), (0, 1, 1, 0.0), id="predicted void is not forgiven"),
        pytest.param([1, 1, 1, 1], [-1, -1, -1, 2], (), (1, 0, 0, 1.0), id="void around a match"),
        pytest.param([1, 1, 1, 1, 0, 0], [-1, -1, 2, 2, 2, 2], (), (0, 1, 1, 0.0), id="half on void is wrong"),
        pytest.param([1, 1, 1, 1, 0, 0], [-1, -1, -1, 2, 2, 2], (), (0, 0, 1, 0.0), id="over half on void is dropped"),
        pytest.param([1, 1, 1, 1], [5, 5, 5, 5], (5,), (0, 0, 0, 0.0), id="a crowd matches and misses nothing"),
        pytest.param([1, 1, 1, 1, 0], [5, 5, -1, 2, 2], (5,), (0, 0, 1, 0.0), id="void and crowd add up"),
        pytest.param([1, 1, 1, 1, 0], [5, 5, 2, 2, 2], (5,), (0, 1, 1, 0.0), id="half on a crowd is wrong"),
        pytest.param([1, 1, 0, 0], [3, 3, 5, 5], (3, 5), (0, 1, 0, 0.0), id="of two crowds the last counts"),
        pytest.param([0, 0, 1, 1], [3, 3, 5, 5], (3, 5), (0, 0, 0, 0.0), id="the last of two crowds"),
        pytest.param([1, 1, 1, 1], [0, 0, 0, 0], (), (0, 0, 0, 0.0), id="thing without instance is void"),
        pytest.param([1, 1, 1, 1], [0, 0, 0, 0], (0,), (0, 0, 0, 0.0), id="unless it is a crowd"),
        pytest.param([1, 1, 1, 1], [0, 0, 0, 7], (0,), (0, 0, 1, 0.0), id="a crowd is not void in the union"),
    ],
)
def test_rules_by_hand(
    prediction: list[int], truth: list[int], crowd: tuple[int, ...], expected: tuple[int, int, int, float]
) -> None:
    assert counts_of(prediction, truth, crowd) == pytest.approx(expected)


def test_a_crowd_forgives_only_its_own_class() -> None:
    truth = PanopticMap([[2, 2, 2]], [[0, 0, 0]], [(2, 0)])
    counts = match_segments(PanopticMap([[3, 3, 3]], [[1, 1, 1]]), truth, LABEL_SET)
    assert counts.fp.tolist() == [0, 0, 0, 1, 0, 0]


def test_equal_segments_of_another_class_do_not_match() -> None:
    counts = match_segments(PanopticMap([[2, 2]], [[1, 1]]), PanopticMap([[3, 3]], [[1, 1]]), LABEL_SET)
    assert (counts.tp.sum(), counts.fp.tolist(), counts.fn.tolist()) == (0, [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0])


def test_a_class_without_a_match_counts_zero_and_an_absent_one_not_at_all() -> None:
    truth = PanopticMap([[0, 0, 2, 2]], [[0, 0, 1, 1]])
    quality = PanopticQuality(LABEL_SET)
    result = quality.update(PanopticMap([[0, 0, IGNORE, IGNORE]], [[0, 0, 0, 0]]), truth)
    assert (result.all.pq, result.all.sq, result.all.rq, result.all.num_classes) == (0.5, 0.5, 0.5, 2)
    assert (result.things.pq, result.stuff.pq) == (0.0, 1.0)
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["per_class"]["water"]["pq"] is None
    assert plain["per_class"]["car"] == {"pq": 0, "sq": 0, "rq": 0, "num_classes": 1, "tp": 0, "fp": 0, "fn": 1}
    assert result == quality.compute()


def test_nothing_counted_is_none_not_nan() -> None:
    result = PanopticQuality(LABEL_SET).compute()
    assert (result.all.pq, result.things.sq, result.stuff.rq, result.all.num_classes) == (None, None, None, 0)
    empty = PanopticMap(np.zeros((0, 5), dtype=int), np.zeros((0, 5), dtype=int))
    assert PanopticQuality(LABEL_SET).update(empty, empty) == result


def test_wrong_input_is_told() -> None:
    small, large = (PanopticMap(np.zeros((2, n), dtype=int), np.zeros((2, n), dtype=int)) for n in (3, 4))
    quality = PanopticQuality(LABEL_SET)
    with pytest.raises(ValueError, match="the prediction is 2x3 but the truth is 2x4 pixels"):
        quality.update(small, large)
    with pytest.raises(ValueError, match="prediction: class index 6 is not in the label set of 6 classes"):
        quality.update(PanopticMap([[0, 6, IGNORE]], [[0, 0, 0]]), PanopticMap([[0, 0, 0]], [[0, 0, 0]]))
    with pytest.raises(ValueError, match="different classes"):
        quality.merge(PanopticQuality(ONE_THING))
    assert quality.compute().all.num_classes == 0


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_truth_against_itself_is_exactly_one(seed: int) -> None:
    _, truth = random_pair(seed, crowds=1)
    result = PanopticQuality(LABEL_SET).update(truth, truth)
    for score in (result.all, result.things, result.stuff, *result.per_class.values()):
        assert (score.pq, score.sq, score.rq) in ((1.0, 1.0, 1.0), (None, None, None))
        assert (score.fp, score.fn) == (0, 0)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, largest=st.sampled_from([4, 500, 2**31 - 1]))
def test_instance_numbers_and_stuff_numbers_mean_nothing(seed: int, largest: int) -> None:
    """Renumber both maps with gaps, and scatter numbers over stuff and void."""
    rng = np.random.default_rng(seed)
    pair = random_pair(seed, crowds=1)
    renumbered = []
    for panoptic in pair:
        names = np.append(
            0, rng.choice(largest, size=3, replace=False) + 1 if largest < 999 else largest - rng.permutation(3)
        )
        instance = np.where(THINGS[panoptic.semantic], names[panoptic.instance], rng.integers(0, 9, panoptic.shape))
        renumbered.append(PanopticMap(panoptic.semantic, instance, [(c, int(names[i])) for c, i in panoptic.crowd]))
    before, after = (match_segments(p, t, LABEL_SET) for p, t in (pair, renumbered))
    for name in ("tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_allclose(after.iou, before.iou, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_merge_of_halves_equals_the_whole(seed: int) -> None:
    pairs = [random_pair(seed + k) for k in range(4)]
    whole, first, second = (PanopticQuality(LABEL_SET) for _ in range(3))
    for k, pair in enumerate(pairs):
        whole.update(*pair)
        (first if k < 2 else second).update(*pair)
    first.merge(second)
    for name, score in whole.compute().per_class.items():
        other = first.compute().per_class[name]
        assert (other.tp, other.fp, other.fn) == (score.tp, score.fp, score.fn)
        assert other.pq == (None if score.pq is None else pytest.approx(score.pq, abs=1e-12))


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_swapping_the_two_swaps_wrong_and_missed(seed: int) -> None:
    """Holds where nothing is void: then the rules are symmetric."""
    prediction, truth = (
        PanopticMap(np.where(p.semantic == IGNORE, 0, p.semantic), p.instance + 1) for p in random_pair(seed)
    )
    there, back = match_segments(prediction, truth, LABEL_SET), match_segments(truth, prediction, LABEL_SET)
    np.testing.assert_array_equal(there.fp, back.fn)
    np.testing.assert_array_equal(there.fn, back.fp)
    np.testing.assert_allclose(there.iou, back.iou)


def test_image_of_noise_matches_itself_pixel_by_pixel() -> None:
    """Every pixel its own segment, with numbers so large that they are sorted."""
    rng = np.random.default_rng(0)
    instance = rng.integers(1, 2**31 - 1, size=(30, 31))
    noise = PanopticMap(np.zeros((30, 31), dtype=int), instance)
    counts = match_segments(noise, noise, ONE_THING)
    assert counts.tp.tolist() == [np.unique(instance).size]
    assert counts.iou.tolist() == [np.unique(instance).size]
