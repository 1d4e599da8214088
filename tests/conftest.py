"""What several test folders share: a tiny data set, tiny settings, and the command line run in this process."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

# Before anything imports PyTorch: two processes on two cores are slower with four threads than with two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The smallest network that segmentation_models_pytorch builds quickly: 3 levels, no download.
TINY = {
    "input": {"size": [64, 64]},
    "model": {
        "encoder": "tu-tf_efficientnet_lite0",
        "encoder_weights": "none",
        "embedding_dim": 4,
        "decoder_channels": [16, 8, 8],
    },
    "training": {"epochs": 2, "batch_size": 2, "num_workers": 0, "precision": "float32"},
    "grouping": {"min_area": 5, "bandwidth": 1.5},
}

# Hypothesis looks for new cases on a developer's machine, and for the same ones where a build must be repeatable.
# A deadline would tell of a busy machine.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """The one line on stderr that a user's mistake gives; fails where there is more, or a traceback."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("panembed: "), self.err
        return lines[0]


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run `panembed ARGUMENTS` in this process, through the function that the command calls."""

    def run(*arguments):
        from panembed.cli.app import main

        monkeypatch.setattr(sys, "argv", ["panembed", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "80")
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Ten made-up plants of 64x64 as files, without a split."""
    from panembed.datasets.synthetic import SyntheticDataset, write_folder

    root = tmp_path_factory.mktemp("tiny") / "data"
    write_folder(SyntheticDataset(10, size=64), root)
    return root


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """Settings of a tiny network, as a file (JSON is YAML)."""
    path = tmp_path_factory.mktemp("tiny") / "config.yaml"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_data):
    """A model folder of random weights, that was "trained" on the tiny data."""
    import torch

    from panembed.assembly import build
    from panembed.datasets.layout import open_dataset
    from panembed.datasets.splits import choose_split
    from panembed.inference.model_config import ModelConfig
    from panembed.models.pretrained import save_model
    from panembed.settings.schema import Settings

    dataset, settings = open_dataset(tiny_data), Settings.from_mapping(TINY)
    split = choose_split(dataset, **settings.split.model_dump())
    torch.manual_seed(0)
    net = build.network(settings, dataset.label_set, pretrained=False)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    folder.mkdir()
    data = {"train": list(split.train), "val": list(split.val), "test": list(split.test)}
    config = ModelConfig(
        settings.model_dump(mode="json"),
        dataset.label_set.to_list(),
        {**data, "seed": split.seed, "fractions": list(split.fractions)},
        {"val_loss": 1.0},
    )
    save_model(folder, net, config)
    return folder


@pytest.fixture
def files_of():
    """Content of every file below a folder, by its path in the folder."""

    def read(folder):
        folder = Path(folder)
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    return read


@pytest.fixture(scope="session")
def tiny_exported(tmp_path_factory, tiny_model):
    """The tiny model as one ONNX file."""
    from panembed.assembly.export import export

    return export(tiny_model, tmp_path_factory.mktemp("tiny") / "tiny.onnx").path


@pytest.fixture(scope="session")
def tiny_graph_folder(tmp_path_factory, tiny_model):
    """The tiny model's folder with a graph beside its weights; copy it before you change it."""
    from panembed.assembly.export import export

    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("tiny") / "graph")
    export(folder)
    return folder
