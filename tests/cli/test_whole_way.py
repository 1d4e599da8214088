"""train -> evaluate -> predict on tiny data: the files of the contract, and what is in them."""

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from hotcoco.panoptic import PanopticEval
from PIL import Image

from panembed.io.coco_panoptic import decode_ids

pytestmark = pytest.mark.slow


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_data, tiny_config):
    from panembed.assembly import run
    from panembed.datasets.layout import open_dataset
    from panembed.settings.schema import Settings

    folder = tmp_path_factory.mktemp("way") / "run"
    run.train(Settings.load(config=tiny_config), open_dataset(tiny_data), folder)
    return folder


@pytest.fixture(scope="module")
def predicted(tmp_path_factory, tiny_model, tiny_data):
    """A prediction of all ten images, made once by calling the verb."""
    from panembed.cli.predict import predict

    folder = tmp_path_factory.mktemp("way") / "predicted"
    predict(tiny_model, [tiny_data / "images"], folder)
    return folder


def test_run_folder(run):
    for name in (
        "config.yaml",
        "environment.json",
        "train.log",
        "metrics.csv",
        "checkpoints/last.pt",
        "model/model.safetensors",
        "model/config.json",
        "model/README.md",
    ):
        assert (run / name).stat().st_size > 0, name
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["epochs"] == 2
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"] != "not installed"
    rows = rows_of(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"train_loss", "val_loss", "val_pq", "val_pq_things", "seconds", "learning_rate"} <= set(rows[0])
    assert "epoch 2" in (run / "train.log").read_text()
    card = (run / "model/README.md").read_text()
    assert "panembed predict" in card


