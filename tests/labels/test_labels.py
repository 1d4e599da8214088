"""Classes, panoptic maps and Eq. 2.1: round trips, and areas and boxes against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops

from panembed.errors import InputError, OutputError, SettingsError
from panembed.labels.panoptic_map import IGNORE, Category, LabelSet, PanopticMap, distinct_color, pack, unpack

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
def maps(draw: st.DrawFn) -> PanopticMap:
    """Maps whose thing pixels all belong to an object, and whose stuff has instance 0."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    semantic = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, IGNORE])))
    instance = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([1, 2, 5, 1000, 70_000, 2**31 - 1])))
    return PanopticMap(semantic, np.where(np.isin(semantic, THINGS), instance, 0))


@st.composite
def any_maps(draw: st.DrawFn) -> PanopticMap:
    """Maps with void things, crowds, and instance numbers on stuff."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    semantic = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, IGNORE])))
    instance = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 1, 2, 9, 2**31 - 1])))
    return PanopticMap(semantic, instance, draw(st.sets(st.sampled_from([(1, 0), (3, 2)]))))


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two label arrays say the same up to the names of the labels."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).shape[1]
    return pairs == len(np.unique(a)) == len(np.unique(b))


@settings(max_examples=40, deadline=None)
@given(maps())
def test_unpack_gives_back_what_was_packed(panoptic: PanopticMap) -> None:
    packed = pack(panoptic, LABEL_SET)
    back = unpack(packed, LABEL_SET)
    assert np.array_equal(back.semantic, panoptic.semantic)
    assert not back.crowd
    for thing in THINGS:
        inside = panoptic.semantic == thing
        assert same_partition(back.instance[inside], panoptic.instance[inside]) or not inside.any()
        # Dense from 1, in the order of the ids.
        order = np.unique(panoptic.instance[inside], return_inverse=True)[1]
        assert np.array_equal(back.instance[inside], order.ravel() + 1)
    assert np.array_equal(pack(back, LABEL_SET), packed)


@settings(max_examples=40, deadline=None)
@given(maps())
def test_packed_numbers_follow_eq_2_1(panoptic: PanopticMap) -> None:
    packed = pack(panoptic, LABEL_SET)
    assert np.array_equal(packed == -1, panoptic.semantic == IGNORE)
    for index, category in enumerate(LABEL_SET):
        inside = packed[panoptic.semantic == index]
        assert np.all(inside // 1000 == category.id) if category.is_thing else np.all(inside == category.id)


@pytest.mark.parametrize("category", [1, 3])
def test_the_1001st_instance_is_an_error(category: int) -> None:
    instance = np.arange(1, 1002).reshape(1, -1)
    fits = PanopticMap(np.full((1, 1000), category), instance[:, :1000])
    assert np.unique(pack(fits, LABEL_SET)).size == 1000
    assert np.unique(pack(fits, LABEL_SET) // 1000).tolist() == [LABEL_SET[category].id]
    with pytest.raises(OutputError, match="1001 objects"):
        pack(PanopticMap(np.full((1, 1001), category), instance), LABEL_SET)


def test_instances_are_counted_class_by_class() -> None:
    semantic = np.repeat([[1, 3]], 1000, axis=0)
    instance = np.repeat(np.arange(1, 1001)[:, None], 2, axis=1)
    assert np.unique(pack(PanopticMap(semantic, instance), LABEL_SET)).size == 2000


def test_a_thing_with_id_0_is_refused() -> None:
    with pytest.raises(OutputError, match=r"leaf.*id 0"):
        pack(PanopticMap([[0]], [[1]]), LabelSet([Category(0, "leaf", True)]))


def test_a_stuff_id_of_four_digits_is_refused() -> None:
    label_set = LabelSet([Category(999, "soil", False), Category(1000, "sky", False)])
    with pytest.raises(OutputError, match=r"sky.*1000"):
        pack(PanopticMap([[0]], [[0]]), label_set)


def test_a_thing_of_four_digits_without_instance_is_refused() -> None:
    """1500 would be read back as object 500 of class 1."""
    label_set = LabelSet([Category(1, "leaf", True), Category(1500, "weed", True)])
    assert pack(PanopticMap([[1]], [[9]]), label_set).tolist() == [[1_500_000]]
    with pytest.raises(OutputError, match=r"weed.*1500"):
        pack(PanopticMap([[1]], [[0]]), label_set)


def test_crowd_is_the_bare_class_id() -> None:
    panoptic = unpack([[26, 26001, 7, -1, 999_000]], LABEL_SET)
    assert panoptic.semantic.tolist() == [[1, 1, 0, IGNORE, 3]]
    assert panoptic.instance.tolist() == [[0, 2, 0, 0, 1]]
    assert panoptic.crowd == {(1, 0)}
    assert pack(panoptic, LABEL_SET).tolist() == [[26, 26000, 7, -1, 999_000]]


def test_a_crowd_is_packed_as_its_class_whatever_its_number() -> None:
    """Cityscapes' rule: the id alone is a group."""
    panoptic = PanopticMap([[1, 1, 1, 1, 3]], [[4, 5, 6, 9, 5]], [(1, 5), (1, 9)])
    packed = pack(panoptic, LABEL_SET)
    assert packed.tolist() == [[26_000, 26, 26_001, 26, 999_000]]
    assert unpack(packed, LABEL_SET).crowd == {(1, 0)}
    wide = LabelSet([Category(1500, "weed", True)])
    with pytest.raises(OutputError, match=r"weed.*1500"):
        pack(PanopticMap([[0]], [[3]], [(0, 3)]), wide)


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


