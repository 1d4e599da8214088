"""What must be true of every grouping method. A new one gets its tests by a class of ten lines:

class TestMyMethod(GroupingContract):
    grouping = Grouping(method="my_method", min_area=10)

    def outputs(self, semantic, instance, num_classes=2):
        return scores, embeddings, seeds  # of a perfect network for this ground truth
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from panembed.datasets.cvppp import LEAVES
from panembed.datasets.synthetic import rosette
from panembed.errors import ModelError
from panembed.inference.grouping import Grouping
from panembed.inference.preparation import Preparation, resize_nearest
from panembed.labels.categories import IGNORE
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def on_axes(semantic: np.ndarray, instance: np.ndarray, num_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Sure scores, and embeddings with an axis of its own for every object, so that no mode lies between two."""
    rng = np.random.default_rng(0)
    scores = np.stack([np.where(semantic == index, 8.0, 0.0) for index in range(num_classes)])
    axes = np.concatenate([np.zeros((1, instance.max() + 1)), 3.0 * np.eye(instance.max() + 1)])
    embeddings = axes[instance].transpose(2, 0, 1) + rng.normal(0, 0.02, (instance.max() + 1, *instance.shape))
    embeddings = np.where(instance == 0, rng.normal(0, 3, embeddings.shape), embeddings)
    return scores.astype(np.float32), embeddings.astype(np.float32)


def same_objects(a: PanopticMap, b: PanopticMap) -> bool:
    """Equal up to the names of the instances."""
    pairs = np.unique(np.stack([x.ravel() for x in (a.semantic, a.instance, b.instance)]), axis=1)
    counted = (pairs.shape[1], len(np.unique(pairs[[0, 1]], axis=1).T), len(np.unique(pairs[[0, 2]], axis=1).T))
    return np.array_equal(a.semantic, b.semantic) and len(set(counted)) == 1


def squares(*places: tuple[int, int, int, int], side: int = 64, of: tuple[int, ...] = ()) -> PanopticMap:
    """Squares (y, x, width, number) on a background, all of class 1 unless `of` says the class of each."""
    semantic, instance = np.zeros((side, side), int), np.zeros((side, side), int)
    for place, (y, x, width, number) in enumerate(places):
        semantic[y : y + width, x : x + width] = of[place] if of else 1
        instance[y : y + width, x : x + width] = number
    return PanopticMap(semantic, instance)


