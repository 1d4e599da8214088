"""The sum of both losses, Zachow (2022), Eq. 3.1 and 3.6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from panembed.labels.categories import IGNORE
from panembed.losses.density import density_loss
from panembed.losses.discriminative import discriminative_loss
from panembed.losses.object_overlap import Overlap
from panembed.losses.soft_mask import soft_mask_loss


@dataclass(frozen=True, slots=True)
class PanopticLossTerms:
    """The scalar to minimise and its two parts, L_total = L_sem + L_inst (Eq. 3.6)."""

    total: Tensor
    semantic: Tensor
    instance: Tensor


class PanopticLoss(nn.Module):
    """Cross-entropy of classes (Eq. 3.1) plus discriminative loss of embeddings (Eq. 3.5).

    Args:
        thing_ids: class indices that have objects.
        delta_var: see `discriminative_loss`.
        delta_dist: see `discriminative_loss`.
        alpha: see `discriminative_loss`.
        beta: see `discriminative_loss`.
        gamma: see `discriminative_loss`; 0 for position-anchored embeddings, whose means are not near the origin.
        instance_weight: factor of L_inst in the sum; 1 in the thesis.
        per_class: objects of one class are pushed apart, as in the thesis; False pushes all things apart, whatever
            their class, for `Grouping(vote=True)`.
        class_weights: C weights of the classes' pixels in the cross-entropy, which becomes a weighted mean; None
            weighs all pixels alike, as in the thesis.
        soft_mask: factor of `soft_mask_loss`, which joins the discriminative loss in L_inst; 0 in the thesis. With
            alpha, beta and gamma 0 it stands alone, as in Neven et al. (2019).
        overlap: see `soft_mask_loss`.
        density: factor of `density_loss` in L_inst, for networks that give a density with their seeds; 0 in the
            thesis.
        small_objects: additional weight s of small objects' pixels in the cross-entropy, which becomes a weighted mean:
            1 + s * max(0, 1 - sqrt(area / median area)), the median of all objects of thing classes in the batch. So a
            pixel of an object of half the median diameter weighs 1 + s / 2; one of a larger object, of none, or of
            stuff weighs 1. Times the class's weight. 0 weighs all alike, as in the thesis.

    >>> loss = PanopticLoss(thing_ids=[1])
    >>> labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    >>> terms = loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 8, 4, 4), labels, labels)
    >>> round(float(terms.semantic), 4), float(terms.instance)  # log 2 for two equal scores; no objects
    (0.6931, 0.0)
    """

    def __init__(
        self,
        thing_ids: Sequence[int],
        *,
        delta_var: float = 0.5,
        delta_dist: float = 1.5,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.001,
        instance_weight: float = 1.0,
        soft_mask: float = 0.0,
        overlap: Overlap = "dice",
        density: float = 0.0,
        per_class: bool = True,
        class_weights: Sequence[float] | None = None,
        small_objects: float = 0.0,
    ) -> None:
        super().__init__()
        self.thing_ids = tuple(thing_ids)
        self.delta_var, self.delta_dist = delta_var, delta_dist
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.instance_weight = instance_weight
        self.soft_mask, self.overlap = soft_mask, overlap
        self.density = density
        self.per_class = per_class
        self.small_objects = small_objects
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights)

    def forward(
        self, logits: Tensor, embeddings: Tensor, semantic: Tensor, instance: Tensor, seeds: Tensor | None = None
    ) -> PanopticLossTerms:
        """Compute both terms.

        Args:
            logits: BxCxHxW class scores before softmax.
            embeddings: BxExHxW.
            semantic: BxHxW int64 class indices, 255 to ignore. A batch without any class pixel gives 0.
            instance: BxHxW integers, 0 for none; counted over all classes of an image.
            seeds: Bx2xHxW of a seed head, or Bx3xHxW with the log of the density.
        """
        logits = logits.float()
        if self.small_objects:
            l_sem = self._weighted_cross_entropy(logits, semantic, instance)
        else:
            l_sem = self._cross_entropy(logits, semantic)
        classes, thing_ids = semantic, self.thing_ids
        if not self.per_class and thing_ids:
            # As one class of things: ignored pixels and stuff stay what they are.
            is_thing = torch.isin(semantic, torch.tensor(thing_ids, device=semantic.device))
            classes, thing_ids = torch.where(is_thing, thing_ids[0], semantic), thing_ids[:1]
        l_inst = logits.new_zeros(())
        if self.alpha or self.beta or self.gamma or not self.soft_mask:
            l_inst = discriminative_loss(
                embeddings,
                instance,
                semantic=classes,
                thing_ids=thing_ids,
                delta_var=self.delta_var,
                delta_dist=self.delta_dist,
                alpha=self.alpha,
                beta=self.beta,
                gamma=self.gamma,
            )
        if self.soft_mask:
            l_inst = l_inst + self.soft_mask * soft_mask_loss(
                embeddings,
                instance,
                seeds=None if seeds is None else seeds[:, :2],
                semantic=classes,
                thing_ids=thing_ids,
                delta_var=self.delta_var,
                overlap=self.overlap,
            )
        if self.density and seeds is not None and seeds.shape[1] > 2:
            l_inst = l_inst + self.density * density_loss(
                seeds[:, 2], instance, semantic=semantic, thing_ids=self.thing_ids
            )
        return PanopticLossTerms(l_sem + self.instance_weight * l_inst, l_sem.detach(), l_inst.detach())

    def _cross_entropy(self, logits: Tensor, semantic: Tensor) -> Tensor:
        labelled = semantic != IGNORE
        if self.class_weights is None:
            weight, total = None, labelled.sum().clamp_min(1)
        else:
            weight = self.class_weights.to(logits.device)
            total = weight[semantic[labelled]].sum().clamp_min(torch.finfo(torch.float32).tiny)
        return nn.functional.cross_entropy(logits, semantic, weight, ignore_index=IGNORE, reduction="sum") / total

    def _weighted_cross_entropy(self, logits: Tensor, semantic: Tensor, instance: Tensor) -> Tensor:
        weight = self._object_weights(semantic, instance) * (semantic != IGNORE)
        classes = None if self.class_weights is None else self.class_weights.to(logits.device)
        loss = nn.functional.cross_entropy(logits, semantic, classes, ignore_index=IGNORE, reduction="none")
        total = weight if classes is None else weight * classes[semantic.clamp_max(len(classes) - 1)]
        return (loss * weight).sum() / total.sum().clamp_min(torch.finfo(torch.float32).tiny)

    def _object_weights(self, semantic: Tensor, instance: Tensor) -> Tensor:
        """BxHxW float32: the weight of every pixel by the area of its object."""
        is_thing = torch.zeros(IGNORE + 1, dtype=torch.bool, device=semantic.device)
        is_thing[list(self.thing_ids)] = True
        in_object = (instance > 0) & is_thing[semantic]
        weights = torch.ones(semantic.shape, dtype=torch.float32, device=semantic.device)
        # Ids count over all classes, so image and id tell objects apart.
        image = torch.arange(len(instance), device=instance.device)[:, None, None].expand_as(instance)
        ids = instance[in_object].long()
        key = image[in_object] * (ids.max() + 1 if len(ids) else 1) + ids
        _, place, area = torch.unique(key, return_inverse=True, return_counts=True)
        if len(area):
            diameter = (area / area.median()).sqrt()
            weights[in_object] += self.small_objects * (1 - diameter).clamp_min(0)[place]
        return weights
