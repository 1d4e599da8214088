"""Model folders: what is saved is what predicts, and a damaged folder says so."""

from __future__ import annotations

import copy
import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import panembed
from panembed.assembly.build import network
from panembed.datasets.cvppp import LEAVES
from panembed.errors import ModelError
from panembed.inference.grouping import Grouping
from panembed.inference.model_config import ModelConfig, read_config, summary
from panembed.inference.predictor import PanopticModel
from panembed.inference.preparation import Preparation
from panembed.labels.categories import Category, LabelSet
from panembed.metrics.leaf import symmetric_best_dice
from panembed.models.panoptic_net import PanopticNet
from panembed.models.pretrained import load_fitting_weights, load_weights, save_model
from panembed.models.torch_backend import TorchBackend
from panembed.settings.schema import Settings

SETTINGS = Settings.from_mapping(
    {
        "input": {"size": [64, 64], "fit": "native"},
        "model": {"encoder": "tu-mobilenetv3_small_050", "decoder_channels": [16, 8, 8, 8, 8], "embedding_dim": 4},
        "grouping": {"bandwidth": 1.25, "min_area": 7},
    }
)
CONFIG = ModelConfig(
    SETTINGS.model_dump(mode="json"),
    LEAVES.to_list(),
    {"train": ["a", "b"], "val": ["c"], "test": [], "seed": 0, "fractions": [0.6, 0.2, 0.2]},
    {"epoch": 3, "val_pq": 0.5},
)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    made = network(SETTINGS, LEAVES, pretrained=False)
    # Statistics of its own, as after training.
    made.train()(torch.randn(2, 3, 64, 64))
    return made.eval()


@pytest.fixture(scope="module")
def written(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "model"
    folder.mkdir()
    save_model(folder, net, CONFIG)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "model"))


@pytest.mark.parametrize("run", [True, False])
def test_a_loaded_model_gives_identical_outputs(net: nn.Module, written: Path, run: bool) -> None:
    model = panembed.load(written.parent if run else written, device="cpu")
    assert model.label_set == LEAVES
    assert (model.preparation.size, model.preparation.fit) == ((64, 64), "native")
    assert (model.grouping.bandwidth, model.grouping.min_area) == (1.25, 7)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32)
    for ours, theirs in zip(model.backend(images), TorchBackend(net)(images)):
        assert ours.dtype == np.float32
        assert np.array_equal(ours, theirs)


def test_prediction_is_in_evaluation_mode(net: nn.Module) -> None:
    backend = TorchBackend(net)
    image = np.zeros((1, 3, 64, 64), np.float32)
    evaluated = backend(image)
    net.train()
    try:
        again = backend(image)
    finally:
        net.eval()
    assert np.array_equal(evaluated[0], again[0])


def test_config_survives(folder: Path) -> None:
    assert read_config(folder) == CONFIG
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "Things: leaf. Stuff: background." in card
    assert "| val_pq | 50.0 % |" in card


def test_figures_that_are_not_there_do_not_stop_training(tmp_path: Path) -> None:
    """PQ of stuff is NaN where the label set has none; JSON has no NaN."""
    save_model(tmp_path, nn.Linear(2, 2), ModelConfig(CONFIG.settings, CONFIG.categories, CONFIG.split, {"a": np.nan}))
    assert read_config(tmp_path).metrics == {"a": None}


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format(folder: Path, version: object) -> None:
    data = json.loads((folder / "config.json").read_text())
    data |= {"format": version, "panembed_version": "9.9"}
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=rf"model format {version!r} \(written by panembed 9\.9\), expected 1"):
        panembed.load(folder)


@pytest.mark.parametrize("key", ["settings", "categories", "split", "metrics"])
def test_a_key_is_missing(folder: Path, key: str) -> None:
    data = json.loads((folder / "config.json").read_text())
    del data[key]
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=f"key '{key}' is missing"):
        panembed.load(folder)


