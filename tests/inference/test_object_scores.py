"""What scores of objects are made of, on made-up outputs, and how they become probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest

from panembed.inference.grouping import Grouping
from panembed.inference.object_scores import (
    FALLING,
    FEATURES,
    RISING,
    Calibration,
    object_features,
    uncalibrated_score,
)
from panembed.inference.preparation import Preparation
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap

LEAVES = LabelSet([Category(0, "soil", False), Category(1, "leaf", True)])
NATIVE = Preparation((64, 64), "native")


def squares(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    instance = np.zeros((64, 64), dtype=np.int32)
    for number, (y, x, height, width) in enumerate(boxes, start=1):
        instance[y : y + height, x : x + width] = number
    return instance


def outputs(instance: np.ndarray, sure: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class scores, embeddings and seeds of a network that is right everywhere."""
    scores = np.stack([np.where(instance > 0, -sure, sure), np.where(instance > 0, sure, -sure)]) / 2
    embeddings = np.stack([5.0 * instance, np.zeros(instance.shape)])
    density = np.zeros(instance.shape)
    for number in range(1, instance.max() + 1):
        density[instance == number] = -np.log(np.count_nonzero(instance == number))
    seeds = np.stack([np.full(instance.shape, np.log(2.0)), np.full(instance.shape, 3.0), density])
    return scores.astype(np.float32), embeddings.astype(np.float32), seeds.astype(np.float32)


def features(instance, given, preparation=NATIVE, bandwidth=1.5) -> list[dict[str, float]]:
    panoptic = PanopticMap(instance > 0, instance)
    found = object_features(panoptic, LEAVES, *given, preparation, bandwidth)
    return [dict(zip(FEATURES, row)) for row in found.tolist()]


def test_by_hand() -> None:
    instance = squares((0, 0, 10, 10), (0, 10, 10, 10), (40, 40, 20, 10))
    first, second, third = features(instance, outputs(instance))
    assert first["class_probability"] == pytest.approx(1 / (1 + np.exp(-4)))
    assert first["seed"] == pytest.approx(1 / (1 + np.exp(-3)))
    assert first["membership"] == pytest.approx(1)
    assert first["rival"] == pytest.approx(np.exp(-2.0 * 25))
    assert first["density"] == pytest.approx(1)
    assert (first["contact"], third["contact"]) == (pytest.approx(10 / 36), 0)
    assert first["roughness"] == pytest.approx(36**2 / 100 / 4 / np.pi)
    assert first["fullness"] == pytest.approx(100 / (4 * np.pi * 100 / 12))
    assert (first["smallness"], first["largeness"]) == (0, 0)
    assert (third["smallness"], third["largeness"]) == (0, pytest.approx(np.log(2)))
    assert second["contact"] == first["contact"]


def test_an_object_that_is_two_is_less_sure() -> None:
    instance = squares((0, 0, 10, 10), (20, 20, 10, 10), (40, 40, 10, 10))
    given = outputs(instance)
    merged = np.where(instance == 2, 1, instance)
    two, one = features(merged, given)
    assert two["membership"] < 0.1 < 0.99 < one["membership"]
    assert two["fullness"] < 0.5 < one["fullness"]
    scores = uncalibrated_score(np.array([list(two.values()), list(one.values())]))
    assert scores[0] < scores[1]


def test_without_seeds_membership_is_a_half_at_the_bandwidth() -> None:
    instance = squares((0, 0, 10, 10))
    scores, embeddings, _ = outputs(instance)
    embeddings[0, :10, :10] = np.where(np.arange(10) < 5, 4.0, 7.0)  # 1.5 from their mean
    (row,) = features(instance, (scores, embeddings, None))
    assert row["membership"] == pytest.approx(0.5)
    assert row["seed"] == row["density"] == 1


def test_the_image_may_be_larger_than_the_network_sees_it() -> None:
    instance = squares((0, 0, 20, 20), (30, 30, 24, 20))
    given = outputs(instance[::2, ::2])
    (first, second) = features(instance, given, Preparation((32, 32), "resize"))
    assert first["class_probability"] == second["class_probability"] == pytest.approx(1 / (1 + np.exp(-4)))
    assert second["largeness"] > 0


def test_objects_that_vanish_at_the_networks_size_have_no_chance() -> None:
    instance = np.zeros((320, 320), int)
    instance[0, 0], instance[100:200, 100:200] = 1, 2
    given = outputs((instance == 2)[::10, ::10].astype(int))
    tiny, large = features(instance, given, Preparation((32, 32), "resize"))
    assert all(tiny[name] == 0 for name in RISING)
    assert large["membership"] == pytest.approx(1)
    assert all(np.isfinite(list(tiny.values())))


@pytest.mark.parametrize("count", [0, 1, 2, 5, 40])
def test_any_number_of_objects(count: int) -> None:
    instance = np.zeros((64, 64), int)
    for number in range(count):
        y, x = divmod(number, 8)
        instance[8 * y : 8 * y + 7, 8 * x : 8 * x + 7] = number + 1
    rows = features(instance, outputs(instance))
    assert len(rows) == count
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert all(0 <= row["rival"] <= 1 for row in rows)


def test_objects_on_one_spot_in_embedding_space() -> None:
    instance = squares(*((8 * n, 0, 6, 6) for n in range(8)))
    scores, embeddings, seeds = outputs(instance)
    rows = features(instance, (scores, 0 * embeddings, seeds))
    assert [row["rival"] for row in rows] == [pytest.approx(1)] * 8


def test_scores_follow_the_order_of_objects() -> None:
    """Classes first, then instances, as in every table."""
    two = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])
    instance = squares((0, 0, 10, 10), (20, 20, 10, 10))
    panoptic = PanopticMap(np.where(instance == 1, 2, instance > 1), instance)
    scores = np.zeros((3, 64, 64), np.float32)
    scores[1], scores[2, :20] = 1.0, 3.0
    found = object_features(panoptic, two, scores, np.zeros((2, 64, 64), np.float32), None, NATIVE, 1.5)
    weed, leaf = (np.exp([0, 1, 3]) / np.exp([0, 1, 3]).sum())[2], (np.exp([0, 1, 0]) / np.exp([0, 1, 0]).sum())[1]
    assert found[:, 0] == pytest.approx([leaf, weed])


def test_a_calibration_survives_json() -> None:
    weights = {name: 0.1 * place for place, name in enumerate(FEATURES)}
    calibration = Calibration(weights, -1.5, {"images": 3})
    assert Calibration.from_plain(json.loads(json.dumps(calibration.to_plain()))) == calibration
    assert set(RISING) | set(FALLING) == set(FEATURES)


@pytest.mark.parametrize(
    "data",
    [{}, [], {"weights": {}, "intercept": 0}, {"weights": dict.fromkeys(FEATURES, float("nan")), "intercept": 0}, None],
)
def test_what_is_no_calibration(data) -> None:
    with pytest.raises(ValueError, match="calibration: expected"):
        Calibration.from_plain(data)


def test_grouping_and_features_fit_together() -> None:
    instance = squares((4, 4, 20, 20), (30, 30, 20, 20))
    scores, embeddings, seeds = outputs(instance)
    panoptic = Grouping("seed_map").group(scores, embeddings, (1,), NATIVE, (64, 64), seeds)
    found = object_features(panoptic, LEAVES, scores, embeddings, seeds, NATIVE, 1.5)
    assert uncalibrated_score(found) == pytest.approx([np.cbrt(1 / (1 + np.exp(-4)) / (1 + np.exp(-3)))] * 2)
