"""A user's mistake is one sentence on stderr and the right exit code; nothing is half done."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

CROPS = """encoding: class-instance
classes:
  - {id: 0, name: soil, isthing: false}
  - {id: 1, name: crop, isthing: true}
"""


@pytest.fixture
def data(tiny_data, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(tiny_data, tmp_path / "data")


@pytest.fixture
def train(cli, tiny_config, tmp_path):
    """`panembed train` on a data folder into tmp_path/run; it must fail, and write nothing."""

    def run(data, *more, config=tiny_config):
        outcome = cli("train", "--config", config, "--data", data, "--output", tmp_path / "run", *more)
        assert outcome.code in (1, 2)
        assert outcome.out == ""
        return outcome

    return run


def write_label(data, name, array):
    path = data / "labels" / f"{name}.png"
    Image.fromarray(np.asarray(array)).save(path)
    return path


# Data that can't be used.


def test_no_such_folder(train, tmp_path):
    sentence = train(tmp_path / "no-data").sentence()
    assert "no-data: no such folder" in sentence
    assert not (tmp_path / "run").exists()


def test_file_instead_of_a_folder(train, tmp_path):
    (tmp_path / "data.zip").write_bytes(b"zip")
    assert "data.zip: is a file" in train(tmp_path / "data.zip").sentence()


def test_unknown_layout(train, tmp_path):
    (tmp_path / "stuff").mkdir()
    sentence = train(tmp_path / "stuff").sentence()
    assert "layout is not recognised" in sentence
    assert "images/ and labels/" in sentence


def test_unknown_format(train, tiny_data):
    outcome = train(tiny_data, "--format", "foldr")
    assert outcome.code == 2
    assert "did you mean 'folder'" in outcome.sentence()


@pytest.mark.parametrize(("kind", "partner"), [("images", "image"), ("labels", "label")])
def test_file_without_partner(train, data, tmp_path, kind, partner):
    (data / kind / "plant0004.png").unlink()
    sentence = train(data).sentence()
    assert f"plant0004.png: has no {partner}" in sentence
    assert "add it" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_label_of_another_size(train, data):
    path = write_label(data, "plant0001", np.ones((32, 48), np.uint8))
    sentence = train(data).sentence()
    assert str(path) in sentence
    assert "48x32" in sentence
    assert "64x64" in sentence


@pytest.mark.slow
def test_mask_instead_of_ids(train, data):
    mask = np.zeros((64, 64), np.uint8)
    mask[5:20, 5:20] = mask[40:50, 40:50] = 255
    path = write_label(data, "plant0001", mask)
    sentence = train(data).sentence()
    assert str(path) in sentence
    assert "mask of one number" in sentence
    assert "number of its own for every object" in sentence


@pytest.mark.slow
def test_unknown_class(train, data):
    (data / "labels.yaml").write_text(CROPS)
    for path in sorted((data / "labels").iterdir()):
        write_label(data, path.stem, np.zeros((64, 64), np.uint16))
    path = write_label(data, "plant0007", np.full((64, 64), 7001, np.uint16))
    sentence = train(data).sentence()
    assert str(path) in sentence
    assert "7" in sentence
    assert "crop" in sentence or "0, 1" in sentence


@pytest.mark.slow
def test_classes_without_objects(train, data):
    (data / "labels.yaml").write_text(CROPS)
    for path in sorted((data / "labels").iterdir()):
        write_label(data, path.stem, np.pad(np.ones((32, 32), np.uint16), 16))
    sentence = train(data).sentence()
    assert "no training image has an object (crop)" in sentence
    assert "panembed data check" in sentence


@pytest.mark.slow
def test_truncated_training_image(train, data):
    path = data / "images/plant0006.png"
    path.write_bytes(path.read_bytes()[:1000])
    sentence = train(data).sentence()
    assert str(path) in sentence
    assert f"`panembed data check {data}` names all" in sentence


def test_label_with_very_many_objects(cli, tmp_path):
    """More than fit 16 bits: a 32-bit TIFF is read."""
    for kind in ("images", "labels"):
        (tmp_path / "many" / kind).mkdir(parents=True)
    ids = np.arange(260 * 260, dtype=np.uint32).reshape(260, 260)
    Image.fromarray(np.zeros((260, 260, 3), np.uint8)).save(tmp_path / "many/images/a.png")
    tifffile.imwrite(tmp_path / "many/labels/a.tif", ids)
    outcome = cli("data", "check", tmp_path / "many")
    assert outcome.code == 0, outcome.err
    assert "67599" in outcome.out


@pytest.mark.parametrize("name", ["labels.yaml", "labels.json"])
def test_missing_labels_file(train, tiny_data, tmp_path, name):
    assert f"{name}: no such file" in train(tiny_data, "--labels", tmp_path / name).sentence()


# Settings.


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.epoch=3", ["unknown key 'training.epoch'", "'training.epochs'"]),
        ("trainig.epochs=3", ["unknown key", "training"]),
        ("epochs=3", ["unknown key 'epochs'", "'training.epochs'"]),
        ("nonsense=3", ["unknown key 'nonsense'", "training"]),
        ("training.epochs=many", ["training.epochs", "'many'", "integer"]),
        ("training.epochs=0", ["training.epochs", "greater than or equal to 1"]),
        ("training.epochs=2.5", ["training.epochs", "2.5"]),
        ("training.schedule=cosine", ["training.schedule", "'cosine'", "one-cycle"]),
        ("training.epochs", ["KEY=VALUE"]),
        ("training.epochs.more=3", ["leads into a value"]),
        ("training=3", ["training", "3"]),
        ("input.size=[64]", ["input.size"]),
        ("input.size=[50, 64]", ["input.size", "multiples of 32", "50"]),
        ("grouping.own_share=0.6", ["grouping.own_share has no effect with grouping.method mean_shift"]),
        ("augmentation.scale=[2, 1]", ["augmentation.scale", "[2.0, 1.0]"]),
    ],
)
def test_wrong_setting(train, tiny_data, tmp_path, setting, words):
    outcome = train(tiny_data, "--set", setting)
    assert outcome.code == 2
    for word in words:
        assert word in outcome.sentence()
    # Nothing was started: the same command works once the setting is mended.
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.encoder=resnet35", ["resnet35"]),
        ("model.architecture=Unett", ["Unett"]),
        ("model.encoder_weights=weights.pth", ["weights.pth", "is no file"]),
        ("grouping.seed_bandwidth=5", ["grouping.seed_bandwidth", "bandwidth 1.5"]),
        ("model.options={foo: 1}", ["foo"]),
        ("model.encoder_weights=packaged", ["packaged", "tu-tf_efficientnet_lite0"]),
    ],
)
def test_settings_that_fail_when_the_network_is_built(train, tiny_data, tmp_path, setting, words):
    more = ["--set", "model.encoder=resnet18"] if "packaged" in setting else []
    outcome = train(tiny_data, "--set", setting, *more)
    for word in words:
        assert word in outcome.sentence()
    # Nothing was started: the same command works when the setting is mended.
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_unknown_preset(cli, tiny_data, tmp_path):
    outcome = cli("train", "--preset", "leave", "--data", tiny_data, "-o", tmp_path / "run")
    assert outcome.code == 2
    assert "no preset 'leave'" in outcome.sentence()
    assert "leaf" in outcome.sentence()


def test_neither_preset_nor_config(cli, tiny_data, tmp_path):
    outcome = cli("train", "--data", tiny_data, "-o", tmp_path / "run")
    assert outcome.code == 2
    assert "--preset" in outcome.sentence()


@pytest.mark.parametrize(
    ("text", "word"), [("a: [", "not YAML"), ("just text", "expected sections"), ("- a\n- b", "expected sections")]
)
def test_broken_settings_file(train, tiny_data, tmp_path, text, word):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    outcome = train(tiny_data, config=path)
    assert outcome.code == 2
    assert str(path) in outcome.sentence()
    assert word in outcome.sentence()


def test_missing_settings_file(train, tiny_data, tmp_path):
    outcome = train(tiny_data, config=tmp_path / "none.yaml")
    assert outcome.code == 2
    assert "none.yaml" in outcome.sentence()


def test_setting_into_a_file_that_is_no_mapping(train, tiny_data, tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- a")
    assert train(tiny_data, "--set", "training.epochs=3", config=path).code == 2


@pytest.mark.slow
def test_unknown_device(cli, tiny_model, tiny_data, tmp_path):
    outcome = cli("predict", "-m", tiny_model, tiny_data / "images", "-o", tmp_path / "p", "--device", "gpu")
    assert outcome.code == 2
    assert "--device gpu" in outcome.sentence()
    assert not (tmp_path / "p").exists()


# Models.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m: shutil.rmtree(m), ["no such file or folder", "panembed train"]),
        (lambda m: (m / "config.json").unlink(), ["neither a run folder nor a model folder"]),
        (lambda m: (m / "config.json").write_text("{"), ["config.json", "damaged"]),
        (lambda m: (m / "config.json").write_text("[]"), ["config.json"]),
        (lambda m: change(m, format=99, panembed_version="9.9"), ["model format 99", "panembed 9.9", "expected 1"]),
        (lambda m: change(m, settings={"new_section": {}}), ["new_section", "another version"]),
        (lambda m: change(m, categories=3), ["config.json"]),
        (lambda m: (m / "model.safetensors").unlink(), ["model.safetensors"]),
        (lambda m: cut(m / "model.safetensors"), ["model.safetensors", "damaged"]),
        (lambda m: (m / "model.safetensors").write_bytes(b""), ["model.safetensors", "damaged"]),
        (lambda m: change_setting(m, "embedding_dim", 7), ["model.safetensors", "not of the network"]),
    ],
    ids=[
        "folder", "no config", "half config", "list", "version", "settings", "classes", "no weights", "half weights",
        "empty weights", "other network",
    ],
)  # fmt: skip
def test_broken_model(cli, tiny_model, tiny_data, tmp_path, spoil, words):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    spoil(model)
    for arguments in (
        ["predict", "--model", model, tiny_data / "images", "--output", tmp_path / "out"],
        ["evaluate", "--model", model, "--data", tiny_data, "--split", "all", "--output", tmp_path / "out"],
    ):
        outcome = cli(*arguments)
        assert outcome.code == 1
        assert str(model) in outcome.sentence()
        for word in words:
            assert word in outcome.sentence()
        assert not (tmp_path / "out").exists()


def change(model, **keys):
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def change_setting(model, key, value):
    settings = json.loads((model / "config.json").read_text())["settings"]
    settings["model"][key] = value
    change(model, settings=settings)


def cut(path):
    path.write_bytes(path.read_bytes()[:20_000])


@pytest.mark.slow
def test_run_without_a_model_yet(cli, tiny_data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("{}")
    outcome = cli("predict", "-m", tmp_path / "run", tiny_data / "images", "-o", tmp_path / "p")
    assert outcome.code == 1
    assert "no model yet" in outcome.sentence()


@pytest.mark.slow
def test_data_of_other_classes(cli, tiny_model, data, tmp_path):
    (data / "labels.yaml").write_text(
        "classes:\n  - {id: 0, name: soil, isthing: false}\n  - {id: 1, name: crop, isthing: true}\n"
    )
    outcome = cli("evaluate", "-m", tiny_model, "--data", data, "--split", "all", "-o", tmp_path / "e")
    assert outcome.code == 1
    for name in ("soil", "crop", "background", "object"):
        assert name in outcome.sentence()
    assert not (tmp_path / "e").exists() or not any((tmp_path / "e").iterdir())


# Images to predict.


def test_missing_image(cli, tmp_path):
    outcome = cli("predict", "-m", tmp_path, tmp_path / "photo.png", "-o", tmp_path / "p")
    assert outcome.code == 1
    assert "photo.png: no such file or folder" in outcome.sentence()
    assert not (tmp_path / "p").exists()


def test_folder_without_images(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = cli("predict", "-m", tmp_path, tmp_path / "empty", "-o", tmp_path / "p")
    assert outcome.code == 1
    assert "empty: holds no images" in outcome.sentence()


@pytest.mark.slow
def test_one_broken_image_among_many(cli, tiny_model, data, tmp_path):
    broken = data / "images/plant0004.png"
    broken.write_bytes(broken.read_bytes()[:1000])
    (data / "images/phone.heic").write_bytes(b"...")
    outcome = cli("predict", "-m", tiny_model, data / "images", "-o", tmp_path / "p")
    assert outcome.code == 3
    assert "Traceback" not in outcome.err
    assert f"panembed: {broken}" in outcome.err
    phone = data / "images/phone.heic"
    assert f"panembed: {phone}: is a phone's photograph" in outcome.err
    with (tmp_path / "p/failed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(broken), str(phone)]
    assert all(row["file"] in row["reason"] for row in rows)
    with (tmp_path / "p/summary.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 9
    assert len(json.loads((tmp_path / "p/panoptic.json").read_text())["images"]) == 9
    assert not list((tmp_path / "p").glob("plant0004*"))
    # Mended, and repeated over the same folder: no failures are told any more.
    shutil.copy(data / "images/plant0005.png", broken)
    phone.unlink()
    assert cli("predict", "-m", tiny_model, data / "images", "-o", tmp_path / "p", "--overwrite").code == 0
    assert not (tmp_path / "p/failed.csv").exists()


@pytest.mark.slow
def test_two_inputs_of_one_name(cli, tiny_model, tiny_data, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(tiny_data / "images/plant0001.png", tmp_path / name)
    outcome = cli("predict", "-m", tiny_model, tmp_path / "a", tmp_path / "b", "-o", tmp_path / "p")
    assert outcome.code in (1, 2, 3)
    assert "plant0001.png" in outcome.err
    assert "rename" in outcome.err
    assert "Traceback" not in outcome.err


# Splits.


@pytest.mark.slow
def test_no_split(cli, tiny_model, tmp_path):
    """Images that the model wasn't trained on, and no split beside them."""
    from panembed.datasets.synthetic import SyntheticDataset, write_folder

    write_folder(SyntheticDataset(3, seed=50, size=64), tmp_path / "new")
    arguments = ["evaluate", "-m", tiny_model, "--data", tmp_path / "new", "-o", tmp_path / "e"]
    outcome = cli(*arguments)
    assert outcome.code == 1
    assert "panembed data split" in outcome.sentence()
    assert "--split all" in outcome.sentence()
    assert not (tmp_path / "e").exists()
    assert cli(*arguments, "--split", "all").code == 0