@pytest.mark.parametrize(("key", "value"), [("settings", {"modell": {}}), ("settings", 3), ("categories", [{"id": 1}])])
def test_a_key_holds_something_else(folder: Path, key: str, value: object) -> None:
    data = json.loads((folder / "config.json").read_text())
    data[key] = value
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=r"another version|damaged"):
        panembed.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seen", None),
        ("seen", [3]),
        ("former_grouping", None),
        ("former_grouping", ["bandwidth"]),
    ],
)
def test_a_list_is_damaged(folder: Path, key: str, value: object) -> None:
    data = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=rf"config\.json: key '{key}' is missing or damaged"):
        read_config(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("train", None), ("val", "a"), ("test", [["a"]]), ("seed", None), ("fractions", [0.5]), ("tests", [])],
)
def test_a_split_is_damaged(folder: Path, key: str, value: object) -> None:
    data = json.loads((folder / "config.json").read_text())
    data["split"][key] = value
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=rf"config\.json: split: .*\b{key}\b.*copy the model folder again"):
        read_config(folder)


@pytest.mark.parametrize("content", [b"", b'{"format": 1', b"\xff\xfe", b"[1]"])
def test_a_damaged_config(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        panembed.load(folder)


@pytest.mark.parametrize("keep", [0, 1000, -1])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        panembed.load(folder)


def test_missing_files(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors there"):
        panembed.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="neither a run folder nor a model folder"):
        panembed.load(folder)
    with pytest.raises(ModelError, match=r"no config\.json there"):
        read_config(folder)


def test_weights_of_another_network(folder: Path) -> None:
    save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="not of the network"):
        panembed.load(folder)
    save_file({"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="not of the network"):
        load_weights(folder, nn.Linear(2, 2))


@pytest.mark.slow
def test_training_on_from_a_model_of_other_classes(folder: Path, net: nn.Module) -> None:
    street = LabelSet([Category(i, str(i), i > 1) for i in range(4)])
    same = network(SETTINGS, LEAVES, pretrained=False)
    assert load_fitting_weights(folder, same) == []
    taken, given_ = same.state_dict(), net.state_dict()
    assert all(torch.equal(taken[name], given_[name]) for name in taken)
    more = network(SETTINGS, street, pretrained=False)
    before = {name: value.clone() for name, value in more.state_dict().items()}
    anew = load_fitting_weights(folder, more)
    assert anew
    assert all("head" in name for name in anew)
    state = more.state_dict()
    assert all(torch.equal(state[name], before[name] if name in anew else given_[name]) for name in state)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="damaged"):
        load_fitting_weights(folder, more)


def test_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        panembed.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="neither a run folder nor a model folder"):
        panembed.load(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(ModelError, match="no model yet"):
        panembed.load(tmp_path)


def test_a_failure_while_writing_leaves_the_old_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "model.safetensors").read_bytes()
    write = Path.write_bytes

    def half(self: Path, data: bytes) -> None:
        write(self, data[: len(data) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(KeyboardInterrupt):
            save_model(folder, nn.Linear(9, 9), CONFIG)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    """A network that scales with its weights, having no gates; its batch norm keeps the last batch's statistics."""
    changed = SETTINGS.model_copy(
        update={"model": SETTINGS.model.model_copy(update={"encoder": "tu-tf_efficientnet_lite0"})}
    )
    made = network(changed, LEAVES, pretrained=False)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    return made


def through_half_precision(source: nn.Module, target: nn.Module) -> None:
    with tempfile.TemporaryDirectory() as place:
        save_model(Path(place), source, CONFIG, half=True)
        load_weights(place, target)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), exponent=st.floats(-7, 6))
def test_half_precision_changes_outputs_little(plain: nn.Module, seed: int, exponent: float) -> None:
    """Also with weights too large or too small for float16: batch norm makes up for their scale."""
    torch.manual_seed(seed)
    made, stored = copy.deepcopy(plain).train(), copy.deepcopy(plain)
    for weight in made.parameters():
        if weight.ndim >= 2:
            nn.init.normal_(weight, std=10**exponent / math.sqrt(weight[0].numel()))
    # Large enough that batch norm has many samples in every layer.
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        made(images)
    through_half_precision(made, stored)
    with torch.inference_mode():
        for exact, rounded in zip(made.eval()(images), stored.eval()(images)):
            assert rounded.dtype == torch.float32
            assert exact.isfinite().all()
            assert (exact - rounded).abs().max() < 1e-2 * (exact.max() - exact.min())


