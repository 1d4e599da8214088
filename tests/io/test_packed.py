"""One number per pixel: what goes in comes out again, and what doesn't go in is an error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from panembed.errors import OutputError
from panembed.io.label_images import read_label_image
from panembed.io.packed import (
    PACKED_VOID,
    WIDE_VOID,
    encode_objects,
    encode_packed,
    single_crowds,
    write_leaf_labels,
    write_packed,
    write_wide_packed,
)
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.packing import unpack
from panembed.labels.panoptic_map import PanopticMap

FIELD = LabelSet([Category(0, "soil", False), Category(1, "crop", True), Category(2, "weed", True)])
LEAVES = LabelSet([Category(0, "background", False), Category(1, "leaf", True)])
SIGNS = LabelSet([Category(65, "sign", True)])


def same_segments(a: PanopticMap, b: PanopticMap, label_set: LabelSet) -> bool:
    """Are the segments the same sets of pixels, of the same class, crowds or not? Their numbers may differ."""
    (map_a, table_a), (map_b, table_b) = a.segments(label_set), b.segments(label_set)
    pairs = {(int(x), int(y)) for x, y in zip(map_a.ravel(), map_b.ravel())}
    pairs.discard((0, 0))
    kind_a = {s.id: (s.category, s.is_crowd) for s in table_a}
    kind_b = {s.id: (s.category, s.is_crowd) for s in table_b}
    one_to_one = len({x for x, _ in pairs}) == len({y for _, y in pairs}) == len(pairs) == len(kind_a) == len(kind_b)
    return one_to_one and all(x and y and kind_a[x] == kind_b[y] for x, y in pairs)


def mode_of(path) -> str:
    with Image.open(path) as image:
        return image.mode


def draw_map(seed: int, *, crowds: bool = True) -> PanopticMap:
    rng = np.random.default_rng(seed)
    semantic = np.kron(rng.choice([0, 1, 2, IGNORE], (4, 5)), np.ones((3, 3), int))
    instance = np.kron(rng.choice([0, 1, 7, 40_000], (4, 5)), np.ones((3, 3), int))
    numbers = rng.choice([0, 7, 40_000], 2)
    return PanopticMap(semantic, instance, list(zip((1, 2), numbers)) if crowds and seed % 3 else ())


@pytest.mark.parametrize("seed", range(12))
def test_packed_is_lossless_segment_by_segment(seed, tmp_path):
    panoptic = draw_map(seed)
    assert same_segments(panoptic, single_crowds(panoptic, FIELD), FIELD)
    write_packed(tmp_path / "a.png", panoptic, FIELD)
    assert mode_of(tmp_path / "a.png") in ("I;16", "I")
    again = unpack(read_label_image(tmp_path / "a.png"), FIELD, ignore_values=(PACKED_VOID,))
    assert same_segments(panoptic, again, FIELD)


def test_the_comparison_finds_differences():
    a = PanopticMap([[1, 1, 2]], [[1, 2, 1]])
    assert same_segments(a, PanopticMap([[1, 1, 2]], [[9, 4, 9]]), FIELD)
    assert not same_segments(a, PanopticMap([[1, 1, 2]], [[1, 1, 1]]), FIELD)
    assert not same_segments(a, PanopticMap([[1, 1, 1]], [[1, 2, 3]]), FIELD)
    assert not same_segments(a, PanopticMap([[1, 1, 2]], [[1, 2, 0]]), FIELD)
    assert not same_segments(a, PanopticMap([[1, 1, 2]], [[1, 2, 1]], [(1, 1)]), FIELD)


def test_two_crowds_of_a_class():
    panoptic = PanopticMap([[1, 1, 2]], [[3, 4, 4]], [(1, 3), (1, 4), (2, 9)])
    with pytest.raises(OutputError, match=r"'crop' has 2 crowds in one image.*COCO panoptic"):
        encode_packed(panoptic, FIELD)


def test_marks_of_crowds_that_are_not_in_the_image_are_no_crowds():
    panoptic = PanopticMap([[0, 0, 0]], [[3, 3, 4]], [(0, 3), (0, 8), (0, 9)])
    assert encode_packed(panoptic, SIGNS).tolist() == [[65, 65, 65_000]]


def test_stuff_is_one_segment_and_no_crowd():
    halves = PanopticMap([[0, 0, 1]], [[0, 1, 3]], (), [0])
    with pytest.raises(OutputError, match=r"'soil' has 2 segments in one image.*COCO panoptic"):
        encode_packed(halves, FIELD)
    one = PanopticMap([[0, 0, 1]], [[1, 1, 3]], (), [0])
    assert same_segments(one, unpack(encode_packed(one, FIELD), FIELD, (PACKED_VOID,)), FIELD)
    with pytest.raises(OutputError, match=r"'soil' is stuff, and a crowd.*COCO panoptic"):
        encode_packed(PanopticMap([[0, 0, 1]], [[0, 0, 3]], [(0, 0)]), FIELD)


def test_a_class_that_is_not_in_the_label_set():
    with pytest.raises(ValueError, match="class index 7 is not in the label set of 3 classes"):
        encode_packed(PanopticMap([[0, 7]], [[0, 1]]), FIELD)


def test_a_thousand_objects_fit_and_one_more_does_not(tmp_path):
    row = np.arange(1, 1001)[None]
    write_packed(tmp_path / "a.png", PanopticMap(np.ones_like(row), row), FIELD)
    assert read_label_image(tmp_path / "a.png").max() == 1999
    row = np.arange(1, 1002)[None]
    with pytest.raises(OutputError, match="1001 objects"):
        write_packed(tmp_path / "b.png", PanopticMap(np.ones_like(row), row), FIELD)
    assert not (tmp_path / "b.png").exists()


def test_ids_up_to_64_fit_16_bits(tmp_path):
    assert encode_packed(PanopticMap([[0]], [[1]]), SIGNS).tolist() == [[65_000]]
    row = np.arange(1, 601)[None]
    with pytest.raises(OutputError, match=r"'sign': 65599 does not fit below 65535"):
        encode_packed(PanopticMap(np.zeros_like(row), row), SIGNS)
    path = write_wide_packed(tmp_path / "a.png", PanopticMap(np.zeros_like(row), row), SIGNS)
    again = unpack(read_label_image(path), SIGNS, ignore_values=(WIDE_VOID,))
    assert same_segments(again, PanopticMap(np.zeros_like(row), row), SIGNS)


def test_no_object_gets_the_number_of_void():
    row = np.arange(1, 537)[None]
    assert encode_packed(PanopticMap(0 * row[:, :535], row[:, :535]), SIGNS).max() == PACKED_VOID - 1
    with pytest.raises(OutputError, match=r"'sign': 65535 does not fit below 65535"):
        encode_packed(PanopticMap(0 * row, row), SIGNS)


def test_wide_void(tmp_path):
    path = write_wide_packed(tmp_path / "a", PanopticMap([[0, IGNORE]], [[0, 0]]), FIELD)
    assert path.suffix == ".tif"
    assert unpack(read_label_image(path), FIELD, (WIDE_VOID,)).semantic.tolist() == [[0, IGNORE]]


@pytest.mark.parametrize(("count", "mode"), [(3, "P"), (255, "P"), (256, "RGB"), (70_000, "RGB")])
def test_leaf_labels(count, mode, tmp_path):
    instance = np.arange(count + 1).reshape(1, -1)[:, ::-1] * 3
    panoptic = PanopticMap((instance > 0).astype(int), instance)
    write_leaf_labels(tmp_path / "a.png", panoptic, LEAVES)
    assert mode_of(tmp_path / "a.png") == mode
    numbers = read_label_image(tmp_path / "a.png")
    assert np.array_equal(numbers, instance // 3)


def test_what_object_numbers_can_not_say():
    with pytest.raises(OutputError, match="2 thing and 1 stuff"):
        encode_objects(PanopticMap([[1]], [[1]]), FIELD)
    with pytest.raises(OutputError, match="has a crowd"):
        encode_objects(PanopticMap([[1]], [[1]], [(1, 1)]), LEAVES)
    void = PanopticMap([[1, IGNORE]], [[1, 0]])
    with pytest.raises(OutputError, match="1 pixels have no class"):
        encode_objects(void, LEAVES)
    with pytest.raises(OutputError, match="1 pixels have no class"):
        encode_objects(PanopticMap([[1, 1]], [[1, 0]]), LEAVES)
    assert encode_objects(void, LEAVES, void=9).tolist() == [[1, 9]]
    with pytest.raises(OutputError, match="1 objects do not fit below 1"):
        encode_objects(void, LEAVES, void=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_single_crowds_changes_no_segment(seed):
    panoptic = draw_map(seed)
    settled = single_crowds(panoptic, FIELD)
    assert same_segments(panoptic, settled, FIELD)
    assert all(number == 0 for _, number in settled.crowd)
    again = single_crowds(settled, FIELD)
    assert again == settled
