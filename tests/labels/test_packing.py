"""Eq. 2.1: what is packed is read back, and what doesn't fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from panembed.errors import InputError, OutputError
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.packing import pack, unpack
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
def maps(draw: st.DrawFn) -> PanopticMap:
    """Maps whose thing pixels all belong to an object, and whose stuff has instance 0."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    semantic = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, IGNORE])))
    instance = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([1, 2, 5, 1000, 70_000, 2**31 - 1])))
    return PanopticMap(semantic, np.where(np.isin(semantic, THINGS), instance, 0))


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
