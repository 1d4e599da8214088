"""The sum of the losses: which objects are pushed apart, what each part is told, and how much pixels weigh."""

import pytest
import torch

from panembed.assembly import build
from panembed.labels.categories import Category, LabelSet
from panembed.losses.density import density_loss
from panembed.losses.discriminative import discriminative_loss
from panembed.losses.panoptic import PanopticLoss
from panembed.losses.soft_mask import soft_mask_loss
from panembed.settings.schema import Settings


def batch():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 4, 16, 16, generator=generator)
    semantic = torch.zeros(2, 16, 16, dtype=torch.int64)
    instance = torch.zeros(2, 16, 16, dtype=torch.int64)
    semantic[:, 2:6, 2:14], instance[:, 2:6, 2:8], instance[:, 2:6, 8:14] = 1, 1, 2
    semantic[:, 8:14, 2:14], instance[:, 8:14, 2:14] = 2, 3
    return torch.zeros(2, 3, 16, 16), embeddings, semantic, instance


@pytest.mark.parametrize("per_class", [True, False])
def test_objects_of_all_classes_are_pushed_apart_on_demand(per_class):
    logits, embeddings, semantic, instance = batch()
    terms = PanopticLoss([1, 2], per_class=per_class)(logits, embeddings, semantic, instance)
    if per_class:
        single = [discriminative_loss(embeddings, torch.where(semantic == c, instance, 0)) for c in (1, 2)]
        expected = single[0] + single[1]
    else:
        expected = discriminative_loss(embeddings, instance)
    assert float(terms.instance) == pytest.approx(float(expected), rel=1e-5)
    # Two objects of different classes on one spot cost nothing, unless all things are pushed apart.
    alone = torch.where(instance == 2, 0, instance)
    same_spot = torch.zeros_like(embeddings)
    push = float(PanopticLoss([1, 2], per_class=per_class)(logits, same_spot, semantic, alone).instance)
    assert (push == 0) == per_class


@pytest.mark.parametrize("per_class", [True, False])
def test_ignored_pixels_teach_the_seed_head_nothing(per_class):
    logits, embeddings, semantic, instance = batch()
    semantic[:, :, :2] = 255
    seeds = torch.zeros(2, 2, 16, 16, requires_grad=True)
    loss = PanopticLoss([1, 2], alpha=0, beta=0, gamma=0, soft_mask=1, per_class=per_class)
    loss(logits, embeddings, semantic, instance, seeds).total.backward()
    by_class = {c: float(seeds.grad[:, 1][semantic == c].abs().sum()) for c in (0, 1, 2, 255)}
    assert by_class[255] == 0
    assert min(by_class[c] for c in (0, 1, 2)) > 0


@pytest.mark.parametrize("per_class", [True, False])
def test_segments_of_stuff_are_no_objects(per_class):
    logits, embeddings, semantic, instance = batch()
    seeds = torch.zeros(2, 2, 16, 16)
    loss = PanopticLoss([1, 2], soft_mask=1, per_class=per_class)
    plain = float(loss(logits, embeddings, semantic, instance, seeds).instance)
    numbered = torch.where(semantic == 0, 1 + torch.arange(16) // 8 * 7, instance)
    assert float(loss(logits, embeddings, semantic, numbered, seeds).instance) == plain


@pytest.mark.parametrize("with_seeds", [False, True])
def test_every_option_reaches_its_part(with_seeds):
    logits, embeddings, semantic, instance = batch()
    classes = {"semantic": semantic, "thing_ids": [1, 2]}
    margins = {"delta_var": 0.2, "delta_dist": 0.7}
    factors = {"alpha": 2.0, "beta": 0.5, "gamma": 0.3}
    seeds = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) - 3 if with_seeds else None
    expected = discriminative_loss(embeddings, instance, **classes, **margins, **factors)
    two = None if seeds is None else seeds[:, :2]
    expected += 0.4 * soft_mask_loss(embeddings, instance, seeds=two, **classes, delta_var=0.2, overlap="lovasz")
    if seeds is not None:
        expected += 0.6 * density_loss(seeds[:, 2], instance, **classes)
    others = {"instance_weight": 0.8, "soft_mask": 0.4, "overlap": "lovasz", "density": 0.6}
    terms = PanopticLoss([1, 2], **margins, **factors, **others)(logits, embeddings, semantic, instance, seeds)
    assert float(terms.instance) == pytest.approx(float(expected), rel=1e-5)
    assert float(terms.total) == pytest.approx(float(terms.semantic + 0.8 * expected), rel=1e-5)


def test_weights_of_classes():
    _, embeddings, semantic, instance = batch()
    logits = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    semantic[0, 0] = 255
    weights = [1.0, 4.0, 2.0]
    terms = PanopticLoss([1, 2], class_weights=weights)(logits, embeddings, semantic, instance)
    expected = torch.nn.CrossEntropyLoss(torch.tensor(weights), ignore_index=255)(logits, semantic)
    assert float(terms.semantic) == pytest.approx(float(expected), rel=1e-5)
    nothing = torch.full_like(semantic, 255)
    none = PanopticLoss([1, 2], class_weights=weights)(logits, embeddings, nothing, 0 * instance)
    assert float(none.total) == 0


