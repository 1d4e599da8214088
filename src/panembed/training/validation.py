"""How good a network is on validation images, between the epochs of a training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panembed.datasets.sample import Dataset
from panembed.errors import ModelError
from panembed.evaluation.scores import Evaluation
from panembed.inference.grouping import Grouping
from panembed.inference.preparation import Preparation
from panembed.labels.categories import IGNORE
from panembed.labels.panoptic_map import PanopticMap
from panembed.losses.panoptic import PanopticLoss
from panembed.training.transforms import TrainingSet

logger = logging.getLogger("panembed")


class _Truths(Sequence[PanopticMap]):
    """True maps of images, kept in memory as far as `max_bytes` go, the others read each time."""

    def __init__(self, dataset: Dataset, ids: Sequence[str], max_bytes: int = 1 << 30) -> None:
        self._dataset, self._ids = dataset, ids
        self._kept: list[PanopticMap] = []
        for id in ids:
            truth = dataset.read_truth(id)
            max_bytes -= truth.semantic.nbytes + truth.instance.nbytes
            if max_bytes < 0:
                break
            self._kept.append(truth)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        return self._kept[index] if index < len(self._kept) else self._dataset.read_truth(self._ids[index])


class Validation:
    """Figures on validation images from one pass: losses at the network's size, PQ at the images' own size.

    Args:
        dataset: the images.
        ids: which of them; may be none.
        preparation: how they become the network's input.
        grouping: how embeddings become objects.
        loss: of the training.
        device: where the network is.
    """

    def __init__(
        self,
        dataset: Dataset,
        ids: tuple[str, ...],
        preparation: Preparation,
        grouping: Grouping,
        loss: PanopticLoss,
        device: torch.device,
    ) -> None:
        self.label_set = dataset.label_set
        self.preparation, self.grouping = preparation, grouping
        self.examples = TrainingSet(dataset, ids, preparation)
        self.truths = _Truths(dataset, ids)
        self.loss, self.device = loss, device

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """Score a network; no figures where there are no validation images."""
        if not self.truths:
            return {}

        net.eval()
        evaluation = Evaluation(self.label_set)
        sums = np.zeros(3)
        for index, truth in enumerate(self.truths):
            example = self.examples[0, index]
            with torch.inference_mode():
                image = example.image[None].to(self.device, memory_format=torch.channels_last)
                scores, embeddings, *seeds = (output.float() for output in net(image))
                semantic, instance = example.semantic[None].to(self.device), example.instance[None].to(self.device)
                terms = self.loss(scores, embeddings, semantic, instance, *seeds)
            sums += [float(terms.total), float(terms.semantic), float(terms.instance)]
            outputs = [output[0].cpu().numpy() for output in (scores, embeddings, *seeds)]
            evaluation.add(str(index), self._group(outputs, truth.shape), truth)
        means = sums / len(self.truths)
        figures = {"val_loss": means[0], "val_semantic_loss": means[1], "val_instance_loss": means[2]}
        quality = evaluation.quality_result()
        for name, score in (
            ("val_pq", quality.all),
            ("val_pq_things", quality.things),
            ("val_pq_stuff", quality.stuff),
        ):
            figures[name] = float("nan") if score.pq is None else score.pq
        metrics = evaluation.metrics()
        figures |= {f"val_{name}": metrics[name] for name in ("sbd", "abs_dic") if name in metrics}
        return {name: float(value) for name, value in figures.items()}

    def _group(self, outputs: list[NDArray[np.float32]], shape: tuple[int, int]) -> PanopticMap:
        """The map, without an answer anywhere if the outputs are no numbers: a later epoch may mend that."""
        scores, embeddings, *seeds = outputs
        try:
            return self.grouping.group(scores, embeddings, self.label_set.things, self.preparation, shape, *seeds)
        except ModelError as error:
            logger.warning("%s", error)
            return PanopticMap(np.full(shape, IGNORE), np.zeros(shape, np.int32))
