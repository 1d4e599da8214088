"""What an evaluation tells of objects' scores, and when it can't."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.synthetic import SyntheticDataset
from panembed.evaluation.scores import Evaluation, evaluate_model
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.scored_precision import reliability
from panembed.report.reliability import reliability_plot

PLANTS = SyntheticDataset(3, size=64)


class Guesses:
    """Gives the truth with a spurious object, of which it is less sure."""

    label_set = PLANTS.label_set

    def __init__(self) -> None:
        self.turn = 0

    def segment(self, image: np.ndarray) -> PanopticMap:
        raise AssertionError("scores are wanted")

    def segment_scored(self, image: np.ndarray) -> tuple[PanopticMap, np.ndarray]:
        truth = PLANTS.read_truth(PLANTS.ids[self.turn])
        self.turn += 1
        semantic, instance = truth.semantic.copy(), truth.instance.copy()
        semantic[:2, :2], instance[:2, :2] = 1, 99
        panoptic = PanopticMap(semantic, instance)
        return panoptic, np.append(np.full(panoptic.num_instances - 1, 0.95), 0.1)


def test_a_model_that_knows_its_errors(tmp_path: Path) -> None:
    evaluation = evaluate_model(Guesses(), PLANTS, PLANTS.ids)
    metrics = evaluation.metrics()
    assert metrics["coco_ap"] == metrics["coco_ap50"] == metrics["per_class"]["leaf"]["coco_ap"] == 1
    told = metrics["score_reliability"]
    assert told["auc"] == 1
    assert [(row["from"], row["objects"], row["matched"]) for row in told["bins"]] == [
        (0.1, 3, 0.0),
        (0.9, metrics["objects_true"], 1.0),
    ]
    found = metrics["objects_true"]
    assert metrics["accuracy@0.5"] == metrics["accuracy@0.9"] == pytest.approx(found / (found + 3))
    assert [key for key in metrics if key.startswith("accuracy@")] == [
        f"accuracy@{value:.2g}" for value in np.arange(0.5, 0.91, 0.05)
    ]
    evaluation.write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["score_reliability"] == told


def test_one_image_without_scores_leaves_them_out() -> None:
    evaluation, truth = Evaluation(PLANTS.label_set), PLANTS.read_truth(PLANTS.ids[0])
    evaluation.add("a", truth, truth, np.ones(truth.num_instances))
    assert evaluation.metrics()["coco_ap"] == 1
    evaluation.add("b", truth, truth)
    assert "coco_ap" not in evaluation.metrics()
    assert evaluation.reliability() is None


def test_no_objects_at_all() -> None:
    evaluation = Evaluation(PLANTS.label_set)
    empty = PanopticMap(np.zeros((4, 4), int), np.zeros((4, 4), int))
    evaluation.add("a", empty, empty, np.zeros(0))
    metrics = evaluation.metrics()
    assert metrics["coco_ap"] is None
    assert metrics["accuracy@0.5"] is None
    assert metrics["score_reliability"]["expected_calibration_error"] is None


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200)
    reliability_plot(reliability(scores, rng.random(200) < scores), tmp_path / "reliability.png")
    with Image.open(tmp_path / "reliability.png") as picture:
        assert min(picture.size) > 400
