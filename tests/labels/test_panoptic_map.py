"""Panoptic maps: what is refused, equality, and areas and boxes against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops

from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap

LABEL_SET = LabelSet(
    [
        Category(7, "road", False),
        Category(26, "car", True),
        Category(0, "sky", False),
        Category(999, "person", True),
    ]
)
THINGS = (1, 3)


@st.composite
def any_maps(draw: st.DrawFn) -> PanopticMap:
    """Maps with void things, crowds, and instance numbers on stuff."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    semantic = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, IGNORE])))
    instance = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 1, 2, 9, 2**31 - 1])))
    return PanopticMap(semantic, instance, draw(st.sets(st.sampled_from([(1, 0), (3, 2)]))))


@settings(max_examples=40, deadline=None)
@given(any_maps())
def test_a_map_of_runs_is_the_map(panoptic: PanopticMap) -> None:
    lazy = PanopticMap.from_runs(panoptic.runs(), panoptic.shape, panoptic.crowd)
    assert (lazy.shape, lazy.num_instances, repr(lazy)) == (panoptic.shape, panoptic.num_instances, repr(panoptic))
    numbers, table = lazy.segments(LABEL_SET)
    np.testing.assert_array_equal(numbers, panoptic.segments(LABEL_SET)[0])
    assert table == panoptic.segments(LABEL_SET)[1]
    assert lazy == panoptic
    assert (lazy.semantic.dtype, lazy.instance.dtype) == (np.uint8, np.int32)


def test_changed_pixels_count() -> None:
    panoptic = PanopticMap.from_runs(PanopticMap([[1, 1, 1]], [[1, 1, 2]]).runs(), (1, 3))
    panoptic.semantic[0, 2] = IGNORE
    assert (panoptic.num_instances, panoptic.runs().category.tolist()) == (1, [1, IGNORE])


def test_stuff_in_several_segments() -> None:
    semantic, instance = [[0, 0, 2, 1]], [[1, 2, 5, 3]]
    whole = PanopticMap(semantic, instance).segments(LABEL_SET)[1]
    split = PanopticMap(semantic, instance, split_stuff=[0])
    assert [(s.category, s.instance, s.area) for s in whole] == [(0, 0, 2), (1, 3, 1), (2, 0, 1)]
    table = split.segments(LABEL_SET)[1]
    assert [(s.category, s.instance, s.area) for s in table] == [(0, 1, 1), (0, 2, 1), (1, 3, 1), (2, 0, 1)]
    assert split != PanopticMap(semantic, instance)
    assert split.num_instances == 2  # of stuff that is not split the numbers are taken as they are


@pytest.mark.parametrize(
    ("semantic", "instance", "told"),
    [
        ([[0.0]], [[0]], "semantic: expected an HxW array of integers"),
        ([[0]], [[0.5]], "instance: expected an HxW array of integers"),
        ([0], [0], "semantic: expected an HxW"),
        ([[0, 1]], [[0]], "expected one size"),
        ([[256]], [[0]], "semantic: expected class indices"),
        ([[-1]], [[0]], "semantic: expected class indices"),
        ([[0]], [[-1]], "instance: expected ids"),
        ([[0]], [[2**31]], "instance: expected ids"),
    ],
)
def test_wrong_arrays_are_refused(semantic: list, instance: list, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PanopticMap(semantic, instance)


def test_arrays_are_kept_compact() -> None:
    wide = np.zeros((4, 6), dtype=np.int64)
    panoptic = PanopticMap(wide[:, ::2], np.asfortranarray(wide[:, ::2].astype(np.uint64)))
    assert (panoptic.semantic.dtype, panoptic.instance.dtype) == (np.uint8, np.int32)
    assert panoptic.semantic.flags.c_contiguous
    assert panoptic.instance.flags.c_contiguous
    assert panoptic.shape == (4, 3)
    assert PanopticMap(np.array([[True]]), np.array([[True]])).num_instances == 1


def test_equality_needs_all_three_parts() -> None:
    a = PanopticMap([[1, 1]], [[1, 0]], [(1, 0)])
    assert a == PanopticMap([[1, 1]], [[1, 0]], [(1, 0)])
    assert a != PanopticMap([[1, 1]], [[1, 0]])
    assert a != PanopticMap([[1, 1]], [[1, 1]], [(1, 0)])
    assert a != PanopticMap([[1, 0]], [[1, 0]], [(1, 0)])
    assert a != "map"


def test_the_same_id_in_two_classes_is_two_objects() -> None:
    assert PanopticMap([[1, 3, IGNORE, 3]], [[4, 4, 4, 0]]).num_instances == 2


@settings(max_examples=50, deadline=None)
@given(any_maps())
def test_segments_against_scikit_image(panoptic: PanopticMap) -> None:
    segment_map, segments = panoptic.segments(LABEL_SET)
    assert [s.id for s in segments] == list(range(1, len(segments) + 1))
    assert [(s.category, s.instance) for s in segments] == sorted((s.category, s.instance) for s in segments)
    regions = {region.label: region for region in regionprops(segment_map)}
    assert regions.keys() == {s.id for s in segments}
    for segment in segments:
        top, left, bottom, right = regions[segment.id].bbox
        assert segment.area == regions[segment.id].area
        assert segment.bbox == (left, top, right - left, bottom - top)
        inside = segment_map == segment.id
        assert np.all(panoptic.semantic[inside] == segment.category)
        if LABEL_SET[segment.category].is_thing:
            assert np.all(panoptic.instance[inside] == segment.instance)
        else:
            assert segment.instance == 0
        assert segment.is_crowd == ((segment.category, segment.instance) in panoptic.crowd)
    void_things = np.isin(panoptic.semantic, THINGS) & (panoptic.instance == 0)
    if (1, 0) in panoptic.crowd:
        void_things &= panoptic.semantic != 1
    assert np.array_equal(segment_map == 0, (panoptic.semantic == IGNORE) | void_things)


def test_segments_name_an_unknown_class() -> None:
    with pytest.raises(ValueError, match="class index 4 is not in the label set of 4"):
        PanopticMap([[0, 4]], [[0, 0]]).segments(LABEL_SET)


def test_segments_of_nothing() -> None:
    segment_map, segments = PanopticMap(np.zeros((0, 5), int), np.zeros((0, 5), int)).segments(LABEL_SET)
    assert (segment_map.shape, segments) == ((0, 5), [])
