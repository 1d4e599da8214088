"""Every grouping method keeps the contract."""

from __future__ import annotations

import numpy as np
import pytest
from grouping_contract import GroupingContract, Outputs, on_axes, squares
from scipy.ndimage import center_of_mass

from panembed.inference.grouping import HEEDED, Grouping


class TestMeanShift(GroupingContract):
    grouping = Grouping(min_area=5, seed_bandwidth=0.6)


class TestMeanShiftOfTheThesis(GroupingContract):
    """One bandwidth, every pixel helps."""

    grouping = Grouping(min_area=5)


class TestMeanShiftWithASecondLook(GroupingContract):
    grouping = Grouping(min_area=5, second_look=1.0)


class TestComponents(GroupingContract):
    grouping = Grouping(method="components", min_area=5)


@pytest.mark.slow
class TestHdbscan(GroupingContract):
    grouping = Grouping(method="hdbscan", min_area=15)

    def test_one_object_that_fills_the_image(self) -> None:
        """HDBSCAN may split a lone object where chance has made it dense in two places; no pixel is lost."""
        found = self.group(squares((0, 0, 32, 1), side=32))
        assert (found.instance > 0).all()


class TestSeedMap(GroupingContract):
    grouping = Grouping(method="seed_map", min_area=5)

    def outputs(self, semantic: np.ndarray, instance: np.ndarray, num_classes: int = 2) -> Outputs:
        """A seed in the middle of each object, whose reach is half of the way to the next object's embedding."""
        seeds = np.full((3, *instance.shape), -9, np.float32)
        seeds[0] = np.log(np.log(2) / 1.5**2)
        for number in np.unique(instance[instance > 0]):
            y, x = np.round(center_of_mass(instance == number)).astype(int)
            seeds[1, y, x] = 9
            seeds[2][instance == number] = -np.log(np.count_nonzero(instance == number))
        return (*on_axes(semantic, instance, num_classes), seeds)


class TestSeedMapWithARecount(TestSeedMap):
    grouping = Grouping(method="seed_map", min_area=5, recount=1.0)


def test_no_method_is_left_out() -> None:
    kept = [kind.grouping.method for kind in (TestMeanShift, TestComponents, TestHdbscan, TestSeedMap)]
    assert sorted(kept) == sorted(HEEDED)
