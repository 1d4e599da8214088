"""The discriminative loss of De Brabandere, Neven and Van Gool (2017), as in Zachow (2022), Eq. 3.2-3.5.

The pixels of one object are pulled towards their mean embedding, the means of different objects of one class are
pushed apart, and all means are held near the origin. Everything is a sum over labelled pixels grouped by object, so
value and gradient need two grouped sums and no graph: the gradient is written down in closed form below. Time and
memory hardly depend on the number of objects.

Shape suffixes: N labelled pixels of the batch, E embedding dimensions, K objects of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from panembed.labels.categories import IGNORE

_MAX_KEY_TABLE = 1 << 25
"""Largest table of (image, class, id) combinations that is cheaper than sorting."""

_CHUNK_BYTES = 1 << 21
"""Embeddings worked on at a time on a CPU."""

_STRETCH = 256
"""Rows of one group that are summed at a time."""

_EMBEDDING_BAG_DEVICES = ("cpu", "cuda")
"""Devices where `embedding_bag` can be relied on; Apple's has it since torch 2.10 only."""


def discriminative_loss(
    embeddings: Tensor,
    instance: Tensor,
    *,
    semantic: Tensor | None = None,
    thing_ids: Sequence[int] | None = None,
    delta_var: float = 0.5,
    delta_dist: float = 1.5,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 0.001,
) -> Tensor:
    r"""Pull the embeddings of one object together and push objects of one class apart.

    For the K objects of one class in one image, with N_k pixels x_i and mean mu_k each (Zachow 2022, Eq. 3.2-3.5):

    .. math::
        L = \frac{\alpha}{K} \sum_k \frac{1}{N_k} \sum_i [\|\mu_k - x_i\| - \delta_v]_+^2
          + \frac{\beta}{K (K - 1)} \sum_{a \ne b} [2 \delta_d - \|\mu_a - \mu_b\|]_+^2
          + \frac{\gamma}{K} \sum_k \|\mu_k\|

    The result is the mean over images of the sum over classes. An image without objects counts as 0. Pixels with
    instance 0 take no part. Where two means coincide, or a pixel lies on its mean, the derivative of the norm is 0.

    Args:
        embeddings: BxExHxW floats. Half precision is computed in float32.
        instance: BxHxW integers, 0 for none. Ids may have gaps, but small ones are faster.
        semantic: BxHxW integers, class of every pixel; objects of different classes are not pushed apart. Pixels of
            class 255 or below 0 take no part. Without it all objects are of one class.
        thing_ids: the classes of `semantic` that have objects; all other pixels take no part. None takes every class.
        delta_var: radius in embedding space within which pixels are no longer pulled (delta_v).
        delta_dist: half the distance beyond which means are no longer pushed (delta_d); more than 2 * delta_var
            makes each pixel nearer to its own mean than to any other where the loss is 0.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of the pull of means to the origin.

    Returns:
        Scalar, float32 (float64 for float64 embeddings), differentiable once with respect to `embeddings`.

    Raises:
        ValueError: shapes do not fit, or `thing_ids` is given without `semantic`.

    >>> embeddings = torch.tensor([[[[0.0, 0.2, 5.0, 5.2]]]])
    >>> float(discriminative_loss(embeddings, torch.tensor([[[1, 1, 2, 2]]]), gamma=0.0))  # both margins kept
    0.0
    >>> float(discriminative_loss(embeddings, torch.tensor([[[1, 1, 1, 1]]]), gamma=0.0)) > 1
    True
    """
    if embeddings.ndim != 4 or not embeddings.is_floating_point():
        raise ValueError(f"embeddings: expected BxExHxW floats, found {embeddings.dtype} {tuple(embeddings.shape)}")
    expected = (embeddings.shape[0], *embeddings.shape[2:])
    for name, labels in (("instance", instance), ("semantic", semantic)):
        if labels is not None and tuple(labels.shape) != expected:
            raise ValueError(f"{name}: expected BxHxW = {expected} as the embeddings, found {tuple(labels.shape)}")
    if thing_ids is not None and semantic is None:
        raise ValueError("thing_ids names classes of `semantic`; give semantic too")
    loss: Tensor = _uncompiled_loss(
        embeddings, instance, semantic, thing_ids, delta_var, delta_dist, alpha, beta, gamma
    )
    return loss


# Shapes depend on the labels: traced by torch.compile it falls into eight pieces and takes three times as long.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _uncompiled_loss(
    embeddings: Tensor, instance: Tensor, semantic: Tensor | None, thing_ids: Sequence[int] | None, *settings: float
) -> Tensor:
    pixel, *groups = _group_pixels(instance, semantic, thing_ids)
    loss: Tensor = _DiscriminativeLoss.apply(embeddings, pixel, *groups, *settings)
    return loss


_MAX_ID = 1 << 40
"""From here on ids are numbered anew, as image, class and id together would not fit 64 bits."""


