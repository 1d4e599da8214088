"""Objects from the outputs of a network with a seed head: told apart by their seeds, as many as the density says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from panembed.clustering.seed_map import MAX_LOG_SHARPNESS
from panembed.errors import SettingsError
from panembed.inference.grouping import Grouping
from panembed.inference.preparation import Preparation
from panembed.labels.categories import IGNORE


def one_block() -> np.ndarray:
    """2x64x64 scores: one thing of 48x48 pixels."""
    scores = np.zeros((2, 64, 64), np.float32)
    scores[1, 8:56, 8:56] = 5
    scores[0] = 5 - scores[1]
    return scores


def test_seed_map_needs_seeds_and_finds_objects_by_them():
    """Two squares whose embeddings differ by less than any bandwidth, told apart by their seeds."""
    preparation, scores = Preparation((64, 64)), one_block()
    embeddings = np.zeros((4, 64, 64), np.float32)
    embeddings[:, :, 32:] = 0.2
    seeds = np.zeros((2, 64, 64), np.float32)
    seeds[0], seeds[1] = np.log(np.log(2) / 0.2**2), -9
    seeds[1, 30, [20, 44]] = 9
    grouping = Grouping(method="seed_map")
    with pytest.raises(SettingsError, match="seed head"):
        grouping.group(scores, embeddings, (1,), preparation, (64, 64))
    found = grouping.group(scores, embeddings, (1,), preparation, (64, 64), seeds)
    assert np.unique(found.instance).tolist() == [0, 1, 2]
    assert len(np.unique(found.instance[10:50, 10:30])) == len(np.unique(found.instance[10:50, 34:50])) == 1
    assert Grouping().group(scores, embeddings, (1,), preparation, (64, 64)).instance.max() == 1


@pytest.mark.parametrize(("largest", "void"), [(1.8, True), (2.2, False)])
def test_the_farthest_distance_is_in_embedding_units_with_seeds_too(largest: float, void: bool) -> None:
    embeddings, seeds = np.zeros((2, 64, 64), np.float32), np.full((2, 64, 64), -9, np.float32)
    embeddings[0, 30:33, 30:33] = 2
    seeds[0] = np.log(np.log(2) / 3**2)  # reaches 3 far
    seeds[1, 20, 20] = 9
    arguments = (one_block(), embeddings, (1,), Preparation((64, 64)), (64, 64), seeds)
    found = Grouping("seed_map", max_distance=largest).group(*arguments)
    assert np.array_equal(found.semantic == IGNORE, (embeddings[0] > 0) & void)


@pytest.mark.filterwarnings("error")
def test_outputs_of_an_overconfident_network_are_heard_as_the_loss_hears_them():
    """The loss neither tells such sharpness apart nor pulls it back, and a score's sigmoid has long been 0 or 1."""
    scores, embeddings = one_block(), np.zeros((2, 64, 64), np.float32)
    embeddings[:] = 0.02 * np.random.default_rng(0).standard_normal(embeddings.shape)
    embeddings[0, :, 32:] += 0.4
    found = []
    for log_sharpness in (MAX_LOG_SHARPNESS, 8, 1000):
        seeds = np.full((2, 64, 64), log_sharpness, np.float32)
        seeds[1] = np.where(embeddings[0] > 0.2, -200, 200)
        seeds[1, 32, 40] = 200
        grouping = Grouping(method="seed_map", own_share=0.1)
        found.append(grouping.group(scores, embeddings, (1,), Preparation((64, 64)), (64, 64), seeds))
    assert found[0].num_instances > 1
    assert found[0] == found[1] == found[2]


def two_halves() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and seeds where each half of the block is an object; the left one's seed reaches most of the right."""
    embeddings, seeds = np.zeros((4, 64, 64), np.float32), np.zeros((3, 64, 64), np.float32)
    embeddings[0] = np.where(np.arange(64) < 32, 0, 0.2) + np.where(np.arange(64) < 50, 0, 0.2)
    seeds[0], seeds[1] = np.log(np.log(2) / 0.3**2), -9
    seeds[1, 30, 20], seeds[1, 30, 52] = 9, 5
    seeds[2] = -np.log(48 * 24)
    return embeddings, seeds


def test_recount_splits_what_the_density_says_is_two():
    embeddings, seeds = two_halves()
    plain = Grouping(method="seed_map")
    arguments = (one_block(), embeddings, (1,), Preparation((64, 64)), (64, 64))
    assert plain.group(*arguments, seeds).num_instances == 1
    found = replace(plain, recount=1.0).group(*arguments, seeds)
    assert found.num_instances == 2
    assert len(np.unique(found.instance[10:50, 10:30])) == len(np.unique(found.instance[10:50, 50:54])) == 1
    assert found.instance[30, 20] != found.instance[30, 52]
    assert replace(plain, recount=0.7).group(*arguments, seeds).num_instances == 1  # 1.4 objects
    seeds[2] = -np.log(48 * 48)  # all is one
    assert replace(plain, recount=1.0).group(*arguments, seeds).num_instances == 1
    with pytest.raises(SettingsError, match=r"recount needs a network with a density"):
        replace(plain, recount=1.0).group(*arguments, seeds[:2])
    with pytest.raises(SettingsError, match=r"recount: expected a factor above 0, found -1"):
        replace(plain, recount=-1)


def test_recount_finds_objects_of_half_the_least_area() -> None:
    for side, found in ((4, 2), (3, 1)):
        embeddings, seeds = np.zeros((2, 64, 64), np.float32), np.full((3, 64, 64), -9, np.float32)
        small = np.zeros((64, 64), bool)
        small[30 : 30 + side, 30 : 30 + side] = True
        embeddings[0, small], seeds[0] = 3, np.log(np.log(2))  # reaches 1 far
        seeds[1, [20, 30], [20, 30]] = 9
        seeds[2] = -np.log(np.where(small, side**2, 48**2 - side**2))
        arguments = (one_block(), embeddings, (1,), Preparation((64, 64)), (64, 64), seeds)
        assert Grouping("seed_map", min_area=20).group(*arguments).num_instances == 1
        assert Grouping("seed_map", min_area=20, recount=1.0).group(*arguments).num_instances == found


def test_recount_sums_over_doubtful_pixels_and_takes_no_pixel_for_more_than_an_object() -> None:
    scores, (embeddings, seeds) = one_block(), two_halves()
    scores[1, 32:56, 8:56] = 0.1
    scores[0, 32:56, 8:56] = 0
    rules = Grouping("seed_map", min_confidence=0.9, recount=1.0)
    arguments = (scores, embeddings, (1,), Preparation((64, 64)), (64, 64))
    assert rules.group(*arguments, seeds).num_instances == 2
    seeds[2] = 0
    many = rules.group(*arguments, seeds)
    seeds[2] = 500
    assert rules.group(*arguments, seeds) == many