class GroupingContract:
    """Derive, set `grouping`, and define `outputs`."""

    grouping: Grouping

    def outputs(self, semantic: np.ndarray, instance: np.ndarray, num_classes: int = 2) -> Outputs:
        """What a perfect network would give: scores, embeddings, and seeds where the method takes them."""
        return (*on_axes(semantic, instance, num_classes), None)

    def group(self, truth: PanopticMap, rules: Grouping | None = None, num_classes: int = 2) -> PanopticMap:
        """The map that the method makes of perfect outputs."""
        scores, embeddings, seeds = self.outputs(truth.semantic, truth.instance, num_classes)
        things, shape = tuple(range(1, num_classes)), truth.shape
        return (rules or self.grouping).group(scores, embeddings, things, Preparation(shape), shape, seeds)

    def test_perfect_outputs_give_the_ground_truth(self) -> None:
        truth = squares((4, 4, 16, 1), (4, 40, 18, 2), (34, 20, 20, 3))
        found = self.group(truth)
        assert found.num_instances == 3
        assert same_objects(found, truth)

    def test_no_thing_pixels_no_objects(self) -> None:
        found = self.group(squares(side=32))
        assert found.num_instances == 0
        assert (found.semantic == 0).all()

    def test_one_object_that_fills_the_image(self) -> None:
        found = self.group(squares((0, 0, 32, 1), side=32))
        assert found.num_instances == 1
        assert (found.instance == 1).all()

    def test_ids_count_from_1_within_each_class_and_stuff_has_none(self) -> None:
        truth = squares((4, 4, 16, 1), (4, 40, 18, 2), (34, 4, 20, 3), (34, 40, 16, 4), of=(1, 1, 2, 2))
        found = self.group(truth, num_classes=3)
        assert same_objects(found, truth)
        assert np.unique(found.instance[found.semantic == 1]).tolist() == [1, 2]
        assert np.unique(found.instance[found.semantic == 2]).tolist() == [1, 2]
        assert (found.instance[found.semantic == 0] == 0).all()

    def test_twice_is_the_same_and_outputs_stay_as_they_are(self) -> None:
        truth = rosette(3, size=96).truth
        given = self.outputs(truth.semantic, truth.instance)
        kept = [None if array is None else array.copy() for array in given]
        first, second = (
            self.grouping.group(given[0], given[1], (1,), Preparation((96, 96)), (96, 96), given[2]) for _ in range(2)
        )
        assert first == second
        assert all(a is b is None or np.array_equal(a, b) for a, b in zip(given, kept))

    @pytest.mark.parametrize("shape", [(100, 150), (128, 96), (200, 70)])
    def test_the_map_has_the_size_of_the_image(self, shape: tuple[int, int]) -> None:
        truth = squares((8, 8, 32, 1), (8, 80, 36, 2), (68, 40, 40, 3), side=128)
        large = [resize_nearest(a.astype(np.int64), shape) for a in (truth.semantic, truth.instance)]
        scores, embeddings, seeds = self.outputs(truth.semantic, truth.instance)
        found = self.grouping.group(scores, embeddings, (1,), Preparation((128, 128)), shape, seeds)
        assert found.shape == shape
        quality = PanopticQuality(LEAVES).update(found, PanopticMap(*large))
        assert quality.things.rq == 1
        assert quality.things.pq is not None
        assert quality.things.pq > 0.85

    def test_padding_makes_no_object(self) -> None:
        truth = squares((4, 4, 16, 1), (4, 40, 18, 2))
        semantic, instance = np.ones((96, 96), int), np.full((96, 96), 3)
        semantic[:65, :70], instance[:65, :70] = 0, 0
        semantic[:64, :64], instance[:64, :64] = truth.semantic, truth.instance
        scores, embeddings, seeds = self.outputs(semantic, instance)
        native = Preparation((64, 64), "native")  # pads an image of 65 x 70 to 96 x 96
        found = self.grouping.group(scores, embeddings, (1,), native, (65, 70), seeds)
        assert found.shape == (65, 70)
        assert same_objects(PanopticMap(found.semantic[:64, :64], found.instance[:64, :64]), truth)

    def test_nothing_below_the_least_area_is_an_object(self) -> None:
        """With a recount, below half of it."""
        truth = squares((4, 4, 20, 1), (40, 40, 2, 2))
        assert self.group(truth, replace(self.grouping, min_area=15)).num_instances == 1

    def test_clear_border_leaves_what_is_seen_whole(self) -> None:
        truth = squares((0, 4, 16, 1), (20, 30, 18, 2), (46, 10, 18, 3))
        found = self.group(truth, replace(self.grouping, clear_border=True))
        cut = np.isin(truth.instance, [1, 3])
        expected = PanopticMap(np.where(cut, IGNORE, truth.semantic), np.where(cut, 0, truth.instance))
        assert same_objects(found, expected)

    def test_a_class_is_grouped_alone_as_among_others(self) -> None:
        truth = squares((4, 4, 16, 1), (4, 40, 18, 2), (34, 20, 20, 3), of=(1, 2, 1))
        together = self.group(truth, num_classes=3)
        by_class = self.group(truth, replace(self.grouping, by_class={2: self.grouping}), num_classes=3)
        assert together == by_class

    @pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("which", [0, 1])
    def test_numbers_that_are_none_are_refused(self, which: int, broken: float) -> None:
        truth = squares((4, 4, 16, 1))
        given = list(self.outputs(truth.semantic, truth.instance))
        array = given[which]
        assert array is not None
        array[0, 5, 5] = broken
        with pytest.raises(ModelError, match="NaN or infinite"):
            self.grouping.group(given[0], given[1], (1,), Preparation((64, 64)), (64, 64), given[2])