def test_unpack_names_an_unknown_class() -> None:
    with pytest.raises(InputError, match=r"unknown class id 5 \(pixel value 5003\).*26 car"):
        unpack([[7, 5003]], LABEL_SET)
    with pytest.raises(InputError, match="unknown class id -2"):
        unpack([[-2]], LABEL_SET)
    assert unpack([[-2, 5003]], LABEL_SET, ignore_values=(-2, 5003)).semantic.tolist() == [[IGNORE, IGNORE]]


@pytest.mark.parametrize("packed", [[7, 7], [[7.0]], [[[7]]]])
def test_unpack_wants_a_map_of_integers(packed: list) -> None:
    with pytest.raises(ValueError, match="HxW array of integers"):
        unpack(packed, LABEL_SET)


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


def test_label_set_knows_things_stuff_and_ids() -> None:
    assert (LABEL_SET.things, LABEL_SET.stuff, LABEL_SET.ignore) == ((1, 3), (0, 2), 255)
    assert [LABEL_SET.index_of(c.id) for c in LABEL_SET] == [0, 1, 2, 3]
    assert LabelSet.from_list(LABEL_SET.to_list()) == LABEL_SET
    assert hash(LabelSet.from_list(LABEL_SET.to_list())) == hash(LABEL_SET)
    assert "26=car*" in repr(LABEL_SET)
    with pytest.raises(KeyError):
        LABEL_SET.index_of(5)


@pytest.mark.parametrize(
    ("categories", "told"),
    [
        ([], "needs 1 to 255 classes, found 0"),
        ([Category(i, str(i), False) for i in range(256)], "found 256"),
        ([Category(1, "a", True), Category(1, "b", True)], "class id '1' occurs twice"),
        ([Category(1, "a", True), Category(2, "a", True)], "class name 'a' occurs twice"),
        ([Category(-1, "plate", True)], "'plate' has id -1"),
        ([Category(65535, "plate", True)], "'plate' has id 65535; expected 0..65534"),
    ],
)
def test_wrong_label_sets_are_refused(categories: list[Category], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        LabelSet(categories)


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1, "name": "leaf"},
        {"id": "x", "name": "leaf", "isthing": 1},
        {"id": 1, "name": "leaf", "isthing": 1, "color": [1, 2]},
        "leaf",
        None,
    ],
)
def test_wrong_rows_are_named(row: object) -> None:
    with pytest.raises(SettingsError, match=r"class 1 of the label set: expected id, name, isthing"):
        LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, row])  # type: ignore[list-item]


def test_colors_of_neighbours_differ() -> None:
    colors = np.array([distinct_color(i) for i in range(100)])
    assert colors.min() >= 0
    assert colors.max() <= 255
    assert len(np.unique(colors, axis=0)) == 100
    assert np.abs(np.diff(colors, axis=0)).sum(1).min() > 60


def test_stuff_is_darker_than_things_where_nobody_said_a_colour() -> None:
    rows = [{"id": number, "name": str(number), "isthing": number % 2} for number in range(8)]
    label_set = LabelSet.from_list(rows)
    brightness = [max(category.color) for category in label_set]
    assert max(brightness[::2]) < min(brightness[1::2])
    assert len({category.color for category in label_set}) == 8
