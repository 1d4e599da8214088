"""As many objects as a density tells: objects that hold two are split, pieces are given to their neighbours.

A density sums to 1 over every object (`panembed.losses.density`). Its sum over the image says how many objects there
should be, its sum over each that was found where there are too few, or too many.

Shape suffixes: N points, E dimensions, K centres, R spare centres.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from panembed.clustering.seed_map import assign_scaled, squared_distances

Floats = NDArray[np.float32]

_MOST_OF_A_PIECE = 0.7
"""What holds at least so much of an object is none that can be given up."""

_LEAST_PRODUCT = 0.3
"""Of the densities of the parts that an object would be split into. Halves of one have 0.25, two whole ones 1."""


_MAX_SPARES = 50
"""So many are tried at most, the best first: an untrained network would have hundreds, and a density of anything."""


def recount(
    points: Floats,
    density: Floats,
    centres: Floats,
    sharpness: Floats,
    spare_centres: Floats,
    spare_sharpness: Floats,
) -> tuple[Floats, Floats]:
    """Take spare centres, or give centres up, until there are as many as the density sums to.

    A spare centre would take points from a centre found before. Of all, the one comes first for which the product of
    the densities of what it would take and of what that centre would keep is greatest. The centre that is given up
    first has the least density. Both end before the count is reached where no good choice is left. Where there is no
    centre at all, the spare one that holds the most density is the first, if that is nearly an object.

    Args:
        points: NxE float32 embeddings of one class.
        density: N, how much of an object each point is.
        centres: KxE.
        sharpness: K; a point is w * squared distance from a centre, as in `assign_scaled`.
        spare_centres: RxE, possible centres that weren't taken, best first.
        spare_sharpness: R.

    Returns:
        Centres and their sharpness, those that stay in their order, then those that joined.

    >>> points = np.repeat(np.array([[0.0], [1.0], [9.0]], np.float32), 4, axis=0)  # two objects beside each other
    >>> given = points, np.full(12, 0.25, np.float32), np.array([[0.5], [9.0]], np.float32), np.ones(2, np.float32)
    >>> recount(*given, np.array([[1.0]], np.float32), np.ones(1, np.float32))[0].ravel()
    array([0.5, 9. , 1. ], dtype=float32)
    """
    total = float(density.sum())
    wanted = round(total) if math.isfinite(total) else len(centres)
    spare = list(range(min(len(spare_centres), _MAX_SPARES)))
    columns = np.ascontiguousarray(points.T)
    if not len(centres) and wanted and spare:
        reached = (spare_sharpness[r] * squared_distances(columns, spare_centres[r]) < math.log(2) for r in spare)
        held = [density[inside].sum() for inside in reached]
        best = int(np.argmax(held))
        if held[best] >= _MOST_OF_A_PIECE:
            spare.remove(best)
            centres, sharpness = spare_centres[best : best + 1], spare_sharpness[best : best + 1]
    if 0 < len(centres) < wanted and spare:
        centres, sharpness = _with_spares(
            points, columns, density, centres, sharpness, spare_centres[spare], spare_sharpness[spare], wanted
        )
    while len(centres) > max(1, wanted):
        labels, _ = assign_scaled(points, centres, sharpness)
        sum_k = np.bincount(labels, density, minlength=len(centres))
        smallest = int(sum_k.argmin())
        if sum_k[smallest] >= _MOST_OF_A_PIECE:
            break
        centres, sharpness = np.delete(centres, smallest, 0), np.delete(sharpness, smallest)
    return centres, sharpness


def _with_spares(
    points: Floats,
    columns: Floats,
    density: Floats,
    centres: Floats,
    sharpness: Floats,
    spare_centres: Floats,
    spare_sharpness: Floats,
    wanted: int,
) -> tuple[Floats, Floats]:
    """The centres, and spare ones while these split objects well, until there are as many as wanted."""
    labels, least = assign_scaled(points, centres, sharpness)
    spare = list(range(len(spare_centres)))
    while len(centres) < wanted and spare:
        products = []
        for r in spare:
            taken = spare_sharpness[r] * squared_distances(columns, spare_centres[r]) < least
            products.append(_product(density, labels, taken))
        if max(products) < _LEAST_PRODUCT:
            break
        best = spare.pop(int(np.argmax(products)))
        scaled = spare_sharpness[best] * squared_distances(columns, spare_centres[best])
        labels[scaled < least] = len(centres)
        np.minimum(least, scaled, out=least)
        centres = np.concatenate([centres, spare_centres[best : best + 1]])
        sharpness = np.concatenate([sharpness, spare_sharpness[best : best + 1]])
    return centres, sharpness


def _product(density: Floats, labels: NDArray[np.int32], taken: NDArray[np.bool_]) -> float:
    """Density of what a spare centre would take, times that of what the centre keeps which it takes most from."""
    if not taken.any():
        return 0.0
    lost_k = np.bincount(labels[taken], density[taken])
    host = int(lost_k.argmax())
    kept = density[labels == host].sum() - lost_k[host]
    return float(lost_k.sum() * kept)
