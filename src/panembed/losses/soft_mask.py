"""A loss on the objects' soft masks: what grouping will make of the embeddings is compared with the true objects.

The soft mask of an object is a Gaussian about its mean embedding. Where the discriminative loss asks for distances,
this asks for the right pixels: a small object beside a large one need only be far enough to be told apart. With a seed
head, bandwidths and the places of objects are learned too (Neven et al. 2019); without one the bandwidth is fixed, and
the loss joins the discriminative loss (Wolny et al. 2022).

Shape suffixes: N pixels of the objects of one class in one image, E embedding dimensions, K objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from panembed.clustering.seed_map import MAX_LOG_SHARPNESS
from panembed.labels.categories import IGNORE

Overlap = Literal["dice", "lovasz"]

_SMOOTHNESS = 0.1
"""Weight of the variance of the log of the sharpness within an object.

That of Neven et al. (2019) is 10, but of the network's output, which their code multiplies by 10 to be the log: 0.1 of
its variance. A hundred times as much makes all objects as sharp as one another.
"""


def soft_mask_loss(
    embeddings: Tensor,
    instance: Tensor,
    *,
    seeds: Tensor | None = None,
    semantic: Tensor | None = None,
    thing_ids: Sequence[int] | None = None,
    delta_var: float = 0.5,
    overlap: Overlap = "dice",
) -> Tensor:
    r"""Compare the soft mask of each object with its pixels.

    For the K objects of one class in one image, with means mu_k, every pixel x_i of these objects is in object k to
    the degree (Neven et al. 2019, Eq. 5 to 7; Wolny et al. 2022, Eq. 3)

    .. math::
        \phi_k(x_i) = \exp(-w_k \|x_i - \mu_k\|^2)

    The loss is the mean over objects of 1 minus the overlap of phi_k and the object. Pixels of no object take no part:
    the class mask tells them apart. With `seeds` w_k is exp of the mean of seeds[:, 0] over the
    object, and two terms join: a tenth of the variance of seeds[:, 0] within each object, and the squared
    difference of sigmoid(seeds[:, 1]) and phi of the pixel's own object, 0 outside objects, of which the means inside
    and outside weigh alike. Without, w_k is such that phi is 0.9 at delta_var.

    The result is the mean over images of the sum over classes; images without objects count as 0, but their seeds are
    still held to 0.

    Args:
        embeddings: BxExHxW floats. Computed in float32.
        instance: BxHxW integers, 0 for none.
        seeds: Bx2xHxW floats of a seed head: the log of the sharpness w, and the score of the pixel as a centre.
        semantic: BxHxW integers, class of every pixel; objects are compared with those of their class only. Pixels of
            class 255, and of things without a number (groups), take no part, nor do their seeds. None: all objects are
            of one class.
        thing_ids: the classes of `semantic` that have objects. None takes every class.
        delta_var: see above; used without `seeds` only.
        overlap: dice, or the Lovasz hinge, which is a surrogate of IoU itself (Berman et al. 2018) and takes longer.

    Returns:
        Scalar float32, differentiable.

    Raises:
        ValueError: shapes do not fit, or `thing_ids` without `semantic`.

    >>> instance = torch.tensor([[[1, 1, 2, 2]]])
    >>> float(soft_mask_loss(torch.tensor([[[[0.0, 0.0, 9.0, 9.0]]]]), instance)) < 1e-3
    True
    >>> float(soft_mask_loss(torch.zeros(1, 1, 1, 4), instance)) > 0.3
    True
    """
    expected = (embeddings.shape[0], *embeddings.shape[2:])
    for name, labels in (("instance", instance), ("semantic", semantic)):
        if labels is not None and tuple(labels.shape) != expected:
            raise ValueError(f"{name}: expected BxHxW = {expected} as the embeddings, found {tuple(labels.shape)}")
    if seeds is not None and tuple(seeds.shape) != (expected[0], 2, *expected[1:]):
        raise ValueError(f"seeds: expected Bx2xHxW as the embeddings, found {tuple(seeds.shape)}")
    if thing_ids is not None and semantic is None:
        raise ValueError("thing_ids names classes of `semantic`; give semantic too")
    total = embeddings.new_zeros((), dtype=torch.float32)
    for index in range(len(embeddings)):
        classes = None if semantic is None else semantic[index]
        target = torch.zeros(expected[1:], device=embeddings.device)
        in_object = torch.zeros_like(target, dtype=torch.bool)
        for inside in _class_masks(instance[index], classes, thing_ids):
            x_ne = embeddings[index].permute(1, 2, 0)[inside].float()
            log_w_n = None if seeds is None else seeds[index, 0][inside].float().clamp_max(MAX_LOG_SHARPNESS)
            sharpness = log_w_n if log_w_n is not None else math.log(math.log(1 / 0.9) / delta_var**2)
            loss, own_n = _objects(x_ne, instance[index][inside], sharpness, overlap)
            total = total + loss
            target[inside], in_object[inside] = own_n, True
        if seeds is not None:
            outside = instance[index] == 0 if classes is None else _stuff(classes, thing_ids)
            total = total + _seed_loss(seeds[index, 1].float(), target, in_object, outside)
    return total / max(1, len(embeddings))


def _class_masks(instance: Tensor, semantic: Tensor | None, thing_ids: Sequence[int] | None) -> Iterator[Tensor]:
    """HxW masks of the pixels of objects, one for each class that has any."""
    labelled = instance > 0
    if semantic is None:
        classes = [labelled]
    else:
        found = torch.unique(semantic[labelled]).tolist()
        wanted = [c for c in found if c != IGNORE and (thing_ids is None or c in thing_ids)]
        classes = [labelled & (semantic == c) for c in wanted]
    yield from (mask for mask in classes if mask.any())


def _objects(x_ne: Tensor, ids_n: Tensor, log_sharpness: Tensor | float, overlap: Overlap) -> tuple[Tensor, Tensor]:
    """Loss of the objects of one class, and phi of each pixel in its own object, detached."""
    _, group_n, count_k = torch.unique(ids_n, return_inverse=True, return_counts=True)
    count_k = count_k.float()
    own_nk = torch.nn.functional.one_hot(group_n, len(count_k)).float()
    mean_ke = own_nk.T @ x_ne / count_k[:, None]
    smoothness: Tensor | float = 0.0
    if isinstance(log_sharpness, Tensor):
        log_w_k = own_nk.T @ log_sharpness / count_k
        deviation_n = (log_sharpness - log_w_k.detach()[group_n]).square()
        smoothness = _SMOOTHNESS * (own_nk.T @ deviation_n / count_k).mean()
        w_k = log_w_k.exp()
    else:
        w_k = torch.full_like(count_k, math.exp(log_sharpness))
    # From the centre of the means, so that cancellation stays harmless.
    centre_e = mean_ke.mean(0)
    x_ne, mean_ke = x_ne - centre_e, mean_ke - centre_e
    squared_nk = x_ne.square().sum(1)[:, None] + mean_ke.square().sum(1) - 2 * x_ne @ mean_ke.T
    phi_nk = torch.exp(-squared_nk.clamp_min(0) * w_k)
    losses_k = _dice(phi_nk, own_nk, count_k) if overlap == "dice" else _lovasz_hinge(phi_nk, own_nk, count_k)
    return losses_k.mean() + smoothness, phi_nk.detach().gather(1, group_n[:, None])[:, 0]


def _dice(phi_nk: Tensor, own_nk: Tensor, count_k: Tensor) -> Tensor:
    """1 minus the Dice coefficient with squares in its denominator (Milletari et al. 2016), of each object."""
    return 1 - 2 * (phi_nk * own_nk).sum(0) / (phi_nk.square().sum(0) + count_k)


def _lovasz_hinge(phi_nk: Tensor, own_nk: Tensor, count_k: Tensor) -> Tensor:
    """Lovasz hinge of 2 phi - 1 against the masks (Berman et al. 2018, algorithm 1), of each object."""
    error_nk, order_nk = torch.sort(1 - (2 * phi_nk - 1) * (2 * own_nk - 1), dim=0, descending=True)
    true_nk = own_nk.gather(0, order_nk)
    jaccard_nk = 1 - (count_k - true_nk.cumsum(0)) / (count_k + (1 - true_nk).cumsum(0))
    gradient_nk = torch.diff(jaccard_nk, dim=0, prepend=jaccard_nk.new_zeros(1, jaccard_nk.shape[1]))
    return (error_nk.relu() * gradient_nk).sum(0)


def _stuff(semantic: Tensor, thing_ids: Sequence[int] | None) -> Tensor:
    """HxW, where no object can be: pixels of classes that aren't things; nowhere if every class is one."""
    stuff = semantic != IGNORE
    if thing_ids is None:
        return torch.zeros_like(stuff)
    for index in thing_ids:
        stuff &= semantic != index
    return stuff


def _seed_loss(score: Tensor, target: Tensor, in_object: Tensor, outside: Tensor) -> Tensor:
    """Squared error of the scores inside and outside objects, each its own mean, so that few objects weigh as much."""
    squared = (torch.sigmoid(score) - target).square()
    total = score.new_zeros(())
    for part in (in_object, outside):
        if part.any():
            total = total + squared[part].mean()
    return total