@pytest.mark.slow
def test_unknown_split(cli, tiny_model, tiny_data, tmp_path):
    outcome = cli("evaluate", "-m", tiny_model, "--data", tiny_data, "--split", "tset", "-o", tmp_path / "e")
    assert outcome.code == 2
    assert "--split 'tset' is unknown; expected train, val, test or all" in outcome.sentence()


# Encoder weights.


@pytest.mark.slow
@pytest.mark.parametrize("error", [OSError("Name or service not known"), RuntimeError("403"), ValueError("hash")])
def test_hub_out_of_reach(cli, tiny_data, tiny_config, tmp_path, monkeypatch, error):
    from panembed.models import encoder_weights

    def unreachable(*arguments, **options):
        raise error

    monkeypatch.setattr(encoder_weights.smp.encoders, "get_encoder", unreachable)
    outcome = cli(
        "train", "--config", tiny_config, "--data", tiny_data, "-o", tmp_path / "run",
        "--set", "model.encoder_weights=imagenet",
    )  # fmt: skip
    assert outcome.code == 1
    sentence = outcome.sentence()
    assert "model.encoder_weights=imagenet" in sentence
    assert "--set model.encoder_weights=FILE" in sentence
    assert "--set model.encoder_weights=none" in sentence
    assert str(error) in sentence