def _group_pixels(
    instance: Tensor, semantic: Tensor | None, thing_ids: Sequence[int] | None
) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
    """Number the (image, class, id) triples that occur.

    Returns:
        Flat indices into BxHxW of the labelled pixels (None for all pixels, in order), their group 0..K-1 (N), and
        for each group its number of pixels, its image and its class (K).
    """
    labelled = instance > 0
    if semantic is not None:
        labelled &= (semantic != IGNORE) & (semantic >= 0)
        if thing_ids is not None:
            is_thing = torch.zeros(IGNORE + 1, dtype=torch.bool, device=instance.device)
            is_thing[torch.as_tensor(list(thing_ids), dtype=torch.long, device=instance.device)] = True
            labelled &= is_thing[semantic.long().clamp(0, IGNORE)]
    pixel = None if bool(labelled.all()) else labelled.reshape(-1).nonzero().squeeze(1)
    if instance.numel() == 0 or (pixel is not None and pixel.numel() == 0):
        empty = torch.zeros(0, dtype=torch.long, device=instance.device)
        return pixel, empty, empty, empty, empty
    batch = len(instance)

    def select(labels: Tensor) -> Tensor:
        flat = labels.reshape(-1).long()
        return flat if pixel is None else flat.index_select(0, pixel)

    ids = select(instance)
    if int(ids.max()) >= _MAX_ID:
        ids = torch.unique(ids, return_inverse=True)[1]
    num_ids, num_classes = int(ids.max()) + 1, 1
    key = select(torch.arange(batch, device=ids.device)[:, None, None].expand_as(instance))
    if semantic is not None:
        classes = select(semantic)
        num_classes = int(classes.max()) + 1
        key = key * num_classes + classes
    key = key * num_ids + ids
    if batch * num_classes * num_ids <= _MAX_KEY_TABLE:
        count = torch.bincount(key)
        keys = count.nonzero().squeeze(1)
        group = ((count > 0).cumsum(0, dtype=torch.int32) - 1).index_select(0, key)
        count = count.index_select(0, keys)
    else:
        keys, group, count = torch.unique(key, return_inverse=True, return_counts=True)
    image_and_class = torch.div(keys, num_ids, rounding_mode="floor")
    image = torch.div(image_and_class, num_classes, rounding_mode="floor")
    return pixel, group, count, image, image_and_class % num_classes


class _GroupSums:
    """Sums of rows by group, in the same order every time.

    `embedding_bag` over the rows in order of their groups is several times faster than `index_add_`, which sorts its
    index again at each call. A group is summed in stretches, and then the stretches: exacter than one long sum, and a
    large group does not keep one processor busy alone.

    Args:
        group: group 0..K-1 of each row (N).
        count: rows of each group, none 0 (K).
    """

    def __init__(self, group: Tensor, count: Tensor) -> None:
        self.group, self.num_groups = group, len(count)
        if group.device.type in _EMBEDDING_BAG_DEVICES:
            # The fewer bytes, the faster the sort.
            small = next(t for t in (torch.uint8, torch.int16, torch.int32) if len(count) <= torch.iinfo(t).max)
            self.order = torch.sort(group.to(small), stable=True).indices
            start = count.cumsum(0) - count
            cuts = torch.arange(0, len(group), _STRETCH, device=group.device)
            self.stretch_start = torch.unique(torch.cat([start, cuts]))
            self.first_stretch = torch.searchsorted(self.stretch_start, start)
            self.stretches = torch.arange(len(self.stretch_start), device=group.device)

    def __call__(self, x_ne: Tensor, weight_n: Tensor | None = None) -> Tensor:
        """KxE sums of the rows of `x_ne`, each times its weight."""
        if x_ne.device.type not in _EMBEDDING_BAG_DEVICES:
            x_ne = x_ne if weight_n is None else x_ne * weight_n[:, None]
            return x_ne.new_zeros(self.num_groups, x_ne.shape[1]).index_add_(0, self.group, x_ne)
        weight_n = None if weight_n is None else weight_n.index_select(0, self.order)
        sums = F.embedding_bag(self.order, x_ne, self.stretch_start, mode="sum", per_sample_weights=weight_n)
        return F.embedding_bag(self.stretches, sums, self.first_stretch, mode="sum")


