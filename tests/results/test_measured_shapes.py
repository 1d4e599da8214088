"""Shapes, brightness and middle lines: against scikit-image's regionprops, and worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops

from panembed.io.measured_channels import Channels, read_channels
from panembed.io.pixel_size import PixelSize
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.measure import measure_image, measure_objects
from panembed.results.result import PanopticResult
from panembed.results.skeleton import skeleton_size

LEAVES = LabelSet([Category(0, "soil", False), Category(1, "leaf", True)])

THEIRS = {
    "area": "area",
    "perimeter": "perimeter",
    "eccentricity": "eccentricity",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
    "convex_area": "area_convex",
    "solidity": "solidity",
    "equivalent_diameter": "equivalent_diameter_area",
    "feret_diameter": "feret_diameter_max",
}


@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_figures_are_those_of_regionprops(height: int, width: int, count: int, coarseness: int, seed: int) -> None:
    """Torn objects of every shape, at the edges, with holes, of many pieces, one pixel wide."""
    rng = np.random.default_rng(seed)
    instance = rng.integers(0, count + 1, (height, width)).repeat(coarseness, 0).repeat(coarseness, 1)
    samples = rng.integers(0, 60_000, (*instance.shape, 2)).astype(np.uint16)
    panoptic = PanopticMap(instance > 0, instance)
    rows = measure_objects(panoptic, LEAVES, channels=Channels(samples, ("DAPI", "GFP")))
    segment_map, _ = panoptic.segments(LEAVES)
    regions = {region.label: region for region in regionprops(segment_map, samples)}
    for row in rows:
        region = regions[row["segment_id"]]
        for ours, theirs in THEIRS.items():
            assert row[ours] == pytest.approx(getattr(region, theirs), rel=1e-9, abs=1e-6), ours
        if row["eccentricity"] > 1e-3:
            # Half a turn more is the same direction.
            turned = (row["orientation"] - region.orientation) / np.pi
            assert turned == pytest.approx(round(turned), abs=1e-5)
        for place, name in enumerate(("DAPI", "GFP")):
            inside = samples[..., place][segment_map == row["segment_id"]]
            assert row[f"mean_{name}"] == pytest.approx(region.intensity_mean[place], rel=1e-12)
            assert row[f"std_{name}"] == pytest.approx(region.intensity_std[place], rel=1e-9, abs=1e-9)
            assert row[f"min_{name}"] == region.intensity_min[place] == inside.min()
            assert row[f"max_{name}"] == region.intensity_max[place] == inside.max()
            assert row[f"sum_{name}"] == int(inside.sum(dtype=np.int64))


def test_a_bar_by_hand() -> None:
    bar = np.zeros((9, 30), int)
    bar[3:6, 4:25] = 1
    (row,) = measure_objects(PanopticMap(bar, bar), LEAVES, pixel_size=PixelSize(0.5, "mm"))
    assert (row["area"], row["convex_area"], row["solidity"]) == (63, 63, 1)
    # Second moments of a rectangle of a x b pixels are (a^2 - 1) / 12 and (b^2 - 1) / 12.
    assert row["major_axis"] == pytest.approx(4 * np.sqrt((21**2 - 1) / 12))
    assert row["minor_axis"] == pytest.approx(4 * np.sqrt((3**2 - 1) / 12))
    assert abs(row["orientation"]) == pytest.approx(np.pi / 2)  # across the rows
    assert row["equivalent_diameter"] == pytest.approx(2 * np.sqrt(63 / np.pi))
    assert row["feret_diameter"] == pytest.approx(np.hypot(21, 2))  # between side midpoints
    assert row["skeleton_length"] == pytest.approx(19, abs=1)
    assert row["skeleton_width"] == pytest.approx(3, abs=0.3)
    assert row["area_mm2"] == 63 / 4
    assert row["skeleton_length_mm"] == row["skeleton_length"] / 2


def test_a_ring_is_less_solid_than_its_hull() -> None:
    ring = np.ones((5, 5), int)
    ring[1:4, 1:4] = 0
    (row,) = measure_objects(PanopticMap(ring, ring), LEAVES)
    assert (row["area"], row["convex_area"], row["solidity"]) == (16, 25, 16 / 25)


def test_middle_lines() -> None:
    cross = np.zeros((41, 61), bool)
    cross[19:22, :] = cross[:, 29:32] = True
    length, width = skeleton_size(cross)
    assert length == pytest.approx(59, abs=1)  # the side branches don't count
    assert width == pytest.approx(3, abs=0.2)
    assert skeleton_size(np.ones((1, 1), bool)) == (0, 1)
    assert skeleton_size(np.ones((1, 9), bool))[0] == pytest.approx(8, abs=2)
    diagonal = np.eye(20, dtype=bool)
    assert skeleton_size(diagonal) == (pytest.approx(19 * np.sqrt(2)), 1)
    two = np.zeros((20, 20), bool)
    two[2, 2:6] = two[10, 2:18] = True
    assert skeleton_size(two)[0] == pytest.approx(15, abs=2)


def test_every_number_has_columns_of_one_kind() -> None:
    ids = np.arange(12).reshape(3, 4)
    rows = measure_objects(PanopticMap(ids > 0, ids), LEAVES)
    assert len({tuple(row) for row in rows}) == 1
    assert all(np.isfinite([v for v in row.values() if isinstance(v, int | float)]).all() for row in rows)


def test_two_channels_of_16_bits_to_the_digit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(30_000, 65_536, (2, 20, 30)).astype(np.uint16)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, samples, imagej=True, metadata={"axes": "CYX", "Labels": ["DAPI", "GFP"]})
    ids = np.zeros((20, 30), int)
    ids[2:9, 3:20], ids[12:18, 5:9] = 1, 2
    result = PanopticResult(PanopticMap(ids > 0, ids), LEAVES, np.zeros((20, 30, 3), np.uint8), source=path)
    for row, number in zip(result.measure(), (1, 2), strict=True):
        for channel, name in zip(samples, ("DAPI", "GFP"), strict=True):
            inside = channel[ids == number].astype(object)  # whole numbers without an end
            found = {key: value for key, value in row.items() if key.endswith(f"_{name}")}
            assert len(found) == 5, list(row)
            assert found[f"sum_{name}"] == sum(inside)
            assert (found[f"min_{name}"], found[f"max_{name}"]) == (min(inside), max(inside))
            assert found[f"mean_{name}"] == sum(inside) / len(inside)
            mean = sum(inside) / len(inside)
            assert found[f"std_{name}"] == pytest.approx(np.sqrt(sum((v - mean) ** 2 for v in inside) / len(inside)))


def test_an_image_as_a_whole() -> None:
    ids = np.zeros((10, 10), int)
    ids[0:2, 0:2], ids[8:10, 0:2] = 1, 2
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[ids > 0] = (10, 80, 10)
    panoptic = PanopticMap(ids > 0, ids)
    channels = Channels.of_picture(picture)
    figures = measure_image(panoptic, LEAVES, measure_objects(panoptic, LEAVES), channels=channels)
    assert (figures["object_area"], figures["mean_object_area"], figures["hull_area"]) == (8, 4, 20)
    assert (figures["mean_red"], figures["mean_green"], figures["greenness"]) == (10, 80, 0.8)
    nothing = PanopticMap(np.zeros((3, 3), int), np.zeros((3, 3), int))
    empty = measure_image(nothing, LEAVES, [], channels=Channels.of_picture(picture[:3, :3]))
    assert (empty["object_area"], empty["mean_object_area"], empty["hull_area"]) == (0, None, 0)
    assert empty["mean_red"] is None
    assert empty["greenness"] is None


def test_channels_of_another_size_or_gone(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8))
    assert read_channels(tmp_path / "a.tif", (5, 4)) is None
    found = read_channels(tmp_path / "a.tif", (4, 5))
    assert found is not None
    assert found.names == ("grey",)
    with pytest.raises(ValueError, match=r"channels are \(4, 5\), the map \(1, 1\)"):
        measure_objects(PanopticMap([[1]], [[1]]), LEAVES, channels=found)
