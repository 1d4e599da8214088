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

import torch
from torch import Tensor

from panembed.clustering.seed_map import MAX_LOG_SHARPNESS
from panembed.labels.categories import IGNORE
from panembed.losses.object_overlap import Overlap, object_overlap

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
    # Not by index, whose gradient would be a batch of zeros for every image.
    images = embeddings.flatten(2).unbind()
    by_image = [(None, None)] * len(images) if seeds is None else [part.unbind() for part in seeds.flatten(2).unbind()]
    for index, (image_em, (log_m, score_m)) in enumerate(zip(images, by_image)):
        classes = None if semantic is None else semantic[index]
        target = torch.zeros(expected[1:], device=embeddings.device)
        in_object = torch.zeros_like(target, dtype=torch.bool)
        for inside in _class_masks(instance[index], classes, thing_ids):
            place_n = inside.flatten().nonzero()[:, 0]
            x_ne = image_em.index_select(1, place_n).float().T
            sharpness: Tensor | float = math.log(math.log(1 / 0.9) / delta_var**2)
            if log_m is not None:
                sharpness = log_m.index_select(0, place_n).float().clamp_max(MAX_LOG_SHARPNESS)
            loss, own_n = _objects(x_ne, instance[index].flatten()[place_n], sharpness, overlap)
            total = total + loss
            target.view(-1)[place_n] = own_n
            in_object |= inside
        if score_m is not None:
            outside = instance[index] == 0 if classes is None else _stuff(classes, thing_ids)
            total = total + _seed_loss(score_m.float().view_as(target), target, in_object, outside)
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
    group_n, count_k = _numbered(ids_n)
    if not isinstance(log_sharpness, Tensor):
        return object_overlap(x_ne, group_n, torch.full_like(count_k, math.exp(log_sharpness)), overlap)
    log_w_k = _means(log_sharpness, group_n, count_k)
    smoothness = _means((log_sharpness - log_w_k.detach()[group_n]).square(), group_n, count_k).mean()
    loss, own_n = object_overlap(x_ne, group_n, log_w_k.exp(), overlap)
    return loss + _SMOOTHNESS * smoothness, own_n


def _numbered(ids_n: Tensor) -> tuple[Tensor, Tensor]:
    """Objects 0..K-1 instead of their ids, and the pixels of each as float32."""
    if int(ids_n.max()) > 4 * len(ids_n) + 1000:
        _, group_n, count_k = torch.unique(ids_n, return_inverse=True, return_counts=True)
        return group_n, count_k.float()
    counts = torch.bincount(ids_n)
    present = counts > 0
    return (present.cumsum(0) - 1)[ids_n], counts[present].float()


def _means(value_n: Tensor, group_n: Tensor, count_k: Tensor) -> Tensor:
    """The mean over the pixels of each object."""
    return torch.zeros_like(count_k).index_add(0, group_n, value_n) / count_k


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
    weight = sum(part / part.sum().clamp_min(1) for part in (in_object, outside))
    return (squared * weight).sum()