class _DiscriminativeLoss(torch.autograd.Function):
    """Value and gradient in one pass; backward only scales the stored gradient.

    With d_i = ||x_i - mu_k||, weights w_k = 1 / (K B) and c_i = 2 alpha w_k / N_k * [d_i - delta_v]_+ / d_i:
        dL/dx_i = c_i (x_i - mu_k) + (1 / N_k) dL/dmu_k
        dL/dmu_k = -sum_i c_i (x_i - mu_k) + push and origin terms of mu_k.
    """

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        pixel: Tensor | None,
        group: Tensor,
        count: Tensor,
        image_of_group: Tensor,
        class_of_group: Tensor,
        delta_var: float,
        delta_dist: float,
        alpha: float,
        beta: float,
        gamma: float,
    ) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            batch, num_dims = embeddings.shape[:2]
            work = torch.promote_types(embeddings.dtype, torch.float32)
            num_groups = image_of_group.numel()
            if num_groups == 0:
                ctx.save_for_backward()
                ctx.shape = embeddings.shape
                return torch.zeros((), dtype=work, device=embeddings.device)
            x_pe = embeddings.permute(0, 2, 3, 1).reshape(-1, num_dims)
            x_ne = (x_pe if pixel is None else x_pe.index_select(0, pixel)).to(work)
            count_k = count.to(work)
            sum_groups = _GroupSums(group, count)
            mu_ke = sum_groups(x_ne) / count_k[:, None]

            same_class_kk = image_of_group[:, None] == image_of_group
            same_class_kk &= class_of_group[:, None] == class_of_group
            num_rivals_k = same_class_kk.sum(1)
            weight_k = 1.0 / (num_rivals_k.to(work) * batch)

            # Pull.
            offset_ne = torch.empty_like(x_ne)
            distance_n = x_ne.new_empty(len(x_ne))
            for rows in _chunks(x_ne):
                offset_ce = torch.sub(x_ne[rows], mu_ke.index_select(0, group[rows]), out=offset_ne[rows])
                torch.linalg.vector_norm(offset_ce, dim=1, out=distance_n[rows])
            scale_n = (alpha * weight_k / count_k).index_select(0, group)
            excess_n = (distance_n - delta_var).clamp_min_(0)
            scale_n *= excess_n
            loss = (scale_n * excess_n).sum()
            coefficient_n = scale_n.mul_(2).div_(distance_n.clamp_min_(torch.finfo(work).tiny))
            mean_gradient_ke = -sum_groups(offset_ne, coefficient_n)

            # Push.
            if beta and num_groups > 1:
                same_class_kk.fill_diagonal_(False)
                pair_weight_k = beta * weight_k / (num_rivals_k - 1).clamp_min(1)
                distance_kk = torch.cdist(mu_ke, mu_ke, compute_mode="donot_use_mm_for_euclid_dist")
                gap_kk = (2.0 * delta_dist - distance_kk).clamp_min_(0) * same_class_kk
                loss = loss + (pair_weight_k[:, None] * gap_kk.square()).sum()
                force_kk = gap_kk / distance_kk.clamp_min(torch.finfo(work).tiny)
                force_kk.masked_fill_(distance_kk == 0, 0.0)
                force_kk *= -4.0 * pair_weight_k[:, None]
                mean_gradient_ke += force_kk.sum(1, keepdim=True) * mu_ke - force_kk @ mu_ke

            # Hold near the origin.
            if gamma:
                norm_k = torch.linalg.vector_norm(mu_ke, dim=1)
                loss = loss + gamma * (weight_k * norm_k).sum()
                mean_gradient_ke += mu_ke * (gamma * weight_k / norm_k.clamp_min(torch.finfo(work).tiny))[:, None]

            mean_gradient_ke /= count_k[:, None]
            for rows in _chunks(offset_ne):
                shift_ce = mean_gradient_ke.index_select(0, group[rows])
                torch.addcmul(shift_ce, offset_ne[rows], coefficient_n[rows, None], out=offset_ne[rows])
            gradient_ne = offset_ne  # computed in place
            ctx.save_for_backward(gradient_ne, *(() if pixel is None else (pixel,)))
            ctx.shape = embeddings.shape
            ctx.dtype = embeddings.dtype
            return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        batch, num_dims, height, width = ctx.shape
        if not ctx.saved_tensors:
            return grad_output.new_zeros(()).expand(ctx.shape), *(None,) * 10
        gradient_ne, *rest = ctx.saved_tensors
        # Most often the loss is summed as it is, and its gradient needs no scaling.
        is_one = grad_output.device.type == "cpu" and grad_output.item() == 1.0
        gradient_pe = gradient_ne if is_one else gradient_ne * grad_output
        if rest:
            gradient_pe = gradient_ne.new_zeros(batch * height * width, num_dims).index_copy_(0, rest[0], gradient_pe)
        gradient = gradient_pe.to(ctx.dtype).view(batch, height, width, num_dims).permute(0, 3, 1, 2)
        return gradient, *(None,) * 10


def _chunks(x_ne: Tensor) -> Iterator[slice]:
    """Ranges of rows: on a CPU small enough to stay in cache from one operation to the next, else all at once."""
    rows = max(1, _CHUNK_BYTES // (x_ne.shape[1] * x_ne.element_size())) if x_ne.device.type == "cpu" else len(x_ne)
    return (slice(start, start + rows) for start in range(0, len(x_ne), rows))
