"""What a model learned from, and images unlike it."""

import json

import numpy as np
import pytest

import panembed
from panembed.datasets.folder import FolderDataset
from panembed.datasets.samples import sample_nuclei_path
from panembed.datasets.synthetic import SyntheticDataset
from panembed.inference.learned import Learned, is_learned, picture_digest, remarks, sizes
from panembed.inference.preparation import Preparation
from panembed.labels.panoptic_map import PanopticMap

NATIVE = Preparation((64, 64), "native", scale=2.0)


def disc(radius, side=96):
    y, x = np.mgrid[:side, :side] - side // 2
    inside = x**2 + y**2 <= radius**2
    return PanopticMap(inside.astype(np.uint8), inside.astype(np.int32))


@pytest.mark.parametrize("radius", [5, 12, 30])
@pytest.mark.parametrize("preparation", [NATIVE, Preparation((192, 192)), Preparation((64, 64))])
def test_sizes_are_those_that_the_network_sees(radius, preparation):
    scale = preparation.stretched(96, 96)[0] / 96
    diameter, thickness = sizes(disc(radius), 1, preparation)
    assert diameter == pytest.approx(2 * radius * scale, rel=0.08)
    assert thickness == pytest.approx(2 * radius * scale, rel=0.25)
    assert sizes(PanopticMap(np.zeros((4, 4), int), np.zeros((4, 4), int)), 1, preparation) is None


def learned_plants():
    plants, found = SyntheticDataset(12, size=64), Learned()
    for id in plants.ids:
        sample = plants.load(id)
        found.add(sample.image, sample.image, sample.truth, {1: "leaf"}, NATIVE)
    return plants, found.to_plain()


def kinds(learned, image, panoptic):
    return [remark.kind for remark in remarks(learned, image, panoptic, {1: "leaf"}, NATIVE)]


def test_what_was_learned_is_not_remarked_on_and_what_was_not_is():
    plants, learned = learned_plants()
    assert is_learned(json.loads(json.dumps(learned)))
    for id in plants.ids:
        image, truth = plants.read_image(id), plants.read_truth(id)
        assert kinds(learned, image, truth) == []
        assert picture_digest(image) in learned["pictures"]
        assert "colours" in kinds(learned, (image * np.array([1, 0.3, 1])).astype(np.uint8), truth)
        large = PanopticMap(*(np.kron(part, np.ones((4, 4), int)) for part in (truth.semantic, truth.instance)))
        assert kinds(learned, image, large) == ["sizes"]
    assert kinds({}, image, large) == []


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"looks": [[1], [1, 2]]},
        {"looks": [[float("nan")]]},
        {"sizes": {"leaf": {"diameter": [0, 1]}}},
        {"pictures": [1]},
    ],
)
def test_damaged_data_are_told(data):
    assert not is_learned(data)


@pytest.mark.slow
def test_shipped_models_know_their_own_and_remark_on_large_nuclei():
    model = panembed.load("nuclei", device="cpu")
    dataset = FolderDataset(sample_nuclei_path())
    assert not [remark for id in dataset.ids[:6] for remark in model.predict(dataset.read_image(id)).remarks]
    y, x = np.mgrid[:480, :480] % 240 - 120
    large = np.where(x**2 + y**2 <= 80**2, 180, 20).astype(np.uint8)
    large = (large + np.random.default_rng(0).normal(0, 4, large.shape)).clip(0, 255).astype(np.uint8)
    found = model.predict(large).remarks
    assert [remark for remark in found if remark.kind in ("sizes", "none")]
    leaf = panembed.load("leaf", device="cpu")
    assert len(leaf.learned["pictures"]) == 80
