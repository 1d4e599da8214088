"""HDBSCAN (Campello, Moulavi and Sander 2013), scikit-learn's, as an alternative to mean shift.

It needs no bandwidth: clusters may differ in width. It is slow where points are many, so it sees a spread sample, and
every other point goes to the nearest cluster's mean. Install with `pip install 'panembed[hdbscan]'`.

Shape suffixes: N points, E dimensions, S sampled points, K clusters.
"""

from __future__ import annotations

from importlib import import_module
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panembed.clustering.mean_shift import assign, centred, spread
from panembed.errors import MissingExtraError

Floats = NDArray[np.float32]


def hdbscan(
    points: ArrayLike,
    *,
    min_cluster_size: int | None = None,
    min_samples: int | None = None,
    outliers: Literal["nearest", "mark"] = "nearest",
    max_samples: int = 4096,
) -> NDArray[np.int32]:
    """Cluster points by the density at which they come apart.

    Args:
        points: NxE floats, finite.
        min_cluster_size: groups with fewer points are outliers. None means a two-hundredth of the points, at least 5.
        min_samples: neighbours that say how dense a point's place is; more of them make more outliers. None takes
            `min_cluster_size`.
        outliers: "nearest" gives outliers to the cluster with the nearest mean; "mark" labels them -1. Of the points
            beyond `max_samples`, those farther from the nearest mean than any point of its cluster are outliers.
        max_samples: clusters are sought among at most this many points, spread evenly over the input; both sizes
            shrink with them.

    Returns:
        N int32 labels 0..K-1, the largest cluster first. All -1 where there is no cluster (no points, or all of them
        outliers with `outliers="mark"`).

    Raises:
        ValueError: points are not NxE finite numbers, or a parameter is out of range.
        MissingExtraError: scikit-learn is not installed.

    >>> centres = np.repeat([[0.0, 0.0], [4.0, 0.0]], 50, axis=0)
    >>> labels = hdbscan(centres + 0.1 * np.random.default_rng(0).standard_normal((100, 2)))
    >>> len(set(labels[:50].tolist())), bool(labels[0] != labels[99])
    (1, True)
    """
    points_ne, _ = centred(points)
    if outliers not in ("nearest", "mark"):
        raise ValueError(f"outliers: expected 'nearest' or 'mark', found {outliers!r}")
    sample_s, sample_labels = _cluster_sample(points_ne, min_cluster_size, min_samples, max_samples)
    num_clusters = int(sample_labels.max(initial=-1)) + 1
    if num_clusters == 0:
        # Every point is an outlier: one cluster, or none.
        return np.full(len(points_ne), 0 if outliers == "nearest" else -1, dtype=np.int32)
    labels, squared = assign(points_ne, _means(points_ne[sample_s], sample_labels, num_clusters))
    if outliers == "mark":
        own = labels[sample_s] == sample_labels
        reach_k = np.zeros(num_clusters, dtype=np.float32)
        np.maximum.at(reach_k, sample_labels[own], squared[sample_s][own])
        labels[squared > reach_k[labels]] = -1
        labels[sample_s] = sample_labels
    else:
        clustered = sample_labels >= 0
        labels[sample_s[clustered]] = sample_labels[clustered]
    return labels


def find_centres(
    points: ArrayLike,
    *,
    min_cluster_size: int | None = None,
    min_samples: int | None = None,
    max_samples: int = 4096,
) -> NDArray[np.floating]:
    """Find the means of the clusters of `hdbscan`; parameters and errors as there.

    Returns:
        KxE float32, the largest cluster first; float64 where points far from zero have more digits than that.

    >>> points = np.repeat([[0.0], [9.0]], [6, 5], axis=0) + 0.01 * np.arange(11)[:, None]
    >>> find_centres(points, min_cluster_size=3).round().tolist()
    [[0.0], [9.0]]
    """
    points_ne, origin_e = centred(points)
    sample_s, labels = _cluster_sample(points_ne, min_cluster_size, min_samples, max_samples)
    means_ke = _means(points_ne[sample_s], labels, int(labels.max(initial=-1)) + 1)
    return means_ke + origin_e if origin_e.any() else means_ke


def _means(sample_se: Floats, labels: NDArray[np.int32], num_clusters: int) -> Floats:
    """Mean of each cluster's points; those labelled -1 count nowhere."""
    sums_ke = np.zeros((num_clusters, sample_se.shape[1]))
    clustered = labels >= 0
    np.add.at(sums_ke, labels[clustered], sample_se[clustered])
    return np.asarray(sums_ke / np.bincount(labels[clustered], minlength=num_clusters)[:, None], dtype=np.float32)


def _cluster_sample(
    points_ne: Floats, min_cluster_size: int | None, min_samples: int | None, max_samples: int
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Let scikit-learn cluster a sample.

    Returns:
        S indices of points, and their int32 labels, largest cluster first, -1 for outliers.
    """
    num_points = len(points_ne)
    least = max(5, num_points // 200) if min_cluster_size is None else min_cluster_size
    neighbours = least if min_samples is None else min_samples
    if least < 2 or neighbours < 1 or max_samples < 2:
        raise ValueError(
            f"expected min_cluster_size >= 2, min_samples >= 1 and max_samples >= 2, "
            f"found {min_cluster_size}, {min_samples} and {max_samples}"
        )
    try:
        cluster = import_module("sklearn.cluster")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "HDBSCAN needs scikit-learn, which is not installed; run: pip install 'panembed[hdbscan]'"
        ) from error
    sample_s = spread(np.arange(num_points), max_samples)
    if num_points < least:
        return sample_s, np.full(len(sample_s), -1, dtype=np.int32)
    share = len(sample_s) / num_points
    least, neighbours = max(2, round(least * share)), min(len(sample_s), max(1, round(neighbours * share)))
    for single in (False, True):
        # By itself HDBSCAN never finds one cluster only; an image may well hold one object only.
        method = cluster.HDBSCAN(min_cluster_size=least, min_samples=neighbours, allow_single_cluster=single, copy=True)
        labels = np.asarray(method.fit_predict(points_ne[sample_s]), dtype=np.int32)
        if labels.max(initial=-1) >= 0:
            break
    labels[labels < 0] = -1
    sizes = np.bincount(labels[labels >= 0])
    rank = np.empty(len(sizes) + 1, dtype=np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes), dtype=np.int32)
    rank[-1] = -1
    return sample_s, rank[labels]
