"""Models that come with the package: they are found by name, and those that ship are what they should be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import panembed
from panembed.assembly.trained_model import split_of
from panembed.datasets.layout import open_dataset
from panembed.datasets.part import choose_ids
from panembed.datasets.samples import sample_nuclei
from panembed.datasets.splits import Split
from panembed.datasets.synthetic import SyntheticDataset, write_folder
from panembed.errors import InputError, ModelError
from panembed.inference import model_folder
from panembed.inference.model_config import read_config, update_grouping
from panembed.inference.model_folder import is_shipped, resolve_model_folder, shipped_folder, shipped_names


@pytest.fixture
def plants(tmp_path, tiny_model, monkeypatch):
    """A package with one shipped model, `plants`, called from a folder that holds nothing."""
    monkeypatch.setattr(model_folder, "SHIPPED", tmp_path / "package/shipped")
    folder = shutil.copytree(tiny_model, tmp_path / "package/shipped/plants")
    (tmp_path / "package/shipped/.half-written").mkdir()
    (tmp_path / "package/shipped/.half-written/config.json").write_text("{}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_names(plants):
    assert shipped_names() == ["plants"]
    assert shipped_folder("plants") == resolve_model_folder("plants") == plants


def test_a_package_without_models(tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "SHIPPED", tmp_path / "none")
    assert shipped_names() == []
    with pytest.raises(ModelError, match=r"^model leaf: no such file or folder; expected a folder that [^;]*$"):
        resolve_model_folder("leaf")


def test_what_lies_on_the_disk_wins(plants, tiny_model):
    shutil.copytree(tiny_model, "plants")
    assert resolve_model_folder("plants").resolve() != plants
    shutil.rmtree("plants/")
    shutil.copytree(tiny_model, "plants/model")
    assert resolve_model_folder("plants").as_posix() == "plants/model"


def test_a_folder_that_is_no_model_is_no_hindrance(plants, tmp_path):
    """Photos of plants may lie in a folder called plants."""
    (tmp_path / "here/plants").mkdir()
    assert resolve_model_folder("plants") == plants
    (tmp_path / "here/photos").mkdir()
    with pytest.raises(ModelError, match="neither a run folder nor a model folder"):
        resolve_model_folder("photos")


@pytest.mark.parametrize(
    ("name", "hint"), [("plant", True), ("Plants", True), ("plnats", True), ("xyz", False), ("leaf/plants", False)]
)
def test_unknown_names(cli, plants, tiny_data, name, hint):
    outcome = cli("predict", "--model", name, tiny_data / "images", "--output", "out")
    assert outcome.code == 1
    sentence = outcome.sentence()
    assert sentence.startswith(f"panembed: model {name}: no such file or folder")
    assert "one of plants" in sentence
    # A path that isn't there is no name that was mistyped.
    assert ("did you mean 'plants'?" in sentence) == hint


@pytest.mark.slow
def test_predict_by_name(cli, plants, tiny_data, tiny_model, files_of):
    photo = tiny_data / "images/plant0001.png"
    before = files_of(plants)
    for model, output in (("plants", "by-name"), (tiny_model, "by-path")):
        outcome = cli("predict", "--model", model, photo, "--output", output)
        assert outcome.code == 0, outcome.err
    by_name, by_path = files_of("by-name"), files_of("by-path")
    assert "plant0001_overlay.png" in by_name
    assert by_name["plant0001_instances.png"] == by_path["plant0001_instances.png"]
    assert by_name["objects.csv"] == by_path["objects.csv"]
    assert files_of(plants) == before
    ours = panembed.load("plants", device="cpu").predict(photo).panoptic
    theirs = panembed.load(tiny_model, device="cpu").predict(photo).panoptic
    assert np.array_equal(ours.instance, theirs.instance)


@pytest.mark.slow
def test_evaluate_by_name_scores_the_images_that_the_model_has_not_seen(cli, plants, tiny_data, tiny_model):
    for model, output in (("plants", "by-name"), (tiny_model, "by-path")):
        outcome = cli("evaluate", "--model", model, "--data", tiny_data, "--split", "test", "--output", output)
        assert outcome.code == 0, outcome.err
    for name in ("metrics.json", "per_image.csv"):
        with open(f"by-name/{name}") as ours, open(f"by-path/{name}") as theirs:
            assert ours.read() == theirs.read()
    with open("by-name/per_image.csv") as file:
        ids = {line.split(",")[0] for line in file} - {"id"}
    assert ids == set(read_config(plants).split["test"])


def test_data_that_the_split_is_not_of(plants, tmp_path, caplog):
    """All test images are missing, or one of two."""
    strangers = sample_nuclei()
    split = split_of("plants")
    # The sample has a split of its own.
    own = json.loads((strangers.root / "split.json").read_text())
    assert set(choose_ids(strangers, "test", split)) == set(own["test"])
    write_folder(SyntheticDataset(10, size=64), tmp_path / "data")
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind / f"{split.test[0]}.png").unlink()
    part = open_dataset(tmp_path / "data")
    assert caplog.text == ""
    assert choose_ids(part, "test", split) == split.test[1:]
    assert f"lacks 1 of the model's 2 test images, {split.test[0]} among them" in caplog.text
    caplog.clear()
    assert choose_ids(part, "train", split) == split.train
    assert caplog.text == ""


def test_what_an_earlier_model_learned_from_is_told(plants, tmp_path, caplog, tiny_data):
    """A run that starts from a model with another split, and its scores."""
    from panembed.assembly import trained_model
    from panembed.assembly.trainer import trainer
    from panembed.datasets.splits import make_split
    from panembed.settings.schema import Settings

    dataset, first = open_dataset(tiny_data), split_of("plants")
    settings = Settings.from_mapping(read_config(plants).settings | {"training": {"epochs": 1}})
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"start_from": "plants"})})
    split = make_split(dataset.ids, seed=8)
    known = set(split.test) & set(first.train)
    assert known
    built = trainer(settings, dataset, split, tmp_path, device_name="cpu")
    assert f"{len(known)} of the 2 test images have the names of images that plants learned from" in caplog.text
    caplog.clear()
    built.save_best(built.network, {"epoch": 1})
    assert set(read_config(tmp_path / "model").seen) == set(first.train)
    ids = choose_ids(dataset, "test", split_of(tmp_path / "model"), trained_model.seen_before(tmp_path / "model"))
    assert ids == split.test
    assert (
        f"{len(known)} of the 2 images have names of images that a model that this one started from was" in caplog.text
    )
    caplog.clear()
    trainer(settings, dataset, first, tmp_path, device_name="cpu")
    assert "have the names" not in caplog.text


def test_one_name_in_common_is_not_the_models_data(plants, tmp_path, caplog):
    """A folder with a split of its own, where most of the model's test images are missing, keeps its own."""
    write_folder(SyntheticDataset(12, size=64), tmp_path / "data")
    dataset, split = open_dataset(tmp_path / "data"), split_of("plants")
    own = Split(split.val, split.test, ("plant0010", "plant0011"))
    own.write(tmp_path / "data/split.json")
    many = Split((), (), (*split.test, "x", "y", "z"))
    assert choose_ids(dataset, "test", many) == own.test
    assert caplog.text == ""
    # Settings chosen on the model's test images would spoil them; and all images are some that it was trained on.
    few = Split(split.train, ("x",), split.test)
    assert choose_ids(dataset, "val", few) == own.val
    assert "2 of the 2 images have names of images that are for testing the model" in caplog.text
    caplog.clear()
    assert choose_ids(dataset, "all", split) == tuple(dataset.ids)
    assert f"{len(split.train)} of the 12 images have names of images that the model was trained on" in caplog.text


