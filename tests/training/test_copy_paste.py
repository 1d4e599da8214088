"""Pasted objects: what is new, what is covered, what is left of the covered, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import SettingsError
from panembed.inference.preparation import Preparation
from panembed.labels.categories import IGNORE
from panembed.training.copy_paste import MIN_AREA, MIN_SHARE, CopyPaste
from panembed.training.transforms import Augmentation, TrainingSet

LEAF, WEED = 2.0, 3.0
"""Class index + 1, as the labels are kept; soil is 1."""


def scene(seed: int, size: tuple[int, int] = (96, 120)) -> tuple[torch.Tensor, torch.Tensor]:
    """Discs of leaf and weed, 100 to 140 bright, on soil of 20 to 40; one weed cut by the border, and void above."""
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.integers(20, 40, (3, *size), dtype=np.uint8))
    labels = torch.zeros(2, *size)
    labels[0] = 1.0
    labels[0, :6] = 0.0
    y, x = np.mgrid[: size[0], : size[1]]
    places = [(20, 22), (20, 60), (50, 30), (50, 34), (60, 80), (93, 100)]
    for id, (row, column) in enumerate(places, start=1):
        inside = torch.from_numpy(np.hypot(y - row, x - column) < 8 + id)
        labels[0][inside] = WEED if id % 3 == 0 else LEAF
        labels[1][inside] = id
        image[:, inside] = torch.from_numpy(rng.integers(100, 140, (3, int(inside.sum())), dtype=np.uint8))
    return image, labels


KEPT = [scene(seed) for seed in range(4)]


def areas(labels: torch.Tensor) -> np.ndarray:
    return np.bincount(labels[1].int().numpy().ravel(), minlength=7)


@pytest.mark.parametrize("count", [0.7, 6.0])
def test_labels_after_pasting(count: float) -> None:
    paste = CopyPaste(KEPT, [1, 2], count)
    pasted, faded = 0, 0
    for seed in range(60):
        index = seed % len(KEPT)
        before_image, before = KEPT[index]
        image, labels = paste(index, np.random.default_rng(seed))
        old, new = areas(before), areas(labels)
        assert set(labels[0].unique().tolist()) <= {0.0, 1.0, LEAF, WEED}
        # New ids follow the old ones, and each is an object of one thing class.
        for id in range(7, len(new)):
            if new[id]:
                assert labels[0][labels[1] == id].unique().tolist() in ([LEAF], [WEED])
        pasted += len(new) - 7
        # Where nothing was pasted all is as it was, but for objects of which too little is left.
        still = (image == before_image).all(dim=0)
        assert torch.equal(labels[0][still], before[0][still])
        assert ((labels[1] == before[1]) | (labels[1] == 0))[still].all()
        changed = (labels != before).any(dim=0)
        assert torch.isin(labels[0][changed], torch.tensor([LEAF, WEED])).all()
        assert ((labels[1] >= 7) | (labels[1] == 0))[changed].all()
        faded += int((labels[1] == 0)[changed].any())
        # Nothing that was changed is a sliver.
        for id in range(1, len(new)):
            if new[id] and (id >= 7 or new[id] != old[id]):
                assert new[id] >= MIN_AREA
            if id < 7 and new[id] and new[id] != old[id]:
                assert new[id] >= MIN_SHARE * old[id]
    assert pasted >= 60 * count * 0.6
    assert faded > 0 or count < 1


def test_a_covered_object_keeps_its_class_where_a_sliver_of_it_shows() -> None:
    # A large leaf over a small one, of which one column of pixels sticks out or none.
    image, labels = torch.full((3, 80, 80), 90, dtype=torch.uint8), torch.zeros(2, 80, 80)
    labels[0] = 1.0
    labels[:, 20:60, 20:60] = torch.tensor([LEAF, 1.0])[:, None, None]
    small = (image.clone(), labels.clone())
    small[1][1] = 0.0
    small[1][0] = 1.0
    small[1][:, 36:42, 36:42] = torch.tensor([LEAF, 1.0])[:, None, None]
    paste = CopyPaste([(image, labels), small], [1], 1.0)
    slivers = 0
    for seed in range(300):
        _, changed = paste(1, np.random.default_rng(seed))
        was, covered = small[1][1] == 1, changed[1] > 1
        rest = was & ~covered
        if covered.any() and rest.any() and rest.sum() < MIN_AREA:
            assert not (changed[1] == 1).any()
            assert (changed[0][rest] == LEAF).all()
            slivers += 1
    assert slivers > 5


def test_the_picture_changes_where_labels_do() -> None:
    paste = CopyPaste(KEPT, [1, 2], 1.0)
    changes = 0
    for seed in range(40):
        index = seed % len(KEPT)
        image, labels = paste(index, np.random.default_rng(seed))
        before = KEPT[index][0].float()
        new = (labels[1] >= 7).numpy()
        near = ndimage.binary_dilation(new, np.ones((3, 3)), iterations=2)
        assert torch.equal(image[:, torch.from_numpy(~near)], before[:, torch.from_numpy(~near)])
        # Colours are objects', tinted by 1.5 at most, up to the soft rim: nothing of the soil came along.
        inside = image.numpy()[:, ndimage.binary_erosion(new)]
        assert inside.size == 0 or inside.min() >= 100 / 1.5 - 1
        assert image.min() >= 0
        assert image.max() <= 255
        changes += int(new.any())
    assert changes > 10


def test_an_outline_of_background_is_not_pasted() -> None:
    image, labels = torch.full((3, 60, 60), 40, dtype=torch.uint8), torch.zeros(2, 60, 60)
    labels[0] = 1.0
    # The label reaches a pixel further than the leaf.
    labels[:, 19:41, 19:41] = torch.tensor([LEAF, 1.0])[:, None, None]
    image[:, 20:40, 20:40] = 200
    paste = CopyPaste([(image, labels)], [1], 3.0)
    bright = []
    for seed in range(10):
        changed, where = paste(0, np.random.default_rng(seed))
        core = torch.from_numpy(ndimage.binary_erosion((where[1] > 1).numpy()))
        bright.append(changed[:, core])
    seen = torch.cat(bright, dim=1)
    assert seen.numel() > 1000
    # The soft rim reaches a little inside.
    assert seen.min() > 170


def test_objects_touch_those_that_are_there() -> None:
    paste = CopyPaste(KEPT, [1, 2], 1.0)
    for seed in range(40):
        index = seed % len(KEPT)
        _, labels = paste(index, np.random.default_rng(seed))
        new = (labels[1] == 7).numpy()
        if new.any():
            assert (new & (KEPT[index][1][1] > 0).numpy()).any()
    bare = (KEPT[0][0], torch.ones(2, 96, 120) * torch.tensor([1.0, 0.0])[:, None, None])
    alone = CopyPaste([bare, KEPT[0]], [1, 2], 3.0)
    assert any(alone(0, np.random.default_rng(seed))[1][1].any() for seed in range(5))


def test_only_things_seen_whole_are_pasted() -> None:
    # Of weed alone: id 3 is overlapped by 4, and 6 is cut by the border; no other class is a thing.
    with pytest.raises(SettingsError, match=r"augmentation\.copy_paste.*set it to 0"):
        CopyPaste(KEPT, [2], 1.0)
    paste = CopyPaste(KEPT, [1], 8.0)
    for seed in range(10):
        _, labels = paste(0, np.random.default_rng(seed))
        assert set(labels[0][labels[1] >= 7].unique().tolist()) <= {LEAF}


def test_what_does_not_look_alike_stays_where_it_is() -> None:
    dark = (KEPT[0][0] // 3, KEPT[0][1].clone())
    dark[1][1][dark[1][1] > 1] = 0.0
    # Image 1 has one whole leaf, 0 many; from each other they take nothing.
    paste = CopyPaste([KEPT[0], dark], [1, 2], 20.0, rotation=0.0, horizontal_flip=False)
    found = []
    for seed in range(5):
        image, labels = paste(1, np.random.default_rng(seed))
        found.append(image[:, labels[1] > 1])
    assert torch.cat(found, dim=1).numel() > 0
    assert torch.cat(found, dim=1).max() <= 140 // 3 + 1


def test_numbers_of_pasted_objects_and_their_source_of_chance() -> None:
    paste = CopyPaste(KEPT, [1, 2], 2.0)
    first, again, other = (paste(0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[1], other[1])
    assert torch.equal(KEPT[0][1], scene(0)[1])
    assert torch.equal(KEPT[0][0], scene(0)[0])


def training_set(count: float) -> TrainingSet:
    data = SyntheticDataset(4, size=96)
    return TrainingSet(data, tuple(data.ids), Preparation((64, 64)), Augmentation(copy_paste=count), source_scale=1.5)


@pytest.mark.slow
def test_in_a_training_set() -> None:
    plain, pasting, again = training_set(0.0), training_set(3.0), training_set(3.0)
    reference = TrainingSet(
        SyntheticDataset(4, size=96), plain.ids, Preparation((64, 64)), Augmentation(), source_scale=1.5
    )
    more = 0
    for epoch in range(4):
        for index in range(4):
            off, on = plain[epoch, index], pasting[epoch, index]
            for name in ("image", "semantic", "instance"):
                assert torch.equal(getattr(off, name), getattr(reference[epoch, index], name))
                assert torch.equal(getattr(on, name), getattr(again[epoch, index], name))
            more += len(on.instance.unique()) - len(off.instance.unique())
            assert on.semantic.unique().tolist() in ([0, 1], [0, 1, IGNORE])
            assert (on.semantic[on.instance > 0] == 1).all()
    assert more > 0
    # What prediction sees is never changed.
    data = SyntheticDataset(4, size=96)
    assert TrainingSet(data, tuple(data.ids), Preparation((64, 64)))._paste is None
