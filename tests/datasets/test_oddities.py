"""Label images spoiled in the ways that happen, and sound ones."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from panembed.datasets.census import take_census
from panembed.datasets.folder import FolderDataset
from panembed.datasets.oddities import oddities
from panembed.datasets.samples import sample_nuclei_path
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError
from panembed.evaluation.predictions.stored import open_predictions
from panembed.io.images import write_png
from panembed.labels.panoptic_map import PanopticMap


def discs(number, radius, side, gap=3):
    y, x = np.mgrid[:side, :side]
    labels, step = np.zeros((side, side), np.int32), 2 * radius + gap
    for k in range(number):
        row, column = divmod(k, side // step)
        centre = step * row + radius + 1, step * column + radius + 1
        labels[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2] = k + 1
    assert len(np.unique(labels)) == number + 1
    return labels


def told(labels):
    return oddities(PanopticMap((labels > 0).astype(np.uint8), labels), [1])


def test_sound_labels_are_not_odd():
    dataset = FolderDataset(sample_nuclei_path())
    assert all(oddities(dataset.read_truth(id), [1]) == [] for id in dataset.ids)
    plants = SyntheticDataset(5, size=96)
    assert all(oddities(plants.read_truth(id), plants.label_set.things) == [] for id in plants.ids)
    assert told(discs(12, 9, 96)) == told(np.zeros((5, 5), np.int32)) == []


@pytest.mark.parametrize("method", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_smooth_resizing(method):
    grey = Image.fromarray((discs(12, 9, 96) * 20).astype(np.uint8))
    spoiled = np.asarray(grey.resize((140, 140), method)).astype(np.int32)
    assert [text for text in told(spoiled) if "resized smoothly" in text]
    kept = np.asarray(grey.resize((140, 140), Image.Resampling.NEAREST)).astype(np.int32)
    assert told(kept) == []


@pytest.mark.parametrize("void", [254, 255, 65_535, 13])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_rim_of_void(void, width):
    labels = discs(12, 9, 160, gap=12)
    labels[ndimage.binary_dilation(labels > 0, iterations=width) & (labels == 0)] = void
    assert [text for text in told(labels) if f"ignore: [{void}]" in text]


@pytest.mark.parametrize("top", [254, 255])
def test_numbers_that_begin_again(top):
    labels = discs(300, 5, 260)
    wrapped = np.where(labels > 0, (labels - 1) % top + 1, 0)
    assert [text for text in told(wrapped) if "8 bits" in text]
    assert told(labels) == []


def data_set(root, labels, save):
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for k in range(3):
        write_png(root / "images" / f"{k}.png", np.full((*labels.shape, 3), k, np.uint8))
        save(root / "labels" / f"{k}.png")
    return FolderDataset(root)


def test_one_bit_in_pieces_is_refused_and_one_number_in_pieces_noted(tmp_path):
    labels = discs(2, 9, 64)
    bits = data_set(tmp_path / "bits", labels, Image.fromarray(labels > 0).save)
    with pytest.raises(InputError, match="mask of one bit a pixel, in pieces"):
        bits.read_truth("0")
    bytes_ = data_set(tmp_path / "bytes", labels, Image.fromarray((labels > 0).astype(np.uint8)).save)
    assert [text for text in take_census(bytes_).suspicious if "masks" in text]
    sound = data_set(tmp_path / "sound", labels, Image.fromarray(labels.astype(np.uint8)).save)
    assert not [text for text in take_census(sound).suspicious if "masks" in text]


@pytest.mark.parametrize("number", [1, 7, 255])
def test_masks_given_as_predictions_are_refused(tmp_path, number):
    labels = discs(2, 9, 64)
    for k in range(3):
        write_png(tmp_path / f"{k}.png", ((labels > 0) * number).astype(np.uint8))
    leaves = SyntheticDataset(1, size=64).label_set
    with pytest.raises(InputError, match="mask"):
        open_predictions(tmp_path, leaves).read(0)
    assert open_predictions(tmp_path, leaves, "instances").read(0).num_instances == 1
    write_png(tmp_path / "3.png", labels.astype(np.uint8))
    if number != 255:
        assert open_predictions(tmp_path, leaves).read(3).num_instances == 2


def test_sub_folders_pair_and_other_kinds_are_named(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part / "day" / "one").mkdir(parents=True)
        for name in ("a", "day/a", "day/one/b"):
            write_png(tmp_path / part / f"{name}.png", np.ones((4, 4), np.uint8))
        (tmp_path / part / "c.webp").write_bytes(b"RIFF")
    found = FolderDataset(tmp_path)
    assert found.ids == ["a", "day/a", "day/one/b"]
    assert found.not_read == ("images/c.webp", "labels/c.webp")
    (tmp_path / "labels" / "day" / "a.png").unlink()
    with pytest.raises(InputError, match=r"day/a\.png: has no label"):
        FolderDataset(tmp_path)
