"""Models that are exported predict what they predicted, or there is no file."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
import torch

import panembed
from panembed.assembly import build
from panembed.assembly import export as exporting
from panembed.assembly.export import export
from panembed.datasets.cvppp import LEAVES
from panembed.errors import ModelError, OutputError
from panembed.inference.model_config import ModelConfig, read_config
from panembed.inference.onnx_backend import OnnxBackend
from panembed.models.pretrained import save_model
from panembed.models.torch_backend import TorchBackend
from panembed.settings.schema import Settings


def model_folder(folder, model, *, half=False):
    """A model folder of random weights, whose batch norm has statistics."""
    folder.mkdir()
    settings = Settings.from_mapping({"input": {"size": [64, 64]}, "model": model})
    torch.manual_seed(1)
    net = build.network(settings, LEAVES, pretrained=False)
    net.train()(torch.randn(2, 3, 64, 64))
    split = {"train": ["a"], "val": [], "test": [], "seed": 0, "fractions": [0.6, 0.2, 0.2]}
    save_model(folder, net, ModelConfig(settings.model_dump(mode="json"), LEAVES.to_list(), split, {}), half=half)
    return folder


def compare(ours, theirs):
    assert isinstance(ours.backend, OnnxBackend)
    assert isinstance(theirs.backend, TorchBackend)
    for size in ((1, 32, 32), (2, 64, 160), (1, 256, 96)):
        images = np.random.default_rng(3).standard_normal((size[0], 3, *size[1:])).astype(np.float32)
        for mine, other in zip(ours.backend(images), theirs.backend(images), strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"architecture": "Unet", "attention": "scse", "decoder_channels": [32, 16, 16], "coordinates": True},
        {"architecture": "UnetPlusPlus", "decoder_channels": [16, 8, 8], "seed_head": "parallel"},
        {"architecture": "MAnet", "decoder_channels": [16, 16, 16]},
        {"architecture": "FPN", "encoder": "tu-mobilenetv3_small_050"},
        {"architecture": "DeepLabV3Plus", "anchor_tau": 20.0},
        {"architecture": "Linknet", "detail_channels": 4},
        {"architecture": "Segformer", "encoder": "mit_b0", "seed_head": "series", "density": True},
    ],
    ids=lambda model: model["architecture"],
)
def test_architectures(tmp_path, model):
    """Each of them, or a sentence."""
    folder = model_folder(tmp_path / "model", {"encoder": "resnet18"} | model)
    written = export(folder, tmp_path / "a.onnx")
    assert written.difference < 1e-3
    compare(panembed.load(tmp_path / "a.onnx"), panembed.load(folder, device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["PSPNet", "UPerNet"])
def test_architectures_that_cannot_be_exported(tmp_path, architecture, capfd):
    """They pool to fixed grids, which ONNX has no operator for."""
    folder = model_folder(tmp_path / "model", {"architecture": architecture, "encoder": "resnet18"})
    capfd.readouterr()
    with pytest.raises(ModelError, match="can't export this network to ONNX") as caught:
        export(folder, tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_one_file_has_everything(tiny_exported, tiny_model):
    ours, theirs = panembed.load(tiny_exported), panembed.load(tiny_model, device="cpu")
    compare(ours, theirs)
    assert read_config(tiny_exported) == read_config(tiny_model)
    assert ours.label_set == theirs.label_set
    assert ours.preparation == theirs.preparation
    onnx.checker.check_model(onnx.load(tiny_exported), full_check=True)


def test_a_graph_beside_the_weights(tiny_graph_folder, tiny_model):
    """There is one set of weights, and other readers of ONNX find it."""
    compare(panembed.load(tiny_graph_folder), panembed.load(tiny_model, device="cpu"))
    assert (tiny_graph_folder / "model.onnx").stat().st_size < 200_000
    onnx.checker.check_model(str(tiny_graph_folder / "model.onnx"), full_check=True)
    # As they lie there: training may go on.
    weights = onnx.load(tiny_graph_folder / "model.onnx").graph.initializer
    assert any(tensor.name == "class_head.weight" for tensor in weights)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_half_precision_stays(tmp_path, whole):
    model = {"encoder": "tu-tf_efficientnet_lite0", "decoder_channels": [16, 8, 8]}
    folder = model_folder(tmp_path / "model", model, half=True)
    written = export(folder, tmp_path / "a.onnx" if whole else None)
    loaded = panembed.load(written.path if whole else folder)
    compare(loaded, panembed.load(folder, runtime="torch", device="cpu"))
    weights = (folder / "model.safetensors").stat().st_size
    assert written.path.stat().st_size < (1.1 * weights if whole else 200_000)


def test_training_goes_on_below_the_graph(tiny_graph_folder, tmp_path):
    """Further training leaves the graph right: it has none of the weights."""
    folder = shutil.copytree(tiny_graph_folder, tmp_path / "model")
    settings = Settings.from_mapping(read_config(folder).settings)
    torch.manual_seed(9)
    net = build.network(settings, LEAVES, pretrained=False)
    save_model(folder, net, read_config(folder))
    compare(panembed.load(folder, device="cpu"), panembed.load(folder, runtime="torch", device="cpu"))


def test_outputs_that_differ_leave_no_file(tiny_model, tmp_path, monkeypatch):
    class Wrong(OnnxBackend):
        def __call__(self, images):
            return tuple(output * 1.01 for output in super().__call__(images))

    monkeypatch.setattr(exporting, "OnnxBackend", Wrong)
    with pytest.raises(ModelError, match=r"a\.onnx: not written, as its outputs differ from PyTorch's by 0\.01"):
        export(tiny_model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_places(tiny_model, tiny_exported, tmp_path):
    with pytest.raises(OutputError, match="ends in"):
        export(tiny_model, tmp_path / "a.pt")
    with pytest.raises(OutputError, match="is there already"):
        export(tiny_model, tiny_exported)
    with pytest.raises(OutputError, match="comes with the package"):
        export("leaf")
    with pytest.raises(ModelError, match="is an exported network"):
        export(tiny_exported, tmp_path / "a.onnx")
    with pytest.raises(OutputError, match="its folder does not exist"):
        export(tiny_model, tmp_path / "none/a.onnx")


def test_what_the_file_says(tiny_exported):
    model = onnx.load(tiny_exported)
    assert model.producer_name == "panembed"
    data = json.loads({entry.key: entry.value for entry in model.metadata_props}["panembed.config"])
    assert data["settings"]["input"]["normalization"] == "image"
    assert data["categories"][1]["name"] == "leaf" or data["categories"]
    assert set(data["split"]) >= {"train", "val", "test"}
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 3, "height", "width"]
