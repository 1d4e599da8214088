"""`panembed evaluate`: the error census, and --oracle."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.layout import open_dataset
from panembed.evaluation.oracle import VARIANTS
from panembed.io.coco_panoptic import CocoPanopticWriter
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.error_census import PREDICTED_LABELS, TRUE_LABELS

pytestmark = pytest.mark.slow  # each runs a whole command


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def check_census(folder, metrics):
    """It adds up, in metrics.json and over the rows of per_image.csv, to the counts of Panoptic Quality."""
    census = metrics["census"]
    assert census["true"]["found"] == metrics["things"]["tp"] == census["predicted"]["found"]
    assert census["true"]["objects"] == metrics["objects_true"]
    assert census["predicted"]["objects"] == metrics["objects_predicted"]
    with (folder / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for kind, prefix, names in (("true", "", TRUE_LABELS), ("predicted", "predicted_", PREDICTED_LABELS)):
        for name in names:
            assert sum(int(row[f"census_{prefix}{name}"]) for row in rows) == census[kind][name]
    with Image.open(folder / "errors.png") as picture:
        assert picture.width > 500


def test_census_of_predictions(cli, tmp_path, tiny_data):
    """All objects found, then the same with all objects of an image made one."""
    dataset = open_dataset(tiny_data)
    with CocoPanopticWriter(tmp_path / "in", dataset.label_set) as writer:
        for number, id in enumerate(dataset.ids):
            panoptic = dataset.read_truth(id)
            if number == 0:
                panoptic = PanopticMap(panoptic.semantic, np.minimum(panoptic.instance, 1))
            writer.add(f"{id}.png", panoptic)
    outcome = cli("evaluate", "--predictions", tmp_path / "in", "--data", tiny_data, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    metrics = metrics_of(tmp_path / "out")
    check_census(tmp_path / "out", metrics)
    assert metrics["census"]["predicted"]["merged"] == 1
    assert metrics["census"]["true"]["merged"] == dataset.read_truth(dataset.ids[0]).num_instances
    assert metrics["census"]["true"]["missed"] == 0
    assert "wrong class" in outcome.out
    assert "oracle" not in metrics


def test_oracle(cli, tmp_path, tiny_data, tiny_model):
    arguments = ("evaluate", "-m", tiny_model, "--data", tiny_data, "--split", "val", "--pictures", 0)
    outcome = cli(*arguments, "-o", tmp_path / "with", "--oracle")
    assert outcome.code == 0, outcome.err
    assert cli(*arguments, "-o", tmp_path / "without").code == 0
    ours, usual = metrics_of(tmp_path / "with"), metrics_of(tmp_path / "without")
    check_census(tmp_path / "with", ours)
    oracle = ours.pop("oracle")
    assert ours == usual
    assert (tmp_path / "with/per_image.csv").read_text() == (tmp_path / "without/per_image.csv").read_text()
    assert not (tmp_path / "without/oracle.json").exists()
    assert json.loads((tmp_path / "with/oracle.json").read_text()) == oracle
    assert list(oracle) == list(VARIANTS)
    assert oracle["predicted"]["pq_things"] == pytest.approx(usual["things"]["pq"])
    lines = (tmp_path / "with/oracle.md").read_text().splitlines()
    assert lines[0] == "| | things PQ | things SQ | things RQ | PQ | SBD | abs. DiC |"
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(VARIANTS.values())
    for title in VARIANTS.values():
        assert title in outcome.out


def test_oracle_needs_a_model(cli, tmp_path, tiny_data):
    outcome = cli("evaluate", "--predictions", "p", "--data", tiny_data, "-o", tmp_path / "out", "--oracle")
    assert outcome.code == 2
    assert "--oracle has no effect with --predictions" in outcome.sentence()
