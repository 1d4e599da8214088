"""Objects from a seed map and learned bandwidths, without mean shift (Neven et al. 2019, section 3.4).

The pixel with the best score is a centre; all that its own bandwidth reaches is its object; the next centre is the best
pixel that is left. For networks with a seed head (`panembed.losses.soft_mask`).

Shape suffixes: N points, E dimensions, K centres, B points in a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MAX_LOG_SHARPNESS = 6.0
"""Bandwidths below 0.035 embedding units say nothing more: the loss neither tells them apart nor pulls them back."""

_BLOCK_BYTES = 1 << 20

_TURNS = 1024
"""So many places are asked at once whether they are wanted, as most are not."""

_FEW_CENTRES = 64
"""With no more, every centre is tried with every point."""

_FEW_DIMENSIONS = 4
"""With no more, differences take no longer than products of matrices, and are exact."""

_SMALL_SHARE = 0.25
"""With more centres only the points near each are compared with it, where these are no more than this share of all."""

_NEAR = 8.0
"""A point that is no farther from a centre than this, scaled, is compared with the centres near it only."""

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
        log_sharpness: N, log of w at each point; above `MAX_LOG_SHARPNESS` as that.
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
    among = _Strips(points)
    log_sharpness = np.clip(log_sharpness[among.order], -80, MAX_LOG_SHARPNESS)
    free_n, open_n = np.ones(len(points), bool), np.ones(len(points), bool)
    centres, sharpness, taken = [], [], []
    most_in_a_row, most = (max(_REJECTED, n // max(1, len(points))) for n in (_POINTS_IN_A_ROW, _POINTS_IN_ALL))
    in_a_row = rejected = 0
    possible = np.flatnonzero(scores >= least_score)
    best_first = among.place[possible[np.argsort(-scores[possible], kind="stable")]]
    for best in _while_true(open_n, best_first):
        if in_a_row >= most_in_a_row or rejected >= most:
            break
        reach = np.log(2.0) * np.exp(-float(log_sharpness[best]))
        strip = among.within(best, reach)
        inside_n = squared_distances(among.columns[:, strip], among.columns[:, best]) < np.float32(reach)
        inside_n[best - strip.start] = True
        own_n = inside_n & free_n[strip]
        size = np.count_nonzero(own_n)
        is_taken = size >= min_cluster_size and size > own_share * np.count_nonzero(inside_n)
        rejected += not is_taken
        in_a_row = max(0, in_a_row - 2) if is_taken else in_a_row + 1
        if is_taken or (spare_size is not None and size >= max(1, spare_size)):
            centres.append(among.columns[:, strip][:, own_n].mean(1, dtype=np.float64))
            sharpness.append(np.exp(log_sharpness[strip][own_n].mean(dtype=np.float64)))
            taken.append(is_taken)
        free_n[strip][own_n] = False
        open_n[strip][inside_n] = False
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
    if len(centres) <= _FEW_CENTRES or not len(points):
        return _assign_all(points, centres, sharpness)
    among = _Strips(points)
    reaches = [_NEAR / float(weight) if weight else math.inf for weight in sharpness]
    strips = [among.about(float(centre[among.axis]), reach) for centre, reach in zip(centres, reaches)]
    if sum(strip.stop - strip.start for strip in strips) > _SMALL_SHARE * len(points) * len(centres):
        return _assign_all(points, centres, sharpness)
    labels, least = np.empty(len(points), np.int32), np.empty(len(points), np.float32)
    labels[among.order], least[among.order] = _assign_columns(among.columns, centres, sharpness, strips)
    far = np.flatnonzero(~(least <= _NEAR))
    labels[far], least[far] = _assign_all(points[far], centres, sharpness)
    return labels, least


def _assign_all(points: Floats, centres: Floats, sharpness: Floats) -> tuple[NDArray[np.int32], Floats]:
    """`assign_scaled` by trying every centre with every point."""
    if points.shape[1] <= _FEW_DIMENSIONS:
        return _assign_columns(np.ascontiguousarray(points.T), centres, sharpness, [slice(None)] * len(centres))
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


def _assign_columns(
    columns: Floats, centres: Floats, sharpness: Floats, strips: Sequence[slice]
) -> tuple[NDArray[np.int32], Floats]:
    """The best centre of ExN points, where each is compared with the points of its strip only."""
    label_n, least_n = np.zeros(columns.shape[1], np.int32), np.full(columns.shape[1], np.inf, np.float32)
    for k, (strip, centre_e, weight) in enumerate(zip(strips, centres, sharpness)):
        scaled = weight * squared_distances(columns[:, strip], centre_e)
        closer = scaled < least_n[strip]
        np.copyto(least_n[strip], scaled, where=closer)
        np.copyto(label_n[strip], k, where=closer)
    return label_n, least_n


def squared_distances(columns: Floats, centre: Floats) -> Floats:
    """Of ExN points from a place; by differences, as squares of large numbers would cancel."""
    total: Floats = np.square(columns[0] - centre[0])
    for column, value in zip(columns[1:], centre[1:]):
        total += np.square(column - value)
    return total


def _while_true(wanted_n: NDArray[np.bool_], places: NDArray[np.int64]) -> Iterator[int]:
    """Those places, in their order, that are wanted when it is their turn."""
    for start in range(0, len(places), _TURNS):
        block = places[start : start + _TURNS]
        for place in block[wanted_n[block]].tolist():
            if wanted_n[place]:
                yield place


class _Strips:
    """Points in the order of the embedding dimension that spreads them most, so that those near a place lie in a strip.

    With embeddings that hold the pixel's position a strip is a small part of a large image.

    Attributes:
        axis: that dimension.
        order: N indices of the points.
        place: N, where in that order each point is.
        columns: ExN float32, the points in that order.
    """

    def __init__(self, points: Floats) -> None:
        columns = np.ascontiguousarray(points.T)
        self.axis = max(range(len(columns)), key=lambda e: np.ptp(columns[e])) if len(points) else 0
        self.order = np.argsort(columns[self.axis])
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(len(points))
        self.columns = columns[:, self.order]
        self._keys = self.columns[self.axis]

    def about(self, key: float, squared_distance: float) -> slice:
        """Where all points lie whose squared distance, along the axis alone, is no more than that."""
        radius = math.sqrt(squared_distance) * (1 + 1e-5) + 1e-5 * abs(key)
        ends = np.array([key - radius, key + radius], np.float32)  # of another type, all keys would be converted
        return slice(int(self._keys.searchsorted(ends[0])), int(self._keys.searchsorted(ends[1], "right")))

    def within(self, place: int, squared_distance: float) -> slice:
        """`about` one of the points."""
        strip = self.about(float(self._keys[place]), squared_distance)
        return slice(min(strip.start, place), max(strip.stop, place + 1))
