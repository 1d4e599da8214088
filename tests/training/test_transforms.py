"""Augmentation: image and labels move as one, by as much as the settings say, the same for the same epoch and image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from samples import blocks
from scipy.ndimage import maximum_filter, minimum_filter

from panembed.datasets.sample import Sample
from panembed.errors import SettingsError
from panembed.inference.preparation import Preparation
from panembed.training.transforms import Augmentation

STILL = Augmentation(rotation=0.0, horizontal_flip=False, scale=(1.0, 1.0))
THESIS = Augmentation()


def as_tensors(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose red is the label, which counts from 1, and green and blue are column and row."""
    height, width = sample.size
    labels = (sample.truth.semantic.astype(int) * 100 + sample.truth.instance) % 11 + 1
    ys, xs = np.mgrid[:height, :width]
    image = np.stack([20 * labels, xs, ys]).astype(np.float32)
    return torch.from_numpy(image), torch.from_numpy(labels[None].astype(np.float32))


AUGMENTATIONS = {
    "still": STILL,
    "rotation": Augmentation(horizontal_flip=False, scale=(1.0, 1.0)),
    "flips": Augmentation(rotation=0.0, vertical_flip=True, scale=(1.0, 1.0)),
    "stretch": Augmentation(rotation=0.0, horizontal_flip=False),
    "thesis": THESIS,
    "all": Augmentation(vertical_flip=True, scale=(0.7, 1.6)),
    "window": Augmentation(scale=(0.8, 1.3), window=(64, 32)),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize(("size", "fit"), [((96, 128), "resize"), ((64, 64), "resize"), ((64, 64), "native")])
def test_image_and_labels_move_together(name: str, size: tuple[int, int], fit: str) -> None:
    preparation = Preparation(size, fit)  # type: ignore[arg-type]
    image, labels = as_tensors(blocks())
    compared = 0
    for seed in range(4):
        red, label = AUGMENTATIONS[name](image, labels, np.random.default_rng(seed), preparation)
        shape = AUGMENTATIONS[name].window or preparation.size
        assert red.shape == (3, *shape)
        assert label.shape == (1, *shape)
        label_hw = label[0].numpy()
        assert np.isin(label_hw, [0, *labels.unique().numpy()]).all()
        # Away from edges, where bilinear mixes nothing; beyond the window's rim there may be another block.
        rim = {"size": 7, "mode": "constant", "cval": -1}
        inside = (minimum_filter(label_hw, **rim) == maximum_filter(label_hw, **rim)) & (label_hw > 0)
        assert np.allclose(red[0].numpy()[inside], 20 * label_hw[inside], atol=0.1)
        compared += int(inside.sum())
    assert compared > 100


def test_nothing_to_change_changes_nothing() -> None:
    image, labels = as_tensors(blocks())
    changed, same = STILL(image, labels, np.random.default_rng(0), Preparation((96, 128)))
    assert torch.allclose(changed, image, atol=1e-2)
    assert torch.equal(same, labels)


def jacobian(augmentation: Augmentation, preparation: Preparation, seed: int, size: tuple[int, int]) -> np.ndarray:
    """Columns and rows of the source per column and row of the output, as green and blue tell; 2x2."""
    image, labels = as_tensors(blocks(*size))
    changed, label = augmentation(image, labels, np.random.default_rng(seed), preparation)
    xy = changed[1:].numpy()
    # Three pixels within the source, so that neither reflection nor the rim bends the slope.
    inside = minimum_filter(label[0].numpy(), 7, mode="constant") > 0
    assert inside.any()
    along_y, along_x = np.gradient(xy, axis=(1, 2))
    slopes = np.stack([along_x[:, inside], along_y[:, inside]], axis=1)
    assert slopes.std(axis=2).max() < 1e-2  # one affine map
    return slopes.mean(axis=2)


@pytest.mark.parametrize("seed", range(12))
def test_the_thesis_stretches_by_1_to_1_5(seed: int) -> None:
    straight = jacobian(Augmentation(rotation=0.0, horizontal_flip=False), Preparation((96, 128)), seed, (96, 128))
    assert np.allclose(straight, np.diag(np.diag(straight)), atol=1e-3)
    stretch = 1 / np.diag(straight)
    assert (stretch >= 1 - 1e-3).all()
    assert (stretch <= 1.5 + 1e-3).all()
    turned = jacobian(THESIS, Preparation((96, 128)), seed, (96, 128))
    # A rotation (perhaps a mirror) of a stretch of each axis.
    assert np.allclose(1 / np.linalg.norm(turned, axis=0), stretch, atol=1e-2)
    assert abs(turned[:, 0] @ turned[:, 1]) < 1e-2


def test_stretches_fill_their_range_and_differ_by_axis() -> None:
    augmentation = Augmentation(rotation=0.0, horizontal_flip=False)
    steps = [np.diag(jacobian(augmentation, Preparation((64, 64)), seed, (64, 64))) for seed in range(40)]
    stretch = 1 / np.array(steps)
    assert stretch.min() < 1.1
    assert stretch.max() > 1.4
    assert np.abs(stretch[:, 0] - stretch[:, 1]).max() > 0.2


def test_angles_and_flips_fill_their_range() -> None:
    turns = [jacobian(THESIS, Preparation((64, 64)), seed, (64, 64)) for seed in range(40)]
    mirrored = sum(np.linalg.det(turn) < 0 for turn in turns)
    assert 8 <= mirrored <= 32
    angles = np.array([np.arctan2(turn[0, 1], turn[1, 1]) for turn in turns])
    assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0].min() >= 3
    quarter = Augmentation(rotation=30.0, horizontal_flip=False)
    for seed in range(10):
        turn = jacobian(quarter, Preparation((64, 64)), seed, (64, 64))
        assert 0 - 1e-3 <= np.arctan2(-turn[0, 1], turn[1, 1]) <= np.pi / 6 + 1e-3


