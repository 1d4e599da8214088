"""A run that was stopped in any way and resumed ends as one that never was."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from panembed.assembly import run
from panembed.datasets.layout import open_dataset
from panembed.datasets.splits import choose_split
from panembed.errors import InputError
from panembed.inference.model_config import read_config, update_grouping
from panembed.io.lock import folder_lock
from panembed.settings.schema import Settings

pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).with_name("panembed"))
PATIENCE = 600
"""Seconds that a process may take; it starts in ten, but others may use the processor."""

# Batches of 1 leave six steps, hence five checkpoints within an epoch.
PLAIN = {
    "input": {"size": [64, 64]},
    "model": {
        "encoder": "tu-tf_efficientnet_lite0",
        "encoder_weights": "none",
        "embedding_dim": 4,
        "decoder_channels": [16, 8, 8],
    },
    "training": {
        "epochs": 2,
        "batch_size": 1,
        "precision": "float32",
        "checkpoint_seconds": 0,
    },
    "grouping": {"min_area": 5},
}
RICH = {
    **PLAIN,
    "model": {**PLAIN["model"], "options": {"drop_path_rate": 0.2}},
    "augmentation": {"color_jitter": 0.2, "vertical_flip": True, "copy_paste": 2.0},
    "training": {
        **PLAIN["training"],
        "epochs": 3,
        "schedule": "one-cycle",
        "clip_gradient_norm": 1.0,
        "ema_decay": 0.9,
        "monitor": "val_pq",
        "validate_every": 2,
    },
}


def arguments_of(config, data, run, *more):
    return ["train", "--config", config, "--data", data, "--output", run, *more]


@pytest.fixture
def start():
    """Start the command in a process of its own; none outlives the test."""
    processes = []

    def launch(*arguments, **options):
        process = subprocess.Popen(
            [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        processes.append(process)
        return process

    yield launch
    for process in processes:
        process.kill()
        process.communicate()


def train_here(config, data, folder, *, resume=False, changed=()):
    """The same in this process, which has PyTorch already."""
    settings = Settings.load(config=config, overrides=changed)
    return run.train(settings, open_dataset(data), folder, resume=resume)


def wait_for(path, process):
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, f"{path} didn't appear"
        time.sleep(0.002)


def metrics_of(run):
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same_end(run, uninterrupted):
    assert metrics_of(run) == metrics_of(uninterrupted)
    name = "model/model.safetensors"
    assert (run / name).read_bytes() == (uninterrupted / name).read_bytes()
    ours, theirs = (torch.load(r / "checkpoints/last.pt", weights_only=True) for r in (run, uninterrupted))
    for key in ("network", "average"):
        if theirs[key] is not None:
            assert all(torch.equal(ours[key][name], value) for name, value in theirs[key].items())
    assert ours["step"] == theirs["step"] == 0
    assert not [p.name for p in run.rglob(".*")]


@pytest.fixture(scope="module", params=["plain", "rich"])
def settings(request):
    return {"plain": PLAIN, "rich": RICH}[request.param]


@pytest.fixture(scope="module")
def uninterrupted(settings, tmp_path_factory, tiny_data):
    """Settings of a run, and the folder of one that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))
    train_here(config, tiny_data, folder / "run")
    return config, folder / "run"


def test_killed_in_mid_epoch_and_resumed(uninterrupted, tiny_data, tmp_path, start):
    config, whole = uninterrupted
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoints/last.pt"
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        process = start(*arguments_of(config, tiny_data, folder))
        wait_for(checkpoint, process)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL
        if torch.load(checkpoint, weights_only=True)["step"] > 0:
            break
    else:
        pytest.fail("no kill hit the middle of an epoch")
    for left in folder.rglob(".*"):
        left.unlink()
    # What a kill while writing leaves behind is no hindrance, and is cleared away.
    leftover = folder / "checkpoints/.last.0badcafe.pt"
    leftover.write_bytes(b"half")
    train_here(config, tiny_data, folder, resume=True)
    assert not leftover.exists()
    assert_same_end(folder, whole)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_saves_and_resumes(uninterrupted, tiny_data, tmp_path, start, kind):
    config, whole = uninterrupted
    if kind == signal.SIGTERM and RICH["training"]["schedule"] in config.read_text():
        pytest.skip("once is enough")
    folder = tmp_path / "run"
    # No checkpoint within an epoch but that of the interruption.
    rare = ["--set", "training.checkpoint_seconds=1000"]
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        process = start(*arguments_of(config, tiny_data, folder, *rare))
        wait_for(folder / "metrics.csv", process)
        process.send_signal(kind)
        _, err = process.communicate(timeout=PATIENCE)
        if process.returncode != 0:  # else it had come to its end
            break
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "panembed: interrupted; all is saved, go on with --resume" in err
    assert torch.load(folder / "checkpoints/last.pt", weights_only=True)["epoch"] >= 1
    train_here(config, tiny_data, folder, resume=True, changed=rare[1:])
    assert_same_end(folder, whole)


