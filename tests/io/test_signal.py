"""The picture behind colours: by pictures whose numbers are known, and by pictures that have no such thing."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from panembed.datasets.samples import sample_nuclei_path
from panembed.inference.preparation import Preparation
from panembed.io.signal import single_signal

HUES = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "magenta": (1, 0, 1),
    "cyan": (0, 1, 1),
}


def samples():
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted((sample_nuclei_path() / "images").iterdir())]


def is_grey(image):
    return (np.ptp(image, axis=-1) == 0).all()


FLUORESCENCE = [image[..., 0] for image in samples() if is_grey(image) and image.mean() < 60][:6]


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("hue", HUES)
@pytest.mark.parametrize("noise", [0, 3])
def test_a_signal_in_one_hue_is_the_grey_picture(hue, noise):
    rng = np.random.default_rng(0)
    for grey in FLUORESCENCE:
        image = np.abs(rng.normal(0, noise, (*grey.shape, 3))).astype(np.uint8)
        image[..., np.array(HUES[hue], bool)] = grey[..., None]
        found = single_signal(image)
        assert found.colors == hue
        assert np.array_equal(found.picture, np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize("hue", HUES)
def test_jpeg_keeps_the_signal_near(hue):
    for grey in FLUORESCENCE:
        found = single_signal(jpeg(grey[..., None] * np.array(HUES[hue], np.uint8), quality=85))
        assert found.colors == hue
        assert np.corrcoef(found.picture[..., 0].ravel(), grey.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("name", ["viridis", "inferno", "magma", "turbo", "hot"])
def test_a_display_table_is_undone(name):
    table = np.rint(colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8)
    for grey in FLUORESCENCE:
        image = table[grey]
        if np.ptp(image[grey > np.percentile(grey, 99)], axis=-1).max() < 30:
            continue  # so dim a picture has hardly a colour
        found = single_signal(image)
        # Two numbers may have one colour.
        order = np.argsort(grey.ravel(), kind="stable")
        assert (np.diff(found.picture[..., 0].ravel()[order].astype(int)) >= -2).all()


def test_viridis_is_undone_to_the_digit_and_through_jpeg():
    table = np.rint(colormaps["viridis"](np.arange(256))[:, :3] * 255).astype(np.uint8)
    for grey in FLUORESCENCE:
        found = single_signal(table[grey])
        assert found.colors == "viridis"
        assert np.abs(found.picture[..., 0].astype(int) - grey).max() <= 1  # two numbers may have one colour
        lossy = single_signal(jpeg(table[grey], quality=90))
        assert np.corrcoef(lossy.picture[..., 0].ravel(), grey.ravel())[0, 1] > 0.97


def test_a_scale_bar_is_no_colour():
    image = np.zeros((*FLUORESCENCE[0].shape, 3), np.uint8)
    image[..., 1] = FLUORESCENCE[0]
    image[-10:-6, -60:-10] = 255
    assert single_signal(image).colors == "green"


def test_stained_tissue_and_grey_pictures_stay():
    pictures = samples()
    assert any(not is_grey(image) for image in pictures)
    assert all(single_signal(image) is None for image in pictures)
    purple = np.stack([255 - grey // 2 for grey in (FLUORESCENCE[0], 2 * FLUORESCENCE[0], FLUORESCENCE[0] // 4)], -1)
    assert single_signal(purple) is None


def test_two_stains_are_two_signals():
    first, second = FLUORESCENCE[0], np.rot90(FLUORESCENCE[1]).copy()
    assert single_signal(np.stack([0 * first, first, second], -1)) is None


@pytest.mark.data
def test_photographs_have_no_single_signal():
    data_folder = Path(os.environ["PANEMBED_DATA"])
    for path in [
        *sorted(data_folder.glob("cvppp/A1/*_rgb.png"))[::9],
        *sorted(data_folder.glob("nuclei*/images/*.png")),
    ]:
        assert single_signal(np.asarray(Image.open(path).convert("RGB"))) is None, path


def test_prediction_and_training_see_the_same():
    grey = np.repeat(FLUORESCENCE[0][..., None], 3, -1)
    green = grey * np.array([0, 1, 0], np.uint8)
    prepared = [Preparation(fit="native").prepare(image) for image in (grey, green)]
    assert np.array_equal(*prepared)
    as_it_is = Preparation(fit="native", channel="rgb").prepare(green)
    assert not np.array_equal(as_it_is, prepared[0])
    chosen = Preparation(fit="native", channel="green").prepare(green)
    assert np.array_equal(chosen, prepared[0])
    assert np.array_equal(Preparation(fit="native", channel=2).prepare(green), prepared[0])


def test_noise_of_an_empty_channel_is_not_blown_up():
    rng = np.random.default_rng(0)
    first, second = FLUORESCENCE[0], np.rot90(FLUORESCENCE[1]).copy()
    first, second = 2 * first, 2 * second
    noise = (rng.random(first.shape) < 0.02).astype(np.uint8)
    prepared = Preparation(fit="native").prepare(np.stack([noise, first, second], -1))
    assert prepared[0].std() < 0.25 < 0.9 < prepared[1:].std((1, 2)).min()
