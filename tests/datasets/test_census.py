"""What is counted in a data set."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from panembed.datasets.census import take_census
from panembed.datasets.layout import open_dataset
from panembed.datasets.synthetic import SyntheticDataset
from panembed.io.images import write_png


def test_large_numbers_of_objects_take_no_memory(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    write_png(tmp_path / "images/a.png", np.zeros((4, 6, 3), np.uint8))
    labels = np.zeros((4, 6), np.uint32)
    labels[0, :3], labels[2, 2:6] = 2**31 - 2, 7
    tifffile.imwrite(tmp_path / "labels/a.tif", labels)
    (tmp_path / "labels.yaml").write_text(
        "encoding: instances\nclasses: [{id: 0, name: soil, isthing: false}, {id: 1, name: leaf, isthing: true}]\n"
    )
    tracemalloc.start()
    census = take_census(open_dataset(tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
    assert (census.objects[1], sorted(census.areas[1])) == ([2], [3, 4])


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_those_of_the_truth(seed: int) -> None:
    data = SyntheticDataset(3, seed=seed, size=64)
    census = take_census(data)
    truths = [data.read_truth(id) for id in data.ids]
    assert census.objects[1] == [truth.num_instances for truth in truths]
    assert sum(census.areas[1]) == sum(int((truth.instance > 0).sum()) for truth in truths)
