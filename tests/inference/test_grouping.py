"""Outputs made from truth must give the truth back, but for what a rule says."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from panembed.datasets.cvppp import LEAVES
from panembed.datasets.synthetic import rosette
from panembed.errors import SettingsError
from panembed.inference.grouping import HEEDED, Grouping
from panembed.inference.preparation import Preparation, resize_nearest
from panembed.labels.categories import IGNORE
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality


def outputs(
    semantic: np.ndarray, instance: np.ndarray, num_classes: int = 2, *, noise: float = 0.02, certainty: float = 8.0
) -> tuple[np.ndarray, np.ndarray]:
    """What a perfect network would say: scores by class, and an axis of its own for every instance's embedding.

    On axes, no third mode lies between two; stuff gets random embeddings, as nothing trains them.
    """
    rng = np.random.default_rng(0)
    scores = np.stack([np.where(semantic == c, certainty, 0.0) for c in range(num_classes)])
    axes = np.concatenate([np.zeros((1, instance.max() + 1)), 3.0 * np.eye(instance.max() + 1)])
    embeddings = axes[instance].transpose(2, 0, 1) + rng.normal(0, noise, (instance.max() + 1, *instance.shape))
    embeddings = np.where(instance == 0, rng.normal(0, 3, embeddings.shape), embeddings)
    return scores.astype(np.float32), embeddings.astype(np.float32)


def same_objects(a: PanopticMap, b: PanopticMap) -> bool:
    """Equal up to the names of the instances."""
    pairs = np.unique(np.stack([x.ravel() for x in (a.semantic, a.instance, b.instance)]), axis=1)
    counted = (pairs.shape[1], len(np.unique(pairs[[0, 1]], axis=1).T), len(np.unique(pairs[[0, 2]], axis=1).T))
    return np.array_equal(a.semantic, b.semantic) and len(set(counted)) == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("grouping", [Grouping(min_area=1), Grouping(min_area=1, seed_bandwidth=0.6)])
def test_perfect_outputs_give_the_truth_exactly(seed: int, grouping: Grouping) -> None:
    truth = rosette(seed, size=128).truth
    scores, embeddings = outputs(truth.semantic, truth.instance)
    found = grouping.group(scores, embeddings, (1,), Preparation((128, 128)), (128, 128))
    assert found.num_instances == truth.num_instances > 1
    assert same_objects(found, truth)


@pytest.mark.parametrize("shape", [(210, 310), (300, 256), (513, 200)])
def test_perfect_outputs_at_another_size(shape: tuple[int, int]) -> None:
    truth = rosette(1, size=shape).truth
    small = [resize_nearest(array.astype(np.int64), (256, 256)) for array in (truth.semantic, truth.instance)]
    found = Grouping(min_area=5).group(*outputs(*small), (1,), Preparation((256, 256)), shape)
    assert found.shape == shape
    quality = PanopticQuality(LEAVES).update(found, truth)
    assert quality.all.pq is not None
    assert quality.all.pq > 0.9
    assert found.num_instances == truth.num_instances


def test_native_scale_and_padding() -> None:
    truth = rosette(2, size=(100, 70)).truth
    # The network sees 128 x 96; on the padding it dreams up another leaf.
    semantic, instance = np.ones((128, 96), dtype=int), np.full((128, 96), truth.instance.max() + 1)
    semantic[:100, :70], instance[:100, :70] = truth.semantic, truth.instance
    preparation = Preparation((64, 64), "native")
    found = Grouping(min_area=1).group(*outputs(semantic, instance), (1,), preparation, (100, 70))
    assert same_objects(found, truth)


@pytest.mark.parametrize("scale", [0.97, 1.5, 2.0])
def test_objects_of_stretched_images_have_the_images_size(scale: float) -> None:
    """At 0.97 the padded map is as large as the image, and still not the image's."""
    truth = rosette(2, size=(192, 288)).truth
    preparation = Preparation((64, 64), "native", scale=scale)
    height, width = preparation.stretched(192, 288)
    below, right = -height % 32, -width % 32
    semantic, instance = (
        np.pad(resize_nearest(array.astype(np.int64), (height, width)), ((0, below), (0, right)), constant_values=value)
        for array, value in ((truth.semantic, 1), (truth.instance, truth.instance.max() + 1))
    )
    found = Grouping(min_area=1).group(*outputs(semantic, instance), (1,), preparation, (192, 288))
    quality = PanopticQuality(LEAVES).update(found, truth)
    assert found.shape == (192, 288)
    assert quality.all.pq is not None
    assert quality.all.pq > 0.9
    assert found.num_instances == truth.num_instances


