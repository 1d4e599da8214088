import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.cvppp import CvpppDataset
from panembed.errors import InputError

DATA = os.environ.get("PANEMBED_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="PANEMBED_DATA is not set: no real images")
RNG = np.random.default_rng(0)
LEAVES = np.kron(np.array([[0, 1, 1], [2, 0, 3]], np.uint8), np.ones((4, 4), np.uint8))


def add_plant(folder, name, label, image=None):
    folder.mkdir(parents=True, exist_ok=True)
    height, width = np.asarray(label).shape[:2]
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8) if image is None else image
    Image.fromarray(pixels).save(folder / f"{name}_rgb.png")
    (label if isinstance(label, Image.Image) else Image.fromarray(label)).save(folder / f"{name}_label.png")
    return pixels


def palette_label(label):
    image = Image.fromarray(label).convert("P")
    image.putpalette([0, 0, 0, 200, 10, 10, 200, 10, 10, 10, 10, 200])
    return image


def colour_label(label, colours):
    return np.array([(0, 0, 0), *colours], np.uint8)[label]


@pytest.fixture
def challenge(tmp_path):
    """All four subsets, each with its way of storing labels and its own image sizes."""
    rgba = np.dstack([RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8), np.full((8, 12), 128, np.uint8)])
    add_plant(tmp_path / "A1", "plant001", palette_label(LEAVES), rgba)
    add_plant(tmp_path / "A2", "plant001", colour_label(LEAVES, [(255, 0, 0), (0, 255, 0), (255, 255, 255)]))
    add_plant(tmp_path / "A3", "plant012", colour_label(LEAVES.T, [(1, 0, 0), (0, 0, 1), (0, 1, 0)]))
    add_plant(tmp_path / "A4", "plant0001", LEAVES[:, :7])
    (tmp_path / "A1" / "A1.csv").write_text("plant001_rgb.png, 3\n")
    for other in ("fg", "centers"):
        Image.fromarray(LEAVES).save(tmp_path / "A1" / f"plant001_{other}.png")
    return tmp_path


def test_layout(challenge):
    dataset = CvpppDataset(challenge)
    assert dataset.ids == ["A1/plant001", "A2/plant001", "A3/plant012", "A4/plant0001"]
    assert dataset.image_path("A2/plant001") == challenge / "A2" / "plant001_rgb.png"
    assert [(c.id, c.name, c.is_thing) for c in dataset.label_set] == [(0, "background", False), (1, "leaf", True)]
    assert CvpppDataset(challenge / "A3").ids == ["plant012"]
    assert CvpppDataset(str(challenge)).root == Path(challenge)


def test_palette_colours_do_not_matter(challenge):
    # Leaves 1 and 2 have the same colour in this palette.
    sample = CvpppDataset(challenge).load("A1/plant001")
    np.testing.assert_array_equal(sample.truth.instance, LEAVES)
    np.testing.assert_array_equal(sample.truth.semantic, LEAVES > 0)
    stored = np.asarray(Image.open(challenge / "A1" / "plant001_rgb.png"))
    np.testing.assert_array_equal(sample.image, stored[..., :3])


@pytest.mark.parametrize(("id", "leaves"), [("A2/plant001", LEAVES), ("A3/plant012", LEAVES.T)])
def test_colours_become_consecutive_leaves(challenge, id, leaves):
    truth = CvpppDataset(challenge).load(id).truth
    np.testing.assert_array_equal(truth.instance > 0, leaves > 0)
    assert truth.num_instances == 3
    # The same partition: every leaf has one number.
    assert len(np.unique(np.stack([truth.instance, leaves]).reshape(2, -1), axis=1).T) == 4


def test_colours_in_the_high_channels_are_renumbered(challenge):
    assert np.unique(CvpppDataset(challenge).read_truth("A2/plant001").instance).tolist() == [0, 1, 2, 3]


def test_colour_label_without_any_background(tmp_path):
    leaves = np.array([[1, 1, 2], [3, 3, 2]])
    add_plant(tmp_path, "plant1", colour_label(leaves, [(0, 0, 9), (0, 0, 8), (0, 0, 7)]))
    truth = CvpppDataset(tmp_path).read_truth("plant1")
    assert truth.instance.tolist() == [[3, 3, 2], [1, 1, 2]]


def test_image_and_label_belong_together(challenge):
    (challenge / "A2" / "plant001_label.png").rename(challenge / "A2" / "plant002_label.png")
    with pytest.raises(InputError, match=r"A2/plant001_rgb\.png: has no label; expected plant001_label\.png"):
        CvpppDataset(challenge)
    (challenge / "A2" / "plant001_rgb.png").unlink()
    with pytest.raises(InputError, match=r"A2/plant002_label\.png: has no image; expected plant002_rgb\.png"):
        CvpppDataset(challenge)


def test_mistakes(tmp_path, challenge):
    with pytest.raises(InputError, match="no such folder"):
        CvpppDataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no CVPPP images"):
        CvpppDataset(tmp_path / "empty")
    dataset = CvpppDataset(challenge)
    with pytest.raises(InputError, match="no image is called 'A9/x'; names look like 'A1/plant001'"):
        dataset.load("A9/x")
    (challenge / "A1" / "plant001_label.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"plant001_label\.png: is empty"):
        dataset.read_truth("A1/plant001")


@needs_data
@pytest.mark.data
def test_real_leaf_counts_and_foreground():
    root = Path(DATA) / "cvppp"
    dataset = CvpppDataset(root)
    with open(root / "A1" / "A1.csv", newline="") as file:
        counts = {f"A1/{row[0].removesuffix('_rgb.png')}": int(row[1]) for row in csv.reader(file) if row}
    assert len(counts) == len(dataset) == 100
    found = {}
    for id in dataset.ids:
        truth = dataset.read_truth(id)
        found[id] = truth.num_instances
        with Image.open(root / f"{id}_fg.png") as foreground:
            np.testing.assert_array_equal(truth.semantic == 1, np.asarray(foreground) > 0)
    assert found == counts


@needs_data
@pytest.mark.data
def test_real_image():
    sample = CvpppDataset(Path(DATA) / "cvppp" / "A1").load("plant001")
    assert sample.image.shape == (530, 500, 3)
    assert sample.truth.num_instances == 15
