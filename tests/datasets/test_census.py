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


def folder_of(root: Path, labels: dict[str, np.ndarray], description: str = "") -> Path:
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for number, (name, label) in enumerate(labels.items()):
        picture = np.random.default_rng(number).integers(0, 256, (*label.shape, 3), dtype=np.uint8)
        write_png(root / f"images/{name}.png", picture)
        write_png(root / f"labels/{name}.png", label.astype(np.uint8))
    if description:
        (root / "labels.yaml").write_text(description)
    return root


SPOTS = np.kron([[1, 0, 2, 0, 1, 0], [0] * 6, [2, 0, 1, 0, 2, 0], [0] * 6], np.ones((4, 4), int))


def test_class_numbers_in_place_of_objects(tmp_path: Path) -> None:
    """Leaves 1 and weeds 2, each in many pieces: read as two objects, which nobody means."""
    census = take_census(open_dataset(folder_of(tmp_path / "a", {"a": SPOTS, "b": SPOTS[::-1]})))
    assert census.per_image == [2, 2]
    (oddity,) = census.suspicious
    assert "most objects are in 3 or more pieces: are the numbers classes?" in oddity
    assert census.suspicious[oddity] == ["a", "b"]
    # The same spots, each with a number of its own, and one leaf of many that is in pieces.
    own = np.kron(np.where(SPOTS[::4, ::4] > 0, np.arange(1, 25).reshape(4, 6), 0), np.ones((4, 4), int))
    own[:4, :4] = own[8:12, :4] = own[8, 16]
    assert take_census(open_dataset(folder_of(tmp_path / "b", {"a": own, "b": own[::-1]}))).suspicious == {}


def test_colours_without_a_background(tmp_path: Path) -> None:
    labels = {"a": SPOTS + 60, "b": SPOTS[::-1] + 60}
    census = take_census(open_dataset(folder_of(tmp_path, labels)))
    told = {oddity: ids for oddity, ids in census.suspicious.items() if "no pixel of any image is background" in oddity}
    assert list(told.values()) == [["a", "b"]]


def test_things_without_numbers(tmp_path: Path) -> None:
    """With class * 1000 + number expected, class numbers alone are groups: nothing to learn objects from."""
    description = (
        "encoding: class-instance\nclasses: [{id: 0, name: soil, isthing: false}, {id: 1, name: leaf, isthing: true}, "
        "{id: 2, name: weed, isthing: true}]\n"
    )
    census = take_census(open_dataset(folder_of(tmp_path, {"a": SPOTS, "b": SPOTS * 0}, description)))
    assert census.suspicious == {
        "no objects, but pixels of things that no number tells apart": ["a"],
        "no objects": ["b"],
    }