def test_no_thing_pixels() -> None:
    scores, embeddings = outputs(np.zeros((32, 32), int), np.zeros((32, 32), int))
    found = Grouping().group(scores, embeddings, (1,), Preparation((32, 32)), (50, 40))
    assert found.shape == (50, 40)
    assert (found.semantic == 0).all()
    assert (found.instance == 0).all()
    no_things = Grouping().group(scores[::-1], embeddings, (), Preparation((32, 32)), (32, 32))
    assert (no_things.semantic == 1).all()
    assert no_things.num_instances == 0


def test_large_numbers_are_numbers() -> None:
    """Though their sum isn't."""
    semantic = np.zeros((64, 64), int)
    semantic[8:56, 8:56] = 1
    found = Grouping().group(*outputs(semantic, semantic, certainty=5e37), (1,), Preparation((64, 64)), (64, 64))
    assert found.num_instances == 1


def square(semantic: np.ndarray, instance: np.ndarray, y: int, x: int, side: int, number: int, of: int = 1) -> None:
    semantic[y : y + side, x : x + side] = of
    instance[y : y + side, x : x + side] = number


def test_a_lone_object_below_the_least_area_is_void() -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 10, 20, 4, 1)
    arguments = (*outputs(semantic, instance), (1,), Preparation((64, 64)), (64, 64))
    void = Grouping(min_area=17).group(*arguments)
    assert np.array_equal(void.semantic == IGNORE, semantic == 1)
    assert void.num_instances == 0
    found = Grouping(min_area=16).group(*arguments)
    assert np.array_equal(found.instance, instance)


def test_the_least_area_of_components_is_at_the_networks_resolution() -> None:
    """4x4 pixels there are 8x8 in an image of twice the size."""
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 10, 20, 4, 1)
    arguments = (*outputs(semantic, instance), (1,), Preparation((64, 64)), (128, 128))
    assert Grouping("components", min_area=16).group(*arguments).num_instances == 1
    assert Grouping("components", min_area=17).group(*arguments).num_instances == 0


def test_objects_below_the_least_area_go_to_their_neighbours() -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 0, 0, 20, 1)
    square(semantic, instance, 40, 40, 20, 2)
    square(semantic, instance, 0, 20, 4, 3)
    arguments = (*outputs(semantic, instance), (1,), Preparation((64, 64)), (64, 64))
    assert Grouping(min_area=16).group(*arguments).num_instances == 3
    merged = Grouping(min_area=17).group(*arguments)
    assert merged.num_instances == 2
    assert np.array_equal(merged.instance > 0, semantic == 1)


def test_pixels_far_from_every_mode_become_void() -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 8, 8, 20, 1)
    scores, embeddings = outputs(semantic, instance)
    embeddings[:, 10:13, 10:13] = 50.0
    far = np.zeros((64, 64), bool)
    far[10:13, 10:13] = True
    arguments = (scores, embeddings, (1,), Preparation((64, 64)), (64, 64))
    assert np.array_equal(Grouping().group(*arguments).instance, instance)
    found = Grouping(max_distance=1.5).group(*arguments)
    assert np.array_equal(found.semantic == IGNORE, far)
    assert np.array_equal(found.instance, np.where(far, 0, instance))


def test_pixels_of_doubtful_class_make_no_object() -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 8, 8, 20, 1)
    square(semantic, instance, 8, 28, 6, 2)
    scores, embeddings = outputs(semantic, instance)
    scores[:, 8:14, 28:34] = np.array([0.0, 0.1])[:, None, None]
    arguments = (scores, embeddings, (1,), Preparation((64, 64)), (64, 64))
    assert Grouping().group(*arguments).num_instances == 2
    sure = Grouping(min_confidence=0.9).group(*arguments)
    assert sure.num_instances == 1
    assert np.array_equal(sure.semantic, semantic)
    # Where hardly a pixel is sure, all of them count.
    scores[1, 8:28, 8:28] = 0.1
    assert Grouping(min_confidence=0.9).group(*arguments).num_instances == 2


