"""Training that starts from a model has that model's network, but for what the user set."""

import json
import os
import shutil
from pathlib import Path

import pytest

from panembed.assembly.start import ARCHITECTURE, keep_architecture
from panembed.assembly.trained_model import split_of
from panembed.errors import ModelError
from panembed.inference.model_config import read_config
from panembed.settings.schema import ModelSettings, Settings


def of_model(name):
    from panembed.inference.model_folder import resolve_model_folder

    return Settings.from_mapping(read_config(resolve_model_folder(name)).settings)


@pytest.mark.parametrize("preset", ["nuclei", "leaf", "thesis-cvppp-scse"])
@pytest.mark.parametrize("start", ["nuclei", "leaf"])
def test_every_weight_of_the_model_fits(preset, start):
    from panembed.assembly import build
    from panembed.inference.model_folder import resolve_model_folder
    from panembed.labels.categories import LabelSet
    from panembed.models.pretrained import load_fitting_weights

    settings = Settings.load(preset, None, [f"model.start_from={start}"])
    settings, said = keep_architecture(settings, {"start_from"})
    folder = resolve_model_folder(start)
    label_set = LabelSet.from_list(read_config(folder).categories)
    net = build.network(settings, label_set, pretrained=False)
    assert load_fitting_weights(folder, net) == []
    assert {key: getattr(settings.model, key) for key in ARCHITECTURE} == {
        key: getattr(of_model(start).model, key) for key in ARCHITECTURE
    }
    assert settings.model.start_from == start
    assert settings.loss == Settings.load(preset).loss
    assert (said == []) is (preset == start == "leaf")


def test_every_key_is_of_the_network_or_known_not_to_be():
    """A new setting of the network must be put on one of the two lists."""
    assert set(ModelSettings.model_fields) - set(ARCHITECTURE) == {"encoder_weights", "start_from", "freeze_encoder"}


def test_what_the_user_set_stays_and_is_said():
    settings = Settings.load("nuclei", None, ["model.start_from=nuclei", "model.embedding_dim=4"])
    settings, said = keep_architecture(settings, {"start_from", "embedding_dim"})
    assert settings.model.embedding_dim == 4
    assert settings.model.seed_head == "parallel"
    (sentence,) = [line for line in said if "embedding_dim" in line]
    assert "4 as you set it, but nuclei has 8" in sentence


def test_colours_that_the_model_never_saw_are_said():
    settings = Settings.load("nuclei", None, ["model.start_from=leaf"])
    _, said = keep_architecture(settings, {"start_from"})
    assert any("--set input.normalization=imagenet" in sentence for sentence in said)


def test_without_a_start_nothing_changes():
    settings = Settings.load("leaf")
    assert keep_architecture(settings, ()) == (settings, [])


def test_a_start_that_is_not_there():
    settings = Settings.load("leaf", None, ["model.start_from=nucleus"])
    with pytest.raises(ModelError, match="did you mean 'nuclei'"):
        keep_architecture(settings, ())


class TestCommand:
    @pytest.fixture
    def start(self, tmp_path, tiny_model):
        """A model with a seed head that no preset's embedding size fits; its training starts from random weights."""
        import torch

        from panembed.assembly import build
        from panembed.inference.model_config import ModelConfig
        from panembed.labels.categories import LabelSet
        from panembed.models.pretrained import save_model

        config = read_config(tiny_model)
        config.settings["model"] |= {"seed_head": "series", "embedding_dim": 3, "anchor_tau": 9.0}
        torch.manual_seed(1)
        label_set = LabelSet.from_list(config.categories)
        net = build.network(Settings.from_mapping(config.settings), label_set, pretrained=False)
        folder = tmp_path / "start"
        folder.mkdir()
        save_model(folder, net, ModelConfig(config.settings, config.categories, config.split, config.metrics))
        return folder

    @pytest.mark.slow
    def test_train_and_resume(self, cli, tmp_path, tiny_data, start):
        small = ["input.size=[64,64]", "training.epochs=1", "training.learning_rate=1e-12", "training.ema_decay=null"]
        small += ["training.validate_every=1", "training.monitor=val_loss", "training.schedule=constant"]
        options = [part for value in (f"model.start_from={start}", *small) for part in ("--set", value)]
        run = tmp_path / "run"
        arguments = ("train", "--preset", "nuclei", *options, "--data", tiny_data, "--output", run, "--device", "cpu")
        outcome = cli(*arguments)
        assert outcome.code == 0, outcome.err
        assert "the network is that of" in outcome.err
        assert "anew" not in outcome.err
        kept = read_config(run / "model").settings["model"]
        assert (kept["embedding_dim"], kept["seed_head"], kept["anchor_tau"]) == (3, "series", 9.0)

        from safetensors.torch import load_file

        before, after = (load_file(f / "model.safetensors") for f in (start, run / "model"))
        for name in ("embedding_head.weight", "seed_head.weight", "class_head.weight"):
            assert (before[name].float() - after[name].float()).abs().max() < 1e-6

        # The run knows its network, so the same command goes on without the model that it started from.
        (run / "metrics.csv").write_text("epoch,val_loss,seconds\n")
        shutil.rmtree(start)
        assert cli(*arguments, "--resume").code == 0
        assert cli("train", "--data", tiny_data, "--output", run, "--device", "cpu", "--resume").code == 0

    def test_a_file_of_settings_is_what_the_user_set(self, cli, tmp_path, tiny_data, start):
        import yaml

        (tmp_path / "c.yaml").write_text(
            json.dumps(
                {
                    "input": {"size": [64, 64]},
                    "model": {
                        "start_from": str(start),
                        "embedding_dim": 4,
                        "encoder": "tu-tf_efficientnet_lite0",
                        "decoder_channels": [16, 8, 8],
                    },
                }
            )
        )
        outcome = cli(
            "train", "--config", tmp_path / "c.yaml", "--data", tiny_data, "--output", tmp_path / "x", "--dry-run"
        )
        assert outcome.code == 0, outcome.err
        model = yaml.safe_load(outcome.out)["model"]
        assert (model["embedding_dim"], model["seed_head"]) == (4, "series")
        assert "model.embedding_dim is 4 as you set it" in outcome.err


@pytest.mark.slow
@pytest.mark.data
def test_ten_nuclei_images_five_epochs(cli, tmp_path):
    """README's line for few labels; images that the shipped model did not learn from."""
    if not (folder := os.environ.get("PANEMBED_DATA")):
        pytest.skip("PANEMBED_DATA is not set")
    nuclei = Path(folder) / "nuclei"
    for kind in ("images", "labels"):
        (tmp_path / "ten" / kind).mkdir(parents=True)
        for id in sorted(split_of("nuclei").test)[::6]:
            shutil.copy(nuclei / kind / f"{id}.png", tmp_path / "ten" / kind)
    run = tmp_path / "run"
    outcome = cli(
        *("train", "--preset", "nuclei", "--data", tmp_path / "ten", "--output", run),
        *("--set", "model.start_from=nuclei", "--set", "training.epochs=5"),
    )
    assert outcome.code == 0, outcome.err
    assert read_config(run / "model").metrics["val_pq_things"] > 0.6
