"""Connected components against scikit-image's."""

import numpy as np
import pytest
from skimage.measure import label
from skimage.morphology import remove_small_objects

from panembed.clustering.components import connected_components, largest_parts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("min_area", [1, 6])
def test_against_scikit_image(seed, min_area):
    mask = np.random.default_rng(seed).random((40, 50)) < 0.3
    found = np.zeros(mask.shape, dtype=int)
    found[mask] = connected_components(mask, min_area=min_area) + 1
    expected = label(remove_small_objects(mask, max_size=min_area - 1, connectivity=2), connectivity=2)
    assert found.max() == expected.max() > 3
    assert np.array_equal(found > 0, expected > 0)
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == found.max() + 1


@pytest.mark.parametrize("seed", range(3))
def test_largest_parts_against_scikit_image(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((40, 50)) < 0.8
    clusters = np.where(mask, rng.integers(-1, 4, (10, 10)).repeat(4, 0).repeat(5, 1), -1)
    found = np.full(mask.shape, -1)
    found[mask] = largest_parts(mask, clusters[mask].astype(np.int32))
    for number in range(4):
        parts = label(clusters == number, connectivity=2)
        sizes = np.bincount(parts.ravel())[1:]
        assert np.array_equal(found == number, parts == sizes.argmax() + 1)
        assert len(sizes) > 1


def test_nothing():
    assert connected_components(np.zeros((3, 3), dtype=bool)).shape == (0,)
    assert largest_parts(np.zeros((3, 3), dtype=bool), np.zeros(0, np.int32)).shape == (0,)
