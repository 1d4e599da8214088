"""Networks that are none of segmentation_models_pytorch: the document's example, and what is refused."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from panembed.errors import ModelError, SettingsError
from panembed.inference.own_code import allowing, find
from panembed.models.panoptic_net import PanopticNet

PAGE = Path(__file__).parents[2] / "docs/own-network.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def my_network(tmp_path, monkeypatch):
    """The page's module in the current folder; it notes that it was imported."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here/my_network.py").write_text(
        BLOCKS[0] + "\n\nimport pathlib\npathlib.Path(__file__).with_name('imported').touch()\nNOT_A_CLASS = 3\n"
    )
    (tmp_path / "here/broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "here"
    for name in ("my_network", "broken"):
        sys.modules.pop(name, None)


def test_the_pages_python(my_network):
    scope = {}
    exec(BLOCKS[0], scope)
    exec(BLOCKS[1], scope)
    assert tuple(scope["logits"].shape) == (1, 2, 64, 96)
    assert tuple(scope["embeddings"].shape) == (1, 8, 64, 96)
    assert scope["net"].encoder.layers[0].weight.grad is not None


def options_of(**settings):
    return [part for key, value in settings.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


SMALL = options_of(
    input__size="[64,64]",
    input__fit="resize",
    training__epochs=1,
    training__schedule="constant",
    training__precision="float32",
    augmentation__source_scale=1,
    model__detail_channels="null",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Pyramid", "TwoOutputs"])
def test_train_score_predict_and_go_on(cli, tmp_path, tiny_data, my_network, name):
    run, module = tmp_path / "run", f"my_network:{name}"
    width = options_of(model__options="{width: 8}") if name == "Pyramid" else []
    heads = options_of(grouping__method="mean_shift", model__seed_head="null", model__anchor_tau="null")
    data = ("--data", tiny_data, "--output", run, "--device", "cpu")
    asked = ("train", "--preset", "demo", *SMALL, *width, *heads, *options_of(model__architecture=module))
    outcome = cli(*asked, *data)
    assert outcome.code == 0, outcome.err
    assert f"{name} of the module my_network" in (run / "model/README.md").read_text()

    # Nothing is imported for whom did not ask.
    sys.modules.pop("my_network")
    (my_network / "imported").unlink()
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.csv").write_text("epoch,seconds\n")
    commands = {
        "predict": ("predict", "--model", run, tiny_data / "images", "--output", tmp_path / "p"),
        "evaluate": ("evaluate", "--model", run, "--data", tiny_data, "--output", tmp_path / "e"),
        "tune": ("tune", "--model", run, "--data", tiny_data, "--trials", "1"),
        "resume": ("train", *data, "--resume"),
        "config": ("train", "--config", run / "config.yaml", "--data", tiny_data, "--output", tmp_path / "c"),
        "dry run": (
            *("train", "--config", run / "config.yaml", "--data", tiny_data, "--output", tmp_path / "c", "--dry-run"),
        ),
        "start_from": (
            *("train", "--preset", "demo", *SMALL, *heads, *options_of(model__start_from=run), "--data", tiny_data),
            *("--output", tmp_path / "s"),
        ),
    }
    (tmp_path / "experiment.yaml").write_text(
        json.dumps({"title": "t", "config": str(run / "config.yaml"), "seeds": [0], "variants": [{"name": "a"}]})
    )
    commands["experiment"] = (
        *("experiment", tmp_path / "experiment.yaml", "--data", tiny_data, "--output", tmp_path / "x", "--dry-run"),
    )
    commands["export"] = ("export", "--model", run, "--output", tmp_path / "own.onnx")
    for verb, arguments in commands.items():
        outcome = cli(*arguments)
        assert outcome.code in (1, 2), (verb, outcome)
        assert f"the network is {module}, code that is no part of panembed" in outcome.err.splitlines()[-1], verb
        assert "Traceback" not in outcome.err
        outcome = cli(*arguments, "--allow-module", "os")
        assert "--allow-module my_network" in outcome.err, verb
        assert not (my_network / "imported").exists(), verb
        assert "my_network" not in sys.modules
    for verb, arguments in commands.items():
        outcome = cli(*arguments, "--allow-module", "my_network")
        assert outcome.code == 0, (verb, outcome.err)
    sys.modules.pop("my_network")
    (my_network / "imported").unlink()
    assert cli("predict", "--model", tmp_path / "own.onnx", tiny_data / "images", "--output", tmp_path / "o").code == 0
    assert not (my_network / "imported").exists()
    with pytest.raises(ModelError, match=r"allow_modules=\['my_network'\]"):
        load(run)
    assert load(run, allow_modules=["my_network"]).predict(sorted((tiny_data / "images").iterdir())[0]).instance.shape


def load(*arguments, **options):
    import panembed

    return panembed.load(*arguments, **options)


def test_allowing_ends(my_network):
    with allowing(["my_network"]), allowing(["os"]):
        assert find("my_network:Pyramid").__name__ == "Pyramid"
    with pytest.raises(ModelError, match="was not imported"):
        find("my_network:Pyramid")


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        ("my_network:Pyramids", "has no class 'Pyramids'; there are "),
        ("my_network:NOT_A_CLASS", "has no class 'NOT_A_CLASS'"),
        ("my_networks:Pyramid", "there is no module 'my_networks'"),
        ("my_network.inner:Pyramid", "can't be imported|there is no module"),
        ("broken:Net", r"can't be imported \(ZeroDivisionError: division by zero\)"),
        ("my_network:", "names no class; expected package.module:Class"),
        ("os.path:join", "can't be built with"),
        ("pathlib:Path", "makes a PosixPath; expected a torch.nn.Module"),
    ],
)
def test_names_that_lead_nowhere(my_network, architecture, told):
    modules = ["my_network", "my_networks", "my_network.inner", "broken", "os.path", "pathlib"]
    with allowing(modules), pytest.raises(SettingsError, match=told):
        PanopticNet(2, 4, architecture=architecture)


class Gives(nn.Module):
    def __init__(self, *outputs):
        super().__init__()
        self.outputs = outputs
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        side = image.shape[-1]
        made = [
            self.weight + torch.zeros(1, channels, side // stride, side // stride) for channels, stride in self.outputs
        ]
        return made[0] if len(made) == 1 else made


class Broken(nn.Module):
    def forward(self, image):
        raise KeyError("nothing")


@pytest.mark.parametrize(
    ("module", "options", "told"),
    [
        (Gives((2, 1), (5, 1)), {}, r"gives embeddings of shape \(1, 5, 64, 64\).*expected \(1, 4, 64, 64\)"),
        (Gives((3, 1), (4, 1)), {}, "gives class scores of shape"),
        (Gives((2, 2), (4, 2)), {}, r"gives class scores of shape \(1, 2, 32, 32\)"),
        (Gives((2, 1), (4, 1)), {"seed_head": "parallel"}, "asks for 2 channels of seeds"),
        (Gives((2, 1), (4, 1), (2, 1)), {}, r"gives seeds of shape \(1, 2, 64, 64\).*expected \(1, 0, "),
        (Gives((2, 1), (4, 1)), {"detail_channels": 4}, "no map that details could join"),
        (Gives((2, 1), (4, 1), (2, 1), (2, 1)), {}, "gives a list of 4; expected one map"),
        (Gives((8, 2)), {"detail_channels": 4}, "doesn't end at the image's resolution"),
        (Gives((8, 1)), {"attention": "scse"}, "attention and decoder_channels have no effect"),
        (Gives((8, 1)), {"options": {"width": 3}}, "have no effect on a network that is built already"),
        (nn.Flatten(), {}, "gives a map of shape"),
        (Broken(), {}, r"can't take an image of 3 x 64 x 64 \(KeyError: 'nothing'\)"),
        (lambda num_classes: nn.Conv2d(3, 4, 1), {"coordinates": True}, "takes no in_channels"),
        (lambda: None, {}, "makes a NoneType"),
    ],
)
def test_what_does_not_fit_is_told(module, options, told):
    with pytest.raises(SettingsError, match=told):
        PanopticNet(2, 4, architecture=module, **options)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("heads", [{}, {"seed_head": "series", "density": True, "anchor_tau": 8.0}])
def test_a_map_gets_the_heads(stride, heads):
    net = PanopticNet(3, 4, architecture=Gives((8, stride)), **heads).eval()
    outputs = net(torch.zeros(1, 3, 64, 64))
    assert [tuple(o.shape) for o in outputs] == [(1, c, 64, 64) for c in ((3, 4, 3) if heads else (3, 4))]


def test_outputs_are_taken_as_they_are():
    net = PanopticNet(
        2, 4, architecture=Gives((2, 1), (4, 1), (3, 1)), seed_head="parallel", density=True, anchor_tau=8
    )
    logits, embeddings, seeds = net(torch.zeros(1, 3, 64, 64))
    assert (logits.shape[1], seeds.shape[1]) == (2, 3)
    assert embeddings[0, :2, 8, 16].tolist() == [2.0, 1.0]
    assert [name for name, _ in net.named_parameters()] == ["encoder.weight"]


def test_coordinates_reach_a_network_that_asks_for_channels():
    net = PanopticNet(2, 4, architecture=lambda in_channels: nn.Conv2d(in_channels, 6, 1), coordinates=True)
    assert net.encoder.in_channels == 5
    net(torch.zeros(1, 3, 32, 32))


def test_settings_of_encoders_are_left_out_or_refused(cli, tmp_path, tiny_data, my_network):
    import yaml

    common = (
        "train",
        "--data",
        tiny_data,
        "--output",
        tmp_path / "r",
        "--dry-run",
        "--set",
        "model.detail_channels=null",
    )
    own = ("--set", "model.architecture=my_network:Pyramid")
    outcome = cli(*common, "--preset", "thesis-cvppp-scse", *own)
    assert outcome.code == 0, outcome.err
    model = yaml.safe_load(outcome.out)["model"]
    assert (model["encoder"], model["encoder_weights"], model["attention"]) == ("none", "none", None)
    assert model["freeze_encoder"] is False
    for key, value in (("encoder", "resnet18"), ("attention", "scse"), ("encoder_weights", "imagenet")):
        outcome = cli(*common, "--preset", "nuclei", *own, "--set", f"model.{key}={value}")
        assert outcome.code == 2
        assert f"model.{key}" in outcome.sentence()
        assert "has no effect on a network of your own" in outcome.sentence()


def test_weights_of_its_own(tmp_path, my_network):
    from panembed.assembly import build
    from panembed.labels.categories import Category, LabelSet
    from panembed.settings.schema import Settings

    with allowing(["my_network"]):
        torch.save(find("my_network:Pyramid")(width=4).state_dict(), tmp_path / "w.pth")
        model = {"architecture": "my_network:Pyramid", "options": {"width": 4}, "encoder": "none"}
        settings = Settings.from_mapping({"model": {**model, "encoder_weights": str(tmp_path / "w.pth")}})
        net = build.network(settings, LabelSet([Category(0, "a", False), Category(1, "b", True)]), pretrained=True)
    weights = torch.load(tmp_path / "w.pth", weights_only=True)
    assert all(torch.equal(net.encoder.state_dict()[key], value) for key, value in weights.items())
