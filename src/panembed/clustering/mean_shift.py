"""Exact flat-kernel mean shift (Fukunaga and Hostetler 1975; Comaniciu and Meer 2002), built for pixel embeddings.

Embeddings trained with the discriminative loss form a few dense balls of many points. So modes are sought from few
seeds, densest first: a seed climbs to its mode, and the mode takes its surroundings out of the search. What no mode
explains is searched again, until only outliers are left. Then one blocked matrix product gives every point to its
nearest mode. Time grows with points x clusters, not with points squared.

Shape suffixes: N points, E dimensions, S sampled points, K modes.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]

_BLOCK_BYTES = 1 << 20
"""Size of one block of point-to-mode products: stays in the second-level cache."""

_MAX_ROUNDS = 8
"""Searches of what earlier modes leave unexplained; two are enough unless clusters differ a thousandfold in size."""


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
    points_ne = as_points(points)
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


def find_modes(
    points: ArrayLike,
    *,
    bandwidth: float = 1.5,
    seed_bandwidth: float | None = None,
    min_cluster_size: int | None = None,
    max_samples: int = 2048,
) -> Floats:
    """Find the modes that `mean_shift` clusters around; parameters and errors as there.

    Returns:
        KxE float32, densest first; each has at least `min_cluster_size` points nearest to it and within `bandwidth`.

    >>> find_modes([[0.0], [1.0], [9.0]], bandwidth=1.5, min_cluster_size=2).round(2).tolist()
    [[0.5]]
    """
    return _search(as_points(points), bandwidth, seed_bandwidth, min_cluster_size, max_samples)[0]


def _search(
    points_ne: Floats, bandwidth: float, seed_bandwidth: float | None, min_cluster_size: int | None, max_samples: int
) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Search rounds: modes of a sample, then modes of what those leave unexplained, until nothing has support.

    Returns:
        K modes, and for each of N points its nearest mode and the squared distance to it.
    """
    kernel = bandwidth if seed_bandwidth is None else seed_bandwidth
    if not bandwidth > 0 or not 0 < kernel <= bandwidth:
        raise ValueError(f"expected 0 < seed_bandwidth <= bandwidth, found {seed_bandwidth} and {bandwidth}")
    if max_samples < 1 or (min_cluster_size is not None and min_cluster_size < 1):
        raise ValueError(f"expected max_samples and min_cluster_size >= 1, found {max_samples} and {min_cluster_size}")
    num_points, num_dims = points_ne.shape
    least = max(1, num_points // 1000) if min_cluster_size is None else min_cluster_size
    modes_ke = np.empty((0, num_dims), dtype=np.float32)
    labels, squared = np.zeros(num_points, dtype=np.int32), np.full(num_points, np.inf, dtype=np.float32)
    left_ne, explained_ne = points_ne, points_ne[:0]
    for _ in range(_MAX_ROUNDS):
        if len(left_ne) < least:
            break
        sample_se = _spread(left_ne, max_samples)
        # Lone points can't make a cluster of the least size; a seed shows a part of its cluster only.
        support = max(1, least // 4)
        if len(sample_se) < len(left_ne):
            # A lone sample says nothing; a small cluster missed now is hit when the large ones are gone.
            support = max(2, int(least * len(sample_se) / len(left_ne) / 2))
        # What is left lies about clusters found before, whose points must pull too: else a cluster's rim would climb
        # to a mode of its own.
        rest_se = _spread(explained_ne, 4 * max_samples)
        weight = len(explained_ne) / max(1, len(rest_se)) / (len(left_ne) / len(sample_se))
        found_ke = _climb(sample_se, rest_se, weight, modes_ke, bandwidth, kernel, support)
        if len(found_ke) == 0 and support == 2:
            # About as many clusters as samples: then lone samples are all there is to go by.
            found_ke = _climb(sample_se, rest_se, weight, modes_ke, bandwidth, kernel, 1)
        if len(found_ke) == 0:
            break
        modes_ke = np.concatenate([modes_ke, found_ke])
        labels, squared = assign(points_ne, modes_ke)
        if len(sample_se) == len(left_ne):
            break
        left_ne, explained_ne = points_ne[squared > bandwidth**2], points_ne[squared <= bandwidth**2]
    while len(modes_ke) and least > 1:
        # Remove the smaller half of the clusters below the least size, give their points away, and look again.
        size_k = np.bincount(labels[squared <= bandwidth**2], minlength=len(modes_ke))
        small = np.flatnonzero(size_k < least)
        if len(small) == 0:
            break
        modes_ke = np.delete(modes_ke, small[np.argsort(size_k[small], kind="stable")][: (len(small) + 1) // 2], axis=0)
        if len(modes_ke):
            labels, squared = assign(points_ne, modes_ke)
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
    # |x - m|^2 = |x|^2 - 2 (x m - |m|^2 / 2): the nearest mode has the largest term in brackets. Shifting the origin
    # to the centre of the modes keeps the cancellation harmless far from zero.
    centre_e = modes_ke.mean(0)
    modes_ek = np.ascontiguousarray((modes_ke - centre_e).T)
    half_norm_k = 0.5 * np.einsum("ek,ek->k", modes_ek, modes_ek)
    block = max(256, _BLOCK_BYTES // (4 * num_modes))
    for start in range(0, num_points, block):
        x_be = points_ne[start : start + block] - centre_e
        score_bk = x_be @ modes_ek
        score_bk -= half_norm_k
        best_b = score_bk.argmax(1)
        labels[start : start + block] = best_b
        score_b = np.take_along_axis(score_bk, best_b[:, None], 1)[:, 0]
        squared[start : start + block] = np.einsum("be,be->b", x_be, x_be) - 2 * score_b
    return labels, np.maximum(squared, 0, out=squared)


def _spread(points_ne: Floats, count: int) -> Floats:
    """At most `count` points, evenly spread over the input; the same ones every time."""
    if len(points_ne) <= count:
        return points_ne
    # Half-steps of the golden ratio jitter the stride, so that image columns don't alias with it.
    position = (np.arange(count) + np.arange(count) * 0.618033988749895 % 1.0) * (len(points_ne) / count)
    return points_ne[np.minimum(position.astype(np.int64), len(points_ne) - 1)]


def _climb(
    sample_se: Floats,
    rest_re: Floats,
    rest_weight: float,
    known_ke: Floats,
    bandwidth: float,
    kernel: float,
    support: int,
) -> Floats:
    """Seed densest first, shift to the mode, take the mode's surroundings out; until no seed has enough support.

    Seeds are among `sample_se`; they shift among these and `rest_re`, each of which weighs as much as `rest_weight` of
    the samples.
    """
    # From their centre, so that points far from zero lose no digits.
    centre_e = sample_se.mean(0)
    sample_se, rest_re, known_ke = sample_se - centre_e, rest_re - centre_e, known_ke - centre_e
    norm_s = np.einsum("se,se->s", sample_se, sample_se)
    # |a - b|^2 <= r^2 as one product and one comparison: a b - |b|^2 / 2 >= (|a|^2 - r^2) / 2.
    product_ss = sample_se @ sample_se.T
    product_ss -= 0.5 * norm_s
    near_ss = product_ss >= 0.5 * (norm_s - kernel**2)[:, None]
    density_s = np.count_nonzero(near_ss, axis=1)
    all_ae, norm_a, weight_a = sample_se, norm_s, None
    if len(rest_re):
        all_ae = np.concatenate([sample_se, rest_re])
        norm_a = np.einsum("ae,ae->a", all_ae, all_ae)
        weight_a = np.ones(len(all_ae), dtype=np.float32)
        weight_a[len(sample_se) :] = rest_weight
    found: list[Floats] = []
    taken: list[Any] = list(known_ke)
    while True:
        seed = int(density_s.argmax())
        if density_s[seed] < support or density_s[seed] == 0:
            found_ke: Floats = np.array(found, dtype=np.float32).reshape(-1, sample_se.shape[1])
            return np.asarray(found_ke + centre_e, dtype=np.float32)
        mode_e = _shift(sample_se[near_ss[seed]].mean(0), all_ae, norm_a, weight_a, kernel)
        is_new = not taken or float(((np.array(taken) - mode_e) ** 2).sum(1).min()) > bandwidth**2
        if is_new:
            found.append(mode_e)
            taken.append(mode_e)
            density_s[_squared_to(mode_e, sample_se, norm_s) <= bandwidth**2] = 0
        else:
            # All that starts so near this seed climbs the same slope.
            density_s[near_ss[seed]] = 0
        density_s[seed] = 0


def _shift(
    start_e: Floats,
    points_ae: Floats,
    norm_a: Floats,
    weight_a: Floats | None,
    kernel: float,
    max_steps: int = 100,
) -> Floats:
    """Move to the weighted mean of the points within `kernel`, until it stays where it is."""
    mean_e = start_e
    for _ in range(max_steps):
        inside_a = _squared_to(mean_e, points_ae, norm_a) <= kernel**2
        if not inside_a.any():
            return mean_e
        moved_e: Floats
        if weight_a is None:
            moved_e = points_ae[inside_a].mean(0)
        else:
            weight_i = weight_a[inside_a]
            moved_e = (weight_i @ points_ae[inside_a]) / weight_i.sum()
        if float(((moved_e - mean_e) ** 2).sum()) <= (1e-3 * kernel) ** 2:
            return moved_e
        mean_e = moved_e
    return mean_e


def _squared_to(point_e: Floats, sample_se: Floats, norm_s: Floats) -> Floats:
    """Squared distance of one point to every sample."""
    squared: Floats = sample_se @ (-2 * point_e)
    squared += norm_s
    squared += point_e @ point_e
    return squared