def test_killed_before_the_first_checkpoint(tmp_path, tiny_data, start):
    config, folder = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(json.dumps({**PLAIN, "training": {**PLAIN["training"], "epochs": 1}}))
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        process = start(*arguments_of(config, tiny_data, folder))
        wait_for(folder / "split.json", process)
        process.kill()
        process.wait()
        if not (folder / "checkpoints/last.pt").exists():
            break
    else:
        pytest.fail("no kill came before the first checkpoint")
    train_here(config, tiny_data, folder, resume=True)
    train_here(config, tiny_data, tmp_path / "whole")
    assert_same_end(folder, tmp_path / "whole")


def test_tuned_settings_outlive_a_better_epoch(tmp_path, tiny_data, caplog):
    """`tune` between two parts of a training: what it stored is of the weights so far, and is kept."""

    class StopAfterFirst:
        def step(self, epoch, step, loss):
            pass

        def epoch(self, row):
            if row["epoch"] == 1:
                signal.raise_signal(signal.SIGINT)

    config, folder = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(json.dumps({**PLAIN, "training": {**PLAIN["training"], "epochs": 2, "monitor": "val_loss"}}))
    settings, dataset = Settings.load(config=config), open_dataset(tiny_data)
    with pytest.raises(KeyboardInterrupt):
        run.train(settings, dataset, folder, progress=StopAfterFirst())
    assert "grouping" not in caplog.text
    assert (folder / "curves.png").is_file(), "of what has been trained so far"
    own = read_config(folder / "model").settings["grouping"]
    update_grouping(folder / "model", {"min_area": 9}, {"maximize": "sbd"})
    run.train(settings, dataset, folder, resume=True)
    assert "tune again after the training" in caplog.text
    after = read_config(folder / "model")
    assert after.metrics["epoch"] == 2, "the second epoch must be the better one"
    assert after.settings["grouping"] == own
    assert [entry["grouping"] for entry in after.former_grouping] == [own, {**own, "min_area": 9}]
    caplog.clear()
    run.train(settings, dataset, folder, resume=True)
    assert "tune again" not in caplog.text, "the run's own are back already"


def test_interrupt_reaches_the_workers_too(tmp_path, tiny_data, start):
    """A terminal sends Ctrl-C to the whole process group."""
    config, folder = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(json.dumps({**PLAIN, "training": {**PLAIN["training"], "epochs": 500, "num_workers": 2}}))
    process = start(*arguments_of(config, tiny_data, folder), start_new_session=True)
    wait_for(folder / "checkpoints/last.pt", process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_data, tiny_config):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_here(tiny_config, tiny_data, folder)
    return folder


