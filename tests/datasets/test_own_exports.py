"""What `predict --write` makes, put beside the images, is the same truth to the pixel."""

import shutil

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.layout import open_dataset
from panembed.datasets.synthetic import SyntheticDataset
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.exports.exporter import open_exporter
from panembed.results.result import PanopticResult

PLANTS = SyntheticDataset(1)


def speckles(seed):
    """Objects with holes, islands and single pixels."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 50)), int(rng.integers(2, 50)))
    coarse = np.kron(rng.integers(0, 6, (10, 10)), np.ones((5, 5), int))[: shape[0], : shape[1]]
    numbers = np.where(rng.random(shape) < 0.2, rng.integers(0, 6, shape), coarse)
    return PanopticMap((numbers > 0).astype(np.uint8), numbers)


@pytest.mark.parametrize(
    ("name", "images"),
    [("rois", "."), ("geojson", "."), ("coco", "."), ("coco-rle", "."), ("yolo", "yolo/images")],
)
def test_read_back(tmp_path, name, images):
    maps = {f"x{seed}": speckles(seed) for seed in range(15)}
    (tmp_path / images).mkdir(parents=True, exist_ok=True)
    exporter = open_exporter(name, tmp_path, PLANTS.label_set)
    for id, truth in maps.items():
        image = np.zeros((*truth.shape, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / images / f"{id}.png")
        result = PanopticResult(truth, PLANTS.label_set, image, name=id)
        exporter.add(tmp_path / f"{id}.png", result, result.measure())
    exporter.close()
    dataset = open_dataset((tmp_path / images).parent if name == "yolo" else tmp_path)
    assert dataset.ids == sorted(maps)
    for id, truth in maps.items():
        found = dataset.read_truth(id)
        pairs = np.unique(np.stack([found.instance, truth.instance]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == len(np.unique(truth.instance)) == len(np.unique(found.instance)), id
        assert np.array_equal(found.instance > 0, truth.instance > 0)
    shutil.rmtree(tmp_path)
