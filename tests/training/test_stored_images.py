"""Images beyond the memory's limit are read again, and are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from panembed.datasets.sample import Sample
from panembed.datasets.synthetic import SyntheticDataset
from panembed.inference.preparation import Preparation
from panembed.labels.panoptic_map import PanopticMap
from panembed.training.stored_images import StoredImages
from panembed.training.transforms import Augmentation, TrainingSet


@pytest.mark.slow
@pytest.mark.parametrize("max_bytes", [0, 160_000])
@pytest.mark.parametrize("augmentation", [None, Augmentation(copy_paste=2.0)])
def test_what_is_read_again_is_the_same(
    max_bytes: int, augmentation: Augmentation | None, caplog: pytest.LogCaptureFixture
) -> None:
    """No image fits in memory, or some."""
    caplog.set_level("INFO", logger="panembed")
    data = SyntheticDataset(3, size=160)
    whole, part = (
        TrainingSet(data, tuple(data.ids), Preparation((96, 96)), augmentation, max_bytes=size, source_scale=1.5)
        for size in (1 << 30, max_bytes)
    )
    assert f"{part._kept.num_kept} of 3 images fit in memory" in caplog.text
    assert part._kept.num_kept in ((1, 2) if max_bytes else (0,))
    assert np.array_equal(whole.class_shares(2), part.class_shares(2))
    for index in range(3):
        one, other = whole[4, index], part[4, index]
        for name in ("image", "semantic", "instance"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_more_objects_than_16_bits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = PanopticMap(np.ones((192, 192), int), np.arange(1, 192 * 192 + 1).reshape(192, 192))
    sample = Sample(np.zeros((192, 192, 3), np.uint8), truth, "a")
    data = SyntheticDataset(1, size=192)
    monkeypatch.setattr(data, "load", lambda id: sample)
    stored = StoredImages(data, data.ids, None)
    assert stored.has_objects
    _, labels = stored[0]
    assert np.array_equal(labels[1].numpy(), truth.instance)


def test_a_view_is_what_is_kept(tmp_path):
    data = SyntheticDataset(3, size=64)
    seen = StoredImages(data, data.ids, None, view=lambda image: 255 - image)
    plain = StoredImages(data, data.ids, None, view=lambda image: image)
    assert (seen.num_signals, plain.num_signals) == (3, 0)
    for (inverse, labels), (image, same) in zip(seen, plain):
        assert torch.equal(255 - inverse, image)
        assert torch.equal(labels, same)