def test_every_thing_class_has_its_own_objects() -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 0, 0, 10, 1, of=1)
    square(semantic, instance, 0, 10, 10, 2, of=1)
    square(semantic, instance, 20, 0, 10, 1, of=3)
    square(semantic, instance, 40, 40, 10, 3, of=2)
    truth = PanopticMap(semantic, np.where(semantic == 2, 0, instance))
    found = Grouping().group(*outputs(semantic, instance, 4), (1, 3), Preparation((64, 64)), (64, 64))
    assert same_objects(found, truth)
    assert np.unique(found.instance[semantic == 3]).tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"bandwidth": 0.0}, "grouping.bandwidth"),
        ({"bandwidth": float("nan")}, "grouping.bandwidth"),
        ({"bandwidth": float("inf")}, "grouping.bandwidth"),
        ({"seed_bandwidth": 2.0}, "grouping.seed_bandwidth"),
        ({"seed_bandwidth": 0.0}, "grouping.seed_bandwidth"),
    ],
)
def test_wrong_settings(arguments: dict, key: str) -> None:
    with pytest.raises(SettingsError, match=key):
        Grouping(**arguments)


def test_a_class_can_have_rules_of_its_own() -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 0, 0, 20, 1, of=1)
    square(semantic, instance, 0, 20, 4, 2, of=1)
    square(semantic, instance, 40, 0, 20, 3, of=2)
    square(semantic, instance, 40, 20, 4, 4, of=2)
    arguments = (*outputs(semantic, instance, 3), (1, 2), Preparation((64, 64)), (64, 64))
    assert Grouping(min_area=10).group(*arguments).num_instances == 4
    found = Grouping(min_area=10, by_class={2: Grouping(min_area=17)}).group(*arguments)
    assert len(np.unique(found.instance[semantic == 1])) == 2
    assert len(np.unique(found.instance[semantic == 2])) == 1


@pytest.mark.parametrize(
    "own", [{"method": "components"}, {"max_distance": 1.5}, {"one_piece": True}, {"clear_border": True}]
)
def test_a_class_is_grouped_as_where_its_rules_are_those_of_all(own: dict) -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    for of, x in ((1, 0), (2, 32)):  # two that touch, one of them at the border, and a part of it apart
        square(semantic, instance, 0, x + 4, 12, 2 * of - 1, of)
        square(semantic, instance, 12, x + 4, 12, 2 * of, of)
        square(semantic, instance, 40, x + 4, 5, 2 * of, of)
    scores, embeddings = outputs(semantic, instance, 3)
    embeddings[:, 50:52], scores[1:, 50:52, 4:8], scores[2, 50:52, 40:44] = 50, 9, 10  # far from all
    usual = Grouping(min_area=10)
    rules = {1: usual, 2: replace(usual, **own)}
    arguments = (scores, embeddings, (1, 2), Preparation((64, 64)), (64, 64))
    found = replace(usual, by_class={2: rules[2]}).group(*arguments)
    for index, rule in rules.items():
        of_class, alone = scores.argmax(0) == index, rule.group(*arguments)
        here, there = (PanopticMap(p.semantic * of_class, p.instance * of_class) for p in (found, alone))
        assert same_objects(here, there)
    assert not same_objects(found, usual.group(*arguments))


def test_pixels_of_an_object_vote_on_its_class() -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 0, 0, 20, 1, of=1)
    square(semantic, instance, 30, 30, 20, 2, of=2)
    truth = PanopticMap(semantic, instance)
    noisy = semantic.copy()
    noisy[2:8, 2:20] = 2  # a third of the first object looks like the other class
    scores, embeddings = outputs(noisy, instance, 3)
    arguments = (scores, embeddings, (1, 2), Preparation((64, 64)), (64, 64))
    assert Grouping(min_area=5).group(*arguments).num_instances == 3
    assert same_objects(Grouping(min_area=5, vote=True).group(*arguments), truth)
    with pytest.raises(SettingsError, match="by_class"):
        Grouping(vote=True, by_class={1: Grouping()})


@pytest.mark.slow
def test_hdbscan_finds_the_same_objects() -> None:
    truth = rosette(0, size=128).truth
    scores, embeddings = outputs(truth.semantic, truth.instance)
    found = Grouping(method="hdbscan", min_area=15).group(scores, embeddings, (1,), Preparation((128, 128)), (128, 128))
    assert same_objects(found, truth)


OTHERS = {
    "bandwidth": 0.5,
    "seed_bandwidth": 0.3,
    "min_area": 2000,
    "min_confidence": 0.9,
    "least_seed": 0.999,
    "own_share": 0.2,
    "recount": 0.4,
    "max_distance": 0.1,
    "one_piece": True,
    "clear_border": True,
}
"""Other values than `doubtful` is grouped by otherwise; `second_look` is refused where it would have no effect."""


