"""Runs of equal pixels, against the same found pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from panembed.labels.runs import Runs, color_run_starts, compact, merge_starts, run_starts

few = st.integers(0, 2)
shapes = array_shapes(min_dims=2, max_dims=2, max_side=9)


@settings(max_examples=60, deadline=None)
@given(maps=shapes.flatmap(lambda shape: st.tuples(*[arrays(np.int32, shape, elements=few)] * 2)))
def test_runs_are_equal_inside_and_differ_from_their_neighbours(maps: tuple[np.ndarray, np.ndarray]) -> None:
    starts = run_starts(*maps)
    pairs = list(zip(*(array.ravel().tolist() for array in maps)))
    assert starts.tolist() == [k for k in range(len(pairs)) if k == 0 or pairs[k] != pairs[k - 1]]
    runs = Runs(starts, *(array.ravel()[starts] for array in maps), len(pairs))
    for values, array in ((runs.category, maps[0]), (runs.instance, maps[1])):
        np.testing.assert_array_equal(np.repeat(values, runs.lengths), array.ravel())


@settings(max_examples=60, deadline=None)
@given(
    image=st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 4])).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=few)
    )
)
def test_runs_of_colours(image: np.ndarray) -> None:
    pixels = image.reshape(-1, image.shape[2]).tolist()
    expected = [k for k in range(len(pixels)) if k == 0 or pixels[k] != pixels[k - 1]]
    assert color_run_starts(image).tolist() == expected


def test_an_image_without_pixels_has_no_runs() -> None:
    nothing = np.zeros((0, 5, 3), dtype=np.uint8)
    assert color_run_starts(nothing).tolist() == run_starts(nothing[..., 0]).tolist() == []
    assert [part.tolist() for part in merge_starts(np.zeros(0, int), np.zeros(0, int))] == [[], [], []]


@settings(max_examples=60, deadline=None)
@given(a=st.sets(st.integers(1, 30)), b=st.sets(st.integers(1, 30)))
def test_pieces_of_two_lists_lie_in_one_run_of_each(a: set[int], b: set[int]) -> None:
    first, second = (np.array(sorted({0, *starts})) for starts in (a, b))
    starts, in_first, in_second = merge_starts(first, second)
    assert starts.tolist() == sorted({0, *a, *b})
    np.testing.assert_array_equal(in_first, np.searchsorted(first, starts, side="right") - 1)
    np.testing.assert_array_equal(in_second, np.searchsorted(second, starts, side="right") - 1)


@pytest.mark.parametrize("largest", [9, 2**24 + 5, 2**40, 2**62])
def test_numbering_by_table_and_by_both_sorts_equals_numpys(largest: int) -> None:
    values = np.random.default_rng(0).choice([0, 3, largest // 2, largest - 1, largest], size=200)
    found, place = compact(values)
    expected, expected_place = np.unique(values, return_inverse=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(place, expected_place)
