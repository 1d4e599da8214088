"""Our HDBSCAN against scikit-learn's on all points, and what the sample adds."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score

from panembed.clustering.hdbscan import find_centres, hdbscan
from panembed.errors import MissingExtraError


def blobs(rng: np.random.Generator, sizes: list[int], num_dims: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian balls on axes of their own, ten spreads apart, in mixed order, and the ball of every point."""
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    points = 3.0 * np.eye(num_dims)[truth] + rng.normal(0, 0.3 / np.sqrt(num_dims), (len(truth), num_dims))
    return points.astype(np.float32), truth


def test_agrees_with_scikit_learn_where_all_points_are_seen() -> None:
    rng = np.random.default_rng(0)
    points, _ = blobs(rng, [200, 120, 60])
    points = np.concatenate([points, rng.uniform(-3, 6, (40, 8)).astype(np.float32)])
    theirs = HDBSCAN(min_cluster_size=20, copy=True).fit_predict(points)
    ours = hdbscan(points, min_cluster_size=20, outliers="mark")
    assert np.array_equal(ours == -1, theirs == -1)
    assert adjusted_rand_score(theirs, ours) == 1.0
    nearest = hdbscan(points, min_cluster_size=20)
    assert np.array_equal(nearest[ours >= 0], ours[ours >= 0])
    means = np.stack([points[ours == k].mean(0) for k in range(3)])
    assert np.allclose(find_centres(points, min_cluster_size=20), means, atol=1e-5)
    far = np.flatnonzero(ours == -1)
    assert np.array_equal(nearest[far], ((points[far, None] - means) ** 2).sum(2).argmin(1))


@pytest.mark.parametrize("ordered", [True, False])
def test_a_sample_gives_the_same_clusters(ordered: bool) -> None:
    points, truth = blobs(np.random.default_rng(1), [6000, 3000, 1000])
    if ordered:
        order = np.argsort(truth, kind="stable")
        points, truth = points[order], truth[order]
    labels = hdbscan(points, max_samples=1000)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, truth)
    assert len(find_centres(points, max_samples=1000)) == 3
    assert np.array_equal(labels, hdbscan(points.copy(), max_samples=1000))


def test_outliers_are_marked_beyond_the_sample_too() -> None:
    points, truth = blobs(np.random.default_rng(2), [2000, 1500])
    away = -20.0 * (1 + np.arange(30))[:, None] * np.ones(8)
    mixed = np.concatenate([points, away.astype(np.float32)])
    labels = hdbscan(mixed, min_cluster_size=100, max_samples=800, outliers="mark")
    assert (labels[-30:] == -1).all()
    # The tails of a ball are outliers to HDBSCAN as well.
    inside = labels[:-30] >= 0
    assert inside.mean() > 0.8
    assert np.array_equal(labels[:-30][inside], truth[inside])
    assert (hdbscan(mixed, min_cluster_size=100, max_samples=800) >= 0).all()


def test_one_object_is_one_cluster() -> None:
    points, _ = blobs(np.random.default_rng(3), [300])
    assert len(find_centres(points, min_cluster_size=50)) == 1
    assert (hdbscan(points, min_cluster_size=50) == 0).all()


def test_fewer_points_than_a_cluster_needs() -> None:
    assert hdbscan(np.empty((0, 3))).shape == (0,)
    assert find_centres(np.empty((0, 3))).shape == (0, 3)
    points = np.zeros((4, 2))
    assert hdbscan(points, min_cluster_size=5).tolist() == [0] * 4
    assert hdbscan(points, min_cluster_size=5, outliers="mark").tolist() == [-1] * 4
    assert find_centres(points, min_cluster_size=5).shape == (0, 2)
    assert hdbscan([[1.0, 2.0]], outliers="mark").tolist() == [-1]


@pytest.mark.parametrize("points", [[[np.nan, 0.0]], [1.0, 2.0], np.zeros((4, 0))])
def test_wrong_points(points: object) -> None:
    with pytest.raises(ValueError, match="points:"):
        hdbscan(points)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="points:"):
        find_centres(points)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"min_cluster_size": 1}, "min_cluster_size"),
        ({"min_samples": 0}, "min_samples"),
        ({"max_samples": 1}, "max_samples"),
        ({"outliers": "drop"}, "outliers"),
    ],
)
def test_wrong_parameters(arguments: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        hdbscan(np.zeros((30, 2)), **arguments)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'panembed\[hdbscan\]'"):
        hdbscan(np.zeros((30, 2)))


def test_adding_a_constant_changes_nothing() -> None:
    points, truth = blobs(np.random.default_rng(1), [80, 60, 40])
    far = np.round(points * 1024).astype(np.float64) / 1024 + 2.0**33
    assert adjusted_rand_score(hdbscan(far, min_cluster_size=20), truth) == 1.0
    means = np.stack([points[truth == k].mean(0) for k in range(3)])
    assert np.allclose(find_centres(far, min_cluster_size=20) - 2.0**33, means, atol=1e-2)
