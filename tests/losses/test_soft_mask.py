"""The soft-mask loss against its definition, written as plain loops, and properties it must have."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from panembed.losses.soft_mask import soft_mask_loss


def plain(embeddings, instance, seeds, semantic, things, overlap, delta_var=0.5):
    """Neven et al. (2019) and Wolny et al. (2022), pixel by pixel in float64."""
    batch, _, height, width = embeddings.shape
    total = 0.0
    for b in range(batch):
        target, inside = np.zeros((height, width)), np.zeros((height, width), bool)
        for c in things:
            ids = [k for k in np.unique(instance[b]) if k > 0 and ((instance[b] == k) & (semantic[b] == c)).any()]
            pixels = [
                (y, x) for y in range(height) for x in range(width) if instance[b, y, x] and semantic[b, y, x] == c
            ]
            losses, spread = [], []
            for k in ids:
                own = [p for p in pixels if instance[b][p] == k]
                mean = np.mean([embeddings[b, :, y, x] for y, x in own], axis=0)
                w = math.log(1 / 0.9) / delta_var**2
                if seeds is not None:
                    logs = [seeds[b, 0, y, x] for y, x in own]
                    w = math.exp(np.mean(logs))
                    # Neven's sigma is a tenth of the log: w = exp(10 * sigma), and 10 times its variance joins.
                    spread.append(10 * np.var(np.array(logs) / 10))
                phi = {p: math.exp(-w * np.sum((embeddings[b, :, p[0], p[1]] - mean) ** 2)) for p in pixels}
                for p in own:
                    target[p], inside[p] = phi[p], True
                if overlap == "dice":
                    square = sum(v * v for v in phi.values())
                    losses.append(1 - 2 * sum(phi[p] for p in own) / (square + len(own)))
                else:
                    losses.append(plain_lovasz([2 * phi[p] - 1 for p in pixels], [p in own for p in pixels]))
            if ids:
                total += np.mean(losses) + (np.mean(spread) if spread else 0)
        if seeds is not None:
            score = 1 / (1 + np.exp(-seeds[b, 1]))
            outside = ~np.isin(semantic[b], [*things, 255])
            for part in (inside, outside):
                if part.any():
                    total += np.mean((score - target)[part] ** 2)
    return total / batch


def plain_lovasz(logits, labels):
    """Sum over the sorted errors of the gain in Jaccard loss that each brings (Berman et al. 2018, Eq. 8)."""
    errors = [1 - v * (1 if t else -1) for v, t in zip(logits, labels)]
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    truth, wrong, value, before = {i for i, t in enumerate(labels) if t}, set(), 0.0, 0.0
    for i in order:
        wrong.add(i)
        jaccard = 1 - len(truth - wrong) / len(truth | wrong)
        value += max(errors[i], 0) * (jaccard - before)
        before = jaccard
    return value


def example(seed=0, height=6, width=7):
    rng = np.random.default_rng(seed)
    semantic = rng.choice([0, 1, 2, 255], p=[0.3, 0.4, 0.2, 0.1], size=(2, height, width))
    instance = np.where((semantic == 1) | (semantic == 2), rng.integers(0, 4, semantic.shape), 0)
    embeddings = rng.normal(size=(2, 3, height, width))
    return embeddings, instance, rng.normal(size=(2, 2, height, width)), semantic


def tensors(seed):
    embeddings, instance, seeds, semantic = (torch.tensor(a) for a in example(seed))
    return embeddings.float(), instance, seeds.float(), semantic


@pytest.mark.parametrize("overlap", ["dice", "lovasz"])
@pytest.mark.parametrize(
    ("with_seeds", "width"), [(True, {}), (False, {}), (False, {"delta_var": 0.3}), (False, {"delta_var": 2.0})]
)
def test_equals_plain_loops(overlap, with_seeds, width):
    for seed in range(5):
        embeddings, instance, seeds, semantic = example(seed)
        seeds = seeds if with_seeds else None
        expected = plain(embeddings, instance, seeds, semantic, [1, 2], overlap, **width)
        found = soft_mask_loss(
            torch.tensor(embeddings, dtype=torch.float32),
            torch.tensor(instance),
            seeds=None if seeds is None else torch.tensor(seeds, dtype=torch.float32),
            semantic=torch.tensor(semantic),
            thing_ids=[1, 2],
            overlap=overlap,
            **width,
        )
        assert float(found) == pytest.approx(expected, rel=1e-4)


def test_objects_kept_apart_by_their_own_bandwidth_cost_nothing():
    """A small ball close to a large one: a sharp and a blunt bandwidth tell them apart, one for both doesn't."""
    instance = torch.tensor([[[1, 1, 1, 1, 2, 2]]])
    embeddings = torch.tensor([[[[-2.0, 2.0, -1.0, 1.0, 4.0, 4.1]]]])
    blunt, sharp = math.log(0.05), math.log(50.0)
    own = torch.tensor([[[[blunt] * 4 + [sharp] * 2], [[0.0] * 6]]]).float()
    same = own.clone()
    same[:, 0] = blunt
    assert float(soft_mask_loss(embeddings, instance, seeds=own)) < float(
        soft_mask_loss(embeddings, instance, seeds=same)
    )