def doubtful(grouping: Grouping) -> PanopticMap:
    """Objects of a network that is sure of little; some lie at the border."""
    rng = np.random.default_rng(3)
    truth = rosette(1, size=96).truth
    scores, embeddings = outputs(truth.semantic, truth.instance, noise=0.3, certainty=2.0)
    scores += rng.normal(0, 1, scores.shape).astype(np.float32)
    scores[1, :, :12] += 6
    near = np.stack([np.log(np.log(2) * np.ones(truth.shape)), rng.normal(0, 2, truth.shape)])
    seeds = np.concatenate([near, np.full((1, *truth.shape), np.log(8 / (truth.instance > 0).sum()))])
    return grouping.group(scores, embeddings / 2, (1,), Preparation((96, 96)), (96, 96), seeds.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("method", HEEDED)
def test_a_method_heeds_what_is_said_and_nothing_else(method):
    named = {*OTHERS, "by_class", "vote", "second_look"}
    assert {field.name for field in fields(Grouping)} - {"method"} == named >= {*HEEDED[method]}
    usual = Grouping(method=method)
    before = doubtful(usual)
    for name, value in OTHERS.items():
        assert same_objects(doubtful(replace(usual, **{name: value})), before) == (name not in HEEDED[method]), name


def test_a_second_look_finds_a_small_object_close_to_a_large_one() -> None:
    """As in test_second_look.py; of 144 pixels."""
    scores = np.stack([np.zeros((48, 64)), np.full((48, 64), 9.0)]).astype(np.float32)
    embeddings = 0.3 * np.random.default_rng(0).standard_normal((8, 48, 64)) / np.sqrt(8)
    embeddings[0, 20:32, 40:52] += 1.3
    arguments = (scores, embeddings.astype(np.float32), (1,), Preparation((64, 64), "native"), (48, 64))
    usual = Grouping(bandwidth=1.75, seed_bandwidth=0.8)
    for rules, found in ((usual, 1), (replace(usual, second_look=1.0), 2)):
        assert rules.group(*arguments).num_instances == found
    assert replace(usual, second_look=1.0, min_area=150).group(*arguments).num_instances == 1


def test_second_look_is_refused_where_it_has_no_effect():
    with pytest.raises(SettingsError, match="second_look"):
        Grouping(method="hdbscan", second_look=0.8)


def test_one_piece_makes_what_is_apart_void() -> None:
    semantic, instance = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.int32)
    for number, (row, column) in enumerate(((4, 4), (4, 30), (40, 20)), 1):
        semantic[row : row + 12, column : column + 12] = 1
        instance[row : row + 12, column : column + 12] = number
    semantic[50:54, 50:54], instance[50:54, 50:54] = 1, 2
    scores, embeddings = outputs(semantic, instance)
    apart = np.zeros(semantic.shape, bool)
    apart[50:54, 50:54] = True
    for one_piece in (False, True):
        found = Grouping(min_area=5, one_piece=one_piece).group(
            scores, embeddings, (1,), Preparation((64, 64)), (64, 64)
        )
        expected = PanopticMap(
            np.where(apart & one_piece, IGNORE, semantic).astype(np.uint8), np.where(apart & one_piece, 0, instance)
        )
        assert same_objects(found, expected)
        assert found.num_instances == 3


def test_clear_border_leaves_what_is_seen_whole() -> None:
    semantic, instance = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.int32)
    for number, (row, column) in enumerate(((0, 4), (4, 30), (40, 20), (20, 52), (52, 40), (30, 0)), 1):
        semantic[row : row + 12, column : column + 12] = 1
        instance[row : row + 12, column : column + 12] = number
    # The third has a second part at the border, which alone goes.
    semantic[60:, :4], instance[60:, :4] = 1, 3
    scores, embeddings = outputs(semantic, instance)
    cut = np.isin(instance, [1, 4, 5, 6])
    cut[60:, :4] = True
    for clear in (False, True):
        rules = Grouping(min_area=5, clear_border=clear)
        found = rules.group(scores, embeddings, (1,), Preparation((64, 64)), (64, 64))
        expected = PanopticMap(
            np.where(cut & clear, IGNORE, semantic).astype(np.uint8), np.where(cut & clear, 0, instance)
        )
        assert same_objects(found, expected)
        assert found.num_instances == (2 if clear else 6)


def test_of_an_object_whose_largest_piece_is_cut_by_the_border_nothing_is_left() -> None:
    semantic, instance = np.zeros((64, 64), int), np.zeros((64, 64), int)
    square(semantic, instance, 0, 4, 20, 1)
    square(semantic, instance, 40, 40, 6, 1)
    rules = Grouping(min_area=5, one_piece=True, clear_border=True)
    found = rules.group(*outputs(semantic, instance), (1,), Preparation((64, 64)), (64, 64))
    assert found.num_instances == 0
