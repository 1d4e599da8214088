"""A second look finds small objects beside large ones, and leaves whole objects whole."""

import numpy as np
import pytest

from panembed.clustering.mean_shift import find_modes
from panembed.clustering.second_look import look_again

BANDWIDTH = 1.75


def scene(gap: float, *, seed: int = 0, noise: float = 0.3, dims: int = 8):
    """A large object and a compact small one whose embeddings are `gap` apart; returns points, mask, instance."""
    rng = np.random.default_rng(seed)
    instance = np.ones((48, 64), dtype=int)
    instance[20:32, 40:52] = 2
    mask = np.ones(instance.shape, dtype=bool)
    mask[:, :8] = False
    centres = np.zeros((3, dims))
    centres[2, 0] = gap
    points = centres[instance] + noise * rng.standard_normal((*instance.shape, dims)) / np.sqrt(dims)
    return points[mask].astype(np.float32), mask, instance


@pytest.mark.parametrize("seed", range(3))
def test_a_small_object_close_to_a_large_one_is_found(seed):
    points, mask, _ = scene(1.3, seed=seed)
    first = find_modes(points, bandwidth=BANDWIDTH, seed_bandwidth=0.8, min_cluster_size=20)
    assert len(first) == 1
    again = look_again(points, mask, first, separation=1.0)
    assert np.array_equal(again[:1], first)
    assert again[1:, 0] == pytest.approx([1.3], abs=0.1)


def test_scattered_and_thin_lumps_are_no_objects():
    points, mask, _ = scene(0.0)
    lumped = points.copy()
    scattered = np.random.default_rng(1).permutation(len(points))[:144]
    lumped[scattered, 0] += 1.3
    first = find_modes(points, bandwidth=BANDWIDTH, seed_bandwidth=0.8, min_cluster_size=20)
    assert len(look_again(lumped, mask, first, separation=1.0)) == 1
    rim = np.zeros(mask.shape, dtype=bool)
    rim[[0, -1]] = True
    lumped = points.copy()
    lumped[rim[mask], 0] += 1.3
    assert len(look_again(lumped, mask, first, separation=1.0)) == 1


def test_one_wide_object_without_a_valley_stays_one():
    _, mask, _ = scene(0.0)
    ramp = np.zeros((*mask.shape, 2), dtype=np.float32)
    ramp[..., 0] = np.linspace(-0.9, 0.9, mask.shape[1])
    first = np.zeros((1, 2), dtype=np.float32)
    assert len(look_again(ramp[mask], mask, first, separation=0.8)) == 1


def test_modes_apart_and_least_area():
    points, mask, _ = scene(1.3)
    first = find_modes(points, bandwidth=BANDWIDTH, seed_bandwidth=0.8, min_cluster_size=20)
    assert len(look_again(points, mask, first, separation=1.0, min_area=145)) == 1
    assert len(look_again(points, mask, first, separation=1.5)) == 1
    with pytest.raises(ValueError, match="pixels"):
        look_again(points[1:], mask, first, separation=1.0)
    with pytest.raises(ValueError, match="separation"):
        look_again(points, mask, first, separation=0.0)
    assert len(look_again(points[:0], np.zeros((3, 3), bool), first[:0], separation=1.0)) == 0
