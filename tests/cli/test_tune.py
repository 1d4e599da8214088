"""`panembed tune`: what it prints, writes, stores, and refuses."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from panembed.assembly import trained_model
from panembed.datasets.layout import open_dataset
from panembed.errors import InputError
from panembed.inference.model_config import read_config, update_grouping
from panembed.inference.predictor import PanopticModel

pytestmark = pytest.mark.slow  # each runs a whole command


@pytest.fixture
def model(tmp_path, tiny_model):
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture
def close_objects(monkeypatch, tiny_data):
    """A network whose objects lie 1 apart, nearer than the model's bandwidth of 1.5; grouping as the model has it."""
    dataset = open_dataset(tiny_data)
    load = trained_model.load

    class Close:
        num_workers = 1

        def __init__(self, preparation):
            self.known = {
                preparation.prepare(dataset.read_image(i)).tobytes(): dataset.read_truth(i) for i in dataset.ids
            }

        def start_worker(self):
            pass

        def __call__(self, images):
            truth = self.known[images[0].tobytes()]
            scores = np.stack([9.0 * (truth.semantic == 0), 9.0 * (truth.semantic == 1)]).astype(np.float32)
            embeddings = np.stack([truth.instance % 4, truth.instance // 4]).astype(np.float32)
            return scores[None], embeddings[None]

    def knowing(name, *, device="auto", **others):
        loaded = load(name, device=device)
        return PanopticModel(Close(loaded.preparation), loaded.label_set, loaded.preparation, loaded.grouping)

    monkeypatch.setattr(trained_model, "load", knowing)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_settings_are_found_and_stored(cli, model, tiny_data, close_objects):
    before = json.loads((model / "config.json").read_text())
    outcome = cli("tune", "--model", model, "--data", tiny_data)
    assert outcome.code == 0, outcome.err
    rows = rows_of(model / "tune/tune.csv")
    kept = [row for row in rows if row["kept"] == "1"]
    scores = [float(row["pq_things"]) for row in kept]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.2
    after = json.loads((model / "config.json").read_text())
    grouping = after["settings"]["grouping"]
    assert grouping["bandwidth"] == float(kept[-1]["bandwidth"])
    assert grouping["min_area"] == int(kept[-1]["min_area"])
    assert trained_model.load(model).grouping.bandwidth == grouping["bandwidth"]
    history = after.pop("former_grouping")
    assert [entry["grouping"] for entry in history] == [before["settings"]["grouping"]]
    assert history[0]["replaced_for"]["after"]["pq_things"] == pytest.approx(scores[-1])
    assert history[0]["replaced_for"]["split"] == "val"
    after["settings"]["grouping"] = before["settings"]["grouping"]
    told = after.pop("calibration")["found_on"]
    assert (told["split"], told["objects"] > 0) == ("val", True)
    assert f"calibrated on {told['objects']} objects" in outcome.err
    assert after == before
    assert f"{100 * scores[-1]:.1f}" in outcome.out
    assert "standard error" in outcome.err
    # Where the search ended there is nothing left to gain.
    outcome = cli("tune", "--model", model, "--data", tiny_data, "--overwrite")
    assert "no settings gain more than 0.1 point" in outcome.err
    assert len(json.loads((model / "config.json").read_text())["former_grouping"]) == 1


@pytest.mark.parametrize(
    "options", [("--dry-run",), ("--dry-run", "--full-grid", "--trials", 30)], ids=["path", "grid"]
)
def test_dry_run_stores_nothing(cli, model, tiny_data, tmp_path, close_objects, files_of, options):
    before = files_of(model)
    arguments = ("tune", "-m", model, "--data", tiny_data, "--maximize", "sbd", *options)
    outcome = cli(*arguments, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert files_of(model) == before
    again = cli(*arguments, "-o", tmp_path / "again")
    assert again.out == outcome.out
    assert files_of(tmp_path / "again") == files_of(tmp_path / "out")
    if "--trials" in options:
        assert len(rows_of(tmp_path / "out/tune.csv")) == 30


def test_each_tuning_has_a_folder(cli, model, tiny_data, close_objects):
    for _ in range(2):
        outcome = cli("tune", "-m", model, "--data", tiny_data, "--trials", 2, "--dry-run")
        assert outcome.code == 0, outcome.err
    assert (model / "tune/tune.csv").read_text() == (model / "tune-2/tune.csv").read_text()


def test_interrupted(cli, model, tiny_data, close_objects, monkeypatch):
    """After the third trial: these are there, and the model is as it was."""
    from panembed.tuning.grouping_tuner import GroupingTuner

    before, score, trials = (model / "config.json").read_text(), GroupingTuner.score, []

    def impatient(self, values):
        if len(trials) == 3:
            raise KeyboardInterrupt
        trials.append(score(self, values))
        return trials[-1]

    monkeypatch.setattr(GroupingTuner, "score", impatient)
    outcome = cli("tune", "--model", model, "--data", tiny_data)
    assert outcome.code == 130
    assert "the model stays as it is" in outcome.err
    assert [float(row["pq_things"]) for row in rows_of(model / "tune/tune.csv")] == pytest.approx(trials)
    assert (model / "config.json").read_text() == before


@pytest.mark.parametrize(
    ("method", "error", "code"), [("gain", KeyboardInterrupt(), 130), ("score", InputError("x.png: is gone"), 1)]
)
def test_trials_outlive_what_ends_them(cli, model, tiny_data, close_objects, monkeypatch, method, error, code):
    from panembed.tuning.grouping_tuner import GroupingTuner

    kept = getattr(GroupingTuner, method)

    def failing(self, values):
        if method == "score" and len(self.rows()) < 3:
            return kept(self, values)
        raise error

    monkeypatch.setattr(GroupingTuner, method, failing)
    outcome = cli("tune", "--model", model, "--data", tiny_data, "--trials", 5)
    assert outcome.code == code
    assert len(rows_of(model / "tune/tune.csv")) == (5 if method == "gain" else 3)


def test_a_network_as_it_is(cli, model, tiny_data):
    outcome = cli("tune", "-m", model, "--data", tiny_data, "--split", "train", "--trials", 4, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert len(rows_of(model / "tune/tune.csv")) == 4
    assert "tuned on: train images" in outcome.err
    outcome = cli("tune", "-m", model, "--data", tiny_data, "--output", model / "tune", "--trials", 4, "--dry-run")
    assert outcome.code == 1
    assert "holds files already" in outcome.sentence()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "test"), "--split test: settings chosen on test images would make their test scores worthless"),
        (("--split", "all"), "expected val or train"),
        (("--maximize", "ap"), "--maximize 'ap' is unknown; expected pq_things, sbd, pq, counts"),
    ],
)
def test_refusals(cli, model, tiny_data, tmp_path, arguments, message):
    outcome = cli("tune", "-m", model, "--data", tiny_data, "-o", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert message in outcome.sentence()
    assert not (tmp_path / "out").exists()


def test_former_settings_pile_up(model):
    update_grouping(model, {"bandwidth": 1.25}, {"split": "val"})
    update_grouping(model, {"min_area": 7, "seed_bandwidth": 0.5}, {"split": "val"})
    data = json.loads((model / "config.json").read_text())
    assert [entry["grouping"]["bandwidth"] for entry in data["former_grouping"]] == [1.5, 1.25]
    grouping = read_config(model).settings["grouping"]
    assert (grouping["bandwidth"], grouping["min_area"], grouping["seed_bandwidth"]) == (1.25, 7, 0.5)
    assert trained_model.load(model).grouping.min_area == 7


@pytest.mark.slow
def test_only_scores_changes_nothing_else(cli, tiny_model, tiny_data, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    before = json.loads((model / "config.json").read_text())
    outcome = cli("tune", "--model", model, "--data", tiny_data, "--only-scores")
    assert outcome.code == 0, outcome.err
    after = json.loads((model / "config.json").read_text())
    calibration = after.pop("calibration", None)
    assert after == before
    if calibration is None:
        assert "no object is found" in outcome.err
    else:
        assert calibration["found_on"]["split"] == "val"
        assert 0 <= calibration["found_on"]["matched"] <= calibration["found_on"]["objects"]
    refused = cli("tune", "--model", model, "--data", tiny_data, "--only-scores", "--dry-run")
    assert refused.code == 2
    assert "--dry-run has no effect with --only-scores" in refused.sentence()


@pytest.mark.parametrize(("few", "told"), [(1, False), (1000, True)])
def test_few_images_are_said(cli, tiny_model, tiny_data, tmp_path, monkeypatch, few, told):
    monkeypatch.setattr("panembed.assembly.training_data.FEW", few)
    model = shutil.copytree(tiny_model, tmp_path / "copy")
    outcome = cli("tune", "--model", model, "--data", tiny_data, "--only-scores")
    assert outcome.code == 0, outcome.err
    assert ("chosen by so few may be chance" in " ".join(outcome.err.split())) == told
