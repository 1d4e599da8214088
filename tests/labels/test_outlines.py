"""Outlines along the edges of pixels, against shapely and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from panembed.labels.outlines import fill, outlines

LABELS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))


@given(LABELS)
def test_polygons_are_valid_and_fill_to_the_mask(labels: np.ndarray) -> None:
    found = outlines(labels)
    assert list(found) == [n for n in np.unique(labels) if n]
    y, x = np.indices(labels.shape) + 0.5
    for number, polygons in found.items():
        shape = shapely.MultiPolygon([(p.outer, p.holes) for p in polygons])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == np.count_nonzero(labels == number)
        assert np.array_equal(shapely.contains_xy(shape, x, y), labels == number)
        assert np.array_equal(fill(polygons, labels.shape), labels == number)


@given(LABELS)
def test_rings_run_along_pixels_clockwise_and_holes_the_other_way(labels: np.ndarray) -> None:
    for polygon in (p for polygons in outlines(labels).values() for p in polygons):
        for ring in polygon.rings:
            step = np.roll(ring, -1, 0) - ring
            assert (np.count_nonzero(step, axis=1) == 1).all()
            assert (np.count_nonzero(step + np.roll(step, -1, 0), axis=1) == 2).all()  # no three on one line
            assert len(np.unique(ring, axis=0)) == len(ring)
        # Shapely counts as if y pointed up.
        assert shapely.LinearRing(polygon.outer).is_ccw
        assert not any(shapely.LinearRing(hole).is_ccw for hole in polygon.holes)


def test_by_hand() -> None:
    ring = np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2]])
    (polygon,) = outlines(ring)[2]
    assert polygon.outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert [sorted(hole.tolist()) for hole in polygon.holes] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]
    ring[1, 1] = 5  # an island of another object
    assert outlines(ring)[5][0].outer.tolist() == [[1, 1], [2, 1], [2, 2], [1, 2]]
    corners = outlines(np.eye(2, dtype=int))[1]
    assert [p.outer.tolist() for p in corners] == [[[0, 0], [1, 0], [1, 1], [0, 1]], [[1, 1], [2, 1], [2, 2], [1, 2]]]


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (3, 4)])
def test_nothing(shape: tuple[int, int]) -> None:
    assert outlines(np.zeros(shape, int)) == {}


@pytest.mark.parametrize("labels", [np.zeros((2, 2, 2), int), np.zeros((2, 2)), np.full((2, 2), -1)])
def test_what_is_no_label_map(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="labels: expected"):
        outlines(labels)
