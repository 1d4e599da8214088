"""Everything but training works where PyTorch is not installed; each in a process of its own that can't import it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.samples import sample_nuclei
from panembed.datasets.synthetic import SyntheticDataset

pytestmark = pytest.mark.slow

BLOCKED = (
    "torch",
    "torchvision",
    "timm",
    "segmentation_models_pytorch",
    "accelerate",
    "safetensors",
    "onnx",
    "matplotlib",
)

RUN = f"""
import sys

class Without:
    "Finds what another finder finds, but for some packages."

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {BLOCKED} else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def without_torch(code, *arguments, folder):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN + code, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def panembed_without_torch(*arguments, folder):
    return without_torch("from panembed.cli import main; main()", *arguments, folder=folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    plant, nuclei = SyntheticDataset(1, size=256), sample_nuclei()
    Image.fromarray(plant.read_image(plant.ids[0])).save(folder / "leaf.png")
    Image.fromarray(nuclei.read_image(nuclei.ids[0])).save(folder / "nuclei.png")
    return folder


@pytest.mark.parametrize("name", ["leaf", "nuclei"])
def test_predict_with_a_shipped_model(photos, tmp_path, name):
    done = panembed_without_torch(
        "predict", "--model", name, photos / f"{name}.png", "--output", "out", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert np.asarray(Image.open(tmp_path / f"out/{name}_instances.png")).max() > 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {f"{name}_overlay.png", f"{name}_semantic.png", "objects.csv", "summary.csv", "panoptic.json"}


def test_the_other_verbs(tiny_exported, tiny_data, tmp_path):
    shutil.copy(tiny_exported, tmp_path / "tiny.onnx")
    image = tiny_data / "images/plant0001.png"
    for arguments in (
        ("info",),
        ("data", "check", tiny_data),
        ("predict", "--model", "tiny.onnx", image, "--output", "out"),
        ("evaluate", "--model", "tiny.onnx", "--data", tiny_data, "--output", "scores"),
        ("tune", "--model", "tiny.onnx", "--data", tiny_data, "--trials", "3", "--output", "tuned"),
    ):
        done = panembed_without_torch(*arguments, folder=tmp_path)
        assert done.returncode == 0, (arguments, done.stderr)
    assert json.loads((tmp_path / "scores/metrics.json").read_text())["images"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--preset", "leaf", "--data", "DATA", "--output", "run"),
        ("export", "--model", "FOLDER", "--output", "a.onnx"),
        ("predict", "--model", "FOLDER", "DATA/images", "--output", "out"),
        ("predict", "--model", "leaf", "DATA/images", "--output", "out", "--device", "cuda"),
        ("demo", "--output", "demo"),
    ],
    ids=" ".join,
)
def test_what_needs_it_says_which_extra(tiny_model, tiny_data, tmp_path, arguments):
    names = {"FOLDER": str(tiny_model), "DATA": str(tiny_data)}
    for name, path in names.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    done = panembed_without_torch(*arguments, folder=tmp_path)
    assert done.returncode == 1
    assert "pip install 'panembed[train]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_in_python(photos, tmp_path):
    code = """
import panembed
result = panembed.load("leaf").predict(sys.argv[1])
assert result.counts()["leaf"] > 0
assert "torch" not in sys.modules
"""
    done = without_torch(code, photos / "leaf.png", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_loading_a_model_imports_little(tmp_path):
    """What takes long to import waits until it is needed."""
    code = """
import panembed
panembed.load("leaf")
late = ("torch", "scipy.ndimage", "scipy.special", "scipy.spatial", "scipy.stats", "skimage", "matplotlib", "typer")
assert not [name for name in late if name in sys.modules], [name for name in late if name in sys.modules]
"""
    done = without_torch(code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