def test_a_split_of_the_folder_that_tests_what_the_model_learned_from(plants, tmp_path, caplog):
    """None of the model's test images is there, but some that it was trained on are."""
    split = split_of("plants")
    data = SyntheticDataset(10, size=64)
    write_folder(data, tmp_path / "data")
    for id in split.test:
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / f"{id}.png").unlink()
    with pytest.raises(InputError, match=r"no split\.json there and none of the model's 2 test images; .*--split all"):
        choose_ids(open_dataset(tmp_path / "data"), "test", split)
    with pytest.raises(InputError, match=r"and the model has no val images; .*data split.* or take another --split"):
        choose_ids(open_dataset(tmp_path / "data"), "val", Split(split.train, (), split.test))
    Split(split.val, (), split.train[:3]).write(tmp_path / "data/split.json")
    assert choose_ids(open_dataset(tmp_path / "data"), "test", split) == split.train[:3]
    assert "3 of the 3 images have names of images that the model was trained on" in caplog.text
    assert choose_ids(open_dataset(tmp_path / "data"), "val", split) == split.val
    Split(split.val, (), ()).write(tmp_path / "data/split.json")
    with pytest.raises(InputError, match=r"split\.json: no image is for test"):
        choose_ids(open_dataset(tmp_path / "data"), "test", split)


