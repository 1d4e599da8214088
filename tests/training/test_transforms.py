"""Augmentation: image and labels move as one, by as much as the settings say, the same for the same epoch and image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.ndimage import maximum_filter, minimum_filter

from panembed.datasets.sample import Sample
from panembed.errors import InputError, SettingsError
from panembed.inference.preparation import Preparation, resize_nearest
from panembed.labels import IGNORE, Category, LabelSet, PanopticMap
from panembed.training.transforms import Augmentation, TrainingExample, TrainingSet, collate

LABEL_SET = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])
STILL = Augmentation(rotation=0.0, horizontal_flip=False, scale=(1.0, 1.0))
THESIS = Augmentation()


class Fixed:
    """A data set of given samples."""

    def __init__(self, *samples: Sample) -> None:
        self.label_set = LABEL_SET
        self.root = Path("fixed")
        self.samples = {sample.id: sample for sample in samples}
        self.ids = list(self.samples)

    def __len__(self) -> int:
        return len(self.ids)

    def image_path(self, id: str) -> Path:
        return self.root / id

    def read_image(self, id: str) -> np.ndarray:
        return self.samples[id].image

    def read_truth(self, id: str) -> PanopticMap:
        return self.samples[id].truth

    def load(self, id: str) -> Sample:
        if id not in self.samples:
            raise InputError(id)
        return self.samples[id]


def blocks(height: int = 96, width: int = 128, id: str = "a") -> Sample:
    """Blocks of leaf, weed, soil, void and crowd; instance ids have gaps, and classes share them."""
    rng = np.random.default_rng(0)
    table = np.array([(0, 0), (1, 1), (1, 70), (2, 1), (2, 5), (1, 9), (255, 0), (2, 0)])
    rows, columns = -(-height // 16), -(-width // 16)
    which = np.concatenate([np.arange(8), rng.integers(0, 8, rows * columns - 8)])
    which = np.kron(rng.permutation(which).reshape(rows, columns), np.ones((16, 16), int))[:height, :width]
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(image, PanopticMap(table[which, 0], table[which, 1], [(1, 9), (2, 0)]), id)


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


@pytest.mark.parametrize("scale", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_scales_that_make_no_sense(scale: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"augmentation\.scale"):
        Augmentation(scale=scale)


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
    examples = training_set(AUGMENTATIONS["all"], preparation=Preparation((64, 96), fit))
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