@pytest.mark.slow
def test_half_precision_rounds_weights_and_nothing_else(net: nn.Module, folder: Path) -> None:
    whole = (folder / "model.safetensors").stat().st_size
    save_model(folder, net, CONFIG, half=True)
    assert (folder / "model.safetensors").stat().st_size < 0.6 * whole
    weights = {name for name, value in net.named_parameters() if value.ndim >= 2}
    stored, before = load_file(folder / "model.safetensors"), net.state_dict()
    assert {name for name, value in stored.items() if value.dtype == torch.float16} == weights
    again = network(SETTINGS, LEAVES, pretrained=False)
    load_weights(folder, again)
    assert load_fitting_weights(folder, other := network(SETTINGS, LEAVES, pretrained=False)) == []
    for name, value in again.state_dict().items():
        assert value.dtype == before[name].dtype != torch.float16
        assert torch.equal(value, other.state_dict()[name])
        assert torch.equal(value, before[name].half().float() if name in weights else before[name])
    # Statistics and counters are among what stays exact.
    assert any("running_var" in name for name in stored)
    assert any(value.dtype == torch.int64 for value in stored.values())


@pytest.mark.parametrize("value", [1e5, -1e30, 1e-7, 3e-25, math.nan, math.inf])
def test_weights_that_float16_cannot_hold_stay_exact(tmp_path: Path, value: float) -> None:
    linear = nn.Linear(3, 2)
    nn.init.constant_(linear.weight, value)
    save_model(tmp_path, linear, CONFIG, half=True)
    stored = load_file(tmp_path / "model.safetensors")["weight"]
    assert stored.dtype == torch.float32
    assert torch.equal(stored.nan_to_num(), linear.weight.nan_to_num())


class ByColour(nn.Module):
    """Colours are embeddings, and dark is background: objects that mean shift can tell apart, without training."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.embeddings = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 5, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scores(images), self.embeddings(images)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_half_precision_finds_the_same_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    image = rng.integers(0, 12, (96, 96, 3), dtype=np.uint8)
    colours = [(230, 60, 60), (60, 230, 60), (60, 60, 230), (220, 220, 60), (60, 220, 220)]
    for index, colour in enumerate(colours):
        top, left = 32 * (index // 3) + 4, 32 * (index % 3) + 4
        image[top : top + 24, left : left + 24] = np.array(colour) + rng.integers(-12, 13, (24, 24, 3))
    exact, rounded = ByColour(), ByColour()
    nn.init.constant_(exact.scores.bias, 0.0)
    with torch.no_grad():
        exact.scores.weight[0], exact.scores.weight[1] = -1.03, 1.07
        exact.embeddings.weight[:, :, 0, 0] = nn.init.orthogonal_(torch.empty(5, 3)) * float(rng.uniform(1, 3))
    through_half_precision(exact, rounded)
    assert not torch.equal(exact.embeddings.weight, rounded.embeddings.weight)
    ours, theirs = (
        PanopticModel(
            TorchBackend(net), LEAVES, Preparation(size=(96, 96), fit="native"), Grouping(bandwidth=0.5, min_area=100)
        ).segment(image)
        for net in (exact, rounded)
    )
    assert len(np.unique(ours.instance[ours.instance > 0])) == len(colours)
    assert np.mean(ours.semantic == theirs.semantic) > 0.999
    assert symmetric_best_dice(theirs.instance, ours.instance) > 0.999


def test_summary(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    assert summary(folder) == f"things leaf; stuff background; {size:.1f} MB"
    data = json.loads((folder / "config.json").read_text())
    data["metrics"]["held_out"] = {"images": 20, "things_pq": 0.7874, "sbd": None, "abs_dic": 1.354}
    data["categories"] = data["categories"][1:]
    (folder / "config.json").write_text(json.dumps(data))
    assert summary(folder).startswith("things leaf; ")
    assert summary(folder).endswith("; on 20 held-out images things PQ 78.7, |DiC| 1.35")


def test_vectors_that_fit_any_network_are_no_start(tmp_path):
    """Batch norm and a class head fit a network whose encoder is another; then the encoder would stay random."""
    other = PanopticNet(2, 4, encoder="tu-tf_efficientnet_lite0", decoder_channels=(32, 16, 16))
    save_model(tmp_path, other, CONFIG)
    with pytest.raises(ModelError, match="no weight fits the encoder of the settings"):
        load_fitting_weights(tmp_path, PanopticNet(2, 4, encoder="resnet18", decoder_channels=(32, 16, 16)))