def weighted_by_hand(logits, semantic, instance, things, s, class_weights):
    """Pixel by pixel, in float64."""
    log_probability = logits.double().log_softmax(dim=1)
    batch, height, width = semantic.shape
    pixels = [(b, y, x) for b in range(batch) for y in range(height) for x in range(width)]
    areas = {}
    for b, y, x in pixels:
        if int(semantic[b, y, x]) in things and int(instance[b, y, x]) > 0:
            key = b, int(instance[b, y, x])
            areas[key] = areas.get(key, 0) + 1
    median = sorted(areas.values())[(len(areas) - 1) // 2] if areas else None
    loss = total = 0.0
    for b, y, x in pixels:
        category = int(semantic[b, y, x])
        if category == 255:
            continue
        weight = 1.0 if class_weights is None else class_weights[category]
        if category in things and int(instance[b, y, x]) > 0:
            weight *= 1 + s * max(0.0, 1 - (areas[b, int(instance[b, y, x])] / median) ** 0.5)
        loss -= weight * float(log_probability[b, category, y, x])
        total += weight
    return loss / total


def objects_of_many_sizes():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 3, 12, 12, generator=generator)
    semantic = torch.zeros(3, 12, 12, dtype=torch.int64)
    instance = torch.zeros(3, 12, 12, dtype=torch.int32)
    for b, y, x, size, category, id in (
        (0, 0, 0, 5, 1, 1),
        (0, 0, 6, 2, 1, 2),
        (0, 6, 0, 3, 2, 4),
        (1, 0, 0, 1, 2, 1),
        (1, 4, 4, 6, 1, 700),
    ):
        semantic[b, y : y + size, x : x + size] = category
        instance[b, y : y + size, x : x + size] = id
    semantic[0, 0, :3] = 255  # a part of an object has no class
    instance[1, 10:, :] = 9  # numbers on stuff are no objects
    semantic[1, 4:6, 4:6], instance[1, 4:6, 4:6] = 1, 0  # of a thing class, but of no object
    return logits, torch.zeros(3, 4, 12, 12), semantic, instance


@pytest.mark.parametrize("class_weights", [None, [1.0, 4.0, 2.5]])
@pytest.mark.parametrize("s", [0.5, 2.0])
def test_pixels_of_small_objects_weigh_more(s, class_weights):
    logits, embeddings, semantic, instance = objects_of_many_sizes()
    loss = PanopticLoss([1, 2], class_weights=class_weights, small_objects=s)
    plain = PanopticLoss([1, 2], class_weights=class_weights)
    terms = loss(logits, embeddings, semantic, instance)
    expected = weighted_by_hand(logits, semantic, instance, (1, 2), s, class_weights)
    assert float(terms.semantic) == pytest.approx(expected, rel=1e-5)
    assert float(plain(logits, embeddings, semantic, instance).semantic) != pytest.approx(expected, rel=1e-3)
    assert terms.instance == plain(logits, embeddings, semantic, instance).instance
    # Other numbers for the same objects weigh the same; so does each pixel's gradient.
    swapped = torch.where(instance > 0, 1000 - instance, 0)
    assert float(loss(logits, embeddings, semantic, swapped).semantic) == pytest.approx(expected, rel=1e-5)
    logits.requires_grad_()
    loss(logits, embeddings, semantic, instance).total.backward()
    assert not logits.grad[:, :, semantic[0] == 255][0].any()


def test_weights_by_size_without_objects_and_without_labels():
    logits, embeddings, semantic, instance = objects_of_many_sizes()
    weighted, plain = PanopticLoss([1, 2], small_objects=3.0), PanopticLoss([1, 2])
    alike = weighted(logits, embeddings, semantic, 0 * instance).semantic
    assert float(alike) == pytest.approx(float(plain(logits, embeddings, semantic, 0 * instance).semantic), rel=1e-6)
    # Objects of one size weigh as their surroundings.
    same = torch.zeros_like(instance)
    same[:, 2:5, 2:5] = 1
    semantic = same.long()
    assert float(weighted(logits, embeddings, semantic, same).semantic) == pytest.approx(
        float(plain(logits, embeddings, semantic, same).semantic), rel=1e-6
    )
    for labels in (torch.full_like(semantic, 255), semantic[:0]):
        none = weighted(logits[: len(labels)], embeddings[: len(labels)], labels, same[: len(labels)])
        assert float(none.semantic) == 0


def test_the_setting_reaches_the_loss():
    plants = LabelSet([Category(0, "soil", False), Category(1, "leaf", True)])
    settings = Settings.from_mapping({"loss": {"small_objects": 2.0}})
    assert build.loss(settings, plants).small_objects == 2.0
    assert build.loss(Settings(), plants).small_objects == 0.0
