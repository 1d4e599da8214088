"""An object as a geometry of GeoJSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from panembed.labels.outlines import Polygon, Ring


def geometry(polygons: Sequence[Polygon]) -> dict[str, Any]:
    """A Polygon with its holes, or a MultiPolygon of several pieces; coordinates are corners of pixels.

    >>> import numpy as np
    >>> geometry([Polygon(np.array([[0, 0], [1, 0], [1, 1]], np.int32))])["coordinates"]
    [[[0, 0], [1, 0], [1, 1], [0, 0]]]
    """
    pieces = [[_closed(ring) for ring in polygon.rings] for polygon in polygons]
    if len(pieces) == 1:
        return {"type": "Polygon", "coordinates": pieces[0]}
    return {"type": "MultiPolygon", "coordinates": pieces}


def _closed(ring: Ring) -> list[list[int]]:
    corners: list[list[int]] = ring.tolist()
    return [*corners, corners[0]]
