"""What the original channels of a file hold inside objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.io.measured_channels import Channels
from panembed.results.shape import Pixels

STATISTICS = ("mean", "sum", "std", "min", "max")
"""Of every channel: columns are called mean_red and so on."""


def intensities(channels: Channels, pixels: Pixels) -> list[dict[str, Any]]:
    """Mean, sum, standard deviation (of the pixels themselves, divided by their number), least and greatest value.

    Args:
        channels: HxWxC of any type of numbers.
        pixels: of K objects in such an image.

    Returns:
        K rows; sums, least and greatest values of whole numbers are whole and exact.

    >>> from panembed.results.shape import Pixels
    >>> samples = np.array([[[60000], [60001], [7]]], np.uint16)
    >>> intensities(Channels(samples, ("DAPI",)), Pixels.of(np.array([[1, 1, 0]]), 1))
    [{'mean_DAPI': 60000.5, 'sum_DAPI': 120001, 'std_DAPI': 0.5, 'min_DAPI': 60000, 'max_DAPI': 60001}]
    """
    count = len(pixels.starts)
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    if not count:
        return rows
    area = np.bincount(pixels.owner, minlength=count)
    for place, name in enumerate(channels.names):
        values = channels.samples[pixels.y, pixels.x, place]
        whole = np.issubdtype(values.dtype, np.integer) and values.dtype.itemsize <= 4
        wide: NDArray[Any] = values.astype(np.int64 if whole else np.float64)
        total = np.add.reduceat(wide, pixels.starts)
        mean = total / area
        deviation = wide - mean[pixels.owner]
        std = np.sqrt(np.add.reduceat(deviation * deviation, pixels.starts) / area)
        least, greatest = np.minimum.reduceat(wide, pixels.starts), np.maximum.reduceat(wide, pixels.starts)
        for row, *figures in zip(rows, *(f.tolist() for f in (mean, total, std, least, greatest))):
            row |= {f"{kind}_{name}": figure for kind, figure in zip(STATISTICS, figures)}
    return rows
