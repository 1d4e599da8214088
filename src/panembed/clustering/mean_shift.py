"""Exact flat-kernel mean shift (Fukunaga and Hostetler 1975; Comaniciu and Meer 2002), built for pixel embeddings.

Embeddings trained with the discriminative loss form a few dense balls of many points. So modes are sought from few
seeds, densest first: seeds more than a bandwidth apart climb together to their modes, and the modes take their
surroundings out of the search. What no mode explains is searched again, until only outliers are left. A blocked matrix
product gives every point to its nearest mode. Time grows with points x clusters, not with points squared.

Shape suffixes: N points, E dimensions, S sampled points, K modes, A points that attract, Q places of seeds, M of them
moving, F = E + 2 columns of lifted points, B points in a block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]

_MAX_SEEDS = 512
"""Starts of climbs in a round, among `max_samples` points: enough to hit every cluster but the smallest."""

_MAX_COUNTED = 1024
"""Points that say how dense a seed's neighbourhood is; it orders the seeds, and the climbs see the whole sample."""

_SURE_ROUNDS = 8
"""Searches of what earlier modes leave unexplained. Two are enough for a few hundred clusters of like sizes. For more
clusters more are made, but after these only while a round's modes hold points enough to be clusters, as none do in
noise."""


_MOST_PAIRS = 1 << 33
"""Points times modes beyond which no more rounds are made: a minute or two."""


def mean_shift(
    points: ArrayLike,
    *,
    bandwidth: float = 1.5,
    seed_bandwidth: float | None = None,
    min_cluster_size: int | None = None,
    outliers: Literal["nearest", "mark"] = "nearest",
    max_samples: int = 2048,
) -> NDArray[np.int32]:
    """Cluster points around the modes of their flat-kernel density.

    Args:
        points: NxE floats, finite.
        bandwidth: two modes nearer than this are one cluster, and a point farther than this from every mode is an
            outlier. The discriminative loss suggests delta_dist (Zachow 2022, section 3.3).
        seed_bandwidth: radius of the kernel that climbs to the modes; None takes `bandwidth`, which is classic mean
            shift. A smaller kernel (delta_var or a little more) finds the centre of a ball where two balls have come
            closer than the loss asks for, and keeps them apart.
        min_cluster_size: clusters with fewer points are outliers. None means a thousandth of the points.
        outliers: "nearest" gives outliers to the nearest remaining cluster; "mark" labels them -1.
        max_samples: seeds and modes are sought among at most this many points at a time, spread evenly over the
            input; every point takes part where there are no more than this.

    Returns:
        N int32 labels 0..K-1 in the order in which modes were found, densest first. All -1 where there is no cluster
        (no points, or none of the least size with `outliers="mark"`).

    Raises:
        ValueError: points are not NxE finite numbers, or a parameter is out of range.

    >>> rng = np.random.default_rng(0)
    >>> centres = np.repeat([[0.0, 0.0], [4.0, 0.0]], 50, axis=0)
    >>> labels = mean_shift(centres + 0.1 * rng.standard_normal((100, 2)))
    >>> len(set(labels[:50].tolist())), bool(labels[0] != labels[99])
    (1, True)
    """
    points_ne, _ = centred(points)
    if outliers not in ("nearest", "mark"):
        raise ValueError(f"outliers: expected 'nearest' or 'mark', found {outliers!r}")
    modes_ke, labels, squared = _search(points_ne, bandwidth, seed_bandwidth, min_cluster_size, max_samples)
    if len(modes_ke) == 0:
        # Every point is an outlier: one cluster, or none.
        return np.full(len(points_ne), 0 if outliers == "nearest" else -1, dtype=np.int32)
    if outliers == "mark":
        labels[squared > bandwidth**2] = -1
    return labels


def as_points(points: ArrayLike) -> Floats:
    """Check and convert to a C-ordered NxE float32 array."""
    points_ne = np.ascontiguousarray(points, dtype=np.float32)
    if points_ne.ndim != 2 or (points_ne.shape[0] and not points_ne.shape[1]):
        raise ValueError(f"points: expected an NxE array, found shape {points_ne.shape}")
    # A sum is finite only if each of its terms is; far cheaper than testing each.
    if points_ne.size and not np.isfinite(np.einsum("ne->", points_ne)) and not np.isfinite(points_ne).all():
        raise ValueError("points: found NaN or infinity; expected finite numbers")
    return points_ne


