"""Mean shift against scikit-learn's, and by what mean shift must not depend on."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from sklearn.cluster import MeanShift
from sklearn.metrics import adjusted_rand_score

from panembed.clustering.mean_shift import _SURE_ROUNDS, assign, find_modes, mean_shift


def balls(
    rng: np.random.Generator, sizes: list[int], num_dims: int, *, kind: str = "gaussian", spacing: float = 4.0
) -> tuple[np.ndarray, np.ndarray]:
    """Balls of radius about 0.6 with centres at least `spacing` apart, and the ball of every point."""
    centers: list[np.ndarray] = []
    side = spacing * (len(sizes) + 1)
    while len(centers) < len(sizes):
        center = rng.uniform(0, side, num_dims)
        if all(np.linalg.norm(center - other) >= spacing for other in centers):
            centers.append(center)
    points = []
    for center, size in zip(centers, sizes):
        offset = rng.standard_normal((size, num_dims))
        if kind == "gaussian":
            offset *= 0.4 / np.sqrt(num_dims)
        else:
            offset *= 0.6 * rng.random((size, 1)) ** (1 / num_dims) / np.linalg.norm(offset, axis=1, keepdims=True)
        points.append(center + offset)
    order = rng.permutation(sum(sizes))
    return np.concatenate(points)[order], np.repeat(np.arange(len(sizes)), sizes)[order]


def count(labels: np.ndarray) -> int:
    return len(np.unique(labels[labels >= 0]))


@pytest.mark.parametrize("num_dims", [2, 8, 16])
@pytest.mark.parametrize(
    ("seed", "sizes", "kind"),
    [(0, [50] * 3, "gaussian"), (1, [110, 40, 9, 3], "ball"), (2, [90, 30], "gaussian"), (3, [20] * 8, "ball")],
)
def test_agrees_with_scikit_learn(num_dims: int, seed: int, sizes: list[int], kind: str) -> None:
    points, truth = balls(np.random.default_rng(seed), sizes, num_dims, kind=kind)
    theirs = MeanShift(bandwidth=1.5, seeds=points, cluster_all=True).fit(points).labels_
    ours = mean_shift(points, bandwidth=1.5)
    assert count(ours) == count(theirs) == len(sizes)
    assert adjusted_rand_score(theirs, ours) >= 0.999
    assert adjusted_rand_score(truth, ours) == 1.0


@pytest.mark.parametrize("bandwidth", [0.8, 1.5, 3.0])
def test_bandwidths_against_scikit_learn(bandwidth: float) -> None:
    points, _ = balls(np.random.default_rng(5), [60, 50, 40, 30], 8, kind="ball", spacing=2.6 * bandwidth)
    theirs = MeanShift(bandwidth=bandwidth, seeds=points).fit(points).labels_
    assert adjusted_rand_score(theirs, mean_shift(points, bandwidth=bandwidth)) >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("num_dims", [2, 16])
def test_marks_the_same_outliers_as_scikit_learn(num_dims: int) -> None:
    rng = np.random.default_rng(7)
    points, _ = balls(rng, [80, 60, 40], num_dims)
    # Each outlier is farther than a bandwidth from every ball and every other outlier.
    away = -10.0 * np.arange(1, 9)[:, None] * np.ones(num_dims)
    everything = np.concatenate([points, away])
    theirs = MeanShift(bandwidth=1.5, seeds=points, cluster_all=False).fit(everything).labels_
    ours = mean_shift(everything, min_cluster_size=2, outliers="mark")
    assert np.array_equal(ours == -1, theirs == -1)
    assert (ours[-8:] == -1).all()
    assert (ours[:-8] >= 0).all()
    assert adjusted_rand_score(theirs, ours) >= 0.999
    nearest = mean_shift(everything, min_cluster_size=2)
    assert np.array_equal(nearest[:-8], ours[:-8])
    # Every point a seed and no least size: scikit-learn makes each outlier a cluster, and so do we.
    alone = MeanShift(bandwidth=1.5, seeds=everything).fit(everything).labels_
    assert adjusted_rand_score(alone, mean_shift(everything, min_cluster_size=1)) >= 0.999


def test_outliers_go_to_the_nearest_mode() -> None:
    points = np.array([[0.0], [0.0], [0.0], [10.0], [10.0], [10.0], [4.0], [6.5]])
    labels = mean_shift(points, min_cluster_size=3)
    assert labels[6] == labels[0] != labels[7] == labels[3]


def test_twice_gives_the_same() -> None:
    points, _ = balls(np.random.default_rng(0), [3000, 2000, 500], 8)
    assert np.array_equal(mean_shift(points), mean_shift(points.copy()))


@pytest.mark.parametrize("sizes", [[300, 200, 40], [9000, 4000, 700, 300]])
@pytest.mark.parametrize("seed_bandwidth", [None, 0.6])
def test_the_order_of_points_does_not_matter(sizes: list[int], seed_bandwidth: float | None) -> None:
    points, _ = balls(np.random.default_rng(1), sizes, 8)
    labels = mean_shift(points, seed_bandwidth=seed_bandwidth)
    order = np.random.default_rng(2).permutation(len(points))
    shuffled = mean_shift(points[order], seed_bandwidth=seed_bandwidth)
    assert count(labels) == count(shuffled) == len(sizes)
    assert adjusted_rand_score(labels[order], shuffled) == 1.0


@pytest.mark.parametrize("shift", [10.0, 300.0, 3000.0])
@pytest.mark.parametrize(("seed_bandwidth", "spacing"), [(None, 2.5), (0.6, 1.9)])
def test_the_place_of_the_points_does_not_matter(shift: float, seed_bandwidth: float | None, spacing: float) -> None:
    # Balls so close that distances off by a tenth matter; an anchored embedding of a large image lies hundreds of units
    # from the origin.
    points = row_of_balls(np.random.default_rng(3), 4, 300, spacing=spacing, radius=0.5)
    labels = mean_shift(points, seed_bandwidth=seed_bandwidth)
    moved = mean_shift(points + shift, seed_bandwidth=seed_bandwidth)
    assert count(labels) == count(moved) == 4
    assert adjusted_rand_score(labels, moved) >= 0.995


def row_of_balls(rng: np.random.Generator, num: int, size: int, *, spacing: float, radius: float) -> np.ndarray:
    """Balls in a row along the first of 8 dimensions."""
    offset = rng.standard_normal((num * size, 8))
    offset *= radius * rng.random((num * size, 1)) ** (1 / 8) / np.linalg.norm(offset, axis=1, keepdims=True)
    offset[:, 0] += spacing * np.repeat(np.arange(num), size)
    return offset


@pytest.mark.parametrize(
    ("num_dims", "fraction"), [(2, 0.02), (8, 0.02), (16, 0.05), (8, 0.05), (16, 0.1), (2, 0.2), (8, 0.2), (16, 0.2)]
)
def test_outliers_hardly_change_the_count(num_dims: int, fraction: float) -> None:
    rng = np.random.default_rng(4)
    bad = round(20_000 * fraction)
    good = 20_000 - bad
    sizes = [good // 3, good // 4, good // 5, good // 8]
    sizes.append(good - sum(sizes))
    points, truth = balls(rng, sizes, num_dims)
    # In two dimensions a narrow box would be so full that outliers are clusters of the least size themselves.
    margin = 100 if num_dims == 2 else 0
    noise = rng.uniform(points.min(0) - margin, points.max(0) + margin, (bad, num_dims))
    labels = mean_shift(np.concatenate([points, noise]))
    assert abs(count(labels) - 5) <= 1
    assert adjusted_rand_score(truth, labels[:good]) >= 0.999


def test_a_small_kernel_keeps_apart_what_the_bandwidth_merges() -> None:
    points, truth = large_and_small(150)
    assert count(MeanShift(bandwidth=1.5, seeds=points[::50]).fit(points).labels_) == 1
    assert count(mean_shift(points, bandwidth=1.5, min_cluster_size=20)) == 1
    labels = mean_shift(points, bandwidth=1.5, seed_bandwidth=0.5, min_cluster_size=20)
    assert count(labels) == 2
    assert adjusted_rand_score(truth, labels) > 0.97


def large_and_small(small: int) -> tuple[np.ndarray, np.ndarray]:
    """Two balls, ten times as many points in the first, just more than a bandwidth of 1.5 apart.

    From the small one the wide kernel climbs into the large.
    """
    points = np.random.default_rng(0).normal(0.0, 0.25, (11 * small, 2))
    truth = np.repeat([0, 1], [10 * small, small])
    points[truth == 1, 0] += 1.8
    return points, truth


def test_large_inputs_merge_what_scikit_learn_merges() -> None:
    points, _ = large_and_small(300)
    assert count(mean_shift(points, max_samples=len(points), min_cluster_size=20)) == 1
    assert count(mean_shift(points, min_cluster_size=20)) == 1


def test_clusters_below_the_least_size_are_outliers() -> None:
    points, truth = balls(np.random.default_rng(6), [200, 100, 30, 29], 8)
    assert count(mean_shift(points, min_cluster_size=29)) == 4
    labels = mean_shift(points, min_cluster_size=30, outliers="mark")
    assert count(labels) == 3
    assert np.array_equal(labels == -1, truth == 3)
    assert (mean_shift(points, min_cluster_size=30) >= 0).all()
    assert (mean_shift(points, min_cluster_size=201, outliers="mark") == -1).all()
    assert (mean_shift(points, min_cluster_size=201) == 0).all()


def test_of_two_clusters_below_the_least_size_the_larger_stays_and_is_given_the_others_points() -> None:
    points = np.repeat([[0.0], [1.45], [1.75]], [19, 6, 6], axis=0)
    modes = find_modes(points, bandwidth=1.5, seed_bandwidth=0.5, min_cluster_size=20)
    assert modes.round(3).tolist() == [[0.0]]
    assert len(find_modes(points, bandwidth=1.5, seed_bandwidth=0.5, min_cluster_size=12)) == 2


def test_labels_are_dense_and_the_densest_comes_first() -> None:
    points, truth = balls(np.random.default_rng(8), [50, 400, 120], 4)
    labels = mean_shift(points)
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels[truth == 1] == 0).all()


def test_degenerate_inputs() -> None:
    assert mean_shift(np.empty((0, 3))).shape == (0,)
    assert mean_shift([[1.0, 2.0]]).tolist() == [0]
    assert mean_shift([[1.0, 2.0]], outliers="mark").tolist() == [0]
    assert (mean_shift(np.full((5000, 4), 7.25)) == 0).all()
    assert mean_shift([[0.0], [10.0], [20.0]]).tolist() != [0, 0, 0]
    scattered = np.arange(50.0)[:, None] * 10
    assert (mean_shift(scattered, min_cluster_size=2, outliers="mark") == -1).all()
    assert (mean_shift(scattered, min_cluster_size=2) == 0).all()
    assert find_modes(np.empty((0, 3))).shape == (0, 3)
    assert find_modes(scattered, min_cluster_size=2).shape == (0, 1)


@pytest.mark.parametrize("num_points", [200, 255, 256, 300, 511])
def test_points_on_one_spot_are_as_many_as_they_are(num_points: int) -> None:
    """Neighbours are counted in bytes, which hold 255."""
    points = np.full((num_points, 1), 7.25)
    assert (mean_shift(points, min_cluster_size=num_points, outliers="mark") == 0).all()


@pytest.mark.parametrize(
    "points", [[[np.nan, 0.0]], [[0.0, np.inf]], [[0.0, -np.inf], [0.0, np.inf]], [1.0, 2.0], np.zeros((2, 2, 2)), 3.0]
)
def test_wrong_points(points: object) -> None:
    with pytest.raises(ValueError, match="points:"):
        mean_shift(points)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="points:"):
        find_modes(points)  # type: ignore[arg-type]


def test_points_without_dimensions() -> None:
    with pytest.raises(ValueError, match="points: expected an NxE array"):
        mean_shift(np.zeros((4, 0)))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"bandwidth": -1.0}, "bandwidth"),
        ({"bandwidth": float("nan")}, "bandwidth"),
        ({"bandwidth": float("inf")}, "bandwidth"),
        ({"seed_bandwidth": 0.0}, "seed_bandwidth"),
        ({"seed_bandwidth": 1.6}, "seed_bandwidth"),
        ({"seed_bandwidth": float("nan")}, "seed_bandwidth"),
        ({"min_cluster_size": 0}, "min_cluster_size"),
        ({"max_samples": 0}, "max_samples"),
        ({"outliers": "drop"}, "outliers"),
    ],
)
def test_wrong_parameters(arguments: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        mean_shift(np.zeros((3, 2)), **arguments)


def test_any_float_layout_is_taken_and_left_alone() -> None:
    points, _ = balls(np.random.default_rng(9), [300, 200], 8)
    single = points.astype(np.float32)
    expected = mean_shift(single)
    before = single.copy()
    wide = np.zeros((500, 16), dtype=np.float64)
    wide[:, ::2] = single
    for layout in (single.astype(np.float64), np.asfortranarray(single), single.T.copy().T, wide[:, ::2]):
        assert np.array_equal(mean_shift(layout), expected)
    single.setflags(write=False)
    assert np.array_equal(mean_shift(single), expected)
    assert np.array_equal(single, before)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_cluster_of_three_in_a_thousand_is_found(ordered: bool) -> None:
    # 150 points of 50,000: a sample of 2,048 holds about six of them.
    points, truth = balls(np.random.default_rng(10), [30_000, 12_000, 7_850, 150], 8)
    if ordered:
        order = np.argsort(truth, kind="stable")
        points, truth = points[order], truth[order]
    assert adjusted_rand_score(truth, mean_shift(points)) == 1.0


def test_a_tiny_cluster_is_found_when_asked_for() -> None:
    # 30 points of 50,000: 1.2 in a sample.
    points, truth = balls(np.random.default_rng(11), [30_000, 12_000, 7_970, 30], 8)
    assert adjusted_rand_score(truth, mean_shift(points, min_cluster_size=20)) == 1.0


@pytest.mark.parametrize(("max_samples", "least"), [(10, 20), (40, 45)])
@pytest.mark.parametrize("ordered", [True, False])
def test_more_clusters_than_samples(ordered: bool, max_samples: int, least: int) -> None:
    points, truth = balls(np.random.default_rng(12), [40] * 50, 4)
    if ordered:
        order = np.argsort(truth, kind="stable")
        points, truth = points[order], truth[order]
    labels = mean_shift(points, max_samples=max_samples)
    # A few samples a round can't find all, but what they find is kept, and no cluster is cut.
    assert least <= count(labels) <= 50
    assert all(len(np.unique(labels[truth == k])) == 1 for k in range(50))


def test_more_clusters_than_sure_rounds_find() -> None:
    rng = np.random.default_rng(13)
    truth = np.repeat(np.arange(2000), 24)
    points = 8 * rng.standard_normal((2000, 8))[truth] + 0.1 * rng.standard_normal((len(truth), 8))
    assert adjusted_rand_score(truth, mean_shift(points, min_cluster_size=20)) == 1.0


def test_noise_is_not_searched_for_ever() -> None:
    """Hardly a point has another within reach: a search to the end takes 64 rounds."""
    points = 3 * np.random.default_rng(14).standard_normal((4096, 16))
    with patch("panembed.clustering.mean_shift.assign", wraps=assign) as assigned:
        assert count(mean_shift(points, max_samples=64, min_cluster_size=4)) == 1
    rounds = sum(len(call.args[0]) == len(points) for call in assigned.call_args_list)
    assert rounds == _SURE_ROUNDS


def test_modes_are_the_centres() -> None:
    points, truth = balls(np.random.default_rng(13), [4000, 2000, 1000], 8)
    modes = find_modes(points)
    assert modes.dtype == np.float32
    means = np.stack([points[truth == k].mean(0) for k in range(3)])
    gap = np.linalg.norm(modes[:, None] - means[None], axis=2)
    assert sorted(gap.argmin(1).tolist()) == [0, 1, 2]
    assert gap.min(1).max() < 0.05


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_assign_is_the_nearest_by_brute_force(offset: float) -> None:
    rng = np.random.default_rng(14)
    points = (rng.normal(0, 3, (5000, 6)) + offset).astype(np.float32)
    modes = (rng.normal(0, 3, (37, 6)) + offset).astype(np.float32)
    labels, squared = assign(points, modes)
    exact = ((points[:, None].astype(np.float64) - modes[None]) ** 2).sum(2)
    assert np.allclose(squared, exact.min(1), rtol=1e-3, atol=1e-3)
    assert np.allclose(exact[np.arange(5000), labels], exact.min(1), rtol=1e-4, atol=1e-3)
    assert (labels == exact.argmin(1)).mean() > 0.999


def test_no_squared_distance_is_below_0() -> None:
    modes = np.random.default_rng(0).normal(0, 3, (37, 6)).astype(np.float32)
    labels, squared = assign(modes, modes)
    assert labels.tolist() == list(range(37))
    assert squared.min() >= 0


@pytest.mark.parametrize("num_modes", [1, 2, 255, 256, 257, 700])
def test_assign_with_any_number_of_modes(num_modes: int) -> None:
    rng = np.random.default_rng(15)
    modes = rng.permutation(num_modes).astype(np.float32)[:, None] * np.ones(3, dtype=np.float32)
    truth = rng.integers(0, num_modes, 3000)
    labels, squared = assign(modes[truth] + np.float32(0.1), modes)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, truth)
    # Single precision over 700 units.
    assert np.allclose(squared, 0.03, atol=0.06)


def test_of_two_equal_modes_the_first_wins() -> None:
    modes = np.array([[5.0], [1.0], [1.0], [5.0]], dtype=np.float32)
    assert assign(np.array([[1.0], [5.0], [2.0]], dtype=np.float32), modes)[0].tolist() == [1, 0, 1]


@pytest.mark.parametrize("least", [1, 20, 120])
def test_every_label_is_the_nearest_mode(least: int) -> None:
    # Several rounds and removals: balls of very different size among outliers.
    points, _ = balls(np.random.default_rng(16), [9000, 3000, 300, 100, 60, 30, 15], 4)
    points = np.concatenate([points, np.random.default_rng(17).uniform(points.min(), points.max(), (500, 4))])
    points = points.astype(np.float32)
    modes = find_modes(points, min_cluster_size=least)
    exact = ((points[:, None].astype(np.float64) - modes[None]) ** 2).sum(2)
    labels = mean_shift(points, min_cluster_size=least)
    assert np.allclose(exact[np.arange(len(points)), labels], exact.min(1), rtol=1e-4, atol=1e-3)
    # No mode without its points, and none within a bandwidth of another.
    near = exact.min(1) <= 1.5**2
    assert np.bincount(exact.argmin(1)[near], minlength=len(modes)).min() >= least
    gap = np.linalg.norm(modes[:, None] - modes, axis=2) + 9 * np.eye(len(modes))
    assert gap.min() > 1.5 - 1e-3


def test_modes_stay_where_a_mean_shift_step_leaves_them() -> None:
    points, _ = balls(np.random.default_rng(18), [900, 600, 300], 8, kind="ball", spacing=2.2)
    modes = find_modes(points, bandwidth=1.2, seed_bandwidth=0.7)
    assert len(modes) == 3
    for mode in modes:
        inside = ((points - mode) ** 2).sum(1) <= 0.7**2
        assert np.linalg.norm(points[inside].mean(0) - mode) < 0.02


@pytest.mark.parametrize("offset", [1e6, 1e8, -1e12])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_adding_a_constant_changes_nothing(offset: float, dtype: type) -> None:
    points, truth = balls(np.random.default_rng(3), [80, 60, 40], 3)
    points = np.round(points * 64).astype(dtype)  # sums of these with the offset are exact
    near, far = (mean_shift(points + dtype(move), bandwidth=96) for move in (0, offset))
    assert np.array_equal(near, far)
    assert adjusted_rand_score(near, truth) == 1.0
    moved = find_modes(points + dtype(offset), bandwidth=96) - offset
    assert np.allclose(moved, find_modes(points, bandwidth=96), atol=0.01)