def test_train_says_what_is_next(cli, tmp_path, tiny_data, tiny_config):
    outcome = cli(
        "train", "--config", tiny_config, "--data", tiny_data, "--output", tmp_path / "run",
        "--set", "training.epochs=1", "--seed", 7,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    assert "next: panembed evaluate" in outcome.err
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["training"]["seed"] == 7


def test_seed_decides(cli, tmp_path, tiny_data, tiny_config):
    def weights(name, seed):
        outcome = cli(
            "train", "--config", tiny_config, "--data", tiny_data, "--output", tmp_path / name,
            "--set", "training.epochs=1", "--seed", seed,
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        return (tmp_path / name / "model/model.safetensors").read_bytes()

    first = weights("a", 1)
    assert weights("b", 1) == first
    assert weights("c", 2) != first


def test_evaluate(cli, run, tmp_path, tiny_data):
    outcome = cli("evaluate", "--model", run, "--data", tiny_data, "--output", tmp_path / "test")
    assert outcome.code == 0, outcome.err
    assert "background" in outcome.out
    assert "written to" in outcome.err
    assert "written to" not in outcome.out
    metrics = json.loads((tmp_path / "test/metrics.json").read_text())
    for group in ("all", "things", "stuff"):
        assert {"pq", "sq", "rq"} <= set(metrics[group])
        assert metrics[group]["pq"] is None or 0 <= metrics[group]["pq"] <= 1
    assert set(metrics["per_class"]) == {"background", "object"}
    assert {"sbd", "abs_dic", "fbd", "images", "objects_true", "objects_predicted"} <= set(metrics)
    rows = rows_of(tmp_path / "test/per_image.csv")
    assert len(rows) == metrics["images"] == 2
    assert sum(int(row["objects_true"]) for row in rows) == metrics["objects_true"]
    split = json.loads((run / "split.json").read_text())
    assert [row["id"] for row in rows] == split["test"]


@pytest.mark.parametrize(("part", "count"), [("train", 6), ("val", 2), ("all", 10)])
def test_evaluate_another_part(cli, tiny_model, tmp_path, tiny_data, part, count):
    outcome = cli("evaluate", "-m", tiny_model, "--data", tiny_data, "--split", part, "-o", tmp_path, "--pictures", 0)
    assert outcome.code == 0, outcome.err
    assert len(rows_of(tmp_path / "per_image.csv")) == count


def test_evaluate_is_what_the_files_of_predict_give(cli, tiny_model, predicted, tmp_path, tiny_data):
    """The two ways to the same figure: our evaluation, and hotcoco on the files that predict wrote."""
    from panembed.datasets.layout import open_dataset
    from panembed.io.coco_panoptic import CocoPanopticWriter

    dataset = open_dataset(tiny_data)
    with CocoPanopticWriter(tmp_path / "truth", dataset.label_set) as writer:
        for id in dataset.ids:
            writer.add(f"{id}.png", dataset.read_truth(id))
    evaluation = PanopticEval(str(tmp_path / "truth/panoptic.json"), str(predicted / "panoptic.json"))
    evaluation.evaluate()
    theirs = evaluation.results()
    assert cli("evaluate", "-m", tiny_model, "--data", tiny_data, "--split", "all", "-o", tmp_path / "ours").code == 0
    ours = json.loads((tmp_path / "ours/metrics.json").read_text())
    for ours_name, name in (("all", "All"), ("things", "Things"), ("stuff", "Stuff")):
        assert ours[ours_name]["pq"] == pytest.approx(theirs[name]["pq"], abs=1e-9)


def test_predict_files(predicted, tiny_data):
    names = [p.stem for p in sorted((tiny_data / "images").iterdir())]
    content = json.loads((predicted / "panoptic.json").read_text())
    assert [i["file_name"] for i in content["images"]] == [f"{n}.png" for n in names]
    things = {c["id"] for c in content["categories"] if c["isthing"]}
    objects, summary = rows_of(predicted / "objects.csv"), rows_of(predicted / "summary.csv")
    assert [row["file"] for row in summary] == [f"{n}.png" for n in names]
    for name, entry, line in zip(names, content["annotations"], summary, strict=True):
        with Image.open(predicted / f"{name}_instances.png") as image:
            assert image.mode.startswith("I;16") or image.mode == "I"
            instances = np.asarray(image).astype(int)
        with Image.open(predicted / f"{name}_semantic.png") as image:
            semantic = np.asarray(image)
        with Image.open(predicted / "panoptic" / entry["file_name"]) as image:
            segments = decode_ids(np.asarray(image))
        with Image.open(predicted / f"{name}_overlay.png") as image:
            assert image.mode == "RGB"
        assert instances.shape == semantic.shape == segments.shape == (64, 64)
        own = [row for row in objects if row["file"] == f"{name}.png"]
        numbers = sorted(set(np.unique(instances).tolist()) - {0})
        assert numbers == [int(row["instance_id"]) for row in own] == list(range(1, len(own) + 1))
        assert int(line["objects"]) == len(own)
        things_here = [s for s in entry["segments_info"] if s["category_id"] in things]
        assert len(things_here) == len(own)
        for row, segment in zip(own, things_here, strict=True):
            mask = instances == int(row["instance_id"])
            assert (mask == (segments == segment["id"])).all()
            assert mask.sum() == int(row["area"]) == segment["area"]
            assert (semantic[mask] == segment["category_id"]).all()


def test_predict_json_against_itself(predicted):
    evaluation = PanopticEval(*[str(predicted / "panoptic.json")] * 2)
    evaluation.evaluate()
    assert evaluation.results()["All"]["pq"] == pytest.approx(1.0)


def test_predict_says_only_on_stderr(cli, tiny_model, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    image = tiny_data / "images/plant0000.png"
    outcome = cli("predict", "--model", tiny_model, image, "--output", tmp_path)
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    assert "1 image, " in outcome.err
    assert "\x1b" not in outcome.err
    assert not (tmp_path / "failed.csv").exists()


def test_from_python(run, tiny_data, predicted, tiny_model):
    import panembed

    result = panembed.load(tiny_model).predict(tiny_data / "images/plant0003.png")
    with Image.open(predicted / "plant0003_instances.png") as image:
        assert (np.asarray(image).astype(int) == result.instance_ids()).all()
    assert len(result.measure()) == sum(result.counts().values())
    assert isinstance(panembed.load(run).predict(np.zeros((40, 50, 3), np.uint8)).panoptic.shape, tuple)


@pytest.mark.parametrize("terminated", [False, True])
def test_interrupted_while_predicting(cli, tiny_model, tiny_data, tmp_path, monkeypatch, terminated):
    from panembed.inference.predictor import PanopticModel

    whole = PanopticModel.predict_files

    def two(self, paths):
        for number, found in enumerate(whole(self, paths)):
            if number == 2 and terminated:
                signal.raise_signal(signal.SIGTERM)
            if number == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(PanopticModel, "predict_files", two)
    outcome = cli("predict", "-m", tiny_model, tiny_data / "images", "-o", tmp_path / "p")
    assert outcome.code == 130
    done = len(rows_of(tmp_path / "p/summary.csv"))
    assert done == len(list((tmp_path / "p").glob("*_instances.png"))) <= 2
    assert f"interrupted; {done} of 10 images are done" in outcome.err


def test_results_never_go_among_the_images(cli, tiny_model, tiny_data, tmp_path, files_of):
    shutil.copytree(tiny_data / "images", tmp_path / "photos")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    before = files_of(tmp_path / "photos")
    for place in ("photos", "link"):
        outcome = cli("predict", "-m", tiny_model, tmp_path / "photos", "-o", tmp_path / place, "--overwrite")
        assert outcome.code == 1
        assert f"{place}: holds the images that are to be read; choose another folder" in outcome.sentence()
    assert files_of(tmp_path / "photos") == before


def test_other_settings_this_time(cli, tiny_model, tiny_data, tmp_path, files_of):
    """With a smallest object of more than the image there is no object; the model stays as it is."""
    before = files_of(tiny_model)
    most = "grouping.min_area=5000"
    outcome = cli("predict", "-m", tiny_model, tiny_data / "images", "-o", tmp_path / "p", "--set", most)
    assert outcome.code == 0, outcome.err
    assert rows_of(tmp_path / "p/objects.csv") == []
    assert cli("evaluate", "-m", tiny_model, "--data", tiny_data, "-o", tmp_path / "e", "--set", most).code == 0
    metrics = json.loads((tmp_path / "e/metrics.json").read_text())
    assert (metrics["objects_predicted"], metrics["overrides"]) == (0, [most])
    assert files_of(tiny_model) == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--set", "training.epochs=3"), "expected a setting of input or grouping"),
        (("--set", "grouping.method=seed_map"), "grouping.method seed_map needs a seed head, and this model has none"),
        (("--set", "grouping.recount=1"), "grouping.recount has no effect with grouping.method mean_shift"),
        (("--set", "input.size=[70, 70]"), "expected multiples of 32"),
        (("--pixel-size", "0"), "--pixel-size: pixel size '0': expected a length above 0"),
    ],
)
def test_settings_that_a_model_cannot_take(cli, tiny_model, tiny_data, tmp_path, options, told):
    outcome = cli("predict", "-m", tiny_model, tiny_data / "images", "-o", tmp_path / "p", *options)
    assert outcome.code == 2
    assert told in outcome.sentence()
    assert not (tmp_path / "p").exists()


def test_a_pixel_size_adds_lengths(cli, tiny_model, tiny_data, tmp_path, predicted):
    images = tiny_data / "images"
    assert cli("predict", "-m", tiny_model, images, "-o", tmp_path / "p", "--pixel-size", 0.25).code == 0
    plain, scaled = rows_of(predicted / "objects.csv"), rows_of(tmp_path / "p/objects.csv")
    assert len(plain) == len(scaled) > 0
    for before, after in zip(plain, scaled):
        assert before.items() <= after.items()
        assert float(after["area_physical"]) == int(before["area"]) / 16


@pytest.mark.parametrize("colorful", [False, True])
def test_no_color(cli, tiny_model, tiny_data, tmp_path, monkeypatch, colorful):
    monkeypatch.setenv("NO_COLOR", "1")
    if colorful:
        monkeypatch.setenv("FORCE_COLOR", "1")
    outcome = cli("evaluate", "-m", tiny_model, "--data", tiny_data, "-o", tmp_path / "e", "--pictures", 0)
    assert outcome.code == 0, outcome.err
    assert "\x1b[3" not in outcome.out + outcome.err
    assert "\x1b[9" not in outcome.out + outcome.err


def test_more_objects_than_a_png_counts(tmp_path):
    """Beyond 65,535 the ids go to a TIFF of 32 bits."""
    from panembed.datasets.folder import OBJECTS
    from panembed.labels.panoptic_map import PanopticMap
    from panembed.results.result import PanopticResult

    ids = np.arange(1, 256 * 257 + 1).reshape(256, 257)
    result = PanopticResult(PanopticMap(np.ones(ids.shape, int), ids), OBJECTS, np.zeros((256, 257, 3), np.uint8), "m")
    paths = result.save(tmp_path)
    assert paths[0] == tmp_path / "m_instances.tif"
    read = tifffile.imread(paths[0])
    assert read.dtype == np.uint32
    assert (read == ids).all()


def test_dry_run_writes_nothing(cli, tiny_data, tiny_config, tmp_path, files_of):
    before = files_of(tiny_data)
    outcome = cli("train", "--config", tiny_config, "--data", tiny_data, "-o", tmp_path / "run", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(outcome.out)["input"]["size"] == [64, 64]
    assert "6 training, 2 validation and 2 test images" in outcome.err
    assert not (tmp_path / "run").exists()
    assert files_of(tiny_data) == before
    # What it prints is a settings file.
    (tmp_path / "again.yaml").write_text(outcome.out)
    again = cli("train", "--config", tmp_path / "again.yaml", "--data", tiny_data, "-o", tmp_path / "run", "--dry-run")
    assert again.out == outcome.out


def test_presets_can_be_tried_dry(cli, tiny_data, tmp_path):
    from panembed.settings.schema import preset_names

    for preset in preset_names():
        # The data's things are no trucks.
        options = ["--set", "grouping.by_class={}"] if preset == "cityscapes" else []
        outcome = cli("train", "--preset", preset, "--data", tiny_data, "-o", tmp_path / "run", "--dry-run", *options)
        assert outcome.code == 0, outcome.err


def test_overwrite_leaves_strangers_alone(cli, tiny_model, tiny_data, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    image = tiny_data / "images/plant0000.png"
    arguments = ["predict", "--model", tiny_model, image, "--output", tmp_path]
    assert cli(*arguments).code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    assert cli(*arguments, "--overwrite").code == 0
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert Path(tmp_path / "summary.csv").exists()