def centred(points: ArrayLike) -> tuple[Floats, NDArray[np.float64]]:
    """As `as_points`, but of points far from zero those digits are kept that tell them apart.

    Returns:
        NxE float32, less an origin of E float64: the points' mean where it is far beyond their spread, or else 0.

    >>> centred([[1e9], [1e9 + 2]])
    (array([[-1.],
           [ 1.]], dtype=float32), array([1.e+09]))
    """
    given = np.asarray(points)
    wide = given.dtype.kind in "iuf" and np.result_type(given.dtype, np.float32) != np.float32
    if wide and given.ndim == 2 and given.size:
        exact = given.astype(np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            origin_e = exact.mean(0)
            around_ne = exact - origin_e
        if np.abs(origin_e).max() > 1000 * np.abs(around_ne).max():
            return as_points(around_ne), origin_e
    return as_points(given), np.zeros(given.shape[1:2])


def find_modes(
    points: ArrayLike,
    *,
    bandwidth: float = 1.5,
    seed_bandwidth: float | None = None,
    min_cluster_size: int | None = None,
    max_samples: int = 2048,
) -> NDArray[np.floating]:
    """Find the modes that `mean_shift` clusters around; parameters and errors as there.

    Returns:
        KxE float32, densest first; each has at least `min_cluster_size` points nearest to it and within `bandwidth`.
        KxE float64 where the points are far from zero and have more digits than float32.

    >>> find_modes([[0.0], [1.0], [9.0]], bandwidth=1.5, min_cluster_size=2).round(2).tolist()
    [[0.5]]
    """
    points_ne, origin_e = centred(points)
    modes_ke = _search(points_ne, bandwidth, seed_bandwidth, min_cluster_size, max_samples)[0]
    return modes_ke + origin_e if origin_e.any() else modes_ke


def _search(
    points_ne: Floats, bandwidth: float, seed_bandwidth: float | None, min_cluster_size: int | None, max_samples: int
) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Search rounds: modes of a sample, then modes of what those leave unexplained, until nothing has support.

    Returns:
        K modes, and for each of N points its nearest mode and the squared distance to it.
    """
    kernel = bandwidth if seed_bandwidth is None else seed_bandwidth
    if not 0 < kernel <= bandwidth < math.inf:
        raise ValueError(f"expected 0 < seed_bandwidth <= bandwidth < infinity, found {seed_bandwidth} and {bandwidth}")
    if max_samples < 1 or (min_cluster_size is not None and min_cluster_size < 1):
        raise ValueError(f"expected max_samples and min_cluster_size >= 1, found {max_samples} and {min_cluster_size}")
    num_points, num_dims = points_ne.shape
    least = max(1, num_points // 1000) if min_cluster_size is None else min_cluster_size
    modes_ke = np.empty((0, num_dims), dtype=np.float32)
    labels, squared = np.zeros(num_points, dtype=np.int32), np.full(num_points, np.inf, dtype=np.float32)
    left = np.arange(num_points)
    for number in itertools.count(1):
        if len(left) < least:
            break
        sample_se = points_ne[spread(left, max_samples)]
        # Lone points can't make a cluster of the least size; a seed shows a part of its cluster only.
        support = max(1, least // 4)
        if len(sample_se) < len(left):
            # A lone sample says nothing; a small cluster missed now is hit when the large ones are gone.
            support = max(2, int(least * len(sample_se) / len(left) / 2))
        # What is left lies about clusters found before, whose points must pull too: else a cluster's rim would climb
        # to a mode of its own. Nearer to a mode than this, none pulls a place that has not reached the mode yet.
        rim = np.flatnonzero((squared <= bandwidth**2) & (squared >= (bandwidth - kernel) ** 2))
        rest_re = points_ne[spread(rim, max_samples)]
        weight = len(rim) / max(1, len(rest_re)) / (len(left) / len(sample_se))
        found_ke = _climb(sample_se, rest_re, weight, modes_ke, bandwidth, kernel, support)
        if len(found_ke) == 0 and support == 2:
            # About as many clusters as samples: then lone samples are all there is to go by.
            found_ke = _climb(sample_se, rest_re, weight, modes_ke, bandwidth, kernel, 1)
        if len(found_ke) == 0:
            break
        found_labels, found_squared = assign(points_ne, found_ke)
        np.copyto(labels, found_labels + np.int32(len(modes_ke)), where=found_squared < squared)
        np.minimum(squared, found_squared, out=squared)
        modes_ke = np.concatenate([modes_ke, found_ke])
        if len(left) <= min(max_samples, _MAX_SEEDS):
            break
        before, left = len(left), np.flatnonzero(squared > bandwidth**2)
        scattered = 2 * (before - len(left)) < least * len(found_ke)
        if number >= _SURE_ROUNDS and (scattered or num_points * len(modes_ke) > _MOST_PAIRS):
            break
    while len(modes_ke) and least > 1:
        # Remove the smaller half of the clusters below the least size, give their points away, and look again.
        size_k = np.bincount(labels[squared <= bandwidth**2], minlength=len(modes_ke))
        small = np.flatnonzero(size_k < least)
        if len(small) == 0:
            break
        kept_k = np.ones(len(modes_ke), dtype=bool)
        kept_k[small[np.argsort(size_k[small], kind="stable")][: (len(small) + 1) // 2]] = False
        stray = np.flatnonzero(~kept_k[labels])
        modes_ke, labels = modes_ke[kept_k], (np.cumsum(kept_k, dtype=np.int32) - np.int32(1))[labels]
        if len(modes_ke):
            labels[stray], squared[stray] = assign(points_ne[stray], modes_ke)
    return modes_ke, labels, squared


def assign(points_ne: Floats, modes_ke: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Give every point to its nearest mode, in blocks that stay in cache.

    Args:
        points_ne: N points.
        modes_ke: K modes, at least one.

    Returns:
        N int32 indices of modes, and the N float32 squared distances to them.
    """
    num_points, num_modes = len(points_ne), len(modes_ke)
    labels = np.empty(num_points, dtype=np.int32)
    squared = np.empty(num_points, dtype=np.float32)
    # Shifting the origin to the centre of the modes keeps cancellation harmless far from zero.
    centre_e = modes_ke.mean(0)
    reach_kf = _reach(modes_ke - centre_e, 0.0)
    # argmax along a short axis is slow: the place of the maximum as the largest of these instead, the first mode's.
    code_k = np.arange(num_modes)[::-1].astype(np.min_scalar_type(num_modes - 1))[:, None]
    for block in _slices(num_points, *reach_kf.shape):
        score_kb = reach_kf @ _lift(points_ne[block] - centre_e).T
        best_b = score_kb.max(0)
        labels[block] = num_modes - 1 - ((score_kb == best_b) * code_k).max(0).astype(np.int32)
        squared[block] = -2 * best_b
    return labels, np.maximum(squared, 0, out=squared)


def _lift(points_ae: Floats) -> Floats:
    """Points x as rows [x, 1, -|x|^2 / 2], whose product with a row of `_reach` compares distance and radius."""
    num_points, num_dims = points_ae.shape
    lifted_af = np.empty((num_points, num_dims + 2), dtype=np.float32)
    lifted_af[:, :num_dims] = points_ae
    lifted_af[:, num_dims] = 1
    lifted_af[:, num_dims + 1] = -0.5 * np.einsum("ae,ae->a", points_ae, points_ae)
    return lifted_af


def _reach(places_qe: Floats, radius: float) -> Floats:
    """Places q as rows [q, (r^2 - |q|^2) / 2, 1]: times a lifted point, (r^2 - |q - x|^2) / 2, so >= 0 within r."""
    num_places, num_dims = places_qe.shape
    reach_qf = np.empty((num_places, num_dims + 2), dtype=np.float32)
    reach_qf[:, :num_dims] = places_qe
    reach_qf[:, num_dims] = 0.5 * (radius**2 - np.einsum("qe,qe->q", places_qe, places_qe))
    reach_qf[:, num_dims + 1] = 1
    return reach_qf


def _slices(length: int, others: int, num_features: int) -> Iterator[slice]:
    """Slices of `length` whose products with `others` stay in cache, and too small for BLAS to share among threads.

    Waking threads costs more than such a product, and far more where the processors are busy.
    """
    # OpenBLAS shares a product of matrices from 2^19 multiplications on, and one with a single row from 9,216.
    block = max(1, ((1 << 19) - 1 if others > 1 else 9215) // (others * num_features))
    for start in range(0, length, block):
        yield slice(start, start + block)


def _within(places_qe: Floats, radius: float, points_af: Floats) -> NDArray[np.bool_]:
    """For each of Q places, which of the A lifted points are within `radius`."""
    reach_qf = _reach(places_qe, radius)
    inside_qa = np.empty((len(places_qe), len(points_af)), dtype=bool)
    for block in _slices(len(points_af), *reach_qf.shape):
        np.greater_equal(reach_qf @ points_af[block].T, 0, out=inside_qa[:, block])
    return inside_qa


def _density(places_qe: Floats, radius: float, points_af: Floats) -> NDArray[np.int64]:
    """Count the lifted points within `radius` of each place."""
    reach_fq = _reach(places_qe, radius).T
    count_q = np.zeros(len(places_qe), dtype=np.int64)
    for block in _slices(len(points_af), *reach_fq.shape[::-1]):
        near_bq = points_af[block] @ reach_fq >= 0
        # In bytes, which can't overflow below 256 rows, the sum is many times faster.
        for start in range(0, len(near_bq), 255):
            count_q += near_bq[start : start + 255].view(np.uint8).sum(0, dtype=np.uint8)
    return count_q


def spread(indices: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Choose at most `count` of the indices, evenly spread; the same ones every time.

    >>> spread(np.arange(100), 4).tolist()
    [0, 40, 55, 96]
    """
    if len(indices) <= count:
        return indices
    # Half-steps of the golden ratio jitter the stride, so that image columns don't alias with it.
    position = (np.arange(count) + np.arange(count) * 0.618033988749895 % 1.0) * (len(indices) / count)
    return indices[np.minimum(position.astype(np.intp), len(indices) - 1)]


def _climb(
    sample_se: Floats,
    rest_re: Floats,
    rest_weight: float,
    known_ke: Floats,
    bandwidth: float,
    kernel: float,
    support: int,
) -> Floats:
    """Waves of seeds, densest first, climb to modes and take the modes' surroundings out, until no seed has support.

    Seeds are among `sample_se`; they climb among these and `rest_re`, each of which weighs as much as `rest_weight` of
    the samples.

    Returns:
        Modes farther than `bandwidth` from each other and from the known ones.
    """
    # From their centre, so that points far from zero lose no digits.
    centre_e = sample_se.mean(0)
    points_af = pull_af = _lift(sample_se - centre_e)
    if len(rest_re):
        points_af = np.concatenate([points_af, _lift(rest_re - centre_e)])
        pull_af = points_af.copy()
        pull_af[len(sample_se) :] *= np.float32(rest_weight)
    seeds = spread(np.arange(len(sample_se)), _MAX_SEEDS)
    seed_qf = points_af[seeds]
    step = -(-len(sample_se) // _MAX_COUNTED)
    # A seed itself is one of its neighbours, and stands for itself only.
    others_q = _density(seed_qf[:, :-2], kernel, points_af[: len(sample_se) : step]) - (seeds % step == 0)
    density_q = 1 + step * np.maximum(others_q, 0)
    dense = density_q >= support
    seed_qf, density_q = seed_qf[dense], density_q[dense]
    seed_qe = seed_qf[:, :-2]
    reach_qf = _reach(seed_qe, bandwidth)
    found_ke = known_ke - centre_e
    while density_q.any():
        wave, free_q = [], density_q.copy()
        while free_q.any():
            wave.append(int(free_q.argmax()))
            free_q[seed_qf @ reach_qf[wave[-1]] >= 0] = 0
            free_q[wave[-1]] = 0
        modes_me = _shift(seed_qe[wave], points_af, pull_af, kernel, found_ke, bandwidth)
        found_ke = _apart(np.concatenate([found_ke, modes_me]), bandwidth)
        # All that starts so near a seed climbs the same slope.
        density_q[_within(seed_qe[wave], kernel, seed_qf).any(0)] = 0
        density_q[wave] = 0
        density_q[_within(found_ke, bandwidth, seed_qf).any(0)] = 0
    return np.asarray(found_ke[len(known_ke) :] + centre_e, dtype=np.float32)


def _apart(modes_ke: Floats, bandwidth: float) -> Floats:
    """Leave out modes within `bandwidth` of one before."""
    close_kk = _within(modes_ke, bandwidth, _lift(modes_ke))
    kept: list[int] = []
    for k in range(len(modes_ke)):
        if not close_kk[k, kept].any():
            kept.append(k)
    return modes_ke[kept]


def _shift(
    start_qe: Floats,
    points_af: Floats,
    pull_af: Floats,
    kernel: float,
    known_ke: Floats,
    bandwidth: float,
    max_steps: int = 100,
) -> Floats:
    """Move places together to the weighted mean of the points within `kernel`, until each stays where it is.

    A place that comes within `bandwidth` of a known mode belongs to it and is given up. `pull_af` holds the lifted
    points times their weights.

    Returns:
        Modes of the places not given up, densest first.
    """
    num_dims = start_qe.shape[1]
    place_qe, weight_q = start_qe.copy(), np.zeros(len(start_qe), dtype=np.float32)
    known_kf = _lift(known_ke)
    moving, given_up = np.arange(len(start_qe)), np.zeros(len(start_qe), dtype=bool)
    for _ in range(max_steps):
        from_me = place_qe[moving]
        sum_mf = np.zeros((len(moving), num_dims + 2), dtype=np.float32)
        reach_mf = _reach(from_me, kernel)
        for block in _slices(len(points_af), *reach_mf.shape):
            sum_mf += (reach_mf @ points_af[block].T >= 0).astype(np.float32) @ pull_af[block]
        weight_m = sum_mf[:, num_dims]
        moved_me = np.where(weight_m[:, None] > 0, sum_mf[:, :num_dims] / np.maximum(weight_m, 1e-30)[:, None], from_me)
        place_qe[moving], weight_q[moving] = moved_me, weight_m
        going = np.square(moved_me - from_me).sum(1) > (1e-2 * kernel) ** 2
        if len(known_kf):
            caught = _within(moved_me, bandwidth, known_kf).any(1)
            given_up[moving[caught]] = True
            going &= ~caught
        moving = moving[going]
        if len(moving) == 0:
            break
    order = np.argsort(-weight_q, kind="stable")
    return place_qe[order[~given_up[order]]]
