"""A mask for every object: the Data Science Bowl's download, and folders of masks."""

import os
from pathlib import Path

import numpy as np
import pytest
from layout_contract import LayoutContract, picture
from PIL import Image

from panembed.datasets.layout import open_dataset
from panembed.datasets.mask_files import MaskFilesDataset
from panembed.errors import InputError


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def masks_of(truth):
    return [
        (truth.instance == number).astype(np.uint8) * 255 for number in np.unique(truth.instance[truth.instance > 0])
    ]


class TestDownload(LayoutContract):
    """As it is unpacked: RGBA images, and names of masks that say nothing."""

    format = "masks"
    most_objects = 40
    ids = ("00ae65c1", "0121d6759c", "0a7d30b252")

    def write(self, root, images):
        for id, (image, truth) in images.items():
            save(root / f"{id}/images/{id}.png", np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))
            (root / f"{id}/masks").mkdir()
            for number, mask in enumerate(masks_of(truth)):
                save(root / f"{id}/masks/{hash((id, number)) & 0xFFFFFFF:x}.png", mask)


class TestFoldersOfMasks(LayoutContract):
    format = "masks"
    most_objects = 40

    def write(self, root, images):
        for id, (image, truth) in images.items():
            save(root / f"images/{id}.png", image)
            (root / f"masks/{id}").mkdir(parents=True)
            for number, mask in enumerate(masks_of(truth)):
                save(root / f"masks/{id}/{number}.png", mask)

    def test_two_images_of_one_name(self, root):
        save(root / "images/a.bmp", picture(0, (8, 8)))
        with pytest.raises(InputError, match="same name as"):
            open_dataset(root)


def case(root, masks, shape=(8, 9), id="x"):
    save(root / f"{id}/images/{id}.png", picture(0, shape))
    (root / f"{id}/masks").mkdir(exist_ok=True)
    for number, mask in enumerate(masks):
        save(root / f"{id}/masks/{number}.png", mask)
    return root


def square(size, value=255, shape=(8, 9)):
    mask = np.zeros(shape, np.uint8)
    mask[1 : 1 + size, 1 : 1 + size] = value
    return mask


def test_the_smaller_lies_on_top_and_overlaps_are_counted(tmp_path):
    dataset = open_dataset(case(tmp_path, [square(2), square(6), square(6) * 0]))
    truth = dataset.read_truth("x")
    assert np.unique(truth.instance, return_counts=True)[1].tolist() == [8 * 9 - 36, 4, 32]
    assert dataset.losses("x") == {"pixels in more than one object": 4, "objects without a pixel": 1}


def test_images_without_masks_are_left_out(tmp_path):
    case(tmp_path, [square(3)])
    save(tmp_path / "later/images/later.png", picture(1, (8, 9)))
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "stage1_train_labels.csv").write_text("ImageId,EncodedPixels\n")
    dataset = open_dataset(tmp_path)
    assert dataset.ids == ["x"]
    assert dataset.left_out == ("later",)
    assert MaskFilesDataset(tmp_path).ids == ["x"]


def test_an_empty_folder_of_masks_means_no_objects(tmp_path):
    assert open_dataset(case(tmp_path, [])).read_truth("x").num_instances == 0


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (square(3, shape=(8, 8)), r"0\.png: mask is 8x8 pixels, but its image x\.png is 9x8"),
        (square(3) + square(2), r"0\.png: holds 2 numbers beside 0 \(254, 255\)"),
    ],
)
def test_masks_that_are_none(tmp_path, mask, said):
    with pytest.raises(InputError, match=said):
        open_dataset(case(tmp_path, [mask])).read_truth("x")


def test_several_images_beside_the_masks(tmp_path):
    case(tmp_path, [square(3)])
    save(tmp_path / "x/images/y.png", picture(1, (8, 9)))
    with pytest.raises(InputError, match="holds 2 images; expected one"):
        open_dataset(tmp_path)


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("PANEMBED_DATA"), reason="PANEMBED_DATA is not set: no real images")
def test_real_nuclei_taken_apart(tmp_path):
    """Labels of the same bowl, written as its masks were."""
    nuclei = open_dataset(Path(os.environ["PANEMBED_DATA"]) / "nuclei")
    for id in nuclei.ids[:4]:
        sample = nuclei.load(id)
        case(tmp_path, masks_of(sample.truth), sample.size, id)
    dataset = open_dataset(tmp_path)
    for id in dataset.ids:
        found, truth = dataset.read_truth(id), nuclei.read_truth(id)
        pairs = np.unique(np.stack([found.instance, truth.instance]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == truth.num_instances + 1 == found.num_instances + 1
