"""Training examples follow from seed, epoch and index; labels lie where the image has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import Fixed, blocks

from panembed.datasets.sample import Sample
from panembed.inference.preparation import Preparation, resize_nearest
from panembed.labels.categories import IGNORE
from panembed.labels.panoptic_map import PanopticMap
from panembed.training.transforms import Augmentation, TrainingExample, TrainingSet, collate

STILL = Augmentation(rotation=0.0, horizontal_flip=False, scale=(1.0, 1.0))
THESIS = Augmentation()


def training_set(augmentation: Augmentation | None = THESIS, **arguments: object) -> TrainingSet:
    data = Fixed(blocks(), blocks(100, 70, "b"))
    preparation = arguments.pop("preparation", Preparation((64, 96)))
    return TrainingSet(data, ("a", "b"), preparation, augmentation, **arguments)  # type: ignore[arg-type]


def equal(a: TrainingExample, b: TrainingExample) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("image", "semantic", "instance"))


def test_examples_follow_from_seed_epoch_and_index() -> None:
    first, second = training_set(seed=5), training_set(seed=5)
    expected = first[3, 1]
    second[0, 0], second[7, 1]
    assert equal(second[3, 1], expected)
    assert equal(first[3, 1], expected)
    assert not equal(first[4, 1], expected)
    assert not equal(training_set(seed=6)[3, 1], expected)
    twins = TrainingSet(Fixed(blocks(), blocks(id="b")), ("a", "b"), Preparation((64, 64)), THESIS)
    assert not equal(twins[0, 0], twins[0, 1])


@pytest.mark.parametrize("fit", ["resize", "native"])
def test_labels_of_an_example(fit: str) -> None:
    examples = training_set(Augmentation(vertical_flip=True, scale=(0.7, 1.6)), preparation=Preparation((64, 96), fit))
    for epoch in range(6):
        example = examples[epoch, 0]
        assert example.image.shape == (3, 64, 96)
        assert (example.image.dtype, example.semantic.dtype, example.instance.dtype) == (
            torch.float32,
            torch.int64,
            torch.int32,
        )
        semantic, instance = example.semantic.numpy(), example.instance.numpy()
        assert np.isin(semantic, [0, 1, 2, IGNORE]).all()
        # Four objects that are no crowds: leaf 1 and 70, weed 1 and 5.
        assert np.isin(instance, range(5)).all()
        assert not instance[np.isin(semantic, [0, IGNORE])].any()
        pairs = np.unique(np.stack([instance, semantic]).reshape(2, -1)[:, instance.ravel() > 0], axis=1)
        assert [(1, 1), (2, 1), (3, 2), (4, 2)][: pairs.shape[1]] == list(zip(*pairs.tolist())) or pairs.shape[1] < 4
        assert len(np.unique(pairs[0])) == pairs.shape[1]


@pytest.mark.parametrize("fit", ["resize", "native"])
def test_what_lies_outside_the_image_is_ignored(fit: str) -> None:
    data = Fixed(
        Sample(np.full((64, 64, 3), 9, np.uint8), PanopticMap(np.ones((64, 64), int), np.ones((64, 64), int)), "a")
    )
    size = (96, 96) if fit == "native" else (64, 64)
    examples = TrainingSet(data, ("a",), Preparation(size, fit), Augmentation(scale=(1.0, 1.0)))
    outside = 0
    for epoch in range(8):
        example = examples[epoch, 0]
        assert torch.equal(example.semantic == IGNORE, example.instance == 0)
        assert torch.equal(example.semantic == 1, example.instance == 1)
        assert example.image.isfinite().all()
        outside += int((example.semantic == IGNORE).sum())
    assert outside > 100
    if fit == "native":
        assert outside >= 8 * (96 * 96 - 64 * 64) * 0.95


def test_a_crowd_has_a_class_but_is_no_object() -> None:
    sample = blocks()
    example = TrainingSet(Fixed(sample), ("a",), Preparation((96, 128)), None)[0, 0]
    truth = sample.truth
    assert np.array_equal(example.semantic.numpy(), truth.semantic)
    crowd = ((truth.semantic == 1) & (truth.instance == 9)) | ((truth.semantic == 2) & (truth.instance == 0))
    assert crowd.any()
    assert not example.instance.numpy()[crowd].any()
    objects = (truth.instance > 0) & ~crowd
    assert np.array_equal(example.instance.numpy() > 0, objects)
    for number, (category, instance) in enumerate([(1, 1), (1, 70), (2, 1), (2, 5)], start=1):
        same = (truth.semantic == category) & (truth.instance == instance)
        assert np.array_equal(example.instance.numpy() == number, same)


def test_numbered_stuff_is_no_object() -> None:
    """COCO panoptic files may hold several segments of a stuff class."""
    sample = blocks()
    soil = sample.truth.semantic == 0
    assert soil.any()
    instance = np.where(soil, 3 + np.arange(soil.shape[1]) // 64, sample.truth.instance)
    numbered = Sample(sample.image, PanopticMap(sample.truth.semantic, instance, sample.truth.crowd), "a")
    one, other = (TrainingSet(Fixed(s), ("a",), Preparation((96, 128)), None)[0, 0] for s in (sample, numbered))
    assert torch.equal(one.instance, other.instance)
    assert torch.equal(one.semantic, other.semantic)


@pytest.mark.parametrize("fit", ["resize", "native"])
def test_without_augmentation_it_is_what_prediction_sees(fit: str) -> None:
    preparation = Preparation((64, 96), fit)
    examples = training_set(None, preparation=preparation, source_scale=2.0)
    assert len(examples) == 2
    for index, sample in enumerate((blocks(), blocks(100, 70, "b"))):
        example = examples[index + 5, index]
        expected = preparation.prepare(sample.image)
        assert np.array_equal(example.image.numpy(), expected)
        semantic, (height, width) = example.semantic.numpy(), sample.size
        if fit == "resize":
            assert np.array_equal(semantic, resize_nearest(sample.truth.semantic.astype(np.int64), (64, 96)))
        else:
            assert np.array_equal(semantic[:height, :width], sample.truth.semantic)
            semantic[:height, :width] = IGNORE
            assert (semantic == IGNORE).all()
        assert example.instance.shape == example.semantic.shape == expected.shape[1:]


def test_without_augmentation_scaled_labels_lie_on_the_scaled_image() -> None:
    preparation = Preparation((64, 96), "native", scale=1.5)
    for index, sample in enumerate((blocks(), blocks(100, 70, "b"))):
        example = training_set(None, preparation=preparation)[0, index]
        expected = preparation.prepare(sample.image)
        assert np.array_equal(example.image.numpy(), expected)
        assert example.instance.shape == example.semantic.shape == expected.shape[1:]
        height, width = preparation.stretched(*sample.size)
        semantic = example.semantic.numpy()
        assert np.array_equal(
            semantic[:height, :width], resize_nearest(sample.truth.semantic.astype(np.int64), (height, width))
        )
        semantic[:height, :width] = IGNORE
        assert (semantic == IGNORE).all()


def test_source_scale_keeps_more_pixels() -> None:
    sharp = training_set(STILL, source_scale=1.5)
    plain = training_set(STILL)
    agree = (sharp[0, 0].semantic == plain[0, 0].semantic).float().mean()
    assert agree > 0.9
    assert not torch.equal(sharp[0, 0].image, plain[0, 0].image)


def test_a_batch() -> None:
    examples = training_set()
    batch = collate([examples[0, 0], examples[0, 1]])
    assert batch.image.shape == (2, 3, 64, 96)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert batch.semantic.shape == batch.instance.shape == (2, 64, 96)
    assert torch.equal(batch.instance[1], examples[0, 1].instance)


@pytest.mark.parametrize("normalization", ["image", "imagenet"])
@pytest.mark.parametrize(
    ("fit", "scale", "source_scale"), [("native", 1.0, 1.0), ("native", 1.5, 1.0), ("resize", 1, 2)]
)
def test_a_training_window_is_as_bright_as_in_prediction(
    fit: str, scale: float, source_scale: float, normalization: str
) -> None:
    ys, xs = np.mgrid[:96, :128].astype(np.uint8)
    sample = Sample(np.stack([xs, 2 * ys, xs + ys], axis=2), blocks().truth, "ramp")
    preparation = Preparation((96, 128), fit, normalization, scale)  # type: ignore[arg-type]
    whole = preparation.cut(preparation.prepare(sample.image), (96, 128))
    windows = Augmentation(rotation=0.0, horizontal_flip=False, scale=(1.0, 1.0), window=(32, 32))
    examples = TrainingSet(Fixed(sample), ("ramp",), preparation, windows, source_scale=source_scale)
    means = []
    for epoch in range(5):
        image = examples[epoch, 0].image.numpy()
        # A ramp rises as steeply as in the whole, but at its rims, and as far as whole grey values allow.
        for channel, axis in ((0, 1), (1, 0)):
            slope, expected = (
                np.diff(image[channel], axis=axis)[4:-4, 4:-4],
                np.diff(whole[channel], axis=axis)[9:-9, 9:-9],
            )
            assert np.isclose(slope.mean(), expected.mean(), rtol=0.03)
        assert (image.min((1, 2)) >= whole.min((1, 2)) - 0.05).all()
        assert (image.max((1, 2)) <= whole.max((1, 2)) + 0.05).all()
        means.append(image.mean())
    assert np.std(means) > 0.1


def test_a_channel_without_contrast_stays_small_when_colours_change() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    image[..., 1] = blocks().image[..., 1]
    changed = TrainingSet(
        Fixed(Sample(image, blocks().truth, "green")),
        ("green",),
        Preparation((64, 64), "native"),
        Augmentation(color_jitter=0.3),
    )
    assert max(float(changed[epoch, 0].image.abs().max()) for epoch in range(10)) < 10