class TestRefusals:
    """Each on a copy of a finished run, in this process."""

    @pytest.fixture
    def folder(self, finished, tmp_path):
        return Path(shutil.copytree(finished, tmp_path / "run"))

    def test_finished_run_is_left_as_it_is(self, cli, folder, tiny_data, files_of):
        before = files_of(folder)
        outcome = cli("train", "--data", tiny_data, "--output", folder, "--resume")
        assert outcome.code == 0, outcome.err
        assert files_of(folder) == before

    def test_a_model_of_another_version_was_not_tuned(self, cli, folder, tiny_data, files_of):
        """Its settings may lack a key that came later."""
        path = folder / "model/config.json"
        data = json.loads(path.read_text())
        del data["settings"]["grouping"]["second_look"]
        path.write_text(json.dumps(data))
        before = files_of(folder)
        outcome = cli("train", "--data", tiny_data, "--output", folder, "--resume")
        assert outcome.code == 0, outcome.err
        assert "tune" not in outcome.err
        assert files_of(folder) == before

    def test_half_a_checkpoint(self, cli, folder, tiny_data, files_of):
        checkpoint = folder / "checkpoints/last.pt"
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
        before = files_of(folder)
        outcome = cli("train", "--data", tiny_data, "--output", folder, "--resume")
        assert outcome.code == 1
        assert f"{checkpoint}: the checkpoint is damaged" in outcome.sentence()
        assert files_of(folder) == before

    def test_checkpoint_of_another_version(self, cli, folder, tiny_data):
        torch.save({"format": 99}, folder / "checkpoints/last.pt")
        outcome = cli("train", "--data", tiny_data, "--output", folder, "--resume")
        assert outcome.code == 1
        assert "not a checkpoint of this version" in outcome.sentence()

    def test_other_settings(self, cli, folder, tiny_data, files_of):
        before = files_of(folder)
        outcome = cli(
            "train", "--data", tiny_data, "--output", folder, "--resume", "--set", "training.learning_rate=0.5"
        )
        assert outcome.code == 2
        assert "training.learning_rate is 0.5, but the run" in outcome.sentence()
        assert "0.003" in outcome.sentence()
        assert files_of(folder) == before

    @pytest.mark.parametrize(
        ("began", "asked", "key"),
        [
            ({}, {"leaf": {"min_area": 5}}, "grouping.by_class"),
            ({"leaf": {"min_area": 5}}, {}, "grouping.by_class"),
            ({"leaf": {"min_area": 5}}, {"leaf": {"min_area": 6}}, "grouping.by_class.leaf.min_area"),
        ],
    )
    def test_other_settings_of_a_class(self, tmp_path, tiny_data, began, asked, key):
        from panembed.assembly import run
        from panembed.datasets.layout import open_dataset
        from panembed.errors import SettingsError
        from panembed.settings.schema import Settings

        before, now = (Settings.from_mapping({"grouping": {"by_class": values}}) for values in (began, asked))
        (tmp_path / "config.yaml").write_text(before.to_yaml())
        with pytest.raises(SettingsError, match=rf"--resume: {key}\b.* is .*, but the run in .* began with "):
            run.train(now, open_dataset(tiny_data), tmp_path, resume=True)

    def test_the_log_tells_what_was_said_before_there_was_one(self, tmp_path, tiny_data, tiny_model, capsys):
        from panembed.assembly import run
        from panembed.datasets.layout import open_dataset
        from panembed.inference.model_config import read_config
        from panembed.settings.schema import Settings

        settings = Settings.from_mapping(read_config(tiny_model).settings).model_dump(mode="json")
        settings["model"] |= {"start_from": str(tiny_model), "embedding_dim": 3}
        settings["training"] |= {"epochs": 1}
        settings["split"] |= {"seed": 8}
        run.train(Settings.from_mapping(settings), open_dataset(tiny_data), tmp_path / "run", device="cpu")
        log = (tmp_path / "run/train.log").read_text()
        assert "anew: embedding_head" in log
        assert "learned from" in log
        assert "learned from" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("settings", "last", "ended"),
        [
            ({"epochs": 3}, 3, True),
            ({"epochs": 3}, 2, False),
            ({"epochs": 9, "patience": 2}, 3, True),
            ({"epochs": 9, "patience": 3}, 3, False),
            ({"epochs": 9, "patience": 2, "validate_every": 2}, 3, False),
        ],
    )
    def test_what_has_ended_needs_no_checkpoint(
        self, tmp_path, tiny_data, tiny_model, monkeypatch, settings, last, ended
    ):
        """Of the monitored loss the first epoch's value is the best. What has not ended begins anew."""
        from panembed.assembly import run
        from panembed.datasets.layout import open_dataset
        from panembed.settings.schema import Settings

        asked, dataset = Settings.from_mapping({"training": settings}), open_dataset(tiny_data)
        shutil.copytree(tiny_model, tmp_path / "model")
        (tmp_path / "config.yaml").write_text(asked.to_yaml())
        choose_split(dataset, **asked.split.model_dump()).write(tmp_path / "split.json")
        rows = "".join(f"{epoch},{epoch / 10},2.5\n" for epoch in range(1, last + 1))
        (tmp_path / "metrics.csv").write_text("epoch,val_loss,seconds\n" + rows)
        monkeypatch.setattr(run, "_train", lambda *_, **__: "trained")
        outcome = run.train(asked, dataset, tmp_path, resume=True)
        assert outcome == (
            [{"epoch": e, "val_loss": e / 10, "seconds": 2.5} for e in range(1, last + 1)] if ended else "trained"
        )
        (tmp_path / "metrics.csv").write_text("epoch\nx\n")
        with pytest.raises(InputError, match=r"metrics\.csv: is damaged"):
            run.train(asked, dataset, tmp_path, resume=True)

    def test_the_model_that_it_began_with_may_be_gone(self, cli, tmp_path, tiny_data, tiny_config, tiny_model):
        start = shutil.copytree(tiny_model, tmp_path / "start")
        settings = json.loads(tiny_config.read_text())
        settings["model"]["start_from"] = str(start)
        (tmp_path / "config.yaml").write_text(json.dumps(settings))
        run = tmp_path / "run"
        outcome = cli("train", "--config", tmp_path / "config.yaml", "--data", tiny_data, "--output", run)
        assert outcome.code == 0, outcome.err
        seen = json.loads((run / "model/config.json").read_text())["seen"]
        assert seen == json.loads((run / "learned_from.json").read_text()) != []
        shutil.rmtree(start)
        again = cli("train", "--data", tiny_data, "--output", run, "--resume")
        assert again.code == 0, again.err

    def test_other_classes(self, cli, folder, tiny_data, files_of):
        path = folder / "classes.json"
        classes = json.loads(path.read_text())
        path.write_text(json.dumps([dict(c, name="weed") if c["isthing"] else c for c in classes]))
        before = files_of(folder)
        outcome = cli("train", "--data", tiny_data, "--output", folder, "--resume")
        assert outcome.code == 1
        assert "the run began with" in outcome.sentence()
        assert "weed" in outcome.sentence()
        assert files_of(folder) == before

    def test_other_data(self, cli, folder, tmp_path, files_of):
        from panembed.datasets.synthetic import SyntheticDataset, write_folder

        write_folder(SyntheticDataset(5, seed=100, size=64), tmp_path / "other")
        before = files_of(folder)
        outcome = cli("train", "--data", tmp_path / "other", "--output", folder, "--resume")
        assert outcome.code == 1
        assert "not the data that the run began with" in outcome.sentence()
        assert files_of(folder) == before

    def test_no_run_there(self, cli, tmp_path, tiny_data, tiny_config):
        for arguments in ([], ["--config", tiny_config]):
            outcome = cli("train", *arguments, "--data", tiny_data, "--output", tmp_path / "none", "--resume")
            assert outcome.code == 2
            assert "holds no run" in outcome.sentence()
            assert not (tmp_path / "none").exists()

    @pytest.mark.parametrize("option", ["--resume", "--overwrite"])
    def test_another_process_trains_there(self, cli, folder, tiny_data, tiny_config, files_of, option, monkeypatch):
        monkeypatch.setattr(run, "_LOCK_SECONDS", 0.2)
        before = files_of(folder)
        with folder_lock(folder):
            outcome = cli("train", "--config", tiny_config, "--data", tiny_data, "--output", folder, option)
        assert outcome.code == 1
        assert f"{folder}: another process trains there" in outcome.sentence()
        assert files_of(folder) == before

    def test_resume_and_overwrite(self, cli, folder, tiny_data):
        outcome = cli("train", "--data", tiny_data, "--output", folder, "--resume", "--overwrite")
        assert outcome.code == 2
        assert "give one of them" in outcome.sentence()


def test_a_single_image_that_leaves_batch_norm_nothing(cli, tmp_path, tiny_data):
    settings = {
        "input": {"size": [32, 32]},
        "model": {"encoder": "resnet18"},
        "training": {"epochs": 1, "batch_size": 1, "precision": "float32"},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    arguments = ("train", "--config", tmp_path / "config.yaml", "--data", tiny_data, "--output", tmp_path / "run")
    outcome = cli(*arguments)
    assert outcome.code == 1
    assert "a batch of 1 image of 32 x 32 leaves batch norm a single value; expected more images" in outcome.err
    assert "Traceback" not in outcome.err
