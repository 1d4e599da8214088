"""Measurements of objects, against shapes whose figures are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops

from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.measure import COLUMNS, measure_objects

LABEL_SET = LabelSet([Category(0, "soil", False), Category(4, "leaf", True), Category(9, "weed", True)])


def ellipse(shape: tuple[int, int], x: float, y: float, a: float, b: float) -> np.ndarray:
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    return ((xs - x) / a) ** 2 + ((ys - y) / b) ** 2 <= 1


def test_known_shapes() -> None:
    semantic, instance = np.zeros((120, 200), dtype=int), np.zeros((120, 200), dtype=int)
    disc, oval = ellipse((120, 200), 40, 50, 25, 25), ellipse((120, 200), 130, 60, 50, 30)
    semantic[disc], instance[disc] = 2, 3
    semantic[oval], instance[oval] = 1, 77
    rows = measure_objects(PanopticMap(semantic, instance), LABEL_SET)
    assert [(r["segment_id"], r["class"], r["instance"]) for r in rows] == [(2, "leaf", 77), (3, "weed", 3)]
    assert all(tuple(row) == COLUMNS for row in rows)
    leaf, weed = rows
    assert weed["area"] == disc.sum() == pytest.approx(np.pi * 25**2, rel=0.01)
    assert (weed["centroid_x"], weed["centroid_y"]) == pytest.approx((40, 50))
    assert [weed[f"bbox_{k}"] for k in ("x", "y", "width", "height")] == [15, 25, 51, 51]
    assert weed["eccentricity"] == pytest.approx(0, abs=0.05)
    assert weed["perimeter"] == pytest.approx(2 * np.pi * 25, rel=0.06)
    assert leaf["eccentricity"] == pytest.approx(np.sqrt(1 - 0.6**2), rel=0.01)
    assert (leaf["centroid_x"], leaf["centroid_y"]) == pytest.approx((130, 60))
    assert not leaf["touches_border"]
    assert json.loads(json.dumps(rows)) == rows


def test_centroid_of_several_components_is_their_mean() -> None:
    (row,) = measure_objects(PanopticMap([[0, 1, 0, 1], [0, 0, 0, 0]], [[0, 1, 0, 1], [0, 0, 0, 0]]), LABEL_SET)
    assert (row["area"], row["centroid_x"], row["centroid_y"], row["bbox_width"]) == (2, 2.0, 0.0, 3)


@pytest.mark.parametrize(
    ("y", "x", "touches"), [(2, 2, False), (0, 2, True), (4, 2, True), (2, 0, True), (2, 4, True), (3, 1, False)]
)
def test_single_pixel_and_the_border(y: int, x: int, touches: bool) -> None:
    semantic = np.zeros((5, 5), dtype=int)
    semantic[y, x] = 1
    (row,) = measure_objects(PanopticMap(semantic, semantic), LABEL_SET)
    assert row["touches_border"] is touches
    assert (row["area"], row["perimeter"], row["eccentricity"]) == (1, 0.0, 0.0)


def test_stuff_void_crowds_and_pixels_without_object_get_no_row() -> None:
    panoptic = PanopticMap([[0, IGNORE, 1, 1, 2]], [[5, 6, 0, 8, 9]], crowd=[(2, 9)])
    assert [(r["class"], r["instance"]) for r in measure_objects(panoptic, LABEL_SET)] == [("leaf", 8)]
    for shape in ((3, 4), (0, 4)):
        assert measure_objects(PanopticMap(np.zeros(shape, int), np.zeros(shape, int)), LABEL_SET) == []


def test_pixel_size_scales_length_and_area() -> None:
    mask = ellipse((40, 40), 20, 20, 10, 10).astype(int)
    (plain,) = measure_objects(PanopticMap(mask, mask), LABEL_SET)
    (row,) = measure_objects(PanopticMap(mask, mask), LABEL_SET, pixel_size=0.25)
    assert "area_physical" not in plain
    assert row["area_physical"] == pytest.approx(plain["area"] / 16)
    assert row["perimeter_physical"] == pytest.approx(plain["perimeter"] / 4)
    assert {k: row[k] for k in plain} == plain


@pytest.mark.parametrize("pixel_size", [0, -1.0, float("nan"), float("inf")])
def test_wrong_pixel_size_is_told(pixel_size: float) -> None:
    with pytest.raises(ValueError, match=r"pixel_size is .*; expected a length above 0"):
        measure_objects(PanopticMap([[1]], [[1]]), LABEL_SET, pixel_size=pixel_size)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_figures_are_scikit_images(height: int, width: int, count: int, coarseness: int, seed: int) -> None:
    """Torn objects of every shape, also at the edges, with holes, of many components, one pixel wide."""
    rng = np.random.default_rng(seed)
    instance = rng.integers(0, count + 1, (height, width)).repeat(coarseness, 0).repeat(coarseness, 1)
    panoptic = PanopticMap(np.where(instance > 0, 1 + instance % 2, 0), instance)
    segment_map, segments = panoptic.segments(LABEL_SET)
    regions = {region.label: region for region in regionprops(segment_map)}
    rows = measure_objects(panoptic, LABEL_SET)
    assert [row["segment_id"] for row in rows] == [s.id for s in segments if s.category > 0]
    for row in rows:
        region = regions[row["segment_id"]]
        assert row["area"] == region.area
        assert (row["centroid_y"], row["centroid_x"]) == pytest.approx(region.centroid, rel=1e-9)
        assert row["eccentricity"] == pytest.approx(region.eccentricity, abs=1e-6)


def test_a_small_object_far_from_the_origin_loses_no_digits() -> None:
    oval = ellipse((30, 40), 20, 15, 9, 3)
    figures = []
    for y, x in ((0, 0), (3000, 4000)):
        semantic = np.zeros((y + 30, x + 40), dtype=np.uint8)
        semantic[y:, x:] = oval
        (row,) = measure_objects(PanopticMap(semantic, semantic), LABEL_SET)
        figures.append((row["centroid_x"] - x, row["centroid_y"] - y, row["eccentricity"]))
    assert figures[1] == pytest.approx(figures[0], rel=1e-9)
