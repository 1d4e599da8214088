"""An object as a region of interest of ImageJ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi

from panembed.labels.outlines import Polygon

_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
"""Steps of a path, as java.awt.geom.PathIterator numbers them."""


def region(polygons: Sequence[Polygon]) -> ImagejRoi:
    """A traced polygon as ImageJ's wand gives it, or a composite of paths where there are holes or several pieces.

    Args:
        polygons: the pieces of one object.

    >>> square = Polygon(np.array([[1, 0], [3, 0], [3, 2], [1, 2]], np.int32))
    >>> region([square]).roitype.name
    'TRACED'
    """
    corners = np.concatenate([polygon.outer for polygon in polygons])
    if len(polygons) == 1 and not polygons[0].holes:
        made = ImagejRoi.frompoints(corners)
        made.roitype = ROI_TYPE.TRACED
        # The box of a polygon ends at its last corner; frompoints counts corners as pixels.
        made.right, made.bottom = (int(end) for end in corners.max(0))
        return made
    made = ImagejRoi()
    made.roitype = ROI_TYPE.RECT
    made.left, made.top = (int(end) for end in corners.min(0))
    made.right, made.bottom = (int(end) for end in corners.max(0))
    path = np.concatenate([_path(ring) for polygon in polygons for ring in polygon.rings])
    made.multi_coordinates, made.shape_roi_size = path, len(path)
    return made


def _path(ring: NDArray[np.int32]) -> NDArray[np.float32]:
    steps = np.empty((len(ring), 3), np.float32)
    steps[:, 0], steps[:, 1:] = _LINE, ring
    steps[0, 0] = _MOVE
    return np.append(steps.ravel(), np.float32(_CLOSE))
