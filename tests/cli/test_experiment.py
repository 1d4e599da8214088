"""`panembed experiment`: what it prints, its exit codes, and that it survives being stopped."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

COMMAND = str(Path(sys.executable).with_name("panembed"))
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMOKE = EXPERIMENTS / "smoke.yaml"
PATIENCE = 600


@pytest.fixture
def write(tmp_path):
    """The smoke test with other values, as a file."""

    def write(**values):
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(SMOKE.read_text()), **values}))
        return path

    return write


def states_of(output):
    with (output / "results.csv").open(newline="") as file:
        return {(row["variant"], int(row["seed"])): row["state"] for row in csv.DictReader(file)}


def test_help(cli):
    outcome = cli("experiment", "--help")
    assert outcome.code == 0
    assert "Example: panembed experiment experiments/table-a.yaml" in " ".join(outcome.out.split())


@pytest.mark.parametrize(
    ("values", "arguments", "sentence"),
    [
        ({"set": {"model.encodr": "x"}}, [], "experiment.yaml: variant plain: preset demo: unknown key 'model.encodr'"),
        ({}, ["--only", "scs"], "no variant is called 'scs'; did you mean 'scse'?"),
        ({}, ["--seeds", "9"], "--seeds 9: expected 1 to 2"),
    ],
)
def test_mistakes(cli, write, tiny_data, tmp_path, values, arguments, sentence):
    outcome = cli("experiment", write(**values), "--data", tiny_data, "--output", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert sentence in outcome.sentence()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smoke", "table-a", "table-b"])
def test_ours_can_be_tried_dry(cli, tiny_data, tmp_path, name):
    path = EXPERIMENTS / f"{name}.yaml"
    outcome = cli("experiment", path, "--data", tiny_data, "--output", tmp_path / "out", "--dry-run", "--seeds", 2)
    assert outcome.code == 0, outcome.err
    names = [variant["name"] for variant in yaml.safe_load(path.read_text())["variants"]]
    assert outcome.out.splitlines() == [f"to do   {variant}, seed {seed}" for seed in (0, 1) for variant in names]
    assert f"0 done, 0 begun, 0 failed, {2 * len(names)} to do" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_table_then_the_rest(cli, write, tiny_data, tmp_path):
    arguments = ["experiment", write(), "--data", tiny_data, "--output", tmp_path / "out", "--device", "cpu"]
    outcome = cli(*arguments, "--only", "plain", "--seeds", 1)
    assert outcome.code == 0, outcome.err
    assert outcome.out == (tmp_path / "out/table.md").read_text()
    assert "1 of 6 runs are done." in outcome.out
    assert "1 of 1: plain, seed 0" in outcome.err
    planned = cli(*arguments, "--dry-run")
    assert planned.out.splitlines()[:2] == ["done    plain, seed 0", "to do   scse, seed 0"]
    assert "6 runs, 4 of them train: 1 done, 0 begun, 0 failed, 5 to do" in planned.err
    assert "hours of training are left" in planned.err


@pytest.mark.slow
def test_failure(cli, write, tiny_data, tmp_path):
    (tmp_path / "broken.safetensors").write_text("no weights")
    broken = {"name": "broken", "set": {"model.encoder_weights": str(tmp_path / "broken.safetensors")}}
    path = write(variants=[broken, {"name": "plain"}], seeds=[0])
    outcome = cli("experiment", path, "--data", tiny_data, "--output", tmp_path / "out")
    assert outcome.code == 3
    assert "Traceback" not in outcome.err
    assert "broken, seed 0 failed: " in outcome.err
    assert "1 of 2 runs failed" in outcome.err
    assert states_of(tmp_path / "out") == {("broken", 0): "failed", ("plain", 0): "done"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_stopped(cli, write, tiny_data, tmp_path, kind):
    path, output = write(set={**yaml.safe_load(SMOKE.read_text())["set"], "training.epochs": 500}), tmp_path / "out"
    arguments = ["experiment", path, "--data", tiny_data, "--output", output]
    process = subprocess.Popen(
        [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (output / "runs/plain/seed-0/checkpoints/last.pt").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(kind)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "panembed: interrupted; all is saved, the same command goes on" in err
    assert states_of(output)[("plain", 0)] == "begun"
    assert cli(*arguments, "--dry-run").out.splitlines()[0] == "begun   plain, seed 0"


@pytest.mark.slow
def test_the_plan_in_the_output_can_be_run_again(cli, write, tiny_data, tmp_path):
    """Wherever it is put, with the settings file that it starts from."""
    smoke = yaml.safe_load(SMOKE.read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"training": {"epochs": 1}, "input": {"size": [32, 32]}}))
    path = write(config="mine.yaml", variants=[{"name": "plain"}], seeds=[0], set=smoke["set"])
    text = yaml.safe_load(path.read_text())
    text.pop("preset", None)
    path.write_text(yaml.safe_dump(text))
    outcome = cli("experiment", path, "--data", tiny_data, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "mine.yaml").unlink()
    again = cli("experiment", moved / "experiment.yaml", "--data", tiny_data, "--output", moved, "--dry-run")
    assert again.out.splitlines() == ["done    plain, seed 0"]
    assert cli("experiment", moved / "experiment.yaml", "--data", tiny_data, "--output", moved).code == 0
