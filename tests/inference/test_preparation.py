"""Image to network input and back: against PyTorch and torchvision, and by what must hold for every image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import normalize, resize

from panembed.errors import SettingsError
from panembed.inference.preparation import Preparation, resize_image, resize_maps, resize_nearest


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES)
def test_resize_maps_is_torch_bilinear(source: tuple[int, int], target: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(0, 10, (3, *source)).astype(np.float32)
    before = maps.copy()
    stretched = resize_maps(maps, target)
    # In double precision: torch's own float32 positions are off by some 1e-4 of a grey step.
    doubles = torch.from_numpy(maps)[None].double()
    expected = interpolate(doubles, target, mode="bilinear", align_corners=False)[0].numpy()
    assert stretched.dtype == np.float32
    assert np.allclose(stretched, expected, atol=1e-4)
    assert np.array_equal(maps, before)


@pytest.mark.parametrize(
    ("source", "target"), [((17, 23), (40, 31)), ((41, 31), (16, 24)), ((5, 5), (15, 1)), ((1, 1), (3, 4))]
)
def test_resize_nearest_is_torch_nearest_exact(source: tuple[int, int], target: tuple[int, int]) -> None:
    labels = np.arange(source[0] * source[1]).reshape(source)
    expected = interpolate(torch.from_numpy(labels)[None, None].double(), target, mode="nearest-exact")[0, 0]
    assert np.array_equal(resize_nearest(labels, target), expected.numpy())


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES)
def test_resize_nearest_invents_no_label(source: tuple[int, int], target: tuple[int, int]) -> None:
    labels = np.random.default_rng(1).choice([0, 7, 1000, 2**40], source)
    stretched = resize_nearest(labels, target)
    assert stretched.shape == target
    assert stretched.dtype == labels.dtype
    assert np.isin(stretched, labels).all()
    assert np.array_equal(resize_nearest(labels, source), labels)
    if target[0] >= source[0] and target[1] >= source[1]:
        assert np.isin(labels, stretched).all()


def test_resize_image_keeps_what_fits() -> None:
    image = picture(40, 60)
    assert np.array_equal(resize_image(image, (40, 60)), image)
    assert resize_image(image, (64, 32)).shape == (64, 32, 3)
    assert (resize_image(np.full((50, 70, 3), 93, np.uint8), (32, 64)) == 93).all()


@pytest.mark.parametrize("size", [(17, 30), (64, 32), (90, 131)])
def test_resize_image_is_torchvisions_antialiased_bilinear(size: tuple[int, int]) -> None:
    image = picture(40, 60)
    theirs = resize(torch.from_numpy(image.transpose(2, 0, 1)), list(size), antialias=True).numpy().transpose(1, 2, 0)
    assert np.abs(resize_image(image, size).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("fit", ["resize", "native"])
@pytest.mark.parametrize("shape", [(64, 96), (50, 70), (200, 33)])
def test_each_channel_has_mean_0_and_variance_1(fit: str, shape: tuple[int, int]) -> None:
    image = picture(*shape)
    # Channels of their own brightness and contrast.
    image = (image * np.array([1.0, 0.3, 0.05]) + np.array([0, 100, 200])).clip(0, 255).astype(np.uint8)
    prepared = Preparation((64, 96), fit).prepare(image)
    assert prepared.dtype == np.float32
    inside = prepared if fit == "resize" else prepared[:, : shape[0], : shape[1]]
    assert np.allclose(inside.mean((1, 2), dtype=np.float64), 0, atol=1e-4)
    assert np.allclose(inside.var((1, 2), dtype=np.float64), 1, atol=1e-3)


def test_a_large_dim_image_has_mean_0_and_variance_1() -> None:
    image = np.random.default_rng(0).integers(200, 210, (1024, 1504, 3), dtype=np.uint8)
    prepared = Preparation(fit="native").prepare(image)
    assert np.allclose(prepared.mean((1, 2), dtype=np.float64), 0, atol=1e-4)
    assert np.allclose(prepared.var((1, 2), dtype=np.float64), 1, atol=1e-3)


@pytest.mark.parametrize("value", [0, 1, 77, 255])
@pytest.mark.parametrize("fit", ["resize", "native"])
def test_an_image_without_contrast_is_zero(value: int, fit: str) -> None:
    prepared = Preparation((64, 64), fit).prepare(np.full((90, 101, 3), value, np.uint8))
    assert np.abs(prepared).max() < 1e-3


def test_brightness_and_contrast_of_the_whole_image_do_not_matter() -> None:
    image = picture(64, 64) // 2
    prepare = Preparation((64, 64)).prepare
    assert np.allclose(prepare(image), prepare(2 * image + 1), atol=1e-4)


def test_imagenet_is_torchvisions() -> None:
    image = picture(64, 64)
    expected = normalize(
        torch.from_numpy(image.transpose(2, 0, 1)).float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    prepared = Preparation((64, 64), normalization="imagenet").prepare(image)
    assert np.allclose(prepared, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("normalization", ["image", "imagenet"])
def test_a_part_with_the_wholes_statistics_is_a_part_of_the_whole(normalization: str) -> None:
    preparation = Preparation(normalization=normalization)  # type: ignore[arg-type]
    whole = picture(64, 96).transpose(2, 0, 1) // 3
    part = np.s_[:, 5:30, 40:90]
    alone = preparation.normalize(whole[part], preparation.statistics(whole))
    assert np.allclose(alone, preparation.normalize(whole)[part], atol=1e-6)
    if normalization == "image":
        assert not np.allclose(alone, preparation.normalize(whole[part]), atol=1e-2)


def test_normalize_leaves_its_input_alone() -> None:
    array = np.random.default_rng(0).uniform(0, 255, (3, 32, 32)).astype(np.float32)
    before = array.copy()
    Preparation().normalize(array)
    assert np.array_equal(array, before)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100))
def test_native_pads_to_multiples_of_32_and_restore_cuts_back(height: int, width: int) -> None:
    preparation = Preparation((64, 64), "native")
    image = picture(height, width)
    prepared = preparation.prepare(image)
    assert prepared.shape == (3, -(-height // 32) * 32, -(-width // 32) * 32)
    assert np.isfinite(prepared).all()
    expected = preparation.normalize(image.transpose(2, 0, 1))
    assert np.array_equal(preparation.restore(prepared, (height, width)), expected)
    if height > 16 and height % 32 and width > 16:
        assert np.array_equal(prepared[:, height, :width], expected[:, height - 2])


@pytest.mark.parametrize("shape", [(30, 50), (64, 96), (130, 64)])
def test_resize_is_the_inputs_size_and_restore_the_images(shape: tuple[int, int]) -> None:
    preparation = Preparation((64, 96))
    prepared = preparation.prepare(picture(*shape))
    assert prepared.shape == (3, 64, 96)
    restored = preparation.restore(prepared, shape)
    assert restored.shape == (3, *shape)
    expected = interpolate(torch.from_numpy(prepared)[None], shape, mode="bilinear", align_corners=False)[0]
    assert np.allclose(restored, expected.numpy(), atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.sampled_from([0.4, 0.97, 1.15, 2.0]))
def test_scaled_images_are_stretched_padded_and_brought_back(height: int, width: int, scale: float) -> None:
    preparation = Preparation((64, 64), "native", scale=scale)
    image = picture(height, width)
    prepared = preparation.prepare(image)
    inner = preparation.stretched(height, width)
    assert max(abs(inner[0] - scale * height), abs(inner[1] - scale * width)) <= (0.5 if min(inner) > 1 else 1)
    assert prepared.shape == (3, -(-inner[0] // 32) * 32, -(-inner[1] // 32) * 32)
    expected = preparation.normalize(resize_image(image, inner).transpose(2, 0, 1))
    assert np.array_equal(prepared[:, : inner[0], : inner[1]], expected)
    # What lies on the padding must not reach the image.
    spoiled = prepared.copy()
    spoiled[:, inner[0] :] = spoiled[:, :, inner[1] :] = np.nan
    restored = preparation.restore(spoiled, (height, width))
    doubles = torch.from_numpy(expected)[None].double()
    theirs = interpolate(doubles, (height, width), mode="bilinear", align_corners=False)[0].numpy()
    assert np.allclose(restored, theirs, atol=1e-4)


def test_scales_that_make_no_sense() -> None:
    with pytest.raises(
        SettingsError, match=r"input\.scale 1\.5 has no effect with input\.fit resize.*change input\.size"
    ):
        Preparation((64, 64), scale=1.5)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match=r"input\.scale: expected more than 0"):
            Preparation((64, 64), "native", scale=scale)


@pytest.mark.parametrize("size", [(0, 64), (64, 100), (16, 64), (-32, 64)])
def test_sizes_that_the_network_cannot_take(size: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match=r"input\.size: expected multiples of 32"):
        Preparation(size)
