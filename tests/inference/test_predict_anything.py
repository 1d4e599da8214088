"""`predict` takes files, arrays, Pillow images and lists of these, all by the same rules."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from panembed.errors import InputError
from panembed.inference.predictor import PanopticModel
from panembed.inference.preparation import Preparation
from panembed.io.images import as_picture, read_image, write_png
from panembed.labels.categories import Category, LabelSet

CLASSES = LabelSet([Category(0, "dark", False), Category(1, "bright", False)])


class Brightness:
    """A network that tells bright pixels from dark ones, and counts how many images it has seen."""

    num_workers = 2

    def __init__(self):
        self.seen = 0
        self.counting = threading.Lock()

    def start_worker(self):
        pass

    def __call__(self, images):
        with self.counting:
            self.seen += 1
        bright = images.mean(1, keepdims=True)
        return np.concatenate([-bright, bright], 1), images[:, :2]


@pytest.fixture
def model():
    return PanopticModel(Brightness(), CLASSES, Preparation((32, 32), "native"))


RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 50), dtype=np.uint8)
DEEP = RANDOM.integers(100, 4000, (40, 50), dtype=np.uint16)
RGB = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("array", [GREY, DEEP, RGB], ids=["grey", "16 bits", "RGB"])
def test_arrays_are_what_files_are(model, tmp_path, array):
    write_png(tmp_path / "a.png", array)
    of_file = model.predict(tmp_path / "a.png")
    for same in (array, array.astype(array.dtype.newbyteorder(">")), Image.open(tmp_path / "a.png")):
        result = model.predict(same)
        assert np.array_equal(result.image, of_file.image)
        assert np.array_equal(result.semantic, of_file.semantic)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_pillow_images_are_what_their_files_are(tmp_path, mode):
    image = Image.fromarray(RGB).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    if mode == "CMYK":
        assert as_picture(image).shape == (40, 50, 3)
    else:
        assert np.array_equal(as_picture(image), read_image(path))


def test_a_photograph_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    assert np.array_equal(as_picture(Image.open(tmp_path / "a.jpg")), read_image(tmp_path / "a.jpg"))
    assert read_image(tmp_path / "a.jpg").shape == (50, 40, 3)


def test_alpha_is_dropped():
    assert np.array_equal(as_picture(np.dstack([RGB, GREY])), RGB)
    assert np.array_equal(as_picture(GREY[..., None]), np.repeat(GREY[..., None], 3, 2))
    assert as_picture(GREY > 100).max() == 255


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (RGB / 255, "holds float64 values"),
        (RGB.astype(np.int64), "holds int64 values"),
        (RGB[None], r"has shape \(1, 40, 50, 3\)"),
        (RGB[:0], r"has shape \(0, 50, 3\)"),
        (np.dstack([GREY, GREY]), "has 2 channels"),
        (np.dstack([GREY] * 5), "has 5 channels"),
        (Image.new("F", (4, 4)), "holds float32 values"),
        (7, "is int; expected a path, an array"),
        (None, "is NoneType"),
    ],
)
def test_what_is_no_picture(model, image, told):
    with pytest.raises(InputError, match=f"^image: {told}"):
        model.predict(image)


def test_lists(model, tmp_path):
    write_png(tmp_path / "a.png", RGB)
    results = list(model.predict([tmp_path / "a.png", str(tmp_path / "a.png"), GREY, Image.fromarray(RGB)]))
    assert [result.name for result in results] == ["a", "a", "image-3", "image-4"]
    for result in (results[0], results[1], results[3]):
        assert np.array_equal(result.semantic, model.predict(RGB).semantic)
    assert list(model.predict([])) == []


def test_lists_stream(model):
    """However many there are, a few are begun at a time."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield RGB

    results = model.predict(endless())
    assert taken == model.backend.seen == 0
    for _ in range(5):
        next(results)
    assert taken <= 5 + model.backend.num_workers + 2
    results.close()


def test_a_list_ends_at_what_is_no_picture(model):
    results = model.predict([GREY, GREY / 3, GREY])
    assert next(results).name == "image-1"
    with pytest.raises(InputError, match=r"^image-2: holds float64 values"):
        next(results)


def test_a_list_has_no_name(model):
    with pytest.raises(ValueError, match="name is of one image"):
        model.predict([GREY], name="a")
