"""Variants x seeds: each run is the one that train and evaluate would have made alone."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from panembed.errors import InputError, OutputError, PanembedError, SettingsError
from panembed.experiments.perform import check, perform
from panembed.experiments.plan import Experiment, read_scores
from panembed.experiments.results import expected_seconds

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "experiments/smoke.yaml"


@pytest.fixture(scope="module")
def dataset(tiny_data):
    from panembed.datasets.layout import open_dataset

    return open_dataset(tiny_data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset):
    """The smoke test, carried out; what it said comes with it."""
    output = tmp_path_factory.mktemp("experiment") / "smoke"
    experiment, said = Experiment.load(SMOKE), []
    assert perform(experiment, dataset, output, experiment.runs(output), device="cpu", say=said.append) == []
    return experiment, output, said


@pytest.fixture
def copied(finished, tmp_path):
    """One to spoil."""
    experiment, output, _ = finished
    copied = Path(shutil.copytree(output, tmp_path / "copy"))
    return experiment, copied, experiment.runs(copied)


def again(experiment, dataset, output, **more):
    return perform(experiment, dataset, output, experiment.runs(output), device="cpu", **more)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
class TestFinished:
    def test_results_agree(self, finished):
        experiment, output, said = finished
        rows = rows_of(output / "results.csv")
        assert [(row["variant"], row["seed"], row["state"]) for row in rows] == [
            (variant.name, str(seed), "done") for seed in (0, 1) for variant in experiment.variants
        ]
        assert said == [f"{i} of 6: {run}" for i, run in enumerate(experiment.runs(output), 1)]
        results = json.loads((output / "results.json").read_text())
        page = (output / "table.md").read_text()
        assert "runs are done" not in page
        for variant in results["variants"]:
            assert variant["runs"] == 2
            for name in ("things.pq", "sbd", "abs_dic", "train_seconds"):
                values = [float(row[name]) for row in rows if row["variant"] == variant["variant"]]
                assert variant["mean"][name] == pytest.approx(np.mean(values))
                assert variant["standard_deviation"][name] == pytest.approx(np.std(values, ddof=1))
            mean, spread = variant["mean"]["sbd"], variant["standard_deviation"]["sbd"]
            line = next(line for line in page.splitlines() if line.startswith(f"| {variant['variant']} |"))
            assert f" {100 * mean:.1f} ± {100 * spread:.1f}" in line.replace("*", "")
            assert f"- {variant['variant']}: {variant['about']}" in page
        assert (output / "table.tex").read_text().count(r" \\") == 4
        assert (output / "plot.png").stat().st_size > 5000

    def test_scores_are_those_of_evaluate(self, finished, dataset):
        """At the truth's size, on the test images of the run's split, with the variant's own grouping."""
        from panembed.assembly import trained_model
        from panembed.evaluation.scores import evaluate_model
        from panembed.inference.grouping import Grouping

        experiment, output, _ = finished
        for run in experiment.runs(output):
            classic = run.variant == "plain-classic"
            weights = output / "runs/plain" / run.folder.name if classic else run.folder
            model = trained_model.load(weights, device="cpu")
            if classic:
                model.grouping = Grouping(bandwidth=1.5, seed_bandwidth=None, min_area=10)
            split = json.loads((weights / "split.json").read_text())
            expected = evaluate_model(model, dataset, split["test"]).metrics()
            scores = json.loads((run.folder / "scores.json").read_text())
            assert scores["metrics"] == json.loads((run.folder / "test/metrics.json").read_text()) == expected
            assert scores["parameters"] == sum(p.numel() for p in model.backend.network.parameters())
            assert scores["from"] == ("plain" if classic else None)
            assert (run.folder / "model").exists() == (not classic)
            if not classic:
                seconds = [float(row["seconds"]) for row in rows_of(run.folder / "metrics.csv")]
                assert scores["train_seconds"] == pytest.approx(sum(seconds))
            assert 0 < scores["predict_seconds"] < 60

    def test_grouping_alone_makes_a_difference(self, finished):
        _, output, _ = finished
        plain, classic = (json.loads((output / f"runs/{v}/seed-0/scores.json").read_text())["metrics"]
                          for v in ("plain", "plain-classic"))  # fmt: skip
        assert plain["stuff"] == classic["stuff"]
        assert plain["objects_predicted"] != classic["objects_predicted"]

    def test_a_run_is_what_train_makes(self, finished, dataset, tmp_path):
        """The last one, after five others in the same process."""
        from panembed.assembly import run

        experiment, output, _ = finished
        last = next(r for r in experiment.runs(output) if str(r) == "scse, seed 1")
        run.train(last.settings, dataset, tmp_path / "alone", device="cpu")
        for name in ("model/model.safetensors", "config.yaml", "split.json"):
            assert (last.folder / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()

    def test_second_call_changes_nothing(self, copied, dataset, files_of):
        experiment, output, _ = copied
        before, said = files_of(output), []
        assert again(experiment, dataset, output, say=said.append) == []
        assert files_of(output) == before
        assert said == []

    def test_goes_on_and_leaves_to_others_what_they_are_at(self, copied, dataset):
        experiment, output, runs = copied
        before = [json.loads((run.folder / "scores.json").read_text()) for run in runs]
        for run in (runs[0], runs[2], runs[4]):
            (run.folder / "scores.json").unlink()
        said = []
        with (runs[0].folder.parent / ".seed-0.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert again(experiment, dataset, output, say=said.append) == []
        assert said == [
            "plain, seed 0: another process is at it",
            f"plain-classic, seed 0: takes its weights from {runs[0].folder}, which another process is at",
            "5 of 6: scse, seed 1",
        ]
        assert [run.state("test") for run in runs] == ["begun", "done", "to do", "done", "done", "done"]
        assert (output / "table.md").read_text().endswith("4 of 6 runs are done.\n")
        assert expected_seconds(runs, "test") == pytest.approx(before[3]["train_seconds"])
        assert again(experiment, dataset, output) == []
        after = [json.loads((run.folder / "scores.json").read_text()) for run in runs]
        for scores in before + after:
            del scores["predict_seconds"]
        assert after == before

    def test_weights_on_images_of_another_size(self, copied, dataset):
        from panembed.assembly import trained_model
        from panembed.evaluation.scores import evaluate_model

        experiment, output, runs = copied
        large = {"name": "large", "from": "plain", "set": {"input.scale": 2}}
        variants = [experiment.variants[0], type(experiment.variants[0]).model_validate(large)]
        other = experiment.model_copy(update={"variants": variants, "seeds": [0]})
        assert again(other, dataset, output) == []
        scores = json.loads((output / "runs/large/seed-0/scores.json").read_text())
        model = trained_model.load(runs[0].folder, device="cpu")
        model.preparation = dataclasses.replace(model.preparation, scale=2.0)
        split = json.loads((runs[0].folder / "split.json").read_text())
        assert scores["metrics"] == evaluate_model(model, dataset, split["test"]).metrics()
        assert scores["metrics"] != json.loads((runs[0].folder / "scores.json").read_text())["metrics"]
        assert scores["settings"]["input"]["scale"] == 2

    def test_another_part_is_scored_without_training(self, copied, dataset):
        experiment, output, runs = copied
        weights = (runs[0].folder / "model/model.safetensors").stat().st_mtime_ns
        other = experiment.model_copy(update={"score": "val", "variants": experiment.variants[:1], "seeds": [0]})
        assert again(other, dataset, output) == []
        assert (runs[0].folder / "model/model.safetensors").stat().st_mtime_ns == weights
        ids = [row["id"] for row in rows_of(runs[0].folder / "val/per_image.csv")]
        assert ids == json.loads((runs[0].folder / "split.json").read_text())["val"]

    @pytest.mark.parametrize(
        ("update", "error", "sentence"),
        [
            ({"set_": {"model.embedding_dim": 8}}, SettingsError, "plain, seed 0: model.embedding_dim is 8 now, but"),
            ({"split": {"fractions": [0.4, 0.4, 0.2]}}, SettingsError, "split.fractions is (0.4, 0.4, 0.2) now"),
            ({"title": "other"}, OutputError, "of the experiment 'Smoke test of tiny networks', not of 'other'"),
        ],
    )  # fmt: skip
    def test_runs_of_something_else(self, copied, dataset, files_of, update, error, sentence):
        experiment, output, _ = copied
        before = files_of(output)
        update = {k: experiment.set_ | v if k == "set_" else v for k, v in update.items()}
        with pytest.raises(error) as raised:
            again(experiment.model_copy(update=update), dataset, output)
        assert sentence in str(raised.value)
        assert files_of(output) == before

    def test_other_data(self, copied, tmp_path):
        from panembed.datasets.layout import open_dataset
        from panembed.datasets.synthetic import SyntheticDataset, write_folder

        experiment, output, _ = copied
        write_folder(SyntheticDataset(11, size=64), tmp_path / "other")
        with pytest.raises(InputError, match="made with other images, or another split"):
            again(experiment, open_dataset(tmp_path / "other"), output)

    @pytest.mark.parametrize("columns", [None, ["per_class.other.pq"]])
    def test_other_classes(self, copied, dataset, tmp_path, columns, files_of):
        """Of the same images."""
        from panembed.datasets.layout import open_dataset

        experiment, output, _ = copied
        other = Path(shutil.copytree(dataset.root, tmp_path / "other"))
        classes = [{"id": 0, "name": "soil", "isthing": False}, {"id": 1, "name": "other", "isthing": True}]
        (other / "labels.yaml").write_text(yaml.safe_dump({"encoding": "instances", "classes": classes}))
        before = files_of(output)
        update = {"columns": columns} if columns else {}
        with pytest.raises(InputError, match=r"seed-0: the classes of .*other.*, but the run began with "):
            again(experiment.model_copy(update=update), open_dataset(other), output)
        assert files_of(output) == before

    def test_a_run_that_was_trained_anew_by_hand_is_not_done(self, copied, dataset):
        from panembed.assembly.run import train

        experiment, _, runs = copied
        train(runs[0].settings, dataset, runs[0].folder, overwrite=True, device="cpu")
        assert (runs[0].state(experiment.score), runs[2].state(experiment.score)) == ("begun", "to do")

    def test_a_finished_training_needs_no_checkpoint(self, copied, dataset):
        experiment, output, runs = copied
        for run in runs:
            shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
        (runs[0].folder / "scores.json").unlink()
        weights = runs[0].folder / "model/model.safetensors"
        before = weights.stat().st_mtime_ns
        assert again(experiment, dataset, output) == []
        assert runs[0].state("test") == "done"
        assert weights.stat().st_mtime_ns == before
        assert read_scores(runs[0].folder)["train_seconds"] > 0

    def test_no_longer_from(self, copied, dataset):
        experiment, output, _ = copied
        third = experiment.variants[2].model_copy(update={"from_": None})
        with pytest.raises(SettingsError, match="plain-classic, seed 0: from is None now"):
            again(experiment.model_copy(update={"variants": [*experiment.variants[:2], third]}), dataset, output)

    def test_weights_made_again_are_scored_again(self, copied, dataset):
        experiment, output, runs = copied
        source, taken = runs[0], runs[2]
        assert taken.source == source.folder
        path = taken.folder / "scores.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {}, "weights": "of another training"}))
        assert (source.state("test"), taken.state("test")) == ("done", "to do")
        shutil.rmtree(source.folder)
        assert (source.state("test"), taken.state("test")) == ("to do", "to do")
        assert again(experiment, dataset, output) == []
        assert (source.state("test"), taken.state("test")) == ("done", "done")
        scores = json.loads(path.read_text())
        assert scores["metrics"]["images"] == 2
        weights = (source.folder / "model/model.safetensors").read_bytes()
        assert scores["weights"] == hashlib.sha256(weights).hexdigest()
        assert scores["train_seconds"] == json.loads((source.folder / "scores.json").read_text())["train_seconds"]

    @pytest.mark.parametrize("content", ["{", "{}", "null", "[]"])
    def test_damaged_scores(self, copied, dataset, content):
        experiment, output, runs = copied
        (runs[1].folder / "scores.json").write_text(content)
        with pytest.raises(PanembedError, match=r"scores\.json: is damaged; delete it"):
            again(experiment, dataset, output)

    def test_columns_of_a_class(self, copied, dataset):
        experiment, output, runs = copied
        name = dataset.label_set[1].name
        more = [*experiment.columns, f"per_class.{name}.pq", f"per_class.{name}.iou"]
        assert again(experiment.model_copy(update={"columns": more}), dataset, output) == []
        row = rows_of(output / "results.csv")[0]
        scores = json.loads((runs[0].folder / "test/metrics.json").read_text())["per_class"][name]
        assert [float(row[column]) for column in more[-2:]] == [scores["pq"], scores["iou"]]
        assert f"PQ {name} | IoU {name} |" in (output / "table.md").read_text()
        with pytest.raises(SettingsError, match="the data has no class 'weed'; there are background, object"):
            again(experiment.model_copy(update={"columns": ["per_class.weed.pq"]}), dataset, output)

    def test_folder_in_use(self, finished, dataset, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(OutputError, match="holds files already"):
            again(finished[0], dataset, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    @pytest.mark.parametrize("text", ["", "- a", "title: [", "name: b"])
    def test_a_broken_record_of_what_was_asked(self, finished, dataset, tmp_path, text):
        (tmp_path / "experiment.yaml").write_text(text)
        with pytest.raises(OutputError, match=r"experiment\.yaml: can't be read as what an experiment was asked"):
            again(finished[0], dataset, tmp_path)


@pytest.mark.slow
def test_failures_are_noted_and_the_others_go_on(dataset, tmp_path, load, monkeypatch):
    """Missing weights; memory that runs out; other precisions in one process."""
    import torch

    from panembed.experiments import perform as carried_out

    def train(settings, *arguments, **options):
        if settings.training.batch_size == 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the documentation")
        if settings.training.batch_size == 7:
            raise MemoryError("Unable to allocate 2. GiB")
        return real(settings, *arguments, **options)

    real = carried_out.train
    monkeypatch.setattr(carried_out, "train", train)
    weights = tmp_path / "weights.safetensors"
    weights.write_text("none yet")
    data = {
        **yaml.safe_load(SMOKE.read_text()),
        "seeds": [3],
        "variants": [
            {"name": "missing", "set": {"model.encoder_weights": str(weights)}},
            {"name": "of-missing", "from": "missing", "set": {"grouping.min_area": 9}},
            {"name": "too-large", "set": {"training.batch_size": 6}},
            {"name": "as-large", "set": {"training.batch_size": 7}},
            {"name": "bfloat16", "set": {"training.precision": "bfloat16"}},
            {"name": "float32"},
        ],
    }  # fmt: skip
    experiment, said = load(data), []
    failed = again(experiment, dataset, tmp_path / "out", say=said.append)
    assert [run.variant for run in failed] == ["missing", "of-missing", "too-large", "as-large"]
    assert [run.state("test") for run in experiment.runs(tmp_path / "out")] == ["failed"] * 4 + ["done"] * 2
    told = {run.variant: run.failure() for run in failed}
    assert str(weights) in told["missing"]
    assert "the run whose weights this one takes failed" in told["of-missing"]
    assert told["as-large"] == "MemoryError: Unable to allocate 2. GiB"
    assert told["too-large"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."
    assert "Traceback" in (tmp_path / "out/runs/too-large/seed-3/failure.txt").read_text()
    page = (tmp_path / "out/table.md").read_text()
    for name, sentence in told.items():
        assert f"Failed: {name}, seed 3: {sentence}" in page
        assert f"| {name} |" not in page
        assert any(line.startswith(f"{name}, seed 3 failed: ") for line in said)
    assert "2 of 6 runs are done. Without any: missing, of-missing, too-large, as-large." in page
    assert "| float32 | 1 |" in page
    states = {row["variant"]: row for row in rows_of(tmp_path / "out/results.csv")}
    assert states["missing"]["failure"] == told["missing"]
    assert float(states["float32"]["stuff.pq"]) >= 0
    # What failed is tried again.
    assert [run.variant for run in again(experiment, dataset, tmp_path / "out")] == [run.variant for run in failed]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"set": {"model.architecture": "Unett"}}, "model: segmentation_models_pytorch can't build"),
        (
            {"set": {"augmentation.window": [48, 64]}},
            r"augmentation\.window: expected multiples of 32, found \[48, 64\]",
        ),
        (
            {"from": "plain", "set": {"input.size": [48, 64]}},
            r"input\.size: expected multiples of 32, found \[48, 64\]",
        ),
        ({"from": "plain", "set": {"input.scale": 2}}, r"input\.scale 2\.0 has no effect with input\.fit resize"),
        ({"set": {"grouping.method": "seed_map"}}, r"grouping\.method seed_map needs a seed head"),
        ({"set": {"grouping.least_seed": 0.3}}, r"grouping\.least_seed has no effect with grouping\.m"),
        ({"from": "plain", "set": {"grouping.method": "seed_map"}}, r"grouping\.method seed_map needs a seed head"),
        (
            {"from": "plain", "set": {"grouping.least_seed": 0.3}},
            r"grouping\.least_seed has no effect with grouping\.m",
        ),
    ],
)
def test_a_wrong_variant_is_refused_before_anything_trains(dataset, tmp_path, load, change, sentence):
    data = yaml.safe_load(SMOKE.read_text())
    data["set"]["input.fit"] = "resize"
    data["variants"].append({"name": "odd", **change})
    with pytest.raises(SettingsError, match=f"variant odd: {sentence}"):
        again(load(data), dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_common_setting_that_no_variant_heeds(dataset, tmp_path, load):
    data = yaml.safe_load(SMOKE.read_text())
    data["set"]["grouping.least_seed"] = 0.3
    with pytest.raises(SettingsError, match=r"set: grouping\.least_seed has no effect with grouping\.m"):
        again(load(data), dataset, tmp_path / "out")


def test_sizes_of_training_windows_may_differ(dataset, tmp_path, load):
    data = yaml.safe_load(SMOKE.read_text())
    data["set"] |= {"input.fit": "native", "augmentation.source_scale": 1}
    data["variants"] = [{"name": "small"}, {"name": "large", "set": {"input.size": [96, 96]}}]
    check(load(data), dataset, tmp_path / "out")


def test_a_file_where_the_runs_should_be(dataset, tmp_path):
    experiment = Experiment.load(SMOKE)
    (tmp_path / "experiment.yaml").write_text(f"title: {experiment.title}\n")
    (tmp_path / "runs").touch()
    assert read_scores(tmp_path / "runs/a/seed-0") is None
    with pytest.raises(OutputError, match=r"runs/plain: can't be made \(Not a directory\)"):
        again(experiment, dataset, tmp_path)
