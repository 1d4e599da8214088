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

pytestmark = pytest.mark.slow
COMMAND = Path(sys.executable).with_name("panembed")

# Batches of 1 leave six steps, hence five checkpoints within an epoch.
PLAIN = {
    "input": {"size": [64, 64]},
    "model": {
        "encoder": "tu-tf_efficientnet_lite0",
        "encoder_weights": "none",
        "embedding_dim": 4,
        "decoder_channels": [16, 8, 8],
        "options": {"encoder_drop_path_rate": 0.2},
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
    "augmentation": {"color_jitter": 0.2, "vertical_flip": True},
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
del PLAIN["model"]["options"]


def start(*arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["nice", "-n", "10", str(COMMAND), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out == ""
    return err


def wait_for(path, process):
    deadline = time.monotonic() + 120
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
    """Arguments of a run, and the folder of one that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))
    arguments = ["train", "--config", config, "--data", tiny_data]
    finish(start(*arguments, "--output", folder / "run"))
    return arguments, folder / "run"


def kill_in_mid_epoch(arguments, run):
    checkpoint = run / "checkpoints/last.pt"
    for _ in range(3):
        shutil.rmtree(run, ignore_errors=True)
        process = start(*arguments, "--output", run)
        wait_for(checkpoint, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        if torch.load(checkpoint, weights_only=True)["step"] > 0:
            return
    pytest.fail("no kill hit the middle of an epoch")


def test_killed_in_mid_epoch_and_resumed(uninterrupted, tmp_path):
    arguments, whole = uninterrupted
    run = tmp_path / "run"
    kill_in_mid_epoch(arguments, run)
    # What a kill while writing leaves behind is no hindrance.
    (run / "checkpoints/.last.0badcafe.pt").write_bytes(b"half")
    finish(start(*arguments, "--output", run, "--resume"))
    (run / "checkpoints/.last.0badcafe.pt").unlink(missing_ok=True)
    assert_same_end(run, whole)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_saves_and_resumes(uninterrupted, tmp_path, kind):
    arguments, whole = uninterrupted
    if kind == signal.SIGTERM and "rich" in str(whole):
        pytest.skip("once is enough")
    run = tmp_path / "run"
    # No checkpoint within an epoch but that of the interruption.
    rare = [*arguments, "--set", "training.checkpoint_seconds=1000"]
    process = start(*rare, "--output", run)
    wait_for(run / "metrics.csv", process)
    process.send_signal(kind)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "panembed: interrupted" in err
    assert "--resume" in err
    state = torch.load(run / "checkpoints/last.pt", weights_only=True)
    assert state["epoch"] >= 1
    finish(start(*rare, "--output", run, "--resume"))
    assert_same_end(run, whole)


def test_killed_before_the_first_checkpoint(tmp_path, tiny_data):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(PLAIN))
    arguments = ["train", "--config", config, "--data", tiny_data, "--set", "training.epochs=1"]
    process = start(*arguments, "--output", tmp_path / "run")
    wait_for(tmp_path / "run/split.json", process)
    process.kill()
    process.communicate()
    assert not (tmp_path / "run/checkpoints/last.pt").exists()
    finish(start(*arguments, "--output", tmp_path / "run", "--resume"))
    finish(start(*arguments, "--output", tmp_path / "whole"))
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_interrupt_reaches_the_workers_too(tmp_path, tiny_data):
    """A terminal sends Ctrl-C to the whole process group."""
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(PLAIN))
    arguments = ["train", "--config", config, "--data", tiny_data, "--output", tmp_path / "run"]
    process = start(
        *arguments, "--set", "training.num_workers=2", "--set", "training.epochs=500", start_new_session=True
    )
    wait_for(tmp_path / "run/checkpoints/last.pt", process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err


class TestRefusals:
    """With the run of `finished`, in this process."""

    @pytest.fixture(scope="class")
    def finished(self, tmp_path_factory, tiny_data, tiny_config):
        run = tmp_path_factory.mktemp("finished") / "run"
        finish(start("train", "--config", tiny_config, "--data", tiny_data, "--output", run))
        return run

    @pytest.fixture
    def run(self, finished, tmp_path):
        return Path(shutil.copytree(finished, tmp_path / "run"))

    def test_finished_run_is_left_as_it_is(self, cli, run, tiny_data, files_of):
        before = files_of(run)
        outcome = cli("train", "--data", tiny_data, "--output", run, "--resume")
        assert outcome.code == 0, outcome.err
        assert files_of(run) == before

    def test_half_a_checkpoint(self, cli, run, tiny_data, files_of):
        checkpoint = run / "checkpoints/last.pt"
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
        before = files_of(run)
        outcome = cli("train", "--data", tiny_data, "--output", run, "--resume")
        assert outcome.code == 1
        assert f"{checkpoint}: the checkpoint is damaged" in outcome.sentence()
        assert files_of(run) == before

    def test_checkpoint_of_another_version(self, cli, run, tiny_data):
        torch.save({"format": 99}, run / "checkpoints/last.pt")
        outcome = cli("train", "--data", tiny_data, "--output", run, "--resume")
        assert outcome.code == 1
        assert "not a checkpoint of this version" in outcome.sentence()

    def test_other_settings(self, cli, run, tiny_data, files_of):
        before = files_of(run)
        outcome = cli("train", "--data", tiny_data, "--output", run, "--resume", "--set", "training.learning_rate=0.5")
        assert outcome.code == 2
        assert "training.learning_rate is 0.5, but the run" in outcome.sentence()
        assert "0.003" in outcome.sentence()
        assert files_of(run) == before

    def test_other_data(self, cli, run, tmp_path, files_of):
        from panembed.datasets.synthetic import SyntheticDataset, write_folder

        write_folder(SyntheticDataset(5, seed=100, size=64), tmp_path / "other")
        before = files_of(run)
        outcome = cli("train", "--data", tmp_path / "other", "--output", run, "--resume")
        assert outcome.code == 1
        assert "not the data that the run began with" in outcome.sentence()
        assert files_of(run) == before

    def test_no_run_there(self, cli, tmp_path, tiny_data, tiny_config):
        for arguments in ([], ["--config", tiny_config]):
            outcome = cli("train", *arguments, "--data", tiny_data, "--output", tmp_path / "none", "--resume")
            assert outcome.code == 2
            assert "holds no run" in outcome.sentence()
            assert not (tmp_path / "none").exists()

    def test_resume_and_overwrite(self, cli, run, tiny_data):
        outcome = cli("train", "--data", tiny_data, "--output", run, "--resume", "--overwrite")
        assert outcome.code == 2
        assert "give one of them" in outcome.sentence()
