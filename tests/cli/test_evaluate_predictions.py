"""`panembed evaluate --predictions`: files of any tool against truth."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval

from panembed.datasets.layout import open_dataset
from panembed.io.coco_panoptic import CocoPanopticWriter
from panembed.io.images import write_png
from panembed.labels.packing import pack
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.result import PanopticResult

pytestmark = pytest.mark.slow  # each runs a whole command

FORMATS = ("predict", "coco", "instances", "packed")


def write(folder, dataset, format, change=lambda panoptic: panoptic):
    """Predictions in a format; `predict` writes two at once."""
    coco = CocoPanopticWriter(folder, dataset.label_set)
    for id in dataset.ids:
        panoptic = change(dataset.read_truth(id))
        if format in ("predict", "coco"):
            coco.add(f"{id}.jpg", panoptic)
        if format == "predict":
            PanopticResult(panoptic, dataset.label_set, dataset.read_image(id), id).save(folder)
        folder.mkdir(exist_ok=True)
        if format == "instances":
            write_png(folder / f"{id}.png", panoptic.instance.astype(np.uint16))
        if format == "packed":
            write_png(folder / f"{id}.png", pack(panoptic, dataset.label_set).astype(np.uint16))
    if format in ("predict", "coco"):
        coco.close()
    return folder


def worse(panoptic):
    """Moved by two pixels, and the first object gone."""
    semantic, instance = (np.roll(a, 2, axis=0) for a in (panoptic.semantic, panoptic.instance))
    gone = instance == 1
    return PanopticMap(np.where(gone, 0, semantic), np.where(gone, 0, instance))


@pytest.fixture
def dataset(tiny_data):
    return open_dataset(tiny_data)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("format", FORMATS)
def test_truth_against_itself(cli, tmp_path, tiny_data, dataset, format):
    write(tmp_path / "in", dataset, format)
    outcome = cli(
        "evaluate", "--predictions", tmp_path / "in", "--data", tiny_data, "-o", tmp_path / "out", "--pictures", 0
    )
    assert outcome.code == 0, outcome.err
    metrics = metrics_of(tmp_path / "out")
    for group in ("all", "things", "stuff"):
        assert metrics[group]["pq"] == 1.0
    assert metrics["ap"] == metrics["ap50"] == metrics["miou"] == metrics["sbd"] == metrics["fbd"] == 1.0
    assert metrics["images"] == len(dataset) == 10
    kind = {"predict": "coco-panoptic", "coco": "coco-panoptic", "packed": "class-instance"}.get(format, format)
    said = " ".join(outcome.err.split())
    assert f"10, read as {kind} (if that is wrong: --prediction-format)" in said
    assert "scored: all images; written to" in said
    assert "AP 100.0, AP50 100.0; mIoU 100.0" in " ".join(outcome.out.split())


def test_pq_of_files_is_that_of_hotcoco(cli, tmp_path, tiny_data, dataset):
    write(tmp_path / "truth", dataset, "coco")
    write(tmp_path / "in", dataset, "coco", worse)
    theirs = PanopticEval(str(tmp_path / "truth/panoptic.json"), str(tmp_path / "in/panoptic.json"))
    theirs.evaluate()
    file = tmp_path / "in/panoptic.json"
    outcome = cli("evaluate", "--predictions", file, "--data", tiny_data, "-o", tmp_path / "out", "--pictures", 2)
    assert outcome.code == 0, outcome.err
    metrics = metrics_of(tmp_path / "out")
    for name, group in (("All", "all"), ("Things", "things"), ("Stuff", "stuff")):
        for figure in ("pq", "sq", "rq"):
            assert metrics[group][figure] == pytest.approx(theirs.results()[name][figure], abs=1e-9)
    assert 0 < metrics["ap"] < metrics["ap50"] < 1
    assert 0 < metrics["miou"] < 1
    assert set(metrics["per_class"]["object"]) >= {"pq", "iou", "ap", "ap50"}
    names = {"metrics.json", "per_image.csv", "scores.md", "scores.tex", "worst.png", "worst_errors.png", "errors.png"}
    names |= {"data.json", "panoptic.json", "panoptic"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert f"{100 * metrics['ap']:.1f}" in (tmp_path / "out/scores.md").read_text()
    assert (tmp_path / "out/scores.tex").read_text().splitlines()[-1].startswith("panoptic & ")
    with (tmp_path / "out/per_image.csv").open(newline="") as rows:
        assert [row["id"] for row in csv.DictReader(rows)] == dataset.ids


def test_truth_without_photographs(cli, tmp_path, dataset):
    """COCO panoptic truth needs none; then the worst images are drawn without them."""
    write(tmp_path / "truth", dataset, "coco")
    write(tmp_path / "in", dataset, "packed", worse)
    outcome = cli("evaluate", "--predictions", tmp_path / "in", "--data", tmp_path / "truth", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert 0 < metrics_of(tmp_path / "out")["all"]["pq"] < 1
    assert {"worst.png", "worst_errors.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_split_of_the_data(cli, tmp_path, tiny_data, dataset):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    assert cli("data", "split", data).code == 0
    write(tmp_path / "in", dataset, "packed")
    arguments = ("evaluate", "--predictions", tmp_path / "in", "--data", data, "--pictures", 0)
    outcome = cli(*arguments, "-o", tmp_path / "test")
    assert outcome.code == 0, outcome.err
    assert "scored: test images" in outcome.err
    assert "ignored" not in outcome.err
    assert metrics_of(tmp_path / "test")["images"] < 10
    assert cli(*arguments, "-o", tmp_path / "all", "--split", "all").code == 0
    assert metrics_of(tmp_path / "all")["images"] == 10


def test_missing_and_left_over(cli, tmp_path, tiny_data, dataset):
    folder = write(tmp_path / "in", dataset, "packed")
    (folder / f"{dataset.ids[0]}.png").rename(folder / "other.png")
    arguments = ("evaluate", "--predictions", folder, "--data", tiny_data, "-o", tmp_path / "out", "--pictures", 0)
    outcome = cli(*arguments)
    assert outcome.code == 1
    assert f"has no prediction for {dataset.ids[0]}; expected" in outcome.sentence()
    assert "--allow-missing" in outcome.sentence()
    assert not (tmp_path / "out").exists()
    outcome = cli(*arguments, "--allow-missing")
    assert outcome.code == 0, outcome.err
    assert "1 of 10 images have no prediction and count as empty" in outcome.err
    assert "ignored, as no image of the truth has that name" in outcome.err
    metrics = metrics_of(tmp_path / "out")
    assert metrics["stuff"]["fn"] == 1
    assert metrics["things"]["fn"] > 1
    assert metrics["all"]["fp"] == 0


def test_least_area(cli, tmp_path, tiny_data, dataset):
    write(tmp_path / "in", dataset, "packed", worse)
    arguments = ("evaluate", "--predictions", tmp_path / "in", "--data", tiny_data, "--pictures", 0)
    assert cli(*arguments, "-o", tmp_path / "a").code == 0
    assert cli(*arguments, "-o", tmp_path / "b", "--ap-min-area", 60).code == 0
    every, large = metrics_of(tmp_path / "a"), metrics_of(tmp_path / "b")
    assert (every["ap_min_area"], large["ap_min_area"]) == (0, 60)
    assert large["ap"] > every["ap"]
    assert large["all"] == every["all"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected exactly one of them, found none"),
        (("--model", "m", "--predictions", "p"), "expected exactly one of them, found both"),
        (("--predictions", "p", "--device", "cpu"), "--device has no effect with --predictions"),
        (("--predictions", "p", "--set", "grouping.min_area=9"), "--set has no effect with --predictions"),
        (("--model", "m", "--allow-missing"), "--allow-missing has no effect with --model"),
        (("--model", "m", "--prediction-format", "instances"), "--prediction-format has no effect with --model"),
        (("--predictions", ".", "--prediction-format", "classes"), "prediction format 'classes' is unknown"),
    ],
    ids=["none", "both", "device", "set", "missing", "format", "unknown"],
)
def test_options_that_do_not_go_together(cli, tmp_path, tiny_data, arguments, message):
    outcome = cli("evaluate", *arguments, "--data", tiny_data, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.sentence()
    assert not (tmp_path / "out").exists()


def test_another_size(cli, tmp_path, tiny_data, dataset):
    folder = write(tmp_path / "in", dataset, "packed")
    write_png(folder / f"{dataset.ids[3]}.png", np.zeros((32, 16), np.uint16))
    outcome = cli("evaluate", "--predictions", folder, "--data", tiny_data, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert f"is 16x32 pixels, but the truth of {dataset.ids[3]} is 64x64" in outcome.sentence().replace("\n", " ")


def test_a_damaged_photograph_costs_a_picture_only(cli, tmp_path, tiny_data, dataset):
    shutil.copytree(tiny_data, tmp_path / "data")
    for path in (tmp_path / "data/images").iterdir():
        path.write_text("no picture")
    write(tmp_path / "in", dataset, "packed", worse)
    arguments = ("evaluate", "--predictions", tmp_path / "in", "-o", tmp_path / "out", "--data")
    outcome = cli(*arguments, tmp_path / "data")
    assert outcome.code == 0, outcome.err
    assert "things" in outcome.out
    assert (tmp_path / "out/worst.png").is_file()
    again = cli(*arguments, tiny_data, "--overwrite", "--pictures", 0)
    assert again.code == 0, again.err
    assert not (tmp_path / "out/worst.png").exists(), "of the evaluation before"
    assert again.out == outcome.out


def test_labels_of_a_layout_that_knows_its_own(cli, tmp_path, dataset):
    write(tmp_path / "truth", dataset, "coco")
    write(tmp_path / "in", dataset, "packed")
    arguments = ("--predictions", tmp_path / "in", "--data", tmp_path / "truth", "-o", tmp_path / "out")
    outcome = cli("evaluate", *arguments, "--labels", tmp_path / "labels.yaml")
    assert outcome.code == 2
    assert "--labels has no effect on data format coco-panoptic" in outcome.sentence()