def test_start_from_a_name_that_is_not_there(cli, plants, tiny_data, tiny_config):
    """Told before anything starts; a name that is there passes."""
    arguments = ["train", "--config", tiny_config, "--data", tiny_data, "--output", "run", "--dry-run", "--set"]
    outcome = cli(*arguments, "model.start_from=plant")
    assert outcome.code == 1
    assert "did you mean 'plants'?" in outcome.sentence()
    assert cli(*arguments, "model.start_from=plants").code == 0


@pytest.mark.slow
def test_train_on_from_a_name(cli, plants, tiny_data, tiny_config):
    outcome = cli(
        "train", "--config", tiny_config, "--data", tiny_data, "--output", "run",
        "--set", "model.start_from=plants", "--set", "training.epochs=1", "--set", "training.learning_rate=1e-12",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    # With steps of no length they are still where they began.
    ended, began = load_file("run/model/model.safetensors"), load_file(plants / "model.safetensors")
    weights = [name for name, value in began.items() if value.ndim >= 2]
    assert len(weights) > 10
    for name in weights:
        np.testing.assert_allclose(ended[name], began[name], atol=1e-8)


@pytest.mark.slow
def test_experiment_with_a_name(cli, plants, tiny_data, tiny_config):
    with open("table.yaml", "w") as file:
        json.dump(
            {
                "title": "From a shipped model",
                "config": str(tiny_config),
                "seeds": [0],
                "variants": [{"name": "anew"}, {"name": "from", "set": {"model.start_from": "plant"}}],
            },
            file,
        )
    outcome = cli("experiment", "table.yaml", "--data", tiny_data, "--output", "out", "--dry-run")
    assert outcome.code == 1
    assert "did you mean 'plants'?" in outcome.sentence()


def test_nothing_changes_a_shipped_model(plants, tmp_path, files_of):
    before = files_of(plants)
    assert is_shipped(plants)
    with pytest.raises(ModelError, match="copy the folder"):
        update_grouping(plants, {"min_area": 9}, {})
    assert files_of(plants) == before
    copy = shutil.copytree(plants, tmp_path / "mine")
    assert not is_shipped(copy)
    update_grouping(copy, {"min_area": 9}, {})
    assert read_config(copy).settings["grouping"]["min_area"] == 9


def test_info_lists_them(cli, plants):
    outcome = cli("info")
    assert outcome.code == 0
    line = next(line for line in outcome.out.splitlines() if line.startswith("model plants"))
    assert "object" in line
    assert "MB" in line
    (plants / "config.json").write_text("{")
    assert str(plants) in cli("info").sentence()


@pytest.mark.slow
def test_info_needs_no_torch(plants):
    code = (
        "import sys; from pathlib import Path; from panembed.inference import model_folder\n"
        f"model_folder.SHIPPED = Path({str(plants.parent)!r})\n"
        "from panembed.cli.info import info; info()\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "model plants" in result.stdout
