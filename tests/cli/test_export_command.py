"""`panembed export`, and the other verbs with what it wrote."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow  # each runs whole commands


def test_an_exported_file_is_a_model_like_any_other(cli, tiny_model, tiny_data, tmp_path, monkeypatch, files_of):
    monkeypatch.chdir(tmp_path)
    outcome = cli("export", "--model", tiny_model, "--output", "tiny.onnx")
    assert outcome.code == 0, outcome.err
    assert "outputs for 96 x 192 and 224 x 160 pixels are PyTorch's within" in outcome.err
    photo = tiny_data / "images/plant0001.png"
    for model, output in (("tiny.onnx", "ours"), (tiny_model, "theirs")):
        outcome = cli("predict", "--model", model, photo, "--output", output)
        assert outcome.code == 0, outcome.err
    ours, theirs = (np.asarray(Image.open(f"{name}/plant0001_instances.png")) for name in ("ours", "theirs"))
    assert np.mean(ours == theirs) > 0.999
    for model, output in (("tiny.onnx", "ours-test"), (tiny_model, "theirs-test")):
        outcome = cli("evaluate", "--model", model, "--data", tiny_data, "--output", output)
        assert outcome.code == 0, outcome.err
    assert files_of("ours-test").keys() == files_of("theirs-test").keys()
    outcome = cli("tune", "--model", "tiny.onnx", "--data", tiny_data, "--trials", "5", "--output", "tuned")
    assert outcome.code == 0, outcome.err
    outcome = cli("data", "split", tiny_data, "--model", "tiny.onnx", "--output", "split.json")
    assert outcome.code == 0, outcome.err
    split = json.loads((tiny_model / "config.json").read_text())["split"]
    assert json.loads((tmp_path / "split.json").read_text())["test"] == split["test"]


def test_the_trials_of_a_file_lie_beside_it(cli, tiny_exported, tiny_data, tmp_path):
    file = shutil.copy(tiny_exported, tmp_path / "a.onnx")
    for _ in range(2):
        outcome = cli("tune", "--model", file, "--data", tiny_data, "--trials", "3")
        assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-tune", "a-tune-2", "a.onnx"]


def test_a_graph_in_the_run_folder(cli, tiny_model, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "run/model")
    outcome = cli("export", "--model", "run")
    assert outcome.code == 0, outcome.err
    assert "run/model/model.onnx: 0.0" in outcome.err
    assert cli("export", "--model", "run").sentence().endswith("or replace it with --overwrite")
    assert cli("export", "--model", "run", "--overwrite").code == 0
    outcome = cli("predict", "--model", "run", tiny_data / "images/plant0001.png", "--output", "out")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            ["predict", "--model", "MODEL", "PHOTO", "--output", "out", "--device", "cuda"],
            2,
            "was exported for the CPU",
        ),
        (
            ["train", "--preset", "leaf", "--data", "DATA", "--output", "out", "--set", "model.start_from=MODEL"],
            1,
            "export",
        ),
        (["export", "--model", "MODEL", "--output", "b.onnx"], 1, "is an exported network"),
        (["export", "--model", "leaf"], 1, "comes with the package"),
        (["predict", "--model", "PHOTO", "PHOTO", "--output", "out"], 1, "is no ONNX file"),
    ],
)
def test_mistakes(cli, tiny_exported, tiny_data, tmp_path, monkeypatch, arguments, code, told):
    monkeypatch.chdir(tmp_path)
    names = {"MODEL": tiny_exported, "DATA": tiny_data, "PHOTO": tiny_data / "images/plant0001.png"}
    for name, path in names.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    outcome = cli(*arguments)
    assert outcome.code == code
    assert told in outcome.sentence()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