@pytest.mark.parametrize("size", [(96, 128), (200, 64)])
def test_native_keeps_the_scale(size: tuple[int, int]) -> None:
    unscaled = Augmentation(scale=(1.0, 1.0))
    for seed in range(4):
        turn = jacobian(unscaled, Preparation((64, 64), "native"), seed, size)
        assert np.allclose(turn.T @ turn, np.eye(2), atol=1e-2)


@pytest.mark.parametrize("scale", [0.5, 1.25])
def test_the_inputs_scale_stretches_all_alike(scale: float) -> None:
    for seed in range(4):
        preparation = Preparation((64, 64), "native", scale=scale)
        turn = jacobian(Augmentation(scale=(1.0, 1.0)), preparation, seed, (150, 160))
        assert np.allclose(turn.T @ turn, np.eye(2) / scale**2, atol=1e-2)


def test_a_stretched_window_lies_within_the_image() -> None:
    image, labels = as_tensors(blocks())
    for seed in range(10):
        augmentation = Augmentation(rotation=0.0, vertical_flip=True)
        for preparation in (Preparation((96, 128)), Preparation((64, 64), "native")):
            _, label = augmentation(image, labels, np.random.default_rng(seed), preparation)
            assert (label > 0).all()


@pytest.mark.parametrize("fit", ["resize", "native"])
def test_a_window_keeps_the_scale_of_the_whole(fit: str) -> None:
    windowed = Augmentation(rotation=0.0, horizontal_flip=False, scale=(0.8, 1.3), window=(64, 32))
    whole = Augmentation(rotation=0.0, horizontal_flip=False, scale=(0.8, 1.3))
    for seed in range(8):
        preparation = Preparation((96, 128), fit)  # type: ignore[arg-type]
        small = jacobian(windowed, preparation, seed, (192, 256))
        assert np.allclose(small, jacobian(whole, preparation, seed, (192, 256)), atol=1e-3)


def test_windows_reach_every_place() -> None:
    image, labels = as_tensors(blocks())
    seen = np.zeros((96, 128), dtype=int)
    windowed = Augmentation(rotation=0.0, horizontal_flip=False, scale=(1.0, 1.0), window=(32, 32))
    for seed in range(400):
        changed, label = windowed(image, labels, np.random.default_rng(seed), Preparation((96, 128)))
        assert (label > 0).all()
        columns, rows = (changed[1:].numpy() + 0.5).astype(int)
        seen[rows, columns] += 1
    # The rim is within reach of one place of the window only, so it is seen less often.
    assert (seen[8:-8, 8:-8] > 0).all()


def corners(augmentation: Augmentation, preparation: Preparation, box: tuple[slice, slice], seed: int) -> np.ndarray:
    """Least and greatest column and row of the source that a window of a 96 x 128 image with objects in a box shows."""
    image, labels = as_tensors(blocks())
    instance = torch.zeros_like(labels)
    instance[0][box] = 1.0
    changed, _ = augmentation(image, torch.cat([labels, instance]), np.random.default_rng(seed), preparation)
    seen = changed[1:, changed[0] > 0].numpy()
    return np.stack([seen.min(1), seen.max(1)])