def test_no_objects():
    embeddings, seeds = torch.randn(2, 4, 5, 5, requires_grad=True), torch.zeros(2, 2, 5, 5, requires_grad=True)
    nothing = torch.zeros(2, 5, 5, dtype=torch.long)
    assert float(soft_mask_loss(embeddings.detach(), nothing)) == 0.0
    loss = soft_mask_loss(embeddings, nothing, seeds=seeds, semantic=nothing, thing_ids=[1])
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.25)  # sigmoid(0) should be 0
    assert seeds.grad is not None
    assert bool((seeds.grad[:, 1] > 0).all())


def test_groups_and_void_have_no_say():
    embeddings, instance, seeds, semantic = tensors(3)
    seeds.requires_grad_()
    soft_mask_loss(embeddings, instance, seeds=seeds, semantic=semantic, thing_ids=[1, 2]).backward()
    assert seeds.grad is not None
    silent = (semantic == 255) | ((semantic > 0) & (instance == 0))
    assert silent.any()
    assert not seeds.grad.permute(0, 2, 3, 1)[silent].any()


def test_without_classes_all_objects_are_of_one_and_the_rest_is_stuff():
    embeddings, instance, seeds, _ = tensors(4)
    of_one = soft_mask_loss(embeddings, instance, seeds=seeds, semantic=(instance > 0).long(), thing_ids=[1])
    assert float(soft_mask_loss(embeddings, instance, seeds=seeds)) == pytest.approx(float(of_one))


def test_without_thing_ids_every_class_has_objects():
    embeddings, instance, seeds, semantic = tensors(5)
    instance = torch.where(semantic == 255, 1, instance)  # numbers where there is no class are no objects
    of_all = soft_mask_loss(embeddings, instance, seeds=seeds, semantic=semantic, thing_ids=[0, 1, 2])
    assert float(soft_mask_loss(embeddings, instance, seeds=seeds, semantic=semantic)) == pytest.approx(float(of_all))


def test_embeddings_do_not_follow_the_scores():
    """Scores learn what the soft masks are, and have no say in them."""
    gradients = []
    for score in (-3.0, 3.0):
        embeddings, instance, seeds, semantic = tensors(6)
        embeddings.requires_grad_()
        seeds[:, 1] = score
        soft_mask_loss(embeddings, instance, seeds=seeds, semantic=semantic, thing_ids=[1, 2]).backward()
        gradients.append(embeddings.grad)
    assert torch.equal(*gradients)


def test_the_place_of_the_embeddings_does_not_matter():
    """Anchored embeddings of a large image lie hundreds of units from the origin."""
    embeddings, instance, seeds, semantic = tensors(7)
    embeddings = embeddings.mul(256).round() / 256  # the same numbers, to the last bit, in both places
    seeds[:, 0] += 2
    here, there = (
        soft_mask_loss(embeddings + shift, instance, seeds=seeds, semantic=semantic, thing_ids=[1, 2])
        for shift in (0.0, 512.0)
    )
    assert float(there) == pytest.approx(float(here), rel=1e-3)


def test_a_sharpness_beyond_the_largest_is_the_largest():
    embeddings, instance, seeds, semantic = tensors(8)
    losses = []
    for sharpness in (6.0, 50.0, 1000.0):
        seeds[:, 0] = sharpness
        losses.append(float(soft_mask_loss(embeddings, instance, seeds=seeds, semantic=semantic, thing_ids=[1, 2])))
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("overlap", ["dice", "lovasz"])
def test_gradients_are_finite_at_the_ends(overlap):
    instance = torch.tensor([[[1, 1, 2, 2]]])
    for scale in (0.0, 1e4):
        embeddings = (scale * torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]])).requires_grad_()
        seeds = torch.full((1, 2, 1, 4), 50.0, requires_grad=True)
        soft_mask_loss(embeddings, instance, seeds=seeds, overlap=overlap).backward()
        assert embeddings.grad is not None
        assert bool(embeddings.grad.isfinite().all())
        assert seeds.grad is not None
        assert bool(seeds.grad.isfinite().all())


def test_descent_separates_objects():
    torch.manual_seed(0)
    instance = torch.tensor([[[1] * 8 + [2] * 8 + [3] * 2]])
    embeddings = torch.randn(1, 2, 1, 18, requires_grad=True)
    seeds = torch.zeros(1, 2, 1, 18, requires_grad=True)
    optimizer = torch.optim.Adam([embeddings, seeds], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        soft_mask_loss(embeddings, instance, seeds=seeds).backward()
        optimizer.step()
    assert float(soft_mask_loss(embeddings.detach(), instance, seeds=seeds.detach())) < 0.05


def test_refusals():
    embeddings, instance = torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="instance"):
        soft_mask_loss(embeddings, instance[:, :2])
    with pytest.raises(ValueError, match="seeds"):
        soft_mask_loss(embeddings, instance, seeds=torch.zeros(1, 1, 3, 4))
    with pytest.raises(ValueError, match="thing_ids"):
        soft_mask_loss(embeddings, instance, thing_ids=[1])
