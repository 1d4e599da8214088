"""Settings: every preset loads, and every mistake is told in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from panembed.assembly import build
from panembed.datasets.cvppp import LEAVES
from panembed.errors import SettingsError
from panembed.settings.schema import Settings, preset_names, preset_text


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_survives_yaml(name: str, tmp_path: Path) -> None:
    settings = Settings.load(preset=name)
    (tmp_path / "config.yaml").write_text(settings.to_yaml(), encoding="utf-8")
    assert Settings.load(config=tmp_path / "config.yaml") == settings
    # What the preset says is what is taken.
    assert_taken(yaml.safe_load(preset_text(name)), settings.model_dump(mode="json"))


def assert_taken(stated: dict, taken: dict, where: str = "") -> None:
    for key, value in stated.items():
        if isinstance(value, dict):
            assert_taken(value, taken[key], f"{where}{key}.")
        else:
            assert taken[key] == value, where + key


def test_there_are_presets() -> None:
    assert {"leaf", "nuclei", "demo"} <= set(preset_names())


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "training": st.fixed_dictionaries(
                {}, optional={"epochs": st.integers(1, 10**6), "patience": st.none() | st.integers(1, 99)}
            ),
            "loss": st.fixed_dictionaries({}, optional={"delta_var": st.floats(1e-6, 1e6)}),
            "model": st.fixed_dictionaries(
                {}, optional={"decoder_channels": st.none() | st.tuples(st.integers(1, 9)), "architecture": st.text()}
            ),
        },
    )
)
def test_yaml_round_trip(data: dict) -> None:
    settings = Settings.from_mapping(data)
    assert Settings.from_mapping(yaml.safe_load(settings.to_yaml())) == settings


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"training": {"epoch": 5}}, r"unknown key 'training\.epoch'; did you mean 'training\.epochs'\?"),
        ({"trainig": {}}, "unknown key 'trainig'; did you mean 'training'"),
        ({"model": {"embeding_dims": 5}}, r"did you mean 'model\.embedding_dim'"),
        ({"epochs": 5}, r"did you mean 'training\.epochs'"),
        ({"loss": {"bandwidth": 5}}, r"unknown key 'loss\.bandwidth'; did you mean 'grouping\.bandwidth'"),
        ({"zzzzzz": 5}, "known sections are input, augmentation, model, loss, training, grouping, split"),
    ],
)
def test_an_unknown_key_names_the_nearest_known(data: dict, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Settings.from_mapping(data)


@pytest.mark.parametrize(
    ("data", "key", "found"),
    [
        ({"training": {"epochs": "many"}}, "training.epochs", "'many'"),
        ({"training": {"epochs": 0}}, "training.epochs", "0"),
        ({"training": {"epochs": 2.5}}, "training.epochs", "2.5"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate", "nan"),
        ({"training": {"monitor": "loss"}}, "training.monitor", "'loss'"),
        ({"model": {"attention": "se"}}, "model.attention", "'se'"),
        ({"input": {"size": 256}}, "input.size", "256"),
        ({"input": {"size": [256]}}, "input.size", ""),
        ({"training": None}, "training", "None"),
        ({"training": [1]}, "training", r"\[1\]"),
        ({"grouping": {"seed_bandwidth": -1}}, "grouping.seed_bandwidth", "-1"),
    ],
)
def test_a_wrong_value_names_key_and_value(data: dict, key: str, found: str) -> None:
    with pytest.raises(SettingsError, match=rf"settings: {key}\b.*found .*{found}") as caught:
        Settings.from_mapping(data)
    assert "\n" not in str(caught.value)


def test_further_mistakes_are_counted() -> None:
    with pytest.raises(SettingsError, match=r"and 1 more"):
        Settings.from_mapping({"training": {"epochs": 0, "batch_size": 0}})


@pytest.mark.parametrize("data", [[1], "text", 3, None])
def test_settings_are_a_mapping(data: object) -> None:
    with pytest.raises(SettingsError, match="here: expected sections"):
        Settings.from_mapping(data, "here")


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.learning_rate=3e-4", "training", "learning_rate", 3e-4),
        ("training.learning_rate=0.01", "training", "learning_rate", 0.01),
        ("training.epochs=7", "training", "epochs", 7),
        ("training.patience=null", "training", "patience", None),
        ("training.patience=", "training", "patience", None),
        ("input.size=[128, 64]", "input", "size", (128, 64)),
        ("augmentation.scale=[1, 1.25]", "augmentation", "scale", (1.0, 1.25)),
        ("model.decoder_channels=[64,32,16]", "model", "decoder_channels", (64, 32, 16)),
        ("model.freeze_encoder=true", "model", "freeze_encoder", True),
        ("model.encoder_weights=a=b.pth", "model", "encoder_weights", "a=b.pth"),
        ("model.options.decoder_dropout=0.2", "model", "options", {"decoder_dropout": 0.2}),
        ("model.options={psp_out_channels: 8}", "model", "options", {"psp_out_channels": 8}),
        (" model.encoder=resnet18", "model", "encoder", "resnet18"),
    ],
)
def test_overrides(override: str, section: str, key: str, value: object) -> None:
    found = getattr(getattr(Settings.load(preset="leaf", overrides=[override]), section), key)
    assert found == value
    assert type(found) is type(value)


def test_the_last_override_wins_and_the_rest_stays() -> None:
    leaf = Settings.load(preset="leaf")
    changed = Settings.load(preset="leaf", overrides=["training.epochs=5", "training.epochs=6"])
    assert changed.training.epochs == 6
    assert changed.model == leaf.model
    assert changed.training.learning_rate == leaf.training.learning_rate


def test_a_section_with_some_of_its_settings_keeps_the_others() -> None:
    leaf = Settings.load(preset="leaf")
    changed = Settings.load(preset="leaf", overrides=["grouping={min_area: 5, recount: null}", "training={}"])
    assert changed.grouping == leaf.grouping.model_copy(update={"min_area": 5, "recount": None})
    assert changed.training == leaf.training
    assert leaf.changed(["grouping={min_area: 5}"]).grouping.method == leaf.grouping.method == "seed_map"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.epochs", "expected KEY=VALUE"),
        ("=5", "expected KEY=VALUE"),
        ("training.epochs.more=5", "leads into a value"),
        ("training.epochs=[1", "isn't YAML"),
        ("training.epoch=5", r"did you mean 'training\.epochs'"),
        ("training.epochs=few", "found 'few'"),
        ("training=5", "training: found 5"),
    ],
)
def test_wrong_overrides(override: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Settings.load(preset="leaf", overrides=[override])


def test_a_trained_model_heeds_input_and_grouping_only() -> None:
    leaf = Settings.load(preset="leaf")
    changed = leaf.changed(["grouping.clear_border=false", "input.size=[384, 320]"])
    assert (changed.grouping.clear_border, changed.input.size) == (False, (384, 320))
    assert leaf.grouping.clear_border
    assert changed.model_copy(update={"grouping": leaf.grouping, "input": leaf.input}) == leaf
    assert leaf.changed([]) == leaf
    for override, told in (
        ("training.epochs=5", r"--set 'training\.epochs=5': .*expected a setting of input or grouping"),
        ("labels={}", "expected a setting of input or grouping"),
        ("grouping.clear_boarder=false", r"did you mean 'grouping\.clear_border'"),
        ("grouping.min_area=few", "grouping.min_area: found 'few'"),
    ):
        with pytest.raises(SettingsError, match=told):
            leaf.changed([override])


def test_an_override_goes_into_a_file_without_that_section(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("", encoding="utf-8")
    assert Settings.load(config=path) == Settings()
    assert Settings.load(config=path, overrides=["loss.gamma=0.5"]).loss.gamma == 0.5


def test_numbers_as_yaml_reads_them(tmp_path: Path) -> None:
    """YAML 1.1 takes 3e-4 for text."""
    path = tmp_path / "a.yaml"
    path.write_text("training: {learning_rate: 3e-4}\n", encoding="utf-8")
    assert Settings.load(config=path).training.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"a: [1", "not YAML"), (b"- 1\n", "expected sections"), (b"\xff\xfe\x00", "can't be read"), (b"7", "sections")],
)
def test_files_that_are_no_settings(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=told) as caught:
        Settings.load(config=path)
    assert "a.yaml" in str(caught.value)


def test_presets_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no preset 'leaves'; there are .*demo, leaf, nuclei"):
        Settings.load(preset="leaves")
    with pytest.raises(SettingsError, match="can't be read"):
        Settings.load(config=tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="can't be read"):
        Settings.load(config=tmp_path)
    with pytest.raises(SettingsError, match="give one of"):
        Settings.load()
    with pytest.raises(SettingsError, match="give one of"):
        Settings.load(preset="leaf", config=tmp_path)


def test_class_wise_grouping() -> None:
    settings = Settings.from_mapping({"grouping": {"min_area": 30, "by_class": {"leaf": {"min_area": 7}}}})
    grouping = build.grouping(settings.grouping, LEAVES)
    assert grouping.min_area == 30
    assert grouping.by_class[1].min_area == 7
    assert grouping.by_class[1].bandwidth == grouping.bandwidth
    wrong = Settings.from_mapping({"grouping": {"by_class": {"laef": {"min_area": 7}}}})
    with pytest.raises(SettingsError, match="did you mean 'leaf'"):
        build.grouping(wrong.grouping, LEAVES)


def test_rare_classes_weigh_more() -> None:
    settings = Settings.from_mapping({"loss": {"class_balance": 0.5}})
    weights = build.loss(settings, LEAVES, np.array([0.96, 0.04])).class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([1.0, 24**0.5])
    assert build.loss(settings, LEAVES, np.array([1.0, 0.0])).class_weights.tolist() == [1.0, 1.0]
    assert build.loss(Settings(), LEAVES, np.array([0.96, 0.04])).class_weights is None


@pytest.mark.parametrize(("channels", "says"), [(None, True), (8, False)])
def test_advice_on_a_late_detail_branch_that_is_not_there(channels: int | None, says: bool) -> None:
    data = {"model": {"detail_channels": channels}, "training": {"detail_from": 0.5}}
    assert any("training.detail_from" in sentence for sentence in Settings.from_mapping(data).advice()) is says


@pytest.mark.parametrize("channels", [[64, 0], [64, -1], [64, 1.5]])
def test_decoder_blocks_have_channels(channels: list[float]) -> None:
    with pytest.raises(SettingsError, match="decoder_channels"):
        Settings.from_mapping({"model": {"decoder_channels": channels}})


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"architecture": "PSPNet", "options": {"encoder_depth": 4}}, "makes 32 x 32 pixels of 64 x 64"),
        ({"architecture": "FPN", "options": {"upsampling": 8}}, "makes 128 x 128 pixels of 64 x 64"),
        ({"encoder": "tu-swin_tiny_patch4_window7_224"}, "can't take images of 64 x 64"),
        ({"encoder_weights": "nofile.pth"}, "'nofile.pth' is no file"),
        ({"start_from": "leaf"}, "leaf has the encoder tu-tf_efficientnet_lite0, but model.encoder is resnet18"),
    ],
)
def test_what_can_not_start_is_told_before_it_does(model: dict, told: str) -> None:
    settings = Settings.from_mapping({"input": {"size": [64, 64]}, "model": {"encoder": "resnet18", **model}})
    with pytest.raises(SettingsError, match=told):
        build.parts(settings, LEAVES, weights="check")


def test_a_model_to_start_from_with_the_same_encoder_passes() -> None:
    model = {"encoder": "tu-tf_efficientnet_lite0", "start_from": "leaf"}
    build.parts(Settings.from_mapping({"input": {"size": [64, 64]}, "model": model}), LEAVES, weights="check")