@pytest.mark.parametrize("fit", ["resize", "native"])
@pytest.mark.parametrize("seed", range(5))
def test_a_window_about_few_objects_holds_them_whole(fit: str, seed: int) -> None:
    around = Augmentation(rotation=0.0, vertical_flip=True, scale=(1.0, 1.0), window=(64, 64), around_objects=1.0)
    box = slice(10, 60), slice(50, 110)
    first, last = corners(around, Preparation((96, 128), fit), box, seed)  # type: ignore[arg-type]
    assert (first <= [51, 11]).all()
    assert (last >= [108, 58]).all()
    assert np.allclose(last - first, 63, atol=1.01)


@pytest.mark.parametrize("fit", ["resize", "native"])
def test_a_window_about_many_objects_lies_among_them_and_reaches_all(fit: str) -> None:
    around = Augmentation(rotation=0.0, scale=(1.0, 1.0), window=(32, 32), around_objects=1.0)
    box = slice(20, 90), slice(4, 70)
    ends = np.stack([corners(around, Preparation((96, 128), fit), box, seed) for seed in range(60)])  # type: ignore[arg-type]
    assert (ends[:, 0] >= [3, 19]).all()
    assert (ends[:, 1] <= [70, 90]).all()
    assert (ends[:, 0].min(0) < [9, 26]).all()
    assert (ends[:, 1].max(0) > [63, 83]).all()


def test_a_window_about_objects_at_the_edge_stays_in_the_image() -> None:
    around = Augmentation(rotation=0.0, scale=(1.0, 1.0), window=(64, 64), around_objects=1.0)
    for seed in range(20):
        first, last = corners(around, Preparation((96, 128)), (slice(0, 6), slice(120, 128)), seed)
        assert np.allclose(first, [64, 0], atol=1.01)
        assert np.allclose(last, [127, 63], atol=1.01)


def test_windows_about_objects_are_as_many_as_asked_for() -> None:
    box = slice(0, 8), slice(0, 8)
    around = Augmentation(rotation=0.0, scale=(1.0, 1.0), window=(32, 32), around_objects=0.5)
    hits = [corners(around, Preparation((96, 128)), box, seed)[0].max() <= 1 for seed in range(100)]
    assert 35 <= sum(hits) <= 65
    never = Augmentation(rotation=0.0, scale=(1.0, 1.0), window=(32, 32))
    assert sum(corners(never, Preparation((96, 128)), box, seed)[0].max() <= 1 for seed in range(100)) < 5


def test_without_objects_a_window_lies_anywhere_in_the_image() -> None:
    around = Augmentation(rotation=0.0, scale=(1.0, 1.0), window=(32, 32), around_objects=1.0)
    ends = [corners(around, Preparation((96, 128)), (slice(0), slice(0)), seed) for seed in range(40)]
    assert np.stack(ends)[:, 0].max() > 50
    assert np.stack(ends)[:, 1].max() <= 127
    with pytest.raises(SettingsError, match=r"around_objects: expected a share of 0 to 1, found 2\.0"):
        Augmentation(around_objects=2.0)


@pytest.mark.parametrize("window", [(0, 32), (48, 64), (-32, 32)])
def test_windows_that_no_network_takes(window: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match=r"augmentation\.window: expected multiples of 32, found"):
        Augmentation(window=window)


def test_color_jitter_multiplies_brightness_contrast_and_saturation() -> None:
    image, _ = as_tensors(blocks())
    jitter = Augmentation(color_jitter=0.3)
    changed = jitter.recolour(image, np.random.default_rng(3))
    brightness, contrast, saturation = np.random.default_rng(3).uniform(0.7, 1.3, size=3)
    picture = Image.fromarray(image.permute(1, 2, 0).round().to(torch.uint8).numpy())
    # Pillow as the oracle: whole numbers after every step.
    for change, factor in ((ImageEnhance.Brightness, brightness), (ImageEnhance.Contrast, contrast)):
        picture = change(picture).enhance(factor)
    picture = ImageEnhance.Color(picture).enhance(saturation)
    assert np.abs(changed.permute(1, 2, 0).numpy() - np.asarray(picture)).max() < 4
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert not torch.allclose(changed, jitter.recolour(image, np.random.default_rng(4)), atol=1)
    assert torch.equal(THESIS.recolour(image, np.random.default_rng(3)), image)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_scales_that_make_no_sense(scale: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"augmentation\.scale"):
        Augmentation(scale=scale)
