"""Objects from a seed map and learned bandwidths, without mean shift (Neven et al. 2019, section 3.4).

The pixel with the best score is a centre; all that its own bandwidth reaches is its object; the next centre is the best
pixel that is left. For networks with a seed head (`panembed.losses.soft_mask`).

Shape suffixes: N points, E dimensions, K centres, B points in a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_BLOCK_BYTES = 1 << 20

_REJECTED = 500
"""Seeds that turn out to be none, after which no more are tried; every object that is found makes up for two. An
untrained network would have a seed in every pixel."""

_POINTS_IN_A_ROW, _POINTS_IN_ALL = 1 << 25, 1 << 30
"""Where points are few, and a try costs little, more may be none: so many points divided by their number. In all there
may be more of them, as many objects come with much debris."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pixels that could be centres of objects, best score first.

    Attributes:
        centres: KxE float32, means of the points that each reaches and none before it.
        sharpness: K float32, w: a point belongs to a centre to the degree exp(-w * squared distance).
        taken: K, which of them are centres; the others are too small, or pieces of another's rim.
    """

    centres: Floats
    sharpness: Floats
    taken: NDArray[np.bool_]


def find_candidates(
    points: Floats,
    log_sharpness: Floats,
    scores: Floats,
    *,
    least_score: float = 0.5,
    min_cluster_size: int = 20,
    own_share: float = 0.7,
    spare_size: int | None = None,
) -> Candidates:
    """Find centres, and what came near to being one.

    Args:
        points: NxE float32 embeddings.
        log_sharpness: N, log of w at each point.
        scores: N, how good a centre each point is, 0 to 1.
        least_score: points below this are no centres.
        min_cluster_size: an object with fewer points of its own is none.
        own_share: of what a centre reaches, more than this must not be in objects found before: else it is a piece of
            their rim.
        spare_size: what isn't taken is reported from so many points of its own on; None reports only what is taken.

    >>> points = np.array([[0.0], [0.1], [5.0], [5.1]], np.float32)
    >>> scores = np.array([0.9, 0.1, 0.8, 0.1], np.float32)
    >>> find_candidates(points, np.zeros(4, np.float32), scores, min_cluster_size=2).centres.ravel()
    array([0.05, 5.05], dtype=float32)
    """
    score_n = np.where(scores >= least_score, scores, -np.inf)
    free_n = np.ones(len(points), dtype=bool)
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, from the centre of all points, so that cancellation stays harmless.
    centred = points - points.mean(0) if len(points) else points
    norm_n = np.square(centred).sum(1)
    centres, sharpness, taken = [], [], []
    most_in_a_row, most = (max(_REJECTED, n // max(1, len(points))) for n in (_POINTS_IN_A_ROW, _POINTS_IN_ALL))
    in_a_row = rejected = 0
    while len(points) and in_a_row < most_in_a_row and rejected < most:
        best = int(score_n.argmax())
        if score_n[best] == -np.inf:
            break
        reach = np.float32(np.log(2.0) * np.exp(min(-float(log_sharpness[best]), 80.0)) - norm_n[best])
        inside_n = norm_n - centred @ (2 * centred[best]) < reach
        inside_n[best] = True
        own_n = inside_n & free_n
        size = np.count_nonzero(own_n)
        is_taken = size >= min_cluster_size and size > own_share * np.count_nonzero(inside_n)
        rejected += not is_taken
        in_a_row = max(0, in_a_row - 2) if is_taken else in_a_row + 1
        if is_taken or (spare_size is not None and size >= max(1, spare_size)):
            centres.append(points[own_n].mean(0))
            sharpness.append(np.exp(log_sharpness[own_n].mean()))
            taken.append(is_taken)
        free_n[own_n] = False
        score_n[inside_n] = -np.inf
    return Candidates(
        np.asarray(centres, np.float32).reshape(-1, points.shape[1]),
        np.asarray(sharpness, np.float32),
        np.asarray(taken, bool),
    )


def assign_scaled(points: Floats, centres: Floats, sharpness: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Give every point to the centre whose soft mask it is most in.

    Args:
        points: NxE float32.
        centres: KxE, at least one.
        sharpness: K.

    Returns:
        N int32 indices of centres, and the N float32 values w * squared distance there.

    >>> assign_scaled(np.array([[1.2]], np.float32), np.array([[0.0], [2.0]], np.float32), np.array([1, 9], np.float32))
    (array([0], dtype=int32), array([1.44], dtype=float32))
    """
    labels, least = np.empty(len(points), np.int32), np.empty(len(points), np.float32)
    # From the centre of the centres, so that cancellation stays harmless.
    origin_e = centres.mean(0)
    centre_ke = centres - origin_e
    norm_k = np.square(centre_ke).sum(1)
    block = max(1, _BLOCK_BYTES // (4 * (len(centres) + points.shape[1])))
    for start in range(0, len(points), block):
        x_be = points[start : start + block] - origin_e
        scaled_bk = (np.square(x_be).sum(1)[:, None] - 2 * (x_be @ centre_ke.T) + norm_k) * sharpness
        labels[start : start + block] = scaled_bk.argmin(1)
        least[start : start + block] = scaled_bk.min(1)
    return labels, np.maximum(least, 0, out=least)
