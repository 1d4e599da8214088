"""Stacks of masks: a page for every object."""

import numpy as np
import pytest
import tifffile
from layout_contract import LayoutContract, picture
from PIL import Image

from panembed.datasets.layout import layout_name, open_dataset
from panembed.errors import InputError


class TestContract(LayoutContract):
    format = "stacks"
    most_objects = 60
    options = {"photometric": "minisblack"}  # noqa: RUF012

    def write(self, root, images):
        for folder in ("images", "labels"):
            (root / folder).mkdir()
        for id, (image, truth) in images.items():
            Image.fromarray(image).save(root / f"images/{id}.png")
            pages = [truth.instance == number for number in np.unique(truth.instance[truth.instance > 0])]
            # A file has a page at least: without objects it is empty.
            stack = np.array([*pages, np.zeros(truth.shape)], np.uint8) * 255
            tifffile.imwrite(root / f"labels/{id}.tif", stack, **self.options)


class TestStacksOfImageJ(TestContract):
    options = {"imagej": True}  # noqa: RUF012


def test_pages_that_were_appended(tmp_path):
    stack(tmp_path, page(0))
    with tifffile.TiffWriter(tmp_path / "labels/a.tif") as file:
        for size in (2, 4):
            file.write(page(size), photometric="minisblack", contiguous=False)
    assert open_dataset(tmp_path).read_truth("a").num_instances == 2


def stack(root, pages, **options):
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    Image.fromarray(picture(0, (8, 9))).save(root / "images/a.png")
    tifffile.imwrite(root / "labels/a.tif", np.asarray(pages), photometric="minisblack", **options)
    return root


def page(size, value=1, shape=(8, 9)):
    made = np.zeros(shape, np.uint16)
    made[:size, :size] = value
    return made


def test_pages_overlap_and_any_number_will_do(tmp_path):
    dataset = open_dataset(stack(tmp_path, [page(2, 7), page(6, 900), page(0)]))
    truth = dataset.read_truth("a")
    assert sorted(np.unique(truth.instance, return_counts=True)[1].tolist()) == [4, 32, 36]
    assert dataset.losses("a") == {"pixels in more than one object": 4}


def test_a_stack_of_label_images_is_refused(tmp_path):
    dataset = open_dataset(stack(tmp_path, [page(2), page(6) + page(3)]))
    with pytest.raises(InputError, match=r"a\.tif: page 2 holds 2 numbers beside 0 \(1, 2\).*a volume or a film"):
        dataset.read_truth("a")


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([page(2, shape=(9, 9))] * 2, r"page 1 is 9x9 pixels, but its image a\.png is 9x8"),
        ([page(2).astype(np.float32)] * 2, "float32 values; expected whole numbers"),
    ],
)
def test_pages_that_do_not_fit(tmp_path, pages, said):
    with pytest.raises(InputError, match=said):
        open_dataset(stack(tmp_path, pages)).read_truth("a")


def test_label_images_of_one_page_stay_a_plain_folder(tmp_path):
    stack(tmp_path, page(2) + page(4))
    assert layout_name(tmp_path) == "folder"
