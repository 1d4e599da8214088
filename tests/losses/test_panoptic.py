"""The sum of both losses: which objects are pushed apart."""

import pytest
import torch

from panembed.losses.discriminative import discriminative_loss
from panembed.losses.panoptic import PanopticLoss


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
